//! Checkpoints: directories in the layout that Hugging Face's libraries read, with `config.json`,
//! `model.safetensors` (linear weights as `[out, in]`), `tokenizer.json`, `tokenizer.model`, and
//! further files that the writer adds.
//!
//! A checkpoint is written to a temporary directory next to its destination and then renamed, so
//! that readers never see an incomplete one. Reading is strict: missing, extra or misshapen tensors
//! are an error that names them.

pub mod directory;
pub mod tensor_file;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use needle_data::tokenizer::word_vectors::WORD_VECTORS;
use needle_data::{Tokenizer, file};
use needle_runtime::file::config_json;
use safetensors::tensor::SafeTensors;

use crate::error::ModelError;
use crate::params::{self, ParamInfo, ParamMapper, ParamVisitor};
use crate::san::San;
use needle_runtime::config::SanConfig;
use tensor_file::{Entry, f32_values, finite};

/// File names inside a checkpoint.
pub mod files {
    /// The same tokenizer for SentencePiece.
    pub use needle_runtime::file::checkpoint::SENTENCEPIECE;
    /// The tokenizer.
    pub use needle_runtime::file::checkpoint::TOKENIZER;
    /// Weights.
    pub use needle_runtime::file::checkpoint::WEIGHTS;
    /// Sizes and special ids.
    pub use needle_runtime::file::config_json::CONFIG;
}

/// A model with its configuration and tokenizer.
pub struct Checkpoint<B: Backend> {
    /// Its sizes.
    pub config: SanConfig,
    /// Its weights.
    pub model: San<B>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

/// Reads the sizes of the model in `dir`.
///
/// # Errors
/// If there is no valid `config.json`.
pub fn load_config(dir: &Path) -> Result<SanConfig, ModelError> {
    Ok(config_json::load(dir)?)
}

impl<B: Backend> Checkpoint<B> {
    /// Reads the checkpoint in `dir`.
    ///
    /// # Errors
    /// If a file is missing, malformed or not a regular file, if tensors are missing, extra or
    /// misshapen (all are named), if a weight is not finite, or if the vocabulary sizes of
    /// tokenizer and model differ.
    pub fn load(dir: &Path, device: &B::Device) -> Result<Self, ModelError> {
        let config = load_config(dir)?;
        let tokenizer = Tokenizer::load(dir.join(files::TOKENIZER))?;
        if tokenizer.vocab_size() != config.vocab_size {
            let reason = format!("{} ids, but the model has {}", tokenizer.vocab_size(), config.vocab_size);
            return Err(ModelError::bad_file(dir.join(files::TOKENIZER), reason));
        }
        let path = dir.join(files::WEIGHTS);
        let bytes = file::read(&path)?;
        let model = weights_from_bytes(&config, &bytes, &path, device)?;
        Ok(Self { config, model, tokenizer })
    }

    /// Writes the checkpoint to `dir`, replacing any checkpoint there; `extra` are further files,
    /// by name.
    ///
    /// # Errors
    /// If the directory cannot be written; the previous contents are then intact.
    pub fn save(&self, dir: &Path, extra: &BTreeMap<String, Vec<u8>>) -> Result<(), ModelError> {
        directory::write(dir, self.to_files(extra)?, None)
    }

