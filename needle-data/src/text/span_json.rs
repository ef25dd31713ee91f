//! The answers as compact JSON, with the class of every byte.
//!
//! The loss weighs a wrong value more than a wrong brace. The original finds names, keys and values
//! by searching the text for the first match of each string, which misses a second call of the same
//! tool and hits equal strings elsewhere; here the writer itself assigns the classes, so they are
//! right for every call, repeated or nested.

use serde_json::Value;

use crate::text::example::Call;
use crate::text::token_class::TokenClass;

/// Compact JSON text with one class per byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpanJson {
    /// The text, as `serde_json` would write it without spaces.
    pub text: String,
    /// Class of each byte of `text`.
    pub classes: Vec<TokenClass>,
}

impl SpanJson {
    /// Writes `calls`; names are given by `inner_name` (the snake_case form).
    ///
    /// The quotes of names, keys and string values are structure; every other byte of a value,
    /// nested or not, is value.
    pub fn of_calls<'a>(calls: &'a [Call], inner_name: impl Fn(&'a str) -> &'a str) -> Self {
        let mut out = Self::default();
        if calls.is_empty() {
            // Calling no tool is a choice among the tools, so it weighs as much as a name.
            out.push("[]", TokenClass::Name);
            return out;
        }
        out.push("[", TokenClass::Structure);
        for (i, call) in calls.iter().enumerate() {
            out.push(if i == 0 { "{\"name\":" } else { ",{\"name\":" }, TokenClass::Structure);
            out.push_json(&Value::from(inner_name(&call.name)), TokenClass::Name);
            out.push(",\"arguments\":{", TokenClass::Structure);
            for (j, (key, value)) in call.arguments.iter().enumerate() {
                if j > 0 {
                    out.push(",", TokenClass::Structure);
                }
                out.push_json(&Value::from(key.as_str()), TokenClass::Key);
                out.push(":", TokenClass::Structure);
                out.push_json(value, TokenClass::Value);
            }
            out.push("}}", TokenClass::Structure);
        }
        out.push("]", TokenClass::Structure);
        out
    }

    fn push(&mut self, text: &str, class: TokenClass) {
        self.text.push_str(text);
        self.classes.resize(self.text.len(), class);
    }

    fn push_json(&mut self, value: &Value, class: TokenClass) {
        let json = value.to_string();
        match value {
            Value::String(_) => {
                self.push("\"", TokenClass::Structure);
                self.push(&json[1..json.len() - 1], class);
                self.push("\"", TokenClass::Structure);
            }
            _ => self.push(&json, class),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn marked(calls: &Value, class: TokenClass) -> Vec<String> {
        let calls = crate::text::example::parse_answers(Some(calls)).unwrap();
        let json = SpanJson::of_calls(&calls, |name| name);
        assert_eq!(json.text, serde_json::to_string(&calls).unwrap(), "the text is plain compact JSON");
        let mut runs = vec![String::new()];
        for (byte, c) in json.text.bytes().zip(&json.classes) {
            match (*c == class, runs.last_mut()) {
                (true, Some(run)) => run.push(byte as char),
                (false, Some(run)) if !run.is_empty() => runs.push(String::new()),
                _ => {}
            }
        }
        runs.retain(|run| !run.is_empty());
        runs
    }

    #[test]
    fn every_call_gets_its_classes_even_the_second_of_the_same_tool() {
        let calls = json!([
            {"name": "light", "arguments": {"name": "name", "on": true}},
            {"name": "light", "arguments": {"name": "a\"b", "levels": [1, {"x": "y"}]}},
        ]);
        assert_eq!(marked(&calls, TokenClass::Name), ["light", "light"]);
        assert_eq!(marked(&calls, TokenClass::Key), ["name", "on", "name", "levels"]);
        assert_eq!(marked(&calls, TokenClass::Value), ["name", "true", "a\\\"b", "[1,{\"x\":\"y\"}]"]);
    }

    #[test]
    fn no_call_is_an_empty_list() {
        let json = SpanJson::of_calls(&[], |n| n);
        assert_eq!((json.text.as_str(), json.classes), ("[]", vec![TokenClass::Name; 2]));
    }
}
