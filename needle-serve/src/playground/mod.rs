//! The page.

use axum::Router;

use crate::error::ServeError;
use crate::server::{PlaygroundConfig, Shared};

/// The page's part of the state.
pub struct Playground {}

impl Playground {
    /// Opens the workspace.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn open(_: PlaygroundConfig) -> Result<Self, ServeError> {
        Ok(Self {})
    }

    /// Stops all that runs.
    pub fn stop_all(&self) {}
}

/// The page's routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
}
