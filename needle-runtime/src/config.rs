//! Sizes of a Simple Attention Network.

use serde::{Deserialize, Serialize};

use crate::error::RuntimeError;

/// Sizes of the model. Where there is an equivalent, fields are named as in Hugging Face
/// configurations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SanConfig {
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key/value heads; each serves `num_heads / num_kv_heads` query heads.
    pub num_kv_heads: usize,
    /// Encoder layers.
    pub num_encoder_layers: usize,
    /// Decoder layers.
    pub num_decoder_layers: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f32,
    /// Width of the retrieval embedding; without it there is no retrieval head.
    pub contrastive_dim: Option<usize>,
    /// Maximum number of encoder tokens of a row, packed or not.
    pub max_enc_len: usize,
    /// Maximum number of decoder tokens of a row, packed or not.
    pub max_dec_len: usize,
}

impl SanConfig {
    /// Names of the presets.
    pub const PRESETS: [&'static str; 5] = ["needle-26m", "small", "mini", "quickstart", "tiny"];

    /// The preset called `name`.
    ///
    /// # Errors
    /// If there is no preset of that name; the message lists all presets.
    pub fn preset(name: &str) -> Result<Self, RuntimeError> {
        // The sizes of the published model (needle/model/architecture.py); the others have about
        // its proportions.
        let published = Self {
            vocab_size: 8192,
            d_model: 512,
            num_heads: 8,
            num_kv_heads: 4,
            num_encoder_layers: 12,
            num_decoder_layers: 8,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-6,
            contrastive_dim: Some(128),
            max_enc_len: 1024,
            max_dec_len: 512,
        };
        Ok(match name {
            "needle-26m" => published,
            // About 4M parameters: a laptop trains it in an hour.
            "small" => Self {
                vocab_size: 4096,
                d_model: 256,
                num_heads: 8,
                num_kv_heads: 4,
                num_encoder_layers: 6,
                num_decoder_layers: 4,
                ..published
            },
            // The quickstart's width with room for long prompts and a larger vocabulary.
            "mini" => Self {
                vocab_size: 4096,
                max_enc_len: published.max_enc_len,
                max_dec_len: published.max_dec_len,
                ..Self::preset("quickstart")?
            },
            // A little over 1M parameters: two cores train it in minutes.
            "quickstart" => Self {
                vocab_size: 1024,
                d_model: 192,
                num_heads: 6,
                num_kv_heads: 3,
                num_encoder_layers: 4,
                num_decoder_layers: 3,
                contrastive_dim: Some(64),
                max_enc_len: 512,
                max_dec_len: 256,
                ..published
            },
            // For tests.
            "tiny" => Self {
                vocab_size: 512,
                d_model: 64,
                num_heads: 4,
                num_kv_heads: 2,
                num_encoder_layers: 2,
                num_decoder_layers: 2,
                contrastive_dim: Some(32),
                max_enc_len: 256,
                max_dec_len: 128,
                ..published
            },
            other => {
                let reason = format!("there is no preset {other:?}; the presets are {}", Self::PRESETS.join(", "));
                return Err(RuntimeError::Config { field: "model", reason });
            }
        })
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.d_model / self.num_heads
    }

    /// Hidden width of the retrieval head.
    pub fn contrastive_hidden(&self) -> usize {
        self.d_model / 4
    }

    /// Length of the longest row, encoder or decoder, in tokens.
    pub fn max_len(&self) -> usize {
        self.max_enc_len.max(self.max_dec_len)
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// If they do not; the error names the field.
    pub fn validate(&self) -> Result<(), RuntimeError> {
        let check =
            |ok: bool, field, reason: String| if ok { Ok(()) } else { Err(RuntimeError::Config { field, reason }) };
        for (field, value) in [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("num_heads", self.num_heads),
            ("num_kv_heads", self.num_kv_heads),
            ("num_encoder_layers", self.num_encoder_layers),
            ("num_decoder_layers", self.num_decoder_layers),
            ("max_enc_len", self.max_enc_len),
            ("max_dec_len", self.max_dec_len),
        ] {
            check(value > 0, field, "must be at least 1".into())?;
            // Limits what a hostile file can claim; it is far beyond any model of this kind.
            check(value <= 1 << 20, field, format!("{value} exceeds the limit of 2^20"))?;
        }
        let (d, h, kv) = (self.d_model, self.num_heads, self.num_kv_heads);
        check(d.is_multiple_of(h), "d_model", format!("{d} is not a multiple of num_heads = {h}"))?;
        check(h.is_multiple_of(kv), "num_heads", format!("{h} is not a multiple of num_kv_heads = {kv}"))?;
        check(
            (d / h).is_multiple_of(2),
            "d_model",
            format!("the head dimension {} is odd, but rotary embedding needs an even one", d / h),
        )?;
        check(self.rms_norm_eps > 0.0 && self.rms_norm_eps.is_finite(), "rms_norm_eps", "must be positive".into())?;
        check(self.rope_theta > 0.0 && self.rope_theta.is_finite(), "rope_theta", "must be positive".into())?;
        if let Some(dim) = self.contrastive_dim {
            check((1..=1 << 20).contains(&dim), "contrastive_dim", "must be between 1 and 2^20".into())?;
            check(d >= 4, "d_model", "must be at least 4 for a retrieval head".into())?;
        }
        Ok(())
    }

    /// Number of attention blocks: one per encoder layer, two per decoder layer.
    fn num_attentions(&self) -> usize {
        self.num_encoder_layers + 2 * self.num_decoder_layers
    }

    /// Number of parameters of all Q, K, V and O matrices, which INT4 quantizes.
    pub fn num_matrix_params(&self) -> usize {
        let kv_width = self.num_kv_heads * self.head_dim();
        // Q and O, K and V.
        let attention = 2 * self.d_model * self.d_model + 2 * self.d_model * kv_width;
        // Saturating, because the sizes of a hostile file may overflow.
        self.num_attentions().saturating_mul(attention)
    }

    /// Number of parameters without the retrieval head.
    pub fn num_params(&self) -> usize {
        let d = self.d_model;
        // The norms of queries and keys over a head, the norm before the attention, and the gate.
        let norms_and_gate = 2 * self.head_dim() + d + 1;
        let beside_matrices = self.num_attentions().saturating_mul(norms_and_gate);
        let rest = beside_matrices.saturating_add(self.vocab_size * d + 2 * d);
        self.num_matrix_params().saturating_add(rest)
    }

    /// Number of parameters, including the retrieval head if there is one.
    pub fn num_params_with_head(&self) -> usize {
        let hidden = self.contrastive_hidden();
        let head = self.contrastive_dim.map_or(0, |dim| self.d_model * hidden + hidden + hidden * dim + 1);
        self.num_params().saturating_add(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sizes_have_the_published_number_of_parameters() {
        let config = SanConfig::preset("needle-26m").unwrap();
        assert_eq!(config.num_params(), 26_233_372);
        assert_eq!(config.num_params_with_head(), 26_315_421);
    }

    #[test]
    fn every_preset_is_valid_and_an_unknown_name_is_refused_with_the_list_of_presets() {
        for name in SanConfig::PRESETS {
            SanConfig::preset(name).unwrap().validate().unwrap();
        }
        let error = SanConfig::preset("needle-27m").unwrap_err().to_string();
        assert!(error.contains("needle-27m") && error.contains("needle-26m"), "{error}");
        let quickstart = SanConfig::preset("quickstart").unwrap().num_params_with_head();
        assert!((1_000_000..2_000_000).contains(&quickstart), "{quickstart}");
    }

    #[test]
    fn sizes_that_do_not_fit_together_are_refused_by_field() {
        let good = SanConfig::preset("tiny").unwrap();
        for (config, field) in [
            (SanConfig { num_heads: 3, ..good.clone() }, "d_model"),
            (SanConfig { num_kv_heads: 3, ..good.clone() }, "num_heads"),
            (SanConfig { num_encoder_layers: 0, ..good.clone() }, "num_encoder_layers"),
            (SanConfig { vocab_size: 1 << 40, ..good.clone() }, "vocab_size"),
            (SanConfig { rms_norm_eps: 0.0, ..good.clone() }, "rms_norm_eps"),
            (SanConfig { num_heads: 64, num_kv_heads: 64, ..good }, "d_model"),
        ] {
            assert!(config.validate().unwrap_err().to_string().starts_with(field));
        }
    }
}
