//! A query and tools in, tool calls out. No burn, no training.
//!
//! Decoding can only write what the offered tools allow. Here the first token of every answer is
//! the only one that a constraint lets through:
//!
//! ```
//! use needle_data::tokenizer::{TOOL_CALL_ID, TokenizerConfig};
//! use needle_data::{Tokenizer, Tool};
//! use needle_runtime::constrain::copying::Values;
//! use needle_runtime::constrain::{Asked, Constrainer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = TokenizerConfig { vocab_size: 320, ..TokenizerConfig::default() };
//! let tokenizer = Tokenizer::train(&config, [r#"[{"name":"set_timer"}]"#; 3].iter())?;
//! let tools = Tool::list_from_json(&serde_json::json!([
//!     {"name": "set_timer", "parameters": {"minutes": {"type": "integer", "required": true}}},
//! ]))?;
//!
//! let query = "ten minute timer";
//! let asked = Asked { query, tools: &tools, values: &Values::Free, min_calls: 0, max_calls: 8, max_tokens: 100 };
//! let mut constraint = Constrainer::new(&tokenizer)?.compile(&asked)?;
//! assert!(constraint.can_call());
//! let mut logits = vec![0.0; tokenizer.vocab_size()];
//! constraint.mask(&mut logits);
//! let allowed: Vec<usize> = (0..logits.len()).filter(|id| logits[*id].is_finite()).collect();
//! assert_eq!(allowed, [TOOL_CALL_ID as usize]);
//! # Ok(())
//! # }
//! ```
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | [`error`] | why a question cannot be answered |
//! | [`config`](mod@config) | sizes, presets, number of parameters |
//! | [`precision`](mod@precision) | what weights are stored as |
//! | [`generate`] | what decoding gives, and the hook that constraints and streaming go into |
//! | [`constrain`] | decoding that can only write what the offered tools allow |
//! | `unconstrained` | what stands in its place without the feature `constrain` |
//! | [`network`] | whatever computes answers |
//! | [`mod@file`] | the files that hold a model |
//! | `pool` | a few threads |
//! | `pack`, `activations`, `key_value` | the operands of the kernels: weights, rows, what is attended to |
//! | `kernels` | what is computed, for each instruction set |
//! | `rope` | angles of positions |
//! | `weights` | a model in the layout of the kernels |
//! | `workspace` | buffers, and the steps that encoder and decoder share |
//! | `encode`, `decode` | a prompt read; next tokens of some sequences in one pass |
//! | [`engine`] | a model that computes answers on a CPU |
//! | [`confidence`] | how likely an answer is to be exact |
//! | [`retrieval`] | tools by likeness to a query |
//! | [`answer`] | a model to ask: load, call, stream, many at once |
//!
//! # Shapes
//!
//! `rows` positions; `row` the width of the residual stream in whole groups of 32; `heads` query
//! heads, `kv_heads` key/value heads of `head_dim`, in whole lanes `head_width`; `panels` of 16
//! outputs, `groups` of 32 inputs; `vocab` ids.

#![cfg_attr(not(feature = "constrain"), allow(unused_variables, reason = "of constraints that cannot be"))]

mod activations;
pub mod answer;
pub mod confidence;
pub mod config;
#[cfg_attr(not(feature = "constrain"), path = "unconstrained.rs")]
pub mod constrain;
mod decode;
mod encode;
pub mod engine;
pub mod error;
pub mod file;
pub mod generate;
mod kernels;
mod key_value;
pub mod network;
mod pack;
mod pool;
pub mod precision;
pub mod retrieval;
mod rope;
mod weights;
mod workspace;

pub use answer::config::AnswerConfig;
pub use answer::needle::{Needle, Piece};
pub use answer::predict::Prediction;
pub use answer::question::{AsQuestion, Question, tools_from_json};
pub use answer::{Answer, Utf8Pieces};
pub use confidence::Confidence;
pub use config::SanConfig;
pub use engine::{Engine, Options};
pub use error::RuntimeError;
pub use kernels::InstructionSet;
pub use needle_data::{Call, Tool};
pub use network::Network;
pub use precision::Precision;
pub use retrieval::catalogue::Catalogue;

/// The README's Rust, compiled as it is printed.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
