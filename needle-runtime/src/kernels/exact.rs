//! The exact mode: the same INT4 weights with f32 activations, keys and values. It is the reference
//! for the fast kernels and equals the trainer's computation up to the order of sums. It is not
//! optimized for speed.

use super::isa::Isa;
use super::math::exp;
use crate::file::quantize::GROUP_SIZE;
use crate::key_value::HeadView;
use crate::pack::{INT4_GROUP_BYTES, Int4Matrix, LANES, Line};

/// Number of inputs per line of INT4 codes.
const LINE_INPUTS: usize = 8;

/// `x W^T` with the dequantized weights: `x [rows, groups * 32]`, `out [rows, panels * 16]`.
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn product<I: Isa>(x: &[f32], matrix: &Int4Matrix, out: &mut [f32]) {
    let width = matrix.groups * GROUP_SIZE;
    let rows = x.len() / width;
    assert!(out.len() >= rows * matrix.panels * LANES, "shapes of a product");
    let mut weights = vec![[0.0_f32; LANES]; width];
    for panel in 0..matrix.panels {
        let lines_per_group = INT4_GROUP_BYTES / Line::BYTES;
        for (input, weights) in weights.iter_mut().enumerate() {
            let (group, line, i) = (input / GROUP_SIZE, input % GROUP_SIZE / LINE_INPUTS, input % LINE_INPUTS);
            let place = panel * matrix.groups + group;
            let line = &matrix.codes[place * lines_per_group + line].0;
            for (lane, weight) in weights.iter_mut().enumerate() {
                let byte = line[4 * lane + i % 4];
                let code = if i < 4 { byte & 15 } else { byte >> 4 };
                let scale = half::f16::from_bits(matrix.scales[place * LANES + lane]).to_f32();
                *weight = (f32::from(code) - 8.0) * scale;
            }
        }
        for row in 0..rows {
            let x = &x[row * width..(row + 1) * width];
            // SAFETY: each row of weights and the slice of the output have 16 values.
            unsafe {
                let mut sum = I::splat(0.0);
                for (x, weights) in x.iter().zip(&weights) {
                    sum = I::add(sum, I::mul(I::splat(*x), I::load(weights.as_ptr())));
                }
                I::store(out[(row * matrix.panels + panel) * LANES..][..LANES].as_mut_ptr(), sum);
            }
        }
    }
}

/// Logits: the products of `x [width]` with each row of `embedding [vocab, width]`, bf16 bits.
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn logits<I: Isa>(x: &[f32], embedding: &[u16], width: usize, out: &mut [f32]) {
    for (row, out) in embedding.chunks_exact(width).zip(out) {
        // SAFETY: blocks of 16 within the row and `x`.
        *out = unsafe { dot_bf16::<I>(&x[..width], row) };
    }
}

#[inline(always)]
unsafe fn dot_bf16<I: Isa>(x: &[f32], row: &[u16]) -> f32 {
    let whole = x.len() / LANES * LANES;
    // SAFETY: blocks of 16 below `whole`.
    unsafe {
        let mut sum = I::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            sum = I::add(sum, I::mul(I::load(x.as_ptr().add(i)), I::load_bf16(row.as_ptr().add(i))));
        }
        let mut sum = I::reduce_add(sum);
        for i in whole..x.len() {
            sum += x[i] * f32::from_bits(u32::from(row[i]) << 16);
        }
        sum
    }
}

/// Attention of one query `[head_width]`, already divided by the square root of the head dimension,
/// to the first `len` positions of `head`.
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn attend<I: Isa>(
    query: &[f32],
    head: HeadView<'_>,
    len: usize,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let HeadView::Exact { keys, values } = head else { unreachable!("exact queries meet exact keys") };
    let width = query.len();
    assert!(width.is_multiple_of(LANES) && len > 0 && out.len() == width, "an exact query");
    scores.clear();
    scores.resize(len.next_multiple_of(LANES), f32::NEG_INFINITY);
    for (score, key) in scores.iter_mut().zip(keys.chunks_exact(width)).take(len) {
        // SAFETY: blocks of 16 within the query and the key.
        *score = unsafe {
            let mut sum = I::splat(0.0);
            for i in (0..width).step_by(LANES) {
                sum = I::add(sum, I::mul(I::load(query.as_ptr().add(i)), I::load(key.as_ptr().add(i))));
            }
            I::reduce_add(sum)
        };
    }
    // SAFETY: blocks of 16 within the scores, the values and the output.
    unsafe {
        let shift = I::splat(super::math::greatest::<I>(scores));
        let mut total = I::splat(0.0);
        for i in (0..scores.len()).step_by(LANES) {
            let e = exp::<I>(I::sub(I::load(scores.as_ptr().add(i)), shift));
            total = I::add(total, e);
            I::store(scores.as_mut_ptr().add(i), e);
        }
        let scale = I::splat(1.0 / I::reduce_add(total));
        for i in (0..width).step_by(LANES) {
            let mut sum = I::splat(0.0);
            for (probability, value) in scores[..len].iter().zip(values.chunks_exact(width)) {
                sum = I::add(sum, I::mul(I::splat(*probability), I::load(value.as_ptr().add(i))));
            }
            I::store(out.as_mut_ptr().add(i), I::mul(sum, scale));
        }
    }
}
