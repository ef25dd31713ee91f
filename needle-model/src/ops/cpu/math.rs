//! Vectorizable arithmetic on slices.
//!
//! Functions marked `inline(always)` are plain loops without branches, inlined into functions that
//! `multiversion` compiles once for each instruction set and chooses at run time. Sums go over
//! [`LANES`] partial sums: the compiler may not reorder a float sum by itself.

use multiversion::multiversion;

/// Partial sums of a reduction: two AVX-512 registers, or four of AVX.
pub(super) const LANES: usize = 32;

/// `e^x` to 2 units in the last place for `x <= 0`, by Cephes' expf: range reduction by ln 2 in two
/// parts and a polynomial of degree 5 (Moshier 1989). Below -87 it gives 0.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "the coefficients as published; ln 2 in two parts, the first exact")]
pub(super) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_375;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // 1.5 * 2^23: adding it rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.max(-87.0);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_6e-1);
    p = p.mul_add(r, 5.000_000_1e-1);
    let mantissa = (p * r).mul_add(r, r) + 1.0;
    // The low bits of `shifted` are the integer `n`. (`n as i32` saturates, which compilers do not
    // vectorize.)
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let y = mantissa * power;
    // The clamp would hide a NaN, and a NaN loss must stay visible.
    if x < -87.0 {
        0.0
    } else if x.is_nan() {
        x
    } else {
        y
    }
}

/// The sum of partial sums and of what remained.
#[inline(always)]
fn total(mut sums: [f32; LANES], tail: f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for j in 0..width {
            sums[j] += sums[j + width];
        }
        width /= 2;
    }
    sums[0] + tail
}

/// `sum(values)`.
#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let chunks = values.chunks_exact(LANES);
    let tail = chunks.remainder().iter().sum();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x;
        }
    }
    total(sums, tail)
}

/// `sum(a * b)`.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; LANES];
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    total(sums, tail)
}

/// `sum(a * b * c)`.
#[inline(always)]
pub(super) fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let (a, b, c) = (a.chunks_exact(LANES), b.chunks_exact(LANES), c.chunks_exact(LANES));
    let tail = a.remainder().iter().zip(b.remainder()).zip(c.remainder()).map(|((a, b), c)| a * b * c).sum();
    let mut sums = [0.0; LANES];
    for ((a, b), c) in a.zip(b).zip(c) {
        for (((sum, a), b), c) in sums.iter_mut().zip(a).zip(b).zip(c) {
            *sum += a * b * c;
        }
    }
    total(sums, tail)
}

/// `y += scale * x`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+fma", "x86_64+avx2+fma"))]
pub(super) fn add_scaled(y: &mut [f32], x: &[f32], scale: f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

/// `sum(a * b)`, for callers that are not compiled for an instruction set themselves.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+fma", "x86_64+avx2+fma"))]
pub(super) fn dot_product(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b)
}

/// The largest value; `-inf` for an empty slice.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (b, &x) in best.iter_mut().zip(chunk) {
            *b = if x > *b { x } else { *b };
        }
    }
    best.iter().chain(tail).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Replaces each `x` by `e^(x - shift)` and returns the sum.
#[inline(always)]
pub(super) fn exp_sum(values: &mut [f32], shift: f32) -> f32 {
    for x in values.iter_mut() {
        *x = exp(*x - shift);
    }
    sum(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_float64() {
        let worst = (0..100_000).map(|i| -(i as f32) * 8.7e-4).map(|x| {
            let exact = f64::from(x).exp();
            (f64::from(exp(x)) - exact).abs() / exact
        });
        let worst = worst.fold(0.0, f64::max);
        assert!(worst < 2.5e-7, "relative error {worst}");
        assert_eq!((exp(0.0), exp(-1e4), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_take_every_element_once() {
        for len in [0, 1, 31, 32, 33, 100] {
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let ones = vec![1.0; len];
            assert_eq!(sum(&values), (0..len).sum::<usize>() as f32);
            assert_eq!(dot(&values, &ones), (0..len).sum::<usize>() as f32);
            assert_eq!(dot3(&values, &ones, &ones), (0..len).sum::<usize>() as f32);
            assert_eq!(max(&values), if len == 0 { f32::NEG_INFINITY } else { (len - 1) as f32 });
        }
    }
}
