//! Grouped-query attention that never holds `[batch, num_heads, q_len, k_len]`, forward and
//! backward.
//!
//! FlashAttention's recurrences (Dao et al., arXiv:2205.14135; Rabe and Staats, arXiv:2112.05682):
//! a cube works on some queries (or, for the gradients of keys and values, some keys) of one head
//! and reads the other side in tiles through shared memory. Products of tiles run on tensor cores
//! where the device has them ([`super::products`]). Of packed rows, only the tiles from the first
//! to the last position of the cube's own segments are read.
//!
//! ```text
//! forward      lse_i = log sum_j exp(s_ij),   s_ij = q_i k_j / sqrt(head_dim)
//!              p_ij = exp(s_ij - lse_i),   o_i = sum_j p_ij v_j
//! backward     ds_ij = p_ij (do_i v_j - do_i o_i) / sqrt(head_dim)
//!              dq_i = sum_j ds_ij k_j,   dk_j = sum_i ds_ij q_i,   dv_j = sum_i p_ij do_i
//! ```
//!
//! The forward pass goes through the keys twice: first for the log-sum-exp `lse` of each query,
//! then for the result. The weights are final then, so that sums never have to be rescaled, which
//! tensor cores could not do in place. The forward pass keeps nothing but its result; the backward
//! pass computes `lse` again. Inputs may be f32 or bf16; scores and sums are f32, and weights are
//! rounded to the type of the inputs, as FlashAttention does.

use burn::tensor::Shape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::launch::vector_sum;
use super::products::{add_weighted, multiply_transposed, store_sums, zero_sums};
use super::tile::{
    Tiling, load_numbers, load_segments, load_tile, same_segments, score_at, scores_tile, tile, unit_column, unit_row,
    weight_at, weights_tile,
};

/// Initial value of the running maximum, below every score.
const LOWEST: f32 = -1e30;

/// Which pairs of query and key are visible, in addition to the bounds checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Query and key must be of the same segment.
    pub query_segments: bool,
    /// The key must have a segment, which padding lacks.
    pub key_segments: bool,
    /// The key must not be later than the query.
    pub causal: bool,
}

/// Whether the query at `query` of segment `query_segment` may see the key at `key`. The last query
/// is aligned with the last key: `offset` keys come before the first query.
#[cube]
fn is_visible(
    query: usize,
    query_segment: i32,
    key: usize,
    key_segment: i32,
    offset: usize,
    #[comptime] rules: Rules,
) -> bool {
    let mut visible = key_segment != 0;
    if comptime!(rules.query_segments) {
        visible = visible && key_segment == query_segment;
    }
    if comptime!(rules.causal) {
        visible = visible && key <= query + offset;
    }
    visible
}

/// The first key that any query of a cube can see, and the end of these keys. `own_segments` are
/// those of the queries from `first` on.
#[cube]
fn visible_keys<I: Int>(
    own_segments: &SharedMemory<i32>,
    k_segments: &Tensor<I>,
    batch: usize,
    first: usize,
    k_len: usize,
    offset: usize,
    #[comptime] rules: Rules,
    #[comptime] tiling: Tiling,
) -> (usize, usize) {
    let mut begin = 0usize.runtime();
    let mut end = k_len;
    if comptime!(rules.causal) {
        end = k_len.min(first + comptime!(tiling.own) + offset);
    }
    if comptime!(rules.query_segments) {
        let (same_begin, same_end) = same_segments::<I>(own_segments, k_segments, batch, k_len, begin, end, tiling);
        begin = same_begin;
        end = same_end;
    }
    (begin, end)
}

