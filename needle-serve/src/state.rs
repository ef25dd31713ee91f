//! The state that all requests share.

use std::sync::Arc;

use needle_data::Tool;

use crate::config::ServerConfig;
use crate::error::ServeError;
use crate::metrics::Metrics;
use crate::models::{Loader, Models};
use crate::openai::asked::Limits;
use crate::playground::Playground;
use crate::queue::Queue;
use crate::security::Access;

/// The state that all requests share.
pub type Shared = Arc<ServerState>;

/// See [`Shared`].
pub struct ServerState {
    /// The loaded models.
    pub models: Models,
    /// The queue in front of them.
    pub queue: Queue,
    /// Counts for `/metrics`.
    pub metrics: Arc<Metrics>,
    /// How much a request may hold.
    pub limits: Limits,
    /// The tools for requests that bring none.
    pub tools: Vec<Tool>,
    /// Access control.
    pub access: Access,
    /// The playground, if it is served.
    pub playground: Option<Playground>,
    /// Loads the results of finetunes.
    pub loader: Loader,
}

impl ServerState {
    /// The state of a server that has loaded nothing yet.
    ///
    /// # Errors
    /// If other machines can reach it and there is no key, or the workspace cannot be used.
    pub fn new(config: ServerConfig, loader: Loader) -> Result<Shared, ServeError> {
        Ok(Arc::new(Self {
            models: Models::default(),
            queue: Queue::new(config.queue),
            metrics: Arc::default(),
            limits: config.limits,
            tools: config.tools,
            access: Access::new(config.address.ip(), config.key)?,
            playground: config.playground.map(Playground::open).transpose()?,
            loader,
        }))
    }
}
