//! AVX-512 with VNNI: 16 lanes are one register, and one instruction multiplies 64 unsigned by 64
//! signed bytes and adds the products in groups of four.

use std::arch::x86_64::*;

use super::avx2::{reduce_add_256, reduce_max_256};
use super::isa::{Isa, row_codes};

/// Requires AVX-512 F, BW, VL and VNNI, and AVX2 with F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// Broadcasts four activations to all lanes.
#[inline(always)]
unsafe fn broadcast(activations: *const i8) -> __m512i {
    // SAFETY: the caller guarantees four activations.
    unsafe { _mm512_set1_epi32(activations.cast::<i32>().read_unaligned()) }
}

// SAFETY, for every block below: the instructions are available and the pointers are valid, as the
// trait requires of its callers.
impl Isa for Avx512 {
    const PRODUCT_ROWS: usize = 12;
    const ATTEND_ROWS: usize = 8;
    const MIX_ROWS: usize = 4;
    type Floats = __m512;
    type Ints = __m512i;
    type Sums = __m512i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> __m512 {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn abs(x: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(x) }
    }

    #[inline(always)]
    unsafe fn reduce_max(x: __m512) -> f32 {
        unsafe { reduce_max_256(_mm256_max_ps(lower(x), upper(x))) }
    }

    #[inline(always)]
    unsafe fn reduce_add(x: __m512) -> f32 {
        unsafe { reduce_add_256(_mm256_add_ps(lower(x), upper(x))) }
    }

    #[inline(always)]
    unsafe fn round(x: __m512) -> __m512i {
        unsafe { _mm512_cvtps_epi32(x) }
    }

    #[inline(always)]
    unsafe fn to_floats(x: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    unsafe fn scale_exp2(x: __m512, n: __m512i) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32::<23>(n))) }
    }

    #[inline(always)]
    unsafe fn zero_ints() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn add_ints(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn reduce_add_ints(x: __m512i) -> i32 {
        unsafe { _mm512_reduce_add_epi32(x) }
    }

    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, x: __m512i) {
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(x)) }
    }

    #[inline(always)]
    unsafe fn digits(x: __m512i) -> (__m512i, __m512i) {
        unsafe { (_mm512_srai_epi32::<6>(x), _mm512_and_si512(x, _mm512_set1_epi32(63))) }
    }

    #[inline(always)]
    unsafe fn dot_int4<const R: usize>(
        codes: *const u8,
        rows: *const i8,
        block_bytes: usize,
        starts: [i32; R],
    ) -> [__m512i; R] {
        unsafe {
            let nibble = _mm512_set1_epi8(15);
            let mut sums = [_mm512_setzero_si512(); R];
            for r in 0..R {
                sums[r] = _mm512_set1_epi32(starts[r]);
            }
            for line in 0..4 {
                let bytes = _mm512_loadu_si512(codes.add(64 * line).cast());
                let low = _mm512_and_si512(bytes, nibble);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble);
                for r in 0..R {
                    sums[r] = _mm512_dpbusd_epi32(sums[r], low, broadcast(row_codes(rows, block_bytes, 2 * line, r)));
                }
                for r in 0..R {
                    sums[r] =
                        _mm512_dpbusd_epi32(sums[r], high, broadcast(row_codes(rows, block_bytes, 2 * line + 1, r)));
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn begin(offset: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(offset) }
    }

    #[inline(always)]
    unsafe fn dot_int8(sums: __m512i, line: *const u8, activations: *const i8) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, _mm512_loadu_si512(line.cast()), broadcast(activations)) }
    }

    #[inline(always)]
    unsafe fn finish(sums: __m512i) -> __m512i {
        sums
    }
}

#[inline(always)]
unsafe fn lower(x: __m512) -> __m256 {
    unsafe { _mm512_castps512_ps256(x) }
}

#[inline(always)]
unsafe fn upper(x: __m512) -> __m256 {
    unsafe { _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x))) }
}
