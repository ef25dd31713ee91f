//! The operations of an instruction set on 16 lanes. Every kernel is written once, in terms of
//! these operations.
//!
//! All of them are exact or rounded according to IEEE 754, and no multiplication is fused with an
//! addition, so that a kernel gives the same bits with every instruction set; [`super::scalar`] is
//! the reference. Sums over lanes have a fixed order, the tree of [`Isa::reduce_add`].

use crate::activations::{BLOCK_ROWS, FOUR};
use crate::pack::LANES;

/// An instruction set.
///
/// # Safety
/// All functions may only be called on a CPU that has the instructions. Pointers must be valid for
/// the values that are read or written through them; they need not be aligned.
pub(crate) trait Isa: Copy {
    /// Number of rows of activations that a product with INT4 weights processes together, at
    /// most 12.
    const PRODUCT_ROWS: usize;
    /// Number of rows that attention and a product with INT8 weights process together, at most 8.
    const ATTEND_ROWS: usize;
    /// Number of rows of probabilities that attention multiplies with the values together, at
    /// most 4.
    const MIX_ROWS: usize;
    /// 16 floats.
    type Floats: Copy;
    /// 16 integers of 32 bits.
    type Ints: Copy;
    /// Partial sums of products, which become 16 integers.
    type Sums: Copy;

    /// `x` in all lanes.
    unsafe fn splat(x: f32) -> Self::Floats;
    /// Loads 16 values.
    unsafe fn load(from: *const f32) -> Self::Floats;
    /// Loads 16 values from f16 bits, which must be finite.
    unsafe fn load_f16(from: *const u16) -> Self::Floats;
    /// Loads 16 values from bf16 bits.
    unsafe fn load_bf16(from: *const u16) -> Self::Floats;
    /// Writes 16 values.
    unsafe fn store(to: *mut f32, x: Self::Floats);
    /// `a + b`.
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a - b`.
    unsafe fn sub(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a b`.
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a` where it is greater, otherwise `b`.
    unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `|x|`.
    unsafe fn abs(x: Self::Floats) -> Self::Floats;
    /// The greatest lane, by [`Isa::max`] of lanes `i` and `i + 8`, then `i` and `i + 4`, and so
    /// on.
    unsafe fn reduce_max(x: Self::Floats) -> f32;
    /// The sum of all lanes: lanes `i` and `i + 8`, then `i` and `i + 4`, and so on.
    unsafe fn reduce_add(x: Self::Floats) -> f32;

    /// Rounds to the nearest integer, ties to even; the results must fit into 32 bits.
    unsafe fn round(x: Self::Floats) -> Self::Ints;
    /// Converts to floats.
    unsafe fn to_floats(x: Self::Ints) -> Self::Floats;
    /// `x 2^n`, by adding `n` to the exponent; neither `x` nor the result may be subnormal.
    unsafe fn scale_exp2(x: Self::Floats, n: Self::Ints) -> Self::Floats;
    /// 0 in all lanes.
    unsafe fn zero_ints() -> Self::Ints;
    /// `a + b`.
    unsafe fn add_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// The sum of all lanes.
    unsafe fn reduce_add_ints(x: Self::Ints) -> i32;
    /// Writes 16 values between -128 and 127.
    unsafe fn store_i8(to: *mut i8, x: Self::Ints);
    /// Splits values of 12 bits into two digits of 6 bits: `(x >> 6, x & 63)`.
    unsafe fn digits(x: Self::Ints) -> (Self::Ints, Self::Ints);

    /// For each of `R` rows, its value of `starts` plus the products of 32 activations with one
    /// group of a panel's INT4 codes (256 bytes, codes 0 to 15). The activations are those at
    /// [`row_codes`].
    unsafe fn dot_int4<const R: usize>(
        codes: *const u8,
        rows: *const i8,
        block_bytes: usize,
        starts: [i32; R],
    ) -> [Self::Ints; R];

    /// Starts a sum of products. `offset` is -128 times the sum of all activations that will be
    /// added; it compensates the offset of the codes.
    unsafe fn begin(offset: i32) -> Self::Sums;
    /// Adds the products of four activations (-127 to 127) with one line of INT8 codes (64 bytes
    /// from 1 to 255, which represent -127 to 127).
    unsafe fn dot_int8(sums: Self::Sums, line: *const u8, activations: *const i8) -> Self::Sums;
    /// Like [`Isa::begin`], for [`Isa::dot_digits`].
    #[inline(always)]
    unsafe fn begin_digits(offset: i32) -> Self::Sums {
        // SAFETY: guaranteed by the caller.
        unsafe { Self::begin(offset) }
    }
    /// Like [`Isa::dot_int8`], with digits (0 to 63) in place of activations.
    #[inline(always)]
    unsafe fn dot_digits(sums: Self::Sums, line: *const u8, digits: *const i8) -> Self::Sums {
        // SAFETY: guaranteed by the caller.
        unsafe { Self::dot_int8(sums, line, digits) }
    }
    /// The sums.
    unsafe fn finish(sums: Self::Sums) -> Self::Ints;
}

/// Pointer to the codes `4 * four..4 * four + 4` of row `row` of a group, where `rows` points to
/// the first row of the group; for the layout see [`crate::activations`].
///
/// # Safety
/// As for [`pointer::add`].
#[inline(always)]
pub(crate) unsafe fn row_codes(rows: *const i8, block_bytes: usize, four: usize, row: usize) -> *const i8 {
    // SAFETY: guaranteed by the caller.
    unsafe { rows.add(row / BLOCK_ROWS * block_bytes + (four * BLOCK_ROWS + row % BLOCK_ROWS) * FOUR) }
}

/// The values of `x` after its last full block of 16, padded with `fill`.
#[inline(always)]
pub(crate) fn tail(x: &[f32], fill: f32) -> [f32; LANES] {
    let mut lanes = [fill; LANES];
    let rest = &x[x.len() / LANES * LANES..];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}
