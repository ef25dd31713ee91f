//! Helpers shared by the end-to-end tests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use needle_data::synth::{Generator, SynthConfig};
use needle_data::{Encoder, Example, Tokenizer};
use needle_model::import::needle_pkl::original_name;
use needle_model::params::{self, ParamInfo, ParamMapper, ParamVisitor};
use needle_model::{San, SanConfig};
use needle_train::device::Training;
use needle_train::recipe::Recipe;
use needle_train::training::trainer::Start;
use safetensors::tensor::{Dtype, SafeTensors};

/// A file under `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A JSON fixture.
///
/// # Panics
/// If it is missing or malformed.
pub fn json(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(fixture(name)).expect("the fixture is in the repository");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

/// The tensors of a safetensors fixture.
pub struct Golden(Vec<u8>);

impl Golden {
    /// Opens `name` under `tests/fixtures/parity`.
    ///
    /// # Panics
    /// If it is missing.
    pub fn open(name: &str) -> Self {
        Self(std::fs::read(fixture(&format!("parity/{name}.safetensors"))).expect("the fixture is in the repository"))
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).expect("the fixture is a safetensors file")
    }

    /// Names of all tensors.
    pub fn names(&self) -> Vec<String> {
        self.file().names().into_iter().map(ToString::to_string).collect()
    }

    /// Values and shape of a tensor of any number type.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn values(&self, name: &str) -> (Vec<f64>, Vec<usize>) {
        let file = self.file();
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => {
                data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes")).into()).collect()
            }
            Dtype::F64 => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes"))).collect(),
            Dtype::I32 => {
                data.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().expect("4 bytes")).into()).collect()
            }
            Dtype::I8 => data.iter().map(|&b| f64::from(b as i8)).collect(),
            Dtype::U8 => data.iter().map(|&b| f64::from(b)).collect(),
            other => panic!("{name} is {other:?}"),
        };
        (values, view.shape().to_vec())
    }

    /// A float tensor on the default device; a scalar gets shape `[1]`.
    pub fn tensor<B: Backend, const D: usize>(&self, name: &str) -> Tensor<B, D> {
        let (values, mut shape) = self.values(name);
        shape.resize(D.max(shape.len()), 1);
        let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }

    /// A matrix of ids.
    pub fn ids<B: Backend>(&self, name: &str) -> Tensor<B, 2, burn::tensor::Int> {
        let (values, shape) = self.values(name);
        let values: Vec<i32> = values.into_iter().map(|x| x as i32).collect();
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }
}

/// Parses a recipe with overrides of the form `key=value`.
///
/// # Panics
/// If it is not valid.
pub fn recipe(text: &str, overrides: &[&str]) -> Recipe {
    let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
    Recipe::parse(text, &overrides).unwrap()
}

/// Short generated examples, the same on every call.
///
/// # Panics
/// Never, because the settings are valid.
pub fn examples(count: usize) -> Vec<Example> {
    let config = SynthConfig { num_tools: (1, 2), max_calls: 1, brief: true, ..SynthConfig::default() };
    Generator::new(config).unwrap().take(count).collect()
}

/// A new model with a tokenizer trained on `examples`.
///
/// # Panics
/// If the recipe does not fit the examples.
pub fn start(examples: &[Example], recipe: &Recipe) -> Start<Training> {
    let texts: Vec<String> = examples.iter().flat_map(Encoder::texts).collect();
    let tokenizer = Tokenizer::train(&recipe.tokenizer, texts.iter()).unwrap();
    Start::new(tokenizer, recipe, &Default::default()).unwrap()
}

/// All weights of `model` by name.
///
/// # Panics
/// If they cannot be read from the device.
pub fn weights_by_name<B: Backend>(model: &San<B>) -> BTreeMap<String, Vec<f32>> {
    struct Collect(BTreeMap<String, Vec<f32>>);
    impl<B: Backend> ParamVisitor<B> for Collect {
        fn visit<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) {
            self.0.insert(info.name, tensor.into_data().convert::<f32>().to_vec().unwrap());
        }
    }
    let mut collect = Collect(BTreeMap::new());
    params::visit(model, &mut collect);
    collect.0
}

/// The configuration of the golden model (`fixtures/parity`).
pub fn golden_config() -> SanConfig {
    SanConfig {
        vocab_size: 1024,
        d_model: 64,
        num_heads: 4,
        num_kv_heads: 2,
        num_encoder_layers: 3,
        num_decoder_layers: 2,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-6,
        contrastive_dim: Some(32),
        max_enc_len: 64,
        max_dec_len: 64,
    }
}

/// The values of our parameter `info` in `golden`, under `prefix`.
pub fn original_values(golden: &Golden, prefix: &str, info: &ParamInfo) -> Vec<f32> {
    let (path, layer) = original_name(&info.name);
    let (values, shape) = golden.values(&format!("{prefix}{path}"));
    let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
    match layer {
        None => values,
        Some(layer) => {
            let size = values.len() / shape[0];
            values[layer * size..(layer + 1) * size].to_vec()
        }
    }
}

/// The golden model.
pub fn golden_model<B: Backend>() -> San<B> {
    struct Fill(Golden);
    impl<B: Backend> ParamMapper<B> for Fill {
        fn map<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) -> Tensor<B, D> {
            let values = original_values(&self.0, "", &info);
            Tensor::from_data(TensorData::new(values, tensor.shape()), &tensor.device())
        }
    }
    let model = San::new(&golden_config(), 0, &Default::default()).expect("valid sizes");
    params::map(model, &mut Fill(Golden::open("params")))
}

/// The golden model with gradients.
pub fn golden_model_for_training<AB: AutodiffBackend>() -> San<AB> {
    params::with_gradients(golden_model::<AB>())
}

/// The largest of `values` and 0; NaN if any value is NaN, so that no comparison with a tolerance
/// passes. (`f64::max` ignores NaN.)
pub fn max_or_nan(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |worst, x| if worst.is_nan() || x.is_nan() { f64::NAN } else { worst.max(x) })
}

/// The largest absolute difference between two arrays of the same length; NaN if any is NaN.
///
/// # Panics
/// If the lengths differ.
pub fn max_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    max_or_nan(a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()))
}
