//! Dropout whose masks come from a seed that the caller gives, so that a resumed step drops what the first try dropped.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// Zeroes elements at random and scales the others up, or does nothing.
#[derive(Debug)]
pub struct Dropout {
    probability: f64,
    rng: Option<ChaCha8Rng>,
}

impl Dropout {
    /// No dropout: evaluation and pretraining.
    pub fn none() -> Self {
        Self { probability: 0.0, rng: None }
    }

    /// Drops each element with `probability`, by the stream `rng`.
    pub fn new(probability: f64, rng: ChaCha8Rng) -> Self {
        Self { probability, rng: (probability > 0.0).then_some(rng) }
    }

    /// Applies it to `x`.
    pub fn forward<B: Backend, const D: usize>(&mut self, x: Tensor<B, D>) -> Tensor<B, D> {
        let Some(rng) = &mut self.rng else { return x };
        let keep = 1.0 - self.probability;
        let scale = (1.0 / keep) as f32;
        let shape = x.shape();
        let mask: Vec<f32> =
            (0..shape.num_elements()).map(|_| if rng.random_bool(keep) { scale } else { 0.0 }).collect();
        let mask = Tensor::from_data(TensorData::new(mask, shape), &x.device());
        x * mask
    }
}
