//! Dropout with a seed that the caller gives, so that a resumed step draws the same masks as the
//! first attempt, on every device.

use burn::tensor::Tensor;
use needle_data::random::{Purpose, rng};
use rand::RngExt;

use crate::ops::{FusedOps, float, primitive};

/// Zeroes elements at random and scales the others up, or does nothing if the probability is 0. A
/// clone draws the same masks as the original.
#[derive(Debug, Clone)]
pub struct Dropout {
    probability: f64,
    seed: u64,
    /// Masks drawn so far; each has a seed of its own.
    masks: u64,
}

impl Dropout {
    /// No dropout: evaluation and pretraining.
    pub fn none() -> Self {
        Self::new(0.0, 0)
    }

    /// Drops each element with `probability`; `seed` determines the masks.
    pub fn new(probability: f64, seed: u64) -> Self {
        Self { probability, seed, masks: 0 }
    }

    /// Applies dropout to `x`, with a new mask at each call.
    pub fn forward<B: FusedOps, const D: usize>(&mut self, x: Tensor<B, D>) -> Tensor<B, D> {
        if self.probability <= 0.0 {
            return x;
        }
        let seed = rng(self.seed, Purpose::DropoutMask, &[self.masks]).random();
        self.masks += 1;
        let shape = x.shape();
        let flat: Tensor<B, 1> = x.reshape([-1]);
        float::<B, 1>(B::dropout(primitive(flat), (1.0 - self.probability) as f32, seed)).reshape(shape)
    }
}
