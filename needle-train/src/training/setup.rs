//! Sets up a run, new or resumed, and makes sure that all ranks agree on it.

use std::time::{Duration, Instant};

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use needle_data::order::stream::Sources;
use needle_data::source::Counts;
use needle_data::text::record::Record;
use needle_data::{Encoder, file};
use needle_model::checkpoint::Checkpoint;
use needle_model::{FusedOps, params};

use crate::distributed::World;
use crate::distributed::identity::{self, Identity};
use crate::distributed::step_barrier::Stragglers;
use crate::error::TrainError;
use crate::optim::{Optimizer, Shards};
use crate::recipe::Recipe;
use crate::run::directory::{Existing, RunDir};
use crate::run::state::Progress;
use crate::run::tracking::Tracker;
use crate::training::outcome::RunOptions;
use crate::training::resuming::resume;
use crate::training::saving::Saver;
use crate::training::start::Start;
use crate::training::trainer::Trainer;
use crate::training::validation::Validator;

impl<'a, AB: AutodiffBackend + FusedOps> Trainer<'a, AB>
where
    AB::InnerBackend: FusedOps,
{
    /// Sets up a run that is about to begin or to be resumed.
    pub(super) fn new(
        mut start: Start<AB>,
        recipe: &'a Recipe,
        encoder: &'a Encoder<'a>,
        validation: &[Record],
        run: &'a RunDir,
        options: RunOptions,
        world: &'a World,
    ) -> Result<Self, TrainError> {
        let shards = Shards::new(&params::list(&start.model), &recipe.optim, world.size());
        let mut optimizer = own_optimizer(recipe, &shards, world);
        let mut progress = Progress::new(recipe, recipe.data.lanes.unwrap_or(world.size()));
        let is_resumed = options.existing == Existing::Resume;
        if is_resumed {
            let device = start.model.device();
            progress = resume(run, recipe, &mut optimizer, &device)?;
            if !start.is_resumed {
                start.model = Checkpoint::<AB>::load(&run.last(), &device)?.model;
            }
        }
        recipe.data.fits_lanes(progress.lanes).map_err(|reason| TrainError::Recipe { path: None, reason })?;
        let saved_step = is_resumed.then_some(progress.step);
        let validation = if world.is_main() { validation } else { &[] };
        let validator = Validator::new(validation, encoder, recipe, start.config.clone(), run);
        let saved_as = (start.config, encoder.tokenizer());
        Ok(Self {
            recipe,
            encoder,
            world,
            shards,
            validator,
            saver: Saver::new(run, world, saved_as, recipe.checkpoint.keep_last, saved_step),
            run,
            options,
            model: start.model,
            optimizer,
            progress,
            tracker: None,
            stragglers: Stragglers::default(),
            hosts: Vec::new(),
            counts: Counts::default(),
            began: Instant::now(),
            validating: Duration::ZERO,
        })
    }

    /// Makes sure that all ranks are about to run the same training; nothing is written before.
    pub(super) fn handshake(&mut self, data: &Sources) -> Result<(), TrainError> {
        let (world, recipe, run) = (self.world, self.recipe, self.run);
        if world.size() > 1 {
            let step = self.progress.step;
            let own = Identity::new(world, recipe, self.encoder.tokenizer(), data, &self.model.valid(), step);
            identity::compare(world, &world.all_or_none(own)?)?;
        }
        self.hosts = world.all_gather_object(&world.host())?;
        if world.is_main() {
            run.begin()?;
            self.saver.finish_interrupted_save(&self.progress)?;
            file::write_atomically(&run.recipe(), recipe.to_toml().as_bytes())?;
            let (step, quiet) = (self.progress.step, self.options.quiet);
            self.tracker = Some(Tracker::new(&run.metrics(), &run.tensorboard(), step, recipe.steps, quiet)?);
        }
        Ok(())
    }
}

/// A new optimizer for the weights that this rank updates.
pub(super) fn own_optimizer<B: FusedOps>(recipe: &Recipe, shards: &Shards, world: &World) -> Optimizer<B> {
    let optimizer = Optimizer::new(&recipe.optim, recipe.seed);
    if world.size() == 1 { optimizer } else { optimizer.of_pieces(shards.of(world.rank())) }
}
