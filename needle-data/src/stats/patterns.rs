//! How many sentences a dataset has, once names and numbers are taken out of them.
//!
//! Five hundred requests filled into twenty templates are twenty requests: a model learns the
//! templates, and a test part of the same ones says nothing about the sentences of people. A
//! sentence's pattern is its words in lower case, with `_` for the values of its calls and for
//! numbers. Values that are not said word for word ("the big one" for `large`) would hide a
//! template; so of patterns that differ in a single word, three are one.

use std::collections::HashMap;

use serde_json::Value;

use crate::text::example::Example;
use crate::text::number_words::{ONES, TENS};

/// What stands for a value.
const HOLE: &str = "_";
/// Patterns that differ in one word only, from which on they are one.
const FILLERS: usize = 3;
/// Words beside the one they differ in that patterns must share: one of two words alone is not a
/// template.
const FEWEST_WORDS: usize = 2;
/// Examples looked at: more would say the same, and take memory.
const MOST_EXAMPLES: usize = 5000;

/// Words for numbers beside those of [`ONES`] and [`TENS`].
const OTHER_NUMBERS: [&str; 5] = ["hundred", "thousand", "half", "quarter", "dozen"];

/// The patterns of a dataset's queries.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    examples: usize,
    /// Examples of each pattern, as its words.
    found: HashMap<Vec<String>, usize>,
}

/// What the patterns of a dataset came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternCounts {
    /// Examples looked at.
    pub examples: usize,
    /// Different patterns.
    pub patterns: usize,
    /// The commonest of them, and its examples.
    pub commonest: (String, usize),
}

impl Patterns {
    /// Looks at an example, unless thousands have been seen.
    pub fn add(&mut self, example: &Example) {
        if self.examples < MOST_EXAMPLES {
            self.examples += 1;
            *self.found.entry(pattern_of(example)).or_default() += 1;
        }
    }

    /// The patterns of all examples.
    pub fn count(&self) -> PatternCounts {
        let mut alike: HashMap<Vec<String>, usize> = HashMap::new();
        for words in self.found.keys() {
            without_one_word(words).chain([words.clone()]).for_each(|key| *alike.entry(key).or_default() += 1);
        }
        let mut merged: HashMap<Vec<String>, usize> = HashMap::new();
        for (words, examples) in &self.found {
            let wider = without_one_word(words).max_by_key(|key| (alike[key], key.clone()));
            let pattern = wider.filter(|key| alike[key] >= FILLERS).unwrap_or_else(|| words.clone());
            *merged.entry(pattern).or_default() += examples;
        }
        let commonest = merged.iter().max_by_key(|(words, examples)| (**examples, *words));
        PatternCounts {
            examples: self.examples,
            patterns: merged.len(),
            commonest: commonest.map(|(words, examples)| (words.join(" "), *examples)).unwrap_or_default(),
        }
    }
}

fn is_number_word(word: &str) -> bool {
    [&ONES[..], &TENS, &OTHER_NUMBERS].iter().any(|words| words.contains(&word))
}

/// The words of the query, with [`HOLE`] for values and numbers.
fn pattern_of(example: &Example) -> Vec<String> {
    let mut query = example.query.to_lowercase();
    let mut values = Vec::new();
    example.answers.iter().flat_map(|call| call.arguments.values()).for_each(|value| leaves(value, &mut values));
    // Longest first: "New York" before "York".
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    values.iter().for_each(|value| query = replace_words(&query, value));
    let mut words = Vec::new();
    for word in query.split_whitespace() {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
        let is_number = word.contains(|c: char| c.is_numeric()) || word.split('-').all(is_number_word);
        push(&mut words, if is_number { HOLE } else { word });
    }
    words
}

/// One hole stands for several side by side.
fn push(words: &mut Vec<String>, word: &str) {
    let repeats_hole = word == HOLE && words.last().is_some_and(|last| last == HOLE);
    if !word.is_empty() && !repeats_hole {
        words.push(word.to_owned());
    }
}

/// `words` with a hole in the place of each in turn.
fn without_one_word(words: &[String]) -> impl Iterator<Item = Vec<String>> {
    let is_word = |word: &&String| *word != HOLE;
    let has_enough = words.iter().filter(is_word).count() > FEWEST_WORDS;
    words.iter().enumerate().filter(move |(_, word)| has_enough && is_word(word)).map(|(at, _)| {
        let mut wider = Vec::with_capacity(words.len());
        words.iter().enumerate().for_each(|(i, word)| push(&mut wider, if i == at { HOLE } else { word }));
        wider
    })
}

/// Every text and number of a value, in lower case.
fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if !text.trim().is_empty() => found.push(text.trim().to_lowercase()),
        Value::Number(number) => found.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, found)),
        Value::Object(members) => members.values().for_each(|member| leaves(member, found)),
        _ => {}
    }
}

/// `text` with a hole for `value` wherever it stands as whole words.
fn replace_words(text: &str, value: &str) -> String {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    for (at, _) in text.match_indices(value) {
        let end = at + value.len();
        if !is_word(text[..at].chars().next_back()) && !is_word(text[end..].chars().next()) {
            out.push_str(&text[from..at]);
            out.push_str(" _ ");
            from = end;
        }
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn count(rows: impl Iterator<Item = (String, Value)>) -> PatternCounts {
        let mut patterns = Patterns::default();
        for (query, arguments) in rows {
            let call = json!({"name": "f", "arguments": arguments});
            let tool = json!({"name": "f", "parameters": {"a": {}, "b": {}}});
            let line = json!({"query": query, "tools": [tool], "answers": [call]});
            patterns.add(&Example::parse(&line.to_string()).unwrap());
        }
        patterns.count()
    }

    #[test]
    fn values_and_numbers_do_not_tell_sentences_apart() {
        let counts = count(
            [
                ("Rain in New York tomorrow?", json!({"a": "New York"})),
                ("rain in Åre tomorrow", json!({"a": "åre"})),
                ("rain in 漢字, 漢字 tomorrow", json!({"a": ["漢字"]})),
                ("rain in twenty-five tomorrow", json!({"a": 25})),
                ("York, please", json!({"a": "New York"})),
                ("", json!({})),
            ]
            .into_iter()
            .map(|(query, arguments)| (if query.is_empty() { "…".to_owned() } else { query.to_owned() }, arguments)),
        );
        assert_eq!((counts.examples, counts.patterns), (6, 3));
        assert_eq!(counts.commonest, ("rain in _ tomorrow".to_owned(), 4));
    }

    #[test]
    fn a_template_shows_even_where_its_words_are_no_values() {
        let nouns = ["lamp", "lights", "bulb", "lantern"];
        let template = nouns.iter().map(|noun| (format!("please switch the {noun} off now"), json!({"a": true})));
        assert_eq!(count(template).patterns, 1);
        let people = [
            "it is too dark in here",
            "could you get the light",
            "lights off",
            "good night",
            "I want to read",
            "make it brighter",
            "kill the lamp",
            "who left the lamp on",
        ];
        assert_eq!(count(people.iter().map(|query| ((*query).to_owned(), json!({})))).patterns, people.len());
    }
}
