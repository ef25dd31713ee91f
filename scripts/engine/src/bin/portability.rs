//! Prints a hash of all bits that the engine computes, for each model and mode, and compares the
//! machine's instruction sets. Exits with 1 if one of them differs from plain Rust.
//!
//! `--smallest` uses only the smallest model, with two threads, which Miri runs in some minutes:
//!
//! ```text
//! cargo +nightly miri run -p engine-scripts --no-default-features --bin portability -- --smallest
//! ```

#![allow(clippy::unwrap_used, reason = "a program for scripts, not a library")]

#[path = "../../../../needle-runtime/tests/models/mod.rs"]
mod models;

use models::{Model, small_tokenizer, smallest};
use needle_runtime::InstructionSet;
use needle_runtime::config::SanConfig;
use needle_runtime::engine::{Engine, Options};
use needle_runtime::generate::NoHook;

/// One step of the 64-bit FNV-1a hash.
fn hash(hash: u64, bits: u32) -> u64 {
    bits.to_le_bytes().iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3))
}

fn bits(engine: &Engine, lens: &[u32]) -> u64 {
    let vocab = engine.config().vocab_size as u32;
    let prompt = |len: u32| (0..len).map(|i| 1 + (i * i * 31 + i * 17 + len) % (vocab - 1)).collect::<Vec<_>>();
    let prompts: Vec<Vec<u32>> = lens.iter().copied().map(prompt).collect();
    let mut bits: Vec<u32> = Vec::new();
    for prompt in &prompts {
        let tokens: Vec<u32> = [1].into_iter().chain(prompt.iter().copied().take(20)).collect();
        bits.extend(engine.logits(prompt, &tokens).unwrap().iter().map(|x| x.to_bits()));
    }
    for answer in engine.generate(&prompts, 16, &mut NoHook).unwrap() {
        bits.extend(&answer.ids);
        bits.extend(answer.certainties.iter().flat_map(|sure| [sure.log_prob.to_bits(), sure.margin.to_bits()]));
    }
    bits.extend(engine.embed(&prompts).unwrap().unwrap().concat().iter().map(|x| x.to_bits()));
    bits.into_iter().fold(0xCBF2_9CE4_8422_2325, hash)
}

fn main() {
    let tiny = SanConfig::preset("tiny").unwrap();
    // Heads of 20 and a width of 80 are not multiples of lanes and groups.
    let uneven = SanConfig { d_model: 80, num_heads: 4, num_kv_heads: 2, ..tiny.clone() };
    // Extreme weights, with which 16-bit sums would saturate.
    let extreme = |value: f32| if value.abs() < 0.2 { value } else { value.signum() };
    let is_smallest = std::env::args().any(|argument| argument == "--smallest");
    let (threads, lens) = if is_smallest { (2, &[2, 5][..]) } else { (1, &[1, 2, 5, 16, 33, 100][..]) };
    let all = || {
        vec![
            ("tiny", Model::new(tiny.clone(), small_tokenizer(), 1)),
            ("uneven", Model::new(uneven, small_tokenizer(), 2)),
            ("extreme", Model::with(tiny, small_tokenizer(), 3, extreme)),
        ]
    };
    let models = if is_smallest { vec![("smallest", Model::new(smallest(), small_tokenizer(), 4))] } else { all() };
    let mut all_equal = true;
    for (name, model) in models {
        let (weights, vocab) = model.artifact();
        for exact in [false, true] {
            let hashes = InstructionSet::available().into_iter().map(|set| {
                let options = Options { threads, exact, instructions: Some(set) };
                (set, bits(&Engine::from_bytes(weights.clone(), Some(&vocab), &options).unwrap(), lens))
            });
            let hashes: Vec<(InstructionSet, u64)> = hashes.collect();
            for (set, hash) in &hashes {
                all_equal &= *hash == hashes[0].1;
                // On stderr, because other systems have other instruction sets; stdout must be
                // equal.
                eprintln!("{name}, {}: {hash:016x} {set:?}", if exact { "exact" } else { "fast" });
            }
            println!("{name}, {}: {:016x}", if exact { "exact" } else { "fast" }, hashes[0].1);
        }
    }
    std::process::exit(i32::from(!all_equal));
}
