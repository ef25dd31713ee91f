//! Writes a model of random weights, as an artifact or as a training checkpoint, for scripts that need some model.
//!
//! ```text
//! cargo run -p needle-runtime --example write_model -- DIR [--preset tiny] [--format artifact|checkpoint] [--seed 0]
//! ```

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for scripts, not a library")]

#[path = "../tests/models/mod.rs"]
mod models;

use std::path::PathBuf;

use models::{Model, small_tokenizer};
use needle_data::synth::{Generator, SynthConfig};
use needle_data::tokenizer::TokenizerConfig;
use needle_data::{Encoder, Tokenizer};
use needle_runtime::config::SanConfig;

/// Generated examples that a large vocabulary is trained on.
const EXAMPLES: usize = 20_000;

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
    let dir = dir.unwrap_or_else(|| panic!("which directory?"));
    let config = SanConfig::preset(&preset).unwrap();
    let tokenizer = if config.vocab_size <= 512 { small_tokenizer() } else { large_tokenizer(config.vocab_size) };
    let model = Model::new(config, tokenizer, seed);
    match format.as_str() {
        "artifact" => model.write_artifact(&dir),
        "checkpoint" => model.write_checkpoint(&dir),
        other => panic!("--format {other}: expected artifact or checkpoint"),
    }
    println!("{}: {format} of {preset}, {} ids", dir.display(), model.config.vocab_size);
}

/// A tokenizer of `vocab_size` ids, or of as many as there are pieces in generated examples.
fn large_tokenizer(vocab_size: usize) -> Tokenizer {
    let texts: Vec<String> =
        Generator::new(SynthConfig::default()).unwrap().take(EXAMPLES).flat_map(|e| Encoder::texts(&e)).collect();
    let config = TokenizerConfig { vocab_size, isolate_spaces: true, join_structure: false };
    Tokenizer::train(&config, texts.iter()).unwrap()
}
