//! Each fused operation as one node of burn's autodiff graph.
//!
//! The forward pass runs on the inner backend and keeps its inputs; the backward pass hands them to
//! the inner backend's own backward function.

use burn::tensor::DType;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use super::{FusedOps, MaskPrimitive};

/// Registers the gradient of each parent that requires one.
macro_rules! register {
    ($grads:ident, $backend:ty, $parents:expr, $gradients:expr) => {
        for (parent, gradient) in $parents.into_iter().zip($gradients) {
            if let Some(node) = parent {
                $grads.register::<$backend>(node.id, gradient);
            }
        }
    };
}

/// Registers `$op` with its parents and state; `$forward` computes the output.
macro_rules! tracked {
    ($op:expr, $strategy:ty, [$($parent:ident),+], $state:expr, $forward:expr) => {
        match $op.prepare::<$strategy>([$($parent.node.clone()),+]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = $forward;
                #[allow(clippy::redundant_closure_call)]
                let state = $state(&output);
                prep.finish(state, output)
            }
            OpsKind::UnTracked(prep) => prep.finish($forward),
        }
    };
}

#[derive(Debug)]
struct NormBackward;

impl<B: FusedOps> Backward<B, 2> for NormBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, gain, epsilon) = ops.state;
        let (dx, dgain) = B::zc_rms_norm_backward(x, gain, grad, epsilon);
        register!(grads, B, ops.parents, [dx, dgain]);
    }
}

#[derive(Debug)]
struct EmbedBackward;

impl<B: FusedOps> Backward<B, 1> for EmbedBackward {
    type State = (FloatTensor<B>, IntTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (embedding, ids, scale) = ops.state;
        register!(grads, B, ops.parents, [B::embed_backward(embedding, ids, grad, scale)]);
    }
}

#[derive(Debug)]
struct RopeBackward;

impl<B: FusedOps> Backward<B, 1> for RopeBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (cos, sin, first) = ops.state;
        register!(grads, B, ops.parents, [B::rope_backward(grad, cos, sin, first)]);
    }
}

#[derive(Debug)]
struct DropoutBackward;

impl<B: FusedOps> Backward<B, 1> for DropoutBackward {
    type State = (f32, u64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (keep, seed) = ops.state;
        register!(grads, B, ops.parents, [B::dropout(grad, keep, seed)]);
    }
}

#[derive(Debug)]
struct AttentionBackward;

impl<B: FusedOps> Backward<B, 3> for AttentionBackward {
    type State = ([FloatTensor<B>; 4], MaskPrimitive<B>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([q, k, v, out], mask) = ops.state;
        register!(grads, B, ops.parents, B::grouped_query_attention_backward(q, k, v, mask, out, grad));
    }
}

#[derive(Debug)]
struct AttentionLogWeightBackward;

impl<B: FusedOps> Backward<B, 2> for AttentionLogWeightBackward {
    type State = ([FloatTensor<B>; 2], IntTensor<B>, MaskPrimitive<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([q, k], origins, mask) = ops.state;
        register!(grads, B, ops.parents, B::attention_log_weight_backward(q, k, origins, mask, grad));
    }
}

#[derive(Debug)]
struct ProjectBackward;

impl<B: FusedOps> Backward<B, 2> for ProjectBackward {
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [x, weight] = ops.state;
        let [x_node, weight_node] = ops.parents;
        // Each is a large product: none is computed that nobody asks for.
        if let Some(node) = weight_node {
            grads.register::<B>(node.id, B::project_weight_backward(x, grad.clone()));
        }
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::float_matmul(grad, B::float_transpose(weight)));
        }
    }
}

#[derive(Debug)]
struct GatedResidualBackward;

impl<B: FusedOps> Backward<B, 3> for GatedResidualBackward {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (branch, gate) = ops.state;
        let (dbranch, dgate) = B::gated_residual_backward(branch, gate, grad.clone());
        register!(grads, B, ops.parents, [grad, dbranch, dgate]);
    }
}

#[derive(Debug)]
struct TiedCrossEntropyBackward;

