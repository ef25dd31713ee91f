//! Plans a finetune: how many steps it takes, how long it will run, and how far its test results
//! can be trusted.
//!
//! Few examples need many epochs: a model learns to name five new tools in some hundred steps,
//! whether there are 80 examples or 800. A small set therefore gets up to [`SMALL_SET_STEPS`]
//! steps, as far as the time budget allows; a large set always gets [`EPOCHS`] epochs, unless the
//! user limits the time. The number of steps is decided once, before the run starts, and is part of
//! the run's recipe from then on.

use std::time::Instant;

use burn::backend::Autodiff;
use needle_data::batching::loader::pack_examples;
use needle_data::{Batch, EncodedExample, Encoder, Example};
use needle_model::FusedOps;
use needle_runtime::Precision;

use super::{Base, Parts, Settings};
use crate::answering;
use crate::error::TrainError;
use crate::eval::evaluate;
use crate::optim::{LearningRates, Optimizer, clip_global_norm};
use crate::recipe::{EvalConfig, Recipe};
use crate::training::policies::early_stopping::LEAST_ANSWERS;
use crate::training::step::forward_backward;
use crate::training::trainer::{Start, encode_config};

/// Time budget, in minutes, for a finetune on a small set, unless the user sets one.
pub const DEFAULT_MINUTES: f64 = 10.0;
/// Epochs on a large set, for a base that can already copy.
pub const EPOCHS: usize = 6;
/// Steps on a set that is too small to reach as many in [`EPOCHS`] epochs: docs/LOG.md,
/// "Finetuning".
pub const SMALL_SET_STEPS: usize = 600;
/// Smallest number of steps that is worth taking.
pub const LEAST_STEPS: usize = 40;
/// Steps for a new model.
const STEPS_FROM_SCRATCH: usize = 1500;
/// Number of validations in a run.
pub(super) const VALIDATIONS: usize = 8;
/// Test results on fewer examples come with a warning about their precision: at this number, two
/// standard errors are ten points.
const FEW_TEST_EXAMPLES: usize = 100;

/// What one step and one answer cost.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    /// Seconds of a training step.
    pub seconds_per_step: f64,
    /// Seconds of an answer.
    pub seconds_per_answer: f64,
}

/// What the plan is based on.
#[derive(Debug, Clone, Copy)]
pub struct Forecast {
    /// Number of batches in an epoch.
    pub batches_per_epoch: usize,
    /// What one step and one answer cost.
    pub speed: Speed,
    /// Number of answers in all validations and tests.
    pub answers: usize,
}

impl Forecast {
    fn seconds(&self, steps: usize) -> f64 {
        steps as f64 * self.speed.seconds_per_step + self.answers as f64 * self.speed.seconds_per_answer
    }

    /// Number of steps that fit into `minutes`, besides all answers.
    fn steps_in(&self, minutes: f64) -> usize {
        // The cast saturates: a float that is negative or too large becomes the nearest integer.
        ((minutes * 60.0 - self.seconds(0)) / self.speed.seconds_per_step) as usize
    }
}

/// The number of steps: the user's, or one that follows from examples and time.
///
/// # Errors
/// If `max_minutes` leaves no time for [`LEAST_STEPS`], or is given together with a number of
/// steps.
pub(super) fn steps(
    recipe: &Recipe,
    forecast: &Forecast,
    base: Base<'_>,
    settings: Settings<'_>,
) -> Result<usize, TrainError> {
    let error = |reason: String| TrainError::Recipe { path: None, reason };
    if settings.is_set("steps") {
        return match settings.max_minutes {
            Some(_) => Err(error("steps and --max-minutes both say how long to train: leave one of them out".into())),
            None => Ok(recipe.steps),
        };
    }
    planned_steps(forecast, matches!(base, Base::Scratch), settings.max_minutes).map_err(error)
}

