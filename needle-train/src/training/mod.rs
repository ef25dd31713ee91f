//! The loop, one step of it, and what it goes by.

mod bad_batch;
pub mod batch_loader;
pub mod checkpointing;
pub mod loss;
pub mod outcome;
pub mod policies;
mod recovery;
mod resuming;
mod saving;
pub mod schedule;
mod setup;
pub mod start;
pub mod step;
mod summary;
pub mod trainer;
pub mod validation;
