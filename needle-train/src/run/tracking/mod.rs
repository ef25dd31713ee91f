//! Reports the events of a run: on a progress bar, as lines in `metrics.jsonl`, and in
//! TensorBoard's files.

mod tensorboard;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use needle_data::DataError;
use serde::Serialize;

use crate::distributed::Traffic;
use crate::distributed::step_barrier::Totals;
use crate::error::TrainError;
use crate::eval::Evaluation;
use crate::optim::LearningRates;
use crate::run::memory::rss_mb;
use crate::training::loss::StepLosses;
use tensorboard::EventFile;

/// An event of a run, one line of `metrics.jsonl`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An optimizer step was taken.
    Step {
        /// Steps done.
        step: usize,
        /// Epoch, from 0.
        epoch: u64,
        /// The losses.
        #[serde(flatten)]
        losses: StepLosses,
        /// Global gradient norm before clipping.
        gradient_norm: f64,
        /// Muon's learning rate, as the optimizer received it.
        muon_lr: f64,
        /// AdamW's learning rate, as the optimizer received it.
        adamw_lr: f64,
        /// Examples of the batch.
        examples: usize,
        /// Tokens of the batch, encoder and decoder, without padding.
        tokens: usize,
        /// Rank 0's traffic in this step, if there are other ranks.
        #[serde(skip_serializing_if = "Option::is_none")]
        traffic: Option<Traffic>,
        /// Seconds since the run was started or resumed.
        seconds: f64,
    },
    /// A step was skipped: its loss or gradient was not finite.
    Skipped {
        /// Steps done.
        step: usize,
        /// What was not finite, and its value.
        what: String,
    },
    /// The run backed off: it returned to its best checkpoint and continues with lower learning
    /// rates.
    BackedOff {
        /// Steps done.
        step: usize,
        /// What went wrong.
        what: String,
        /// Factor on the scheduled learning rates from here on.
        rate_factor: f64,
    },
    /// A rank is slower than the others, which wait for it.
    Straggler {
        /// Steps done.
        step: usize,
        /// The rank.
        rank: usize,
        /// Where it runs.
        host: String,
        /// Seconds that it takes to read and compute its share of a step.
        rank_seconds: f64,
        /// Seconds that the median rank takes.
        median_seconds: f64,
    },
    /// The loss on validation examples was computed.
    ValidationLoss {
        /// Steps done.
        step: usize,
        /// Weighted cross-entropy at f32.
        validation_loss_f32: f64,
        /// Weighted cross-entropy with the INT4 weights that ship.
        validation_loss_int4: f64,
        /// Weighted mean probability of the right token, with the INT4 weights that ship.
        token_probability_int4: f64,
    },
    /// Validation examples were answered.
    Validation {
        /// Steps done.
        step: usize,
        /// The result.
        #[serde(flatten)]
        evaluation: Evaluation,
    },
}

impl Event {
    /// The event of one step.
    pub fn step(step: usize, rates: LearningRates, totals: &Totals, traffic: Option<Traffic>, since: Instant) -> Self {
        Self::Step {
            step,
            epoch: totals.epoch,
            losses: totals.losses,
            gradient_norm: totals.gradient_norm,
            muon_lr: rates.muon,
            adamw_lr: rates.adamw,
            examples: totals.examples,
            tokens: totals.tokens,
            traffic,
            seconds: since.elapsed().as_secs_f64(),
        }
    }
}

/// Writes events to the progress bar, `metrics.jsonl` and TensorBoard.
pub struct Tracker {
    bar: ProgressBar,
    metrics: File,
    path: PathBuf,
    tensorboard: EventFile,
    /// Exponential means of figures that vary from step to step.
    loss: Smoothed,
    tokens_per_second: Smoothed,
    last: Instant,
    validation: String,
    /// When the next progress line is logged, if stderr is not a terminal.
    next_line: Instant,
}

#[derive(Default)]
struct Smoothed(Option<f64>);

impl Smoothed {
    fn add(&mut self, value: f64) -> f64 {
        let mean = self.0.map_or(value, |mean| 0.95 * mean + 0.05 * value);
        self.0 = Some(mean);
        mean
    }
}

const LINE_EVERY: Duration = Duration::from_secs(30);

