//! Whatever an artifact holds, it is a model with its tokenizer or an error. The input is the
//! weights, a line, and the vocabulary.

#![no_main]

use std::path::Path;

use burn_flex::Flex;
use libfuzzer_sys::fuzz_target;
use needle_model::import::needle_rs::from_bytes;

fuzz_target!(|input: &[u8]| {
    let cut = input.windows(5).position(|w| w == b"\n---\n").unwrap_or(input.len());
    let vocab = String::from_utf8_lossy(input.get(cut + 5..).unwrap_or_default());
    let _ = from_bytes::<Flex>(&input[..cut], &vocab, Path::new("artifact"), &Default::default());
});
