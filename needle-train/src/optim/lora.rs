//! Low-rank adapters (Hu et al., arXiv:2106.09685): each Q, K, V and O matrix becomes
//! `W + (alpha / rank) A B`; only A and B are trained.
//!
//! ```text
//! dA = (alpha / rank) dW B^T      dB = (alpha / rank) A^T dW      A, B by AdamW
//! ```
//!
//! The gradient of W is computed anyway, so the model needs no separate form with adapters: after
//! each step, the change of A B is added to W, and a checkpoint is always merged. A is initialized
//! from N(0, 1/in) and B with 0, so that the first forward pass is the base's.

use std::collections::BTreeMap;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use needle_data::random::{Purpose, rng};
use rand_distr::{Distribution, StandardNormal};

use super::Named;
use super::adamw::AdamW;

/// `alpha / rank`; 2 is customary.
const SCALE: f64 = 2.0;

/// The adapters of all matrices, and their moments.
#[derive(Debug, Clone)]
pub struct Lora<B: Backend> {
    rank: usize,
    seed: u64,
    /// A `[in, rank]` and B `[rank, out]`, by the matrix's name.
    adapters: BTreeMap<String, [Tensor<B, 2>; 2]>,
    adamw: AdamW<B>,
}

impl<B: Backend> Lora<B> {
    /// New adapters of rank `rank`, trained by `adamw`. Their A is drawn from the run's `seed`.
    pub fn new(rank: usize, seed: u64, adamw: AdamW<B>) -> Self {
        Self { rank, seed, adapters: BTreeMap::new(), adamw }
    }

    /// New values of matrices `[in, out]`, given their gradients.
    pub fn step(&mut self, params: Vec<(Named<B>, Tensor<B, 1>)>, lr: f64) -> BTreeMap<String, Tensor<B, 1>> {
        let mut learned = Vec::new();
        let mut matrices = Vec::new();
        for (matrix, gradient) in params {
            let [inputs, outputs] = [matrix.shape[0], matrix.shape[1]];
            let rank = self.rank.min(inputs).min(outputs);
            let device = gradient.device();
            let seed = self.seed;
            let fresh = || {
                let a = initial(seed, &matrix.name, [inputs, rank], &device);
                [a, Tensor::zeros([rank, outputs], &device)]
            };
            let [a, b] = self.adapters.entry(matrix.name.clone()).or_insert_with(fresh).clone();
            let gradient: Tensor<B, 2> = gradient.reshape([inputs, outputs]);
            let of_a = gradient.clone().matmul(b.clone().transpose()) * SCALE; // [in, rank]
            let of_b = a.clone().transpose().matmul(gradient) * SCALE; // [rank, out]
            for (part, value, gradient) in [("a", a.clone(), of_a), ("b", b.clone(), of_b)] {
                let named = Named {
                    name: format!("{}.{part}", matrix.name),
                    shape: value.dims().to_vec(),
                    value: value.reshape([-1]),
                };
                learned.push((named, gradient.reshape([-1])));
            }
            matrices.push((matrix, [a, b]));
        }
        let mut updated = self.adamw.step(learned, lr);
        let mut merged = BTreeMap::new();
        for (matrix, [a, b]) in matrices {
            let mut take = |part: &str, old: &Tensor<B, 2>| {
                let new = updated.remove(&format!("{}.{part}", matrix.name));
                new.map_or_else(|| old.clone(), |new| new.reshape(old.dims()))
            };
            let (new_a, new_b) = (take("a", &a), take("b", &b));
            let change = new_a.clone().matmul(new_b.clone()) - a.matmul(b); // [in, out]
            merged.insert(matrix.name.clone(), matrix.value + change.reshape([-1]) * SCALE);
            self.adapters.insert(matrix.name, [new_a, new_b]);
        }
        merged
    }

    /// Adapters and moments by name.
    pub fn state(&self) -> BTreeMap<String, Tensor<B, 1>> {
        let both = |(name, [a, b]): (&String, &[Tensor<B, 2>; 2])| {
            let rows = |t: &Tensor<B, 2>| Tensor::from_data([t.dims()[0] as f32], &t.device());
            [
                (format!("{name}.a.value"), a.clone().reshape([-1])),
                (format!("{name}.a.rows"), rows(a)),
                (format!("{name}.b.value"), b.clone().reshape([-1])),
                (format!("{name}.b.rows"), rows(b)),
            ]
        };
        self.adapters.iter().flat_map(both).chain(self.adamw.state()).collect()
    }

