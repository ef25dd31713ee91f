//! Writes a model with random weights, as an artifact or as a training checkpoint, for scripts that
//! need any model.
//!
//! ```text
//! cargo run -p engine-scripts --bin write_model -- DIR [--preset tiny] [--format artifact|checkpoint] [--seed 0]
//! ```

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for scripts, not a library")]

#[path = "../../../../needle-runtime/tests/models/mod.rs"]
mod models;

use std::path::PathBuf;

use models::{Model, tokenizer};
use needle_runtime::config::SanConfig;

fn main() {
    let (mut dir, mut preset, mut format, mut seed) = (None, "tiny".to_owned(), "artifact".to_owned(), 0);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--preset" => preset = arguments.next().unwrap(),
            "--format" => format = arguments.next().unwrap(),
            "--seed" => seed = arguments.next().unwrap().parse().unwrap(),
            _ => dir = Some(PathBuf::from(argument)),
        }
    }
    let dir = dir.unwrap_or_else(|| panic!("expected a directory"));
    let config = SanConfig::preset(&preset).unwrap();
    let ids = config.vocab_size;
    let model = Model::new(config, tokenizer(ids), seed);
    match format.as_str() {
        "artifact" => model.write_artifact(&dir),
        "checkpoint" => model.write_checkpoint(&dir),
        other => panic!("--format {other}: expected artifact or checkpoint"),
    }
    println!("{}: {format} of {preset}, {} ids", dir.display(), model.config.vocab_size);
}
