//! Which row comes when: the order of training, and the parts of a data set.

pub mod split;
#[cfg(feature = "training")]
pub mod stream;
