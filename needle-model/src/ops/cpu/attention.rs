//! Grouped-query attention, forward and backward, one `(batch row, key/value head)` at a time.
//!
//! Consecutive queries of one segment form a run, and a run sees one range of keys, so blocks whose
//! queries and keys share no segment are skipped. The backward pass recomputes the weights instead
//! of keeping them (as in FlashAttention, arXiv:2205.14135), so that no `[heads, q_len, k_len]`
//! array is kept for it.

use burn_flex::Flex;
use multiversion::multiversion;
use rayon::prelude::*;

use super::gemm::{Parallelism, View, product};
use super::{MaskPrimitive, integers, math};

/// Sizes of one attention operation.
pub(super) struct AttentionShape {
    pub(super) batch: usize,
    pub(super) q_len: usize,
    pub(super) k_len: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

impl AttentionShape {
    pub(super) fn new([batch, q_len, heads, head_dim]: [usize; 4], [_, k_len, kv_heads, _]: [usize; 4]) -> Self {
        Self { batch, q_len, k_len, heads, kv_heads, head_dim }
    }

    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// The mask as slices.
pub(super) struct Mask {
    query_segments: Option<Vec<i32>>,
    key_segments: Option<Vec<i32>>,
    causal: bool,
}

/// Queries `start..end`, all of one segment; they see no key outside `keys.0..keys.1`.
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) end: usize,
    segment: Option<i32>,
    pub(super) keys: (usize, usize),
}

impl Mask {
    pub(super) fn new(mask: &MaskPrimitive<Flex>, shape: &AttentionShape) -> Self {
        let query_segments = mask.query_segments.as_ref().map(integers);
        let key_segments = mask.key_segments.as_ref().map(integers);
        assert!(
            query_segments.as_ref().is_none_or(|s| s.len() == shape.batch * shape.q_len),
            "query segments are [batch, q_len]"
        );
        assert!(
            key_segments.as_ref().is_none_or(|s| s.len() == shape.batch * shape.k_len),
            "key segments are [batch, k_len]"
        );
        assert!(!mask.causal || shape.k_len >= shape.q_len, "causal attention needs a key for each query");
        Self { query_segments, key_segments, causal: mask.causal }
    }

    fn keys<'a>(&'a self, shape: &AttentionShape, row: usize) -> Option<&'a [i32]> {
        self.key_segments.as_ref().map(|s| &s[row * shape.k_len..][..shape.k_len])
    }

    pub(super) fn runs(&self, shape: &AttentionShape, row: usize) -> Vec<Run> {
        let keys = self.keys(shape, row);
        let stretch = |sees: &dyn Fn(i32) -> bool| match keys {
            None => (0, shape.k_len),
            Some(keys) => {
                let first = keys.iter().position(|&s| sees(s)).unwrap_or(0);
                let end = keys.iter().rposition(|&s| sees(s)).map_or(first, |last| last + 1);
                (first, end)
            }
        };
        let Some(segments) = &self.query_segments else {
            return vec![Run { start: 0, end: shape.q_len, segment: None, keys: stretch(&|s| s != 0) }];
        };
        let segments = &segments[row * shape.q_len..][..shape.q_len];
        let mut runs: Vec<Run> = Vec::new();
        for (i, &segment) in segments.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if run.segment == Some(segment) => run.end = i + 1,
                _ => runs.push(Run {
                    start: i,
                    end: i + 1,
                    segment: Some(segment),
                    keys: stretch(&|s| s == segment && s != 0),
                }),
            }
        }
        runs
    }
}

impl Run {
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn num_keys(&self) -> usize {
        self.keys.1 - self.keys.0
    }

    /// Distance between the rows of scores, `[len, stride]`: whole vectors, since the remainder of
    /// a row would take as long as the rest of it.
    pub(super) fn stride(&self) -> usize {
        self.num_keys().next_multiple_of(math::LANES)
    }

