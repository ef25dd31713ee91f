//! Each operation as a composition of burn operations. These are the definitions, the fallbacks,
//! and the references that kernels are tested against.
//!
//! Tensors may be f32 or narrower. Matrix products are computed in the tensors' own type;
//! statistics, softmax and losses in f32.

use burn::tensor::activation::{log_softmax, sigmoid, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, DType, FloatDType, IndexingUpdateOp, Int, Tensor, TensorData};

use super::{MaskPrimitive, int};

/// `(1 + gain) * x / sqrt(mean(x^2) + epsilon)`, zero-centred RMSNorm (Zhang and Sennrich,
/// arXiv:1910.07467, with the gain stored minus 1, as in needle/model/architecture.py).
pub fn zc_rms_norm<B: Backend>(x: Tensor<B, 2>, gain: Tensor<B, 1>, epsilon: f32) -> Tensor<B, 2> {
    let dtype = x.dtype();
    let (x, gain) = (wide(x), wide(gain));
    let inverse = inverse_rms(x.clone(), epsilon); // [rows, 1]
    (x * inverse * (gain + 1.0).unsqueeze()).cast(dtype)
}

/// Casts `x` to f32.
fn wide<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    x.cast(FloatDType::F32)
}

fn inverse_rms<B: Backend>(x: Tensor<B, 2>, epsilon: f32) -> Tensor<B, 2> {
    ((x.clone() * x).mean_dim(1) + epsilon).sqrt().recip()
}

/// With `r = 1 / rms(x)` and `h = grad * (1 + gain)`: `dx = r * (h - x * r^2 * mean(h * x))`,
/// `dgain = sum(grad * x * r)`.
pub fn zc_rms_norm_backward<B: Backend>(
    x: Tensor<B, 2>,
    gain: Tensor<B, 1>,
    grad: Tensor<B, 2>,
    epsilon: f32,
) -> (Tensor<B, 2>, Tensor<B, 1>) {
    let (dtype, gain_dtype) = (x.dtype(), gain.dtype());
    let (x, gain, grad) = (wide(x), wide(gain), wide(grad));
    let inverse = inverse_rms(x.clone(), epsilon);
    let normed = x.clone() * inverse.clone();
    let dgain = (grad.clone() * normed.clone()).sum_dim(0).squeeze_dim(0);
    let scaled = grad * (gain + 1.0).unsqueeze();
    let projection = (scaled.clone() * normed.clone()).mean_dim(1); // [rows, 1]
    ((inverse * (scaled - normed * projection)).cast(dtype), dgain.cast(gain_dtype))
}

/// `scale * embedding[id]` for each id, computed in the embedding's type and cast to `dtype`.
pub fn embed<B: Backend>(embedding: Tensor<B, 2>, ids: Tensor<B, 1, Int>, scale: f32, dtype: DType) -> Tensor<B, 2> {
    (embedding.select(0, ids) * scale).cast(dtype)
}

/// `dembedding[id] = sum(scale * grad)` over the rows with that id.
pub fn embed_backward<B: Backend>(
    embedding: Tensor<B, 2>,
    ids: Tensor<B, 1, Int>,
    grad: Tensor<B, 2>,
    scale: f32,
) -> Tensor<B, 2> {
    let rows = grad.cast(embedding.dtype()) * scale;
    embedding.zeros_like().select_assign(0, ids, rows, IndexingUpdateOp::Add)
}

/// First half `a`, second half `b` of each head: `(a cos - b sin, b cos + a sin)` (Su et al.,
/// arXiv:2104.09864, in the half-split layout of GPT-NeoX and Llama; burn's own rotary encoding
/// rotates adjacent elements instead). `cos` and `sin` are f32 for every type of `x`: bf16 cannot
/// distinguish the angles of late positions.
pub fn rope<B: Backend>(x: Tensor<B, 4>, cos: Tensor<B, 2>, sin: Tensor<B, 2>) -> Tensor<B, 4> {
    let half = x.dims()[3] / 2;
    let dtype = x.dtype();
    let (x, cos, sin) = (wide(x), wide(cos), wide(sin));
    let cos = cos.unsqueeze_dim::<3>(1).unsqueeze(); // [1, seq, 1, head_dim / 2]
    let sin = sin.unsqueeze_dim::<3>(1).unsqueeze();
    let a = x.clone().narrow(3, 0, half);
    let b = x.narrow(3, half, half);
    Tensor::cat(vec![a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin], 3).cast(dtype)
}

