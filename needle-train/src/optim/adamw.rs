//! AdamW (Loshchilov and Hutter, arXiv:1711.05101) without decay, over all its parameters as one vector.
//!
//! ```text
//! m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
//! p <- p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
//! ```
//!
//! Norm gains and gates are many and small: one vector takes as many operations as one of them would.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::Named;

/// Settings of AdamW.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator, outside the root.
    pub epsilon: f64,
}

/// First and second moments of each parameter, by name.
#[derive(Debug, Clone)]
pub struct AdamW<B: Backend> {
    config: AdamWConfig,
    moments: BTreeMap<String, [Tensor<B, 1>; 2]>,
    steps: usize,
}

impl<B: Backend> AdamW<B> {
    /// Without memory.
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, moments: BTreeMap::new(), steps: 0 }
    }

    /// New values of parameters, given their gradients.
    ///
    /// A parameter without a gradient this time (the retrieval head between its steps) keeps its moments as they are; the
    /// bias correction counts every step.
    pub fn step(&mut self, params: Vec<(Named<B>, Tensor<B, 1>)>, lr: f64) -> BTreeMap<String, Tensor<B, 1>> {
        self.steps += 1;
        if params.is_empty() {
            return BTreeMap::new();
        }
        let AdamWConfig { beta1, beta2, epsilon } = self.config;
        let (mut names, mut lengths) = (Vec::new(), Vec::new());
        let (mut values, mut gradients, mut firsts, mut seconds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (param, gradient) in params {
            let [length] = gradient.dims();
            let zeros = || Tensor::zeros([length], &gradient.device());
            let [first, second] = self.moments.remove(&param.name).unwrap_or_else(|| [zeros(), zeros()]);
            names.push(param.name);
            lengths.push(length);
            values.push(param.value);
            gradients.push(gradient);
            firsts.push(first);
            seconds.push(second);
        }
        let [value, gradient, first, second] = [values, gradients, firsts, seconds].map(|list| Tensor::cat(list, 0));
        let first = first * beta1 + gradient.clone() * (1.0 - beta1);
        let second = second * beta2 + gradient.clone() * gradient * (1.0 - beta2);
        let correction = |beta: f64| 1.0 - beta.powi(self.steps as i32);
        let denominator = (second.clone() / correction(beta2)).sqrt() + epsilon;
        let value = value - (first.clone() / correction(beta1)) / denominator * lr;

        let mut updated = BTreeMap::new();
        let mut start = 0;
        for (name, length) in names.into_iter().zip(lengths) {
            let part = |all: &Tensor<B, 1>| all.clone().narrow(0, start, length);
            updated.insert(name.clone(), part(&value));
            self.moments.insert(name, [part(&first), part(&second)]);
            start += length;
        }
        updated
    }

    /// Moments by parameter name, `.m` and `.v`.
    pub fn state(&self) -> BTreeMap<String, Tensor<B, 1>> {
        let both = |(name, [m, v]): (&String, &[Tensor<B, 1>; 2])| {
            [(format!("{name}.m"), m.clone()), (format!("{name}.v"), v.clone())]
        };
        self.moments.iter().flat_map(both).collect()
    }

    /// Takes moments back; `steps` is the number of updates that they saw.
    pub fn load_state(&mut self, mut state: BTreeMap<String, Tensor<B, 1>>, steps: usize) {
        self.steps = steps;
        let names: Vec<String> = state.keys().filter_map(|k| k.strip_suffix(".m").map(str::to_owned)).collect();
        self.moments = names
            .into_iter()
            .filter_map(|name| {
                let (m, v) = (state.remove(&format!("{name}.m"))?, state.remove(&format!("{name}.v"))?);
                Some((name, [m, v]))
            })
            .collect();
    }
}
