//! What can stop a run.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A recipe that cannot be read, or that asks for what cannot work.
    #[error("{}: {reason}", path.as_ref().map_or("recipe".into(), |p| p.display().to_string()))]
    Recipe {
        /// The file, where there is one.
        path: Option<PathBuf>,
        /// What is wrong, with the key.
        reason: String,
    },
    /// The loss or a gradient was not a number, several steps in a row.
    #[error(
        "step {step}: {what}, {skipped} steps in a row; the learning rate may be too high (muon {muon_lr:.2e}, adamw \
         {adamw_lr:.2e}); the batch is in {}",
        batch.display()
    )]
    NonFinite {
        /// The last of the steps.
        step: usize,
        /// What was not finite, and its value.
        what: String,
        /// Steps skipped in a row.
        skipped: usize,
        /// Muon's rate at that step.
        muon_lr: f64,
        /// AdamW's rate at that step.
        adamw_lr: f64,
        /// The last batch, for inspection.
        batch: PathBuf,
    },
    /// A run's directory is not what the command needs.
    #[error("{}: {reason}", path.display())]
    Run {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Examples whose query and tools are longer than what the model reads.
    #[error(
        "{place}: query and tools have {tokens} tokens, the model reads {most} (this row is the longest of {num_too_long} that \
         do not fit, of {num_examples}); {remedy}"
    )]
    LongPrompts {
        /// The row with the longest prompt.
        place: Box<needle_data::Place>,
        /// Tokens of its query and tools.
        tokens: usize,
        /// Most tokens of a prompt.
        most: usize,
        /// Rows with prompts that are too long.
        num_too_long: usize,
        /// All rows.
        num_examples: usize,
        /// What to do.
        remedy: String,
    },
    /// What one of several processes met, and all of them end for.
    #[error("rank {rank}: {reason}")]
    Rank {
        /// Which process.
        rank: usize,
        /// What it met.
        reason: String,
    },
    /// The other processes cannot be reached any more.
    #[error("{0}")]
    Lost(String),
    /// From the model crate.
    #[error(transparent)]
    Model(#[from] needle_model::ModelError),
    /// A question cannot be answered, or a model's sizes cannot work.
    #[error(transparent)]
    Runtime(#[from] needle_runtime::RuntimeError),
    /// From the data crate.
    #[error(transparent)]
    Data(#[from] needle_data::DataError),
}
