//! The options of a run, and its result.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use needle_data::source::Counts;

use crate::eval::Evaluation;
use crate::run::directory::Existing;

/// Options of a run: what it prints, and how it is continued and stopped.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// What to do about a run that is in the directory already.
    pub existing: Existing,
    /// Shows no progress bar and no progress lines.
    pub quiet: bool,
    /// Once true, the run finishes its step, saves and ends.
    pub stop: Arc<AtomicBool>,
}

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Final validation at f32 and INT4, where there was anything to validate on.
    pub validation: Vec<Evaluation>,
    /// Seconds of training, without those of validation.
    pub train_seconds: f64,
    /// Counts of the rows that were read, used and left out.
    pub counts: Counts,
    /// The step after which it was asked to stop, if it did not get to its end.
    pub stopped_at: Option<usize>,
}
