//! Decides which checkpoint is the best so far, and when to stop training.

use serde::{Deserialize, Serialize};

/// Smallest number of answers by which checkpoints are chosen; with fewer, the probability of their
/// tokens decides.
///
/// One of `n` answers moves a score by `1 / n`, and the standard error of a fraction near one half
/// is `0.5 / sqrt(n)`: with 30 answers 0.09, with six 0.20, which is more than neighbouring
/// checkpoints ever differ by. The tokens of six answers are a hundred. Their loss has no bound, so
/// that a few tokens of which a model is sure and wrong decide it; a probability has one. Neither
/// has been shown to choose better (docs/LOG.md, "Finetuning").
pub const LEAST_ANSWERS: usize = 30;

/// How well a model predicts the next token of the right answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenFit {
    /// Weighted cross-entropy, in nats.
    pub loss: f64,
    /// Weighted mean of the probability that the model gives to the right token, from 0 to 1.
    pub probability: f64,
}

/// The result of one validation.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The score by which checkpoints are chosen, higher is better (see [`Measured::new`]). `None`
    /// if there was nothing to measure.
    pub score: Option<f64>,
    /// Loss at INT4 on the validation rows, if there are any.
    pub int4_loss: Option<f64>,
}

impl Measured {
    /// The result of a validation with the call F1 of `num_answers` answers, and the fit at INT4.
    ///
    /// The score is call F1. With fewer than [`LEAST_ANSWERS`] answers it is the mean probability
    /// of their tokens, and for text, which has no answers, the negative loss.
    pub fn new(call_f1: Option<f64>, num_answers: usize, int4: Option<TokenFit>) -> Self {
        let score = match (call_f1, int4) {
            (Some(call_f1), _) if num_answers >= LEAST_ANSWERS => Some(call_f1),
            (Some(_), Some(fit)) => Some(fit.probability),
            (None, Some(fit)) => Some(-fit.loss),
            (call_f1, None) => call_f1,
        };
        let int4_loss = int4.map(|fit| fit.loss);
        Self { score, int4_loss }
    }
}

/// The best validation so far, and how long ago it was.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// The best validation.
    pub best: Measured,
    /// The step after which it was measured: that of the checkpoint in `best/`.
    pub best_step: Option<usize>,
    /// Number of validations without a better score since then.
    pub validations_since_best: usize,
}

impl EarlyStopping {
    /// Records a validation after `step`; returns whether its checkpoint is the best so far.
    ///
    /// An equal score with a loss that is not higher makes the checkpoint the best, but does not
    /// reset patience.
    pub fn observe(&mut self, step: usize, measured: Measured) -> bool {
        let has_risen = measured.score.is_some_and(|score| self.best.score.is_none_or(|best| score > best));
        let is_equal = measured.score == self.best.score
            && measured.int4_loss.zip(self.best.int4_loss).is_none_or(|(loss, best)| loss <= best);
        if has_risen {
            self.validations_since_best = 0;
        } else if measured.score.is_some() {
            // A validation without anything to measure says nothing about progress.
            self.validations_since_best += 1;
        }
        let is_best =
            (has_risen || measured.score.is_some() && is_equal) && measured.int4_loss.is_none_or(f64::is_finite);
        if is_best {
            (self.best, self.best_step) = (measured, Some(step));
        }
        is_best
    }

    /// Whether `patience` validations in a row brought no better score; always false without
    /// `patience`.
    pub fn is_over(&self, patience: Option<usize>) -> bool {
        patience.is_some_and(|patience| self.validations_since_best >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(score: f64, int4_loss: f64) -> Measured {
        Measured { score: Some(score), int4_loss: Some(int4_loss) }
    }

    #[test]
    fn a_higher_score_is_the_best_and_renews_patience() {
        let mut stopping = EarlyStopping::default();
        assert!(stopping.observe(0, measured(0.5, 2.0)));
        assert!(!stopping.observe(10, measured(0.4, 1.0)) && !stopping.is_over(Some(2)));
        assert!(!stopping.observe(20, measured(0.4, 1.0)) && stopping.is_over(Some(2)));
        assert!(stopping.observe(30, measured(0.6, 3.0)) && !stopping.is_over(Some(2)));
        assert_eq!((stopping.best_step, stopping.best.score), (Some(30), Some(0.6)));
        assert!(!stopping.is_over(None));
    }

    #[test]
    fn an_equal_score_with_a_lower_loss_is_kept_without_renewing_patience() {
        let mut stopping = EarlyStopping::default();
        stopping.observe(0, measured(0.5, 2.0));
        assert!(stopping.observe(10, measured(0.5, 1.5)) && stopping.validations_since_best == 1);
        assert!(!stopping.observe(20, measured(0.5, 1.9)) && stopping.best_step == Some(10));
    }

    #[test]
    fn a_validation_without_anything_to_measure_costs_no_patience() {
        let mut stopping = EarlyStopping::default();
        for step in 0..9 {
            assert!(!stopping.observe(step, Measured::default()));
        }
        assert!(!stopping.is_over(Some(1)) && stopping.best_step.is_none());
    }

    #[test]
    fn few_answers_leave_the_choice_to_their_tokens_and_enough_of_them_make_it() {
        let fit = Some(TokenFit { loss: 2.0, probability: 0.7 });
        let score = |answers: usize| Measured::new(Some(0.5), answers, fit).score;
        assert_eq!([1, LEAST_ANSWERS - 1, LEAST_ANSWERS].map(score), [Some(0.7), Some(0.7), Some(0.5)]);
        assert_eq!(Measured::new(Some(0.5), 6, None).score, Some(0.5), "there is nothing else to choose by");
        assert_eq!(Measured::new(None, 0, fit).score, Some(-2.0), "text has no answers");
        assert_eq!(Measured::new(None, 0, None), Measured::default());
    }

    #[test]
    fn six_wrong_answers_do_not_end_a_run_whose_tokens_become_more_probable() {
        let mut stopping = EarlyStopping::default();
        let measured = |loss, probability| Measured::new(Some(0.0), 6, Some(TokenFit { loss, probability }));
        for (step, (loss, probability)) in [(3.0, 0.2), (1.0, 0.5), (1.5, 0.6), (2.0, 0.7)].into_iter().enumerate() {
            assert!(stopping.observe(step, measured(loss, probability)) && !stopping.is_over(Some(1)));
        }
        assert!(!stopping.observe(5, measured(0.9, 0.6)) && stopping.is_over(Some(1)));
        assert_eq!(stopping.best_step, Some(3));
    }

    #[test]
    fn a_loss_that_is_not_finite_is_never_the_best() {
        let mut stopping = EarlyStopping::default();
        assert!(!stopping.observe(0, measured(0.9, f64::NAN)) && stopping.best_step.is_none());
    }
}
