//! `needle.safetensors` and `vocab.txt`: the INT4 artifact that `needle export --format needle-rs`
//! writes.
//!
//! Q, K, V and O are `wq`, `wk`, `wv`, `wo`: two codes per byte, `[pairs, outputs]`, with
//! `.scale [groups, outputs]` in f16. The embedding is bf16; everything else is f32. The sizes are
//! in `__metadata__`. A line of `vocab.txt` is a piece, a tab and its score. Word vectors, if the
//! model has some, are further tensors, which other runtimes ignore.

use std::borrow::Cow;
use std::path::Path;

use needle_data::Tokenizer;
use needle_data::tokenizer::word_vectors::{self, WordVectors};
use safetensors::tensor::Dtype;

use super::names::{EMBEDDING, HEAD_PROJECTION, artifact_name};
use super::quantize::group_size;
use super::source::{Int4Ref, Source};
use super::tensors::TensorFile;
use crate::config::SanConfig;
use crate::error::RuntimeError;

/// Name of the weights inside the artifact.
pub const WEIGHTS: &str = "needle.safetensors";
/// Name of the vocabulary inside the artifact.
pub const VOCAB: &str = "vocab.txt";
/// The artifact does not store this value; all published models have it.
const RMS_NORM_EPS: f32 = 1e-6;

/// The weights of an artifact.
pub struct Artifact {
    file: TensorFile,
    config: SanConfig,
}

impl Artifact {
    /// An artifact with the weights `file`.
    ///
    /// # Errors
    /// If sizes are missing, do not fit together, or need more data than the file has.
    pub fn new(file: TensorFile) -> Result<Self, RuntimeError> {
        let number = |key: &str| -> Result<usize, RuntimeError> {
            let text = file.about(key).ok_or_else(|| file.bad(format!("its metadata has no {key}")))?;
            text.parse().map_err(|_| file.bad(format!("{key} is {text:?}, expected a whole number")))
        };
        let theta = file.about("rope_theta").unwrap_or("10000.0");
        let rope_theta = theta.parse().map_err(|_| file.bad(format!("rope_theta is {theta:?}, expected a number")))?;
        let head = file.get(&artifact_name(HEAD_PROJECTION));
        let config = SanConfig {
            vocab_size: number("vocab_size")?,
            d_model: number("d_model")?,
            num_heads: number("num_heads")?,
            num_kv_heads: number("num_kv_heads")?,
            num_encoder_layers: number("num_encoder_layers")?,
            num_decoder_layers: number("num_decoder_layers")?,
            rope_theta,
            rms_norm_eps: RMS_NORM_EPS,
            contrastive_dim: head.and_then(|tensor| tensor.shape.last().copied()),
            max_enc_len: number("max_enc_len")?,
            max_dec_len: number("max_dec_len")?,
        };
        config.validate().map_err(|e| file.bad(e.to_string()))?;
        // Refuse sizes that the file cannot contain, at half a byte per weight, before any memory
        // is allocated.
        let parameters = config.num_params_with_head();
        if parameters / 2 > file.len() {
            return Err(
                file.bad(format!("its sizes need {parameters} parameters, but the file has only {} bytes", file.len()))
            );
        }
        Ok(Self { file, config })
    }

    /// The tokenizer of this artifact, from the vocabulary `text`; `path` is for messages.
    ///
    /// # Errors
    /// If it is not a Needle vocabulary, or does not have as many pieces as the model has ids, or
    /// the word vectors among the weights are malformed.
    pub fn tokenizer(&self, text: &str, path: &Path) -> Result<Tokenizer, RuntimeError> {
        let vocab_size = self.config.vocab_size;
        let tokenizer = tokenizer(text, vocab_size, path)?;
        let Some(codes) = self.file.get(word_vectors::CODES) else { return Ok(tokenizer) };
        if codes.dtype != Dtype::I8 || codes.shape.first() != Some(&vocab_size) {
            let reason = format!("{} is {:?} {:?}", word_vectors::CODES, codes.dtype, codes.shape);
            return Err(self.file.bad(format!("{reason}, expected I8 with {vocab_size} rows")));
        }
        let codes = codes.data.iter().map(|byte| byte.cast_signed()).collect();
        let scales = self.file.floats(word_vectors::SCALES, &[vocab_size])?;
        let vectors = WordVectors::new(codes, scales).map_err(|reason| self.file.bad(reason))?;
        Ok(tokenizer.with_word_vectors(vectors))
    }
}

impl Source for Artifact {
    fn config(&self) -> &SanConfig {
        &self.config
    }

    fn bad(&self, reason: String) -> RuntimeError {
        self.file.bad(reason)
    }

    fn projection(&self, name: &str, inputs: usize, outputs: usize) -> Result<Int4Ref<'_>, RuntimeError> {
        let name = artifact_name(name);
        let codes = self.file.tensor(&name)?;
        let scales = self.file.tensor(&format!("{name}.scale"))?;
        let group = group_size(inputs);
        let groups = inputs.div_ceil(group);
        let pairs = groups * group / 2;
        let is_int4 = matches!(codes.dtype, Dtype::I8 | Dtype::U8) && codes.shape == [pairs, outputs];
        if !is_int4 || scales.dtype != Dtype::F16 || scales.shape != [groups, outputs] {
            let reason = format!(
                "{name} is {:?} {:?} with scales {:?} {:?}; expected I8 [{pairs}, {outputs}] with F16 [{groups}, {outputs}]",
                codes.dtype, codes.shape, scales.dtype, scales.shape
            );
            return Err(self.file.bad(reason));
        }
        // An f16 is not finite if all bits of its exponent are set.
        if scales.data.chunks_exact(2).any(|b| b[1] & 0x7C == 0x7C) {
            return Err(self.file.bad(format!("{name}.scale holds a value that is not finite")));
        }
        Ok(Int4Ref { inputs, outputs, codes: Cow::Borrowed(codes.data), scales: Cow::Borrowed(scales.data) })
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, RuntimeError> {
        self.file.floats(&artifact_name(name), &[len])
    }

    fn dense(&self, name: &str, inputs: usize, outputs: usize) -> Result<Vec<f32>, RuntimeError> {
        self.file.floats(&artifact_name(name), &[inputs, outputs])
    }

    fn embedding(&self) -> Result<Vec<u16>, RuntimeError> {
        // The needle-rs runtime also reads f16 and f32 embeddings.
        self.file.bf16_bits(&artifact_name(EMBEDDING), &[self.config.vocab_size, self.config.d_model])
    }
}

fn tokenizer(text: &str, vocab_size: usize, path: &Path) -> Result<Tokenizer, RuntimeError> {
    let pieces: Vec<String> = text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect();
    if pieces.len() != vocab_size {
        let reason = format!("{} pieces, but the model has {vocab_size} ids", pieces.len());
        return Err(RuntimeError::bad_file(path, reason));
    }
    Tokenizer::from_piece_list(pieces).map_err(|reason| RuntimeError::bad_file(path, reason))
}
