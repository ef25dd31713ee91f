//! The loop: batch -> losses and gradients -> clip -> update -> report; validation and saving now and then.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use needle_data::loader::{Loaded, Loader};
use needle_data::prefetch::prefetch;
use needle_data::source::Counts;
use needle_data::stream::{Sources, Windows};
use needle_data::{EncodeConfig, Encoder, Example, Tokenizer};
use needle_model::checkpoint::Checkpoint;
use needle_model::fake_quant::Precision;
use needle_model::{FusedOps, San, SanConfig};

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
        max_enc_tokens: recipe.data.row_enc_tokens.longest(),
        max_dec_tokens: recipe.data.row_dec_tokens.longest(),
        max_tool_tokens: recipe.data.max_tool_tokens.min(recipe.data.row_enc_tokens.longest()),
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
    /// Where the rows went.
    pub counts: Counts,
}

/// Batches made ready ahead of the trainer.
const PREFETCHED_BATCHES: usize = 4;

/// Trains from `start` by `recipe` and writes the run to `run`.
///
/// # Errors
/// If no example can be used, a loss or gradient is not finite, or something cannot be written.
pub fn train<AB: AutodiffBackend + FusedOps>(
    start: Start<AB>,
    recipe: &Recipe,
    data: &Sources,
    validation: &[Example],
    run: &RunDir,
    options: RunOptions,
) -> Result<Outcome, TrainError>
where
    AB::InnerBackend: FusedOps,
{
    recipe.fits(&start.config).map_err(|reason| TrainError::Recipe { path: None, reason })?;
    let tokenizer = start.tokenizer.clone();
    let encoder = Encoder::new(&tokenizer, encode_config(recipe))?;
    let mut trainer = Trainer::new(start, recipe, &encoder, validation, run, options)?;
    let stream = recipe.data.stream(recipe.seed);
    let windows = Windows::new(data, &tokenizer, stream, trainer.progress.cursor.clone())?;
    std::thread::scope(|scope| {
        // One thread reads and unpacks the next window, another encodes this one, while the trainer computes.
        let windows = prefetch(scope, 0, windows);
        let loader = Loader::new(&encoder, windows.into_iter(), recipe.data.loader(), recipe.seed)?;
        let batches = prefetch(scope, PREFETCHED_BATCHES, loader);
        for loaded in batches.iter().take(recipe.steps - trainer.progress.step) {
            trainer.step(&loaded?)?;
            if trainer.is_time_to_validate() {
                trainer.validate_and_save()?;
            }
        }
        Ok::<(), TrainError>(())
    })?;
    trainer.finish()
}

/// A run in progress.
struct Trainer<'a, AB: AutodiffBackend> {
    recipe: &'a Recipe,
    encoder: &'a Encoder<'a>,
    validation: &'a [Example],
    run: &'a RunDir,
    config: SanConfig,
    model: San<AB>,
    optimizer: Optimizer<AB::InnerBackend>,
    progress: Progress,
    tracker: Tracker,
    counts: Counts,
    began: Instant,
    validating: Duration,
}

impl<'a, AB: AutodiffBackend + FusedOps> Trainer<'a, AB>
where
    AB::InnerBackend: FusedOps,
{
    fn new(
        start: Start<AB>,
        recipe: &'a Recipe,
        encoder: &'a Encoder<'a>,
        validation: &'a [Example],
        run: &'a RunDir,
        options: RunOptions,
    ) -> Result<Self, TrainError> {
        let mut model = start.model;
        let mut optimizer = Optimizer::new(&recipe.optim);
        let mut progress = Progress::new(recipe);
        if options.resume {
            progress = resume(run, recipe, &mut optimizer, &model.device())?;
            model = Checkpoint::<AB>::load(&run.last(), &model.device())?.model;
        }
        needle_data::file::write_atomically(&run.recipe(), recipe.to_toml().as_bytes())?;
        Ok(Self {
            recipe,
            encoder,
            validation,
            run,
            config: start.config,
            model,
            optimizer,
            tracker: Tracker::new(&run.metrics(), progress.step, recipe.steps, options.quiet)?,
            progress,
            counts: Counts::default(),
            began: Instant::now(),
            validating: Duration::ZERO,
        })
    }

    /// Batch -> losses and gradients -> clip -> update -> report.
    fn step(&mut self, loaded: &Loaded) -> Result<(), TrainError> {
        let (recipe, step) = (self.recipe, self.progress.step + 1);
        let factor = recipe.schedule.factor(step, recipe.steps);
        let rates = LearningRates { muon: recipe.optim.muon_lr * factor, adamw: recipe.optim.adamw_lr * factor };

        let (losses, gradients) = forward_backward(&self.model, &loaded.batch, recipe, step);
        let (gradients, norm) = clip_global_norm(gradients, recipe.optim.clip_global_norm);
        check_finite(step, losses.total, norm, rates)?;
        self.model = self.optimizer.step(self.model.clone(), gradients, rates);

        self.progress.step = step;
        self.progress.cursor = Some(loaded.cursor.clone());
        self.counts.clone_from(&loaded.counts);
        self.tracker.report(&Event::step(step, loaded.epoch, losses, norm, rates, &loaded.batch, self.began))
    }

    fn is_time_to_validate(&self) -> bool {
        let step = self.progress.step;
        step < self.recipe.steps && self.recipe.eval.every_steps.is_some_and(|every| step.is_multiple_of(every.max(1)))
    }

    fn evaluate(&self, precision: Precision, examples: &[Example]) -> Evaluation {
        evaluate(&self.model.valid(), self.encoder, examples, precision, &self.recipe.eval, &mut |_| {}).0
    }

    /// Saves `last/`, and `best/` if INT4 call F1 on the first validation examples is the best so far.
    fn validate_and_save(&mut self) -> Result<(), TrainError> {
        let pause = Instant::now();
        let sample = &self.validation[..self.validation.len().min(self.recipe.eval.max_examples)];
        let mut improved = false;
        if !sample.is_empty() {
            let evaluation = self.evaluate(Precision::Int4, sample);
            let call_f1 = evaluation.score.call_f1;
            improved = self.progress.best.is_none_or(|best| call_f1 >= best);
            if improved {
                self.progress.best = Some(call_f1);
            }
            self.tracker.report(&Event::Validation { step: self.progress.step, evaluation })?;
        }
        let checkpoint = Checkpoint {
            config: self.config.clone(),
            model: self.model.valid(),
            tokenizer: self.encoder.tokenizer().clone(),
        };
        let state = state::to_files(&self.progress, &self.optimizer)?;
        checkpoint.save(&self.run.last(), &state)?;
        if improved {
            checkpoint.save(&self.run.best(), &state)?;
        }
        self.validating += pause.elapsed();
        Ok(())
    }

    fn finish(mut self) -> Result<Outcome, TrainError> {
        let train_seconds = (self.began.elapsed() - self.validating).as_secs_f64();
        self.validate_and_save()?;
        self.tracker.finish();
        let validation = match self.validation {
            [] => Vec::new(),
            all => [Precision::F32, Precision::Int4].map(|precision| self.evaluate(precision, all)).to_vec(),
        };
        for evaluation in &validation {
            self.tracker.report(&Event::Validation { step: self.progress.step, evaluation: evaluation.clone() })?;
        }
        self.tracker.message(&format!("while training: {}", self.counts));
        Ok(Outcome { validation, train_seconds, counts: self.counts })
    }
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