/// The log-sum-exp of each query, `lse [batch, num_heads, q_len]`, and (only with `of_values`) the
/// attention's result, `out [batch, q_len, num_heads, head_dim]`.
#[cube(launch)]
fn forward_kernel<E: Float, I: Int, N: Size>(
    q: &Tensor<Vector<E, N>>,
    k: &Tensor<Vector<E, N>>,
    v: &Tensor<Vector<E, N>>,
    q_segments: &Tensor<I>,
    k_segments: &Tensor<I>,
    out: &mut Tensor<Vector<E, N>>,
    lse: &mut Tensor<f32>,
    scale: f32,
    #[comptime] of_values: bool,
    #[comptime] rules: Rules,
    #[comptime] tiling: Tiling,
    #[define(E, I)] _dtypes: [StorageType; 2],
) {
    let batch = CUBE_POS_Z as usize;
    let head = CUBE_POS_Y as usize;
    let first = CUBE_POS_X as usize * comptime!(tiling.own);
    let row = unit_row();
    let query = first + row;
    let q_len = q.shape(1);
    let k_len = k.shape(1);
    let kv_head = head / (q.shape(2) / k.shape(2));
    let offset = k_len - q_len;

    let mut own_segments = SharedMemory::<i32>::new(tiling.own);
    let mut segments = SharedMemory::<i32>::new(tiling.other);
    let mut queries = tile::<E, N>(tiling.own, tiling);
    let mut keys = tile::<E, N>(tiling.other, tiling);
    let mut scores = scores_tile(tiling);
    load_segments::<I>(q_segments, &mut own_segments, batch, first, q_len, tiling.own, rules.query_segments, tiling);
    load_tile::<E, N>(q, &mut queries, batch, first, head, tiling.own, tiling);
    sync_cube();
    let own_segment = own_segments[row];
    let (begin, end) = visible_keys::<I>(&own_segments, k_segments, batch, first, k_len, offset, rules, tiling);

    let mut max = LOWEST.runtime();
    let mut total = 0.0f32;
    let mut at = begin;
    while at < end {
        sync_cube();
        load_segments::<I>(k_segments, &mut segments, batch, at, k_len, tiling.other, rules.key_segments, tiling);
        load_tile::<E, N>(k, &mut keys, batch, at, kv_head, tiling.other, tiling);
        sync_cube();
        multiply_transposed::<E, N>(&queries, &keys, &mut scores, tiling);
        sync_cube();
        #[unroll]
        for i in 0..comptime!(tiling.other / 2) {
            let column = unit_column(i);
            if is_visible(query, own_segment, at + column, segments[column], offset, rules) {
                let score = scores[score_at(row, column, tiling)] * scale;
                if score > max {
                    total *= (max - score).exp();
                    max = score;
                }
                total += (score - max).exp();
            }
        }
        at += comptime!(tiling.other);
    }
    // The two units of a query have seen every second key each.
    let mut maxima = SharedMemory::<f32>::new(comptime!(tiling.units()));
    let mut totals = SharedMemory::<f32>::new(comptime!(tiling.units()));
    let unit = UNIT_POS_X as usize;
    maxima[unit] = max;
    totals[unit] = total;
    sync_cube();
    let other_unit = 4 * row + 1 - unit;
    let most = max.max(maxima[other_unit]);
    total = total * (max - most).exp() + totals[other_unit] * (maxima[other_unit] - most).exp();
    // A query without visible keys has no weights at all. NaN is not equal to 0, so it stays NaN.
    let mut log_sum_exp = 0.0f32;
    if total != 0.0f32 {
        log_sum_exp = most + total.ln();
    }
    if query < q_len && unit == 2 * row {
        lse[(batch * q.shape(2) + head) * q_len + query] = log_sum_exp;
    }

    if comptime!(of_values) {
        let mut values = tile::<E, N>(tiling.other, tiling);
        let mut weights = weights_tile::<E>(tiling);
        let mut sums = zero_sums::<N>(tiling);
        let mut at = begin;
        while at < end {
            sync_cube();
            load_segments::<I>(k_segments, &mut segments, batch, at, k_len, tiling.other, rules.key_segments, tiling);
            load_tile::<E, N>(k, &mut keys, batch, at, kv_head, tiling.other, tiling);
            load_tile::<E, N>(v, &mut values, batch, at, kv_head, tiling.other, tiling);
            sync_cube();
            multiply_transposed::<E, N>(&queries, &keys, &mut scores, tiling);
            sync_cube();
            #[unroll]
            for i in 0..comptime!(tiling.other / 2) {
                let column = unit_column(i);
                let mut weight = 0.0f32;
                if is_visible(query, own_segment, at + column, segments[column], offset, rules) {
                    weight = (scores[score_at(row, column, tiling)] * scale - log_sum_exp).exp();
                }
                weights[weight_at(row, column, tiling)] = E::cast_from(weight);
            }
            sync_cube();
            add_weighted::<E, N>(&mut sums, &weights, &values, tiling);
            at += comptime!(tiling.other);
        }
        store_sums::<E, N>(&sums, out, &mut scores, batch, first, head, tiling);
    }
}

