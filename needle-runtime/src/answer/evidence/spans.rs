//! How the open strings of an answer lie in the request: copied or not, cut short, overlapping.

use std::ops::Range;

use needle_data::text::said_times::minutes_of_day;

use super::request::{FUNCTION_WORDS, is_word, words};

/// Counts of what speaks for or against the strings of an answer.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// Strings that are not in the request, counted as often as their length exceeds its own: an
    /// endless string is worse than a word.
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
            let place = place(string, text, lower).filter(|_| !string.is_empty());
            let Some(Range { start, end }) = place else {
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

/// Where `string` stands in `text`, in any case; `lower` is the lower case of `text`.
pub(super) fn place(string: &str, text: &str, lower: &str) -> Option<Range<usize>> {
    let at = text.find(string).or_else(|| {
        // Lower case may have another length, and then nothing is found.
        (lower.len() == text.len()).then(|| lower.find(&string.to_lowercase())).flatten()
    })?;
    let end = (at + string.len()).min(text.len());
    // Characters may have other lengths in lower case, even if the whole has not.
    (text.is_char_boundary(at) && text.is_char_boundary(end)).then_some(at..end)
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
