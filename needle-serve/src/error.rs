//! Errors of this crate, before they become HTTP responses.

use std::path::PathBuf;

/// What can go wrong with a server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server's configuration cannot be used.
    #[error("{0}")]
    Config(String),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The network or a child process failed.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A name, a request or a file that the user gave cannot be used.
    #[error("{0}")]
    Input(String),
    /// The requested thing does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The request conflicts with something else, such as a run of the same name.
    #[error("{0}")]
    Conflict(String),
    /// An MCP server or client failed.
    #[error("{server}: {reason}")]
    Mcp {
        /// The server's name.
        server: String,
        /// What it said.
        reason: String,
    },
}

impl ServeError {
    /// An [`Self::Io`] error of the file `path`.
    pub fn io(path: impl Into<PathBuf>, error: std::io::Error) -> Self {
        Self::Io { path: path.into(), error }
    }
}
