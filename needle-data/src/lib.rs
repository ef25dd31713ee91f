//! Text in, token batches out. No tensors, no burn.
//!
//! Encodes one example of a finetuning set as token ids, with the class by which the loss weighs
//! each token:
//!
//! ```
//! use needle_data::tokenizer::TokenizerConfig;
//! use needle_data::{EncodeConfig, Encoder, Example, TokenClass, Tokenizer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let example = Example::parse(
//!     r#"{"query": "ten minute timer",
//!         "tools": [{"name": "set_timer", "description": "Start a countdown",
//!                    "parameters": {"minutes": {"type": "integer", "required": true}}}],
//!         "answers": [{"name": "set_timer", "arguments": {"minutes": 10}}]}"#,
//! )?;
//! let config = TokenizerConfig { vocab_size: 320, ..TokenizerConfig::default() };
//! let tokenizer = Tokenizer::train(&config, Encoder::texts(&example).iter())?;
//!
//! let limits = EncodeConfig { max_enc_tokens: 512, max_dec_tokens: 256, max_tool_tokens: 128 };
//! let encoded = Encoder::new(&tokenizer, limits)?.encode(&example, None)?;
//! let text = |class| {
//!     let tokens = encoded.dec_target.iter().zip(&encoded.dec_classes);
//!     let ids: Vec<u32> = tokens.filter(|(_, c)| **c == class).map(|(id, _)| *id).collect();
//!     tokenizer.decode(&ids)
//! };
//! assert_eq!(text(TokenClass::Name), "set_timer");
//! assert_eq!(text(TokenClass::Key), "minutes");
//! assert_eq!(text(TokenClass::Value), "10");
//! # Ok(())
//! # }
//! ```
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | [`error`] | what can be wrong with input, and where |
//! | [`mod@file`] | files decompressed while they are read, and written atomically |
//! | [`random`] | random streams: one function, one list of purposes |
//! | [`text::json`] | a strict JSON parser |
//! | `text::schema` | what an argument's declaration requires of its value |
//! | [`text::json_schema`] | JSON Schema: validation of a value, and resolution of `$ref` |
//! | `text::composed` | the arguments of a schema that is composed of other schemas |
//! | [`text::tool`] | tool definitions: native, JSON Schema, OpenAI and MCP forms |
//! | [`text::number_words`] | the English words that numbers are made of |
//! | [`text::said_numbers`] | the numbers that a text says |
//! | [`text::said_times`] | the times of day that a text says |
//! | [`text::names`] | snake_case tool names inside the model, the user's names outside |
//! | [`text::example`] | one `(query, tools, answers)` line, validated |
//! | [`text::record`] | kinds of rows: tool-call examples, questions about a text, plain text |
//! | [`text::token_class`] | what each token of an answer is part of |
//! | [`text::span_json`] | the answers as compact JSON, with the class of each byte |
//! | [`tokenizer`] | byte-pair encoding with SentencePiece semantics; the only copy of the special ids |
//! | [`tokenizer::word_vectors`] | what the pieces of a tokenizer mean |
//! | [`similarity`] | the order in which tools are offered |
//! | [`augment`] | seeded shuffling of tools, parameters and keys; replaced values |
//! | `augment::refuse` | negated, incomplete and impossible requests, which call no tool |
//! | [`augment::mask`] | renamed tools, distractor tools, joined requests |
//! | [`batching::pack`] | several examples in one row |
//! | [`encode`] | example or text -> token ids and token classes |
//! | [`packed`] | shards of tokenized, packed rows, memory-mapped |
//! | [`source`] | rows of JSONL, parquet and packed shards, with their place |
//! | [`order::stream`] | the order in which rows are read, divided into lanes, resumable |
//! | [`batching::batch`] | rows of ids as plain arrays |
//! | [`batching::copies`] | where in the prompt each copied token of an answer stands |
//! | [`batching::loader`] | rows to batches: parse and encode in parallel, pack, lay out |
//! | [`batching::prefetch`] | prepares the next batches on another thread |
//! | [`order::split`] | per-tool train, validation and test parts |
//! | `stats::patterns` | how many different sentences a dataset has |
//! | [`stats::advice`] | what to know about a dataset before training on it |
//! | [`stats`] | what is in a file |
//! | [`convert`] | published datasets converted to ours |
//! | [`synth`] | the built-in generator of tool-call examples |
//! | [`synth::invent`] | tools invented for each example, and requests for them |
//!
//! Shapes are written in one vocabulary: `rows` (batch), `enc_len` and `dec_len` (padded token
//! counts).

pub mod augment;
pub mod batching;
#[cfg(feature = "training")]
pub mod convert;
pub mod encode;
pub mod error;
pub mod file;
pub mod order;
#[cfg(feature = "training")]
pub mod packed;
pub mod random;
pub mod similarity;
#[cfg(feature = "training")]
pub mod source;
#[cfg(feature = "training")]
pub mod stats;
#[cfg(feature = "training")]
pub mod synth;
pub mod text;
pub mod tokenizer;

#[cfg(feature = "training")]
pub use batching::batch::{Batch, RetrievalBatch};
pub use encode::{EncodeConfig, EncodedExample, Encoder};
pub use error::{DataError, Place, Problem};
pub use text::example::{Call, Example};
pub use text::token_class::TokenClass;
pub use text::tool::Tool;
pub use tokenizer::Tokenizer;
