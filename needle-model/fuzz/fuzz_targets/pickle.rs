//! Whatever a pickle holds, it is dictionaries of numbers or an error, and nothing is run.

#![no_main]

use libfuzzer_sys::fuzz_target;
use needle_model::import::pickle::leaves;

fuzz_target!(|input: &[u8]| {
    if let Ok(leaves) = leaves(input) {
        let values: usize = leaves.arrays.values().map(|array| array.values.len()).sum();
        // Two bytes of the file for each value at least.
        assert!(2 * values <= input.len());
    }
});
