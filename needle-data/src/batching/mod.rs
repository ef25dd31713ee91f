//! Encoded examples to batches: several a row, several rows a batch, made ready ahead of time.

#[cfg(feature = "training")]
pub mod batch;
#[cfg(feature = "training")]
pub mod loader;
pub mod pack;
#[cfg(feature = "training")]
pub mod prefetch;
