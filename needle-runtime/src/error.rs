//! Why a question cannot be answered.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The offered tools cannot be turned into a grammar.
    #[error("tools: {0}")]
    Tools(String),
    /// A setting has a value that cannot work.
    #[error("{field}: {reason}")]
    Config {
        /// The setting.
        field: &'static str,
        /// What was expected.
        reason: String,
    },
    /// A file could not be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A prompt cannot be read by the model.
    #[error("prompt {row}: {reason}")]
    Prompt {
        /// Its index in the batch.
        row: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A question that cannot be answered.
    #[error("{query:?}: {reason}")]
    Question {
        /// What was asked.
        query: String,
        /// Why not.
        reason: String,
    },
    /// What the data crate has to say of a file or a setting.
    #[error(transparent)]
    Data(#[from] needle_data::DataError),
}

impl RuntimeError {
    /// Wraps an I/O error with the file that it happened on.
    pub fn io(path: impl Into<PathBuf>, error: std::io::Error) -> Self {
        Self::Io { path: path.into(), error }
    }

    /// A file that is not what it should be.
    pub fn bad_file(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::BadFile { path: path.into(), reason: reason.into() }
    }
}
