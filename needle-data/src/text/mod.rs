//! Parsed rows: tools, calls, examples, and the JSON that they are written in.

pub(crate) mod composed;
pub mod example;
pub mod json;
pub mod json_schema;
pub mod names;
pub mod number_words;
pub mod record;
pub mod said_numbers;
pub mod said_times;
pub(crate) mod schema;
pub mod span_json;
pub mod token_class;
pub mod tool;
