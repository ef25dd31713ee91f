//! Typing errors in a query, except in words that its calls copy.

use std::collections::HashSet;

use needle_data::Example;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use serde_json::Value;

use crate::trust::words::words;

/// The letter rows of a QWERTY keyboard, in which neighbours are adjacent keys.
const KEYS: [&str; 3] = ["qwertyuiop", "asdfghjkl", "zxcvbnm"];
/// Shorter words are not mistyped, because too little of them would remain.
const SHORTEST: usize = 4;

/// `example` with about `share` of the words of its query mistyped, each by one letter: swapped,
/// missing, doubled, or another key. Words of values, and words with digits or letters beyond a-z,
/// stay as they are.
pub fn with_typos(example: &Example, share: f64, rng: &mut ChaCha8Rng) -> Example {
    let mut copied = HashSet::new();
    for value in example.answers.iter().flat_map(|call| call.arguments.values()) {
        copy_words(value, &mut copied);
    }
    let mut query = String::with_capacity(example.query.len());
    for piece in example.query.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let end = piece.find(|c: char| !c.is_alphanumeric()).unwrap_or(piece.len());
        let (word, rest) = piece.split_at(end);
        let is_plain = word.len() >= SHORTEST && word.bytes().all(|b| b.is_ascii_alphabetic());
        if is_plain && !copied.contains(&word.to_lowercase()) && rng.random_bool(share) {
            query.push_str(&mistyped(word, rng));
        } else {
            query.push_str(word);
        }
        query.push_str(rest);
    }
    Example { query, ..example.clone() }
}

fn copy_words(value: &Value, out: &mut HashSet<String>) {
    match value {
        Value::String(text) => out.extend(words(text)),
        Value::Array(items) => items.iter().for_each(|item| copy_words(item, out)),
        Value::Object(members) => members.values().for_each(|member| copy_words(member, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `word`, which consists of ASCII letters, with one of them wrong, but never the first: real
/// typing errors rarely affect it.
fn mistyped(word: &str, rng: &mut ChaCha8Rng) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    let at = rng.random_range(1..letters.len());
    match rng.random_range(0..4) {
        0 if at + 1 < letters.len() => letters.swap(at, at + 1),
        0 | 1 => _ = letters.remove(at),
        2 => letters.insert(at, letters[at]),
        _ => {
            let beside = neighbours(letters[at].to_ascii_lowercase());
            letters[at] = beside.choose(rng).copied().unwrap_or(letters[at]);
        }
    }
    letters.into_iter().collect()
}

fn neighbours(letter: char) -> Vec<char> {
    let mut out = Vec::new();
    for row in KEYS {
        if let Some(at) = row.find(letter) {
            out.extend(row[..at].chars().next_back());
            out.extend(row[at + 1..].chars().next());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use needle_data::random::{Purpose, rng};
    use serde_json::json;

    #[test]
    fn only_words_that_no_call_copies_are_mistyped() {
        let row = json!({
            "query": "Please remind everyone about Groceries, straße and the B12 thing at 18:30!",
            "tools": [{"name": "remind", "parameters": {"text": {"type": "string"}}}],
            "answers": [{"name": "remind", "arguments": {"text": "groceries"}}],
        });
        let example = Example::parse(&row.to_string()).unwrap();
        let mut different = HashSet::new();
        for seed in 0..50 {
            let typed = with_typos(&example, 1.0, &mut rng(seed, Purpose::OfflineChange, &[])).query;
            assert!(typed.contains(" Groceries, straße and the B12 "), "{typed}");
            assert!(typed.ends_with(" at 18:30!"), "{typed}");
            different.insert(typed);
        }
        assert!(different.len() > 25);
        assert_eq!(with_typos(&example, 0.0, &mut rng(1, Purpose::OfflineChange, &[])), example);
    }
}
