//! Grouped-query attention that never holds `[batch, num_heads, q_len, k_len]`, forward and
//! backward.
//!
//! FlashAttention's recurrences (Dao et al., arXiv:2205.14135; Rabe and Staats, arXiv:2112.05682)
//! in plain multiply-adds, so that they run on every device that CubeCL compiles for: a unit keeps
//! one query (or, for the gradients of keys and values, one key) in registers, a cube of [`UNITS`]
//! of them reads the other side in tiles through shared memory, where all units read one address at
//! a time, four values in one access. Tiles that share no segment with the cube's positions are
//! skipped.
//!
//! ```text
//! forward      o = sum_j exp(s_j - m) v_j / sum_j exp(s_j - m),   s_j = q k_j / sqrt(head_dim),   m = max_j s_j so far
//! backward     p_ij = exp(s_ij - lse_i),   ds_ij = p_ij (do_i v_j - do_i o_i) / sqrt(head_dim)
//!              dq_i = sum_j ds_ij k_j,   dk_j = sum_i ds_ij q_i,   dv_j = sum_i p_ij do_i
//! ```
//!
//! The forward pass keeps nothing but its result; the backward pass recomputes the log-sum-exp
//! `lse` of each query. Inputs may be f32 or bf16; sums are f32.

use burn::tensor::Shape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::tile::{
    Four, TILE, UNITS, add_row, dot, four, load_rows, load_segments, load_tile_segments, row, segment_range, store_row,
    sum_of_four, zeros,
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

/// The attention's result (only with `of_values`) and the log-sum-exp of each query:
/// `out [batch, q_len, num_heads, head_dim]`, `lse [batch, num_heads, q_len]`.
#[cube(launch)]
fn forward_kernel<E: Float, I: Int>(
    q: &Tensor<E>,
    k: &Tensor<E>,
    v: &Tensor<E>,
    q_segments: &Tensor<I>,
    k_segments: &Tensor<I>,
    out: &mut Tensor<E>,
    lse: &mut Tensor<f32>,
    scale: f32,
    #[comptime] of_values: bool,
    #[comptime] rules: Rules,
    #[comptime] head_dim: usize,
    #[define(E, I)] _dtypes: [StorageType; 2],
) {
    let batch = CUBE_POS_Z as usize;
    let head = CUBE_POS_Y as usize;
    let first = CUBE_POS_X as usize * comptime!(UNITS);
    let position = first + UNIT_POS_X as usize;
    let q_len = q.shape(1);
    let k_len = k.shape(1);
    let kv_head = head / (q.shape(2) / k.shape(2));
    let offset = k_len - q_len;

    let mut own_segments = SharedMemory::<i32>::new(UNITS);
    let mut segments = SharedMemory::<i32>::new(TILE);
    let mut keys = SharedMemory::<Four>::new(comptime!(TILE * head_dim / 4));
    let mut values = SharedMemory::<Four>::new(comptime!(TILE * head_dim / 4));
    load_segments::<I>(q_segments, &mut own_segments, batch, first, q_len, UNITS, rules.query_segments);
    let query = row::<E>(q, batch, position, head, head_dim);
    sync_cube();
    let (least, most) = segment_range(&own_segments, UNITS);
    let own_segment = own_segments[UNIT_POS_X as usize];

    let mut sum = zeros(head_dim);
    let mut max = LOWEST.runtime();
    let mut total = 0.0f32;
    let mut end = k_len;
    if comptime!(rules.causal) {
        end = k_len.min(first + comptime!(UNITS) + offset);
    }
    let mut begin = 0usize.runtime();
    while begin < end {
        let any = load_tile_segments::<I>(
            k_segments,
            &mut segments,
            batch,
            begin,
            k_len,
            least,
            most,
            rules.key_segments,
            rules.query_segments,
        );
        if any {
            load_rows::<E>(k, &mut keys, batch, begin, kv_head, head_dim);
            if comptime!(of_values) {
                load_rows::<E>(v, &mut values, batch, begin, kv_head, head_dim);
            }
        }
        sync_cube();
        if any {
            for j in 0..TILE {
                if is_visible(position, own_segment, begin + j, segments[j], offset, rules) {
                    let score = dot(&query, &keys, j, head_dim) * scale;
                    if score > max {
                        let shrink = (max - score).exp();
                        total *= shrink;
                        if comptime!(of_values) {
                            let shrink = Four::new(shrink);
                            #[unroll]
                            for d in 0..comptime!(head_dim / 4) {
                                sum[d] *= shrink;
                            }
                        }
                        max = score;
                    }
                    let weight = (score - max).exp();
                    total += weight;
                    if comptime!(of_values) {
                        add_row(&mut sum, weight, &values, j, head_dim);
                    }
                }
            }
        }
        begin += comptime!(TILE);
    }
    if position < q_len {
        // A query without visible keys gives 0. NaN is not equal to 0, so it stays NaN.
        let mut inverse = 0.0f32;
        if total != 0.0f32 {
            inverse = 1.0f32 / total;
        }
        let heads = q.shape(2);
        let base = ((batch * q_len + position) * heads + head) * head_dim;
        if comptime!(of_values) {
            store_row::<E>(out, base, &sum, inverse, head_dim);
        }
        let mut log_sum_exp = 0.0f32;
        if total != 0.0f32 {
            log_sum_exp = max + total.ln();
        }
        lse[(batch * heads + head) * q_len + position] = log_sum_exp;
    }
}

/// `dq [batch, q_len, num_heads, head_dim]`, and `delta_i = do_i o_i [batch, num_heads, q_len]`,
/// which the gradients of keys and values need.
#[cube(launch)]
fn queries_kernel<E: Float, I: Int>(
    q: &Tensor<E>,
    k: &Tensor<E>,
    v: &Tensor<E>,
    q_segments: &Tensor<I>,
    k_segments: &Tensor<I>,
    out: &Tensor<E>,
    grad: &Tensor<E>,
    lse: &Tensor<f32>,
    delta: &mut Tensor<f32>,
    dq: &mut Tensor<E>,
    scale: f32,
    #[comptime] rules: Rules,
    #[comptime] head_dim: usize,
    #[define(E, I)] _dtypes: [StorageType; 2],
) {
    let batch = CUBE_POS_Z as usize;
    let head = CUBE_POS_Y as usize;
    let first = CUBE_POS_X as usize * comptime!(UNITS);
    let position = first + UNIT_POS_X as usize;
    let q_len = q.shape(1);
    let k_len = k.shape(1);
    let heads = q.shape(2);
    let kv_head = head / (heads / k.shape(2));
    let offset = k_len - q_len;

    let mut own_segments = SharedMemory::<i32>::new(UNITS);
    let mut segments = SharedMemory::<i32>::new(TILE);
    let mut keys = SharedMemory::<Four>::new(comptime!(TILE * head_dim / 4));
    let mut values = SharedMemory::<Four>::new(comptime!(TILE * head_dim / 4));
    load_segments::<I>(q_segments, &mut own_segments, batch, first, q_len, UNITS, rules.query_segments);
    let query = row::<E>(q, batch, position, head, head_dim);
    let upstream = row::<E>(grad, batch, position, head, head_dim);
    let mut log_sum_exp = 0.0f32;
    let mut own_delta = 0.0f32;
    if position < q_len {
        let at = (batch * heads + head) * q_len + position;
        log_sum_exp = lse[at];
        let base = ((batch * q_len + position) * heads + head) * head_dim;
        let mut products = Four::new(0.0f32);
        #[unroll]
        for d in 0..comptime!(head_dim / 4) {
            products += upstream[d] * four::<E>(out, base + 4 * d);
        }
        own_delta = sum_of_four(products);
        delta[at] = own_delta;
    }
    sync_cube();
    let (least, most) = segment_range(&own_segments, UNITS);
    let own_segment = own_segments[UNIT_POS_X as usize];

    let mut sum = zeros(head_dim);
    let mut end = k_len;
    if comptime!(rules.causal) {
        end = k_len.min(first + comptime!(UNITS) + offset);
    }
    let mut begin = 0usize.runtime();
    while begin < end {
        let any = load_tile_segments::<I>(
            k_segments,
            &mut segments,
            batch,
            begin,
            k_len,
            least,
            most,
            rules.key_segments,
            rules.query_segments,
        );
        if any {
            load_rows::<E>(k, &mut keys, batch, begin, kv_head, head_dim);
            load_rows::<E>(v, &mut values, batch, begin, kv_head, head_dim);
        }
        sync_cube();
        if any {
            for j in 0..TILE {
                if is_visible(position, own_segment, begin + j, segments[j], offset, rules) {
                    let weight = (dot(&query, &keys, j, head_dim) * scale - log_sum_exp).exp();
                    let slope = weight * (dot(&upstream, &values, j, head_dim) - own_delta) * scale;
                    add_row(&mut sum, slope, &keys, j, head_dim);
                }
            }
        }
        begin += comptime!(TILE);
    }
    if position < q_len {
        let base = ((batch * q_len + position) * heads + head) * head_dim;
        store_row::<E>(dq, base, &sum, 1.0f32, head_dim);
    }
}

/// `dk`, or `dv` with `of_values`: `[batch, k_len, num_kv_heads, head_dim]`. Computing one of them
/// at a time keeps within a unit's registers.
#[cube(launch)]
fn keys_kernel<E: Float, I: Int>(
    q: &Tensor<E>,
    k: &Tensor<E>,
    v: &Tensor<E>,
    q_segments: &Tensor<I>,
    k_segments: &Tensor<I>,
    grad: &Tensor<E>,
    lse: &Tensor<f32>,
    delta: &Tensor<f32>,
    result: &mut Tensor<E>,
    scale: f32,
    #[comptime] of_values: bool,
    #[comptime] rules: Rules,
    #[comptime] head_dim: usize,
    #[define(E, I)] _dtypes: [StorageType; 2],
) {
    let batch = CUBE_POS_Z as usize;
    let kv_head = CUBE_POS_Y as usize;
    let first = CUBE_POS_X as usize * comptime!(UNITS);
    let position = first + UNIT_POS_X as usize;
    let q_len = q.shape(1);
    let k_len = k.shape(1);
    let heads = q.shape(2);
    let group = heads / k.shape(2);
    let offset = k_len - q_len;

    let mut own_segments = SharedMemory::<i32>::new(UNITS);
    let mut segments = SharedMemory::<i32>::new(TILE);
    let mut queries = SharedMemory::<Four>::new(comptime!(TILE * head_dim / 4));
    let mut upstream = SharedMemory::<Four>::new(comptime!(TILE * head_dim / 4));
    let mut lses = SharedMemory::<f32>::new(TILE);
    let mut deltas = SharedMemory::<f32>::new(TILE);
    load_segments::<I>(k_segments, &mut own_segments, batch, first, k_len, UNITS, rules.key_segments);
    let key = row::<E>(k, batch, position, kv_head, head_dim);
    let value = row::<E>(v, batch, position, kv_head, head_dim);
    sync_cube();
    let (least, most) = segment_range(&own_segments, UNITS);
    let own_segment = own_segments[UNIT_POS_X as usize];

    let mut sum = zeros(head_dim);
    // The first query that sees the first key of the cube, at the beginning of its tile.
    let mut start = 0usize.runtime();
    if comptime!(rules.causal) && first > offset {
        start = (first - offset) / comptime!(TILE) * comptime!(TILE);
    }
    for member in 0..group {
        let head = kv_head * group + member;
        let mut begin = start;
        while begin < q_len {
            let any = load_tile_segments::<I>(
                q_segments,
                &mut segments,
                batch,
                begin,
                q_len,
                least,
                most,
                rules.query_segments,
                rules.query_segments,
            );
            if any {
                load_rows::<E>(q, &mut queries, batch, begin, head, head_dim);
                load_rows::<E>(grad, &mut upstream, batch, begin, head, head_dim);
                let i = UNIT_POS_X as usize;
                if i < comptime!(TILE) && begin + i < q_len {
                    let at = (batch * heads + head) * q_len + begin + i;
                    lses[i] = lse[at];
                    deltas[i] = delta[at];
                }
            }
            sync_cube();
            if any {
                for i in 0..TILE {
                    let exists = begin + i < q_len;
                    if exists && is_visible(begin + i, segments[i], position, own_segment, offset, rules) {
                        let weight = (dot(&key, &queries, i, head_dim) * scale - lses[i]).exp();
                        if comptime!(of_values) {
                            add_row(&mut sum, weight, &upstream, i, head_dim);
                        } else {
                            let slope = weight * (dot(&value, &upstream, i, head_dim) - deltas[i]) * scale;
                            add_row(&mut sum, slope, &queries, i, head_dim);
                        }
                    }
                }
            }
            begin += comptime!(TILE);
        }
    }
    if position < k_len {
        let base = ((batch * k_len + position) * k.shape(2) + kv_head) * head_dim;
        store_row::<E>(result, base, &sum, 1.0f32, head_dim);
    }
}

/// Whether the kernels support `q`: they read a head four elements at a time.
pub fn fits<R: CubeRuntime>(q: &CubeTensor<R>) -> bool {
    q.meta.shape()[3].is_multiple_of(4)
}

/// Everything that the kernels read, contiguous.
struct Inputs<R: CubeRuntime> {
    q: CubeTensor<R>,
    k: CubeTensor<R>,
    v: CubeTensor<R>,
    q_segments: CubeTensor<R>,
    k_segments: CubeTensor<R>,
    rules: Rules,
    head_dim: usize,
    dtypes: [StorageType; 2],
}

impl<R: CubeRuntime> Inputs<R> {
    fn new(
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
        let head_dim = q.meta.shape()[3];
        // A kernel takes the same arguments under all rules; a placeholder stands for segments that
        // it does not read.
        let nothing = || empty(&q, Shape::new([1, 1]), burn::tensor::DType::I32);
        let [q_segments, k_segments] =
            [q_segments, k_segments].map(|segments| segments.map_or_else(nothing, into_contiguous));
        let dtypes = [q.dtype.into(), k_segments.dtype.into()];
        Self { q, k, v, q_segments, k_segments, rules, head_dim, dtypes }
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
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// One cube for every [`UNITS`] positions of each head of each row of
    /// `x [batch, length, heads, head_dim]`.
    fn cubes(x: &CubeTensor<R>) -> CubeCount {
        let shape = x.meta.shape();
        CubeCount::Static(shape[1].div_ceil(UNITS) as u32, shape[2] as u32, shape[0] as u32)
    }

    /// Writes the attention's result to `out`, if there is one, and returns the log-sum-exp of each
    /// query.
    fn forward(&self, out: Option<&CubeTensor<R>>) -> CubeTensor<R> {
        let lse = self.per_query();
        forward_kernel::launch::<R>(
            &self.q.client,
            Self::cubes(&self.q),
            CubeDim::new_1d(UNITS as u32),
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
            self.head_dim,
            self.dtypes,
        );
        lse
    }
}

/// See [`crate::ops::FusedOps::grouped_query_attention`].
pub fn forward<R: CubeRuntime>(
    qkv: [CubeTensor<R>; 3],
    q_segments: Option<CubeTensor<R>>,
    k_segments: Option<CubeTensor<R>>,
    causal: bool,
) -> CubeTensor<R> {
    let inputs = Inputs::new(qkv, q_segments, k_segments, causal);
    let out = inputs.like(&inputs.q);
    inputs.forward(Some(&out));
    out
}

/// See [`crate::ops::FusedOps::grouped_query_attention_backward`].
pub fn backward<R: CubeRuntime>(
    qkv: [CubeTensor<R>; 3],
    q_segments: Option<CubeTensor<R>>,
    k_segments: Option<CubeTensor<R>>,
    causal: bool,
    [out, grad]: [CubeTensor<R>; 2],
) -> [CubeTensor<R>; 3] {
    let inputs = Inputs::new(qkv, q_segments, k_segments, causal);
    let [out, grad] = [out, grad].map(into_contiguous);
    let lse = inputs.forward(None);
    let (delta, dq) = (inputs.per_query(), inputs.like(&inputs.q));
    queries_kernel::launch::<R>(
        &inputs.q.client,
        Inputs::cubes(&inputs.q),
        CubeDim::new_1d(UNITS as u32),
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
        inputs.head_dim,
        inputs.dtypes,
    );
    let of_keys = |of_values: bool| {
        let result = inputs.like(&inputs.k);
        keys_kernel::launch::<R>(
            &inputs.q.client,
            Inputs::cubes(&inputs.k),
            CubeDim::new_1d(UNITS as u32),
            inputs.q.clone().into_tensor_arg(),
            inputs.k.clone().into_tensor_arg(),
            inputs.v.clone().into_tensor_arg(),
            inputs.q_segments.clone().into_tensor_arg(),
            inputs.k_segments.clone().into_tensor_arg(),
            grad.clone().into_tensor_arg(),
            lse.clone().into_tensor_arg(),
            delta.clone().into_tensor_arg(),
            result.clone().into_tensor_arg(),
            inputs.scale(),
            of_values,
            inputs.rules,
            inputs.head_dim,
            inputs.dtypes,
        );
        result
    };
    [dq, of_keys(false), of_keys(true)]
}
