//! Imports checkpoints of other formats.
//!
//! | what | where |
//! | --- | --- |
//! | the original's `needle.pkl` | [`needle_pkl`], through [`pickle`], which executes no code |
//! | a `needle-rs` artifact, dequantized | [`needle_rs`] |
//! | an ONNX artifact of ours, to verify it | [`onnx`] |
//! | the check that the files are those that were exported | [`manifest`] |
//! | a Hugging Face directory | already a checkpoint, except that `tokenizer.json` may be missing: [`crate::checkpoint`] |

pub mod manifest;
pub mod needle_pkl;
pub mod needle_rs;
pub mod onnx;
pub mod pickle;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::checkpoint::tensor_file::finite;
use crate::error::ModelError;
use crate::params::{self, ParamInfo, ParamMapper};
use crate::san::San;
use needle_runtime::config::SanConfig;

/// Shape (as in memory) and values of each tensor, by our names.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Whether a tensor of that name, by any of the usual names, is part of a feed-forward layer.
pub fn is_feed_forward(name: &str) -> bool {
    let parts =
        ["FeedForward", "feed_forward", "ffn", "mlp", "gate_up", "gate_proj", "up_proj", "down_proj", "fc1", "fc2"];
    parts.iter().any(|part| name.contains(part))
}

/// Builds a model of `config` from `tensors`, which must be exactly its parameters.
pub(crate) fn assemble<B: Backend>(
    config: &SanConfig,
    mut tensors: Tensors,
    path: &Path,
    device: &B::Device,
) -> Result<San<B>, ModelError> {
    struct Fill<'a> {
        tensors: &'a mut Tensors,
        error: Option<String>,
    }
    impl<B: Backend> ParamMapper<B> for Fill<'_> {
        fn map<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) -> Tensor<B, D> {
            match self.tensors.remove(&info.name) {
                Some((shape, values)) => match finite(&info.name, values) {
                    Ok(values) => Tensor::from_data(TensorData::new(values, shape), &tensor.device()),
                    Err(reason) => {
                        self.error.get_or_insert(reason);
                        tensor
                    }
                },
                None => tensor,
            }
        }
    }
    let model = San::<B>::new(config, 0, device)?;
    let expected = params::list(&model);
    let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
    for info in &expected {
        match tensors.get(&info.name) {
            None => missing.push(info.name.clone()),
            Some((shape, values)) if *shape != info.shape => {
                misshapen.push((info.name.clone(), info.shape.clone(), shape.clone()));
                debug_assert_eq!(shape.iter().product::<usize>(), values.len());
            }
            Some(_) => {}
        }
    }
    let unexpected: Vec<String> =
        tensors.keys().filter(|name| !expected.iter().any(|info| info.name == **name)).cloned().collect();
    if !(missing.is_empty() && unexpected.is_empty() && misshapen.is_empty()) {
        return Err(ModelError::Tensors { path: path.to_owned(), missing, unexpected, misshapen });
    }
    let mut fill = Fill { tensors: &mut tensors, error: None };
    let model = params::map(model, &mut fill);
    fill.error.map_or(Ok(model), |reason| Err(ModelError::bad_file(path, reason)))
}
