//! NEON with dot products (`sdot`, Armv8.2 and later). The intrinsic is not stable yet, so `sdot`
//! is inline assembly.
//!
//! `sdot` takes signed bytes. INT4 codes (0 to 15) already are signed bytes; the offset of INT8
//! codes is removed first.

use std::arch::aarch64::*;
use std::arch::asm;

use super::isa::{Isa, row_codes};

/// Requires NEON and its dot products.
#[derive(Clone, Copy)]
pub(crate) struct NeonDot;

/// 16 lanes in order.
type Floats = [float32x4_t; 4];
type Ints = [int32x4_t; 4];

/// Evaluates an expression for each quarter.
macro_rules! quarters {
    ($i:ident => $each:expr) => {{
        let mut out = [{
            let $i = 0;
            $each
        }; 4];
        for $i in 1..4 {
            out[$i] = $each;
        }
        out
    }};
}

/// `sums[i] + w[4i] a[4i] + .. + w[4i + 3] a[4i + 3]`.
#[inline(always)]
unsafe fn dot(mut sums: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction is available, as the trait requires of its callers; it only reads and
    // writes these registers.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {w:v}.16b, {a:v}.16b",
            sums = inout(vreg) sums,
            w = in(vreg) w,
            a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Broadcasts four activations to all lanes.
#[inline(always)]
unsafe fn broadcast(activations: *const i8) -> int8x16_t {
    // SAFETY: the caller guarantees four activations.
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(activations.cast::<i32>().read_unaligned())) }
}

