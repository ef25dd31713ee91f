//! Where a query says something.

use std::ops::Range;

use serde_json::Value;

/// A part of the query, what stands there instead, and the value that it says then.
#[derive(Debug, Clone)]
pub(super) struct Replacement {
    pub at: Range<usize>,
    pub said: String,
    pub value: Value,
}

/// Byte offset of `value` in `query`, if it occurs exactly once and as whole words.
pub(super) fn only_place(query: &str, value: &str) -> Option<usize> {
    let mut places = query.match_indices(value).map(|(at, _)| at);
    let at = places.next().filter(|_| !value.is_empty() && places.next().is_none())?;
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (before, after) = (query[..at].chars().next_back(), query[at + value.len()..].chars().next());
    (!is_word(before) && !is_word(after)).then_some(at)
}

pub(super) fn places<'a>(query: &'a str, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    query.match_indices(text).map(|(at, _)| at..at + text.len())
}

pub(super) fn places_of_words<'a>(query: &'a str, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    places(query, text)
        .filter(move |at| !is_word(query[..at.start].chars().next_back()) && !is_word(query[at.end..].chars().next()))
}

pub(super) fn is_hyphenated(query: &str, at: &Range<usize>) -> bool {
    query[..at.start].ends_with('-') || query[at.end..].starts_with('-')
}