/// `dq [batch, q_len, num_heads, head_dim]`, and `delta_i = do_i o_i [batch, num_heads, q_len]`,
/// which the gradients of keys and values need.
#[cube(launch)]
fn queries_kernel<E: Float, I: Int, N: Size>(
    q: &Tensor<Vector<E, N>>,
    k: &Tensor<Vector<E, N>>,
    v: &Tensor<Vector<E, N>>,
    q_segments: &Tensor<I>,
    k_segments: &Tensor<I>,
    out: &Tensor<Vector<E, N>>,
    grad: &Tensor<Vector<E, N>>,
    lse: &Tensor<f32>,
    delta: &mut Tensor<f32>,
    dq: &mut Tensor<Vector<E, N>>,
    scale: f32,
    #[comptime] rules: Rules,
    #[comptime] tiling: Tiling,
    #[define(E, I)] _dtypes: [StorageType; 2],
) {
    let batch = CUBE_POS_Z as usize;
    let head = CUBE_POS_Y as usize;
    let first = CUBE_POS_X as usize * comptime!(tiling.own);
    let row = unit_row();
    let query = first + row;
    let q_len = q.shape(1);
    let k_len = k.shape(1);
    let heads = q.shape(2);
    let kv_head = head / (heads / k.shape(2));
    let offset = k_len - q_len;

    let mut own_segments = SharedMemory::<i32>::new(tiling.own);
    let mut segments = SharedMemory::<i32>::new(tiling.other);
    let mut queries = tile::<E, N>(tiling.own, tiling);
    let mut upstream = tile::<E, N>(tiling.own, tiling);
    let mut keys = tile::<E, N>(tiling.other, tiling);
    let mut values = tile::<E, N>(tiling.other, tiling);
    let mut scores = scores_tile(tiling);
    let mut weights = weights_tile::<E>(tiling);
    load_segments::<I>(q_segments, &mut own_segments, batch, first, q_len, tiling.own, rules.query_segments, tiling);
    load_tile::<E, N>(q, &mut queries, batch, first, head, tiling.own, tiling);
    load_tile::<E, N>(grad, &mut upstream, batch, first, head, tiling.own, tiling);
    // Both units of a query compute all of its delta.
    let mut log_sum_exp = 0.0f32;
    let mut own_delta = 0.0f32;
    if query < q_len {
        let at = (batch * heads + head) * q_len + query;
        log_sum_exp = lse[at];
        let vectors = comptime!(tiling.head_dim / tiling.vector);
        let base = ((batch * q_len + query) * heads + head) * vectors;
        let mut products = Vector::<f32, N>::new(0.0f32);
        for i in 0..vectors {
            products += Vector::<f32, N>::cast_from(out[base + i]) * Vector::<f32, N>::cast_from(grad[base + i]);
        }
        own_delta = vector_sum(products);
        if UNIT_POS_X as usize == 2 * row {
            delta[at] = own_delta;
        }
    }
    sync_cube();
    let own_segment = own_segments[row];
    let (begin, end) = visible_keys::<I>(&own_segments, k_segments, batch, first, k_len, offset, rules, tiling);

    let mut sums = zero_sums::<N>(tiling);
    let mut at = begin;
    while at < end {
        sync_cube();
        load_segments::<I>(k_segments, &mut segments, batch, at, k_len, tiling.other, rules.key_segments, tiling);
        load_tile::<E, N>(k, &mut keys, batch, at, kv_head, tiling.other, tiling);
        load_tile::<E, N>(v, &mut values, batch, at, kv_head, tiling.other, tiling);
        sync_cube();
        multiply_transposed::<E, N>(&queries, &keys, &mut scores, tiling);
        sync_cube();
        let mut probabilities = Array::<f32>::new(comptime!(tiling.other / 2));
        #[unroll]
        for i in 0..comptime!(tiling.other / 2) {
            let column = unit_column(i);
            probabilities[i] = 0.0f32;
            if is_visible(query, own_segment, at + column, segments[column], offset, rules) {
                probabilities[i] = (scores[score_at(row, column, tiling)] * scale - log_sum_exp).exp();
            }
        }
        sync_cube();
        multiply_transposed::<E, N>(&upstream, &values, &mut scores, tiling);
        sync_cube();
        #[unroll]
        for i in 0..comptime!(tiling.other / 2) {
            let column = unit_column(i);
            let slope = probabilities[i] * (scores[score_at(row, column, tiling)] - own_delta) * scale;
            weights[weight_at(row, column, tiling)] = E::cast_from(slope);
        }
        sync_cube();
        add_weighted::<E, N>(&mut sums, &weights, &keys, tiling);
        at += comptime!(tiling.other);
    }
    store_sums::<E, N>(&sums, dq, &mut scores, batch, first, head, tiling);
}

