//! The options of a run, and its result.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use needle_data::source::Counts;

use crate::eval::Evaluation;
use crate::run::directory::Existing;

/// Options of a run: how it starts, what it prints, and how it is stopped.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// What to do if the directory already contains a run.
    pub existing: Existing,
    /// Disables the progress bar and progress lines.
    pub quiet: bool,
    /// Once true, the run finishes its step, saves and ends.
    pub stop: Arc<AtomicBool>,
}

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Final validation at f32 and INT4; empty without validation examples.
    pub validation: Vec<Evaluation>,
    /// Seconds of training, without those of validation.
    pub train_seconds: f64,
    /// Counts of the rows that were read, used and skipped.
    pub counts: Counts,
    /// The step after which the run was asked to stop, if it did not finish.
    pub stopped_at: Option<usize>,
}