/// True where a query may *not* see a key, `[batch, 1, q_len, k_len]`; `None` where every query
/// sees every key.
fn hidden_pairs<B: Backend>(
    mask: &MaskPrimitive<B>,
    [batch, q_len, k_len]: [usize; 3],
    device: &B::Device,
) -> Option<Tensor<B, 4, Bool>> {
    let shape = [batch, 1, q_len, k_len];
    let mut hidden: Option<Tensor<B, 4, Bool>> = None;
    let mut also = |more: Tensor<B, 4, Bool>| {
        hidden = Some(match hidden.take() {
            Some(before) => before.bool_or(more),
            None => more,
        });
    };
    if let Some(keys) = &mask.key_segments {
        let keys: Tensor<B, 4, Int> = int::<B, 2>(keys.clone()).unsqueeze_dim::<3>(1).unsqueeze_dim(1); // [batch, 1, 1, k_len]
        also(keys.clone().equal_elem(0).expand(shape));
        if let Some(queries) = &mask.query_segments {
            let queries: Tensor<B, 4, Int> = int::<B, 2>(queries.clone()).unsqueeze_dim::<3>(1).unsqueeze_dim(3);
            also(queries.expand(shape).not_equal(keys.expand(shape)));
        }
    }
    if mask.causal {
        // The last query is aligned with the last key: with a cache there are more keys than
        // queries.
        let before = (k_len - q_len) as i64;
        let rows = Tensor::<B, 1, Int>::arange(before..before + q_len as i64, device).reshape([1, 1, q_len, 1]);
        let columns = Tensor::<B, 1, Int>::arange(0..k_len as i64, device).reshape([1, 1, 1, k_len]);
        also(columns.expand(shape).greater(rows.expand(shape)));
    }
    hidden
}

/// Attention weights in f32, `[batch, num_heads, q_len, k_len]`: the softmax over the keys that a
/// query may see. The weights of masked keys are 0, so a query whose keys are all masked attends to
/// nothing and gives 0. A NaN among the visible scores makes the row's weights NaN.
fn weights<B: Backend>(q: Tensor<B, 4>, k: Tensor<B, 4>, mask: &MaskPrimitive<B>) -> Tensor<B, 4> {
    match scores(q, k, mask) {
        (scores, None) => softmax(scores, 3),
        (scores, Some(hidden)) => softmax(scores, 3).mask_fill(hidden, 0.0),
    }
}

/// Logarithm of the attention that each query gives to the key at `origins [batch, q_len]`, as the
/// mean over its heads, in f32: `[batch, q_len]`. Where that key is masked it is undefined, but
/// finite.
pub fn attention_log_weight<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    origins: Tensor<B, 2, Int>,
    mask: &MaskPrimitive<B>,
) -> Tensor<B, 2> {
    let [batch, q_len, ..] = q.dims();
    let (_, weights) = log_weights(q, k, origins, mask); // [batch, num_heads, q_len, 1]
    // The mean is taken of the logarithms' exponentials relative to the largest, so that it cannot
    // underflow.
    let largest = weights.clone().max_dim(1).detach(); // [batch, 1, q_len, 1]
    let mean = (weights - largest.clone()).exp().mean_dim(1);
    (mean.log() + largest).reshape([batch, q_len])
}

