//! Where the values of an answer come from: copied from the query, derived from it, or not in the
//! query at all.
//!
//! A value that is not in the query may still be right ("in an hour" -> 60), but from a model that
//! usually copies it is the first sign of a hallucination.

use needle_data::text::json_schema::check;
use needle_data::text::said_numbers::said_numbers;
use needle_data::{Call, Tool};
use serde::Serialize;
use serde_json::{Map, Value};

/// Where a value comes from, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grounding {
    /// The value is a run of words of the query, character by character.
    Copied,
    /// The query or the tool's definition has the value in another form: other capitalization, a
    /// number in words, one of the listed values, or a value without words.
    Derived,
    /// Nothing in the query corresponds to the value.
    NotInQuery,
}

/// The grounding of one argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArgumentGrounding {
    /// Index of the call in the answer.
    pub call: usize,
    /// Name of the argument.
    pub argument: String,
    /// Where its value comes from; for a list or an object, the worst of its parts.
    pub grounding: Grounding,
}

/// The grounding of each argument of `calls`, which answer `query`.
pub fn groundings(query: &str, tools: &[Tool], calls: &[Call]) -> Vec<ArgumentGrounding> {
    let query = Query::new(query);
    let mut groundings = Vec::new();
    for (i, call) in calls.iter().enumerate() {
        let tool = tools.iter().find(|tool| tool.name == call.name);
        for (argument, value) in &call.arguments {
            let spec = tool.and_then(|tool| tool.parameter(argument)).map(|parameter| &parameter.spec);
            let grounding = if spec.is_some_and(|spec| is_offered(spec, value)) {
                query.grounding(value).min(Grounding::Derived)
            } else {
                query.grounding(value)
            };
            groundings.push(ArgumentGrounding { call: i, argument: argument.clone(), grounding });
        }
    }
    groundings
}

/// True if `value` is one of the values that the definition lists, or its default.
fn is_offered(spec: &Map<String, Value>, value: &Value) -> bool {
    let is_listed = |schema: &Value| {
        let lists = schema.get("enum").is_some() || schema.get("const").is_some();
        lists && check(schema, schema, value).is_ok()
    };
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|keyword| spec.get(*keyword)?.as_array()).flatten();
    spec.get("default") == Some(value)
        || is_listed(&Value::Object(spec.clone()))
        || alternatives.into_iter().any(is_listed)
}

/// Converted units agree with a value to within this share of it.
const ROUNDING: f64 = 1e-6;

/// A query, split once into words and numbers.
pub struct Query {
    /// The words as written, and the characters between them.
    pieces: Vec<String>,
    /// The words in lower case.
    words: Vec<String>,
    numbers: Vec<f64>,
}

impl Query {
    /// Splits `text` into words and numbers.
    pub fn new(text: &str) -> Self {
        let pieces = pieces(text);
        let words: Vec<String> = words(&pieces);
        Self { pieces, words, numbers: said_numbers(text) }
    }

    /// True if `text` is a run of words of the query, character by character.
    pub fn has_run(&self, text: &str) -> bool {
        let run = pieces(text);
        let is_trimmed = !text.is_empty() && text.trim() == text;
        is_trimmed && self.pieces.windows(run.len()).any(|window| window == run.as_slice())
    }

    /// True if the query says `value`, up to its sign and to rounding.
    pub fn says(&self, value: f64) -> bool {
        let value = value.abs();
        self.numbers.iter().any(|said| (said - value).abs() <= ROUNDING * value.max(1.0))
    }

    /// Where `value` comes from.
    pub fn grounding(&self, value: &Value) -> Grounding {
        match value {
            Value::Null | Value::Bool(_) => Grounding::Derived,
            Value::Number(number) if self.has_run(&number.to_string()) => Grounding::Copied,
            Value::Number(number) => {
                let is_said = number.as_f64().is_some_and(|value| self.says(value));
                if is_said { Grounding::Derived } else { Grounding::NotInQuery }
            }
            Value::String(text) if self.has_run(text) => Grounding::Copied,
            Value::String(text) => {
                let words = words(&pieces(text));
                let is_said = words.iter().all(|word| self.words.contains(word));
                if is_said { Grounding::Derived } else { Grounding::NotInQuery }
            }
            Value::Array(items) => self.worst(items.iter()),
            Value::Object(members) => self.worst(members.values()),
        }
    }

    fn worst<'a>(&self, values: impl Iterator<Item = &'a Value>) -> Grounding {
        values.map(|value| self.grounding(value)).max().unwrap_or(Grounding::Derived)
    }
}

/// Splits `text` into words and the single characters between them.
pub fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in text.chars() {
        let is_word = c.is_alphanumeric();
        match pieces.last_mut() {
            Some(word) if is_word && in_word => word.push(c),
            _ => pieces.push(c.into()),
        }
        in_word = is_word;
    }
    pieces
}

fn words(pieces: &[String]) -> Vec<String> {
    let is_word = |piece: &&String| piece.starts_with(char::is_alphanumeric);
    pieces.iter().filter(is_word).map(|word| word.to_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_value_is_copied_derived_or_not_in_the_query() {
        use Grounding::{Copied, Derived, NotInQuery};
        let query = Query::new("Play the Who's \"My Generation\" for twenty-five minutes at 8.30, 5th time, New York");
        for (value, expected) in [
            (json!("My Generation"), Copied),
            (json!("New York"), Copied),
            (json!("the Who's"), Copied),
            (json!("8.30"), Copied),
            (json!("my generation"), Derived),
            (json!("York, New"), Derived),
            (json!(25), Derived),
            (json!(-5), Derived),
            (json!(8.3), Derived),
            (json!(true), Derived),
            (json!("Gener"), NotInQuery),
            (json!(" New"), Derived),
            (json!("Los Angeles"), NotInQuery),
            (json!(26), NotInQuery),
            (json!(["New York", "my"]), Derived),
            (json!(["New York", "Rome"]), NotInQuery),
            (json!({"city": "New York"}), Copied),
            (json!([]), Derived),
        ] {
            assert_eq!(query.grounding(&value), expected, "{value}");
        }
    }

    #[test]
    fn a_value_that_the_tools_definition_lists_is_derived() {
        let tools = Tool::list_from_json(&json!([{"name": "light", "parameters": {
            "mode": {"type": "string", "enum": ["on", "off"]}, "room": {"type": "string"}, "level": {"type": "integer", "default": 50}}}]))
        .unwrap();
        let arguments = json!({"mode": "off", "room": "attic", "level": 50, "more": "dark"});
        let call = Call { name: "light".into(), arguments: arguments.as_object().unwrap().clone() };
        let marks = groundings("It should be dark", &tools, &[call]);
        let marks: Vec<_> = marks.iter().map(|mark| (mark.argument.as_str(), mark.grounding)).collect();
        use Grounding::{Copied, Derived, NotInQuery};
        assert_eq!(marks, [("mode", Derived), ("room", NotInQuery), ("level", Derived), ("more", Copied)]);
    }
}
