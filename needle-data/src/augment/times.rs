//! Other times of day, where the query says them in words.

use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use serde_json::Value;

use super::places::{Replacement, is_hyphenated, places_of_words};
use crate::text::number_words::ONES;
use crate::text::said_times::minutes_of_day;

/// Minutes after the hour that is named, and how they are said.
pub(super) const MINUTES: [(i32, &str); 11] = [
    (5, "five past"),
    (10, "ten past"),
    (15, "quarter past"),
    (20, "twenty past"),
    (25, "twenty-five past"),
    (30, "half past"),
    (-25, "twenty-five to"),
    (-20, "twenty to"),
    (-15, "quarter to"),
    (-10, "ten to"),
    (-5, "five to"),
];

/// Another time with the same hour in words: `quarter to five` for `half past five`.
pub(super) fn other_time(query: &str, text: &str, others: &[&Value], rng: &mut ChaCha8Rng) -> Option<Replacement> {
    let of_day = minutes_of_day(text)? as i32;
    if others.iter().any(|other| other.as_str().is_some_and(|other| minutes_of_day(other).is_some())) {
        return None;
    }
    let lower = query.to_ascii_lowercase();
    let mut said = MINUTES.iter().flat_map(|(minutes, words)| {
        places_of_words(&lower, words).filter(|at| !is_hyphenated(&lower, at)).map(|at| (*minutes, at))
    });
    let (minutes, at) = said.next().filter(|_| said.next().is_none())?;
    let named = (of_day - minutes).rem_euclid(24 * 60);
    let word = lower[at.end..].split_whitespace().next()?.trim_matches(|c: char| !c.is_alphanumeric());
    let names_hour =
        ONES.iter().position(|one| *one == word).or_else(|| word.parse().ok()).map(|said| said as i32 % 12);
    if named % 60 != 0 || names_hour != Some(named / 60 % 12) {
        return None;
    }
    let (minutes, words) = *MINUTES.choose(rng)?;
    let of_day = (named + minutes).rem_euclid(24 * 60);
    let value = format!("{:02}:{:02}", of_day / 60, of_day % 60);
    Some(Replacement { at, said: words.into(), value: value.into() })
}