    /// The files of the checkpoint by name, `extra` ones included.
    ///
    /// # Errors
    /// If the tensors cannot be serialized, which does not happen for a valid model.
    pub fn to_files(&self, extra: &BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, Vec<u8>>, ModelError> {
        let config = config_json::to_json(&self.config)?;
        let weights = weights_to_bytes(&self.model)?;
        let own = [
            (files::CONFIG.to_owned(), config),
            (files::WEIGHTS.to_owned(), weights),
            (files::TOKENIZER.to_owned(), self.tokenizer.to_json().into_bytes()),
            (files::SENTENCEPIECE.to_owned(), self.tokenizer.to_sentencepiece()),
        ];
        let vectors = self.tokenizer.word_vectors().map(|vectors| (WORD_VECTORS.to_owned(), vectors.to_bytes()));
        Ok(own.into_iter().chain(vectors).chain(extra.clone()).collect())
    }
}

struct Collect(Vec<Entry>);

impl<B: Backend> ParamVisitor<B> for Collect {
    fn visit<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) {
        let tensor = if info.is_linear_weight() { tensor.swap_dims(0, 1) } else { tensor };
        self.0.push(Entry::f32(info.name, tensor));
    }
}

/// The weights as a safetensors file, f32.
///
/// # Errors
/// If the tensors cannot be serialized, which does not happen for a valid model.
pub fn weights_to_bytes<B: Backend>(model: &San<B>) -> Result<Vec<u8>, ModelError> {
    let mut tensors = Collect(Vec::new());
    params::visit(model, &mut tensors);
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    tensor_file::to_bytes(&tensors.0, Some(about), files::WEIGHTS)
}

/// Reads weights for `config` from the bytes of a safetensors file.
///
/// # Errors
/// If the bytes are not a safetensors file, its tensors are not those of `config`, or a weight is
/// not finite.
pub fn weights_from_bytes<B: Backend>(
    config: &SanConfig,
    bytes: &[u8],
    path: &Path,
    device: &B::Device,
) -> Result<San<B>, ModelError> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| ModelError::bad_file(path, format!("not a safetensors file: {e}")))?;
    // Before allocating memory, reject sizes that the file cannot hold even at one byte per weight.
    if config.num_params() > bytes.len() {
        let (asked, held) = (config.num_params(), bytes.len());
        return Err(ModelError::bad_file(
            path,
            format!("the configuration needs {asked} parameters, but the file has only {held} bytes"),
        ));
    }
    let model = San::<B>::new(config, 0, device)?;
    let expected = params::list(&model);
    let on_disk = |info: &ParamInfo| {
        let mut shape = info.shape.clone();
        if info.is_linear_weight() {
            shape.reverse();
        }
        shape
    };
    let mut misshapen = Vec::new();
    let mut missing = Vec::new();
    for info in &expected {
        match file.tensor(&info.name) {
            Err(_) => missing.push(info.name.clone()),
            // Scalars are written as [1] here and as [] elsewhere.
            Ok(view) if view.shape() != on_disk(info) && !(view.shape().is_empty() && info.shape == [1]) => {
                misshapen.push((info.name.clone(), on_disk(info), view.shape().to_vec()));
            }
            Ok(_) => {}
        }
    }
    let mut unexpected: Vec<String> =
        file.names().into_iter().filter(|n| !expected.iter().any(|p| p.name == **n)).map(|n| n.to_string()).collect();
    unexpected.sort();
    if !(missing.is_empty() && unexpected.is_empty() && misshapen.is_empty()) {
        return Err(ModelError::Tensors { path: path.to_owned(), missing, unexpected, misshapen });
    }
    let mut fill = Fill { file: &file, path: path.to_owned(), error: None };
    let model = params::map(model, &mut fill);
    fill.error.map_or(Ok(model), Err)
}

/// `[out, in]` on disk to `[in, out]` in memory. The values are copied, not viewed: matrix products
/// of a view may round differently, and a resumed run must not.
fn transposed(values: &[f32], inputs: usize) -> Vec<f32> {
    (0..inputs).flat_map(|column| values.iter().skip(column).step_by(inputs).copied()).collect()
}

struct Fill<'a> {
    file: &'a SafeTensors<'a>,
    path: PathBuf,
    error: Option<ModelError>,
}

