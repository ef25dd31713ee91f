//! What a run does when its loss is not finite, or rises far above its initial value.
//!
//! A step that is not finite is skipped: weights and moments stay unchanged. After several such
//! steps in a row, or when the loss has diverged, the run backs off: it returns to its best
//! checkpoint and continues with a tenth of its learning rates, as often as the recipe allows.
//! After that, several skipped steps in a row end it with an error.

use serde::{Deserialize, Serialize};

/// Factor on the learning rates at each back-off.
const RATE_FACTOR: f64 = 0.1;
/// Weight of a new step in the smoothed loss.
const SMOOTHING: f64 = 0.2;
/// The run has diverged when the smoothed loss exceeds `DIVERGED_FACTOR` times the initial loss
/// plus `DIVERGED_MARGIN`.
const DIVERGED_FACTOR: f64 = 2.0;
/// See [`DIVERGED_FACTOR`].
const DIVERGED_MARGIN: f64 = 1.0;

/// Limits on skipped steps and back-offs, from the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Number of consecutive steps that may be skipped.
    pub max_skipped_steps: usize,
    /// Number of times that the run may back off.
    pub max_backoffs: usize,
}

/// What to do after a step that was not finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterSkip {
    /// Continue with the next step.
    GoOn,
    /// Back off, for this reason.
    BackOff(String),
    /// End the run.
    Fail,
}

/// How stable a run has been so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stability {
    /// Number of steps skipped because the loss or a gradient was not finite.
    pub skipped_steps: usize,
    /// Number of consecutive skipped steps up to now.
    pub skipped_in_a_row: usize,
    /// Number of back-offs so far.
    pub backoffs: usize,
    /// Cross-entropy of the first batch, before anything was learned.
    pub initial_loss: Option<f64>,
    /// Smoothed cross-entropy.
    pub smoothed_loss: Option<f64>,
}

impl Stability {
    /// Factor on the scheduled learning rates.
    pub fn rate_factor(&self) -> f64 {
        RATE_FACTOR.powi(self.backoffs as i32)
    }

    /// Records the loss of a finite step. If the run has diverged and may back off, returns the
    /// reason.
    pub fn observe_loss(&mut self, loss: f64, limits: Limits) -> Option<String> {
        self.skipped_in_a_row = 0;
        let smoothed = self.smoothed_loss.map_or(loss, |mean| mean + SMOOTHING * (loss - mean));
        self.smoothed_loss = Some(smoothed);
        let initial = *self.initial_loss.get_or_insert(loss);
        let has_diverged = smoothed > DIVERGED_FACTOR * initial + DIVERGED_MARGIN;
        (has_diverged && self.backoffs < limits.max_backoffs)
            .then(|| format!("the loss rose from {initial:.2} to {smoothed:.2}"))
    }

    /// Records a step that was skipped because of `what`.
    pub fn observe_skip(&mut self, what: &str, limits: Limits) -> AfterSkip {
        self.skipped_steps += 1;
        self.skipped_in_a_row += 1;
        if self.skipped_in_a_row <= limits.max_skipped_steps {
            AfterSkip::GoOn
        } else if self.backoffs < limits.max_backoffs {
            AfterSkip::BackOff(format!("{what}, {} steps in a row", self.skipped_in_a_row))
        } else {
            AfterSkip::Fail
        }
    }

    /// Records a back-off. The smoothed loss and the consecutive skips are reset, because they
    /// belong to the discarded weights.
    pub fn backed_off(&mut self) {
        self.backoffs += 1;
        self.skipped_in_a_row = 0;
        self.smoothed_loss = None;
    }
}

/// Which of `loss` and `gradient_norm` is not finite, in words; `None` if both are finite.
pub fn not_finite(loss: f64, gradient_norm: f64) -> Option<String> {
    let values = [("the loss", loss), ("the gradient norm", gradient_norm)];
    let found = values.into_iter().find(|(_, value)| !value.is_finite());
    found.map(|(what, value)| format!("{what} is {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_skipped_steps: 2, max_backoffs: 1 };

    #[test]
    fn a_few_skipped_steps_are_bad_luck_more_of_them_back_off_and_then_fail() {
        let mut stability = Stability::default();
        assert_eq!(stability.observe_skip("the loss is NaN", LIMITS), AfterSkip::GoOn);
        assert_eq!(stability.observe_loss(3.0, LIMITS), None);
        for _ in 0..2 {
            assert_eq!(stability.observe_skip("the loss is NaN", LIMITS), AfterSkip::GoOn);
        }
        let reason = "the loss is NaN, 3 steps in a row".to_owned();
        assert_eq!(stability.observe_skip("the loss is NaN", LIMITS), AfterSkip::BackOff(reason));
        stability.backed_off();
        assert!((stability.rate_factor() - 0.1).abs() < 1e-12);
        for _ in 0..2 {
            assert_eq!(stability.observe_skip("the loss is NaN", LIMITS), AfterSkip::GoOn);
        }
        assert_eq!(stability.observe_skip("the loss is NaN", LIMITS), AfterSkip::Fail);
        assert_eq!(stability.skipped_steps, 7);
    }

    #[test]
    fn one_high_loss_is_noise_a_smoothed_high_loss_has_diverged() {
        let mut stability = Stability::default();
        assert_eq!(stability.observe_loss(4.0, LIMITS), None);
        assert_eq!(stability.observe_loss(20.0, LIMITS), None);
        let reason = (0..9).find_map(|_| stability.observe_loss(20.0, LIMITS));
        assert!(reason.is_some_and(|reason| reason.starts_with("the loss rose from 4.00 to ")));
        stability.backed_off();
        assert_eq!(stability.smoothed_loss, None);
        assert!((0..9).all(|_| stability.observe_loss(20.0, LIMITS).is_none()), "no back-off is left");
    }

    #[test]
    fn what_is_not_finite_is_named() {
        assert_eq!(not_finite(f64::NAN, 1.0).as_deref(), Some("the loss is NaN"));
        assert_eq!(not_finite(1.0, f64::INFINITY).as_deref(), Some("the gradient norm is inf"));
        assert_eq!(not_finite(1.0, 1.0), None);
    }
}
