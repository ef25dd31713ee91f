//! Embeddings of a tool catalogue, computed once and cached beside the model.
//!
//! The name of a catalogue's file is a hash of its tools' token ids, of the precision, and of the
//! size and modification time of the weights, so that another catalogue, tokenizer or model never
//! reads it. The file can be deleted at any time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use needle_data::file;
use needle_data::similarity::ToolWords;
use needle_data::tokenizer::hex;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use crate::error::RuntimeError;
use crate::file::tensors::TensorFile;
use crate::file::{artifact, checkpoint};
use crate::precision::Precision;

/// Name of the folder in a model's directory.
const FOLDER: &str = "catalogues";
const TENSOR: &str = "embeddings";
/// Part of the hash. Increase it when a change of the code changes the vectors of the same weights.
const VERSION: u8 = 2;

/// One unit vector per tool, and the tools' words.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    vectors: Arc<[Vec<f32>]>,
    /// The words of each tool; `None` if the tokenizer has no word vectors.
    pub words: Option<Arc<ToolWords>>,
    /// Whether the vectors were read from the cache file.
    pub was_kept: bool,
}

impl Catalogue {
    /// The vectors of the tools with token ids `texts`. They are read from the cache in the model's
    /// directory `dir` if they were computed at `precision` before; otherwise `embed` computes them
    /// and they are cached there. Without a directory, nothing is cached.
    ///
    /// # Errors
    /// Those of `embed`. If the cache file cannot be read or written, the vectors are computed
    /// again.
    pub fn load_or_embed(
        dir: Option<&Path>,
        precision: Precision,
        texts: &[Vec<u32>],
        embed: impl FnOnce(&[Vec<u32>]) -> Result<Vec<Vec<f32>>, RuntimeError>,
    ) -> Result<Self, RuntimeError> {
        let path = dir.map(|dir| path(dir, precision, texts));
        let kept = path.as_deref().and_then(read).filter(|vectors| vectors.len() == texts.len());
        if let Some(vectors) = kept {
            return Ok(Self { vectors: vectors.into(), words: None, was_kept: true });
        }
        let vectors = embed(texts)?;
        if let Some(Err(error)) = path.map(|path| write(&path, &vectors)) {
            tracing::debug!("the catalogue is not cached: {error}");
        }
        Ok(Self { vectors: vectors.into(), words: None, was_kept: false })
    }

    /// The catalogue with the words of its tools.
    pub fn with_words(self, words: Option<ToolWords>) -> Self {
        Self { words: words.map(Arc::new), ..self }
    }

    /// The vectors, in the order of the tools.
    pub fn vectors(&self) -> &[Vec<f32>] {
        &self.vectors
    }
}

fn path(dir: &Path, precision: Precision, texts: &[Vec<u32>]) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update([VERSION]);
    hash.update(precision.to_string());
    for weights in [checkpoint::WEIGHTS, artifact::WEIGHTS] {
        let Ok(weights) = std::fs::metadata(dir.join(weights)) else { continue };
        hash.update(weights.len().to_le_bytes());
        let changed = weights.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        hash.update(changed.unwrap_or_default().as_nanos().to_le_bytes());
    }
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        text.iter().for_each(|id| hash.update(id.to_le_bytes()));
    }
    let name = hex(&hash.finalize()[..16]);
    dir.join(FOLDER).join(format!("{name}.safetensors"))
}

fn read(path: &Path) -> Option<Vec<Vec<f32>>> {
    let file = TensorFile::from_bytes(path, file::read(path).ok()?).ok()?;
    let &[count, dim] = file.get(TENSOR)?.shape else { return None };
    let values = file.floats(TENSOR, &[count, dim]).ok()?;
    Some(values.chunks_exact(dim.max(1)).map(<[f32]>::to_vec).collect())
}

fn write(path: &Path, vectors: &[Vec<f32>]) -> Result<(), RuntimeError> {
    let bad = |e: safetensors::SafeTensorError| RuntimeError::bad_file(path, e.to_string());
    let shape = vec![vectors.len(), vectors.first().map_or(0, Vec::len)];
    let values: Vec<u8> = vectors.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let tensor = TensorView::new(Dtype::F32, shape, &values).map_err(bad)?;
    let bytes = safetensors::serialize([(TENSOR, tensor)], None).map_err(bad)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| RuntimeError::io(folder, e))?;
    }
    Ok(file::write_atomically(path, &bytes)?)
}
