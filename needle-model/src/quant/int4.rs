//! Group quantization. Training, evaluation and export all get their codes and scales from
//! [`quantize`].
//!
//! Groups of 32 lie along the input dimension, each with its own scale for every output:
//! `scale = max(|w|) / 7` (at least 1e-8), `code = clamp(round_half_even(w / scale), -8, 7)`; INT8
//! uses 127 and -128..127. The original is needle/model/quantize.py. We differ in the division: XLA
//! multiplies by a rounded reciprocal, we divide as IEEE 754 specifies, so a weight exactly between
//! two codes may get the other one.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

pub use needle_runtime::file::quantize::{GROUP_SIZE, MIN_SCALE, group_size};

/// Width of the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bits {
    /// -8..=7, scaled so that the largest absolute weight gets 7 or -7.
    Int4,
    /// -128..=127, scaled so that the largest absolute weight gets 127 or -127.
    Int8,
}

impl Bits {
    fn largest(self) -> f32 {
        match self {
            Self::Int4 => 7.0,
            Self::Int8 => 127.0,
        }
    }
}

/// A quantized matrix.
#[derive(Debug, Clone)]
pub struct Quantized<B: Backend> {
    /// Integers, stored as floats, `[in, out]`.
    pub codes: Tensor<B, 2>,
    /// `[groups, out]`; the last group may be incomplete.
    pub scales: Tensor<B, 2>,
}

/// Codes and scales of `weight [in, out]`.
pub fn quantize<B: Backend>(weight: Tensor<B, 2>, bits: Bits) -> Quantized<B> {
    let [inputs, outputs] = weight.dims();
    let group = group_size(inputs);
    let groups = inputs.div_ceil(group);
    let missing = groups * group - inputs;
    let padded = if missing == 0 {
        weight.clone()
    } else {
        Tensor::cat(vec![weight.clone(), Tensor::zeros([missing, outputs], &weight.device())], 0)
    };
    let largest = padded.abs().reshape([groups, group, outputs]).max_dim(1).squeeze_dim::<2>(1); // [groups, out]
    let scales = (largest / bits.largest()).clamp_min(MIN_SCALE);
    let codes = (weight / per_weight(scales.clone(), inputs)).round().clamp(-bits.largest() - 1.0, bits.largest());
    Quantized { codes, scales }
}

impl<B: Backend> Quantized<B> {
    /// The same codes with scales rounded to f16, as exported artifacts store them.
    pub fn with_f16_scales(self) -> Self {
        let (shape, device) = (self.scales.shape(), self.scales.device());
        // Scales beyond f16 are clamped to stay finite: weights of that size are broken, but must
        // not become NaN.
        let round = |scale: f32| half::f16::from_f32(scale).to_f32().min(half::f16::MAX.to_f32());
        let scales: Vec<f32> = self.scales.into_data().iter::<f32>().map(round).collect();
        Self { codes: self.codes, scales: Tensor::from_data(TensorData::new(scales, shape), &device) }
    }

    /// The weights that the codes stand for, `[in, out]`.
    pub fn dequantize(self) -> Tensor<B, 2> {
        let [inputs, _] = self.codes.dims();
        self.codes * per_weight(self.scales, inputs)
    }
}

/// The scale of each weight: `[groups, out] -> [inputs, out]`.
fn per_weight<B: Backend>(scales: Tensor<B, 2>, inputs: usize) -> Tensor<B, 2> {
    let [groups, outputs] = scales.dims();
    let group = group_size(inputs);
    scales
        .unsqueeze_dim::<3>(1)
        .expand([groups, group, outputs])
        .reshape([groups * group, outputs])
        .narrow(0, 0, inputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    fn codes(weights: Vec<f32>, shape: [usize; 2]) -> (Vec<f32>, Vec<f32>) {
        let weight = Tensor::<Flex, 2>::from_data(TensorData::new(weights, shape), &Default::default());
        let quantized = quantize(weight, Bits::Int4);
        (quantized.codes.into_data().to_vec().unwrap(), quantized.scales.into_data().to_vec().unwrap())
    }

    #[test]
    fn ties_go_to_the_even_code() {
        let (codes, scales) = codes(vec![7.0, 0.5, 1.5, -2.5, -3.5, -7.0], [6, 1]);
        assert_eq!((codes, scales), (vec![7.0, 0.0, 2.0, -2.0, -4.0, -7.0], vec![1.0]));
    }

    #[test]
    fn zeros_have_the_least_scale_and_a_short_group_its_own() {
        let mut weights = vec![0.0; 33];
        weights[32] = 14.0;
        let (codes, scales) = codes(weights, [33, 1]);
        assert_eq!(scales, [MIN_SCALE, 2.0]);
        assert_eq!(codes[32], 7.0);
        assert!(codes[..32].iter().all(|&c| c == 0.0));
    }
}