fn planned_steps(forecast: &Forecast, is_scratch: bool, max_minutes: Option<f64>) -> Result<usize, String> {
    let (least, wanted) = if is_scratch {
        (STEPS_FROM_SCRATCH, STEPS_FROM_SCRATCH)
    } else {
        let epochs = EPOCHS * forecast.batches_per_epoch;
        (epochs.max(LEAST_STEPS), epochs.max(SMALL_SET_STEPS))
    };
    let Some(minutes) = max_minutes else {
        return Ok(forecast.steps_in(DEFAULT_MINUTES).clamp(least, wanted));
    };
    let affordable = forecast.steps_in(minutes);
    if affordable < LEAST_STEPS {
        let needed = forecast.seconds(LEAST_STEPS) / 60.0;
        return Err(format!(
            "--max-minutes {minutes} is time for {affordable} steps, but a finetune needs at least {LEAST_STEPS}: with the \
             validations, they take {needed:.1} minutes on this machine"
        ));
    }
    Ok(affordable.min(wanted))
}

/// Number of answers in all validations, the fit of the confidence, and the tests.
pub(super) fn answers(recipe: &Recipe, parts: &Parts) -> usize {
    let validation = parts.validation.len();
    validation.min(recipe.eval.max_examples) * (VALIDATIONS + 1) + 2 * validation + 3 * parts.test.len()
}

impl Speed {
    /// Measures the speed on this machine, by training steps and answers whose results are
    /// discarded.
    pub(super) fn measure<B: FusedOps>(
        recipe: &Recipe,
        start: &Start<Autodiff<B>>,
        parts: &Parts,
    ) -> Result<Self, TrainError> {
        let encoder = Encoder::new(&start.tokenizer, encode_config(recipe))?;
        let examples: Vec<EncodedExample> = parts.train.iter().filter_map(|e| encoder.encode(e, None).ok()).collect();
        let sizes = recipe.data.row_sizes();
        let mut rows = pack_examples(examples.clone(), &sizes);
        // As many rows as in a real step, even if there are too few examples.
        while !rows.is_empty() && rows.len() < recipe.data.rows {
            rows.extend(pack_examples(examples.clone(), &sizes));
        }
        let rows: Vec<Vec<&EncodedExample>> =
            rows.iter().take(recipe.data.rows).map(|row| row.examples.iter().collect()).collect();
        let batch = Batch::from_rows(&rows, recipe.data.max_retrieval_pairs);
        let step = || {
            let began = Instant::now();
            let (_, gradients) = forward_backward(&start.model, &batch, recipe, recipe.loss.contrastive_every_steps);
            let (gradients, _) = clip_global_norm(gradients, recipe.optim.clip_global_norm);
            let rates = LearningRates { muon: 0.0, adamw: 0.0 };
            let _ = Optimizer::new(&recipe.optim, recipe.seed).step(start.model.clone(), gradients, rates);
            began.elapsed().as_secs_f64()
        };
        // The fastest of three: the first is slower (pages, threads, caches), and other processes
        // may disturb any.
        let seconds_per_step = (0..3).map(|_| step()).fold(f64::INFINITY, f64::min);
        let asked: Vec<Example> = parts.train.iter().take(8).cloned().collect();
        let began = Instant::now();
        let inner = burn::module::AutodiffModule::valid(&start.model);
        let config = EvalConfig { max_tokens: 64, ..recipe.eval.clone() }.answer_config();
        let needle = answering::of_model::<B>(&inner, &start.config, &start.tokenizer, Precision::Int4)?;
        evaluate(&needle.with_lengths(encoder.config().clone())?.with_config(config)?, &asked, &mut |_| {})?;
        Ok(Self { seconds_per_step, seconds_per_answer: began.elapsed().as_secs_f64() / asked.len().max(1) as f64 })
    }
}

