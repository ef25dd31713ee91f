//! WebAssembly with fixed-width 128-bit SIMD, which all current browsers support.
//!
//! No dot product of bytes gives the same result on all CPUs, so bytes are widened to 16 bits and
//! multiplied in pairs. This gives two sums per output, which are added at the end.

use std::arch::wasm32::*;

use super::isa::{Isa, row_codes};

/// Requires `simd128`, which is enabled when the module is compiled.
#[derive(Clone, Copy)]
pub(crate) struct WasmSimd;

/// 16 lanes in order.
type Quarters = [v128; 4];

/// Evaluates an expression for each quarter.
macro_rules! quarters {
    ($i:ident => $each:expr) => {{
        let mut out = [f32x4_splat(0.0); 4];
        for $i in 0..4 {
            out[$i] = $each;
        }
        out
    }};
}

/// Loads four activations twice, widened to 16 bits.
#[inline(always)]
unsafe fn broadcast(activations: *const i8) -> v128 {
    // SAFETY: the caller guarantees four activations.
    unsafe { i16x8_extend_low_i8x16(v128_load32_splat(activations.cast())) }
}

/// Adds the products of 16 signed bytes of codes with the activations.
#[inline(always)]
fn dot(sums: &mut [v128; 8], i: usize, codes: v128, a: v128) {
    sums[2 * i] = i32x4_add(sums[2 * i], i32x4_dot_i16x8(i16x8_extend_low_i8x16(codes), a));
    sums[2 * i + 1] = i32x4_add(sums[2 * i + 1], i32x4_dot_i16x8(i16x8_extend_high_i8x16(codes), a));
}

/// `a` where it is greater, otherwise `b`.
#[inline(always)]
fn max(a: v128, b: v128) -> v128 {
    // `pmax(b, a)` is `a` where `b < a`, otherwise `b`.
    f32x4_pmax(b, a)
}

