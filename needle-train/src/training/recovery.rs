//! What a run does after a step whose loss or gradient is not finite, as
//! [`crate::training::policies::back_off`] decides.

use burn::tensor::backend::AutodiffBackend;
use needle_model::FusedOps;
use needle_model::checkpoint::Checkpoint;

use crate::distributed::rank_batch::RankBatch;
use crate::error::TrainError;
use crate::optim::LearningRates;
use crate::run::state;
use crate::run::tracking::Event;
use crate::training::bad_batch;
use crate::training::policies::back_off::{AfterSkip, Limits};
use crate::training::setup::own_optimizer;
use crate::training::trainer::Trainer;

impl<'a, AB: AutodiffBackend + FusedOps> Trainer<'a, AB>
where
    AB::InnerBackend: FusedOps,
{
    /// Skips a step: weights and optimizer state stay as they are.
    pub(super) fn skip(&mut self, what: String, rates: LearningRates, batch: &RankBatch) -> Result<(), TrainError> {
        let step = self.progress.step;
        self.report(&Event::Skipped { step, what: what.clone() })?;
        let limits = self.limits();
        match self.progress.stability.observe_skip(&what, limits) {
            AfterSkip::GoOn => Ok(()),
            AfterSkip::BackOff(reason) => self.back_off(reason),
            AfterSkip::Fail => {
                let (cursors, tokenizer) = (&self.progress.cursors, self.encoder.tokenizer());
                let path = bad_batch::write(self.run, self.world, (step, &what), cursors, batch, tokenizer)?;
                let skipped = self.progress.stability.skipped_in_a_row;
                Err(TrainError::NonFinite {
                    step,
                    what,
                    skipped,
                    muon_lr: rates.muon,
                    adamw_lr: rates.adamw,
                    batch: path,
                })
            }
        }
    }

    /// Loads the best checkpoint and continues with lower learning rates; the position in the data
    /// is kept.
    pub(super) fn back_off(&mut self, what: String) -> Result<(), TrainError> {
        let (best, device) = (self.run.result(), self.model.device());
        let mut optimizer = own_optimizer(self.recipe, &self.shards, self.world);
        let then = state::load(&best, &mut optimizer, &device)?;
        self.model = Checkpoint::<AB>::load(&best, &device)?.model;
        self.optimizer = optimizer;
        self.progress.updates = then.updates;
        self.progress.stability.backed_off();
        let rate_factor = self.progress.stability.rate_factor();
        self.report(&Event::BackedOff { step: self.progress.step, what, rate_factor })?;
        self.save()
    }

    /// How many steps may be skipped and how often the run may back off.
    pub(super) fn limits(&self) -> Limits {
        Limits { max_skipped_steps: self.recipe.max_skipped_steps, max_backoffs: self.recipe.max_backoffs }
    }
}
