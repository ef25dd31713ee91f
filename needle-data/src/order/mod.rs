//! The order of training rows, and the split of a dataset into parts.

pub mod split;
#[cfg(feature = "training")]
pub mod stream;
