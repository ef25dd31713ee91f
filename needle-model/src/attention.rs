//! Grouped-query attention with QK-norm, in three steps, so that keys and values can be cached
//! between them.
//!
//! Queries and keys are normalized over `head_dim` before rotation (Henry et al.,
//! arXiv:2010.04245); query head `h` reads key/value head `h / (heads / kv_heads)` (Ainslie et al.,
//! arXiv:2305.13245), which is never repeated in memory. No biases.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::mask::AttentionMask;
use crate::norm::ZcRmsNorm;
use crate::ops::{FusedOps, float, primitive};
use crate::rope::Rope;

/// The weights of one attention: four projections and two norms.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    /// `[d_model, heads * head_dim]`.
    pub q_proj: Linear<B>,
    /// `[d_model, kv_heads * head_dim]`.
    pub k_proj: Linear<B>,
    /// `[d_model, kv_heads * head_dim]`.
    pub v_proj: Linear<B>,
    /// `[heads * head_dim, d_model]`.
    pub out_proj: Linear<B>,
    /// Over each query head.
    pub q_norm: ZcRmsNorm<B>,
    /// Over each key head.
    pub k_norm: ZcRmsNorm<B>,
}

/// Keys and values to attend to, each `[batch, k_len, kv_heads, head_dim]`.
#[derive(Debug, Clone)]
pub struct KeyValue<B: Backend> {
    /// Normalized and, in self-attention, rotated keys.
    pub k: Tensor<B, 4>,
    /// Values.
    pub v: Tensor<B, 4>,
}

impl<B: Backend> KeyValue<B> {
    /// Appends the positions of `later`.
    pub fn followed_by(self, later: Self) -> Self {
        Self { k: Tensor::cat(vec![self.k, later.k], 1), v: Tensor::cat(vec![self.v, later.v], 1) }
    }
}

/// Rotation of self-attention: the tables and the position of the first token.
pub type Rotation<'a, B> = Option<(&'a Rope<B>, usize)>;

impl<B: FusedOps> Attention<B> {
    /// Projects and normalizes queries, `[batch, seq, d_model] -> [batch, seq, heads, head_dim]`.
    /// Self-attention rotates them, cross-attention does not.
    pub fn queries(&self, x: Tensor<B, 3>, rotation: Rotation<'_, B>) -> Tensor<B, 4> {
        rotated(self.q_norm.forward(self.heads(&self.q_proj, x)), rotation)
    }

    /// Keys and values of `x [batch, seq, d_model]`.
    pub fn keys_values(&self, x: Tensor<B, 3>, rotation: Rotation<'_, B>) -> KeyValue<B> {
        let k = rotated(self.k_norm.forward(self.heads(&self.k_proj, x.clone())), rotation);
        KeyValue { k, v: self.heads(&self.v_proj, x) }
    }

    /// Attends from `queries [batch, q_len, heads, head_dim]` to `k_len` keys and projects the
    /// result to `[batch, q_len, d_model]`.
    pub fn attend(&self, queries: Tensor<B, 4>, keys_values: KeyValue<B>, mask: AttentionMask<B>) -> Tensor<B, 3> {
        let [batch, q_len, heads, head_dim] = queries.dims();
        let KeyValue { k, v } = keys_values;
        let mixed = B::grouped_query_attention(primitive(queries), primitive(k), primitive(v), mask.into_primitive());
        let mixed = float::<B, 4>(mixed).reshape([batch, q_len, heads * head_dim]);
        project(&self.out_proj, mixed)
    }

    fn heads(&self, projection: &Linear<B>, x: Tensor<B, 3>) -> Tensor<B, 4> {
        let [batch, seq, _] = x.dims();
        let [head_dim] = self.q_norm.weight.dims();
        let projected = project(projection, x); // [batch, seq, heads * head_dim]
        let heads = projected.dims()[2] / head_dim;
        projected.reshape([batch, seq, heads, head_dim])
    }
}

fn rotated<B: FusedOps>(x: Tensor<B, 4>, rotation: Rotation<'_, B>) -> Tensor<B, 4> {
    match rotation {
        Some((rope, offset)) => rope.forward(x, offset),
        None => x,
    }
}

/// `x W` as one matrix product over all positions.
fn project<B: FusedOps>(linear: &Linear<B>, x: Tensor<B, 3>) -> Tensor<B, 3> {
    let [batch, seq, width] = x.dims();
    let weight = linear.weight.val(); // [in, out]
    let [_, out] = weight.dims();
    let rows = primitive(x.reshape([batch * seq, width]));
    float::<B, 2>(B::project(rows, primitive(weight))).reshape([batch, seq, out])
}

/// `x + sigmoid(gate) * branch`, each `[batch, seq, d_model]`; `gate [1]`.
pub(crate) fn gated_residual<B: FusedOps>(x: Tensor<B, 3>, branch: Tensor<B, 3>, gate: Tensor<B, 1>) -> Tensor<B, 3> {
    let shape = x.shape();
    let [batch, seq, width] = x.dims();
    let rows = |t: Tensor<B, 3>| primitive(t.reshape([batch * seq, width]));
    float::<B, 2>(B::gated_residual(rows(x), rows(branch), primitive(gate))).reshape(shape)
}
