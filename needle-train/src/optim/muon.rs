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

/// Parameters and their gradients, by shape.
type ByShape<B> = BTreeMap<[usize; 2], Vec<(Named<B>, Tensor<B, 1>)>>;

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

    /// New values of `[in, out]` matrices, given their gradients. Matrices of one shape are updated
    /// together.
    ///
    /// # Panics
    /// If a parameter is not a matrix; the groups rule that out.
    pub fn step(&mut self, params: Vec<(Named<B>, Tensor<B, 1>)>, lr: f64) -> BTreeMap<String, Tensor<B, 1>> {
        let mut by_shape = ByShape::<B>::new();
        for (param, gradient) in params {
            assert!(param.shape.len() == 2, "{} is not a matrix", param.name);
            by_shape.entry([param.shape[0], param.shape[1]]).or_default().push((param, gradient));
        }
        by_shape.into_iter().flat_map(|(shape, members)| self.update(shape, members, lr)).collect()
    }

    /// New values of `members`, all of one shape, as one tensor: a GPU would spend more time on
    /// starting the operations of each than on computing them.
    fn update(
        &mut self,
        [inputs, outputs]: [usize; 2],
        members: Vec<(Named<B>, Tensor<B, 1>)>,
        lr: f64,
    ) -> Vec<(String, Tensor<B, 1>)> {
        let (mut names, mut values, mut gradients, mut before) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (param, gradient) in members {
            before.push(self.momenta.remove(&param.name).unwrap_or_else(|| gradient.zeros_like()));
            gradients.push(gradient);
            values.push(param.value);
            names.push(param.name);
        }
        let [value, gradient, before] = [values, gradients, before].map(|list| Tensor::cat(list, 0));
        let velocity = before * self.config.momentum + gradient.clone(); // [members * inputs * outputs]
        let direction = gradient + velocity.clone() * self.config.momentum;
        let orthogonal = newton_schulz(direction.reshape([names.len(), inputs, outputs]), self.config.ns_steps);
        let scale = (outputs as f64 / inputs as f64).max(1.0).sqrt();
        let value = value * (1.0 - lr * self.config.weight_decay) - orthogonal.reshape([-1]) * (lr * scale);

        let length = inputs * outputs;
        let part = |all: &Tensor<B, 1>, i: usize| all.clone().narrow(0, i * length, length);
        let velocities = names.iter().enumerate().map(|(i, name)| (name.clone(), part(&velocity, i)));
        self.momenta.extend(velocities);
        names.into_iter().enumerate().map(|(i, name)| (name, part(&value, i))).collect()
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