/// With `p` the weights, `p_o` that of the origin, and `r` each head's share of the sum of `p_o`
/// over the heads: `ds = grad * r * (onehot(origin) - p)`, `dq = ds k / sqrt(head_dim)`,
/// `dk = ds^T q / sqrt(head_dim)`.
pub fn attention_log_weight_backward<B: Backend>(
    [q, k]: [Tensor<B, 4>; 2],
    origins: Tensor<B, 2, Int>,
    mask: &MaskPrimitive<B>,
    grad: Tensor<B, 2>,
) -> [Tensor<B, 4>; 2] {
    let ([_, _, num_heads, head_dim], [batch, k_len, num_kv_heads, _], dtype) = (q.dims(), k.dims(), q.dtype());
    let q_len = q.dims()[1];
    let (all, own) = log_weights(q.clone(), k.clone(), origins.clone(), mask);
    let shares = softmax(own, 1) * wide(grad).reshape([batch, 1, q_len, 1]); // [batch, num_heads, q_len, 1]
    let keys = Tensor::<B, 1, Int>::arange(0..k_len as i64, &q.device()).reshape([1, 1, 1, k_len]);
    let origins = origins.reshape([batch, 1, q_len, 1]).expand([batch, 1, q_len, k_len]);
    let is_origin = origins.equal(keys.expand([batch, 1, q_len, k_len])).float().cast(FloatDType::F32);
    let ds = ((is_origin - all.exp()) * shares / (head_dim as f64).sqrt()).cast(dtype); // [batch, num_heads, q_len, k_len]
    let dq = ds.clone().matmul(repeated(k, num_heads)).swap_dims(1, 2);
    let dk = summed_groups(ds.swap_dims(2, 3).matmul(q.swap_dims(1, 2)), num_kv_heads);
    [dq, dk]
}

/// Logarithms of the attention weights in f32: of all keys, `[batch, num_heads, q_len, k_len]`, and
/// of each query's origin, `[batch, num_heads, q_len, 1]`.
fn log_weights<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    origins: Tensor<B, 2, Int>,
    mask: &MaskPrimitive<B>,
) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let [batch, q_len, num_heads, _] = q.dims();
    let all = log_softmax(scores(q, k, mask).0, 3);
    let origins = origins.reshape([batch, 1, q_len, 1]).expand([batch, num_heads, q_len, 1]);
    let own = all.clone().gather(3, origins);
    (all, own)
}

/// Scores in f32, `[batch, num_heads, q_len, k_len]`, and which of them are masked. Masked scores
/// are the most negative finite number, because the softmax of a row of -inf would be NaN.
fn scores<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    mask: &MaskPrimitive<B>,
) -> (Tensor<B, 4>, Option<Tensor<B, 4, Bool>>) {
    let [batch, q_len, num_heads, head_dim] = q.dims();
    let k_len = k.dims()[1];
    let q = q.swap_dims(1, 2); // [batch, num_heads, q_len, head_dim]
    let k = repeated(k, num_heads).swap_dims(2, 3); // [batch, num_heads, head_dim, k_len]
    let scores = wide(q.matmul(k)) / (head_dim as f64).sqrt(); // [batch, num_heads, q_len, k_len]
    match hidden_pairs(mask, [batch, q_len, k_len], &scores.device()) {
        None => (scores, None),
        Some(hidden) => {
            let hidden = hidden.expand([batch, num_heads, q_len, k_len]);
            (scores.mask_fill(hidden.clone(), f32::MIN), Some(hidden))
        }
    }
}

/// `[batch, seq, num_kv_heads, head_dim]` -> `[batch, num_heads, seq, head_dim]`, each head
/// repeated for its group.
fn repeated<B: Backend>(x: Tensor<B, 4>, num_heads: usize) -> Tensor<B, 4> {
    let [batch, seq, num_kv_heads, head_dim] = x.dims();
    x.swap_dims(1, 2)
        .unsqueeze_dim::<5>(2)
        .expand([batch, num_kv_heads, num_heads / num_kv_heads, seq, head_dim])
        .reshape([batch, num_heads, seq, head_dim])
}

/// The sum over each group: the transpose of [`repeated`].
fn summed_groups<B: Backend>(x: Tensor<B, 4>, num_kv_heads: usize) -> Tensor<B, 4> {
    let [batch, num_heads, seq, head_dim] = x.dims();
    x.reshape([batch, num_kv_heads, num_heads / num_kv_heads, seq, head_dim])
        .sum_dim(2)
        .reshape([batch, num_kv_heads, seq, head_dim])
        .swap_dims(1, 2)
}

