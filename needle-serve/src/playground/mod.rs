//! The page: try a model, edit its data, finetune it, ship it.
//!
//! | file | concept |
//! | --- | --- |
//! | [`workspace`] | the directory, and names that cannot escape it |
//! | [`data`] | examples, line by line |
//! | [`runs`] | finetunes as child processes |
//! | [`ship`] | exports and their files |
//! | `attempt` | tokens while they are decoded, with their probability |
//! | `routes` | the page's files and its API |

mod attempt;
pub mod data;
pub(crate) mod routes;
pub mod runs;
pub mod ship;
pub mod workspace;

use crate::config::PlaygroundConfig;
use crate::error::ServeError;
use data::Data;
use runs::{Commands, Runs};
use workspace::Workspace;

/// The page's part of the state.
pub struct Playground {
    workspace: Workspace,
    data: Data,
    runs: Runs,
    commands: Commands,
}

impl Playground {
    /// Opens the workspace.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn open(config: PlaygroundConfig) -> Result<Self, ServeError> {
        let bases = config.bases.into_iter().map(|(name, path)| (name, path.canonicalize().unwrap_or(path)));
        let commands = Commands { needle: config.needle, bases: bases.collect() };
        let workspace = Workspace::open(&config.workspace)?;
        Ok(Self { workspace, data: Data::default(), runs: Runs::default(), commands })
    }

    /// Tells all finetunes to save and stop.
    pub fn stop_all(&self) {
        self.runs.stop_all();
    }
}
