//! The loop: batch -> losses and gradients -> clip -> update -> hooks.
//!
//! All ranks of a run go through it in parallel and come to the same decisions; rank 0 also
//! validates, writes and reports. `training::policies` decides when to stop, what to do about a
//! loss that is not finite, and which checkpoint is the best.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use needle_data::Encoder;
use needle_data::order::stream::Sources;
use needle_data::source::Counts;
use needle_data::text::record::Record;
use needle_model::{FusedOps, San};

use crate::distributed::World;
use crate::distributed::exchange::{all_gather_weights, reduce_scatter};
use crate::distributed::rank_batch::RankBatch;
use crate::distributed::step_barrier::{Decision, RankStep, Straggler, Stragglers, after_gradients, before_step};
use crate::error::TrainError;
use crate::optim::{LearningRates, Optimizer, Shards, clip, squared_norm};
use crate::recipe::Recipe;
use crate::run::directory::{Claim, Existing, RunDir};
use crate::run::state::Progress;
use crate::run::tracking::{Event, Tracker};
use crate::training::batch_loader::{BatchLoader, LoadedStep};
pub use crate::training::outcome::{Outcome, RunOptions};
use crate::training::policies::back_off::not_finite;
use crate::training::policies::early_stopping::Measured;
use crate::training::resuming::compare_inputs;
use crate::training::saving::Saver;
pub use crate::training::start::{Start, encode_config};
use crate::training::step::forward_backward_rank_batch;
use crate::training::summary;
use crate::training::validation::Validator;

/// Claims the directory of a run on rank 0, which writes it; all other ranks wait for that.
///
/// # Errors
/// Those of [`RunDir::claim`], on every rank.
pub fn claim(run: &RunDir, existing: Existing, world: &World) -> Result<Option<Claim>, TrainError> {
    world.all_or_none(world.is_main().then(|| run.claim(existing)).transpose())
}

/// Trains from `start` by `recipe`, together with all other ranks of `world`, and writes the run to
/// `run`. Claims the directory, unless the caller already has.
///
/// # Errors
/// If the directory cannot be claimed, no example can be used, losses or gradients remain
/// non-finite, or something cannot be written. Also if a rank has an error, is about to run
/// something else, or is gone.
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
    let _claim = claim(run, options.existing, world)?;
    let tokenizer = start.tokenizer.clone();
    let encoder = Encoder::new(&tokenizer, encode_config(recipe))?;
    let (base, is_resumed) = (start.base.clone(), options.existing == Existing::Resume);
    let mut trainer = world.all_or_none(Trainer::new(start, recipe, &encoder, validation, run, options, world))?;
    if world.is_main() {
        let compared = compare_inputs(&mut trainer.progress, is_resumed, (data, validation, &base), run);
        world.all_or_none(compared)?;
    } else {
        world.all_or_none(Ok(()))?;
    }
    trainer.handshake(data)?;
    std::thread::scope(|scope| {
        let place = (trainer.progress.lanes, trainer.progress.cursors.as_slice());
        let loader = BatchLoader::start(scope, &encoder, data, recipe, place, world);
        let mut loader = world.all_or_none(loader)?;
        trainer.before_first_step()?;
        while !trainer.is_over() {
            let Some((loaded, batch)) = trainer.next(&mut loader)? else { break };
            trainer.step(&loaded, &batch)?;
            trainer.run_hooks()?;
        }
        Ok::<(), TrainError>(())
    })?;
    trainer.finish()
}

/// A run in progress.
pub(super) struct Trainer<'a, AB: AutodiffBackend> {
    pub(super) recipe: &'a Recipe,
    pub(super) encoder: &'a Encoder<'a>,
    pub(super) world: &'a World,
    /// Which rank updates which weights.
    pub(super) shards: Shards,
    pub(super) validator: Validator<'a>,
    pub(super) saver: Saver<'a>,
    pub(super) run: &'a RunDir,
    pub(super) options: RunOptions,
    pub(super) model: San<AB>,
    pub(super) optimizer: Optimizer<AB::InnerBackend>,
    pub(super) progress: Progress,
    /// Only rank 0 has one.
    pub(super) tracker: Option<Tracker>,
    pub(super) stragglers: Stragglers,
    /// The host of each rank.
    pub(super) hosts: Vec<String>,
    /// Row counts of this rank's lanes.
    pub(super) counts: Counts,
    pub(super) began: Instant,
    pub(super) validating: Duration,
}

