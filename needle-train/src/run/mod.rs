//! A run on disk: its directory, what survives a restart, and what it reports.

pub mod directory;
pub(crate) mod inputs;
pub(crate) mod lock;
pub mod memory;
pub mod report;
pub mod state;
pub(crate) mod tracking;