/// `dk` and `dv`, each `[batch, k_len, num_kv_heads, head_dim]`.
#[cube(launch)]
fn keys_kernel<E: Float, I: Int, N: Size>(
    q: &Tensor<Vector<E, N>>,
    k: &Tensor<Vector<E, N>>,
    v: &Tensor<Vector<E, N>>,
    q_segments: &Tensor<I>,
    k_segments: &Tensor<I>,
    grad: &Tensor<Vector<E, N>>,
    lse: &Tensor<f32>,
    delta: &Tensor<f32>,
    dk: &mut Tensor<Vector<E, N>>,
    dv: &mut Tensor<Vector<E, N>>,
    scale: f32,
    #[comptime] rules: Rules,
    #[comptime] tiling: Tiling,
    #[define(E, I)] _dtypes: [StorageType; 2],
) {
    let batch = CUBE_POS_Z as usize;
    let kv_head = CUBE_POS_Y as usize;
    let first = CUBE_POS_X as usize * comptime!(tiling.own);
    let row = unit_row();
    let key = first + row;
    let q_len = q.shape(1);
    let k_len = k.shape(1);
    let group = q.shape(2) / k.shape(2);
    let offset = k_len - q_len;

    let mut own_segments = SharedMemory::<i32>::new(tiling.own);
    let mut segments = SharedMemory::<i32>::new(tiling.other);
    let mut keys = tile::<E, N>(tiling.own, tiling);
    let mut values = tile::<E, N>(tiling.own, tiling);
    let mut queries = tile::<E, N>(tiling.other, tiling);
    let mut upstream = tile::<E, N>(tiling.other, tiling);
    let mut lses = SharedMemory::<f32>::new(tiling.other);
    let mut deltas = SharedMemory::<f32>::new(tiling.other);
    let mut scores = scores_tile(tiling);
    let mut weights = weights_tile::<E>(tiling);
    load_segments::<I>(k_segments, &mut own_segments, batch, first, k_len, tiling.own, rules.key_segments, tiling);
    load_tile::<E, N>(k, &mut keys, batch, first, kv_head, tiling.own, tiling);
    load_tile::<E, N>(v, &mut values, batch, first, kv_head, tiling.own, tiling);
    sync_cube();
    let own_segment = own_segments[row];
    let mut begin = 0usize.runtime();
    let mut end = q_len;
    // The first query that sees the first key of the cube.
    if comptime!(rules.causal) && first > offset {
        begin = first - offset;
    }
    if comptime!(rules.query_segments) {
        let (same_begin, same_end) = same_segments::<I>(&own_segments, q_segments, batch, q_len, begin, end, tiling);
        begin = same_begin;
        end = same_end;
    }

    let mut dk_sums = zero_sums::<N>(tiling);
    let mut dv_sums = zero_sums::<N>(tiling);
    for member in 0..group {
        let head = kv_head * group + member;
        let mut at = begin;
        while at < end {
            sync_cube();
            load_segments::<I>(q_segments, &mut segments, batch, at, q_len, tiling.other, rules.query_segments, tiling);
            load_tile::<E, N>(q, &mut queries, batch, at, head, tiling.other, tiling);
            load_tile::<E, N>(grad, &mut upstream, batch, at, head, tiling.other, tiling);
            load_numbers(lse, &mut lses, batch, at, head, tiling.other, tiling);
            load_numbers(delta, &mut deltas, batch, at, head, tiling.other, tiling);
            sync_cube();
            multiply_transposed::<E, N>(&keys, &queries, &mut scores, tiling);
            sync_cube();
            let mut probabilities = Array::<f32>::new(comptime!(tiling.other / 2));
            #[unroll]
            for i in 0..comptime!(tiling.other / 2) {
                let column = unit_column(i);
                let query = at + column;
                let exists = query < q_len;
                probabilities[i] = 0.0f32;
                if exists && is_visible(query, segments[column], key, own_segment, offset, rules) {
                    probabilities[i] = (scores[score_at(row, column, tiling)] * scale - lses[column]).exp();
                }
                weights[weight_at(row, column, tiling)] = E::cast_from(probabilities[i]);
            }
            sync_cube();
            add_weighted::<E, N>(&mut dv_sums, &weights, &upstream, tiling);
            multiply_transposed::<E, N>(&values, &upstream, &mut scores, tiling);
            sync_cube();
            #[unroll]
            for i in 0..comptime!(tiling.other / 2) {
                let column = unit_column(i);
                let slope = probabilities[i] * (scores[score_at(row, column, tiling)] - deltas[column]) * scale;
                weights[weight_at(row, column, tiling)] = E::cast_from(slope);
            }
            sync_cube();
            add_weighted::<E, N>(&mut dk_sums, &weights, &queries, tiling);
            at += comptime!(tiling.other);
        }
    }
    store_sums::<E, N>(&dk_sums, dk, &mut scores, batch, first, kv_head, tiling);
    store_sums::<E, N>(&dv_sums, dv, &mut scores, batch, first, kv_head, tiling);
}

