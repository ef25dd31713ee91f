//! Whatever computes answers: the engine, or burn's model where training wants f32 or a GPU.

use std::sync::{Mutex, PoisonError};

use crate::config::SanConfig;
use crate::error::RuntimeError;
use crate::generate::{Generated, StepHook};
use crate::precision::Precision;

/// A model that answers. It can be asked by several threads at once.
pub trait Network: Send + Sync {
    /// Sizes of the model.
    fn config(&self) -> &SanConfig;

    /// What its weights are stored as.
    fn precision(&self) -> Precision;

    /// Decodes an answer to each of `prompts` (encoder ids), of at most `max_tokens` tokens. On
    /// equal logits the lowest id wins.
    ///
    /// # Errors
    /// If a prompt cannot be read: too long, empty, or with ids that the model does not have.
    fn generate(
        &self,
        prompts: &[Vec<u32>],
        max_tokens: usize,
        hook: &mut dyn StepHook,
    ) -> Result<Vec<Generated>, RuntimeError>;

    /// Unit vectors of `texts` (ids), by which tools are ranked; `None` without a retrieval head.
    ///
    /// # Errors
    /// As [`Network::generate`].
    fn embed(&self, texts: &[Vec<u32>]) -> Result<Option<Vec<Vec<f32>>>, RuntimeError>;

    /// Threads that [`Network::run_tasks`] has for tasks.
    fn threads(&self) -> usize {
        1
    }

    /// Calls `task` with each of `0..count`, in parallel where the network has several threads. A
    /// task may ask the network, which then computes on the task's own thread.
    fn run_tasks(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(task);
    }
}

/// What `of` gives for each of `0..count`, in order, computed by the tasks of `network`.
pub(crate) fn map_tasks<T: Send>(network: &dyn Network, count: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let results: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    network.run_tasks(count, &|index| {
        let result = of(index);
        *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    });
    // Each index came once.
    results.into_iter().filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}
