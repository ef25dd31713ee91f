//! Whatever a model file holds, it is refused or becomes a tokenizer that encodes and writes
//! itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use needle_data::Tokenizer;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tokenizer) = Tokenizer::from_sentencepiece(bytes) {
        let ids = tokenizer.encode("set a timer for 10 minutes ▁ <tools> é");
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        assert!(Tokenizer::from_sentencepiece(&tokenizer.to_sentencepiece()).is_ok());
    }
});