impl Tracker {
    /// Writes metrics to `path` and event files to `tensorboard`. Metrics of the first `done` steps
    /// are kept, so that a resumed run has one line per step.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn new(path: &Path, tensorboard: &Path, done: usize, steps: usize, quiet: bool) -> Result<Self, TrainError> {
        let kept = match std::fs::read_to_string(path) {
            Ok(text) if done > 0 => keep_up_to(&text, done),
            _ => String::new(),
        };
        needle_data::file::write_atomically(path, kept.as_bytes())?;
        let metrics = File::options().append(true).open(path).map_err(|e| DataError::io(path, e))?;
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(4) };
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
        let template = "{bar:24} {pos}/{len} [{elapsed} < {eta}] {msg}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_position(done as u64);
        bar.reset_eta();
        let now = Instant::now();
        Ok(Self {
            bar,
            metrics,
            path: path.to_owned(),
            tensorboard: EventFile::create(tensorboard).map_err(|e| DataError::io(tensorboard, e))?,
            loss: Smoothed::default(),
            tokens_per_second: Smoothed::default(),
            last: now,
            validation: String::new(),
            next_line: now + if quiet { Duration::MAX / 4 } else { LINE_EVERY },
        })
    }

    /// Reports `event`.
    ///
    /// # Errors
    /// If the metrics cannot be written.
    pub fn report(&mut self, event: &Event) -> Result<(), TrainError> {
        let line = serde_json::to_string(event).map_err(|e| DataError::io(&self.path, e.into()))?;
        writeln!(self.metrics, "{line}").map_err(|e| DataError::io(&self.path, e))?;
        self.add_to_tensorboard(event).map_err(|e| DataError::io(&self.path, e))?;
        match event {
            Event::Step { step, losses, tokens, .. } => {
                let now = Instant::now();
                let rate = *tokens as f64 / (now - self.last).as_secs_f64().max(1e-9);
                self.last = now;
                let (loss, rate) = (self.loss.add(losses.cross_entropy), self.tokens_per_second.add(rate));
                let memory = rss_mb().map(|mb| format!("  {mb:.0} MB")).unwrap_or_default();
                let message = format!("loss {loss:.3}{}  {rate:.0} tokens/s{memory}", self.validation);
                self.bar.set_position(*step as u64);
                self.bar.set_message(message.clone());
                if self.bar.is_hidden() && now >= self.next_line {
                    let eta = self.bar.eta().as_secs();
                    tracing::info!("step {step}/{}  {message}  {eta} s left", self.bar.length().unwrap_or(0));
                    self.next_line = now + LINE_EVERY;
                }
            }
            Event::Skipped { step, what } => self.message(&format!("step {step}: skipped, {what}")),
            Event::BackedOff { step, what, rate_factor } => self.message(&format!(
                "step {step}: {what}; going back to the best checkpoint, with the learning rates multiplied by {rate_factor}"
            )),
            Event::Straggler { step, rank, host, rank_seconds, median_seconds } => self.message(&format!(
                "step {step}: rank {rank} ({host}) is slow: {rank_seconds:.2} s per step, the median rank {median_seconds:.2} s"
            )),
            Event::ValidationLoss { step, validation_loss_f32, validation_loss_int4, token_probability_int4 } => {
                self.validation = format!("  val {validation_loss_int4:.3}");
                self.message(&format!(
                    "step {step}: validation loss {validation_loss_f32:.4} at f32, {validation_loss_int4:.4} at int4, where the \
                     right token has a probability of {token_probability_int4:.3}"
                ));
                self.last = Instant::now();
            }
            Event::Validation { step, evaluation } => {
                let score = &evaluation.score;
                self.message(&format!(
                    "step {step}: validation at {}: exact match {:.3}, call F1 {:.3}, value accuracy {:.3} ({} examples)",
                    evaluation.precision, score.exact_match, score.call_f1, score.value_accuracy, evaluation.n
                ));
                self.last = Instant::now();
            }
        }
        Ok(())
    }

    fn add_to_tensorboard(&mut self, event: &Event) -> std::io::Result<()> {
        match event {
            Event::Step { step, losses, gradient_norm, muon_lr, adamw_lr, .. } => {
                let mut scalars = vec![
                    ("train/cross_entropy", losses.cross_entropy),
                    ("train/z_loss", losses.z),
                    ("train/gradient_norm", *gradient_norm),
                    ("learning_rate/muon", *muon_lr),
                    ("learning_rate/adamw", *adamw_lr),
                ];
                scalars.extend(losses.alignment.map(|loss| ("train/alignment", loss)));
                scalars.extend(losses.contrastive.map(|loss| ("train/contrastive", loss)));
                scalars.extend(self.tokens_per_second.0.map(|rate| ("speed/tokens_per_second", rate)));
                self.tensorboard.add(*step, &scalars)
            }
            Event::Skipped { .. } | Event::BackedOff { .. } | Event::Straggler { .. } => Ok(()),
            Event::ValidationLoss { step, validation_loss_f32, validation_loss_int4, token_probability_int4 } => {
                let scalars = [
                    ("validation/loss_f32", *validation_loss_f32),
                    ("validation/loss_int4", *validation_loss_int4),
                    ("validation/token_probability_int4", *token_probability_int4),
                ];
                self.tensorboard.add(*step, &scalars)?;
                self.tensorboard.flush()
            }
            Event::Validation { step, evaluation } => {
                let score = &evaluation.score;
                let scalars = [("exact_match", score.exact_match), ("call_f1", score.call_f1)];
                let scalars =
                    scalars.map(|(name, value)| (format!("validation/{name}_{}", evaluation.precision), value));
                self.tensorboard.add(*step, &scalars.each_ref().map(|(name, value)| (name.as_str(), *value)))?;
                self.tensorboard.flush()
            }
        }
    }

    /// Prints a line above the bar.
    pub fn message(&self, text: &str) {
        if self.bar.is_hidden() {
            tracing::info!("{text}");
        } else {
            self.bar.println(text);
        }
    }

    /// Finishes the progress bar.
    pub fn finish(&self) {
        self.bar.finish();
    }
}

/// The lines of `text` about the first `done` steps; a line that was cut short by a crash is
/// dropped, too.
fn keep_up_to(text: &str, done: usize) -> String {
    let is_kept = |line: &&str| {
        let value: Option<serde_json::Value> = serde_json::from_str(line).ok();
        value.and_then(|v| v["step"].as_u64()).is_some_and(|step| step <= done as u64)
    };
    text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_log_has_no_step_twice_and_no_broken_line() {
        let text = "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st";
        assert_eq!(keep_up_to(text, 2), "{\"step\":1}\n{\"step\":2}\n");
    }
}