impl<B: Backend> ParamMapper<B> for Fill<'_> {
    fn map<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) -> Tensor<B, D> {
        let view = self.file.tensor(&info.name).map_err(|e| e.to_string());
        let values = view.and_then(|view| f32_values(&view)).map_err(|reason| format!("{}: {reason}", info.name));
        match values.and_then(|values| finite(&info.name, values)) {
            Ok(values) => {
                let values = if info.is_linear_weight() { transposed(&values, info.shape[0]) } else { values };
                Tensor::from_data(TensorData::new(values, tensor.shape()), &tensor.device())
            }
            Err(reason) => {
                self.error.get_or_insert(ModelError::bad_file(&self.path, reason));
                tensor
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use needle_data::tokenizer::TokenizerConfig;

    fn checkpoint(seed: u64) -> Checkpoint<Flex> {
        let tokenizer = Tokenizer::train(
            &TokenizerConfig { vocab_size: 300, isolate_spaces: true, join_structure: false },
            ["set a timer"; 3].iter(),
        )
        .unwrap();
        let config = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset("tiny").unwrap() };
        let model = San::new(&config, seed, &Default::default()).unwrap();
        Checkpoint { config, model, tokenizer }
    }

    fn load(dir: &Path) -> Result<Checkpoint<Flex>, ModelError> {
        Checkpoint::load(dir, &Default::default())
    }

    #[test]
    fn what_is_saved_is_what_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        let saved = checkpoint(3);
        saved.save(&path, &BTreeMap::from([("trainer/state.json".to_owned(), b"{}".to_vec())])).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.config, saved.config);
        assert_eq!(weights_to_bytes(&loaded.model).unwrap(), weights_to_bytes(&saved.model).unwrap());
        assert_eq!(std::fs::read(path.join("trainer/state.json")).unwrap(), b"{}");
        // Saving again replaces it and leaves nothing beside it.
        checkpoint(4).save(&path, &BTreeMap::new()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(!path.join("trainer").exists());
    }

    #[test]
    fn wrong_tensors_are_named() {
        let saved = checkpoint(0);
        let bytes = weights_to_bytes(&saved.model).unwrap();
        let load = |config: &SanConfig| {
            weights_from_bytes::<Flex>(config, &bytes, Path::new("w.safetensors"), &Default::default())
                .unwrap_err()
                .to_string()
        };
        let deeper = load(&SanConfig { num_decoder_layers: 3, ..saved.config.clone() });
        assert!(deeper.contains("missing tensors: model.decoder.layers.2"), "{deeper}");
        let shallower = load(&SanConfig { num_decoder_layers: 1, ..saved.config.clone() });
        assert!(shallower.contains("unexpected tensors: model.decoder.layers.1"), "{shallower}");
        let wider = load(&SanConfig { vocab_size: 999, ..saved.config.clone() });
        assert!(wider.contains("model.embed_tokens.weight has shape"), "{wider}");
    }

    #[test]
    fn a_checkpoint_of_a_training_that_went_wrong_is_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut broken = checkpoint(0);
            let weight = &mut broken.model.encoder.final_norm.weight;
            *weight = weight.clone().map(|tensor| tensor.full_like(value));
            broken.save(&path, &BTreeMap::new()).unwrap();
            let error = load(&path).err().unwrap().to_string();
            let expected =
                format!("model.encoder.final_norm.weight holds {value}: the training that wrote it went wrong");
            assert!(error.contains("model.safetensors: ") && error.contains(&expected), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_checkpoint_whose_files_are_devices_or_pipes_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        for file in [files::CONFIG, files::WEIGHTS, files::TOKENIZER] {
            checkpoint(0).save(&path, &BTreeMap::new()).unwrap();
            std::fs::remove_file(path.join(file)).unwrap();
            std::os::unix::fs::symlink("/dev/zero", path.join(file)).unwrap();
            let error = load(&path).err().unwrap().to_string();
            assert!(error.ends_with(&format!("{file}: is a device, expected a regular file")), "{error}");
            std::fs::remove_file(path.join(file)).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(path.join(file)).status().unwrap().success());
            let error = load(&path).err().unwrap().to_string();
            assert!(error.ends_with(&format!("{file}: is a pipe, expected a regular file")), "{error}");
        }
    }

    #[test]
    fn damaged_checkpoints_are_errors_and_never_panics() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).err().unwrap().to_string().contains("not a checkpoint"));
        let path = dir.path().join("model");
        checkpoint(0).save(&path, &BTreeMap::new()).unwrap();
        for file in [files::CONFIG, files::WEIGHTS, files::TOKENIZER] {
            let whole = std::fs::read(path.join(file)).unwrap();
            for percent in [0, 1, 37, 99] {
                std::fs::write(path.join(file), &whole[..whole.len() * percent / 100]).unwrap();
                assert!(load(&path).is_err(), "{file} cut to {percent} %");
            }
            std::fs::remove_file(path.join(file)).unwrap();
            assert!(load(&path).is_err(), "{file} missing");
            std::fs::write(path.join(file), whole).unwrap();
        }
        let mut claims = (u64::MAX >> 4).to_le_bytes().to_vec();
        claims.extend(b"{}");
        std::fs::write(path.join(files::WEIGHTS), claims).unwrap();
        assert!(load(&path).is_err(), "a header that claims 2^60 bytes");
    }
}
