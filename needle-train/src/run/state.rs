//! What must survive a restart, beside the weights: optimizer moments, step, place in the data, best result, recipe.
//!
//! It travels in the checkpoint's own directory (`trainer/`), so that weights and state are one unit: both are renamed into
//! place together. Dropout, order and shuffling are functions of the seed and the step, so there is no generator to save.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use needle_data::order::stream::Cursor;
use needle_model::checkpoint::tensor_file::{self, Entry, f32_values};
use needle_model::{FusedOps, ModelError};
use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::optim::Optimizer;
use crate::recipe::Recipe;

/// The file of a checkpoint that holds [`Progress`].
pub const STATE: &str = "trainer/state.json";
const OPTIMIZER: &str = "trainer/optimizer.safetensors";

/// The part of the state that is not tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Version of the program that wrote it.
    pub version: String,
    /// Steps done.
    pub step: usize,
    /// Lanes that the data are read in.
    pub lanes: usize,
    /// Where each lane's next batch stands; none before the first.
    pub cursors: Vec<Cursor>,
    /// Best validation result so far.
    pub best: Option<f64>,
    /// Validation loss at INT4 of that result.
    pub best_loss: Option<f64>,
    /// Validations since.
    pub validations_since_best: usize,
    /// Steps skipped because a loss or gradient was not finite.
    pub skipped_steps: usize,
    /// Those of them that came last, in a row.
    pub skipped_in_a_row: usize,
    /// Updates that the optimizer made: steps less those skipped.
    pub updates: usize,
    /// Times that the run went back to its best checkpoint.
    pub backoffs: usize,
    /// Cross-entropy of the first batch.
    pub first_loss: Option<f64>,
    /// Running mean of the cross-entropy.
    pub recent_loss: Option<f64>,
    /// The run's recipe.
    pub recipe: Recipe,
}

impl Progress {
    /// Before the first step.
    pub fn new(recipe: &Recipe, lanes: usize) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            version,
            step: 0,
            lanes,
            cursors: Vec::new(),
            best: None,
            best_loss: None,
            validations_since_best: 0,
            skipped_steps: 0,
            skipped_in_a_row: 0,
            updates: 0,
            backoffs: 0,
            first_loss: None,
            recent_loss: None,
            recipe: recipe.clone(),
        }
    }
}

/// The state as files of a checkpoint; `optimizer` is that of all ranks.
///
/// # Errors
/// If it cannot be laid out, which does not happen for a valid state.
pub fn to_files<B: FusedOps>(
    progress: &Progress,
    optimizer: BTreeMap<String, Tensor<B, 1>>,
) -> Result<BTreeMap<String, Vec<u8>>, TrainError> {
    let entries: Vec<Entry> = optimizer.into_iter().map(|(name, tensor)| Entry::f32(name, tensor)).collect();
    let tensors = tensor_file::to_bytes(&entries, None, OPTIMIZER)?;
    let state = serde_json::to_vec_pretty(progress).map_err(|e| ModelError::bad_file(STATE, e.to_string()))?;
    Ok(BTreeMap::from([(STATE.to_owned(), state), (OPTIMIZER.to_owned(), tensors)]))
}

/// Reads the state in the checkpoint `dir` into `optimizer`.
///
/// # Errors
/// If there is none, or it is malformed.
pub fn load<B: FusedOps>(dir: &Path, optimizer: &mut Optimizer<B>, device: &B::Device) -> Result<Progress, TrainError> {
    let read =
        |name: &str| std::fs::read(dir.join(name)).map_err(|e| TrainError::Model(ModelError::io(dir.join(name), e)));
    let bad = |name: &str, reason: String| TrainError::Model(ModelError::bad_file(dir.join(name), reason));
    let progress: Progress = serde_json::from_slice(&read(STATE)?).map_err(|e| bad(STATE, e.to_string()))?;
    let bytes = read(OPTIMIZER)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(OPTIMIZER, e.to_string()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let values = f32_values(&view).map_err(|reason| bad(OPTIMIZER, format!("{name}: {reason}")))?;
        let length = values.len();
        tensors.insert(name, Tensor::from_data(TensorData::new(values, [length]), device));
    }
    optimizer.load_state(tensors, progress.updates);
    Ok(progress)
}
