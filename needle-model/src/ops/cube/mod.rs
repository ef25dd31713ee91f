//! Kernels for GPUs, in CubeCL: one source for CUDA, Vulkan and Metal.

mod attention;
mod cross_entropy;
mod dropout;
mod embedding;
mod gate;
mod launch;
mod norm;
mod products;
mod rope;
mod tile;
mod weight_gradient;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, FloatDType, Shape, Tensor};
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::{FusedOps, MaskPrimitive, float, primitive, reference};
use tile::Tiling;

impl<R, F, I, BT> FusedOps for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
    Self: Backend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>>,
{
    fn zc_rms_norm(x: FloatTensor<Self>, gain: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        norm::forward(x, gain, epsilon)
    }

    fn zc_rms_norm_backward(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let gain_dtype = gain.dtype;
        let (dx, parts) = norm::backward(x, gain, grad, epsilon);
        // Sums over the rows of each cube, [parts, width].
        let dgain: Tensor<Self, 1> = float::<Self, 2>(parts).sum_dim(0).squeeze_dim(0);
        (dx, cast(primitive(dgain), gain_dtype))
    }

    fn embed(embedding: FloatTensor<Self>, ids: IntTensor<Self>, scale: f32, dtype: DType) -> FloatTensor<Self> {
        embedding::lookup(embedding, ids, scale, dtype)
    }

    fn embed_backward(
        embedding: FloatTensor<Self>,
        ids: IntTensor<Self>,
        grad: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        embedding::lookup_backward(&embedding, ids, grad, scale)
    }

    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, first: usize) -> FloatTensor<Self> {
        rope::rotate(x, cos, sin, first, false)
    }

    fn rope_backward(
        grad: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        first: usize,
    ) -> FloatTensor<Self> {
        rope::rotate(grad, cos, sin, first, true)
    }

    fn grouped_query_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: MaskPrimitive<Self>,
    ) -> FloatTensor<Self> {
        match Tiling::new(&q) {
            Some(tiling) => attention::forward(tiling, [q, k, v], mask.query_segments, mask.key_segments, mask.causal),
            None => primitive(reference::attention::<Self>(float(q), float(k), float(v), &mask)),
        }
    }

    fn grouped_query_attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: MaskPrimitive<Self>,
        out: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        let Some(tiling) = Tiling::new(&q) else {
            let inputs = [float(q), float(k), float(v)];
            return reference::attention_backward::<Self>(inputs, &mask, float(out), float(grad)).map(primitive);
        };
        attention::backward(tiling, [q, k, v], mask.query_segments, mask.key_segments, mask.causal, [out, grad])
    }

    fn project_weight_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = x.dtype;
        let parts = weight_gradient::parts(&x, &grad);
        let [x, grad] = [x, grad].map(float::<Self, 2>);
        let ([rows, inputs], [_, outputs]) = (x.dims(), grad.dims());
        let x = x.reshape([parts, rows / parts, inputs]).swap_dims(1, 2);
        let products = x.matmul(grad.reshape([parts, rows / parts, outputs])); // [parts, inputs, outputs]
        if parts == 1 {
            return primitive(products.squeeze_dim::<2>(0));
        }
        let sum = products.cast(FloatDType::F32).sum_dim(0).squeeze_dim::<2>(0);
        cast(primitive(sum), dtype)
    }

    fn dropout(x: FloatTensor<Self>, keep: f32, seed: u64) -> FloatTensor<Self> {
        dropout::dropout(x, keep, seed)
    }

    fn gated_residual(x: FloatTensor<Self>, branch: FloatTensor<Self>, gate: FloatTensor<Self>) -> FloatTensor<Self> {
        gate::forward(x, branch, gate)
    }

    fn gated_residual_backward(
        branch: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        gate::backward(branch, gate, grad)
    }

    fn tied_cross_entropy(
        hidden: FloatTensor<Self>,
        embedding: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let rows = hidden.meta.shape()[0];
        let targets = into_contiguous(targets);
        let losses = empty(&hidden, Shape::new([rows, 2]), DType::F32);
        let chunks = cross_entropy::chunks(&embedding, rows);
        let (hidden, embedding) = (float::<Self, 2>(hidden), float::<Self, 2>(embedding));
        for (begin, length) in chunks {
            let hidden = hidden.clone().narrow(0, begin, length);
            let logits = hidden.matmul(embedding.clone().transpose()); // [length, vocab]
            cross_entropy::losses(primitive(logits), &targets, &losses, begin);
        }
        losses
    }

    fn tied_cross_entropy_backward(
        hidden: FloatTensor<Self>,
        embedding: FloatTensor<Self>,
        targets: IntTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (targets, grad) = (into_contiguous(targets), into_contiguous(cast(grad, DType::F32)));
        let chunks = cross_entropy::chunks(&embedding, hidden.meta.shape()[0]);
        let (hidden, embedding) = (float::<Self, 2>(hidden), float::<Self, 2>(embedding));
        let mut of_hidden = Vec::new();
        let mut of_embedding: Option<Tensor<Self, 2>> = None;
        for (begin, length) in chunks {
            let hidden = hidden.clone().narrow(0, begin, length);
            let logits = hidden.clone().matmul(embedding.clone().transpose()); // [length, vocab]
            let dlogits = cross_entropy::gradient(primitive(logits), &targets, &grad, begin);
            let dlogits = float::<Self, 2>(dlogits);
            of_hidden.push(dlogits.clone().matmul(embedding.clone()));
            // The sum over chunks is f32, whatever the type of the chunks.
            let dembedding = dlogits.transpose().matmul(hidden).cast(FloatDType::F32);
            of_embedding = Some(match of_embedding {
                Some(sum) => sum + dembedding,
                None => dembedding,
            });
        }
        let dtype = embedding.dtype();
        let of_embedding = of_embedding.unwrap_or_else(|| embedding.zeros_like());
        (primitive(Tensor::cat(of_hidden, 0)), cast(primitive(of_embedding), dtype))
    }

    fn newton_schulz(x: FloatTensor<Self>, steps: usize) -> FloatTensor<Self> {
        let x = float::<Self, 3>(x);
        // The iteration is designed to run in bf16; a device without bf16 uses f32.
        if !Self::supports_dtype(&x.device(), DType::BF16) {
            return primitive(reference::newton_schulz(x, steps));
        }
        let [_, rows, columns] = x.dims();
        let is_tall = rows > columns;
        // The norm is a sum of many small squares, for which bf16 is too imprecise.
        let norm = (x.clone() * x.clone()).sum_dim(2).sum_dim(1).sqrt() + reference::NEWTON_SCHULZ_EPSILON; // [batch, 1, 1]
        let x = (x / norm).cast(FloatDType::BF16);
        let x = if is_tall { x.swap_dims(1, 2) } else { x };
        let x = reference::newton_schulz_iterations(x, steps).cast(FloatDType::F32);
        primitive(if is_tall { x.swap_dims(1, 2) } else { x })
    }
}

/// A tensor for a kernel to write, on the device of `like`, without gaps between its rows. The
/// usual allocation on CUDA aligns rows (192 numbers of f32 have a stride of 256), but the kernels
/// here address rows by their width.
fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: Shape, dtype: DType) -> CubeTensor<R> {
    let tensor = empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype);
    debug_assert!(tensor.is_contiguous(), "{:?}", tensor.meta);
    tensor
}
