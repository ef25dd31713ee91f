//! Encoded examples to batches: several a row, several rows a batch, made ready ahead of time.

pub mod batch;
pub mod loader;
pub mod pack;
pub mod prefetch;
