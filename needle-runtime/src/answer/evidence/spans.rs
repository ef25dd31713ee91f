//! How the open strings of an answer lie in the request: copied or not, cut short, overlapping.

use std::ops::Range;

use needle_data::text::said_times::minutes_of_day;

use super::request::{FUNCTION_WORDS, is_word, words};

/// Only the first places of a string count.
const MOST_PLACES: usize = 32;

/// Counts of what speaks for or against the strings of an answer.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// Strings that are not in the request, each counted once, and once more for each time that it
    /// is as long as the request: an endless string is worse than a word.
    pub(super) uncopied: usize,
    /// Strings that share words of the request with an earlier one.
    pub(super) overlapping: usize,
    /// Strings that begin or end within a word or code.
    pub(super) cut: usize,
    /// Strings that begin with a function word.
    pub(super) leading_function_words: usize,
    /// Number of bytes of the request that some string copies.
    pub(super) copied: usize,
}

impl Spans {
    /// Of `strings` in `text`, whose lower case is `lower`.
    pub(super) fn new(strings: &[&str], text: &str, lower: &str) -> Self {
        let mut spans = Self::default();
        let mut taken = vec![false; text.len()];
        for string in strings {
            let all: Vec<Range<usize>> = places(string, text, lower);
            let is_free = |at: &&Range<usize>| !taken[at.start..at.end].contains(&true);
            let is_whole = |at: &&Range<usize>| !is_cut(text, at.start, at.end);
            let free = all.iter().filter(is_whole).find(is_free);
            let Some(Range { start, end }) = free.or_else(|| all.iter().find(is_whole)).or(all.first()).cloned() else {
                let times = 1 + string.len() / text.len().max(1);
                spans.uncopied += if minutes_of_day(string).is_none() { times } else { 0 };
                continue;
            };
            spans.overlapping += usize::from(taken[start..end].contains(&true));
            taken[start..end].fill(true);
            spans.cut += usize::from(is_cut(text, start, end));
            let first = words(string).next().map(str::to_lowercase);
            spans.leading_function_words +=
                usize::from(first.is_some_and(|first| FUNCTION_WORDS.split(' ').any(|word| word == first)));
        }
        spans.copied = taken.iter().filter(|taken| **taken).count();
        spans
    }
}

/// Where `string` stands in `text`, in any case; `lower` is the lower case of `text`. As a whole,
/// if it does so anywhere.
pub(super) fn place(string: &str, text: &str, lower: &str) -> Option<Range<usize>> {
    let all = places(string, text, lower);
    all.iter().find(|at| !is_cut(text, at.start, at.end)).or(all.first()).cloned()
}

/// The first places where `string` stands in `text`; in any case, if it does not as it is.
fn places(string: &str, text: &str, lower: &str) -> Vec<Range<usize>> {
    if string.is_empty() {
        return Vec::new();
    }
    let place = |(at, found): (usize, &str)| at..at + found.len();
    let exact: Vec<Range<usize>> = text.match_indices(string).take(MOST_PLACES).map(place).collect();
    // Lower case may have another length, and then nothing is found.
    if !exact.is_empty() || lower.len() != text.len() {
        return exact;
    }
    let string = string.to_lowercase();
    // Characters may have other lengths in lower case, even if the whole has not.
    let is_at_boundaries = |at: &Range<usize>| text.is_char_boundary(at.start) && text.is_char_boundary(at.end);
    lower.match_indices(&string).take(MOST_PLACES).map(place).filter(is_at_boundaries).collect()
}

/// Whether `text[at..end]` begins or ends within a word, or within a code such as `vol-0a91`.
pub(super) fn is_cut(text: &str, at: usize, end: usize) -> bool {
    let (Some(before), Some(after)) = (text.get(..at), text.get(end..)) else { return true };
    goes_on(before.chars().rev()) || goes_on(after.chars())
}

/// True if a word or code goes on with the characters `beside` it.
pub(super) fn goes_on(mut beside: impl Iterator<Item = char>) -> bool {
    match beside.next() {
        Some(c) if is_word(c) => true,
        Some('-' | '.' | '/' | '@') => beside.next().is_some_and(is_word),
        _ => false,
    }
}
