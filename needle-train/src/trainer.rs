//! The loop: batch -> losses and gradients -> clip -> update -> report; validation and saving now and then.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use needle_data::batch::{Cursor, Loader};
use needle_data::{EncodeConfig, Encoder, Example, Tokenizer};
use needle_model::checkpoint::Checkpoint;
use needle_model::fake_quant::Precision;
use needle_model::{FusedOps, San, SanConfig, params};

use crate::error::TrainError;
use crate::eval::{Evaluation, evaluate};
use crate::optim::{LearningRates, Optimizer, clip_global_norm};
use crate::recipe::Recipe;
use crate::state::{self, Progress};
use crate::step::forward_backward;
use crate::track::{Event, Tracker};

/// What a run starts from.
pub struct Start<AB: AutodiffBackend> {
    /// Sizes.
    pub config: SanConfig,
    /// Weights, fresh or from a base checkpoint.
    pub model: San<AB>,
    /// Tokenizer.
    pub tokenizer: Tokenizer,
}

/// Where a run puts what it makes: `last/` and `best/` checkpoints, `metrics.jsonl`, `recipe.toml`.
#[derive(Debug, Clone)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// The run in `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The newest checkpoint, with the trainer's state.
    pub fn last(&self) -> PathBuf {
        self.0.join("last")
    }

    /// The checkpoint with the best validation result.
    pub fn best(&self) -> PathBuf {
        self.0.join("best")
    }

    /// One JSON object for each event.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// The recipe as it was used.
    pub fn recipe(&self) -> PathBuf {
        self.0.join("recipe.toml")
    }

    /// The best checkpoint, or the last where no validation chose one.
    pub fn result(&self) -> PathBuf {
        if self.best().exists() { self.best() } else { self.last() }
    }
}

/// The limits at which a recipe cuts text.
pub fn encode_config(recipe: &Recipe) -> EncodeConfig {
    EncodeConfig {
        max_enc_tokens: recipe.data.row_enc_tokens,
        max_dec_tokens: recipe.data.row_dec_tokens,
        max_tool_tokens: recipe.data.max_tool_tokens.min(recipe.data.row_enc_tokens),
    }
}

/// How a run is watched and continued.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOptions {
    /// Goes on from `last/`.
    pub resume: bool,
    /// No bar and no lines.
    pub quiet: bool,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Final validation at f32 and INT4, where there was anything to validate on.
    pub validation: Vec<Evaluation>,
    /// Seconds of training, validation left out.
    pub train_seconds: f64,
}