/// Logs the plan and how long it will take; returns warnings, which belong in the report, too.
/// `own_share` is the share of the rows that hold the user's own examples.
pub(super) fn announce(recipe: &Recipe, forecast: &Forecast, parts: &Parts, own_share: f64) -> Vec<String> {
    let steps = recipe.steps;
    tracing::info!(
        "{} examples to train on, {} to validate on, {} to test on; {steps} steps of {:.2} s (each example about {} times), {} \
         answers of {:.3} s: about {}",
        parts.train.len(),
        parts.validation.len(),
        parts.test.len(),
        forecast.speed.seconds_per_step,
        (steps as f64 * own_share / forecast.batches_per_epoch as f64).ceil(),
        forecast.answers,
        forecast.speed.seconds_per_answer,
        in_words(forecast.seconds(steps))
    );
    let warnings = expectations(parts.validation.len().min(recipe.eval.max_examples), parts.test.len());
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    warnings
}

/// Warnings about small validation and test parts.
fn expectations(num_validation: usize, num_test: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if (1..LEAST_ANSWERS).contains(&num_validation) {
        warnings.push(format!(
            "{num_validation} validation examples are too few to choose a checkpoint by ({LEAST_ANSWERS} are needed): the \
             run does not stop early, and the last checkpoint is kept"
        ));
    }
    if (1..FEW_TEST_EXAMPLES).contains(&num_test) {
        // Two standard errors of a fraction near one half.
        let points = 100.0 / (num_test as f64).sqrt();
        warnings.push(format!(
            "{num_test} test examples are few: each is {:.1} points of exact match, and the true value may be {points:.0} \
             points higher or lower",
            100.0 / num_test as f64
        ));
    }
    warnings
}

fn in_words(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of 0.1 s unless said otherwise, and one minute of answers.
    fn forecast(batches_per_epoch: usize, seconds_per_step: f64) -> Forecast {
        let speed = Speed { seconds_per_step, seconds_per_answer: 0.5 };
        Forecast { batches_per_epoch, speed, answers: 120 }
    }

    #[test]
    fn a_small_set_gets_hundreds_of_steps_and_a_large_one_six_epochs() {
        let steps = |batches| planned_steps(&forecast(batches, 0.1), false, None).unwrap();
        assert_eq!([1, 9, 100, 101, 5000].map(steps), [600, 600, 600, 606, 30_000]);
    }

    #[test]
    fn a_slow_model_makes_as_many_steps_as_ten_minutes_hold_but_never_less_than_six_epochs() {
        let steps = |batches, seconds| planned_steps(&forecast(batches, seconds), false, None).unwrap();
        assert_eq!(steps(2, 1.0), 540, "nine minutes besides the answers");
        assert_eq!(steps(2, 100.0), LEAST_STEPS);
        assert_eq!(steps(66, 2.0), 396);
        assert_eq!(planned_steps(&forecast(2, 100.0), true, None).unwrap(), STEPS_FROM_SCRATCH);
    }

    #[test]
    fn minutes_that_the_user_gives_are_kept_to_even_by_large_sets_and_new_models() {
        let steps = |batches, is_scratch| planned_steps(&forecast(batches, 0.1), is_scratch, Some(2.0));
        assert_eq!([steps(2, false), steps(5000, false), steps(2, true)], [Ok(600), Ok(600), Ok(600)]);
        assert_eq!(planned_steps(&forecast(2, 0.1), false, Some(600.0)), Ok(600), "no more than helps");
        for minutes in [0.01, 1.0, 1.06] {
            let error = planned_steps(&forecast(2, 0.1), false, Some(minutes)).unwrap_err();
            assert!(error.contains(&format!("--max-minutes {minutes}")) && error.contains("1.1 minutes"), "{error}");
        }
    }

    #[test]
    fn the_reader_is_told_what_few_examples_mean_and_many_need_no_word() {
        let few = expectations(6, 7);
        assert!(
            few[0].contains("6 validation examples are too few") && few[0].contains("the last checkpoint is kept"),
            "{few:?}"
        );
        assert!(few[1].contains("each is 14.3 points") && few[1].contains("38 points higher or lower"), "{few:?}");
        assert!(expectations(LEAST_ANSWERS, FEW_TEST_EXAMPLES).is_empty());
        assert!(expectations(0, 0).is_empty(), "that is said where the examples are divided");
    }
}
