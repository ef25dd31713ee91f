//! AVX2, with or without 256-bit VNNI (AVX-VNNI).
//!
//! Without VNNI, `maddubs` multiplies unsigned by signed bytes and adds pairs of products in 16
//! bits, with saturation. INT4 codes of at most 15 and activations of at most 127 never saturate:
//! the eight pairs of a group reach 30,480. For INT8 codes the offset is removed first and the sign
//! of the activation is moved to the code, so that a pair reaches at most 32,258.

use std::arch::x86_64::*;

use super::isa::{Isa, row_codes};

/// Requires AVX2 and F16C, and AVX-VNNI if `VNNI`.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool>;

/// The first and the last eight lanes.
type Floats = [__m256; 2];
type Ints = [__m256i; 2];

/// Adds lanes `i` and `i + 4`, then `i` and `i + 2`, then the last two.
#[inline(always)]
pub(super) unsafe fn reduce_add_256(x: __m256) -> f32 {
    // SAFETY: AVX is available, as all callers require.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// Like [`reduce_add_256`], for the maximum.
#[inline(always)]
pub(super) unsafe fn reduce_max_256(x: __m256) -> f32 {
    // SAFETY: AVX is available, as all callers require.
    unsafe {
        let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
    }
}

/// Broadcasts four activations to all lanes.
#[inline(always)]
unsafe fn broadcast(activations: *const i8) -> __m256i {
    // SAFETY: the caller guarantees four activations.
    unsafe { _mm256_set1_epi32(activations.cast::<i32>().read_unaligned()) }
}

/// Applies an intrinsic of one or two operands to both halves.
macro_rules! halves {
    ($f:ident, $a:expr) => {{
        let a = $a;
        [$f(a[0]), $f(a[1])]
    }};
    ($f:ident, $a:expr, $b:expr) => {{
        let (a, b) = ($a, $b);
        [$f(a[0], b[0]), $f(a[1], b[1])]
    }};
}

// SAFETY, for every block below: the instructions are available and the pointers are valid, as the
// trait requires of its callers.
impl<const VNNI: bool> Isa for Avx2<VNNI> {
    const PRODUCT_ROWS: usize = 4;
    const ATTEND_ROWS: usize = 4;
    const MIX_ROWS: usize = 2;
    type Floats = Floats;
    type Ints = Ints;
    type Sums = Ints;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Floats {
        unsafe { [_mm256_set1_ps(x); 2] }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Floats {
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Floats {
        unsafe {
            let (first, second) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(8).cast()));
            [_mm256_cvtph_ps(first), _mm256_cvtph_ps(second)]
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Floats {
        unsafe {
            let (first, second) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(8).cast()));
            let wide = [_mm256_cvtepu16_epi32(first), _mm256_cvtepu16_epi32(second)];
            let shifted = [_mm256_slli_epi32::<16>(wide[0]), _mm256_slli_epi32::<16>(wide[1])];
            halves!(_mm256_castsi256_ps, shifted)
        }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Floats) {
        unsafe {
            _mm256_storeu_ps(to, x[0]);
            _mm256_storeu_ps(to.add(8), x[1]);
        }
    }

    #[inline(always)]
    unsafe fn add(a: Floats, b: Floats) -> Floats {
        unsafe { halves!(_mm256_add_ps, a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: Floats, b: Floats) -> Floats {
        unsafe { halves!(_mm256_sub_ps, a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: Floats, b: Floats) -> Floats {
        unsafe { halves!(_mm256_mul_ps, a, b) }
    }

    #[inline(always)]
    unsafe fn max(a: Floats, b: Floats) -> Floats {
        unsafe { halves!(_mm256_max_ps, a, b) }
    }

    #[inline(always)]
    unsafe fn abs(x: Floats) -> Floats {
        unsafe { halves!(_mm256_andnot_ps, [_mm256_set1_ps(-0.0); 2], x) }
    }

    #[inline(always)]
    unsafe fn reduce_max(x: Floats) -> f32 {
        unsafe { reduce_max_256(_mm256_max_ps(x[0], x[1])) }
    }

    #[inline(always)]
    unsafe fn reduce_add(x: Floats) -> f32 {
        unsafe { reduce_add_256(_mm256_add_ps(x[0], x[1])) }
    }

    #[inline(always)]
    unsafe fn round(x: Floats) -> Ints {
        unsafe { halves!(_mm256_cvtps_epi32, x) }
    }

    #[inline(always)]
    unsafe fn to_floats(x: Ints) -> Floats {
        unsafe { halves!(_mm256_cvtepi32_ps, x) }
    }

    #[inline(always)]
    unsafe fn scale_exp2(x: Floats, n: Ints) -> Floats {
        unsafe {
            let bits = halves!(_mm256_castps_si256, x);
            let shifted = [_mm256_slli_epi32::<23>(n[0]), _mm256_slli_epi32::<23>(n[1])];
            let sums = halves!(_mm256_add_epi32, bits, shifted);
            halves!(_mm256_castsi256_ps, sums)
        }
    }

    #[inline(always)]
    unsafe fn zero_ints() -> Ints {
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn add_ints(a: Ints, b: Ints) -> Ints {
        unsafe { halves!(_mm256_add_epi32, a, b) }
    }

    #[inline(always)]
    unsafe fn reduce_add_ints(x: Ints) -> i32 {
        unsafe {
            let eight = _mm256_add_epi32(x[0], x[1]);
            let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b1110>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b01>(two)))
        }
    }

    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, x: Ints) {
        unsafe {
            // Packing works within halves of 128 bits and yields lanes 0-3, 8-11, 4-7, 12-15; they
            // are put in order before the second packing.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(x[0], x[1]));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.cast(), bytes);
        }
    }

    #[inline(always)]
    unsafe fn digits(x: Ints) -> (Ints, Ints) {
        unsafe {
            let low = halves!(_mm256_and_si256, x, [_mm256_set1_epi32(63); 2]);
            ([_mm256_srai_epi32::<6>(x[0]), _mm256_srai_epi32::<6>(x[1])], low)
        }
    }

    #[inline(always)]
    unsafe fn dot_int4<const R: usize>(
        codes: *const u8,
        rows: *const i8,
        block_bytes: usize,
        starts: [i32; R],
    ) -> [Ints; R] {
        unsafe {
            let (nibble, one) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            // One half after the other: the sums of both would leave no registers for the codes.
            for half in 0..2 {
                let mut own = [_mm256_setzero_si256(); R];
                if VNNI {
                    for r in 0..R {
                        own[r] = _mm256_set1_epi32(starts[r]);
                    }
                }
                for line in 0..4 {
                    let bytes = _mm256_loadu_si256(codes.add(64 * line + 32 * half).cast());
                    let low = _mm256_and_si256(bytes, nibble);
                    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble);
                    for r in 0..R {
                        let first = broadcast(row_codes(rows, block_bytes, 2 * line, r));
                        let second = broadcast(row_codes(rows, block_bytes, 2 * line + 1, r));
                        if VNNI {
                            own[r] = _mm256_dpbusd_avx_epi32(own[r], low, first);
                            own[r] = _mm256_dpbusd_avx_epi32(own[r], high, second);
                        } else {
                            // 16-bit sums, two per lane.
                            own[r] = _mm256_add_epi16(own[r], _mm256_maddubs_epi16(low, first));
                            own[r] = _mm256_add_epi16(own[r], _mm256_maddubs_epi16(high, second));
                        }
                    }
                }
                for r in 0..R {
                    let start = _mm256_set1_epi32(starts[r]);
                    sums[r][half] = if VNNI { own[r] } else { _mm256_add_epi32(start, _mm256_madd_epi16(own[r], one)) };
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn begin(offset: i32) -> Ints {
        // Without VNNI the offset of the codes is removed before the multiplication.
        unsafe { [_mm256_set1_epi32(if VNNI { offset } else { 0 }); 2] }
    }

    #[inline(always)]
    unsafe fn dot_int8(mut sums: Ints, line: *const u8, activations: *const i8) -> Ints {
        unsafe {
            let a = broadcast(activations);
            for half in 0..2 {
                let codes = _mm256_loadu_si256(line.add(32 * half).cast());
                if VNNI {
                    sums[half] = _mm256_dpbusd_avx_epi32(sums[half], codes, a);
                } else {
                    // `(code - 128) a` is `|a| (code - 128) sign(a)`.
                    let signed = _mm256_sign_epi8(_mm256_xor_si256(codes, _mm256_set1_epi8(-128)), a);
                    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), signed);
                    let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                    sums[half] = _mm256_add_epi32(sums[half], fours);
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn begin_digits(offset: i32) -> Ints {
        unsafe { [_mm256_set1_epi32(offset); 2] }
    }

    #[inline(always)]
    unsafe fn dot_digits(mut sums: Ints, line: *const u8, digits: *const i8) -> Ints {
        if VNNI {
            return unsafe { Self::dot_int8(sums, line, digits) };
        }
        unsafe {
            let digits = broadcast(digits);
            for half in 0..2 {
                // A pair reaches at most 2 * 255 * 63 = 32,130.
                let pairs = _mm256_maddubs_epi16(_mm256_loadu_si256(line.add(32 * half).cast()), digits);
                let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                sums[half] = _mm256_add_epi32(sums[half], fours);
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn finish(sums: Ints) -> Ints {
        sums
    }
}
