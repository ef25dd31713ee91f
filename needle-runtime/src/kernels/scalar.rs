//! Plain Rust: the reference for every kernel, and the fallback where no other instruction set is
//! available.

use half::f16;

use super::isa::{Isa, row_codes};
use crate::pack::LANES;

/// Requires no particular instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

type Floats = [f32; LANES];
type Ints = [i32; LANES];

/// Evaluates an expression for each lane.
macro_rules! lanes {
    ($i:ident => $each:expr) => {{
        let mut out = [Default::default(); LANES];
        for $i in 0..LANES {
            out[$i] = $each;
        }
        out
    }};
}

impl Isa for Scalar {
    const PRODUCT_ROWS: usize = 4;
    const ATTEND_ROWS: usize = 4;
    const MIX_ROWS: usize = 4;
    type Floats = Floats;
    type Ints = Ints;
    type Sums = Ints;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Floats {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Floats {
        // SAFETY: the caller guarantees 16 values.
        unsafe { from.cast::<Floats>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Floats {
        // SAFETY: the caller guarantees 16 values.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        lanes!(i => f16::from_bits(bits[i]).to_f32())
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Floats {
        // SAFETY: the caller guarantees 16 values.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        lanes!(i => f32::from_bits(u32::from(bits[i]) << 16))
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Floats) {
        // SAFETY: the caller guarantees room for 16 values.
        unsafe { to.cast::<Floats>().write_unaligned(x) }
    }

    #[inline(always)]
    unsafe fn add(a: Floats, b: Floats) -> Floats {
        lanes!(i => a[i] + b[i])
    }

    #[inline(always)]
    unsafe fn sub(a: Floats, b: Floats) -> Floats {
        lanes!(i => a[i] - b[i])
    }

    #[inline(always)]
    unsafe fn mul(a: Floats, b: Floats) -> Floats {
        lanes!(i => a[i] * b[i])
    }

    #[inline(always)]
    unsafe fn max(a: Floats, b: Floats) -> Floats {
        lanes!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    unsafe fn abs(x: Floats) -> Floats {
        lanes!(i => x[i].abs())
    }

    #[inline(always)]
    unsafe fn reduce_max(mut x: Floats) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] = if x[i] > x[i + half] { x[i] } else { x[i + half] };
            }
        }
        x[0]
    }

    #[inline(always)]
    unsafe fn reduce_add(mut x: Floats) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] += x[i + half];
            }
        }
        x[0]
    }

    #[inline(always)]
    unsafe fn round(x: Floats) -> Ints {
        lanes!(i => x[i].round_ties_even() as i32)
    }

    #[inline(always)]
    unsafe fn to_floats(x: Ints) -> Floats {
        lanes!(i => x[i] as f32)
    }

    #[inline(always)]
    unsafe fn scale_exp2(x: Floats, n: Ints) -> Floats {
        lanes!(i => f32::from_bits(x[i].to_bits().wrapping_add((n[i] as u32) << 23)))
    }

    #[inline(always)]
    unsafe fn zero_ints() -> Ints {
        [0; LANES]
    }

    #[inline(always)]
    unsafe fn add_ints(a: Ints, b: Ints) -> Ints {
        lanes!(i => a[i].wrapping_add(b[i]))
    }

    #[inline(always)]
    unsafe fn reduce_add_ints(x: Ints) -> i32 {
        x.iter().fold(0, |sum: i32, &x| sum.wrapping_add(x))
    }

    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, x: Ints) {
        let bytes: [i8; LANES] = lanes!(i => x[i] as i8);
        // SAFETY: the caller guarantees room for 16 values.
        unsafe { to.cast::<[i8; LANES]>().write_unaligned(bytes) }
    }

    #[inline(always)]
    unsafe fn digits(x: Ints) -> (Ints, Ints) {
        (lanes!(i => x[i] >> 6), lanes!(i => x[i] & 63))
    }

    #[inline(always)]
    unsafe fn dot_int4<const R: usize>(
        codes: *const u8,
        rows: *const i8,
        block_bytes: usize,
        starts: [i32; R],
    ) -> [Ints; R] {
        let mut sums = starts.map(|start| [start; LANES]);
        for line in 0..4 {
            // SAFETY: a group of codes is 256 bytes.
            let bytes = unsafe { codes.add(64 * line).cast::<[u8; 64]>().read_unaligned() };
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller guarantees the activations of the row.
                let (a, b) = unsafe {
                    let first = row_codes(rows, block_bytes, 2 * line, r).cast::<[i8; 4]>();
                    let second = row_codes(rows, block_bytes, 2 * line + 1, r).cast::<[i8; 4]>();
                    (first.read_unaligned(), second.read_unaligned())
                };
                for (lane, sum) in sums.iter_mut().enumerate() {
                    for i in 0..4 {
                        let byte = bytes[4 * lane + i];
                        let product = i32::from(byte & 15) * i32::from(a[i]) + i32::from(byte >> 4) * i32::from(b[i]);
                        *sum = sum.wrapping_add(product);
                    }
                }
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn begin(offset: i32) -> Ints {
        [offset; LANES]
    }

    #[inline(always)]
    unsafe fn dot_int8(sums: Ints, line: *const u8, activations: *const i8) -> Ints {
        // SAFETY: the caller guarantees 64 codes and 4 activations.
        let (w, a) =
            unsafe { (line.cast::<[u8; 64]>().read_unaligned(), activations.cast::<[i8; 4]>().read_unaligned()) };
        lanes!(lane => {
            let product = |i: usize| i32::from(w[4 * lane + i]) * i32::from(a[i]);
            sums[lane].wrapping_add(product(0) + product(1) + product(2) + product(3))
        })
    }

    #[inline(always)]
    unsafe fn finish(sums: Ints) -> Ints {
        sums
    }
}
