//! The `[sizes]` section of a recipe: sizes that replace the preset's.

use needle_model::SanConfig;
use serde::{Deserialize, Serialize};

use crate::range::Allowed::Whole;
use crate::range::section;

section! {
    /// Sizes that replace the preset's. The vocabulary size is the tokenizer's.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Sizes {
        /// Width of the residual stream; a multiple of `num_heads`.
        pub d_model: Option<usize> => Whole(1, 1 << 16),
        /// Number of query heads.
        pub num_heads: Option<usize> => Whole(1, 1 << 10),
        /// Number of key/value heads; divides `num_heads`.
        pub num_kv_heads: Option<usize> => Whole(1, 1 << 10),
        /// Number of encoder layers, which read query and tools.
        pub num_encoder_layers: Option<usize> => Whole(1, 1 << 10),
        /// Number of decoder layers, which write the answer.
        pub num_decoder_layers: Option<usize> => Whole(1, 1 << 10),
    }
}

impl Sizes {
    /// `preset` with these sizes in place of its own.
    ///
    /// # Errors
    /// If the sizes do not fit each other; the message names the one that does not.
    pub fn of(&self, preset: SanConfig) -> Result<SanConfig, String> {
        let config = SanConfig {
            d_model: self.d_model.unwrap_or(preset.d_model),
            num_heads: self.num_heads.unwrap_or(preset.num_heads),
            num_kv_heads: self.num_kv_heads.unwrap_or(preset.num_kv_heads),
            num_encoder_layers: self.num_encoder_layers.unwrap_or(preset.num_encoder_layers),
            num_decoder_layers: self.num_decoder_layers.unwrap_or(preset.num_decoder_layers),
            ..preset
        };
        config.validate().map_err(|e| format!("sizes: {e}"))?;
        Ok(config)
    }
}
