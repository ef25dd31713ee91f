//! The loop: batch -> losses and gradients -> clip -> update -> report; validation and saving now and then.
//!
//! All ranks of a run go through it side by side and come to the same decisions; rank 0 also validates, writes and reports.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use needle_data::order::stream::{Cursor, Sources};
use needle_data::source::Counts;
use needle_data::text::record::Record;
use needle_data::{DataError, Encoder, Example, file};
use needle_model::checkpoint::Checkpoint;
use needle_model::checkpoint::directory;
use needle_model::quant::fake_quant::Precision;
use needle_model::{FusedOps, ModelError, San, SanConfig, params};

use crate::distributed::World;
use crate::distributed::exchange::{all_gather_weights, gather_state, reduce_scatter};
use crate::distributed::identity::{self, Identity};
use crate::distributed::roll_call::{Decision, Part, Straggler, Stragglers, after_gradients, before_step};
use crate::distributed::share::Share;
use crate::error::TrainError;
use crate::eval::predict::Prediction;
use crate::eval::{Evaluation, evaluate};
use crate::optim::{LearningRates, Optimizer, Shards, clip, squared_norm};
use crate::recipe::Recipe;
use crate::run::directory::RunDir;
use crate::run::memory::peak_rss_mb;
use crate::run::report;
use crate::run::state::{self, Progress};
use crate::run::tracking::{Event, Tracker};
use crate::training::feed::{Fed, Feed};
pub use crate::training::start::{Start, encode_config};
use crate::training::step::forward_backward_share;
use crate::training::validation::{Answered, Validation};

/// How a run is watched, continued and ended.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Goes on from `last/`.
    pub resume: bool,
    /// No bar and no lines.
    pub quiet: bool,
    /// Once true, the run finishes its step, saves and ends.
    pub stop: Arc<AtomicBool>,
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
    /// The step after which it was asked to stop, if it did not get to its end.
    pub stopped_at: Option<usize>,
}

/// What the rates are multiplied by at each back-off.
const BACKOFF: f64 = 0.1;
/// Share of a new step in the running mean of the loss.
const RECENT: f64 = 0.2;
/// A running mean so many times the first loss, and this much more, is no noise.
const DIVERGED: (f64, f64) = (2.0, 1.0);
/// Answers kept for the report.
const SAMPLE_PREDICTIONS: usize = 100;

