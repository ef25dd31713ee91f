//! Asks arbitrary questions. Each must give an error, or an answer that is a list of calls.
//!
//! The input is a query and tools, separated by a line break.

#![no_main]

#[path = "../../tests/models/mod.rs"]
mod models;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use models::{Model, smallest};
use needle_runtime::{AnswerConfig, Needle, Options, tools_from_json};

static NEEDLE: LazyLock<Needle> = LazyLock::new(|| {
    let (weights, vocab) = Model::new(smallest(), models::small_tokenizer(), 3).artifact();
    let needle = Needle::from_bytes(weights, &vocab, &Options { threads: 1, ..Options::default() }).unwrap();
    needle.with_config(AnswerConfig { max_calls: 2, max_tokens: Some(64), ..AnswerConfig::default() }).unwrap()
});

fuzz_target!(|input: &str| {
    let (query, tools) = input.split_once('\n').unwrap_or(("a query", input));
    if let Ok(tools) = tools_from_json(tools)
        && let Ok(answer) = NEEDLE.call(query, &tools)
    {
        assert!(answer.is_complete, "{}", answer.text);
    }
});