/// Trains from `start` by `recipe` and writes the run to `run`.
///
/// # Errors
/// If no example can be used, a loss or gradient is not finite, or something cannot be written.
pub fn train<AB: AutodiffBackend + FusedOps>(
    start: Start<AB>,
    recipe: &Recipe,
    train: &[Example],
    validation: &[Example],
    run: &RunDir,
    options: RunOptions,
) -> Result<Outcome, TrainError>
where
    AB::InnerBackend: FusedOps,
{
    let Start { config, mut model, tokenizer } = start;
    recipe.fits(&config).map_err(|reason| TrainError::Recipe { path: None, reason })?;
    let encoder = Encoder::new(&tokenizer, encode_config(recipe))?;
    let mut optimizer = Optimizer::<AB::InnerBackend>::new(&recipe.optim);
    let (mut done, mut cursor, mut best) = (0, Cursor::default(), None);
    if options.resume {
        let progress = resume(run, recipe, &mut optimizer, &model.device())?;
        let loaded = Checkpoint::<AB>::load(&run.last(), &model.device())?;
        (model, done, cursor, best) = (loaded.model, progress.step, progress.cursor, progress.best);
    }
    model = params::with_gradients(model);
    needle_data::source::write_atomically(&run.recipe(), recipe.to_toml().as_bytes())?;
    let mut tracker = Tracker::new(&run.metrics(), done, recipe.steps, options.quiet)?;
    let mut loader =
        Loader::new(&encoder, train, recipe.data.batches(), recipe.seed, cursor).map_err(TrainError::NoExamples)?;
    let save = |model: &San<AB>, progress: &Progress, optimizer: &Optimizer<AB::InnerBackend>, path: &Path| {
        let checkpoint = Checkpoint { config: config.clone(), model: model.valid(), tokenizer: tokenizer.clone() };
        checkpoint.save(path, &state::to_files(progress, optimizer)?).map_err(TrainError::from)
    };
    let sample = &validation[..validation.len().min(recipe.eval.max_examples)];
    let validate = |model: &San<AB>, precision, examples: &[Example]| {
        evaluate(&model.valid(), &encoder, examples, precision, &recipe.eval, &mut |_| {}).0
    };

    let begin = Instant::now();
    let mut away = 0.0;
    while done < recipe.steps {
        let Some(batch) = loader.next() else { break };
        let step = done + 1;
        let factor = recipe.schedule.factor(step, recipe.steps);
        let rates = LearningRates { muon: recipe.optim.muon_lr * factor, adamw: recipe.optim.adamw_lr * factor };

        let (losses, gradients) = forward_backward(&model, &batch, recipe, step);
        let (gradients, norm) = clip_global_norm(gradients, recipe.optim.clip_global_norm);
        check_finite(step, losses.total, norm, rates)?;
        model = optimizer.step(model, gradients, rates);
        done = step;
        tracker.report(&Event::step(step, loader.cursor().epoch, losses, norm, rates, &batch, begin))?;

        let at_interval = recipe.eval.every_steps.is_some_and(|every| step.is_multiple_of(every.max(1)));
        if at_interval && done < recipe.steps {
            let pause = Instant::now();
            let improved = match sample {
                [] => false,
                sample => {
                    let evaluation = validate(&model, Precision::Int4, sample);
                    let improved = best.is_none_or(|best| evaluation.score.call_f1 > best);
                    best = if improved { Some(evaluation.score.call_f1) } else { best };
                    tracker.report(&Event::Validation { step, evaluation })?;
                    improved
                }
            };
            let progress = progress(done, loader.cursor(), best, recipe);
            save(&model, &progress, &optimizer, &run.last())?;
            if improved {
                save(&model, &progress, &optimizer, &run.best())?;
            }
            away += pause.elapsed().as_secs_f64();
        }
    }
    let train_seconds = begin.elapsed().as_secs_f64() - away;

    let mut final_validation = Vec::new();
    if !validation.is_empty() {
        for precision in [Precision::F32, Precision::Int4] {
            let evaluation = validate(&model, precision, validation);
            tracker.report(&Event::Validation { step: done, evaluation: evaluation.clone() })?;
            final_validation.push(evaluation);
        }
    }
    // The last model is compared with the best on the same sample as that was chosen on.
    let last_f1 = (!sample.is_empty()).then(|| validate(&model, Precision::Int4, sample).score.call_f1);
    let improved = last_f1.is_some_and(|f1| best.is_none_or(|best| f1 >= best));
    let progress = progress(done, loader.cursor(), if improved { last_f1 } else { best }, recipe);
    save(&model, &progress, &optimizer, &run.last())?;
    if improved {
        save(&model, &progress, &optimizer, &run.best())?;
    }
    tracker.finish();
    for (reason, count) in loader.skipped() {
        tracker.message(&format!("left out {count} times: {reason}"));
    }
    Ok(Outcome { validation: final_validation, train_seconds })
}

fn progress(step: usize, cursor: Cursor, best: Option<f64>, recipe: &Recipe) -> Progress {
    Progress { version: env!("CARGO_PKG_VERSION").to_owned(), step, cursor, best, recipe: recipe.clone() }
}

fn check_finite(step: usize, loss: f64, norm: f64, rates: LearningRates) -> Result<(), TrainError> {
    for (what, value) in [("the loss", loss), ("the gradient's length", norm)] {
        if !value.is_finite() {
            return Err(TrainError::NonFinite { step, what, value, muon_lr: rates.muon, adamw_lr: rates.adamw });
        }
    }
    Ok(())
}

fn resume<B: burn::tensor::backend::Backend>(
    run: &RunDir,
    recipe: &Recipe,
    optimizer: &mut Optimizer<B>,
    device: &B::Device,
) -> Result<Progress, TrainError> {
    let error = |reason: String| TrainError::Run { path: run.path().to_owned(), reason };
    if !run.last().exists() {
        return Err(error("there is no run to resume here (no last/); leave out --resume to start one".into()));
    }
    let progress = state::load(&run.last(), optimizer, device)?;
    if progress.recipe != *recipe {
        let lines = |recipe: &Recipe| recipe.to_toml().lines().map(str::to_owned).collect::<Vec<_>>();
        let (before, now) = (lines(&progress.recipe), lines(recipe));
        let changed: Vec<&str> = now.iter().filter(|line| !before.contains(line)).map(String::as_str).collect();
        return Err(error(format!("the recipe is not that of the run; different: {}", changed.join(", "))));
    }
    Ok(progress)
}
