//! Counts the distinct sentence patterns of a dataset, with values and numbers removed.
//!
//! Five hundred requests made from twenty templates are only twenty different requests: a model
//! learns the templates, and a test split of the same templates says nothing about human sentences.
//! A sentence's pattern is its words in lower case, with `_` for the values of its calls and for
//! numbers. A value that is not said verbatim ("the big one" for `large`) would hide a template, so
//! three or more patterns that differ in a single word count as one.

use std::collections::HashMap;

use serde_json::Value;

use crate::text::example::Example;
use crate::text::number_words::{ONES, TENS};

/// Placeholder for a value.
const HOLE: &str = "_";
/// Number of patterns differing in a single word from which they count as one.
const FILLERS: usize = 3;
/// Minimum number of words that such patterns must share: two words of which one varies are not a
/// template.
const FEWEST_WORDS: usize = 2;
/// Maximum number of examples that are counted: more would take memory without changing the result.
const MOST_EXAMPLES: usize = 5000;

/// Words for numbers in addition to [`ONES`] and [`TENS`].
const OTHER_NUMBERS: [&str; 5] = ["hundred", "thousand", "half", "quarter", "dozen"];

/// The patterns of a dataset's queries.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    examples: usize,
    /// Number of examples of each pattern, which is given by its words.
    found: HashMap<Vec<String>, usize>,
}

/// The counted patterns of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternCounts {
    /// Number of examples counted.
    pub examples: usize,
    /// Number of distinct patterns.
    pub patterns: usize,
    /// The most common pattern, and its number of examples.
    pub commonest: (String, usize),
}

impl Patterns {
    /// Counts an example, unless thousands have been counted.
    pub fn add(&mut self, example: &Example) {
        if self.examples < MOST_EXAMPLES {
            self.examples += 1;
            *self.found.entry(pattern_of(example)).or_default() += 1;
        }
    }

    /// Merges and counts the patterns of all examples.
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

/// Appends a word; adjacent holes become one.
fn push(words: &mut Vec<String>, word: &str) {
    let repeats_hole = word == HOLE && words.last().is_some_and(|last| last == HOLE);
    if !word.is_empty() && !repeats_hole {
        words.push(word.to_owned());
    }
}

/// For each word, `words` with a hole in its place.
fn without_one_word(words: &[String]) -> impl Iterator<Item = Vec<String>> {
    let is_word = |word: &&String| *word != HOLE;
    let has_enough = words.iter().filter(is_word).count() > FEWEST_WORDS;
    words.iter().enumerate().filter(move |(_, word)| has_enough && is_word(word)).map(|(at, _)| {
        let mut wider = Vec::with_capacity(words.len());
        words.iter().enumerate().for_each(|(i, word)| push(&mut wider, if i == at { HOLE } else { word }));
        wider
    })
}

/// Every string and number in a value, in lower case.
fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if !text.trim().is_empty() => found.push(text.trim().to_lowercase()),
        Value::Number(number) => found.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, found)),
        Value::Object(members) => members.values().for_each(|member| leaves(member, found)),
        _ => {}
    }
}

/// `text` with a hole for `value` wherever it occurs as whole words.
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
