//! Checks whether a query states the values of its calls.
//!
//! A model that is trained on values out of nowhere learns to make them up. Text must occur in the
//! query, up to case, punctuation, inflection and typing errors; numbers as digits or English
//! words, in the parameter's unit or one that it is commonly converted from; times as clock times
//! or in words. Choices (`enum`) and booleans are conclusions, not copies, so they always pass. The
//! rules are generous and accept some wrong values: this stage finds inventions, the judge finds
//! mistakes.

use needle_data::text::tool::Parameter;
use needle_data::{Call, Tool};
use serde_json::Value;

use super::numbers::Numbers;
use super::words::words;

/// Function words, which carry no value.
const SMALL_WORDS: [&str; 38] = [
    "a", "am", "an", "and", "are", "at", "be", "by", "for", "from", "i", "im", "in", "is", "it", "its", "me", "my",
    "of", "on", "or", "our", "she", "that", "the", "their", "them", "they", "this", "to", "was", "we", "will", "with",
    "you", "your", "he", "her",
];
/// If a value has at least this many words, a share of [`STATED_SHARE`] of them must occur in the
/// query; if it has fewer, all of them.
const MANY_WORDS: usize = 4;
const STATED_SHARE: f64 = 0.75;

/// A query, prepared once for checking all values.
pub struct Stated {
    /// Words in order, with a space around each.
    joined: String,
    /// The words without spaces, for scripts that have none.
    dense: String,
    words: Vec<String>,
    numbers: Numbers,
}

impl Stated {
    /// Prepares `query`.
    pub fn new(query: &str) -> Self {
        let words = words(query);
        Self { joined: format!(" {} ", words.join(" ")), dense: words.concat(), numbers: Numbers::new(query), words }
    }

    /// The first argument of `calls` that is not stated: its path and its value.
    pub fn first_unstated(&self, tools: &[Tool], calls: &[Call]) -> Option<(String, String)> {
        for (i, call) in calls.iter().enumerate() {
            let tool = tools.iter().find(|tool| tool.name == call.name);
            for (name, value) in &call.arguments {
                let parameter = tool.and_then(|tool| tool.parameter(name));
                if !self.states(value, parameter) {
                    return Some((format!("answers[{i}].arguments.{name}"), value.to_string()));
                }
            }
        }
        None
    }

    /// Whether `value` is stated, or is a choice.
    pub fn states(&self, value: &Value, parameter: Option<&Parameter>) -> bool {
        if parameter.is_some_and(|p| p.spec.contains_key("enum")) {
            return true;
        }
        self.states_value(value)
    }

    fn states_value(&self, value: &Value) -> bool {
        match value {
            Value::Null | Value::Bool(_) => true,
            Value::Number(number) => number.as_f64().is_some_and(|number| self.numbers.state(number)),
            Value::String(text) => self.states_text(text),
            Value::Array(items) => items.iter().all(|item| self.states_value(item)),
            Value::Object(members) => members.values().all(|member| self.states_value(member)),
        }
    }

    fn states_text(&self, text: &str) -> bool {
        let value = words(text);
        if value.is_empty() {
            // An empty value is stated by any query; punctuation alone by none.
            return text.trim().is_empty();
        }
        if self.joined.contains(&format!(" {} ", value.join(" "))) {
            return true;
        }
        let has_no_spaces = |c: char| matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}');
        if text.chars().any(has_no_spaces) && self.dense.contains(&value.concat()) {
            return true;
        }
        if let Some(stated) = self.numbers.state_time(text) {
            return stated;
        }
        let weighty: Vec<&String> = value.iter().filter(|word| !SMALL_WORDS.contains(&word.as_str())).collect();
        let stated = weighty.iter().filter(|word| self.states_word(word)).count();
        match weighty.len() {
            0 => false,
            n if n >= MANY_WORDS => stated as f64 >= STATED_SHARE * n as f64,
            n => stated == n,
        }
    }

    fn states_word(&self, word: &str) -> bool {
        if let Ok(number) = word.parse::<f64>() {
            return self.words.iter().any(|said| said == word) || self.numbers.state(number);
        }
        let length = word.chars().count();
        let is_close = |said: &String| {
            let said_length = said.chars().count();
            let shared = word.chars().zip(said.chars()).take_while(|(a, b)| a == b).count();
            // Inflections share their beginning: light, lights; schedule, scheduling.
            let is_inflected = shared >= 4 && shared + 3 >= length.max(said_length);
            let allowed = match length {
                0..=3 => 0,
                4..=7 => 1,
                _ => 2,
            };
            is_inflected
                || (allowed > 0
                    && length.abs_diff(said_length) <= allowed
                    && strsim::osa_distance(word, said) <= allowed)
        };
        self.words.iter().any(|said| said == word || is_close(said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn states(query: &str, value: Value) -> bool {
        Stated::new(query).states(&value, None)
    }

    #[test]
    fn text_is_stated_up_to_case_punctuation_inflection_and_typing_errors() {
        for (query, value) in [
            ("Wetter in São Paulo?", "são paulo"),
            ("play bohemian rapsody", "Bohemian Rhapsody"),
            ("text mom that i'm running late", "I'm running late"),
            ("turn off the lamps in the kitchen", "kitchen lamp"),
            ("remind me to call the dentist about the bill", "call the dentist about the bill"),
            ("东京的天气怎么样", "东京"),
            ("tell her we are going to be late for the concert tonight", "We'll be late for tonight's concert"),
            ("mail bo@example.com", "bo@example.com"),
            ("the room 4b projector", "4B"),
        ] {
            assert!(states(query, json!(value)), "{query}: {value}");
        }
    }

    #[test]
    fn inventions_are_found() {
        for (query, value) in [
            ("what is the weather", json!("Paris")),
            ("start the robot", json!("art")),
            ("call mom", json!("555-0100")),
            ("book a table", json!("the")),
            ("wake me early", json!("06:30")),
            ("five minutes", json!(12)),
            ("东京", json!("大阪")),
            ("play jazz", json!(["jazz", "rock"])),
            ("dim the light", json!({"level": 40})),
            ("a note", json!("?!")),
        ] {
            assert!(!states(query, value.clone()), "{query}: {value}");
        }
    }

    #[test]
    fn choices_and_booleans_are_conclusions() {
        let parameter = Parameter::new("mode", json!({"enum": ["heat"]}).as_object().unwrap().clone());
        assert!(Stated::new("it is freezing").states(&json!("heat"), Some(&parameter)));
        assert!(states("it is too dark", json!(true)));
    }

    #[test]
    fn the_first_invention_is_named_with_its_place() {
        let tools = Tool::list_from_json(
            &json!([{"name": "f", "parameters": {"a": {"type": "string"}, "b": {"type": "string"}}}]),
        );
        let calls =
            [Call { name: "f".into(), arguments: json!({"a": "milk", "b": "eggs"}).as_object().unwrap().clone() }];
        let unstated = Stated::new("buy milk").first_unstated(&tools.unwrap(), &calls);
        assert_eq!(unstated.unwrap(), ("answers[0].arguments.b".to_owned(), "\"eggs\"".to_owned()));
    }
}