// SAFETY, for every block below: the pointers are valid, as the trait requires of its callers.
impl Isa for WasmSimd {
    const PRODUCT_ROWS: usize = 1;
    const ATTEND_ROWS: usize = 1;
    const MIX_ROWS: usize = 1;
    type Floats = Quarters;
    type Ints = Quarters;
    type Sums = [v128; 8];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Quarters {
        [f32x4_splat(x); 4]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Quarters {
        unsafe { quarters!(i => v128_load(from.add(4 * i).cast())) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Quarters {
        // Exponent and fraction are moved to their place in an f32. The multiplication by 2^112
        // corrects the exponent's bias; it is exact, also for subnormal f16 values.
        let offset = f32x4_splat(f32::from_bits((127 + 112) << 23));
        unsafe {
            quarters!(i => {
                let bits = u32x4_load_extend_u16x4(from.add(4 * i));
                let sign = u32x4_shl(v128_and(bits, u32x4_splat(0x8000)), 16);
                let rest = u32x4_shl(v128_and(bits, u32x4_splat(0x7FFF)), 13);
                f32x4_mul(v128_or(sign, rest), offset)
            })
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Quarters {
        unsafe { quarters!(i => u32x4_shl(u32x4_load_extend_u16x4(from.add(4 * i)), 16)) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Quarters) {
        unsafe {
            for i in 0..4 {
                v128_store(to.add(4 * i).cast(), x[i]);
            }
        }
    }

    #[inline(always)]
    unsafe fn add(a: Quarters, b: Quarters) -> Quarters {
        quarters!(i => f32x4_add(a[i], b[i]))
    }

    #[inline(always)]
    unsafe fn sub(a: Quarters, b: Quarters) -> Quarters {
        quarters!(i => f32x4_sub(a[i], b[i]))
    }

    #[inline(always)]
    unsafe fn mul(a: Quarters, b: Quarters) -> Quarters {
        quarters!(i => f32x4_mul(a[i], b[i]))
    }

    #[inline(always)]
    unsafe fn max(a: Quarters, b: Quarters) -> Quarters {
        quarters!(i => max(a[i], b[i]))
    }

    #[inline(always)]
    unsafe fn abs(x: Quarters) -> Quarters {
        quarters!(i => f32x4_abs(x[i]))
    }

    #[inline(always)]
    unsafe fn reduce_max(x: Quarters) -> f32 {
        let four = max(max(x[0], x[2]), max(x[1], x[3]));
        let two = max(four, i32x4_shuffle::<2, 3, 0, 1>(four, four));
        f32x4_extract_lane::<0>(max(two, i32x4_shuffle::<1, 0, 3, 2>(two, two)))
    }

    #[inline(always)]
    unsafe fn reduce_add(x: Quarters) -> f32 {
        let four = f32x4_add(f32x4_add(x[0], x[2]), f32x4_add(x[1], x[3]));
        let two = f32x4_add(four, i32x4_shuffle::<2, 3, 0, 1>(four, four));
        f32x4_extract_lane::<0>(f32x4_add(two, i32x4_shuffle::<1, 0, 3, 2>(two, two)))
    }

    #[inline(always)]
    unsafe fn round(x: Quarters) -> Quarters {
        quarters!(i => i32x4_trunc_sat_f32x4(f32x4_nearest(x[i])))
    }

    #[inline(always)]
    unsafe fn to_floats(x: Quarters) -> Quarters {
        quarters!(i => f32x4_convert_i32x4(x[i]))
    }

    #[inline(always)]
    unsafe fn scale_exp2(x: Quarters, n: Quarters) -> Quarters {
        quarters!(i => i32x4_add(x[i], i32x4_shl(n[i], 23)))
    }

    #[inline(always)]
    unsafe fn zero_ints() -> Quarters {
        [i32x4_splat(0); 4]
    }

    #[inline(always)]
    unsafe fn add_ints(a: Quarters, b: Quarters) -> Quarters {
        quarters!(i => i32x4_add(a[i], b[i]))
    }

    #[inline(always)]
    unsafe fn reduce_add_ints(x: Quarters) -> i32 {
        let four = i32x4_add(i32x4_add(x[0], x[1]), i32x4_add(x[2], x[3]));
        let two = i32x4_add(four, i32x4_shuffle::<2, 3, 0, 1>(four, four));
        i32x4_extract_lane::<0>(i32x4_add(two, i32x4_shuffle::<1, 0, 3, 2>(two, two)))
    }

    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, x: Quarters) {
        let words = [i16x8_narrow_i32x4(x[0], x[1]), i16x8_narrow_i32x4(x[2], x[3])];
        unsafe { v128_store(to.cast(), i8x16_narrow_i16x8(words[0], words[1])) }
    }

    #[inline(always)]
    unsafe fn digits(x: Quarters) -> (Quarters, Quarters) {
        (quarters!(i => i32x4_shr(x[i], 6)), quarters!(i => v128_and(x[i], i32x4_splat(63))))
    }

    #[inline(always)]
    unsafe fn dot_int4<const R: usize>(
        codes: *const u8,
        rows: *const i8,
        block_bytes: usize,
        starts: [i32; R],
    ) -> [Quarters; R] {
        let mut sums = [[i32x4_splat(0); 8]; R];
        unsafe {
            for line in 0..4 {
                for i in 0..4 {
                    let bytes = v128_load(codes.add(64 * line + 16 * i).cast());
                    let (low, high) = (v128_and(bytes, u8x16_splat(15)), u8x16_shr(bytes, 4));
                    for r in 0..R {
                        dot(&mut sums[r], i, low, broadcast(row_codes(rows, block_bytes, 2 * line, r)));
                        dot(&mut sums[r], i, high, broadcast(row_codes(rows, block_bytes, 2 * line + 1, r)));
                    }
                }
            }
            let mut out = [Self::zero_ints(); R];
            for r in 0..R {
                out[r] = Self::add_ints(Self::finish(sums[r]), [i32x4_splat(starts[r]); 4]);
            }
            out
        }
    }

    #[inline(always)]
    unsafe fn begin(_: i32) -> [v128; 8] {
        [i32x4_splat(0); 8]
    }

    #[inline(always)]
    unsafe fn dot_int8(mut sums: [v128; 8], line: *const u8, activations: *const i8) -> [v128; 8] {
        unsafe {
            let a = broadcast(activations);
            for i in 0..4 {
                // Without their offset, the codes are signed bytes.
                let codes = v128_xor(v128_load(line.add(16 * i).cast()), u8x16_splat(128));
                dot(&mut sums, i, codes, a);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn finish(sums: [v128; 8]) -> Quarters {
        quarters!(i => {
            let (first, second) = (sums[2 * i], sums[2 * i + 1]);
            i32x4_add(i32x4_shuffle::<0, 2, 4, 6>(first, second), i32x4_shuffle::<1, 3, 5, 7>(first, second))
        })
    }
}
