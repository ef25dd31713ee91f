//! An answer's text as it comes, made fit to show: without the space in front, and under the user's
//! tool names.
//!
//! The model writes `[{"name":"set_timer","arguments":{..}}]` with the names of inside the model.
//! The value of a call's `name` is held back until it is whole, and passed on as the user's name;
//! everything else is passed on at once.

use needle_data::text::names::NameMap;
use serde_json::Value;

/// Depth of a call's own keys: the list, then the call.
const IN_CALL: usize = 2;

/// Where in an answer's text the stream is.
pub struct AnswerStream {
    names: NameMap,
    has_begun: bool,
    depth: usize,
    /// The string that is being written, from its quote on.
    string: Option<Vec<u8>>,
    is_escaped: bool,
    /// Whether that string is the name of a called tool.
    is_name: bool,
    /// The string before it.
    last: Vec<u8>,
    is_after_colon: bool,
}

impl AnswerStream {
    /// Of an answer that calls tools with these names.
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

    /// What can be shown after the text has gone on with `bytes`.
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

    /// What was held back, of an answer that ended within a name.
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

    /// The user's name for the tool of the last string; what is no JSON stays as it is.
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

    /// What is shown of `text`, given in pieces of `size` bytes.
    fn shown(text: &str, size: usize) -> String {
        let mut stream = AnswerStream::new(NameMap::new(["setTimer", "stop \"now\""]));
        let mut shown: Vec<u8> = text.as_bytes().chunks(size).flat_map(|bytes| stream.push(bytes)).collect();
        shown.extend(stream.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_streamed_answer_has_no_space_in_front_and_calls_tools_by_the_names_of_the_user() {
        for (text, expected) in [
            (" []", "[]"),
            (
                r#" [{"name":"set_timer","arguments":{"name":"set_timer","label":"\"name\":\"stop_now\" é"}},{"name":"stop_now","arguments":{}}]"#,
                r#"[{"name":"setTimer","arguments":{"name":"set_timer","label":"\"name\":\"stop_now\" é"}},{"name":"stop \"now\"","arguments":{}}]"#,
            ),
            // What is no list of calls, or breaks off, is shown as it is.
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