/// Trains from `start` by `recipe` and writes the run to `run`, together with all other ranks of `world`.
///
/// # Errors
/// If no example can be used, losses or gradients stay not finite, or something cannot be written; if a rank has a problem, is
/// about to run something else, or is gone.
pub fn train<AB: AutodiffBackend + FusedOps>(
    start: Start<AB>,
    recipe: &Recipe,
    data: &Sources,
    validation: &[Record],
    run: &RunDir,
    options: RunOptions,
    world: &World,
) -> Result<Outcome, TrainError>
where
    AB::InnerBackend: FusedOps,
{
    recipe.fits(&start.config).map_err(|reason| TrainError::Recipe { path: None, reason })?;
    let tokenizer = start.tokenizer.clone();
    let encoder = Encoder::new(&tokenizer, encode_config(recipe))?;
    let trainer = Trainer::new(start, recipe, &encoder, validation, run, options, world);
    let mut trainer = world.all_or_none(trainer)?;
    trainer.meet(data)?;
    std::thread::scope(|scope| {
        let place = (trainer.progress.lanes, trainer.progress.cursors.as_slice());
        let feed = Feed::start(scope, &encoder, data, recipe, place, world);
        let mut feed = world.all_or_none(feed)?;
        trainer.start()?;
        while trainer.progress.step < recipe.steps && !trainer.has_lost_patience() {
            let Some((fed, share)) = trainer.next(&mut feed)? else { break };
            trainer.step(&fed, &share)?;
            if trainer.is_time(recipe.eval.every_steps) {
                trainer.validate()?;
            } else if trainer.is_time(recipe.checkpoint.every_steps) {
                trainer.save(false)?;
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
    world: &'a World,
    /// Who updates what.
    shards: Shards,
    validation: Validation,
    run: &'a RunDir,
    options: RunOptions,
    config: SanConfig,
    model: San<AB>,
    optimizer: Optimizer<AB::InnerBackend>,
    progress: Progress,
    /// Step of the checkpoint in `last/`.
    saved_step: Option<usize>,
    /// Of rank 0.
    tracker: Option<Tracker>,
    stragglers: Stragglers,
    /// Where each rank runs.
    hosts: Vec<String>,
    /// Of the lanes of this rank.
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
        validation: &[Record],
        run: &'a RunDir,
        options: RunOptions,
        world: &'a World,
    ) -> Result<Self, TrainError> {
        let mut model = start.model;
        let shards = Shards::new(&params::list(&model), &recipe.optim, world.size());
        let mut optimizer = own_optimizer(recipe, &shards, world);
        let mut progress = Progress::new(recipe, recipe.data.lanes.unwrap_or(world.size()));
        if options.resume {
            progress = resume(run, recipe, &mut optimizer, &model.device())?;
            model = Checkpoint::<AB>::load(&run.last(), &model.device())?.model;
        }
        let (rows, lanes) = (recipe.data.rows, progress.lanes);
        if !rows.is_multiple_of(lanes) {
            let reason =
                format!("data.rows is {rows}, of which {lanes} data lanes cannot have as many each; set data.lanes");
            return Err(TrainError::Recipe { path: None, reason });
        }
        Ok(Self {
            recipe,
            encoder,
            world,
            shards,
            validation: Validation::new(if world.is_main() { validation } else { &[] }, encoder, recipe),
            run,
            config: start.config,
            model,
            optimizer,
            saved_step: options.resume.then_some(progress.step),
            counts: Counts::default(),
            options,
            progress,
            tracker: None,
            stragglers: Stragglers::default(),
            hosts: Vec::new(),
            began: Instant::now(),
            validating: Duration::ZERO,
        })
    }

    /// Makes sure that all ranks are about to run the same thing; only then is anything written.
    fn meet(&mut self, data: &Sources) -> Result<(), TrainError> {
        let (world, recipe, run) = (self.world, self.recipe, self.run);
        if world.size() > 1 {
            let step = self.progress.step;
            let own = Identity::new(world, recipe, self.encoder.tokenizer(), data, &self.model.valid(), step);
            identity::compare(world, &world.all_or_none(own)?)?;
        }
        self.hosts = world.tell_all(&world.host())?;
        if world.is_main() {
            directory::clean_up(run.path())?;
            file::write_atomically(&run.recipe(), recipe.to_toml().as_bytes())?;
            let (step, quiet) = (self.progress.step, self.options.quiet);
            self.tracker = Some(Tracker::new(&run.metrics(), &run.tensorboard(), step, recipe.steps, quiet)?);
        }
        Ok(())
    }

    fn report(&mut self, event: &Event) -> Result<(), TrainError> {
        self.tracker.as_mut().map_or(Ok(()), |tracker| tracker.report(event))
    }

    fn say(&self, message: &str) {
        if let Some(tracker) = &self.tracker {
            tracker.message(message);
        }
    }

    /// The rows of the next step, unless a rank was asked to stop.
    fn next(&self, feed: &mut Feed) -> Result<Option<(Fed, Share)>, TrainError> {
        let (stop, step) = (self.options.stop.load(Ordering::Relaxed), self.progress.step + 1);
        let fed = feed.read();
        let (fed, work) = match fed {
            Ok(mut fed) => {
                let work = std::mem::take(&mut fed.work);
                (fed, Ok(work))
            }
            Err(error) => (Fed::default(), Err(error)),
        };
        match before_step(self.world, step, work, stop, self.recipe.data.max_retrieval_pairs)? {
            Decision::Go(share) => Ok(Some((fed, share))),
            Decision::Stop => Ok(None),
        }
    }

    /// What a run has before its first step: a result to beat, and a checkpoint to go back to.
    fn start(&mut self) -> Result<(), TrainError> {
        if self.progress.step > 0 {
            return Ok(());
        }
        if self.recipe.eval.at_start {
            self.validate()
        } else if self.recipe.max_backoffs > 0 {
            self.save(false)
        } else {
            Ok(())
        }
    }

    /// Batch -> losses and gradients -> clip -> update -> report.
    fn step(&mut self, fed: &Fed, batch: &Share) -> Result<(), TrainError> {
        let (world, recipe, step) = (self.world, self.recipe, self.progress.step + 1);
        let factor = recipe.schedule.factor(step, recipe.steps) * BACKOFF.powi(self.progress.backoffs as i32);
        let rates = LearningRates { muon: recipe.optim.muon_lr * factor, adamw: recipe.optim.adamw_lr * factor };
        let traffic = world.traffic();

        let began = Instant::now();
        let (losses, gradients) = forward_backward_share(&self.model, batch, recipe, step, world)?;
        let seconds = fed.seconds + began.elapsed().as_secs_f64() - (world.traffic().seconds - traffic.seconds);
        let dtype = recipe.distributed.gradient_dtype;
        let gradients = reduce_scatter(world, &self.shards, gradients, dtype, &self.model.device())?;
        let part = Part { losses, squared_norm: squared_norm(&gradients), epoch: fed.epoch, seconds };
        let (totals, rank_seconds) = after_gradients(world, batch, &part)?;
        self.progress.step = step;
        self.progress.cursors.clone_from(&fed.cursors);
        self.counts.clone_from(&fed.counts);
        if let Some(what) = not_finite(totals.losses.total, totals.gradient_norm) {
            return self.skip(what, rates, batch);
        }
        let gradients = clip(gradients, totals.gradient_norm, recipe.optim.clip_global_norm);
        let updated = self.optimizer.step(self.model.clone(), gradients, rates);
        self.model = all_gather_weights(world, &self.shards, updated)?;
        self.progress.updates += 1;
        self.progress.skipped_in_a_row = 0;
        if let Some(what) = self.diverged(totals.losses.cross_entropy) {
            self.back_off(what)?;
        }
        self.flag_stragglers(&rank_seconds)?;
        let traffic = (world.size() > 1).then(|| world.traffic().since(traffic));
        self.report(&Event::step(step, rates, &totals, traffic, self.began))
    }

    fn flag_stragglers(&mut self, rank_seconds: &[f64]) -> Result<(), TrainError> {
        let step = self.progress.step;
        for Straggler { rank, seconds, median_seconds } in self.stragglers.add(rank_seconds) {
            let host = self.hosts.get(rank).cloned().unwrap_or_default();
            self.report(&Event::Straggler { step, rank, host, rank_seconds: seconds, median_seconds })?;
        }
        Ok(())
    }

    /// Leaves a step out: weights and moments stay as they are. Several in a row end the run.
    fn skip(&mut self, what: String, rates: LearningRates, batch: &Share) -> Result<(), TrainError> {
        self.progress.skipped_steps += 1;
        self.progress.skipped_in_a_row += 1;
        let (step, skipped) = (self.progress.step, self.progress.skipped_in_a_row);
        self.report(&Event::Skipped { step, what: what.clone() })?;
        if skipped <= self.recipe.max_skipped_steps {
            return Ok(());
        }
        if self.progress.backoffs < self.recipe.max_backoffs {
            return self.back_off(format!("{what}, {skipped} steps in a row"));
        }
        let name = if self.world.is_main() {
            "not_finite.json".into()
        } else {
            format!("not_finite.{}.json", self.world.rank())
        };
        let path = self.run.path().join(name);
        let batches: Vec<_> = batch.work.iter().map(|work| &work.batch).collect();
        let texts: Vec<_> = batches.iter().flat_map(|batch| batch.rows_as_text(self.encoder.tokenizer())).collect();
        let text = serde_json::to_vec(&serde_json::json!({
            "step": step, "what": what, "cursors": self.progress.cursors, "batches": batches, "texts": texts,
        }));
        file::write_atomically(&path, &text.map_err(|e| DataError::io(&path, e.into()))?)?;
        Err(TrainError::NonFinite { step, what, skipped, muon_lr: rates.muon, adamw_lr: rates.adamw, batch: path })
    }

    /// Whether the loss has risen far beyond where the run began, and there is a way back.
    fn diverged(&mut self, loss: f64) -> Option<String> {
        let progress = &mut self.progress;
        let recent = progress.recent_loss.map_or(loss, |mean| mean + RECENT * (loss - mean));
        progress.recent_loss = Some(recent);
        // That of the first batch, before anything was learned.
        let first = *progress.first_loss.get_or_insert(loss);
        let has_diverged = recent > DIVERGED.0 * first + DIVERGED.1 && progress.backoffs < self.recipe.max_backoffs;
        has_diverged.then(|| format!("the loss rose from {first:.2} to {recent:.2}"))
    }

    /// Goes back to the best checkpoint, and on with lower rates; the data go on where they are.
    fn back_off(&mut self, what: String) -> Result<(), TrainError> {
        let best = self.run.result();
        let device = self.model.device();
        let mut optimizer = own_optimizer(self.recipe, &self.shards, self.world);
        let then = state::load(&best, &mut optimizer, &device)?;
        self.model = Checkpoint::<AB>::load(&best, &device)?.model;
        self.optimizer = optimizer;
        let progress = &mut self.progress;
        progress.updates = then.updates;
        progress.backoffs += 1;
        progress.skipped_in_a_row = 0;
        progress.recent_loss = None;
        let rate_factor = BACKOFF.powi(progress.backoffs as i32);
        self.report(&Event::BackedOff { step: self.progress.step, what, rate_factor })?;
        self.save(false)
    }

    fn has_lost_patience(&self) -> bool {
        self.recipe.eval.patience.is_some_and(|patience| self.progress.validations_since_best >= patience)
    }

    fn is_time(&self, every_steps: Option<usize>) -> bool {
        let step = self.progress.step;
        step < self.recipe.steps && every_steps.is_some_and(|every| step.is_multiple_of(every.max(1)))
    }

    fn evaluate(
        &self,
        precision: Precision,
        examples: &[Example],
    ) -> Result<(Evaluation, Vec<Prediction>), ModelError> {
        evaluate(&self.model.valid(), self.encoder, examples, precision, &self.recipe.eval, None, &mut |_| {})
    }

    /// Measures, and saves `last/`, and `best/` if the result is the best so far: INT4 call F1 on the first validation
    /// examples, or where there are none the loss at INT4.
    fn validate(&mut self) -> Result<(), TrainError> {
        let pause = Instant::now();
        let (result, int4_loss) = if self.world.is_main() { self.measure()? } else { (None, None) };
        // Only rank 0 has measured, and all go by it.
        let (result, int4_loss) = self.world.from_main(&(result, int4_loss))?;
        let best = self.progress.best;
        let has_risen = result.is_some_and(|result| best.is_none_or(|best| result > best));
        // As good again, with no higher loss, is worth keeping, but not worth going on for.
        let is_as_good =
            result == best && int4_loss.zip(self.progress.best_loss).is_none_or(|(loss, best)| loss <= best);
        let improved = (has_risen || result.is_some() && is_as_good) && int4_loss.is_none_or(f64::is_finite);
        self.progress.validations_since_best = if has_risen { 0 } else { self.progress.validations_since_best + 1 };
        if improved {
            (self.progress.best, self.progress.best_loss) = (result, int4_loss);
        }
        self.save(improved)?;
        self.write_report()?;
        self.validating += pause.elapsed();
        Ok(())
    }

    /// What [`Trainer::validate`] goes by, and the loss at INT4; none where there is nothing to measure by.
    fn measure(&mut self) -> Result<(Option<f64>, Option<f64>), TrainError> {
        let step = self.progress.step;
        let (mut result, mut int4_loss) = (None, None);
        let loss = |precision| self.validation.loss(&self.model.valid(), precision, self.recipe);
        if let (Some(f32), Some(int4)) = (loss(Precision::F32), loss(Precision::Int4)) {
            (result, int4_loss) = (Some(-int4), Some(int4));
            self.report(&Event::ValidationLoss { step, validation_loss_f32: f32, validation_loss_int4: int4 })?;
        }
        let sample = &self.validation.examples[..self.validation.examples.len().min(self.recipe.eval.max_examples)];
        if !sample.is_empty() {
            let (evaluation, predictions) = self.evaluate(Precision::Int4, sample)?;
            result = Some(evaluation.score.call_f1);
            self.write_predictions(sample, &predictions)?;
            self.report(&Event::Validation { step, evaluation })?;
        }
        Ok((result, int4_loss))
    }

    fn write_report(&self) -> Result<(), TrainError> {
        if self.world.is_main() { report::write(std::slice::from_ref(self.run), &self.run.report()) } else { Ok(()) }
    }

    fn write_predictions(&self, examples: &[Example], predictions: &[Prediction]) -> Result<(), TrainError> {
        let path = self.run.predictions();
        let mut lines = String::new();
        for (example, prediction) in examples.iter().zip(predictions).take(SAMPLE_PREDICTIONS) {
            let line = serde_json::to_string(&Answered::new(example, prediction));
            lines.push_str(&line.map_err(|e| DataError::io(&path, e.into()))?);
            lines.push('\n');
        }
        Ok(file::write_atomically(&path, lines.as_bytes())?)
    }

    /// Saves weights and state as one unit to `last/`, and to `best/` too if it is. Rank 0 writes, for all.
    fn save(&mut self, is_best: bool) -> Result<(), TrainError> {
        let optimizer = gather_state(self.world, &self.optimizer, &self.model.device())?;
        let mut cursors: Vec<Cursor> = self.world.tell_all(&self.progress.cursors)?.concat();
        cursors.sort_by_key(|cursor| cursor.lane);
        // Ranks that divide a lane stand at the same place in it.
        cursors.dedup();
        if self.world.is_main() {
            let progress = Progress { cursors, ..self.progress.clone() };
            let checkpoint = Checkpoint {
                config: self.config.clone(),
                model: self.model.valid(),
                tokenizer: self.encoder.tokenizer().clone(),
            };
            let files = checkpoint.to_files(&state::to_files(&progress, optimizer)?)?;
            if is_best {
                directory::write(&self.run.best(), files.clone(), None)?;
            }
            self.run.save_last(files, self.saved_step, self.recipe.checkpoint.keep_last)?;
        }
        self.saved_step = Some(self.progress.step);
        // Nobody goes on, or reads it, before it is there.
        self.world.barrier()
    }

    fn finish(mut self) -> Result<Outcome, TrainError> {
        let train_seconds = (self.began.elapsed() - self.validating).as_secs_f64();
        let step = self.progress.step;
        let is_over = self.has_lost_patience();
        let stopped_at = (step < self.recipe.steps && !is_over).then_some(step);
        if is_over && step < self.recipe.steps {
            let validations = self.progress.validations_since_best;
            self.say(&format!("no better for {validations} validations: ended after step {step}"));
        }
        let mut validation = Vec::new();
        if stopped_at.is_some() {
            // Whoever asks a run to stop does not wait for its validation.
            self.save(false)?;
        } else {
            if !is_over {
                self.validate()?;
            }
            // Rank 0 alone has examples.
            if !self.validation.examples.is_empty() {
                for precision in [Precision::F32, Precision::Int4] {
                    let (evaluation, _) = self.evaluate(precision, &self.validation.examples)?;
                    self.report(&Event::Validation { step, evaluation: evaluation.clone() })?;
                    validation.push(evaluation);
                }
            }
            self.write_report()?;
        }
        let mut counts = Counts::default();
        let of_ranks = self.world.tell_all(&(self.counts.clone(), peak_rss_mb()))?;
        of_ranks.iter().for_each(|(more, _)| counts.merge(more));
        if let Some(tracker) = &self.tracker {
            tracker.finish();
        }
        self.say(&format!("while training: {counts}"));
        if self.world.size() > 1 {
            let peaks: Vec<String> = of_ranks.iter().map(|(_, mb)| format!("{:.0}", mb.unwrap_or(f64::NAN))).collect();
            self.say(&format!("peak memory of each rank in MB: {}", peaks.join(" ")));
        }
        if self.progress.skipped_steps > 0 {
            self.say(&format!("{} steps left out: not finite", self.progress.skipped_steps));
        }
        Ok(Outcome { validation, train_seconds, counts, stopped_at })
    }
}

/// An optimizer without memory for what this rank updates.
fn own_optimizer<B: FusedOps>(recipe: &Recipe, shards: &Shards, world: &World) -> Optimizer<B> {
    let optimizer = Optimizer::new(&recipe.optim);
    if world.size() == 1 { optimizer } else { optimizer.of_pieces(shards.of(world.rank())) }
}

fn not_finite(loss: f64, norm: f64) -> Option<String> {
    let found = [("the loss", loss), ("the gradient's length", norm)].into_iter().find(|(_, value)| !value.is_finite());
    found.map(|(what, value)| format!("{what} is {value}"))
}

fn resume<B: FusedOps>(
    run: &RunDir,
    recipe: &Recipe,
    optimizer: &mut Optimizer<B>,
    device: &B::Device,
) -> Result<Progress, TrainError> {
    let error = |reason: String| TrainError::Run { path: PathBuf::from(run.path()), reason };
    if !run.last().exists() {
        return Err(error("there is no run to resume here (no last/); leave out --resume to start one".into()));
    }
    let progress = state::load(&run.last(), optimizer, device)?;
    let changed = recipe.differences(&progress.recipe);
    if !changed.is_empty() {
        return Err(error(format!("the recipe is not that of the run; different: {}", changed.join("; "))));
    }
    let version = env!("CARGO_PKG_VERSION");
    if progress.version != version {
        tracing::warn!(
            "the run was begun by needle {}, this is {version}: it may not go on to the same bits",
            progress.version
        );
    }
    Ok(progress)
}
