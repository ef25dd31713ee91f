//! Errors of this crate, before they become answers of HTTP.

use std::path::PathBuf;

/// What can go wrong with a server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server cannot be run as it is asked to.
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
    /// The network, or a child process.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A name, a request or a file of the user's cannot be used.
    #[error("{0}")]
    Input(String),
    /// What is asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// Something else stands in the way, such as a run of the same name.
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
    /// Of the file `path`.
    pub fn io(path: impl Into<PathBuf>, error: std::io::Error) -> Self {
        Self::Io { path: path.into(), error }
    }
}
