//! Text in, token batches out. No tensors, no burn.
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | [`error`] | what can be wrong with input, and where |
//! | [`mod@file`] | files unpacked as they are read, and written whole or not at all |
//! | [`json`] | JSON read strictly |
//! | [`schema`] | what a declaration of an argument asks of its value |
//! | [`tool`] | tool definitions: native, JSON Schema, OpenAI and MCP forms |
//! | [`names`] | snake_case tool names inside the model, the user's names outside |
//! | [`example`] | one `(query, tools, answers)` line, validated |
//! | [`record`] | what a row can be: an example, a question about a text, text |
//! | [`span_json`] | compact JSON of the answers together with the class of each byte |
//! | [`tokenizer`] | byte-pair encoding with SentencePiece semantics; the only copy of the special ids |
//! | [`augment`] | seeded shuffling of tools, parameters and keys |
//! | [`pack`] | several examples in one row |
//! | [`encode`] | example or text -> token ids and token classes |
//! | [`packed`] | shards of tokenized, packed rows, memory-mapped |
//! | [`source`] | rows of JSONL, parquet and packed shards, with their place |
//! | [`stream`] | the order in which rows are met, divided into lanes, resumable |
//! | [`batch`] | rows of ids as plain arrays |
//! | [`loader`] | rows to batches: parse and encode in parallel, pack, lay out |
//! | [`prefetch`] | the next batches, made ready on another thread |
//! | [`split`] | per-tool train, validation and test parts |
//! | [`patterns`] | how many different sentences a dataset has |
//! | [`advice`] | what to know of a dataset before training on it |
//! | [`stats`] | what is in a file |
//! | [`convert`] | other people's datasets as ours |
//! | [`synth`] | the built-in generator of tool-call examples |
//!
//! Shapes are written in one vocabulary: `rows` (batch), `enc_len` and `dec_len` (padded token counts).

pub mod advice;
pub mod augment;
pub mod batch;
pub mod convert;
pub mod encode;
pub mod error;
pub mod example;
pub mod file;
pub mod json;
pub mod loader;
pub mod names;
pub mod pack;
pub mod packed;
pub mod patterns;
pub mod prefetch;
pub mod record;
pub mod schema;
pub mod source;
pub mod span_json;
pub mod split;
pub mod stats;
pub mod stream;
pub mod synth;
pub mod tokenizer;
pub mod tool;

pub use batch::{Batch, RetrievalBatch};
pub use encode::{EncodeConfig, EncodedExample, Encoder, TokenClass};
pub use error::{DataError, Place, Problem};
pub use example::{Call, Example};
pub use tokenizer::Tokenizer;
pub use tool::Tool;
