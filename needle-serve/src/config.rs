//! The configuration of a server.

use std::net::SocketAddr;
use std::path::PathBuf;

use needle_data::Tool;

use crate::openai::asked::Limits;
use crate::queue::QueueConfig;
use crate::security::ApiKey;

/// The configuration of a server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The API key that clients must send.
    pub key: Option<ApiKey>,
    /// The tools for requests that bring none.
    pub tools: Vec<Tool>,
    /// How many requests are computed at a time, and how many may wait.
    pub queue: QueueConfig,
    /// How much a request may hold.
    pub limits: Limits,
    /// The playground; none to serve the API alone.
    pub playground: Option<PlaygroundConfig>,
}

impl ServerConfig {
    /// The API alone, reachable from this machine only, at `port`.
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

/// The configuration of the playground.
#[derive(Debug, Clone)]
pub struct PlaygroundConfig {
    /// Directory of its data, runs and exports; it writes nothing elsewhere.
    pub workspace: PathBuf,
    /// The `needle` command, which finetunes and exports.
    pub needle: PathBuf,
    /// The checkpoints that a finetune can start from, by name.
    pub bases: Vec<(String, PathBuf)>,
}
