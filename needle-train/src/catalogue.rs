//! Embeddings of a tool catalogue, computed once and kept beside the checkpoint.
//!
//! A catalogue's file is named by the hash of its tools' token ids, of the precision, and of the weights' size and time, so
//! that another catalogue, tokenizer or model never meets it. It can be deleted at any time.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use burn::tensor::{Tensor, TensorData};
use needle_data::file;
use needle_data::tokenizer::hex;
use needle_model::Precision;
use needle_model::checkpoint::files;
use needle_model::checkpoint::tensor_file::{self, Entry, f32_values};
use safetensors::tensor::SafeTensors;
use sha2::{Digest, Sha256};

use crate::device::Inference;
use crate::error::TrainError;

/// Folder of a checkpoint.
const FOLDER: &str = "catalogues";
const TENSOR: &str = "embeddings";
/// To be raised when the same weights come to other vectors.
const VERSION: u8 = 1;

/// One unit vector a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    vectors: Vec<Vec<f32>>,
    /// Whether the vectors were read from a file.
    pub was_kept: bool,
}

impl Catalogue {
    /// The vectors of the tools with ids `texts`: read, if the model in `checkpoint` computed them at `precision` before, else
    /// computed by `embed` and kept.
    ///
    /// # Errors
    /// Those of `embed`. A file that cannot be read or written only costs the time to compute it.
    pub fn load_or_embed(
        checkpoint: &Path,
        precision: Precision,
        texts: &[Vec<u32>],
        embed: impl FnOnce(&[Vec<u32>]) -> Result<Vec<Vec<f32>>, TrainError>,
    ) -> Result<Self, TrainError> {
        let path = path(checkpoint, precision, texts);
        if let Some(vectors) = read(&path).filter(|vectors| vectors.len() == texts.len()) {
            return Ok(Self { vectors, was_kept: true });
        }
        let vectors = embed(texts)?;
        if let Err(error) = write(&path, &vectors) {
            tracing::debug!("the catalogue is not kept: {error}");
        }
        Ok(Self { vectors, was_kept: false })
    }

    /// The vectors, in the order of the tools.
    pub fn vectors(&self) -> &[Vec<f32>] {
        &self.vectors
    }
}

fn path(checkpoint: &Path, precision: Precision, texts: &[Vec<u32>]) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update([VERSION]);
    hash.update(precision.to_string());
    if let Ok(weights) = std::fs::metadata(checkpoint.join(files::WEIGHTS)) {
        hash.update(weights.len().to_le_bytes());
        let changed = weights.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        hash.update(changed.unwrap_or_default().as_nanos().to_le_bytes());
    }
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        text.iter().for_each(|id| hash.update(id.to_le_bytes()));
    }
    let name = hex(&hash.finalize()[..16]);
    checkpoint.join(FOLDER).join(format!("{name}.safetensors"))
}

fn read(path: &Path) -> Option<Vec<Vec<f32>>> {
    let bytes = file::read(path).ok()?;
    let file = SafeTensors::deserialize(&bytes).ok()?;
    let view = file.tensor(TENSOR).ok()?;
    let [_, dim] = view.shape() else { return None };
    let values = f32_values(&view).ok()?;
    Some(values.chunks_exact((*dim).max(1)).map(<[f32]>::to_vec).collect())
}

fn write(path: &Path, vectors: &[Vec<f32>]) -> Result<(), TrainError> {
    let shape = [vectors.len(), vectors.first().map_or(0, Vec::len)];
    let tensor = Tensor::<Inference, 2>::from_data(TensorData::new(vectors.concat(), shape), &Default::default());
    let bytes = tensor_file::to_bytes(&[Entry::f32(TENSOR.to_owned(), tensor)], None, TENSOR)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| needle_data::DataError::io(folder, e))?;
    }
    Ok(file::write_atomically(path, &bytes)?)
}
