//! What a run starts from: a new model or a checkpoint, and the limits at which it cuts text.

use std::path::Path;

use burn::tensor::backend::AutodiffBackend;
use needle_data::{EncodeConfig, Tokenizer};
use needle_model::checkpoint::Checkpoint;
use needle_model::{San, SanConfig};

use crate::error::TrainError;
use crate::recipe::Recipe;

/// What a run starts from.
pub struct Start<AB: AutodiffBackend> {
    /// Sizes.
    pub config: SanConfig,
    /// Weights, fresh or from a base checkpoint.
    pub model: San<AB>,
    /// Tokenizer.
    pub tokenizer: Tokenizer,
}

impl<AB: AutodiffBackend> Start<AB> {
    /// A new model of the recipe's preset, for `tokenizer`.
    ///
    /// # Errors
    /// If there is no such preset.
    pub fn new(tokenizer: Tokenizer, recipe: &Recipe, device: &AB::Device) -> Result<Self, TrainError> {
        let config = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset(&recipe.model)? };
        let model = San::new(&config, recipe.seed, device)?;
        Ok(Self { config, model, tokenizer })
    }

    /// The checkpoint in `path`, with a new retrieval head if it has none and the recipe trains one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn from_checkpoint(path: &Path, recipe: &Recipe, device: &AB::Device) -> Result<Self, TrainError> {
        let Checkpoint { mut config, mut model, tokenizer } = Checkpoint::<AB>::load(path, device)?;
        tracing::info!("starting from {}", path.display());
        if model.retrieval_head.is_some() {
            tracing::info!("retrieval head: the one of {}", path.display());
        } else if recipe.loss.contrastive_weight > 0.0 {
            // The preset's width; the base has none of its own.
            config.contrastive_dim = SanConfig::preset(&recipe.model)?.contrastive_dim;
            model.retrieval_head = San::new(&config, recipe.seed, device)?.retrieval_head;
            tracing::info!("retrieval head: a new one, {} has none", path.display());
        }
        Ok(Self { config, model, tokenizer })
    }
}

/// The limits at which a recipe cuts text.
pub fn encode_config(recipe: &Recipe) -> EncodeConfig {
    EncodeConfig {
        max_enc_tokens: recipe.data.row_enc_tokens.longest(),
        max_dec_tokens: recipe.data.row_dec_tokens.longest(),
        max_tool_tokens: recipe.data.max_tool_tokens.min(recipe.data.row_enc_tokens.longest()),
    }
}
