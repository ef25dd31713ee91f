//! The training loop, one step of it, and the policies that it follows.

mod bad_batch;
pub mod batch_loader;
pub mod checkpointing;
pub mod loss;
mod outcome;
pub(crate) mod policies;
mod recovery;
mod resuming;
mod saving;
pub mod schedule;
mod setup;
mod start;
pub mod step;
mod summary;
pub mod trainer;
mod validation;
pub mod word_vectors;
