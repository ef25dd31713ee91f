//! The three kernels of attention.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::Rules;
use crate::ops::cube::launch::vector_sum;
use crate::ops::cube::products::{add_weighted, multiply_transposed, store_sums, zero_sums};
use crate::ops::cube::tile::{
    Tiling, load_numbers, load_segments, load_tile, same_segments, score_at, scores_tile, tile, unit_column, unit_row,
    weight_at, weights_tile,
};

/// Initial value of the running maximum, below every score.
const LOWEST: f32 = -1e30;

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
pub(super) fn forward_kernel<E: Float, I: Int, N: Size>(
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
pub(super) fn queries_kernel<E: Float, I: Int, N: Size>(
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
pub(super) fn keys_kernel<E: Float, I: Int, N: Size>(
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
