//! Errors that end a run.

use std::path::PathBuf;

use needle_data::DataError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TeacherError {
    /// A file of examples or tools, or a result that cannot be written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A setting has an invalid value.
    #[error("{field}: {reason}")]
    Config {
        /// The setting.
        field: &'static str,
        /// What was expected.
        reason: String,
    },
    /// The endpoint cannot be used: a retry would fail in the same way.
    #[error("{endpoint}: {reason}")]
    Endpoint {
        /// The address that was asked, without credentials.
        endpoint: String,
        /// What it answered and what to do.
        reason: String,
    },
    /// The journal cannot be read.
    #[error("{}:{line}: {reason}", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The files beside `--out` belong to another run.
    #[error("{}: {reason}", path.display())]
    OtherRun {
        /// The file that says so.
        path: PathBuf,
        /// What differs and what to do.
        reason: String,
    },
}

impl TeacherError {
    pub(crate) fn config(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Config { field, reason: reason.into() }
    }
}
