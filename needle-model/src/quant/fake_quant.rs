//! Fake quantization: a model that computes what its quantized form will compute.
//!
//! In training, the forward pass uses the quantized weights, and the gradient passes through the
//! rounding unchanged (the straight-through estimator, Bengio et al., arXiv:1308.3432). For
//! evaluation, the weights are simply replaced.

use burn::tensor::backend::Backend;
use burn::tensor::{FloatDType, Tensor};
pub use needle_runtime::Precision;

use crate::params::{self, EMBEDDING, ParamInfo, ParamMapper};
use crate::quant::int4::{Bits, quantize};
use crate::san::San;

/// `model` for mixed precision: its matrices, gains and gates are rounded to bf16, so that
/// activations and matrix products are bf16, too, while the weights that are trained stay f32
/// (Micikevicius et al., arXiv:1710.03740; bf16 needs no loss scaling). Norms, softmax, losses and
/// the retrieval head are computed in f32. The embedding stays f32 and is rounded where it is read:
/// the gradient of a frequent token is a sum of many small terms, for which bf16 is too imprecise.
pub fn in_bf16<B: Backend>(model: San<B>) -> San<B> {
    struct Cast;
    impl<B: Backend> ParamMapper<B> for Cast {
        fn map<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) -> Tensor<B, D> {
            let stays = info.name.starts_with("retrieval_head.") || info.name == EMBEDDING;
            if stays { tensor } else { tensor.cast(FloatDType::BF16) }
        }
    }
    params::map(model, &mut Cast)
}

/// Replaces the tensors that `quantizes` chooses by their dequantized codes, with straight-through
/// gradients.
struct FakeQuantize<F> {
    bits: Bits,
    has_f16_scales: bool,
    quantizes: F,
}

impl<B: Backend, F: Fn(&ParamInfo) -> bool> ParamMapper<B> for FakeQuantize<F> {
    fn map<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) -> Tensor<B, D> {
        if !(self.quantizes)(&info) {
            return tensor;
        }
        let shape = tensor.shape();
        let outputs = info.shape.last().copied().unwrap_or(1);
        let matrix: Tensor<B, 2> = tensor.clone().detach().reshape([-1, outputs as i32]);
        // The embedding's groups lie along d_model: a lookup reads whole rows, and logits are sums
        // over d_model.
        let is_embedding = info.name == EMBEDDING;
        let matrix = if is_embedding { matrix.transpose() } else { matrix };
        let quantized = quantize(matrix, self.bits);
        let quantized = if self.has_f16_scales { quantized.with_f16_scales() } else { quantized };
        let rounded = quantized.dequantize();
        let rounded = if is_embedding { rounded.transpose() } else { rounded };
        // The first difference is exactly 0, so the value is exactly the rounded one; its gradient
        // is 1.
        tensor.clone() - tensor.detach() + rounded.reshape(shape)
    }
}

/// `model` with the parameters that `quantizes` chooses fake-quantized; gradients reach the
/// original weights.
pub fn fake_quantize<B: Backend>(model: San<B>, bits: Bits, quantizes: impl Fn(&ParamInfo) -> bool) -> San<B> {
    params::map(model, &mut FakeQuantize { bits, has_f16_scales: false, quantizes })
}

struct RoundToBf16<F>(F);

impl<B: Backend, F: Fn(&ParamInfo) -> bool> ParamMapper<B> for RoundToBf16<F> {
    fn map<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) -> Tensor<B, D> {
        if !(self.0)(&info) {
            return tensor;
        }
        let (device, shape) = (tensor.device(), tensor.shape());
        let mut values: Vec<f32> = tensor.into_data().convert::<f32>().iter::<f32>().collect();
        for value in &mut values {
            *value = half::bf16::from_f32(*value).to_f32();
        }
        Tensor::from_data(burn::tensor::TensorData::new(values, shape), &device)
    }
}

/// `model` with the parameters that `rounds` chooses rounded to bf16.
pub fn round_to_bf16<B: Backend>(model: San<B>, rounds: impl Fn(&ParamInfo) -> bool) -> San<B> {
    params::map(model, &mut RoundToBf16(rounds))
}

/// `model` with its weights as exported artifacts store them: INT4 codes with f16 scales,
/// dequantized.
fn as_stored<B: Backend>(model: San<B>, quantizes: impl Fn(&ParamInfo) -> bool) -> San<B> {
    params::map(model, &mut FakeQuantize { bits: Bits::Int4, has_f16_scales: true, quantizes })
}

/// `model` with its weights rounded as `precision` demands.
pub fn at_precision<B: Backend>(model: San<B>, precision: Precision) -> San<B> {
    match precision {
        Precision::F32 => model,
        Precision::Int4 => round_to_bf16(as_stored(model, ParamInfo::is_attention_matrix), |p| p.name == EMBEDDING),
        Precision::Int4Embedding => as_stored(model, |p| p.is_attention_matrix() || p.name == EMBEDDING),
    }
}
