//! The `[schedule]` section of a recipe.

use serde::{Deserialize, Serialize};

use crate::range::Allowed::{Number, Whole};
use crate::range::{MAX_STEPS, section};

section! {
    /// Learning-rate schedule: linear warmup from 0, constant, cosine decay (WSD, Hu et al.,
    /// arXiv:2404.06395, with a cosine as in needle/training/optim.py).
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct ScheduleConfig {
        /// Number of warmup steps.
        pub warmup_steps: usize => Whole(0, MAX_STEPS),
        /// Share of all steps, at the end, over which the learning rate decays.
        pub decay_ratio: f64 => Number(0.0, 1.0),
        /// Share of the peak learning rate that is left at the end.
        pub final_fraction: f64 => Number(0.0, 1.0),
    }
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        // Decay ratio and final fraction are the original's.
        Self { warmup_steps: 50, decay_ratio: 0.15, final_fraction: 0.05 }
    }
}
