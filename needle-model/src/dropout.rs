//! Dropout whose masks come from a seed that the caller gives, so that a resumed step drops what the first try dropped.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use needle_data::augment::stream;
use rand::RngExt;

/// Zeroes elements at random and scales the others up, or does nothing. A copy drops what the original would have dropped.
#[derive(Debug, Clone)]
pub struct Dropout {
    probability: f64,
    seed: u64,
    /// Masks drawn so far; each comes from a stream of its own.
    masks: u64,
}

impl Dropout {
    /// No dropout: evaluation and pretraining.
    pub fn none() -> Self {
        Self::new(0.0, 0)
    }

    /// Drops each element with `probability`, as `seed` says.
    pub fn new(probability: f64, seed: u64) -> Self {
        Self { probability, seed, masks: 0 }
    }

    /// Applies it to `x`.
    pub fn forward<B: Backend, const D: usize>(&mut self, x: Tensor<B, D>) -> Tensor<B, D> {
        if self.probability <= 0.0 {
            return x;
        }
        let mut rng = stream(self.seed, &[self.masks]);
        self.masks += 1;
        let keep = 1.0 - self.probability;
        let scale = (1.0 / keep) as f32;
        let shape = x.shape();
        let mask: Vec<f32> =
            (0..shape.num_elements()).map(|_| if rng.random_bool(keep) { scale } else { 0.0 }).collect();
        let mask = Tensor::from_data(TensorData::new(mask, shape), &x.device());
        x * mask
    }
}
