//! A query and tools in, tool calls out. No burn, no training.
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | [`error`] | why a question cannot be answered |
//! | [`config`](mod@config) | sizes, presets, number of parameters |
//! | [`generate`] | what decoding gives, and the hook that constraints and streaming go into |
//! | [`constrain`] | decoding that can only write what the offered tools allow |
//! | [`network`] | whatever computes answers |
//! | [`mod@file`] | the files that hold a model |
//! | `pool` | a few threads |
//! | `pack`, `activations`, `key_value` | the operands of the kernels: weights, rows, what is attended to |
//! | [`kernels`] | what is computed, for each instruction set; the three above are described in its terms |
//! | `rope` | angles of positions |
//! | `weights` | a model in the layout of the kernels |
//! | `workspace` | buffers, and the steps that encoder and decoder share |
//! | `encode`, `decode` | a prompt read; next tokens of some sequences in one pass |
//! | [`engine`] | a model that is ready to answer |
//!
//! # Shapes
//!
//! `rows` positions; `row` the width of the residual stream in whole groups of 32; `heads` query heads, `kv_heads` key/value
//! heads of `head_dim`, in whole lanes `head_width`; `panels` of 16 outputs, `groups` of 32 inputs; `vocab` ids.

mod activations;
pub mod config;
pub mod constrain;
mod decode;
mod encode;
pub mod engine;
pub mod error;
pub mod file;
pub mod generate;
pub mod kernels;
mod key_value;
pub mod network;
mod pack;
mod pool;
mod rope;
mod weights;
mod workspace;

pub use config::SanConfig;
pub use engine::{Engine, Options};
pub use error::RuntimeError;
