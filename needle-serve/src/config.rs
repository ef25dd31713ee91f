//! What a server is run with.

use std::net::SocketAddr;
use std::path::PathBuf;

use needle_data::Tool;

use crate::openai::asked::Limits;
use crate::queue::QueueConfig;
use crate::security::ApiKey;

/// What a server is run with.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// The key that clients must show.
    pub key: Option<ApiKey>,
    /// The tools of requests without any.
    pub tools: Vec<Tool>,
    /// How much is computed, and how much waits.
    pub queue: QueueConfig,
    /// How much a request may hold.
    pub limits: Limits,
    /// The page; none for the API alone.
    pub playground: Option<PlaygroundConfig>,
}

impl ServerConfig {
    /// The API alone, for this machine, at `port`.
    pub fn local(port: u16) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            key: None,
            tools: Vec::new(),
            queue: QueueConfig::default(),
            limits: Limits::default(),
            playground: None,
        }
    }
}

/// What the page works with.
#[derive(Debug, Clone)]
pub struct PlaygroundConfig {
    /// The directory of its data, runs and exports; nothing is written elsewhere.
    pub workspace: PathBuf,
    /// The `needle` command, which finetunes and exports.
    pub needle: PathBuf,
    /// The checkpoints that a finetune can start from, by name.
    pub bases: Vec<(String, PathBuf)>,
}
