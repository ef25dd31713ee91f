//! Muon: momentum whose update is orthogonalized by Newton-Schulz iterations (Jordan et al. 2024,
//! <https://kellerjordan.github.io/posts/muon/>).
//!
//! ```text
//! m <- momentum * m + g
//! u <- newton_schulz(g + momentum * m)
//! p <- p * (1 - lr * weight_decay) - lr * sqrt(max(1, out / in)) * u
//! ```
//!
//! `out` and `in` are the layer's widths, independent of the layout in memory (burn's own Muon
//! mistakes burn's `[in, out]` for `[out, in]`). The original Needle orthogonalizes before the
//! momentum and has no factor; we keep Muon's order.

use std::collections::BTreeMap;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorPrimitive};
use needle_model::FusedOps;

use super::Named;

/// Settings of Muon.
#[derive(Debug, Clone, PartialEq)]
pub struct MuonConfig {
    /// Momentum.
    pub momentum: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number of Newton-Schulz iterations.
    pub ns_steps: usize,
}

/// Approximates the nearest semi-orthogonal matrix to each of `x [batch, rows, columns]`.
pub fn newton_schulz<B: FusedOps>(x: Tensor<B, 3>, steps: usize) -> Tensor<B, 3> {
    let x = x.into_primitive().tensor();
    Tensor::from_primitive(TensorPrimitive::Float(B::newton_schulz(x, steps)))
}

/// Parameters and the directions to orthogonalize, by shape.
type ByShape<B> = BTreeMap<[usize; 2], Vec<(Named<B>, Tensor<B, 2>)>>;

/// The optimizer, with the momentum of each parameter by name.
#[derive(Debug, Clone)]
pub struct Muon<B: Backend> {
    config: MuonConfig,
    momenta: BTreeMap<String, Tensor<B, 1>>,
}

impl<B: FusedOps> Muon<B> {
    /// A new optimizer, without momentum buffers.
    pub fn new(config: MuonConfig) -> Self {
        Self { config, momenta: BTreeMap::new() }
    }

    /// New values of `[in, out]` matrices, given their gradients. Matrices of one shape are
    /// orthogonalized together.
    ///
    /// # Panics
    /// If a parameter is not a matrix; the groups rule that out.
    pub fn step(&mut self, params: Vec<(Named<B>, Tensor<B, 1>)>, lr: f64) -> BTreeMap<String, Tensor<B, 1>> {
        let momentum = self.config.momentum;
        let mut by_shape = ByShape::<B>::new();
        for (param, gradient) in params {
            let velocity = match self.momenta.remove(&param.name) {
                Some(before) => before * momentum + gradient.clone(),
                None => gradient.clone(),
            };
            self.momenta.insert(param.name.clone(), velocity.clone());
            assert!(param.shape.len() == 2, "{} is not a matrix", param.name);
            let shape = [param.shape[0], param.shape[1]];
            let direction = (gradient + velocity * momentum).reshape(shape);
            by_shape.entry(shape).or_default().push((param, direction));
        }
        let mut updated = BTreeMap::new();
        for ([inputs, outputs], members) in by_shape {
            let (params, directions): (Vec<_>, Vec<_>) = members.into_iter().unzip();
            let orthogonal = newton_schulz(Tensor::stack::<3>(directions, 0), self.config.ns_steps);
            let scale = (outputs as f64 / inputs as f64).max(1.0).sqrt();
            for (i, param) in params.into_iter().enumerate() {
                let update = orthogonal.clone().narrow(0, i, 1).reshape([-1]);
                let value = param.value * (1.0 - lr * self.config.weight_decay) - update * (lr * scale);
                updated.insert(param.name, value);
            }
        }
        updated
    }

    /// Momenta by parameter name.
    pub fn state(&self) -> BTreeMap<String, Tensor<B, 1>> {
        self.momenta.clone()
    }

    /// Restores momenta.
    pub fn load_state(&mut self, momenta: BTreeMap<String, Tensor<B, 1>>) {
        self.momenta = momenta;
    }
}