impl<B: FusedOps> Backward<B, 2> for TiedCrossEntropyBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, IntTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (hidden, embedding, targets) = ops.state;
        let (dhidden, dembedding) = B::tied_cross_entropy_backward(hidden, embedding, targets, grad);
        register!(grads, B, ops.parents, [dhidden, dembedding]);
    }
}

/// The mask on the inner backend.
fn inner<B: FusedOps, C: CheckpointStrategy>(mask: MaskPrimitive<Autodiff<B, C>>) -> MaskPrimitive<B> {
    let MaskPrimitive { query_segments, key_segments, causal } = mask;
    MaskPrimitive { query_segments, key_segments, causal }
}

impl<B: FusedOps, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn zc_rms_norm(x: FloatTensor<Self>, gain: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let inputs = (x.primitive.clone(), gain.primitive.clone());
        tracked!(
            NormBackward,
            C,
            [x, gain],
            |_: &_| (inputs.0, inputs.1, epsilon),
            B::zc_rms_norm(x.primitive, gain.primitive, epsilon)
        )
    }

    fn embed(embedding: FloatTensor<Self>, ids: IntTensor<Self>, scale: f32, dtype: DType) -> FloatTensor<Self> {
        let inputs = (embedding.primitive.clone(), ids.clone());
        tracked!(
            EmbedBackward,
            C,
            [embedding],
            |_: &_| (inputs.0, inputs.1, scale),
            B::embed(embedding.primitive, ids, scale, dtype)
        )
    }

    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, first: usize) -> FloatTensor<Self> {
        let (cos, sin) = (cos.primitive, sin.primitive);
        tracked!(
            RopeBackward,
            C,
            [x],
            |_: &_| (cos.clone(), sin.clone(), first),
            B::rope(x.primitive, cos.clone(), sin.clone(), first)
        )
    }

    fn dropout(x: FloatTensor<Self>, keep: f32, seed: u64) -> FloatTensor<Self> {
        tracked!(DropoutBackward, C, [x], |_: &_| (keep, seed), B::dropout(x.primitive, keep, seed))
    }

    fn grouped_query_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: MaskPrimitive<Self>,
    ) -> FloatTensor<Self> {
        let mask = inner(mask);
        let inputs = [&q, &k, &v].map(|t| t.primitive.clone());
        tracked!(
            AttentionBackward,
            C,
            [q, k, v],
            |out: &FloatTensor<B>| {
                let [q, k, v] = inputs;
                ([q, k, v, out.clone()], mask.clone())
            },
            B::grouped_query_attention(q.primitive, k.primitive, v.primitive, mask.clone())
        )
    }

    fn attention_log_weight(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        origins: IntTensor<Self>,
        mask: MaskPrimitive<Self>,
    ) -> FloatTensor<Self> {
        let mask = inner(mask);
        let inputs = [&q, &k].map(|t| t.primitive.clone());
        tracked!(
            AttentionLogWeightBackward,
            C,
            [q, k],
            |_: &_| (inputs, origins.clone(), mask.clone()),
            B::attention_log_weight(q.primitive, k.primitive, origins.clone(), mask.clone())
        )
    }

    fn project(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let inputs = [&x, &weight].map(|t| t.primitive.clone());
        tracked!(ProjectBackward, C, [x, weight], |_: &_| inputs, B::project(x.primitive, weight.primitive))
    }

    fn gated_residual(x: FloatTensor<Self>, branch: FloatTensor<Self>, gate: FloatTensor<Self>) -> FloatTensor<Self> {
        let inputs = (branch.primitive.clone(), gate.primitive.clone());
        tracked!(
            GatedResidualBackward,
            C,
            [x, branch, gate],
            |_: &_| inputs,
            B::gated_residual(x.primitive, branch.primitive, gate.primitive)
        )
    }

    fn tied_cross_entropy(
        hidden: FloatTensor<Self>,
        embedding: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let inputs = (hidden.primitive.clone(), embedding.primitive.clone(), targets.clone());
        tracked!(
            TiedCrossEntropyBackward,
            C,
            [hidden, embedding],
            |_: &_| inputs,
            B::tied_cross_entropy(hidden.primitive, embedding.primitive, targets)
        )
    }
}
