//! Errors of models and their files.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A setting has an invalid value.
    #[error("{field}: {reason}")]
    Config {
        /// The setting.
        field: &'static str,
        /// What was expected.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: std::io::Error,
    },
    /// A file is malformed, or does not fit the files around it.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A checkpoint's tensors do not match its configuration.
    #[error("{}: {}", path.display(), tensor_problems(missing, unexpected, misshapen))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Tensors that the configuration needs and the file lacks.
        missing: Vec<String>,
        /// Tensors that the file has and the configuration does not need.
        unexpected: Vec<String>,
        /// Tensors of the wrong shape: name, expected shape, shape found.
        misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    },
    /// An error of the data crate.
    #[error(transparent)]
    Data(#[from] needle_data::DataError),
    /// An error of the runtime crate.
    #[error(transparent)]
    Runtime(#[from] needle_runtime::RuntimeError),
}

impl ModelError {
    /// Wraps an I/O error with the file that it happened on.
    pub fn io(path: impl Into<PathBuf>, error: std::io::Error) -> Self {
        Self::Io { path: path.into(), error }
    }

    /// An error about the contents of a file.
    pub fn bad_file(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::BadFile { path: path.into(), reason: reason.into() }
    }
}

fn tensor_problems(
    missing: &[String],
    unexpected: &[String],
    misshapen: &[(String, Vec<usize>, Vec<usize>)],
) -> String {
    let mut parts = Vec::new();
    for (what, names) in [("missing", missing), ("unexpected", unexpected)] {
        if !names.is_empty() {
            parts.push(format!("{what} tensors: {}", names.join(", ")));
        }
    }
    for (name, expected, found) in misshapen {
        parts.push(format!("{name} has shape {found:?}, the configuration needs {expected:?}"));
    }
    parts.join("; ")
}
