//! From encoded examples to batches: several examples per row, several rows per batch, prepared
//! ahead of time.

#[cfg(feature = "training")]
pub mod batch;
#[cfg(feature = "training")]
pub mod copies;
#[cfg(feature = "training")]
pub mod loader;
pub mod pack;
#[cfg(feature = "training")]
pub mod prefetch;
