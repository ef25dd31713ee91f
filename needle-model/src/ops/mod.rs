//! The operations for which a hand-written kernel pays off, as an extension trait of burn's
//! backend.
//!
//! Every backend has them: the default bodies are the compositions of burn operations in
//! [`mod@reference`], which define each result. A backend overrides those for which it has a kernel
//! (`cpu` for burn-flex, `cube` for GPUs), and `autodiff` registers each as one operation whose
//! backward pass is the backend's own. No other module of this crate mentions a kernel.
//!
//! Shapes use the vocabulary of the crate's documentation.

mod autodiff;
mod cpu;
#[cfg(feature = "cube")]
mod cube;
pub mod reference;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, Int, Tensor, TensorPrimitive};

/// Which keys a query may see, as primitives; [`crate::mask::AttentionMask`] is the tensor form and
/// explains the rules.
#[derive(Debug, Clone)]
pub struct MaskPrimitive<B: Backend> {
    /// Segment of each query, `[batch, q_len]`; without them, every query may see every key that is
    /// not padding.
    pub query_segments: Option<IntTensor<B>>,
    /// Segment of each key, 0 for padding, `[batch, k_len]`.
    pub key_segments: Option<IntTensor<B>>,
    /// Whether a query sees only keys up to its own position.
    pub causal: bool,
}

/// The operations; the module's documentation explains how backends implement them. All tensors are
/// contiguous f32 unless a backend says otherwise.
pub trait FusedOps: Backend {
    /// ZCRMSNorm over the last dimension: `x [rows, width]`, `gain [width]` -> `[rows, width]`.
    fn zc_rms_norm(x: FloatTensor<Self>, gain: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        reference::zc_rms_norm::<Self>(float(x), float(gain), epsilon).into_primitive().tensor()
    }

    /// Gradients of [`FusedOps::zc_rms_norm`] with respect to `x` and `gain`.
    fn zc_rms_norm_backward(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (dx, dgain) = reference::zc_rms_norm_backward::<Self>(float(x), float(gain), float(grad), epsilon);
        (primitive(dx), primitive(dgain))
    }

    /// `scale * embedding[id]` for each id: `embedding [vocab, d_model]`, `ids [rows]` ->
    /// `[rows, d_model]` of type `dtype`.
    fn embed(embedding: FloatTensor<Self>, ids: IntTensor<Self>, scale: f32, dtype: DType) -> FloatTensor<Self> {
        primitive(reference::embed::<Self>(float(embedding), int(ids), scale, dtype))
    }

    /// Gradient of [`FusedOps::embed`] with respect to `embedding`, for `grad [rows, d_model]`. It
    /// has the shape and the type of `embedding`, whose values do not matter.
    fn embed_backward(
        embedding: FloatTensor<Self>,
        ids: IntTensor<Self>,
        grad: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        primitive(reference::embed_backward::<Self>(float(embedding), int(ids), float(grad), scale))
    }

