//! Loads arbitrary bytes as an artifact, which must give an error, or a model that can be asked.
//! The input is the weights, a line `---`, and the vocabulary.

#![no_main]

use libfuzzer_sys::fuzz_target;
use needle_runtime::engine::{Engine, Options};
use needle_runtime::generate::NoHook;

fuzz_target!(|input: &[u8]| {
    let cut = input.windows(5).position(|w| w == b"\n---\n").unwrap_or(input.len());
    let vocab = input.get(cut + 5..).map(String::from_utf8_lossy);
    let options = Options { threads: 1, ..Options::default() };
    if let Ok(engine) = Engine::from_bytes(input[..cut].to_vec(), vocab.as_deref(), &options) {
        let last = engine.config().vocab_size as u32 - 1;
        let _ = engine.generate(&[vec![last, 1]], 4, &mut NoHook);
        let _ = engine.embed(&[vec![last]]);
    }
});
