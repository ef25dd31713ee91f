//! AdamW (Loshchilov and Hutter, arXiv:1711.05101), over many parameters as one vector.
//!
//! ```text
//! m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
//! p <- p (1 - lr * decay) - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
//! ```
//!
//! `t` counts the gradients of each parameter, as in PyTorch: the retrieval head has a gradient
//! only every few steps, and a count of all steps would correct its moments too little. Weight
//! decay applies to matrices only, not to gains, gates, biases or the temperature.
//!
//! Norm gains and gates are many and small. Concatenated into one vector, all of them take as many
//! operations as one alone.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::Named;

/// Suffix of a parameter's gradient count in [`AdamW::state`].
pub(super) const STEPS: &str = ".steps";

/// Settings of AdamW, except for weight decay.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator, outside the square root.
    pub epsilon: f64,
}

/// The moments of a parameter's gradients.
#[derive(Debug, Clone)]
struct Moments<B: Backend> {
    first: Tensor<B, 1>,
    second: Tensor<B, 1>,
    /// Number of gradients so far.
    steps: usize,
}

/// A parameter to update, its gradient, and its moments so far.
type Member<B> = (Named<B>, Tensor<B, 1>, Moments<B>);

/// The optimizer, with the moments of each parameter by name.
#[derive(Debug, Clone)]
pub struct AdamW<B: Backend> {
    config: AdamWConfig,
    weight_decay: f64,
    moments: BTreeMap<String, Moments<B>>,
}

