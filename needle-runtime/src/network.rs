//! The interface of everything that computes answers: the engine, or burn's model where training
//! needs f32 or a GPU.

use std::any::Any;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::config::SanConfig;
use crate::error::RuntimeError;
use crate::generate::{Generated, StepHook};
use crate::precision::Precision;

/// A prompt that is answered several times but read only once.
pub struct KeptPrompt {
    /// Encoder ids.
    pub ids: Vec<u32>,
    /// What the network keeps of the prompt once it has read it.
    pub(crate) kept: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl KeptPrompt {
    /// A prompt that has not been read yet.
    pub fn new(ids: Vec<u32>) -> Self {
        Self { ids, kept: OnceLock::new() }
    }
}

/// A model that answers prompts. Several threads can use it at the same time.
pub trait Network: Send + Sync {
    /// Sizes of the model.
    fn config(&self) -> &SanConfig;

    /// The format of the stored weights.
    fn precision(&self) -> Precision;

    /// Decodes an answer of at most `max_tokens` tokens to each of `prompts` (encoder ids). Among
    /// equal logits the lowest id wins.
    ///
    /// # Errors
    /// If a prompt is empty or too long, or contains invalid ids.
    fn generate(
        &self,
        prompts: &[Vec<u32>],
        max_tokens: usize,
        hook: &mut dyn StepHook,
    ) -> Result<Vec<Generated>, RuntimeError>;

    /// Like [`Network::generate`], for prompts that may occur several times, in this call and in
    /// later ones. The engine reads each of them only once; other networks read them anew.
    ///
    /// # Errors
    /// As for [`Network::generate`].
    fn generate_kept(
        &self,
        prompts: &[&KeptPrompt],
        max_tokens: usize,
        hook: &mut dyn StepHook,
    ) -> Result<Vec<Generated>, RuntimeError> {
        let prompts: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.ids.clone()).collect();
        self.generate(&prompts, max_tokens, hook)
    }

    /// Embeddings of `texts` (ids), unit vectors of `contrastive_dim` values; `None` if the model
    /// has no retrieval head.
    ///
    /// # Errors
    /// If a text is too long or contains invalid ids.
    fn embed(&self, texts: &[Vec<u32>]) -> Result<Option<Vec<Vec<f32>>>, RuntimeError>;

    /// Number of threads of [`Network::run_tasks`].
    fn threads(&self) -> usize {
        1
    }

    /// Calls `task` with each of `0..count`, in parallel if the network has several threads. A task
    /// may use the network, which then computes on the task's own thread.
    fn run_tasks(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(task);
    }
}

/// The results of `of` for each of `0..count`, in order, computed by tasks of `network`.
pub(crate) fn map_tasks<T: Send>(network: &dyn Network, count: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let results: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    network.run_tasks(count, &|index| {
        let result = of(index);
        *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    });
    // Every index was called once, so no result is missing.
    results.into_iter().filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}
