//! Writes a run's checkpoints: `last/`, and `best/` if a validation has chosen one. Rank 0 writes
//! for all ranks.

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use needle_data::Tokenizer;
use needle_data::order::stream::Cursor;
use needle_model::checkpoint::{Checkpoint, directory};
use needle_model::{FusedOps, San, SanConfig};

use crate::distributed::World;
use crate::distributed::exchange::gather_state;
use crate::error::TrainError;
use crate::optim::Optimizer;
use crate::run::directory::RunDir;
use crate::run::state::{self, Progress};

/// Writes a run's checkpoints.
pub struct Saver<'a> {
    run: &'a RunDir,
    world: &'a World,
    config: SanConfig,
    tokenizer: &'a Tokenizer,
    /// Number of checkpoints that are kept, including `last/`.
    keep_last: usize,
    /// Step of the checkpoint in `last/`.
    saved_step: Option<usize>,
}

impl<'a> Saver<'a> {
    /// A saver for a run whose `last/` is of step `saved_step`, if it has one.
    pub fn new(
        run: &'a RunDir,
        world: &'a World,
        (config, tokenizer): (SanConfig, &'a Tokenizer),
        keep_last: usize,
        saved_step: Option<usize>,
    ) -> Self {
        Self { run, world, config, tokenizer, keep_last, saved_step }
    }

    /// Whether the run has a checkpoint in `last/`.
    pub fn has_saved(&self) -> bool {
        self.saved_step.is_some()
    }

    /// Saves weights and state as one unit to `last/`, and to `best/` too if `is_best`.
    ///
    /// # Errors
    /// If it cannot be written, or a rank is gone.
    pub fn save<AB: AutodiffBackend + FusedOps>(
        &mut self,
        model: &San<AB>,
        optimizer: &Optimizer<AB::InnerBackend>,
        progress: &Progress,
        is_best: bool,
    ) -> Result<(), TrainError>
    where
        AB::InnerBackend: FusedOps,
    {
        let optimizer = gather_state(self.world, optimizer, &model.device())?;
        let mut cursors: Vec<Cursor> = self.world.all_gather_object(&progress.cursors)?.concat();
        cursors.sort_by_key(|cursor| cursor.lane);
        // Ranks that share a lane have the same position in it.
        cursors.dedup();
        if self.world.is_main() {
            let state = state::to_files(&Progress { cursors, ..progress.clone() }, optimizer)?;
            let checkpoint =
                Checkpoint { config: self.config.clone(), model: model.valid(), tokenizer: self.tokenizer.clone() };
            let files = checkpoint.to_files(&state)?;
            // `last/` first: from it, a run that was killed between the two knows that `best/` is
            // still to be written.
            self.run.save_last(&files, self.saved_step, self.keep_last)?;
            if is_best {
                directory::write(&self.run.best(), &files, None)?;
            }
        }
        self.saved_step = Some(progress.step);
        // No rank continues, or reads the checkpoint, before it is written.
        self.world.barrier()
    }

    /// Writes the `best/` that a killed run was about to write, if the state in `last/` says that
    /// `last/` is the best checkpoint.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish_interrupted_save(&self, progress: &Progress) -> Result<(), TrainError> {
        let best = self.run.best();
        let is_best = self.saved_step.is_some() && self.saved_step == progress.early_stopping.best_step;
        if is_best && state::progress(&best).ok().map(|progress| progress.step) != self.saved_step {
            directory::write(&best, directory::read(&self.run.last())?, None)?;
        }
        Ok(())
    }
}
