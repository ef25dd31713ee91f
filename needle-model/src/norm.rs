//! ZCRMSNorm: zero-centred RMSNorm. The gain is stored as its difference from 1: it starts at 0,
//! the identity, and weight decay pulls it back there.
//!
//! `(1 + g) * x / sqrt(mean(x^2) + eps)`, g initially 0 (burn's norms start their gain at 1).

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::ops::{FusedOps, float, primitive};

/// ZCRMSNorm over the last dimension.
#[derive(Module, Debug)]
pub struct ZcRmsNorm<B: Backend> {
    /// The gain minus 1, `[width]`.
    pub weight: Param<Tensor<B, 1>>,
    epsilon: f32,
}

impl<B: Backend> ZcRmsNorm<B> {
    /// A norm over `width` elements.
    pub fn new(width: usize, epsilon: f32, device: &B::Device) -> Self {
        Self::with_gain(1.0, width, epsilon, device)
    }

    /// A norm over `width` elements whose initial gain is `gain`.
    pub fn with_gain(gain: f64, width: usize, epsilon: f32, device: &B::Device) -> Self {
        Self { weight: Param::from_tensor(Tensor::full([width], gain - 1.0, device)), epsilon }
    }
}

impl<B: FusedOps> ZcRmsNorm<B> {
    /// Normalizes the last dimension: `[.., width] -> [.., width]`.
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let shape = x.shape();
        let [width] = self.weight.dims();
        let rows = x.reshape([-1, width as i32]); // [rows, width]
        let normed = B::zc_rms_norm(primitive(rows), primitive(self.weight.val()), self.epsilon);
        float::<B, 2>(normed).reshape(shape)
    }
}
