//! Errors that stop a run.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A recipe cannot be read, or has an invalid setting.
    #[error("{}: {reason}", path.as_ref().map_or("recipe".into(), |p| p.display().to_string()))]
    Recipe {
        /// The recipe's file, if it has one.
        path: Option<PathBuf>,
        /// What is wrong, with the key.
        reason: String,
    },
    /// The loss or a gradient was not finite for several steps in a row.
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
        /// Muon's learning rate at that step.
        muon_lr: f64,
        /// AdamW's learning rate at that step.
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
    /// Query and tools of some examples are longer than the model can read.
    #[error(
        "{place}: query and tools have {tokens} tokens, the model reads {most} ({num_too_long} of {num_examples} rows do not fit, \
         this is the longest); {remedy}"
    )]
    LongPrompts {
        /// The row with the longest prompt.
        place: Box<needle_data::Place>,
        /// Tokens of its query and tools.
        tokens: usize,
        /// Largest number of tokens that the model reads.
        most: usize,
        /// Rows with prompts that are too long.
        num_too_long: usize,
        /// All rows.
        num_examples: usize,
        /// What to do.
        remedy: String,
    },
    /// One of several processes failed, and all of them end.
    #[error("rank {rank}: {reason}")]
    Rank {
        /// The process that failed.
        rank: usize,
        /// Its error.
        reason: String,
    },
    /// Communication with the other processes, or with the device, failed.
    #[error("{0}")]
    Lost(String),
    /// An error of the model crate.
    #[error(transparent)]
    Model(#[from] needle_model::ModelError),
    /// An error of the runtime crate.
    #[error(transparent)]
    Runtime(#[from] needle_runtime::RuntimeError),
    /// An error of the data crate.
    #[error(transparent)]
    Data(#[from] needle_data::DataError),
}