/// Everything that the kernels read, contiguous.
struct Inputs<R: CubeRuntime> {
    q: CubeTensor<R>,
    k: CubeTensor<R>,
    v: CubeTensor<R>,
    q_segments: CubeTensor<R>,
    k_segments: CubeTensor<R>,
    rules: Rules,
    tiling: Tiling,
    dtypes: [StorageType; 2],
}

impl<R: CubeRuntime> Inputs<R> {
    fn new(
        tiling: Tiling,
        [q, k, v]: [CubeTensor<R>; 3],
        q_segments: Option<CubeTensor<R>>,
        k_segments: Option<CubeTensor<R>>,
        causal: bool,
    ) -> Self {
        let rules = Rules {
            query_segments: q_segments.is_some() && k_segments.is_some(),
            key_segments: k_segments.is_some(),
            causal,
        };
        let [q, k, v] = [q, k, v].map(into_contiguous);
        // A kernel takes the same arguments under all rules; a placeholder stands for segments that
        // it does not read.
        let nothing = || empty(&q, Shape::new([1, 1]), burn::tensor::DType::I32);
        let [q_segments, k_segments] =
            [q_segments, k_segments].map(|segments| segments.map_or_else(nothing, into_contiguous));
        let dtypes = [q.dtype.into(), k_segments.dtype.into()];
        Self { q, k, v, q_segments, k_segments, rules, tiling, dtypes }
    }

    fn like(&self, tensor: &CubeTensor<R>) -> CubeTensor<R> {
        empty(tensor, tensor.meta.shape().clone(), tensor.dtype)
    }

