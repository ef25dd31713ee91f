//! The state that a resumed run needs besides the weights: optimizer moments, step, position in the
//! data, best result, recipe.
//!
//! It is stored in the checkpoint's directory (`trainer/`), so that weights and state are renamed
//! into place together. Dropout, order and shuffling are functions of the seed and the step, so
//! there is no random generator to save.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use needle_data::file;
use needle_data::order::stream::Cursor;
use needle_model::checkpoint::tensor_file;
use needle_model::checkpoint::tensor_file::{Entry, f32_values, finite};
use needle_model::{FusedOps, ModelError};
use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TrainError;
use crate::optim::Optimizer;
use crate::range;
use crate::recipe::Recipe;
use crate::run::inputs::Inputs;
use crate::training::policies::back_off::Stability;
use crate::training::policies::early_stopping::EarlyStopping;

/// The file of a checkpoint that holds [`Progress`].
pub const STATE: &str = "trainer/state.json";
const OPTIMIZER: &str = "trainer/optimizer.safetensors";

/// The part of the state that is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Version of the program that wrote it.
    pub version: String,
    /// Steps done.
    pub step: usize,
    /// Number of lanes in which the data are read.
    pub lanes: usize,
    /// Position of each lane's next batch; empty before the first.
    pub cursors: Vec<Cursor>,
    /// The best validation so far.
    pub early_stopping: EarlyStopping,
    /// Skipped steps and back-offs.
    pub stability: Stability,
    /// Number of optimizer updates: the steps that were not skipped.
    pub updates: usize,
    /// The run's recipe.
    pub recipe: Recipe,
    /// The run's inputs; `None` if an earlier version of needle started it.
    #[serde(default)]
    pub inputs: Option<Inputs>,
}

impl Progress {
    /// The state before the first step.
    pub fn new(recipe: &Recipe, lanes: usize) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            version,
            step: 0,
            lanes,
            cursors: Vec::new(),
            early_stopping: EarlyStopping::default(),
            stability: Stability::default(),
            updates: 0,
            recipe: recipe.clone(),
            inputs: None,
        }
    }
}

/// The state as files of a checkpoint; `optimizer` is that of all ranks.
///
/// # Errors
/// If it cannot be serialized, which does not happen for a valid state.
pub fn to_files<B: FusedOps>(
    progress: &Progress,
    optimizer: BTreeMap<String, Tensor<B, 1>>,
) -> Result<BTreeMap<String, Vec<u8>>, TrainError> {
    let entries: Vec<Entry> = optimizer.into_iter().map(|(name, tensor)| Entry::f32(name, tensor)).collect();
    let tensors = tensor_file::to_bytes(&entries, None, OPTIMIZER)?;
    let state = serde_json::to_vec_pretty(progress).map_err(|e| ModelError::bad_file(STATE, e.to_string()))?;
    Ok(BTreeMap::from([(STATE.to_owned(), state), (OPTIMIZER.to_owned(), tensors)]))
}

/// Reads the state in the checkpoint `dir`, without its tensors.
///
/// # Errors
/// If there is none, it is malformed, or its recipe has a number out of its range.
pub fn progress(dir: &Path) -> Result<Progress, TrainError> {
    let path = dir.join(STATE);
    let bad = |reason: String| ModelError::bad_file(&path, reason);
    let text = file::read_text(&path)?;
    let value = json(&path, &text)?;
    range::check_json(&value["recipe"], Recipe::KEYS).map_err(bad)?;
    // Parsed from the text, so that the message has line and column.
    Ok(serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?)
}

/// Reads the state in the checkpoint `dir` into `optimizer`.
///
/// # Errors
/// If there is none, it is malformed, its recipe has a number out of its range, or a moment is not
/// finite.
pub fn load<B: FusedOps>(dir: &Path, optimizer: &mut Optimizer<B>, device: &B::Device) -> Result<Progress, TrainError> {
    let progress = progress(dir)?;
    let path = dir.join(OPTIMIZER);
    let tensors = optimizer_values(&path)?.into_iter().map(|(name, values)| {
        let length = values.len();
        (name, Tensor::from_data(TensorData::new(values, [length]), device))
    });
    optimizer.load_state(tensors.collect()).map_err(|reason| ModelError::bad_file(&path, reason))?;
    Ok(progress)
}

/// The state in the checkpoint `dir`, from any version of needle; `None` if it has none.
///
/// # Errors
/// If it is damaged, which includes the optimizer's part.
pub fn inspect(dir: &Path) -> Result<Option<Value>, TrainError> {
    let path = dir.join(STATE);
    if !path.exists() {
        return Ok(None);
    }
    optimizer_values(&dir.join(OPTIMIZER))?;
    Ok(Some(json(&path, &file::read_text(&path)?)?))
}

fn json(path: &Path, text: &str) -> Result<Value, ModelError> {
    serde_json::from_str(text).map_err(|e| ModelError::bad_file(path, e.to_string()))
}

/// The optimizer's state by name, flattened.
fn optimizer_values(path: &Path) -> Result<BTreeMap<String, Vec<f32>>, TrainError> {
    let bad = |reason: String| ModelError::bad_file(path, reason);
    let bytes = file::read(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(format!("not a safetensors file: {e}")))?;
    let mut all = BTreeMap::new();
    for (name, view) in file.tensors() {
        let values = f32_values(&view).map_err(|reason| bad(format!("{name}: {reason}")))?;
        let values = finite(&name, values).map_err(bad)?;
        all.insert(name, values);
    }
    Ok(all)
}
