//! Loads a rank's batches ahead of the trainer, with one loader for each of its data lanes.

use std::sync::mpsc::Receiver;
use std::thread::Scope;
use std::time::Instant;

use needle_data::batching::loader::{Loaded, Loader, LoaderConfig};
use needle_data::batching::prefetch::prefetch;
use needle_data::order::stream::{Cursor, Lane, Sources, Windows};
use needle_data::source::Counts;
use needle_data::{DataError, Encoder};

use crate::distributed::World;
use crate::distributed::rank_batch::{LaneBatch, LanePart, lanes_of};
use crate::error::TrainError;
use crate::recipe::Recipe;

/// Number of batches prefetched in each lane.
const PREFETCHED_BATCHES: usize = 4;

/// The loaders of a rank's lanes.
pub struct BatchLoader {
    lanes: Vec<(LanePart, Receiver<Result<Loaded, DataError>>)>,
}

/// A rank's rows of one step.
#[derive(Debug, Clone, Default)]
pub struct LoadedStep {
    /// The rows, lane by lane.
    pub lanes: Vec<LaneBatch>,
    /// The positions of its lanes after these rows.
    pub cursors: Vec<Cursor>,
    /// Counts of the rows of the lanes of which this is the first rank.
    pub counts: Counts,
    /// Epoch of its lane that is furthest behind.
    pub epoch: u64,
    /// Seconds that the trainer waited for the rows.
    pub seconds: f64,
}

impl BatchLoader {
    /// Begins to read this rank's lanes, of `lanes` in all, from `cursors` on: one for each lane,
    /// or none at the beginning.
    ///
    /// # Errors
    /// If a lane cannot be read, or the cursors belong to other data.
    pub fn start<'scope, 'env: 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        encoder: &'env Encoder<'env>,
        data: &Sources,
        recipe: &Recipe,
        (lanes, cursors): (usize, &[Cursor]),
        world: &World,
    ) -> Result<Self, TrainError> {
        let mine = lanes_of(world.rank(), world.size(), lanes);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = recipe.data.threads.unwrap_or((cores / mine.len().max(1)).max(1));
        let config = LoaderConfig { threads: Some(threads), ..recipe.data.loader(lanes) };
        let start = |part: LanePart| {
            let lane = Lane { index: part.lane, count: lanes };
            let cursor = cursors.iter().find(|cursor| cursor.lane == lane).cloned();
            let windows = Windows::new(data, encoder.tokenizer(), recipe.data.stream(recipe.seed, lane), cursor)?;
            // One thread reads and unpacks the next window, another encodes this one, while the
            // trainer computes.
            let windows = prefetch(scope, 0, windows);
            let loader = Loader::new(encoder, windows.into_iter(), config.clone(), recipe.seed)?;
            Ok((part, prefetch(scope, PREFETCHED_BATCHES, loader)))
        };
        Ok(Self { lanes: mine.into_iter().map(start).collect::<Result<_, TrainError>>()? })
    }

    /// The rows of the next step.
    ///
    /// # Errors
    /// If a row cannot be read or used, and the recipe does not allow skipping it.
    pub fn read(&mut self) -> Result<LoadedStep, TrainError> {
        let began = Instant::now();
        let mut loaded = LoadedStep { epoch: u64::MAX, ..LoadedStep::default() };
        for (part, batches) in &self.lanes {
            let ended = || DataError::NoExamples(format!("lane {} ended", part.lane));
            let Loaded { batch, cursor, epoch, counts } = batches.recv().map_err(|_| ended())??;
            loaded.lanes.push(part.of(batch));
            loaded.cursors.push(cursor);
            loaded.epoch = loaded.epoch.min(epoch);
            if part.part == 0 {
                loaded.counts.merge(&counts);
            }
        }
        loaded.seconds = began.elapsed().as_secs_f64();
        Ok(loaded)
    }
}