    /// `[batch, num_heads, q_len]`.
    fn per_query(&self) -> CubeTensor<R> {
        let shape = self.q.meta.shape();
        let shape = Shape::new([shape[0], shape[2], shape[1]]);
        empty(&self.q, shape, burn::tensor::DType::F32)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.tiling.head_dim as f32).sqrt()
    }

    /// One cube for every `own` positions of each head of each row of
    /// `x [batch, length, heads, head_dim]`.
    fn cubes(&self, x: &CubeTensor<R>) -> CubeCount {
        let shape = x.meta.shape();
        CubeCount::Static(shape[1].div_ceil(self.tiling.own) as u32, shape[2] as u32, shape[0] as u32)
    }

    fn cube_dim(&self) -> CubeDim {
        CubeDim::new_1d(self.tiling.units() as u32)
    }

    /// Writes the attention's result to `out`, if there is one, and returns the log-sum-exp of each
    /// query.
    fn forward(&self, out: Option<&CubeTensor<R>>) -> CubeTensor<R> {
        let lse = self.per_query();
        forward_kernel::launch::<R>(
            &self.q.client,
            self.cubes(&self.q),
            self.cube_dim(),
            self.tiling.vector,
            self.q.clone().into_tensor_arg(),
            self.k.clone().into_tensor_arg(),
            self.v.clone().into_tensor_arg(),
            self.q_segments.clone().into_tensor_arg(),
            self.k_segments.clone().into_tensor_arg(),
            // A placeholder if there is no `out`: the kernel then does not write to it.
            out.unwrap_or(&self.q).clone().into_tensor_arg(),
            lse.clone().into_tensor_arg(),
            self.scale(),
            out.is_some(),
            self.rules,
            self.tiling,
            self.dtypes,
        );
        lse
    }
}

/// See [`crate::ops::FusedOps::grouped_query_attention`].
pub fn forward<R: CubeRuntime>(
    tiling: Tiling,
    qkv: [CubeTensor<R>; 3],
    q_segments: Option<CubeTensor<R>>,
    k_segments: Option<CubeTensor<R>>,
    causal: bool,
) -> CubeTensor<R> {
    let inputs = Inputs::new(tiling, qkv, q_segments, k_segments, causal);
    let out = inputs.like(&inputs.q);
    inputs.forward(Some(&out));
    out
}

/// See [`crate::ops::FusedOps::grouped_query_attention_backward`].
pub fn backward<R: CubeRuntime>(
    tiling: Tiling,
    qkv: [CubeTensor<R>; 3],
    q_segments: Option<CubeTensor<R>>,
    k_segments: Option<CubeTensor<R>>,
    causal: bool,
    [out, grad]: [CubeTensor<R>; 2],
) -> [CubeTensor<R>; 3] {
    let inputs = Inputs::new(tiling, qkv, q_segments, k_segments, causal);
    let [out, grad] = [out, grad].map(into_contiguous);
    let lse = inputs.forward(None);
    let (delta, dq) = (inputs.per_query(), inputs.like(&inputs.q));
    queries_kernel::launch::<R>(
        &inputs.q.client,
        inputs.cubes(&inputs.q),
        inputs.cube_dim(),
        tiling.vector,
        inputs.q.clone().into_tensor_arg(),
        inputs.k.clone().into_tensor_arg(),
        inputs.v.clone().into_tensor_arg(),
        inputs.q_segments.clone().into_tensor_arg(),
        inputs.k_segments.clone().into_tensor_arg(),
        out.into_tensor_arg(),
        grad.clone().into_tensor_arg(),
        lse.clone().into_tensor_arg(),
        delta.clone().into_tensor_arg(),
        dq.clone().into_tensor_arg(),
        inputs.scale(),
        inputs.rules,
        tiling,
        inputs.dtypes,
    );
    let (dk, dv) = (inputs.like(&inputs.k), inputs.like(&inputs.v));
    keys_kernel::launch::<R>(
        &inputs.q.client,
        inputs.cubes(&inputs.k),
        inputs.cube_dim(),
        tiling.vector,
        inputs.q.clone().into_tensor_arg(),
        inputs.k.clone().into_tensor_arg(),
        inputs.v.clone().into_tensor_arg(),
        inputs.q_segments.clone().into_tensor_arg(),
        inputs.k_segments.clone().into_tensor_arg(),
        grad.into_tensor_arg(),
        lse.into_tensor_arg(),
        delta.into_tensor_arg(),
        dk.clone().into_tensor_arg(),
        dv.clone().into_tensor_arg(),
        inputs.scale(),
        inputs.rules,
        tiling,
        inputs.dtypes,
    );
    [dq, dk, dv]
}
