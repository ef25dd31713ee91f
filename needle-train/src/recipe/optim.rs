//! The `[optim]` section of a recipe.

use serde::{Deserialize, Serialize};

use crate::range::Allowed::{Below, Number, Whole};
use crate::range::section;

section! {
    /// Settings of both optimizers.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct OptimConfig {
        /// The optimizer of the Q, K, V and O matrices.
        pub matrices: Group,
        /// Trains only adapters of this rank on the Q, K, V and O matrices (LoRA), with AdamW.
        /// Without it, all parameters are trained.
        pub lora_rank: Option<usize> => Whole(1, 4096),
        /// Muon's peak learning rate.
        pub muon_lr: f64 => Number(0.0, 1e30),
        /// Muon's Nesterov momentum.
        pub muon_momentum: f64 => Below(0.0, 1.0),
        /// Muon's decoupled weight decay.
        pub muon_weight_decay: f64 => Number(0.0, 100.0),
        /// Number of Newton-Schulz iterations.
        pub muon_ns_steps: usize => Whole(1, 100),
        /// AdamW's peak learning rate.
        pub adamw_lr: f64 => Number(0.0, 1e30),
        /// Factor on AdamW's learning rate for the embedding. A value below 1 preserves initial
        /// word vectors: AdamW moves all numbers equally far, even those of rare words.
        pub embedding_lr_scale: f64 => Number(0.0, 1.0),
        /// AdamW's decay rate of the first moment.
        pub adamw_beta1: f64 => Below(0.0, 1.0),
        /// AdamW's decay rate of the second moment.
        pub adamw_beta2: f64 => Below(0.0, 1.0),
        /// AdamW's decoupled weight decay. It applies to matrices, never to gains, gates, biases or
        /// the temperature.
        pub adamw_weight_decay: f64 => Number(0.0, 100.0),
        /// Added to AdamW's denominator, outside the square root.
        pub adamw_epsilon: f64 => Number(1e-16, 1.0),
        /// Largest global gradient norm; larger gradients are scaled down to it.
        pub clip_global_norm: f64 => Number(1e-9, 1e9),
    }
}

impl Default for OptimConfig {
    fn default() -> Self {
        // The original's (needle/training/optim.py); 3e-5 is its AdamW learning rate after
        // pretraining.
        Self {
            matrices: Group::Muon,
            lora_rank: None,
            muon_lr: 0.02,
            muon_momentum: 0.95,
            muon_weight_decay: 0.01,
            muon_ns_steps: 5,
            adamw_lr: 3e-5,
            embedding_lr_scale: 1.0,
            adamw_beta1: 0.9,
            adamw_beta2: 0.95,
            adamw_weight_decay: 0.0,
            adamw_epsilon: 1e-8,
            clip_global_norm: 1.0,
        }
    }
}

/// Which optimizer trains a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Muon: the Q, K, V and O matrices, unless the recipe says otherwise.
    Muon,
    /// AdamW: embedding, norms, gates, retrieval head.
    AdamW,
}
