//! Warmup, constant, decay: the factor on each learning rate as a pure function of the step.

use crate::recipe::ScheduleConfig;

impl ScheduleConfig {
    /// The factor after `count` of `steps` updates: 0 at 0, 1 after the warmup, `final_fraction`
    /// from `steps` on.
    ///
    /// Our n-th update uses `factor(n)`. The original uses `factor(n - 1)`, so that its first
    /// update does nothing.
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
