//! Whatever a line holds, it is a valid row or a problem; a valid example survives its own JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use needle_data::text::record::Record;

fuzz_target!(|line: &[u8]| {
    if let Ok(Record::ToolCall(example)) = Record::from_line(line) {
        let again = Record::from_line(example.to_json().to_string().as_bytes());
        assert_eq!(again, Ok(Record::ToolCall(example)));
    }
});
