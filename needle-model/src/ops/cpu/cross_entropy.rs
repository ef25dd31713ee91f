//! Cross-entropy of the tied output, computed for a block of rows at a time, so that the logits of
//! all rows are never held.

use multiversion::multiversion;
use rayon::prelude::*;

use super::gemm::{Parallelism, View, product};
use super::math;

/// Number of logits held at a time: 8 MiB.
const BLOCK: usize = 1 << 21;

fn rows_per_block(vocab: usize) -> usize {
    (BLOCK / vocab.max(1)).max(1)
}

fn block_logits(logits: &mut Vec<f32>, hidden: &[f32], embedding: &[f32], d_model: usize) {
    let (rows, vocab) = (hidden.len() / d_model, embedding.len() / d_model);
    logits.resize(rows * vocab, 0.0);
    let (a, b) = (View::new(hidden, d_model), View::new(embedding, d_model).transposed());
    // SAFETY: `logits` has `rows * vocab` elements and is borrowed exclusively.
    unsafe { product([rows, vocab, d_model], logits.as_mut_ptr(), vocab, 0.0, 1.0, a, b, Parallelism::Rayon(0)) };
}

/// `ln(sum(e^logits))`; the logits are overwritten.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+fma", "x86_64+avx2+fma"))]
fn log_sum_exp(logits: &mut [f32]) -> f32 {
    let max = math::max(logits);
    math::exp_sum(logits, max).ln() + max
}

/// Replaces logits by `scale * softmax(logits)`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+fma", "x86_64+avx2+fma"))]
fn scaled_softmax(logits: &mut [f32], scale: f32) {
    let max = math::max(logits);
    let factor = scale / math::exp_sum(logits, max);
    for p in logits {
        *p *= factor;
    }
}

/// Negative log-likelihood and log-sum-exp of each row, `[rows, 2]`.
pub(super) fn forward(hidden: &[f32], embedding: &[f32], targets: &[i32], d_model: usize) -> Vec<f32> {
    let vocab = embedding.len() / d_model;
    let mut out = vec![0.0; targets.len() * 2];
    let mut logits = Vec::new();
    let rows = rows_per_block(vocab);
    for ((hidden, targets), out) in
        hidden.chunks(rows * d_model).zip(targets.chunks(rows)).zip(out.chunks_mut(rows * 2))
    {
        block_logits(&mut logits, hidden, embedding, d_model);
        logits.par_chunks_mut(vocab).zip(targets).zip(out.par_chunks_mut(2)).for_each(|((logits, &target), out)| {
            let target_logit = logits[target as usize];
            let log_sum_exp = log_sum_exp(logits);
            out.copy_from_slice(&[log_sum_exp - target_logit, log_sum_exp]);
        });
    }
    out
}

/// Gradients with respect to `hidden` and `embedding`, for `grad [rows, 2]`.
pub(super) fn backward(
    hidden: &[f32],
    embedding: &[f32],
    targets: &[i32],
    grad: &[f32],
    d_model: usize,
) -> (Vec<f32>, Vec<f32>) {
    let vocab = embedding.len() / d_model;
    let (mut dhidden, mut dembedding) = (vec![0.0; hidden.len()], vec![0.0; embedding.len()]);
    let mut logits = Vec::new();
    let rows = rows_per_block(vocab);
    let blocks = hidden
        .chunks(rows * d_model)
        .zip(targets.chunks(rows))
        .zip(grad.chunks(rows * 2))
        .zip(dhidden.chunks_mut(rows * d_model));
    for (((hidden, targets), grad), dhidden) in blocks {
        block_logits(&mut logits, hidden, embedding, d_model);
        logits.par_chunks_mut(vocab).zip(targets).zip(grad.par_chunks(2)).for_each(|((logits, &target), grad)| {
            let (dnll, dlse) = (grad[0], grad[1]);
            scaled_softmax(logits, dnll + dlse);
            logits[target as usize] -= dnll;
        });
        let rows = targets.len();
        let dlogits = View::new(&logits, vocab);
        let (embedding, hidden) = (View::new(embedding, d_model), View::new(hidden, d_model));
        let all = Parallelism::Rayon(0);
        // SAFETY: both outputs are borrowed exclusively and have the shapes `[rows, d_model]` and
        // `[vocab, d_model]`.
        unsafe {
            product([rows, d_model, vocab], dhidden.as_mut_ptr(), d_model, 0.0, 1.0, dlogits, embedding, all);
            product(
                [vocab, d_model, rows],
                dembedding.as_mut_ptr(),
                d_model,
                1.0,
                1.0,
                dlogits.transposed(),
                hidden,
                all,
            );
        }
    }
    (dhidden, dembedding)
}
