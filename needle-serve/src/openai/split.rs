//! Splits an answer's JSON, while it is decoded, into calls: a name, then the text of its arguments
//! in pieces.
//!
//! `[{"name":"set_timer","arguments":{"minutes":5}}]` becomes the name, and `{"minutes":5}` byte by
//! byte as the model writes it. Streamed and unstreamed answers go through the same code, so that
//! their arguments are the same text.

use serde_json::Value;

/// A part of a call in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallEvent {
    /// A call begins.
    Begin {
        /// The tool's name.
        name: String,
    },
    /// More text of the current call's arguments.
    Arguments(String),
    /// The current call is complete.
    End,
}

/// The splitter's position in an answer's text.
#[derive(Debug, Default)]
pub struct CallSplitter {
    depth: usize,
    /// The string that is being read, including its opening quote.
    string: Option<Vec<u8>>,
    is_escaped: bool,
    /// The key of the call whose value is being read.
    key: Key,
    /// The last string that was read.
    last: Vec<u8>,
    /// Whether the position is inside a call's arguments.
    is_in_arguments: bool,
    /// Whether the call's name is known.
    has_begun: bool,
    /// Bytes of arguments that cannot be passed on yet, because the call has no name so far or a
    /// character is incomplete.
    held_back: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Key {
    #[default]
    None,
    Name,
    Arguments,
    Other,
}

/// Nesting depth of a call's own keys: inside the list and the call.
const IN_CALL: usize = 2;

impl CallSplitter {
    /// Reads the next `bytes` of the answer, and returns the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<CallEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            if self.is_in_arguments {
                self.held_back.push(byte);
            }
            match self.string {
                Some(_) => self.inside_string(byte, &mut events),
                None => self.between_strings(byte, &mut events),
            }
        }
        self.pass_on(&mut events);
        events
    }

    fn between_strings(&mut self, byte: u8, events: &mut Vec<CallEvent>) {
        match byte {
            b'"' => self.string = Some(vec![byte]),
            b'[' | b'{' => {
                if byte == b'{' && self.depth == IN_CALL && self.key == Key::Arguments {
                    self.is_in_arguments = true;
                    self.held_back.push(byte);
                }
                self.depth += 1;
            }
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == IN_CALL && self.is_in_arguments {
                    self.pass_on(events);
                    self.is_in_arguments = false;
                }
                if self.depth == IN_CALL - 1 && byte == b'}' {
                    self.pass_on(events);
                    events.extend(std::mem::take(&mut self.has_begun).then_some(CallEvent::End));
                    self.held_back.clear();
                    self.key = Key::None;
                }
            }
            b':' if self.depth == IN_CALL => {
                self.key = match self.last.as_slice() {
                    b"\"name\"" => Key::Name,
                    b"\"arguments\"" => Key::Arguments,
                    _ => Key::Other,
                }
            }
            b',' if self.depth == IN_CALL => self.key = Key::None,
            _ => {}
        }
    }

    fn inside_string(&mut self, byte: u8, events: &mut Vec<CallEvent>) {
        let is_end = byte == b'"' && !self.is_escaped;
        self.is_escaped = byte == b'\\' && !self.is_escaped;
        if let Some(string) = &mut self.string {
            string.push(byte);
        }
        if !is_end {
            return;
        }
        self.last = self.string.take().unwrap_or_default();
        if self.depth == IN_CALL
            && self.key == Key::Name
            && !self.has_begun
            && let Ok(Value::String(name)) = serde_json::from_slice(&self.last)
        {
            self.has_begun = true;
            events.push(CallEvent::Begin { name });
        }
    }

    /// Passes on the whole characters of arguments, once the call has a name.
    fn pass_on(&mut self, events: &mut Vec<CallEvent>) {
        if !self.has_begun || self.held_back.is_empty() {
            return;
        }
        let whole = match std::str::from_utf8(&self.held_back) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            // Invalid UTF-8 is never JSON, but it must give the same text as an unstreamed answer.
            Err(_) => self.held_back.len(),
        };
        let bytes: Vec<u8> = self.held_back.drain(..whole).collect();
        if !bytes.is_empty() {
            events.push(CallEvent::Arguments(String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, json};

    /// Name, arguments and completeness of each call of `text`, which is read in pieces that end at
    /// `cuts`.
    fn calls(text: &str, cuts: &[usize]) -> Vec<(String, String, bool)> {
        let mut splitter = CallSplitter::default();
        let mut calls: Vec<(String, String, bool)> = Vec::new();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        for piece in cuts.windows(2) {
            for event in splitter.push(&text.as_bytes()[piece[0]..piece[1]]) {
                match event {
                    CallEvent::Begin { name } => calls.push((name, String::new(), false)),
                    CallEvent::Arguments(text) => calls.last_mut().unwrap().1.push_str(&text),
                    CallEvent::End => calls.last_mut().unwrap().2 = true,
                }
            }
        }
        calls
    }

    fn call(name: &str, arguments: &str) -> (String, String, bool) {
        (name.to_owned(), arguments.to_owned(), true)
    }

    #[test]
    fn calls_come_out_with_their_arguments_as_they_were_written() {
        for (text, expected) in [
            ("[]", vec![]),
            (r#"[{"name":"a","arguments":{}}]"#, vec![call("a", "{}")]),
            (
                r#"[{"name":"a","arguments":{"name":"x","l":[{"arguments":{}}],"s":"}\"é"}},{"name":"b\"","arguments":{"n":1.50}}]"#,
                vec![call("a", r#"{"name":"x","l":[{"arguments":{}}],"s":"}\"é"}"#), call("b\"", r#"{"n":1.50}"#)],
            ),
            // Keys in the other order, spaces, and unknown keys.
            (r#" [ {"arguments": {"a": 1}, "id": 7, "name": "x"} ]"#, vec![call("x", r#"{"a": 1}"#)]),
            (r#"[{"arguments":{"a":1}}]"#, vec![]),
            (r#"[{"name":"a","arguments":{"b":"#, vec![("a".into(), r#"{"b":"#.into(), false)]),
            (r#"{"name":"a"}"#, vec![]),
            ("name", vec![]),
        ] {
            assert_eq!(calls(text, &(0..text.len()).collect::<Vec<_>>()), expected, "{text}");
            assert_eq!(calls(text, &[]), expected, "{text}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let members = prop::collection::vec((".{0,4}", inner.clone()), 0..3);
            prop_oneof![
                prop::collection::vec(inner, 0..3).prop_map(Value::from),
                members.prop_map(|all| Value::Object(all.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn however_an_answer_is_cut_its_calls_are_the_same(
            written in prop::collection::vec((".{1,8}", prop::collection::vec((".{0,6}", value()), 0..4)), 0..4),
            cuts in prop::collection::vec(any::<usize>(), 0..30),
        ) {
            let written: Vec<(String, Map<String, Value>)> =
                written.into_iter().map(|(name, members)| (name, members.into_iter().collect())).collect();
            let text = Value::from(
                written.iter().map(|(name, arguments)| json!({"name": name, "arguments": arguments})).collect::<Vec<_>>(),
            ).to_string();
            let expected: Vec<_> =
                written.iter().map(|(name, arguments)| call(name, &Value::from(arguments.clone()).to_string())).collect();
            prop_assert_eq!(calls(&text, &cuts), expected);
        }

        #[test]
        fn any_bytes_go_in(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            CallSplitter::default().push(&bytes);
        }
    }
}