/// `softmax(q k^T / sqrt(head_dim)) v` over the visible keys (Vaswani et al., arXiv:1706.03762),
/// grouped-query (arXiv:2305.13245). A query whose keys are all masked gives 0.
pub fn attention<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    mask: &MaskPrimitive<B>,
) -> Tensor<B, 4> {
    let (num_heads, dtype) = (q.dims()[2], q.dtype());
    weights(q, k, mask).cast(dtype).matmul(repeated(v, num_heads)).swap_dims(1, 2)
}

/// With `p` the weights, `s` the scores and `dp = grad v^T`: `dv = p^T grad`,
/// `ds = p * (dp - rowsum(grad * out))`, `dq = ds k / sqrt(head_dim)`,
/// `dk = ds^T q / sqrt(head_dim)`.
pub fn attention_backward<B: Backend>(
    [q, k, v]: [Tensor<B, 4>; 3],
    mask: &MaskPrimitive<B>,
    out: Tensor<B, 4>,
    grad: Tensor<B, 4>,
) -> [Tensor<B, 4>; 3] {
    let [_, _, num_heads, head_dim] = q.dims();
    let num_kv_heads = k.dims()[2];
    let scale = 1.0 / (head_dim as f64).sqrt();
    let dtype = q.dtype();
    let p = weights(q.clone(), k.clone(), mask);
    let delta = (wide(grad.clone()) * wide(out)).sum_dim(3).swap_dims(1, 2); // [batch, num_heads, q_len, 1]
    let grad = grad.swap_dims(1, 2); // [batch, num_heads, q_len, head_dim]
    let dv = summed_groups(p.clone().cast(dtype).swap_dims(2, 3).matmul(grad.clone()), num_kv_heads);
    let dp = wide(grad.matmul(repeated(v, num_heads).swap_dims(2, 3)));
    let ds = (p * (dp - delta) * scale).cast(dtype);
    let dq = ds.clone().matmul(repeated(k, num_heads)).swap_dims(1, 2);
    let dk = summed_groups(ds.swap_dims(2, 3).matmul(q.swap_dims(1, 2)), num_kv_heads);
    [dq, dk, dv]
}

/// Whether dropout keeps the element at `index`. The decision is a hash of seed and index, so that
/// it depends neither on the device nor on the order of evaluation. (The hash is "lowbias32", which
/// Chris Wellons found with his hash-prospector.) `threshold` is `keep * 2^32`.
pub fn is_kept(seed: u64, index: u32, threshold: u32) -> bool {
    mix(mix(index ^ seed as u32).wrapping_add((seed >> 32) as u32)) < threshold
}

fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// `keep * 2^32`: a random 32-bit number is below it with probability `keep`.
pub fn keep_threshold(keep: f32) -> u32 {
    (f64::from(keep) * 2f64.powi(32)).min(f64::from(u32::MAX)) as u32
}

/// `x / keep` where [`is_kept`], else 0; `x [elements]`.
pub fn dropout<B: Backend>(x: Tensor<B, 1>, keep: f32, seed: u64) -> Tensor<B, 1> {
    let (threshold, scale) = (keep_threshold(keep), 1.0 / keep);
    let mask = (0..x.dims()[0] as u32).map(|i| if is_kept(seed, i, threshold) { scale } else { 0.0 });
    let mask: Vec<f32> = mask.collect();
    let mask = Tensor::<B, 1>::from_data(TensorData::new(mask, x.shape()), &x.device());
    let dtype = x.dtype();
    x * mask.cast(dtype)
}

/// `x + sigmoid(gate) * branch`.
pub fn gated_residual<B: Backend>(x: Tensor<B, 2>, branch: Tensor<B, 2>, gate: Tensor<B, 1>) -> Tensor<B, 2> {
    let dtype = x.dtype();
    (wide(x) + wide(branch) * sigmoid(wide(gate)).unsqueeze()).cast(dtype)
}

