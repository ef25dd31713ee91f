//! Warmup, constant, decay: the factor on each learning rate as a pure function of the step.

use serde::{Deserialize, Serialize};

use crate::range::Allowed::{Number, Whole};
use crate::range::{MAX_STEPS, section};

section! {
    /// Linear warmup from 0, constant, cosine decay (WSD, Hu et al., arXiv:2404.06395, with a cosine as in
    /// needle/training/optim.py).
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct ScheduleConfig {
        /// Steps of the warmup.
        pub warmup_steps: usize => Whole(0, MAX_STEPS),
        /// RankBatch of all steps that decay.
        pub decay_ratio: f64 => Number(0.0, 1.0),
        /// What is left at the end.
        pub final_fraction: f64 => Number(0.0, 1.0),
    }
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        // Decay ratio and end as in the original.
        Self { warmup_steps: 50, decay_ratio: 0.15, final_fraction: 0.05 }
    }
}

impl ScheduleConfig {
    /// The factor after `count` of `steps` updates: 0 at 0, 1 after the warmup, `final_fraction` from `steps` on.
    ///
    /// Our n-th update takes `factor(n)`. The original takes `factor(n - 1)`, so that its first update does nothing.
    pub fn factor(&self, count: usize, steps: usize) -> f64 {
        let decay_steps = ((steps as f64 * self.decay_ratio) as usize).max(1);
        let decay_start = steps.saturating_sub(decay_steps);
        if count >= decay_start {
            let progress = ((count - decay_start) as f64 / decay_steps as f64).min(1.0);
            let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
            self.final_fraction + (1.0 - self.final_fraction) * cosine
        } else if count < self.warmup_steps {
            count as f64 / self.warmup_steps as f64
        } else {
            1.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_stays_and_falls() {
        let schedule = ScheduleConfig { warmup_steps: 10, decay_ratio: 0.2, final_fraction: 0.05 };
        let factor = |count| schedule.factor(count, 100);
        assert_eq!((factor(0), factor(5), factor(10), factor(79), factor(80)), (0.0, 0.5, 1.0, 1.0, 1.0));
        assert!((factor(90) - 0.525).abs() < 1e-12);
        assert!((factor(100) - 0.05).abs() < 1e-12 && (factor(1000) - 0.05).abs() < 1e-12);
    }

    #[test]
    fn short_runs_and_no_warmup_work() {
        let schedule = ScheduleConfig { warmup_steps: 0, decay_ratio: 0.5, final_fraction: 0.0 };
        assert_eq!(schedule.factor(0, 1), 1.0);
        assert!(schedule.factor(1, 1).abs() < 1e-12);
        let schedule = ScheduleConfig { warmup_steps: 100, ..schedule };
        assert!((0..20).all(|count| schedule.factor(count, 10).is_finite()));
    }
}