impl<'a, AB: AutodiffBackend + FusedOps> Trainer<'a, AB>
where
    AB::InnerBackend: FusedOps,
{
    /// Before the first step of a new run: validates or saves, if the recipe needs a result to
    /// compare with or a checkpoint to back off to. A resumed run already has both.
    fn before_first_step(&mut self) -> Result<(), TrainError> {
        match (self.saver.has_saved(), self.recipe.eval.at_start, self.recipe.max_backoffs) {
            (false, true, _) => self.validate(),
            (false, false, 1..) => self.save(),
            _ => Ok(()),
        }
    }

    fn is_over(&self) -> bool {
        self.progress.step >= self.recipe.steps || self.progress.early_stopping.is_over(self.recipe.eval.patience)
    }

    /// The rows of the next step, unless a rank was asked to stop.
    fn next(&self, loader: &mut BatchLoader) -> Result<Option<(LoadedStep, RankBatch)>, TrainError> {
        let (stop, step) = (self.options.stop.load(Ordering::Relaxed), self.progress.step + 1);
        let (loaded, lanes) = match loader.read() {
            Ok(mut loaded) => {
                let lanes = std::mem::take(&mut loaded.lanes);
                (loaded, Ok(lanes))
            }
            Err(error) => (LoadedStep::default(), Err(error)),
        };
        match before_step(self.world, step, lanes, stop, self.recipe.data.max_retrieval_pairs)? {
            Decision::Go(batch) => Ok(Some((loaded, batch))),
            Decision::Stop => Ok(None),
        }
    }

    /// Batch -> losses and gradients -> clip -> update -> report.
    fn step(&mut self, loaded: &LoadedStep, batch: &RankBatch) -> Result<(), TrainError> {
        let (world, recipe, step) = (self.world, self.recipe, self.progress.step + 1);
        let factor = recipe.schedule.factor(step, recipe.steps) * self.progress.stability.rate_factor();
        let rates = LearningRates { muon: recipe.optim.muon_lr * factor, adamw: recipe.optim.adamw_lr * factor };
        let traffic = world.traffic();

        let began = Instant::now();
        let (losses, gradients) = forward_backward_rank_batch(&self.model, batch, recipe, step, world)?;
        let seconds = loaded.seconds + began.elapsed().as_secs_f64() - (world.traffic().seconds - traffic.seconds);
        let dtype = recipe.distributed.gradient_dtype;
        let gradients = reduce_scatter(world, &self.shards, gradients, dtype, &self.model.device())?;
        let own = RankStep { losses, squared_norm: squared_norm(&gradients), epoch: loaded.epoch, seconds };
        let (totals, rank_seconds) = after_gradients(world, batch, &own)?;
        self.progress.step = step;
        self.progress.cursors.clone_from(&loaded.cursors);
        self.counts.clone_from(&loaded.counts);
        if let Some(what) = not_finite(totals.losses.total, totals.gradient_norm) {
            return self.skip(what, rates, batch);
        }
        let gradients = clip(gradients, totals.gradient_norm, recipe.optim.clip_global_norm);
        let updated = self.optimizer.step(self.model.clone(), gradients, rates);
        self.model = all_gather_weights(world, &self.shards, updated)?;
        self.progress.updates += 1;
        if let Some(reason) = self.progress.stability.observe_loss(totals.losses.cross_entropy, self.limits()) {
            self.back_off(reason)?;
        }
        for Straggler { rank, seconds, median_seconds } in self.stragglers.add(&rank_seconds) {
            let host = self.hosts.get(rank).cloned().unwrap_or_default();
            self.report(&Event::Straggler { step, rank, host, rank_seconds: seconds, median_seconds })?;
        }
        let traffic = (world.size() > 1).then(|| world.traffic().since(traffic));
        self.report(&Event::step(step, rates, &totals, traffic, self.began))
    }

    /// Validates or saves, if one is due after this step; a validation also saves.
    fn run_hooks(&mut self) -> Result<(), TrainError> {
        type Hook<'a, AB> = fn(&mut Trainer<'a, AB>) -> Result<(), TrainError>;
        let hooks: [(Option<usize>, Hook<'a, AB>); 2] =
            [(self.recipe.eval.every_steps, Self::validate), (self.recipe.checkpoint.every_steps, Self::save)];
        let step = self.progress.step;
        // The last step's validation and save are left to `finish`.
        let is_due =
            |every: Option<usize>| step < self.recipe.steps && every.is_some_and(|n| step.is_multiple_of(n.max(1)));
        hooks.into_iter().find(|(every, _)| is_due(*every)).map_or(Ok(()), |(_, hook)| hook(self))
    }

    /// Measures, saves, and writes the report.
    fn validate(&mut self) -> Result<(), TrainError> {
        let pause = Instant::now();
        let step = self.progress.step;
        let measured = match &mut self.tracker {
            Some(tracker) => self.validator.measure(&self.model.valid(), step, self.run, tracker)?,
            None => Measured::default(),
        };
        // Only rank 0 has measured; all ranks use its result.
        let is_best = self.progress.early_stopping.observe(step, self.world.broadcast(&measured)?);
        self.saver.save(&self.model, &self.optimizer, &self.progress, is_best)?;
        self.validator.write_report(self.world)?;
        self.validating += pause.elapsed();
        Ok(())
    }

    pub(super) fn save(&mut self) -> Result<(), TrainError> {
        self.saver.save(&self.model, &self.optimizer, &self.progress, false)
    }

    pub(super) fn report(&mut self, event: &Event) -> Result<(), TrainError> {
        self.tracker.as_mut().map_or(Ok(()), |tracker| tracker.report(event))
    }

    fn finish(mut self) -> Result<Outcome, TrainError> {
        let train_seconds = (self.began.elapsed() - self.validating).as_secs_f64();
        let stopped_at = (!self.is_over()).then_some(self.progress.step);
        let has_lost_patience = self.progress.early_stopping.is_over(self.recipe.eval.patience);
        let mut validation = Vec::new();
        if stopped_at.is_some() {
            // A run that is asked to stop saves without a validation, so that it ends quickly.
            self.save()?;
        } else {
            if !has_lost_patience {
                self.validate()?;
            }
            if let Some(tracker) = &mut self.tracker {
                let best = self.progress.early_stopping.best_step;
                let last = (self.model.valid(), self.progress.step);
                validation = self.validator.measure_result(last, best, self.run, tracker)?;
            }
            self.validator.write_report(self.world)?;
        }
        let counts =
            summary::log(self.world, self.tracker.as_ref(), &self.progress, (&self.counts, has_lost_patience))?;
        self.run.keep();
        Ok(Outcome { validation, train_seconds, counts, stopped_at })
    }
}