    /// Half-split rotary embedding: `x [batch, seq, heads, head_dim]`, whose first position is
    /// `first`; `cos` and `sin` `[positions, head_dim / 2]`, which are f32 for every type of `x`.
    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, first: usize) -> FloatTensor<Self> {
        let x = float::<Self, 4>(x);
        let [_, seq, _, _] = x.dims();
        let [cos, sin] = [cos, sin].map(|table| float::<Self, 2>(table).narrow(0, first, seq));
        primitive(reference::rope::<Self>(x, cos, sin))
    }

    /// Gradient of [`FusedOps::rope`] with respect to `x`: the inverse rotation of `grad`.
    fn rope_backward(
        grad: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        first: usize,
    ) -> FloatTensor<Self> {
        Self::rope(grad, cos, Self::float_neg(sin), first)
    }

    /// Grouped-query attention: `q [batch, q_len, num_heads, head_dim]`, `k` and `v`
    /// `[batch, k_len, num_kv_heads, head_dim]` -> `[batch, q_len, num_heads, head_dim]`. Query
    /// head `h` reads key/value head `h / (num_heads / num_kv_heads)`. A query whose keys are all
    /// masked gives 0; a NaN among its visible scores gives NaN.
    fn grouped_query_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: MaskPrimitive<Self>,
    ) -> FloatTensor<Self> {
        primitive(reference::attention::<Self>(float(q), float(k), float(v), &mask))
    }

    /// Gradients of [`FusedOps::grouped_query_attention`] with respect to `q`, `k` and `v`; `out`
    /// is its result.
    fn grouped_query_attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: MaskPrimitive<Self>,
        out: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        let grads =
            reference::attention_backward::<Self>([float(q), float(k), float(v)], &mask, float(out), float(grad));
        grads.map(primitive)
    }

    /// Logarithm of the attention that each query gives to one key, as the mean over the heads, in
    /// f32: `q` and `k` as in [`FusedOps::grouped_query_attention`], `origins [batch, q_len]` the
    /// key's position -> `[batch, q_len]`. Where the key is masked it is undefined, but finite.
    fn attention_log_weight(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        origins: IntTensor<Self>,
        mask: MaskPrimitive<Self>,
    ) -> FloatTensor<Self> {
        primitive(reference::attention_log_weight::<Self>(float(q), float(k), int(origins), &mask))
    }

    /// Gradients of [`FusedOps::attention_log_weight`] with respect to `q` and `k`, for
    /// `grad [batch, q_len]`, which is 0 where the key is masked.
    fn attention_log_weight_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        origins: IntTensor<Self>,
        mask: MaskPrimitive<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        let inputs = [float(q), float(k)];
        reference::attention_log_weight_backward::<Self>(inputs, int(origins), &mask, float(grad)).map(primitive)
    }

    /// `x weight`: `x [rows, in]`, `weight [in, out]` -> `[rows, out]`.
    fn project(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(x, weight)
    }

    /// Gradient of [`FusedOps::project`] with respect to `weight`, `x^T grad`: the sum over many
    /// rows of a small matrix, `grad [rows, out]` -> `[in, out]`.
    fn project_weight_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(Self::float_transpose(x), grad)
    }

    /// Zeroes elements of `x [elements]` and scales those that are kept by `1 / keep`; see
    /// [`reference::is_kept`]. The backward pass is the same on the gradient.
    fn dropout(x: FloatTensor<Self>, keep: f32, seed: u64) -> FloatTensor<Self> {
        primitive(reference::dropout::<Self>(float(x), keep, seed))
    }

    /// `x + sigmoid(gate) * branch`: `x` and `branch` `[rows, width]`, `gate [1]`.
    fn gated_residual(x: FloatTensor<Self>, branch: FloatTensor<Self>, gate: FloatTensor<Self>) -> FloatTensor<Self> {
        primitive(reference::gated_residual::<Self>(float(x), float(branch), float(gate)))
    }

    /// Gradients of [`FusedOps::gated_residual`] with respect to `branch` and `gate`; that of `x`
    /// is `grad` itself.
    fn gated_residual_backward(
        branch: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (dbranch, dgate) = reference::gated_residual_backward::<Self>(float(branch), float(gate), float(grad));
        (primitive(dbranch), primitive(dgate))
    }

    /// Negative log-likelihood and log-sum-exp of each row under the tied output:
    /// `hidden [rows, d_model]`, `embedding [vocab, d_model]`, `targets [rows]` -> `[rows, 2]`. A
    /// backend need not hold all logits at once.
    fn tied_cross_entropy(
        hidden: FloatTensor<Self>,
        embedding: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        primitive(reference::tied_cross_entropy::<Self>(float(hidden), float(embedding), int(targets)))
    }

    /// Gradients of [`FusedOps::tied_cross_entropy`] with respect to `hidden` and `embedding`;
    /// `grad [rows, 2]`.
    fn tied_cross_entropy_backward(
        hidden: FloatTensor<Self>,
        embedding: FloatTensor<Self>,
        targets: IntTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (dhidden, dembedding) =
            reference::tied_cross_entropy_backward::<Self>(float(hidden), float(embedding), int(targets), float(grad));
        (primitive(dhidden), primitive(dembedding))
    }

    /// Muon's orthogonalization: approximately the nearest semi-orthogonal matrix to each of
    /// `x [batch, rows, columns]`. It has no backward pass, since optimizers call it outside the
    /// autodiff graph.
    fn newton_schulz(x: FloatTensor<Self>, steps: usize) -> FloatTensor<Self> {
        primitive(reference::newton_schulz::<Self>(float(x), steps))
    }
}

/// A primitive as a tensor of rank `D`.
pub(crate) fn float<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// An integer primitive as a tensor of rank `D`.
pub(crate) fn int<B: Backend, const D: usize>(primitive: IntTensor<B>) -> Tensor<B, D, Int> {
    Tensor::from_primitive(primitive)
}

/// A tensor as its primitive.
pub(crate) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}
