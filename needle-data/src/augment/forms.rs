//! The form of a text: which other texts can stand in its place without looking different.
//!
//! Names are exchanged for names of as many words, and codes for codes of the same pattern, so that
//! a model cannot know the value from the sentence around it and has to copy it.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::text::said_times::minutes_of_day;

/// What two texts have in common that can stand in each other's place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Form {
    words: usize,
    capitals: Capitals,
    /// Characters that are neither letters, digits nor spaces, each once.
    marks: BTreeSet<char>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Capitals {
    /// `Paper Lanterns`
    EachWord,
    /// `Days to pay`
    FirstWord,
    /// `citrus house`
    None,
}

impl Form {
    /// The form of `text`.
    pub fn of(text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut capitals = words.iter().map(|word| word.starts_with(char::is_uppercase));
        let first = capitals.next() == Some(true);
        let capitals = match (first, capitals.all(|capital| capital)) {
            (true, true) => Capitals::EachWord,
            (true, false) => Capitals::FirstWord,
            (false, _) => Capitals::None,
        };
        let marks = text.chars().filter(|c| !c.is_alphanumeric() && !c.is_whitespace()).collect();
        Self { words: words.len(), capitals, marks }
    }
}

const MONTHS: &str = "january february march april may june july august september october november december jan feb mar apr jun jul aug sep sept oct nov dec";
const ORDINALS: [&str; 4] = ["st", "nd", "rd", "th"];

/// Another text with the pattern of `text`, such as `vol-7c48` for `vol-0a91`, `bench 7` for
/// `bench 4`, or another date for `2026-03-02`. `None` if `text` has no digits, or if other digits
/// could make it absurd (`3rd`, `14 July`).
pub(super) fn with_other_digits(text: &str, rng: &mut ChaCha8Rng) -> Option<String> {
    if let Some(minutes) = minutes_of_day(text) {
        let hour = minutes / 60;
        return Some(format!("{hour:02}:{:02}", 5 * rng.random_range(0..12)));
    }
    if let Some(year) = year_of_date(text) {
        return Some(format!("{year}-{:02}-{:02}", rng.random_range(1..=12), rng.random_range(1..=28)));
    }
    let mut other = String::with_capacity(text.len());
    let mut has_digits = false;
    for run in runs(text) {
        let letters: String = run.chars().filter(|c| c.is_alphabetic()).collect();
        let digits = run.chars().filter(char::is_ascii_digit).count();
        has_digits |= digits > 0;
        let is_date = MONTHS.split(' ').any(|month| month == letters.to_lowercase());
        let is_ordinal = digits > 0 && run.ends_with(&letters) && ORDINALS.contains(&letters.as_str());
        if is_date || is_ordinal {
            return None;
        }
        // Letters among digits, and short runs of capitals, belong to a code; other runs are words.
        let is_code = digits > 0 || (letters.len() <= 4 && letters.chars().all(|c| c.is_ascii_uppercase()));
        for (i, c) in run.chars().enumerate() {
            other.push(match c {
                '0'..='9' if i == 0 && c != '0' && digits > 1 => rng.random_range('1'..='9'),
                '0'..='9' if digits == 1 => rng.random_range('1'..='9'),
                '0'..='9' => rng.random_range('0'..='9'),
                'A'..='Z' if is_code => rng.random_range('A'..='Z'),
                // Hexadecimal numbers are common, and their digits are letters up to `f`.
                'a'..='f' if is_code => rng.random_range('a'..='f'),
                'a'..='z' if is_code => rng.random_range('a'..='z'),
                c => c,
            });
        }
    }
    has_digits.then_some(other)
}

/// The year of a date such as `2026-03-02`.
fn year_of_date(text: &str) -> Option<&str> {
    let parts: Vec<&str> = text.split('-').collect();
    let is_date = matches!(parts[..], [year, month, day] if [year.len(), month.len(), day.len()] == [4, 2, 2]);
    let is_digits = parts.iter().all(|part| part.chars().all(|c| c.is_ascii_digit()));
    (is_date && is_digits).then_some(parts[0])
}

/// Splits `text` into runs of letters and digits, and the characters between them.
fn runs(text: &str) -> Vec<&str> {
    let mut runs = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices() {
        if !c.is_alphanumeric() {
            runs.push(&text[start..at]);
            runs.push(&text[at..at + c.len_utf8()]);
            start = at + c.len_utf8();
        }
    }
    runs.push(&text[start..]);
    runs.retain(|run| !run.is_empty());
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, rng};

    fn others(text: &str) -> BTreeSet<String> {
        (0..50).filter_map(|seed| with_other_digits(text, &mut rng(seed, Purpose::Augmentation, &[]))).collect()
    }

    #[test]
    fn a_code_keeps_its_pattern() {
        let pattern = |text: &str| -> String {
            text.chars()
                .map(|c| match c {
                    '0'..='9' => '0',
                    'A'..='Z' => 'A',
                    c => c,
                })
                .collect()
        };
        for text in ["bench 4", "PAL00982", "10.8.0.0/24", "0171 555 0199", "MINT-4", "12-TEAL", "Größe 38"] {
            let others = others(text);
            assert!(others.len() > 5, "{text}: {others:?}");
            assert!(others.iter().all(|other| pattern(other) == pattern(text)), "{text}: {others:?}");
        }
        for other in others("vol-0a91") {
            let code = other.strip_prefix("vol-").unwrap();
            assert!(u32::from_str_radix(code, 16).is_ok() && code.len() == 4, "{other}");
        }
    }

    #[test]
    fn dates_and_times_stay_possible() {
        for other in others("2026-03-02") {
            let parts: Vec<u32> = other.split('-').map(|part| part.parse().unwrap()).collect();
            assert!(parts[0] == 2026 && (1..=12).contains(&parts[1]) && (1..=28).contains(&parts[2]), "{other}");
        }
        for other in others("16:45") {
            let minutes = minutes_of_day(&other).unwrap();
            let (hour, minute) = (minutes / 60, minutes % 60);
            assert!(hour == 16 && minute % 5 == 0, "{other}");
        }
    }

    #[test]
    fn what_has_no_digits_or_would_become_absurd_has_no_other() {
        for text in ["citrus house", "", "14 July", "May 3", "the 3rd", "flats_riga", "IKEA"] {
            assert!(others(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn texts_have_a_form_in_common_if_they_look_alike() {
        for (one, other) in [("Paper Lanterns", "Delia Frost"), ("citrus house", "melon field"), ("a_b", "flats_riga")]
        {
            assert_eq!(Form::of(one), Form::of(other), "{one}, {other}");
        }
        for (one, other) in [
            ("Paper Lanterns", "paper lanterns"),
            ("Days to pay", "Days To Pay"),
            ("house", "green house"),
            ("a.b", "a_b"),
        ] {
            assert_ne!(Form::of(one), Form::of(other), "{one}, {other}");
        }
    }
}
