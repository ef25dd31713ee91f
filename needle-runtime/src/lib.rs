//! A query and tools in, tool calls out. No burn, no training.
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | [`error`] | why a question cannot be answered |
//! | [`generate`] | what decoding gives, and the hook that constraints and streaming go into |
//! | [`constrain`] | decoding that can only write what the offered tools allow |

pub mod constrain;
pub mod error;
pub mod generate;

pub use error::RuntimeError;
