//! The part of a recipe about optimizers.

use serde::{Deserialize, Serialize};

use crate::range::Allowed::{Below, Number, Whole};
use crate::range::section;

section! {
    /// Settings of both optimizers.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct OptimConfig {
        /// What trains the Q, K, V and O matrices.
        pub matrices: Group,
        /// Trains adapters of this rank on the Q, K, V and O matrices by AdamW, and nothing else;
        /// all parameters, if not given.
        pub lora_rank: Option<usize> => Whole(1, 4096),
        /// Peak rate of Muon.
        pub muon_lr: f64 => Number(0.0, 1e30),
        /// Muon's momentum, in Nesterov's form.
        pub muon_momentum: f64 => Below(0.0, 1.0),
        /// Muon's decoupled weight decay.
        pub muon_weight_decay: f64 => Number(0.0, 100.0),
        /// Newton-Schulz iterations.
        pub muon_ns_steps: usize => Whole(1, 100),
        /// Peak rate of AdamW.
        pub adamw_lr: f64 => Number(0.0, 1e30),
        /// What the embedding's rate is of AdamW's. Less keeps the word vectors that it begins
        /// with: AdamW moves each number as far as any other, also those of words that are seldom
        /// met.
        pub embedding_lr_scale: f64 => Number(0.0, 1.0),
        /// AdamW's decay of the first moment.
        pub adamw_beta1: f64 => Below(0.0, 1.0),
        /// AdamW's decay of the second moment.
        pub adamw_beta2: f64 => Below(0.0, 1.0),
        /// AdamW's decoupled weight decay, of matrices: never of gains, gates, biases or the
        /// temperature.
        pub adamw_weight_decay: f64 => Number(0.0, 100.0),
        /// Added to AdamW's denominator, outside the root.
        pub adamw_epsilon: f64 => Number(1e-16, 1.0),
        /// Largest global gradient norm: longer gradients are scaled down to it.
        pub clip_global_norm: f64 => Number(1e-9, 1e9),
    }
}

impl Default for OptimConfig {
    fn default() -> Self {
        // The original's (needle/training/optim.py); 3e-5 is its AdamW rate after pretraining.
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
    /// Q, K, V and O, unless the recipe says otherwise.
    Muon,
    /// Embedding, norms, gates, retrieval head.
    AdamW,
}
