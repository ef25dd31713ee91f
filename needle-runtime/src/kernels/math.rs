//! Functions on 16 lanes that give the same bits with every instruction set: exponentials, norms,
//! quantization.

use std::f32::consts::LOG2_E;

use super::isa::{Isa, tail};
use crate::activations::{BLOCK_GROUP_BYTES, BLOCK_ROWS, FOUR};
use crate::file::quantize::GROUP_SIZE;
use crate::pack::LANES;

/// The INT8 code of the largest magnitude.
const LARGEST: f32 = 127.0;
/// A row whose magnitudes are all below this is treated as zeros, because the inverse of its scale
/// would not be finite.
const TINY: f32 = 1e-30;

/// `2^x` for `x <= 0`, with an error of at most two units in the last place, exactly 1 at 0, and
/// 2^-125 below -125.
///
/// It is `2^n 2^f` with `n = round(x)`. `2^f` is the polynomial of degree 5 with the smallest
/// relative error among those that are 1 at 0.
///
/// # Safety
/// As for all functions of [`Isa`].
#[expect(clippy::approx_constant, reason = "a fitted coefficient, which happens to be near ln 2")]
#[inline(always)]
pub(super) unsafe fn exp2<I: Isa>(x: I::Floats) -> I::Floats {
    // SAFETY: there are no pointers; the caller guarantees the instructions.
    unsafe {
        let x = I::max(x, I::splat(-125.0));
        let n = I::round(x);
        let f = I::sub(x, I::to_floats(n));
        let mut y = I::splat(1.326_472_7e-3);
        for coefficient in [9.671_513e-3, 5.550_733_6e-2, 0.240_222_42, 0.693_147, 1.0] {
            y = I::add(I::mul(y, f), I::splat(coefficient));
        }
        I::scale_exp2(y, n)
    }
}

/// `e^x` for `x <= 0`.
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn exp<I: Isa>(x: I::Floats) -> I::Floats {
    // SAFETY: as above.
    unsafe { exp2::<I>(I::mul(x, I::splat(LOG2_E))) }
}

/// `(1 + g) x / sqrt(mean(x^2) + eps)`; `gain` is `1 + g`.
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn rms_norm<I: Isa>(x: &[f32], gain: &[f32], epsilon: f32, out: &mut [f32]) {
    assert!(x.len() == gain.len() && x.len() == out.len(), "x, gain and output of a norm have one width");
    let whole = x.len() / LANES * LANES;
    // SAFETY: blocks of 16 below `whole`, which is within all three slices.
    unsafe {
        let rest = tail(x, 0.0);
        let mut squares = I::load(rest.as_ptr());
        squares = I::mul(squares, squares);
        for i in (0..whole).step_by(LANES) {
            let x = I::load(x.as_ptr().add(i));
            squares = I::add(squares, I::mul(x, x));
        }
        let inverse = 1.0 / (I::reduce_add(squares) / x.len() as f32 + epsilon).sqrt();
        let scale = I::splat(inverse);
        for i in (0..whole).step_by(LANES) {
            let normed = I::mul(I::load(x.as_ptr().add(i)), scale);
            I::store(out.as_mut_ptr().add(i), I::mul(normed, I::load(gain.as_ptr().add(i))));
        }
        for i in whole..x.len() {
            out[i] = x[i] * inverse * gain[i];
        }
    }
}

/// Quantizes `x`, whose length is a multiple of 16: `scale = max(|x|) / 127`,
/// `code = round(x / scale)`. Returns the scale and the sum of the codes.
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn quantize<I: Isa>(x: &[f32], codes: &mut [i8]) -> (f32, i32) {
    assert!(x.len() == codes.len() && x.len().is_multiple_of(LANES), "a multiple of 16 values is quantized");
    // SAFETY: blocks of 16 within both slices.
    unsafe {
        let mut largest = I::splat(0.0);
        for i in (0..x.len()).step_by(LANES) {
            largest = I::max(I::abs(I::load(x.as_ptr().add(i))), largest);
        }
        let largest = I::reduce_max(largest);
        let (scale, inverse) = if largest > TINY { (largest * (1.0 / LARGEST), LARGEST / largest) } else { (0.0, 0.0) };
        let inverse = I::splat(inverse);
        let mut sum = I::zero_ints();
        for i in (0..x.len()).step_by(LANES) {
            let code = I::round(I::mul(I::load(x.as_ptr().add(i)), inverse));
            sum = I::add_ints(sum, code);
            I::store_i8(codes.as_mut_ptr().add(i), code);
        }
        (scale, I::reduce_add_ints(sum))
    }
}

