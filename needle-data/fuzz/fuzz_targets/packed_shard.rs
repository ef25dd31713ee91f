//! Whatever a file holds, it is refused or gives rows of valid ids.

#![no_main]

use libfuzzer_sys::fuzz_target;
use needle_data::packed::PackedShard;

fuzz_target!(|bytes: &[u8]| {
    let Ok(shard) = PackedShard::from_bytes(bytes.to_vec()) else { return };
    let _ = shard.verify();
    for row in 0..shard.num_rows() {
        let Ok(row) = shard.row(row) else { continue };
        for example in row.examples {
            assert!(example.enc_ids.iter().chain(&example.dec_target).all(|&id| (id as usize) < shard.header().vocab_size));
        }
    }
});
