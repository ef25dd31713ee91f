//! Half-split rotary position embedding (Su et al., arXiv:2104.09864): element `i` of the first
//! half of a head is rotated together with element `i` of the second half, by the angle
//! `position * theta^(-2i / head_dim)`.

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::ops::{FusedOps, float, primitive};
use needle_runtime::config::SanConfig;

/// Cosines and sines of every position, `[positions, head_dim / 2]`.
#[derive(Module, Debug)]
pub struct Rope<B: Backend> {
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
}

impl<B: Backend> Rope<B> {
    /// Tables for the longest row that `config` allows.
    pub fn new(config: &SanConfig, device: &B::Device) -> Self {
        let (half, len) = (config.head_dim() / 2, config.max_len());
        let angle = |i: usize| {
            let (position, pair) = (i / half, i % half);
            let frequency = f64::from(config.rope_theta).powf(-((2 * pair) as f64) / config.head_dim() as f64);
            position as f64 * frequency
        };
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..len * half).map(|i| f(angle(i)) as f32).collect();
            Tensor::from_data(TensorData::new(values, [len, half]), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }
}

impl<B: FusedOps> Rope<B> {
    /// Rotates `x [batch, seq, heads, head_dim]`, whose first position is `offset`.
    ///
    /// # Panics
    /// If a position lies beyond the tables. Row lengths are limited to `max_enc_len` and
    /// `max_dec_len` where rows are built.
    pub fn forward(&self, x: Tensor<B, 4>, offset: usize) -> Tensor<B, 4> {
        let [_, seq, _, _] = x.dims();
        let [len, _] = self.cos.dims();
        assert!(offset + seq <= len, "position {} is beyond the model's {len} positions", offset + seq);
        float(B::rope(primitive(x), primitive(self.cos.clone()), primitive(self.sin.clone()), offset))
    }
}
