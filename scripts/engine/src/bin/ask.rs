//! Asks a model: an artifact or a training checkpoint.
//!
//! ```text
//! cargo run -p engine-scripts --bin ask -- MODEL QUERY TOOLS_JSON [--free MAX_TOKENS]
//! ```

#![allow(clippy::print_stdout, reason = "a program")]

use needle_runtime::{AnswerConfig, Needle, tools_from_json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, query, tools, free @ ..] = &arguments[..] else {
        return Err("ask MODEL QUERY TOOLS_JSON [--free MAX_TOKENS]".into());
    };
    let mut needle = Needle::load(model)?;
    if let [_, max_tokens] = free {
        let max_tokens = Some(max_tokens.parse()?);
        needle = needle.with_config(AnswerConfig { constrained: false, max_tokens, ..AnswerConfig::default() })?;
    }
    println!("{}", needle.call(query, &tools_from_json(tools)?)?.text);
    Ok(())
}
