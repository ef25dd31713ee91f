//! What a run starts from: a new model or a checkpoint. Also the limits at which text is truncated.

use std::path::Path;

use burn::tensor::backend::AutodiffBackend;
use needle_data::{EncodeConfig, Tokenizer};
use needle_model::checkpoint::{Checkpoint, files};
use needle_model::{San, SanConfig};

use crate::error::TrainError;
use crate::recipe::Recipe;
use crate::run::inputs::{Base, file_hash};

/// What a run starts from.
pub struct Start<AB: AutodiffBackend> {
    /// Sizes of the model.
    pub config: SanConfig,
    /// Weights, fresh or from a base checkpoint.
    pub model: San<AB>,
    /// Tokenizer.
    pub tokenizer: Tokenizer,
    /// The checkpoint that the weights are from.
    pub base: Base,
    /// Whether the weights are those of the run's own `last/`.
    pub is_resumed: bool,
}

impl<AB: AutodiffBackend> Start<AB> {
    /// A new model of the recipe's sizes, for `tokenizer`.
    ///
    /// # Errors
    /// If there is no such preset, or its sizes do not fit each other.
    pub fn new(tokenizer: Tokenizer, recipe: &Recipe, device: &AB::Device) -> Result<Self, TrainError> {
        let error = |reason| TrainError::Recipe { path: None, reason };
        let sizes = recipe.model_config().map_err(error)?;
        let config = SanConfig { vocab_size: tokenizer.vocab_size(), ..sizes };
        let model = San::new(&config, recipe.seed, device)?;
        Ok(Self { config, model, tokenizer, base: Base::None, is_resumed: false })
    }

    /// A run that resumes from its own checkpoint in `last`; `base` is the checkpoint with which it
    /// started, if the user has named it.
    ///
    /// # Errors
    /// If one of the two cannot be read.
    pub fn resume(last: &Path, base: Option<&Path>, recipe: &Recipe, device: &AB::Device) -> Result<Self, TrainError> {
        let base =
            base.map_or(Ok(Base::NotNamed), |path| file_hash(&path.join(files::WEIGHTS)).map(Base::Checkpoint))?;
        Ok(Self { base, is_resumed: true, ..Self::from_checkpoint(last, recipe, device)? })
    }

    /// The checkpoint in `path`, with a new retrieval head if it has none and the recipe trains
    /// one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn from_checkpoint(path: &Path, recipe: &Recipe, device: &AB::Device) -> Result<Self, TrainError> {
        let Checkpoint { mut config, mut model, tokenizer } = Checkpoint::<AB>::load(path, device)?;
        tracing::info!("starting from {}", path.display());
        if model.retrieval_head.is_some() {
            tracing::info!("retrieval head: the one of {}", path.display());
        } else if recipe.loss.contrastive_weight > 0.0 {
            // The preset's width, because the base has no head.
            config.contrastive_dim = SanConfig::preset(&recipe.model)?.contrastive_dim;
            model.retrieval_head = San::new(&config, recipe.seed, device)?.retrieval_head;
            tracing::info!("retrieval head: a new one, because {} has none", path.display());
        }
        let base = Base::Checkpoint(file_hash(&path.join(files::WEIGHTS))?);
        Ok(Self { config, model, tokenizer, base, is_resumed: false })
    }
}

/// The limits at which a recipe truncates text.
pub fn encode_config(recipe: &Recipe) -> EncodeConfig {
    EncodeConfig {
        max_enc_tokens: recipe.data.row_enc_tokens.longest(),
        max_dec_tokens: recipe.data.row_dec_tokens.longest(),
        max_tool_tokens: recipe.data.max_tool_tokens.min(recipe.data.row_enc_tokens.longest()),
    }
}