// SAFETY, for every block below: the instructions are available and the pointers are valid, as the
// trait requires of its callers.
impl Isa for NeonDot {
    const PRODUCT_ROWS: usize = 4;
    const ATTEND_ROWS: usize = 4;
    const MIX_ROWS: usize = 2;
    type Floats = Floats;
    type Ints = Ints;
    type Sums = Ints;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Floats {
        unsafe { [vdupq_n_f32(x); 4] }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Floats {
        unsafe { quarters!(i => vld1q_f32(from.add(4 * i))) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Floats {
        unsafe {
            // Exponent and fraction are moved to their place in an f32. The multiplication by 2^112
            // corrects the exponent's bias; it is exact, also for subnormal f16 values.
            let offset = vdupq_n_f32(f32::from_bits((127 + 112) << 23));
            quarters!(i => {
                let bits = vmovl_u16(vld1_u16(from.add(4 * i)));
                let sign = vshlq_n_u32::<16>(vandq_u32(bits, vdupq_n_u32(0x8000)));
                let rest = vshlq_n_u32::<13>(vandq_u32(bits, vdupq_n_u32(0x7FFF)));
                vmulq_f32(vreinterpretq_f32_u32(vorrq_u32(sign, rest)), offset)
            })
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Floats {
        unsafe { quarters!(i => vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(vld1_u16(from.add(4 * i)))))) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Floats) {
        unsafe {
            for i in 0..4 {
                vst1q_f32(to.add(4 * i), x[i]);
            }
        }
    }

    #[inline(always)]
    unsafe fn add(a: Floats, b: Floats) -> Floats {
        unsafe { quarters!(i => vaddq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn sub(a: Floats, b: Floats) -> Floats {
        unsafe { quarters!(i => vsubq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn mul(a: Floats, b: Floats) -> Floats {
        unsafe { quarters!(i => vmulq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn max(a: Floats, b: Floats) -> Floats {
        unsafe { quarters!(i => vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn abs(x: Floats) -> Floats {
        unsafe { quarters!(i => vabsq_f32(x[i])) }
    }

    #[inline(always)]
    unsafe fn reduce_max(x: Floats) -> f32 {
        unsafe {
            let halves = [max(x[0], x[2]), max(x[1], x[3])];
            let four = max(halves[0], halves[1]);
            let two = max(four, vextq_f32::<2>(four, four));
            vgetq_lane_f32::<0>(max(two, vextq_f32::<1>(two, two)))
        }
    }

    #[inline(always)]
    unsafe fn reduce_add(x: Floats) -> f32 {
        unsafe {
            let four = vaddq_f32(vaddq_f32(x[0], x[2]), vaddq_f32(x[1], x[3]));
            let two = vaddq_f32(four, vextq_f32::<2>(four, four));
            vgetq_lane_f32::<0>(vaddq_f32(two, vextq_f32::<1>(two, two)))
        }
    }

    #[inline(always)]
    unsafe fn round(x: Floats) -> Ints {
        unsafe { quarters!(i => vcvtnq_s32_f32(x[i])) }
    }

    #[inline(always)]
    unsafe fn to_floats(x: Ints) -> Floats {
        unsafe { quarters!(i => vcvtq_f32_s32(x[i])) }
    }

    #[inline(always)]
    unsafe fn scale_exp2(x: Floats, n: Ints) -> Floats {
        unsafe {
            quarters!(i => {
                vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x[i]), vshlq_n_s32::<23>(n[i])))
            })
        }
    }

    #[inline(always)]
    unsafe fn zero_ints() -> Ints {
        unsafe { [vdupq_n_s32(0); 4] }
    }

    #[inline(always)]
    unsafe fn add_ints(a: Ints, b: Ints) -> Ints {
        unsafe { quarters!(i => vaddq_s32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn reduce_add_ints(x: Ints) -> i32 {
        unsafe { vaddvq_s32(vaddq_s32(vaddq_s32(x[0], x[1]), vaddq_s32(x[2], x[3]))) }
    }

    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, x: Ints) {
        unsafe {
            let low = vcombine_s16(vmovn_s32(x[0]), vmovn_s32(x[1]));
            let high = vcombine_s16(vmovn_s32(x[2]), vmovn_s32(x[3]));
            vst1q_s8(to, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
        }
    }

    #[inline(always)]
    unsafe fn digits(x: Ints) -> (Ints, Ints) {
        unsafe { (quarters!(i => vshrq_n_s32::<6>(x[i])), quarters!(i => vandq_s32(x[i], vdupq_n_s32(63)))) }
    }

    #[inline(always)]
    unsafe fn dot_int4<const R: usize>(
        codes: *const u8,
        rows: *const i8,
        block_bytes: usize,
        starts: [i32; R],
    ) -> [Ints; R] {
        unsafe {
            let nibble = vdupq_n_u8(15);
            let mut sums = [[vdupq_n_s32(0); 4]; R];
            for r in 0..R {
                sums[r] = [vdupq_n_s32(starts[r]); 4];
            }
            for line in 0..4 {
                for i in 0..4 {
                    let bytes = vld1q_u8(codes.add(64 * line + 16 * i));
                    let low = vreinterpretq_s8_u8(vandq_u8(bytes, nibble));
                    let high = vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes));
                    for r in 0..R {
                        sums[r][i] = dot(sums[r][i], low, broadcast(row_codes(rows, block_bytes, 2 * line, r)));
                        sums[r][i] = dot(sums[r][i], high, broadcast(row_codes(rows, block_bytes, 2 * line + 1, r)));
                    }
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn begin(_: i32) -> Ints {
        unsafe { Self::zero_ints() }
    }

    #[inline(always)]
    unsafe fn dot_int8(mut sums: Ints, line: *const u8, activations: *const i8) -> Ints {
        unsafe {
            let a = broadcast(activations);
            for i in 0..4 {
                let codes = veorq_u8(vld1q_u8(line.add(16 * i)), vdupq_n_u8(128));
                sums[i] = dot(sums[i], vreinterpretq_s8_u8(codes), a);
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn finish(sums: Ints) -> Ints {
        sums
    }
}

/// `a` where it is greater, otherwise `b`.
#[inline(always)]
unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
}
