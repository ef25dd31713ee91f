//! Kernels that work row by row: norm, rotary embedding, gated residual.

use multiversion::multiversion;
use rayon::prelude::*;

use super::math;

/// Number of values in one piece of work. It is fixed, so that sums are added in the same order
/// with any number of threads.
const PIECE: usize = 1 << 15;

fn rows_per_piece(width: usize) -> usize {
    (PIECE / width.max(1)).max(1)
}

/// `out = (1 + gain) * x / sqrt(mean(x^2) + epsilon)`, row by row.
pub(super) fn norm(x: &[f32], gain: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    let piece = rows_per_piece(gain.len()) * gain.len();
    out.par_chunks_mut(piece).zip(x.par_chunks(piece)).for_each(|(out, x)| norm_piece(out, x, gain, epsilon));
    out
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+fma", "x86_64+avx2+fma"))]
fn norm_piece(out: &mut [f32], x: &[f32], gain: &[f32], epsilon: f32) {
    let width = gain.len();
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let inverse = inverse_rms(x, epsilon);
        for ((out, x), gain) in out.iter_mut().zip(x).zip(gain) {
            *out = (1.0 + gain) * (x * inverse);
        }
    }
}

#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (math::dot(x, x) / x.len() as f32 + epsilon).sqrt()
}

/// Gradients with respect to `x` and `gain`; the formula is
/// [`super::reference::zc_rms_norm_backward`]'s.
pub(super) fn norm_backward(x: &[f32], gain: &[f32], grad: &[f32], epsilon: f32) -> (Vec<f32>, Vec<f32>) {
    let width = gain.len();
    let mut dx = vec![0.0; x.len()];
    let piece = rows_per_piece(width) * width;
    let factor: Vec<f32> = gain.iter().map(|g| 1.0 + g).collect();
    let partial: Vec<Vec<f32>> = dx
        .par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .zip(grad.par_chunks(piece))
        .map(|((dx, x), grad)| {
            let mut dgain = vec![0.0; width];
            norm_backward_piece(dx, &mut dgain, x, grad, &factor, epsilon);
            dgain
        })
        .collect();
    (dx, sum(&partial, width))
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+fma", "x86_64+avx2+fma"))]
fn norm_backward_piece(dx: &mut [f32], dgain: &mut [f32], x: &[f32], grad: &[f32], factor: &[f32], epsilon: f32) {
    let width = factor.len();
    for ((dx, x), grad) in dx.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(grad.chunks_exact(width)) {
        let inverse = inverse_rms(x, epsilon);
        let projection = math::dot3(grad, factor, x) * inverse * inverse * inverse / width as f32;
        let terms = dx.iter_mut().zip(dgain.iter_mut()).zip(x).zip(grad).zip(factor);
        for ((((dx, dgain), x), grad), factor) in terms {
            *dgain += grad * x * inverse;
            *dx = grad * factor * inverse - x * projection;
        }
    }
}

fn sum(partial: &[Vec<f32>], width: usize) -> Vec<f32> {
    let mut total = vec![0.0; width];
    for part in partial {
        math::add_scaled(&mut total, part, 1.0);
    }
    total
}

/// Half-split rotation of `x [batch, seq, heads, head_dim]` by `cos` and `sin`
/// `[seq or more, head_dim / 2]`.
pub(super) fn rope(x: &[f32], cos: &[f32], sin: &[f32], [seq, heads, head_dim]: [usize; 3]) -> Vec<f32> {
    let width = heads * head_dim;
    let mut out = vec![0.0; x.len()];
    let rows = rows_per_piece(width);
    out.par_chunks_mut(rows * width).zip(x.par_chunks(rows * width)).enumerate().for_each(|(piece, (out, x))| {
        rope_piece(out, x, cos, sin, [piece * rows, seq, width, head_dim]);
    });
    out
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+fma", "x86_64+avx2+fma"))]
fn rope_piece(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], [first_row, seq, width, head_dim]: [usize; 4]) {
    let half = head_dim / 2;
    for (row, (out, x)) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)).enumerate() {
        let position = (first_row + row) % seq;
        let (cos, sin) = (&cos[position * half..][..half], &sin[position * half..][..half]);
        for (out, x) in out.chunks_exact_mut(head_dim).zip(x.chunks_exact(head_dim)) {
            let ((a, b), (out_a, out_b)) = (x.split_at(half), out.split_at_mut(half));
            for i in 0..half {
                out_a[i] = a[i] * cos[i] - b[i] * sin[i];
                out_b[i] = b[i] * cos[i] + a[i] * sin[i];
            }
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `x + sigmoid(gate) * branch`.
pub(super) fn gated_residual(x: &[f32], branch: &[f32], gate: f32) -> Vec<f32> {
    let scale = sigmoid(gate);
    let mut out = x.to_vec();
    let pieces = out.par_chunks_mut(PIECE).zip(branch.par_chunks(PIECE));
    pieces.for_each(|(out, branch)| math::add_scaled(out, branch, scale));
    out
}

/// Gradients with respect to `branch` and `gate`.
pub(super) fn gated_residual_backward(branch: &[f32], gate: f32, grad: &[f32]) -> (Vec<f32>, f32) {
    let scale = sigmoid(gate);
    let mut dbranch = vec![0.0; branch.len()];
    let pieces = dbranch.par_chunks_mut(PIECE).zip(branch.par_chunks(PIECE)).zip(grad.par_chunks(PIECE));
    let partial: Vec<f32> = pieces
        .map(|((dbranch, branch), grad)| {
            for (dbranch, grad) in dbranch.iter_mut().zip(grad) {
                *dbranch = scale * grad;
            }
            math::dot_product(branch, grad)
        })
        .collect();
    (dbranch, partial.iter().sum::<f32>() * scale * (1.0 - scale))
}
