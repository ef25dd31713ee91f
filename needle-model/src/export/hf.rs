//! A checkpoint as a Hugging Face directory, in bf16 or f32.
//!
//! Our checkpoints already have that layout (`config.json`, `model.safetensors`,
//! `tokenizer.model`). The export drops the trainer's state and, in bf16, halves the size.

use std::collections::BTreeMap;

use burn::tensor::backend::Backend;
use half::bf16;
use safetensors::tensor::{Dtype, SafeTensors};

use crate::checkpoint::tensor_file::{self, Entry, f32_values};
use crate::checkpoint::{Checkpoint, files};
use crate::error::ModelError;

/// Type of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float {
    /// Two bytes per weight.
    Bf16,
    /// Four bytes per weight, as trained.
    F32,
}

/// The files of the directory, as pairs of name and contents.
///
/// # Errors
/// If the tensors cannot be serialized, which does not happen for a valid model.
pub fn artifact<B: Backend>(checkpoint: &Checkpoint<B>, float: Float) -> Result<Vec<(String, Vec<u8>)>, ModelError> {
    let mut all = checkpoint.to_files(&BTreeMap::new())?;
    if float == Float::Bf16 {
        let bytes = all.remove(files::WEIGHTS).unwrap_or_default();
        let bad = |reason: String| ModelError::bad_file(files::WEIGHTS, reason);
        let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
        let mut entries = Vec::new();
        for (name, view) in file.tensors() {
            let values = f32_values(&view).map_err(bad)?;
            let bytes = values.into_iter().flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect();
            entries.push(Entry { name, dtype: Dtype::BF16, shape: view.shape().to_vec(), bytes });
        }
        let about = [("format".to_owned(), "pt".to_owned())].into();
        all.insert(files::WEIGHTS.to_owned(), tensor_file::to_bytes(&entries, Some(about), files::WEIGHTS)?);
    }
    Ok(all.into_iter().collect())
}
