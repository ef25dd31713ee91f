//! Prepares an answer's text for streaming: removes the leading space and puts back the user's tool
//! names.
//!
//! The model writes `[{"name":"set_timer","arguments":{..}}]` with its own, normalized tool names.
//! The value of a call's `name` is held back until it is complete, and then passed on as the user's
//! name. Everything else is passed on at once.

use needle_data::text::names::NameMap;
use serde_json::Value;

/// Nesting depth of a call's own keys: inside the list and the call.
const IN_CALL: usize = 2;

/// State of the scanner of an answer's text.
pub struct AnswerStream {
    names: NameMap,
    has_begun: bool,
    depth: usize,
    /// The string that is being written, from its opening quote on.
    string: Option<Vec<u8>>,
    is_escaped: bool,
    /// Whether this string is the name of a called tool.
    is_name: bool,
    /// The previous string.
    last: Vec<u8>,
    is_after_colon: bool,
}

impl AnswerStream {
    /// A stream of an answer that calls tools with these names.
    pub fn new(names: NameMap) -> Self {
        let (string, last) = (None, Vec::new());
        Self {
            names,
            has_begun: false,
            depth: 0,
            string,
            is_escaped: false,
            is_name: false,
            last,
            is_after_colon: false,
        }
    }

    /// Appends `bytes` to the text and returns what can be shown now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if !std::mem::replace(&mut self.has_begun, true) && byte == b' ' {
                continue;
            }
            match self.string {
                Some(_) => self.inside_string(byte, &mut shown),
                None => self.between_strings(byte, &mut shown),
            }
        }
        shown
    }

    /// What was held back if the answer ended inside a name.
    pub fn finish(&mut self) -> Vec<u8> {
        let held_back = self.string.take();
        held_back.filter(|_| self.is_name).unwrap_or_default()
    }

    fn between_strings(&mut self, byte: u8, shown: &mut Vec<u8>) {
        match byte {
            b'"' => {
                self.is_name = self.depth == IN_CALL && self.is_after_colon && self.last == b"\"name\"";
                self.string = Some(vec![byte]);
            }
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.is_after_colon = byte == b':';
        if !self.is_name {
            shown.push(byte);
        }
    }

    fn inside_string(&mut self, byte: u8, shown: &mut Vec<u8>) {
        if !self.is_name {
            shown.push(byte);
        }
        let is_end = byte == b'"' && !self.is_escaped;
        self.is_escaped = byte == b'\\' && !self.is_escaped;
        if let Some(string) = &mut self.string {
            string.push(byte);
        }
        if is_end {
            self.last = self.string.take().unwrap_or_default();
            if std::mem::take(&mut self.is_name) {
                shown.extend(self.outer());
            }
        }
    }

    /// The user's name for the tool of the last string; a string that is not valid JSON stays as it
    /// is.
    fn outer(&self) -> Vec<u8> {
        let inner: Option<String> = serde_json::from_slice(&self.last).ok();
        inner.map_or_else(
            || self.last.clone(),
            |inner| Value::from(self.names.to_outer(&inner)).to_string().into_bytes(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of `text` if it arrives in pieces of `size` bytes.
    fn shown(text: &str, size: usize) -> String {
        let mut stream = AnswerStream::new(NameMap::new(["setTimer", "stop \"now\""]));
        let mut shown: Vec<u8> = text.as_bytes().chunks(size).flat_map(|bytes| stream.push(bytes)).collect();
        shown.extend(stream.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_streamed_answer_has_no_leading_space_and_calls_tools_by_the_users_names() {
        for (text, expected) in [
            (" []", "[]"),
            (
                r#" [{"name":"set_timer","arguments":{"name":"set_timer","label":"\"name\":\"stop_now\" é"}},{"name":"stop_now","arguments":{}}]"#,
                r#"[{"name":"setTimer","arguments":{"name":"set_timer","label":"\"name\":\"stop_now\" é"}},{"name":"stop \"now\"","arguments":{}}]"#,
            ),
            // Text that is not a list of calls, or that breaks off, is shown as it is.
            (" \"name\":\"set_timer\" ]", "\"name\":\"set_timer\" ]"),
            (" [{\"name\":\"set_t", "[{\"name\":\"set_t"),
            (" [{\"name\":\"other\"", "[{\"name\":\"other\""),
            ("  two spaces", " two spaces"),
            ("", ""),
        ] {
            for size in [1, 2, 7, 1000] {
                assert_eq!(shown(text, size), expected, "{size}");
            }
        }
    }
}
