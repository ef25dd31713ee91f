//! Corrupts the weights of a valid artifact. Loading them must give an error, or a model that
//! answers on every instruction set.
//!
//! The input is a list of changes of four bytes each: a position (three bytes) and the new byte
//! there. A position past the end truncates the file.

#![no_main]

#[path = "../../tests/models/mod.rs"]
mod models;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use models::{Model, smallest};
use needle_runtime::InstructionSet;
use needle_runtime::engine::{Engine, Options};
use needle_runtime::generate::NoHook;

static WHOLE: LazyLock<(Vec<u8>, String)> = LazyLock::new(|| Model::new(smallest(), models::small_tokenizer(), 1).artifact());

fuzz_target!(|changes: &[u8]| {
    let (mut weights, vocab) = WHOLE.clone();
    for change in changes.chunks_exact(4) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize;
        match weights.get_mut(at) {
            Some(byte) => *byte = change[3],
            None => weights.truncate(at % weights.len().max(1)),
        }
    }
    for set in InstructionSet::available() {
        let options = Options { threads: 1, exact: changes.len().is_multiple_of(2), instructions: Some(set) };
        if let Ok(engine) = Engine::from_bytes(weights.clone(), Some(&vocab), &options) {
            let prompts = [vec![9, 8, 7], (6..40).collect()];
            if engine.config().max_len() >= 34 && engine.config().vocab_size > 40 {
                engine.generate(&prompts, 4, &mut NoHook).unwrap();
                engine.embed(&prompts).unwrap();
            }
        }
    }
});