impl<B: Backend> AdamW<B> {
    /// A new optimizer without weight decay.
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, weight_decay: 0.0, moments: BTreeMap::new() }
    }

    /// Sets the weight decay, which applies to matrices only.
    pub fn with_weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// New values of parameters, given their gradients. A parameter without a gradient in this step
    /// is left out of `params`, and keeps its value, its moments and its count.
    pub fn step(&mut self, params: Vec<(Named<B>, Tensor<B, 1>)>, lr: f64) -> BTreeMap<String, Tensor<B, 1>> {
        // Parameters with equal counts share their bias correction, and are updated as one vector.
        let mut by_steps: BTreeMap<usize, Vec<Member<B>>> = BTreeMap::new();
        for (param, gradient) in params {
            let moments = self.moments.remove(&param.name).unwrap_or_else(|| {
                let zeros = gradient.zeros_like();
                Moments { first: zeros.clone(), second: zeros, steps: 0 }
            });
            by_steps.entry(moments.steps + 1).or_default().push((param, gradient, moments));
        }
        by_steps.into_iter().flat_map(|(steps, members)| self.update(members, steps, lr)).collect()
    }

    /// New values of `members`, whose gradients are their `steps`-th.
    fn update(&mut self, members: Vec<Member<B>>, steps: usize, lr: f64) -> Vec<(String, Tensor<B, 1>)> {
        let AdamWConfig { beta1, beta2, epsilon } = self.config;
        let mut lengths = Vec::new();
        let (mut values, mut gradients, mut firsts, mut seconds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (param, gradient, moments) in members {
            let decays = self.weight_decay > 0.0 && param.shape.len() > 1;
            lengths.push((param.name, gradient.dims()[0]));
            values.push(if decays { param.value * (1.0 - lr * self.weight_decay) } else { param.value });
            gradients.push(gradient);
            firsts.push(moments.first);
            seconds.push(moments.second);
        }
        let [value, gradient, first, second] = [values, gradients, firsts, seconds].map(|list| Tensor::cat(list, 0));
        let first = first * beta1 + gradient.clone() * (1.0 - beta1);
        let second = second * beta2 + gradient.clone() * gradient * (1.0 - beta2);
        let correction = |beta: f64| 1.0 - beta.powi(steps as i32);
        let denominator = (second.clone() / correction(beta2)).sqrt() + epsilon;
        let value = value - (first.clone() / correction(beta1)) / denominator * lr;

        let mut updated = Vec::new();
        let mut start = 0;
        for (name, length) in lengths {
            let part = |all: &Tensor<B, 1>| all.clone().narrow(0, start, length);
            updated.push((name.clone(), part(&value)));
            self.moments.insert(name, Moments { first: part(&first), second: part(&second), steps });
            start += length;
        }
        updated
    }

    /// Moments and count by parameter name: `.m`, `.v` and `.steps`, which is a single number (f32
    /// is exact up to 2^24 steps, long after bias correction has faded).
    pub fn state(&self) -> BTreeMap<String, Tensor<B, 1>> {
        let all = |(name, moments): (&String, &Moments<B>)| {
            let steps = Tensor::from_data([moments.steps as f32], &moments.first.device());
            [
                (format!("{name}.m"), moments.first.clone()),
                (format!("{name}.v"), moments.second.clone()),
                (format!("{name}{STEPS}"), steps),
            ]
        };
        self.moments.iter().flat_map(all).collect()
    }

    /// Restores what [`AdamW::state`] returned. A count may occur several times, once for each
    /// piece of its parameter.
    ///
    /// # Errors
    /// If a parameter's moments or its count are missing; the message names the parameter.
    pub fn load_state(&mut self, mut state: BTreeMap<String, Tensor<B, 1>>) -> Result<(), String> {
        let names: Vec<String> = state.keys().filter_map(|k| k.strip_suffix(".m").map(str::to_owned)).collect();
        self.moments.clear();
        for name in names {
            let mut take = |part: &str| state.remove(&format!("{name}{part}"));
            let (Some(first), Some(second)) = (take(".m"), take(".v")) else {
                return Err(format!("{name} has only one of its two moments"));
            };
            if first.dims() != second.dims() {
                return Err(format!("{name} has {} first moments and {} second", first.dims()[0], second.dims()[0]));
            }
            let count = take(STEPS).and_then(|steps| steps.into_data().iter::<f32>().next());
            let Some(steps) = count.filter(|steps| *steps >= 1.0) else {
                return Err(format!(
                    "{name} has moments but no count of its steps, as an earlier version of needle wrote them; a run \
                     cannot continue from them: start a new run from these weights with --base"
                ));
            };
            self.moments.insert(name, Moments { first, second, steps: steps as usize });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use burn_flex::Flex;

    const CONFIG: AdamWConfig = AdamWConfig { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 };
    const LR: f64 = 0.01;
    const DECAY: f64 = 0.1;
    /// f32 against f64 over a dozen steps of values around 1.
    const ROUNDING: f64 = 2e-6;

    /// A parameter in float64, by the formula alone.
    struct Reference {
        shape: Vec<usize>,
        /// Steps between its gradients.
        every: usize,
        values: Vec<f64>,
        moments: Vec<[f64; 2]>,
        count: i32,
    }

    impl Reference {
        fn new(shape: &[usize], every: usize) -> Self {
            let length = shape.iter().product();
            let values = (0..length).map(|i| (i as f64 * 0.7).sin()).collect();
            Self { shape: shape.to_vec(), every, values, moments: vec![[0.0; 2]; length], count: 0 }
        }

        fn gradient(&self, step: usize) -> Option<Vec<f64>> {
            let of = |i: usize| ((i + 3) as f64 * 1.3 * step as f64).cos();
            step.is_multiple_of(self.every).then(|| (0..self.values.len()).map(of).collect())
        }

        fn step(&mut self, gradient: &[f64]) {
            self.count += 1;
            let decay = if self.shape.len() > 1 { DECAY } else { 0.0 };
            for ((value, [m, v]), g) in self.values.iter_mut().zip(&mut self.moments).zip(gradient) {
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.95 * *v + 0.05 * g * g;
                let (m_hat, v_hat) = (*m / (1.0 - 0.9f64.powi(self.count)), *v / (1.0 - 0.95f64.powi(self.count)));
                *value = *value * (1.0 - LR * decay) - LR * m_hat / (v_hat.sqrt() + 1e-8);
            }
        }
    }

    /// A matrix, a gain, and a matrix and a scalar that have a gradient in every third step only.
    fn references() -> BTreeMap<&'static str, Reference> {
        let of = |shape: &[usize], every| Reference::new(shape, every);
        [("embedding", of(&[3, 2], 1)), ("gain", of(&[4], 1)), ("head", of(&[2, 2], 3)), ("temperature", of(&[1], 3))]
            .into()
    }

    fn tensor(values: &[f64]) -> Tensor<Flex, 1> {
        let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), &Default::default())
    }

    type Values = BTreeMap<String, Tensor<Flex, 1>>;

    fn start() -> Values {
        references().iter().map(|(name, r)| ((*name).to_owned(), tensor(&r.values))).collect()
    }

    fn step(adamw: &mut AdamW<Flex>, values: &mut Values, step: usize) {
        let params = references().into_iter().filter_map(|(name, r)| {
            let named = Named { name: name.to_owned(), shape: r.shape.clone(), value: values[name].clone() };
            Some((named, tensor(&r.gradient(step)?)))
        });
        let updated = adamw.step(params.collect(), LR);
        values.extend(updated);
    }

    #[test]
    fn a_dozen_steps_are_those_of_float64_with_decay_and_a_count_for_each_parameter() {
        let mut adamw = AdamW::new(CONFIG).with_weight_decay(DECAY);
        let (mut values, mut expected) = (start(), references());
        for i in 1..=12 {
            step(&mut adamw, &mut values, i);
            for (name, reference) in &mut expected {
                if let Some(gradient) = reference.gradient(i) {
                    reference.step(&gradient);
                }
                let found: Vec<f32> = values[*name].to_data().to_vec().unwrap();
                for (found, expected) in found.iter().zip(&reference.values) {
                    assert!(
                        (f64::from(*found) - expected).abs() < ROUNDING,
                        "{name} after {i}: {found} and {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_first_step_of_a_parameter_has_the_full_rate_however_late_it_comes() {
        let mut adamw = AdamW::<Flex>::new(CONFIG);
        let mut values = start();
        let before: Vec<f32> = values["temperature"].to_data().to_vec().unwrap();
        (1..=3).for_each(|i| step(&mut adamw, &mut values, i));
        let after: Vec<f32> = values["temperature"].to_data().to_vec().unwrap();
        // m / sqrt(v) of one gradient is its sign.
        assert!(((before[0] - after[0]).abs() - LR as f32).abs() < 1e-6, "{before:?} to {after:?}");
    }

    #[test]
    fn it_resumes_to_the_same_bits_and_a_state_without_counts_is_refused() {
        let new = || AdamW::<Flex>::new(CONFIG).with_weight_decay(DECAY);
        let (mut whole, mut values) = (new(), start());
        (1..=7).for_each(|i| step(&mut whole, &mut values, i));
        let (state, mut resumed_values) = (whole.state(), values.clone());
        let mut resumed = new();
        resumed.load_state(state.clone()).unwrap();
        for i in 8..=14 {
            step(&mut whole, &mut values, i);
            step(&mut resumed, &mut resumed_values, i);
        }
        for (name, value) in &values {
            assert_eq!(value.to_data(), resumed_values[name].to_data(), "{name}");
        }
        let old = state.into_iter().filter(|(name, _)| !name.ends_with(STEPS)).collect();
        let error = new().load_state(old).unwrap_err();
        assert!(error.starts_with("embedding has moments but no count") && error.contains("--base"), "{error}");
    }
}