/// With `s = sigmoid(gate)`: `dbranch = s * grad`, `dgate = s (1 - s) sum(grad * branch)`.
pub fn gated_residual_backward<B: Backend>(
    branch: Tensor<B, 2>,
    gate: Tensor<B, 1>,
    grad: Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 1>) {
    let (dtype, gate_dtype) = (branch.dtype(), gate.dtype());
    let (branch, grad, s) = (wide(branch), wide(grad), sigmoid(wide(gate)));
    let slope = s.clone() * (s.clone() * -1.0 + 1.0);
    ((grad.clone() * s.unsqueeze()).cast(dtype), (slope * (grad * branch).sum()).cast(gate_dtype))
}

fn logits<B: Backend>(hidden: Tensor<B, 2>, embedding: Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let logits = wide(hidden.matmul(embedding.transpose())); // [rows, vocab]
    let max = logits.clone().max_dim(1).detach();
    let log_sum_exp = (logits.clone() - max.clone()).exp().sum_dim(1).log() + max; // [rows, 1]
    (logits, log_sum_exp)
}

/// `nll = logsumexp(logits) - logits[target]` and `logsumexp(logits)`, side by side, in f32.
pub fn tied_cross_entropy<B: Backend>(
    hidden: Tensor<B, 2>,
    embedding: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
) -> Tensor<B, 2> {
    let (logits, log_sum_exp) = logits(hidden, embedding);
    let target_logits = logits.gather(1, targets.unsqueeze_dim(1)); // [rows, 1]
    Tensor::cat(vec![log_sum_exp.clone() - target_logits, log_sum_exp], 1)
}

/// `dlogits = softmax(logits) * (dnll + dlse) - onehot(target) * dnll`.
pub fn tied_cross_entropy_backward<B: Backend>(
    hidden: Tensor<B, 2>,
    embedding: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    grad: Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let (logits, log_sum_exp) = logits(hidden.clone(), embedding.clone());
    let [dnll, dlse] = [0, 1].map(|column| grad.clone().narrow(1, column, 1)); // [rows, 1]
    let probabilities = (logits - log_sum_exp).exp();
    let dlogits =
        (probabilities * (dnll.clone() + dlse)).scatter(1, targets.unsqueeze_dim(1), -dnll, IndexingUpdateOp::Add);
    let dlogits = dlogits.cast(hidden.dtype());
    (dlogits.clone().matmul(embedding), dlogits.transpose().matmul(hidden))
}

/// Coefficients of Muon's quintic iteration, chosen for speed: singular values end between about
/// 0.7 and 1.2 (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>).
pub const NEWTON_SCHULZ_COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);
/// Added to the Frobenius norm.
pub const NEWTON_SCHULZ_EPSILON: f64 = 1e-7;

/// `X <- a X + (b A + c A^2) X` with `A = X X^T`, from `X / (|X| + 1e-7)`; tall matrices are
/// transposed, so that `A` is small.
pub fn newton_schulz<B: Backend>(x: Tensor<B, 3>, steps: usize) -> Tensor<B, 3> {
    let [_, rows, columns] = x.dims();
    if rows > columns {
        return newton_schulz(x.swap_dims(1, 2), steps).swap_dims(1, 2);
    }
    let norm = (x.clone() * x.clone()).sum_dim(2).sum_dim(1).sqrt(); // [batch, 1, 1]
    newton_schulz_iterations(x / (norm + NEWTON_SCHULZ_EPSILON), steps)
}

/// The iterations alone, for `x [batch, rows, columns]` of Frobenius norm 1 with at most as many
/// rows as columns.
pub fn newton_schulz_iterations<B: Backend>(mut x: Tensor<B, 3>, steps: usize) -> Tensor<B, 3> {
    let (a, b, c) = NEWTON_SCHULZ_COEFFICIENTS;
    for _ in 0..steps {
        let gram = x.clone().matmul(x.clone().swap_dims(1, 2)); // [batch, rows, rows]
        let polynomial = gram.clone() * b + gram.clone().matmul(gram) * c;
        x = x.clone() * a + polynomial.matmul(x);
    }
    x
}