    /// Restores the state.
    ///
    /// # Errors
    /// If it is incomplete; the message names the adapter.
    pub fn load_state(&mut self, mut state: BTreeMap<String, Tensor<B, 1>>) -> Result<(), String> {
        let names: Vec<String> = state.keys().filter_map(|k| k.strip_suffix(".a.value").map(str::to_owned)).collect();
        for name in names {
            let mut take = |part: &str| {
                let rows = state.remove(&format!("{name}.{part}.rows"))?.into_data().iter::<f32>().next()?;
                Some(state.remove(&format!("{name}.{part}.value"))?.reshape([rows as i32, -1]))
            };
            let (Some(a), Some(b)) = (take("a"), take("b")) else {
                return Err(format!("{name}: the state of its adapter is incomplete"));
            };
            self.adapters.insert(name, [a, b]);
        }
        self.adamw.load_state(state)
    }
}

/// The initial A of the matrix `name`: N(0, 1/in), with `shape` `[in, rank]`.
fn initial<B: Backend>(seed: u64, name: &str, shape: [usize; 2], device: &B::Device) -> Tensor<B, 2> {
    let place: Vec<u64> = name.bytes().map(u64::from).collect();
    let deviation = 1.0 / (shape[0] as f32).sqrt();
    let normal = StandardNormal.sample_iter(rng(seed, Purpose::InitialAdapter, &place));
    let values = normal.map(|x: f32| x * deviation).take(shape[0] * shape[1]).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::AdamWConfig;
    use burn_flex::Flex;

    type Vector = Tensor<Flex, 1>;

    /// Fits `W [4, 3]` to a target by the gradient of half the squared distance.
    fn fit(lora: &mut Lora<Flex>, mut value: Vector, target: &Vector, steps: usize) -> Vector {
        for _ in 0..steps {
            let gradient = value.clone() - target.clone();
            let named = Named { name: "w".into(), shape: vec![4, 3], value: value.clone() };
            value = lora.step(vec![(named, gradient)], 0.02).remove("w").unwrap();
        }
        value
    }

    fn distance(a: Vector, b: Vector) -> f32 {
        (a - b).powi_scalar(2).sum().sqrt().into_scalar()
    }

    fn vector(values: [f32; 12]) -> Vector {
        Tensor::from_data(values, &Default::default())
    }

    #[test]
    fn adapters_reach_what_their_rank_can_reach_and_no_more() {
        // u v^T: rank 1.
        let low: [f32; 12] = std::array::from_fn(|i| (i / 3) as f32 * 0.5 * ((i % 3) as f32 - 1.0));
        let mut full = [0.0; 12];
        (full[0], full[4], full[8]) = (1.0, 1.0, 1.0);
        let adamw = || AdamW::new(AdamWConfig { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 });
        let reached = |target: [f32; 12], rank| {
            distance(fit(&mut Lora::new(rank, 0, adamw()), vector([0.0; 12]), &vector(target), 600), vector(target))
        };
        assert!(reached(low, 1) < 0.05, "{}", reached(low, 1));
        assert!(reached(full, 1) > 1.0, "two of three directions are out of reach: {}", reached(full, 1));
        assert!(reached(full, 3) < 0.05, "{}", reached(full, 3));
    }

    #[test]
    fn adapters_resume_exactly() {
        let adamw = || AdamW::new(AdamWConfig { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 });
        let target = vector(std::array::from_fn(|i| i as f32 / 10.0));
        let mut whole = Lora::new(2, 0, adamw());
        let expected = fit(&mut whole, vector([0.1; 12]), &target, 20);
        let mut first = Lora::new(2, 0, adamw());
        let half = fit(&mut first, vector([0.1; 12]), &target, 10);
        let mut second = Lora::new(2, 0, adamw());
        second.load_state(first.state()).unwrap();
        let resumed = fit(&mut second, half, &target, 10);
        assert_eq!(resumed.into_data(), expected.into_data());
    }

    #[test]
    fn the_first_adapter_follows_from_the_seed_and_the_name_of_its_matrix() {
        let draw = |seed, name: &str| initial::<Flex>(seed, name, [16, 2], &Default::default()).into_data();
        assert_eq!(draw(1, "a.q_proj.weight"), draw(1, "a.q_proj.weight"));
        assert_ne!(draw(1, "a.q_proj.weight"), draw(2, "a.q_proj.weight"));
        assert_ne!(draw(1, "a.q_proj.weight"), draw(1, "a.k_proj.weight"));
    }
}