/// Quantizes rows of `width` values, a multiple of 32: writes codes, and a scale and an offset per
/// group of 32, in the layout of [`crate::activations::Activations`].
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn quantize_rows<I: Isa>(
    x: &[f32],
    width: usize,
    codes: &mut [i8],
    scales: &mut [f32],
    offsets: &mut [i32],
) {
    let groups = width / GROUP_SIZE;
    for (row, x) in x.chunks_exact(width).enumerate() {
        let (block, row) = (row / BLOCK_ROWS, row % BLOCK_ROWS);
        for (group, x) in x.as_chunks::<GROUP_SIZE>().0.iter().enumerate() {
            let mut own = [0_i8; GROUP_SIZE];
            let place = block * groups + group;
            // SAFETY: the caller guarantees the instructions.
            let (scale, sum) = unsafe { quantize::<I>(x, &mut own) };
            scales[place * BLOCK_ROWS + row] = scale;
            offsets[place * BLOCK_ROWS + row] = sum.wrapping_mul(-8);
            let to = &mut codes[place * BLOCK_GROUP_BYTES..(place + 1) * BLOCK_GROUP_BYTES];
            for (to, four) in to.chunks_exact_mut(BLOCK_ROWS * FOUR).zip(own.as_chunks::<FOUR>().0) {
                to[row * FOUR..(row + 1) * FOUR].copy_from_slice(four);
            }
        }
    }
}

/// Rotary embedding of a head with first half `a` and second half `b`:
/// `(a cos - b sin, b cos + a sin)`.
#[inline(always)]
pub(super) fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = x.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// `x + gate * branch`.
#[inline(always)]
pub(super) fn add_scaled(x: &mut [f32], branch: &[f32], gate: f32) {
    for (x, branch) in x.iter_mut().zip(branch) {
        *x += gate * branch;
    }
}

/// Normalizes one head, rotates it if there are angles, and quantizes it. `head` is as wide as
/// `codes`; its values beyond the length of `from` must be 0.
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn quantize_head<I: Isa>(
    from: &[f32],
    gain: &[f32],
    epsilon: f32,
    angles: Option<(&[f32], &[f32])>,
    head: &mut [f32],
    codes: &mut [i8],
) -> (f32, i32) {
    let (own, _) = head.split_at_mut(from.len());
    // SAFETY: the caller guarantees the instructions.
    unsafe {
        rms_norm::<I>(from, gain, epsilon, own);
        if let Some((cos, sin)) = angles {
            rotate(own, cos, sin);
        }
        quantize::<I>(head, codes)
    }
}

/// `ln(sum(e^x))`.
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn log_sum_exp<I: Isa>(x: &[f32]) -> f32 {
    let whole = x.len() / LANES * LANES;
    let rest = tail(x, f32::NEG_INFINITY);
    // SAFETY: blocks of 16 below `whole`, which is within the slice.
    unsafe {
        let largest = greatest::<I>(x);
        let shift = I::splat(largest);
        let mut sums = exp::<I>(I::sub(I::load(rest.as_ptr()), shift));
        for i in (0..whole).step_by(LANES) {
            sums = I::add(sums, exp::<I>(I::sub(I::load(x.as_ptr().add(i)), shift)));
        }
        largest + libm::logf(I::reduce_add(sums))
    }
}

/// The largest value.
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn greatest<I: Isa>(x: &[f32]) -> f32 {
    let whole = x.len() / LANES * LANES;
    // SAFETY: blocks of 16 below `whole`, which is within the slice.
    unsafe {
        let mut largest = I::load(tail(x, f32::NEG_INFINITY).as_ptr());
        for i in (0..whole).step_by(LANES) {
            largest = I::max(I::load(x.as_ptr().add(i)), largest);
        }
        I::reduce_max(largest)
    }
}
