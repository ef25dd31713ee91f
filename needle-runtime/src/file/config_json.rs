//! `config.json`: [`SanConfig`] and the keys that `transformers` needs. Unknown keys are ignored,
//! so that checkpoints of other writers can be opened.

use std::path::Path;

use needle_data::file;
use needle_data::tokenizer::{BOS_ID, EOS_ID, PAD_ID, UNK_ID};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::SanConfig;
use crate::error::RuntimeError;

/// Name of the file inside a checkpoint.
pub const CONFIG: &str = "config.json";

const MODEL_TYPE: &str = "needle";

#[derive(Debug, Serialize, Deserialize)]
struct ConfigFile {
    model_type: String,
    #[serde(default)]
    is_encoder_decoder: bool,
    vocab_size: usize,
    d_model: usize,
    num_heads: usize,
    num_kv_heads: usize,
    num_encoder_layers: usize,
    num_decoder_layers: usize,
    rope_theta: f32,
    rms_norm_eps: f32,
    contrastive_dim: Option<usize>,
    max_enc_len: usize,
    max_dec_len: usize,
    pad_token_id: u32,
    eos_token_id: u32,
    bos_token_id: u32,
    unk_token_id: u32,
    decoder_start_token_id: u32,
}

impl ConfigFile {
    fn new(config: &SanConfig) -> Self {
        Self {
            model_type: MODEL_TYPE.into(),
            is_encoder_decoder: true,
            vocab_size: config.vocab_size,
            d_model: config.d_model,
            num_heads: config.num_heads,
            num_kv_heads: config.num_kv_heads,
            num_encoder_layers: config.num_encoder_layers,
            num_decoder_layers: config.num_decoder_layers,
            rope_theta: config.rope_theta,
            rms_norm_eps: config.rms_norm_eps,
            contrastive_dim: config.contrastive_dim,
            max_enc_len: config.max_enc_len,
            max_dec_len: config.max_dec_len,
            pad_token_id: PAD_ID,
            eos_token_id: EOS_ID,
            bos_token_id: BOS_ID,
            unk_token_id: UNK_ID,
            decoder_start_token_id: EOS_ID,
        }
    }

    fn into_config(self, path: &Path) -> Result<SanConfig, RuntimeError> {
        for (name, found, expected) in [
            ("pad_token_id", self.pad_token_id, PAD_ID),
            ("eos_token_id", self.eos_token_id, EOS_ID),
            ("bos_token_id", self.bos_token_id, BOS_ID),
            ("unk_token_id", self.unk_token_id, UNK_ID),
            ("decoder_start_token_id", self.decoder_start_token_id, EOS_ID),
        ] {
            if found != expected {
                return Err(RuntimeError::bad_file(path, format!("{name} is {found}, expected {expected}")));
            }
        }
        let config = SanConfig {
            vocab_size: self.vocab_size,
            d_model: self.d_model,
            num_heads: self.num_heads,
            num_kv_heads: self.num_kv_heads,
            num_encoder_layers: self.num_encoder_layers,
            num_decoder_layers: self.num_decoder_layers,
            rope_theta: self.rope_theta,
            rms_norm_eps: self.rms_norm_eps,
            contrastive_dim: self.contrastive_dim,
            max_enc_len: self.max_enc_len,
            max_dec_len: self.max_dec_len,
        };
        config.validate().map_err(|e| RuntimeError::bad_file(path, e.to_string()))?;
        Ok(config)
    }
}

/// Reads the configuration of the checkpoint in `dir`.
///
/// # Errors
/// If there is no valid `config.json`.
pub fn load(dir: &Path) -> Result<SanConfig, RuntimeError> {
    let path = dir.join(CONFIG);
    if !path.exists() {
        return Err(RuntimeError::bad_file(dir, format!("not a checkpoint: there is no {CONFIG}")));
    }
    let text = file::read_text(&path)?;
    let value: Value = serde_json::from_str(&text).map_err(|e| RuntimeError::bad_file(&path, e.to_string()))?;
    // For the file of another model, this message says more than one about a missing key.
    let found = &value["model_type"];
    if found != MODEL_TYPE {
        let reason = format!("model_type is {found}, expected {MODEL_TYPE:?}: not a Needle checkpoint");
        return Err(RuntimeError::bad_file(&path, reason));
    }
    // Parsed from the text again, so that the message has line and column.
    let file: ConfigFile = serde_json::from_str(&text).map_err(|e| RuntimeError::bad_file(&path, e.to_string()))?;
    file.into_config(&path)
}

/// The contents of `config.json` for `config`.
///
/// # Errors
/// If it cannot be serialized, which does not happen for a valid configuration.
pub fn to_json(config: &SanConfig) -> Result<Vec<u8>, RuntimeError> {
    serde_json::to_vec_pretty(&ConfigFile::new(config)).map_err(|e| RuntimeError::bad_file(CONFIG, e.to_string()))
}
