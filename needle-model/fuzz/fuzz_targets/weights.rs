//! Whatever a safetensors file holds, it is the weights of the model or an error.

#![no_main]

use std::path::Path;

use burn_flex::Flex;
use libfuzzer_sys::fuzz_target;
use needle_model::SanConfig;
use needle_model::checkpoint::weights_from_bytes;

fuzz_target!(|input: &[u8]| {
    let config = SanConfig {
        vocab_size: 8,
        d_model: 8,
        num_heads: 2,
        num_kv_heads: 1,
        num_encoder_layers: 1,
        num_decoder_layers: 1,
        contrastive_dim: None,
        max_enc_len: 8,
        max_dec_len: 8,
        ..SanConfig::preset("tiny").expect("a preset")
    };
    let _ = weights_from_bytes::<Flex>(&config, input, Path::new("model.safetensors"), &Default::default());
});