    /// Makes the scores `[len, stride]` of masked keys, and those beyond the last key, `-inf`.
    pub(super) fn hide_masked(&self, scores: &mut [f32], shape: &AttentionShape, mask: &Mask, row: usize) {
        let keys = mask.keys(shape, row).map(|k| &k[self.keys.0..self.keys.1]);
        let hides = |segment: i32| segment == 0 || self.segment.is_some_and(|own| own != segment);
        let keys = keys.filter(|keys| keys.iter().any(|&s| hides(s)));
        for (i, scores) in scores.chunks_exact_mut(self.stride()).enumerate() {
            let seen = if mask.causal {
                // The last query is aligned with the last key.
                let position = self.start + i + (shape.k_len - shape.q_len);
                (position + 1).saturating_sub(self.keys.0).min(self.num_keys())
            } else {
                self.num_keys()
            };
            scores[seen..].fill(f32::NEG_INFINITY);
            for (score, &segment) in scores[..seen].iter_mut().zip(keys.unwrap_or_default()) {
                if hides(segment) {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// Turns scores `[len, stride]` into weights; those of masked keys are 0.
    fn weights(&self, scores: &mut [f32], shape: &AttentionShape, mask: &Mask, row: usize) {
        self.hide_masked(scores, shape, mask, row);
        for scores in scores.chunks_exact_mut(self.stride()) {
            softmax(scores);
        }
    }
}

/// Softmax in place, and the logarithm of the sum of the exponentials. If all scores are `-inf`,
/// the weights are 0; a NaN anywhere makes every weight NaN.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+fma", "x86_64+avx2+fma"))]
pub(super) fn softmax(scores: &mut [f32]) -> f32 {
    let max = math::max(scores);
    if max == f32::NEG_INFINITY && !scores.iter().any(|score| score.is_nan()) {
        scores.fill(0.0);
        return max;
    }
    let sum = math::exp_sum(scores, max);
    let inverse = 1.0 / sum;
    for score in scores {
        *score *= inverse;
    }
    max + sum.ln()
}

/// Turns the gradients of one query's weights into those of its scores (the backward pass of
/// softmax): `weight * (slope - sum(grad * out))`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+fma", "x86_64+avx2+fma"))]
fn score_slopes(slopes: &mut [f32], weights: &[f32], grad: &[f32], out: &[f32]) {
    let delta = math::dot(grad, out);
    for (slope, weight) in slopes.iter_mut().zip(weights) {
        *slope = weight * (*slope - delta);
    }
}

/// A pointer to an output; every task writes its own part of it.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: tasks write disjoint elements, as the comments at each use explain.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: offsets stay inside the output that the pointer came from.
        unsafe { self.0.add(offset) }
    }
}

/// Makes `buffer` hold at least `len` elements. What it held stays, which is finite or is never
/// read.
pub(super) fn grow(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
}

/// Runs `task` for each batch row and key/value head.
fn for_each_head(shape: &AttentionShape, task: impl Fn(usize, usize) + Sync) {
    (0..shape.batch * shape.kv_heads).into_par_iter().for_each(|i| task(i / shape.kv_heads, i % shape.kv_heads));
}

/// The attention's result, `[batch, q_len, heads, head_dim]`.
pub(super) fn forward(shape: &AttentionShape, mask: &Mask, [q, k, v]: [&[f32]; 3]) -> Vec<f32> {
    let mut out = vec![0.0; q.len()];
    let shared = Shared(out.as_mut_ptr());
    let (q_stride, k_stride, head_dim) =
        (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.head_dim);
    for_each_head(shape, |row, kv_head| {
        let mut scores = Vec::new();
        let k_row = row * shape.k_len * k_stride + kv_head * head_dim;
        for run in mask.runs(shape, row) {
            let (m, n) = (run.len(), run.num_keys());
            let k_start = k_row + run.keys.0 * k_stride;
            let stride = run.stride();
            grow(&mut scores, m * stride);
            for head in group(shape, kv_head) {
                let q_start = (row * shape.q_len + run.start) * q_stride + head * head_dim;
                if n > 0 {
                    let keys = View::new(&k[k_start..], k_stride).transposed();
                    let queries = View::new(&q[q_start..], q_stride);
                    // SAFETY: `scores` is this task's own; the output's elements belong to this row
                    // and head.
                    unsafe {
                        product(
                            [m, n, head_dim],
                            scores.as_mut_ptr(),
                            stride,
                            0.0,
                            shape.scale(),
                            queries,
                            keys,
                            Parallelism::None,
                        );
                        run.weights(&mut scores[..m * stride], shape, mask, row);
                        let weights = View::new(&scores, stride);
                        let values = View::new(&v[k_start..], k_stride);
                        product(
                            [m, head_dim, n],
                            shared.at(q_start),
                            q_stride,
                            0.0,
                            1.0,
                            weights,
                            values,
                            Parallelism::None,
                        );
                    }
                }
            }
        }
    });
    out
}

/// Gradients with respect to `q`, `k` and `v`; the formula is
/// [`super::reference::attention_backward`]'s.
pub(super) fn backward(
    shape: &AttentionShape,
    mask: &Mask,
    [q, k, v]: [&[f32]; 3],
    out: &[f32],
    grad: &[f32],
) -> [Vec<f32>; 3] {
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    let [dq_out, dk_out, dv_out] = [&mut dq, &mut dk, &mut dv].map(|t| Shared(t.as_mut_ptr()));
    let (q_stride, k_stride, head_dim) =
        (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.head_dim);
    for_each_head(shape, |row, kv_head| {
        let (mut weights, mut slopes) = (Vec::new(), Vec::new());
        let k_row = row * shape.k_len * k_stride + kv_head * head_dim;
        for run in mask.runs(shape, row) {
            let (m, n) = (run.len(), run.num_keys());
            let k_start = k_row + run.keys.0 * k_stride;
            let stride = run.stride();
            grow(&mut weights, m * stride);
            grow(&mut slopes, m * stride);
            for head in group(shape, kv_head) {
                let q_start = (row * shape.q_len + run.start) * q_stride + head * head_dim;
                if n > 0 {
                    let queries = View::new(&q[q_start..], q_stride);
                    let keys = View::new(&k[k_start..], k_stride);
                    let values = View::new(&v[k_start..], k_stride);
                    let grads = View::new(&grad[q_start..], q_stride);
                    let one = Parallelism::None;
                    // SAFETY: `weights` and `slopes` are this task's own; it alone writes this
                    // row's queries of its heads and keys of its key/value head, one head after the
                    // other.
                    unsafe {
                        product(
                            [m, n, head_dim],
                            weights.as_mut_ptr(),
                            stride,
                            0.0,
                            shape.scale(),
                            queries,
                            keys.transposed(),
                            one,
                        );
                        run.weights(&mut weights[..m * stride], shape, mask, row);
                        let p = View::new(&weights, stride);
                        product([n, head_dim, m], dv_out.at(k_start), k_stride, 1.0, 1.0, p.transposed(), grads, one);
                        product(
                            [m, n, head_dim],
                            slopes.as_mut_ptr(),
                            stride,
                            0.0,
                            1.0,
                            grads,
                            values.transposed(),
                            one,
                        );
                        for i in 0..m {
                            let at = q_start + i * q_stride..q_start + i * q_stride + head_dim;
                            let row = i * stride..(i + 1) * stride;
                            score_slopes(&mut slopes[row.clone()], &weights[row], &grad[at.clone()], &out[at]);
                        }
                        let ds = View::new(&slopes, stride);
                        product([m, head_dim, n], dq_out.at(q_start), q_stride, 0.0, shape.scale(), ds, keys, one);
                        product(
                            [n, head_dim, m],
                            dk_out.at(k_start),
                            k_stride,
                            1.0,
                            shape.scale(),
                            ds.transposed(),
                            queries,
                            one,
                        );
                    }
                }
            }
        }
    });
    [dq, dk, dv]
}

fn group(shape: &AttentionShape, kv_head: usize) -> std::ops::Range<usize> {
    let group = shape.heads / shape.kv_heads;
    kv_head * group..(kv_head + 1) * group
}
