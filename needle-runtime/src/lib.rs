//! The inference engine: turns a query and tools into tool calls. It depends neither on burn nor on
//! the training code.
//!
//! Decoding is constrained to what the offered tools allow. In this example, a constraint allows
//! only one first token, the one that begins every answer:
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
//! | [`error`] | errors |
//! | [`config`](mod@config) | sizes, presets, number of parameters |
//! | [`precision`](mod@precision) | the formats of stored weights |
//! | [`generate`] | the result of decoding, and the hook for constraints and streaming |
//! | [`constrain`] | decoding that is constrained to what the offered tools allow |
//! | `unconstrained` | replaces `constrain` if the feature `constrain` is off |
//! | [`network`] | the interface of everything that computes answers |
//! | [`mod@file`] | the files of a model |
//! | `pool` | a thread pool |
//! | `pack`, `activations`, `key_value` | the operands of the kernels: weights, activations, keys and values |
//! | `kernels` | the computations, for each instruction set |
//! | `rope` | rotary position embedding |
//! | `weights` | a model in the layout of the kernels |
//! | `workspace` | buffers, and the steps that encoder and decoder share |
//! | `encode`, `decode` | encoding a prompt; decoding the next tokens of several sequences in one pass |
//! | [`engine`] | runs a model on a CPU |
//! | [`confidence`] | how likely an answer is to be exact |
//! | [`retrieval`] | ranking tools by similarity to a query |
//! | [`answer`] | the high-level interface: load, call, stream, batch |
//!
//! # Shapes
//!
//! `rows` is the number of positions, `row` the width of the residual stream, padded to groups
//! of 32. There are `heads` query heads and `kv_heads` key/value heads of dimension `head_dim`,
//! which is `head_width` when padded to a multiple of the lanes. Matrices have `panels` of 16
//! outputs and `groups` of 32 inputs. `vocab` is the number of token ids.

#![cfg_attr(
    not(feature = "constrain"),
    allow(unused_variables, reason = "parameters of constraints, which do not exist")
)]

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

/// Compiles the Rust examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// Compiles the Rust example of the page on embedding.
#[cfg(doctest)]
#[doc = include_str!("../../docs/EMBEDDING.md")]
pub struct Embedding;
