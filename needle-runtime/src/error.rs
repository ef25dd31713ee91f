//! Errors of this crate.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The offered tools cannot be compiled to a grammar.
    #[error("tools: {0}")]
    Tools(String),
    /// A setting has an invalid value.
    #[error("{field}: {reason}")]
    Config {
        /// The setting.
        field: &'static str,
        /// What is wrong, or what was expected.
        reason: String,
    },
    /// A file could not be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// A file has invalid contents.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A prompt cannot be encoded.
    #[error("prompt {row}: {reason}")]
    Prompt {
        /// Index of the prompt in the batch.
        row: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A question cannot be answered.
    #[error("{query:?}: {reason}")]
    Question {
        /// The query.
        query: String,
        /// Why it cannot be answered.
        reason: String,
    },
    /// An error of the data crate.
    #[error(transparent)]
    Data(#[from] needle_data::DataError),
}

impl RuntimeError {
    /// An I/O error on the file `path`.
    pub fn io(path: impl Into<PathBuf>, error: std::io::Error) -> Self {
        Self::Io { path: path.into(), error }
    }

    /// An error for a file with invalid contents.
    pub fn bad_file(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::BadFile { path: path.into(), reason: reason.into() }
    }
}
