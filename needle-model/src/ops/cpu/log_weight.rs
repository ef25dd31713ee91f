//! The logarithm of the attention that each query gives to one key, as the mean over its heads, and
//! its gradients. As in [`super::attention`], no `[heads, q_len, k_len]` array is kept.

use rayon::prelude::*;

use super::attention::{AttentionShape, Mask, Run, grow, softmax};
use super::gemm::{Parallelism, View, product};

/// Stands for the logarithm of 0, so that the mean of heads that give a key no weight is finite.
const LOG_ZERO: f32 = f32::MIN;

/// What the queries of one batch row attend to.
struct Row<'a> {
    shape: &'a AttentionShape,
    mask: &'a Mask,
    row: usize,
    /// `[q_len, heads, head_dim]`.
    q: &'a [f32],
    /// `[k_len, kv_heads, head_dim]`.
    k: &'a [f32],
    /// The key that is asked about, for each query, `[q_len]`.
    origins: &'a [i32],
}

impl<'a> Row<'a> {
    fn new(shape: &'a AttentionShape, mask: &'a Mask, [q, k]: [&'a [f32]; 2], origins: &'a [i32], row: usize) -> Self {
        let (q_row, k_row) =
            (shape.q_len * shape.heads * shape.head_dim, shape.k_len * shape.kv_heads * shape.head_dim);
        let origins = &origins[row * shape.q_len..][..shape.q_len];
        Self { shape, mask, row, q: &q[row * q_row..][..q_row], k: &k[row * k_row..][..k_row], origins }
    }

    /// The first query and the first key of `run` in `q` and `k`, for `head`.
    fn starts(&self, run: &Run, head: usize) -> [usize; 2] {
        let kv_head = head / (self.shape.heads / self.shape.kv_heads);
        let [q_stride, k_stride] = self.strides();
        [run.start * q_stride + head * self.shape.head_dim, run.keys.0 * k_stride + kv_head * self.shape.head_dim]
    }

    /// Distances between queries and between keys.
    fn strides(&self) -> [usize; 2] {
        [self.shape.heads, self.shape.kv_heads].map(|heads| heads * self.shape.head_dim)
    }

    /// The origin of query `i` of `run`, counted from the first key of the run; `None` if it is not
    /// among its keys.
    fn origin(&self, run: &Run, i: usize) -> Option<usize> {
        let origin = usize::try_from(self.origins[run.start + i]).ok()?;
        origin.checked_sub(run.keys.0).filter(|origin| *origin < run.num_keys())
    }

    /// The logarithm of the weight of each query's origin, `[run.len(), heads]`. `weights` becomes
    /// the weights of all keys, `[heads, run.len(), run.stride()]`.
    fn log_weights(&self, run: &Run, weights: &mut Vec<f32>) -> Vec<f32> {
        let (m, n, stride, heads) = (run.len(), run.num_keys(), run.stride(), self.shape.heads);
        let mut logs = vec![LOG_ZERO; m * heads];
        if n == 0 {
            return logs;
        }
        grow(weights, heads * m * stride);
        for (head, weights) in weights.chunks_exact_mut(m * stride).take(heads).enumerate() {
            let [q_start, k_start] = self.starts(run, head);
            let [q_stride, k_stride] = self.strides();
            let queries = View::new(&self.q[q_start..], q_stride);
            let keys = View::new(&self.k[k_start..], k_stride).transposed();
            let (size, scale, one) = ([m, n, self.shape.head_dim], self.shape.scale(), Parallelism::None);
            // SAFETY: `weights` has `m` rows of `stride` elements and is borrowed exclusively.
            unsafe { product(size, weights.as_mut_ptr(), stride, 0.0, scale, queries, keys, one) };
            run.hide_masked(weights, self.shape, self.mask, self.row);
            for (i, scores) in weights.chunks_exact_mut(stride).enumerate() {
                let score = self.origin(run, i).map_or(f32::NEG_INFINITY, |origin| scores[origin]);
                let log_sum_exp = softmax(scores);
                if score != f32::NEG_INFINITY {
                    logs[i * heads + head] = score - log_sum_exp;
                }
            }
        }
        logs
    }
}

/// The largest of `logs`, and the sum of their exponentials relative to it.
fn largest_and_sum(logs: &[f32]) -> (f32, f32) {
    let largest = logs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (largest, logs.iter().map(|log| (log - largest).exp()).sum())
}

/// The logarithm of the mean over the heads of the weight of each query's origin,
/// `[batch, q_len]`.
pub(super) fn forward(shape: &AttentionShape, mask: &Mask, inputs: [&[f32]; 2], origins: &[i32]) -> Vec<f32> {
    let mut out = vec![0.0; shape.batch * shape.q_len];
    out.par_chunks_mut(shape.q_len.max(1)).enumerate().for_each(|(row, out)| {
        let row = Row::new(shape, mask, inputs, origins, row);
        let mut weights = Vec::new();
        for run in mask.runs(shape, row.row) {
            let logs = row.log_weights(&run, &mut weights);
            for (out, logs) in out[run.start..run.end].iter_mut().zip(logs.chunks_exact(shape.heads)) {
                let (largest, sum) = largest_and_sum(logs);
                *out = largest + (sum / shape.heads as f32).ln();
            }
        }
    });
    out
}

/// Gradients with respect to `q` and `k`; the formula is
/// [`super::reference::attention_log_weight_backward`]'s.
pub(super) fn backward(
    shape: &AttentionShape,
    mask: &Mask,
    inputs: [&[f32]; 2],
    origins: &[i32],
    grad: &[f32],
) -> [Vec<f32>; 2] {
    let (mut dq, mut dk) = (vec![0.0; inputs[0].len()], vec![0.0; inputs[1].len()]);
    let (q_row, k_row) = (dq.len() / shape.batch.max(1), dk.len() / shape.batch.max(1));
    let outputs = dq.par_chunks_mut(q_row.max(1)).zip(dk.par_chunks_mut(k_row.max(1)));
    outputs.zip(grad.par_chunks(shape.q_len.max(1))).enumerate().for_each(|(row, ((dq, dk), grad))| {
        let row = Row::new(shape, mask, inputs, origins, row);
        let mut weights = Vec::new();
        for run in mask.runs(shape, row.row) {
            let (m, n, stride) = (run.len(), run.num_keys(), run.stride());
            let mut shares = row.log_weights(&run, &mut weights);
            for (shares, grad) in shares.chunks_exact_mut(shape.heads).zip(&grad[run.start..run.end]) {
                let (largest, sum) = largest_and_sum(shares);
                for share in shares {
                    *share = if *grad == 0.0 { 0.0 } else { grad * (*share - largest).exp() / sum };
                }
            }
            if n == 0 || shares.iter().all(|share| *share == 0.0) {
                continue;
            }
            for (head, slopes) in weights.chunks_exact_mut(m * stride).take(shape.heads).enumerate() {
                for (i, slopes) in slopes.chunks_exact_mut(stride).enumerate() {
                    let share = shares[i * shape.heads + head];
                    slopes.iter_mut().for_each(|slope| *slope *= -share);
                    if let Some(origin) = row.origin(&run, i) {
                        slopes[origin] += share;
                    }
                }
                let [q_start, k_start] = row.starts(&run, head);
                let [q_stride, k_stride] = row.strides();
                let slopes = View::new(slopes, stride);
                let queries = View::new(&row.q[q_start..], q_stride);
                let keys = View::new(&row.k[k_start..], k_stride);
                let (width, scale, one) = (shape.head_dim, shape.scale(), Parallelism::None);
                // SAFETY: the elements of this row, run and head lie inside `dq` and `dk`, which
                // this task borrows exclusively.
                unsafe {
                    let dq = dq[q_start..].as_mut_ptr();
                    product([m, width, n], dq, q_stride, 0.0, scale, slopes, keys, one);
                    let dk = dk[k_start..].as_mut_ptr();
                    product([n, width, m], dk, k_stride, 1.0, scale, slopes.transposed(), queries, one);
                }
            }
        }
    });
    [dq, dk]
}
