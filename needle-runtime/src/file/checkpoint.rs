//! A training checkpoint (`config.json`, `model.safetensors` with linear weights as `[out, in]`,
//! `tokenizer.json`), quantized while it is loaded: Q, K, V and O to INT4 with scales in f16, the
//! embedding to bf16, everything else unchanged. `needle export --format needle-rs` writes the same
//! values.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use super::config_json;
use super::names::{
    BlockNames, DECODER_NORM, EMBEDDING, ENCODER_NORM, HEAD_BIAS, HEAD_HIDDEN, HEAD_PROJECTION, LOG_TEMP,
};
use super::quantize::quantize;
use super::source::{Int4Ref, Source};
use super::tensors::TensorFile;
use crate::config::SanConfig;
use crate::error::RuntimeError;

/// Name of the weights inside a checkpoint.
pub const WEIGHTS: &str = "model.safetensors";
/// Name of the tokenizer inside a checkpoint.
pub const TOKENIZER: &str = "tokenizer.json";
/// Name of the same tokenizer in SentencePiece format.
pub const SENTENCEPIECE: &str = "tokenizer.model";
/// Maximum number of tensors that a message names.
const NAMED: usize = 3;

/// The weights of a checkpoint.
pub struct Checkpoint {
    file: TensorFile,
    config: SanConfig,
}

impl Checkpoint {
    /// Opens the checkpoint in `dir`.
    ///
    /// # Errors
    /// If a file is missing or malformed, or as for [`Checkpoint::new`].
    pub fn open(dir: &Path) -> Result<Self, RuntimeError> {
        Self::new(config_json::load(dir)?, TensorFile::open(&dir.join(WEIGHTS))?)
    }

    /// A checkpoint with this configuration and the weights `file`.
    ///
    /// # Errors
    /// If tensors are missing or unexpected.
    pub fn new(config: SanConfig, file: TensorFile) -> Result<Self, RuntimeError> {
        // Refuse sizes that the file cannot contain, at a byte per weight, before any memory is
        // allocated.
        if config.num_params() > file.len() {
            let (asked, held) = (config.num_params(), file.len());
            return Err(
                file.bad(format!("the configuration asks for {asked} parameters, but the file has only {held} bytes"))
            );
        }
        let expected = expected_names(&config);
        let missing = expected.iter().filter(|name| file.get(name).is_none());
        if let Some(some) = some_of(missing.map(String::as_str)) {
            return Err(file.bad(format!("missing tensors: {some}")));
        }
        let names = file.names();
        let expected: HashSet<&str> = expected.iter().map(String::as_str).collect();
        let unexpected = names.iter().map(String::as_str).filter(|name| !expected.contains(name));
        if let Some(some) = some_of(unexpected) {
            return Err(file.bad(format!("unexpected tensors: {some}")));
        }
        Ok(Self { file, config })
    }
}

/// The first few of `names`, and the number of the others; `None` if `names` is empty.
fn some_of<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<String> {
    let first: Vec<&str> = names.by_ref().take(NAMED).collect();
    match names.count() {
        0 if first.is_empty() => None,
        0 => Some(first.join(", ")),
        more => Some(format!("{} and {more} more", first.join(", "))),
    }
}

/// Names of all tensors of a model with this configuration.
fn expected_names(config: &SanConfig) -> Vec<String> {
    let mut names = vec![EMBEDDING.to_owned(), ENCODER_NORM.to_owned(), DECODER_NORM.to_owned()];
    if config.contrastive_dim.is_some() {
        names.extend([HEAD_HIDDEN, HEAD_BIAS, HEAD_PROJECTION, LOG_TEMP].map(str::to_owned));
    }
    let encoder = (0..config.num_encoder_layers).map(BlockNames::encoder);
    let decoder =
        (0..config.num_decoder_layers).flat_map(|layer| [BlockNames::decoder(layer), BlockNames::cross(layer)]);
    for block in encoder.chain(decoder) {
        names.extend(["q", "k", "v", "out"].map(|which| block.projection(which)));
        names.extend(["q", "k"].map(|which| block.head_norm(which)));
        names.extend([block.norm, block.gate]);
    }
    names
}

impl Source for Checkpoint {
    fn config(&self) -> &SanConfig {
        &self.config
    }

    fn bad(&self, reason: String) -> RuntimeError {
        self.file.bad(reason)
    }

    fn projection(&self, name: &str, inputs: usize, outputs: usize) -> Result<Int4Ref<'_>, RuntimeError> {
        let weights = self.file.floats(name, &[outputs, inputs])?;
        let quantized = quantize(&weights, inputs, outputs);
        let scales = quantized.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        Ok(Int4Ref { inputs, outputs, codes: Cow::Owned(quantized.codes), scales: Cow::Owned(scales) })
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, RuntimeError> {
        self.file.floats(name, &[len])
    }

    fn dense(&self, name: &str, inputs: usize, outputs: usize) -> Result<Vec<f32>, RuntimeError> {
        let weights = self.file.floats(name, &[outputs, inputs])?;
        Ok((0..inputs).flat_map(|input| weights.iter().skip(input).step_by(inputs).copied()).collect())
    }

    fn embedding(&self) -> Result<Vec<u16>, RuntimeError> {
        self.file.bf16_bits(EMBEDDING, &[self.config.vocab_size, self.config.d_model])
    }
}
