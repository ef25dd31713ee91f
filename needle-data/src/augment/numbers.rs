//! Other numbers, in digits or in words.

use std::collections::BTreeSet;
use std::ops::Range;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use serde_json::{Number, Value};

use super::places::{Replacement, is_hyphenated, places, places_of_words};
use crate::text::number_words::{ONES, SPELLED, Spelling, TENS, spell};
use crate::text::said_times::minutes_of_day;

/// A number in a query: where it stands, and how it is said.
struct Said {
    at: Range<usize>,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Digits,
    /// With separators: `14,200`.
    Separated,
    Words,
}

/// Numbers from here on are too long to be said in a request.
const LARGEST: f64 = 1e12;
/// Larger numbers are replaced by numbers in digits only.
const LARGEST_IN_WORDS: u64 = 999;

/// Another number at the place of `number`, of about the same size and as round, in digits or in
/// words.
pub(super) fn other_number(
    query: &str,
    number: &Number,
    others: &[&Value],
    rng: &mut ChaCha8Rng,
) -> Option<Replacement> {
    replace(query, number, others, |whole, _, rng| Some(similar(whole, rng)), rng)
}

/// A number outside `minimum` and `maximum` at the place of `number`.
#[cfg(feature = "training")]
pub(super) fn number_out_of_bounds(
    query: &str,
    number: &Number,
    others: &[&Value],
    bounds: (Option<f64>, Option<f64>),
    rng: &mut ChaCha8Rng,
) -> Option<Replacement> {
    let outside = |_, scale: f64, rng: &mut ChaCha8Rng| {
        let (least, most) = (bounds.0.map(|least| least * scale), bounds.1.map(|most| most * scale));
        let above = most.filter(|most| *most >= 0.0).map(|most| (most + 1.0) * rng.random_range(1.0..3.0));
        let below = least.filter(|least| *least > 0.0).map(|least| least * rng.random_range(0.0..1.0));
        let value = if rng.random_bool(0.7) { above.or(below) } else { below.or(above) }?;
        // What people ask for is often round.
        let value = if value >= 20.0 && rng.random_bool(0.6) { (value / 10.0).round() * 10.0 } else { value.floor() };
        let is_outside = least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most);
        // English has other words for 1.
        (is_outside && value >= 2.0).then_some(value as u64)
    };
    replace(query, number, others, outside, rng)
}

/// What `draw` makes of `number`: of its digits as a whole number, and the power of ten that this
/// was multiplied by.
fn replace(
    query: &str,
    number: &Number,
    others: &[&Value],
    draw: impl Fn(u64, f64, &mut ChaCha8Rng) -> Option<u64>,
    rng: &mut ChaCha8Rng,
) -> Option<Replacement> {
    let value = number.as_f64().filter(|value| (0.0..LARGEST).contains(value))?;
    let is_other = |other: &&Value| match other {
        Value::Number(other) => other.as_f64() != Some(value),
        // Its text may contain the number, and a time may be said with it.
        Value::String(text) => {
            let is_hour = |minutes: u32| f64::from(minutes / 60 % 12) == value % 12.0 && value <= 24.0;
            let is_of_time = minutes_of_day(text).is_some_and(is_hour);
            !is_of_time && !text.contains(&digits(value))
        }
        _ => true,
    };
    let said = said_number(query, value).filter(|_| others.iter().all(is_other))?;
    let decimals = digits(value).split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let scale = 10_f64.powi(decimals as i32);
    let other = draw((value * scale).round() as u64, scale, rng)?;
    let value = other as f64 / scale;
    let is_next_to_unit = query[said.at.end..].starts_with(['%', '°']);
    let keeps_form = rng.random_bool(0.6);
    let can_be_spelled = decimals == 0 && other <= LARGEST_IN_WORDS && !is_next_to_unit;
    let text = if can_be_spelled && (said.form == Form::Words) == keeps_form {
        spell(other, Spelling::draw(rng))
    } else if decimals == 0 && other >= 1000 && (said.form == Form::Separated) == keeps_form {
        separated(other)
    } else {
        digits(value)
    };
    let value = if value.fract() == 0.0 { Value::from(value as u64) } else { Value::from(value) };
    Some(Replacement { at: said.at, said: text, value })
}

/// Another number with as many digits, as often a multiple of ten; never 1, which English has other
/// words for.
fn similar(n: u64, rng: &mut ChaCha8Rng) -> u64 {
    let step = if n >= 20 && n.is_multiple_of(10) && rng.random_bool(0.7) { 10 } else { 1 };
    let least = 10_u64.pow(n.max(1).ilog10());
    let most = least * 10 - 1;
    rng.random_range(least.div_ceil(step).max(2 / step)..=most / step) * step
}

/// A number in digits, without a fraction of 0.
fn digits(value: f64) -> String {
    value.to_string()
}

/// A number in digits, in groups of three: `14,200`.
fn separated(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Where and how the query says `value`, if it does so once.
fn said_number(query: &str, value: f64) -> Option<Said> {
    let lower = query.to_ascii_lowercase();
    let is_whole = value.fract() == 0.0;
    let mut found: Vec<Said> = places(&lower, &digits(value)).map(|at| Said { at, form: Form::Digits }).collect();
    if is_whole && value >= 1000.0 {
        let text = separated(value as u64);
        found.extend(places(&lower, &text).map(|at| Said { at, form: Form::Separated }));
    }
    // "One" is often no number.
    if is_whole && value != 1.0 && value < SPELLED as f64 {
        for spelling in Spelling::all().map(|how| spell(value as u64, how)).collect::<BTreeSet<_>>() {
            found.extend(places_of_words(&lower, &spelling).map(|at| Said { at, form: Form::Words }));
        }
    }
    // Another occurrence, also as a part of something else, makes each of them doubtful.
    let said = found.pop().filter(|_| found.is_empty())?;
    let stands_alone = match said.form {
        Form::Words => is_whole_phrase(&lower, &said.at),
        Form::Digits | Form::Separated => is_whole_number(&lower, &said.at),
    };
    stands_alone.then_some(said)
}

/// Whether the digits at `at` are a number of their own: not a part of a code, a time or a
/// fraction.
fn is_whole_number(query: &str, at: &Range<usize>) -> bool {
    let before = query[..at.start].chars().next_back();
    let mut after = query[at.end..].chars();
    let ends = match after.next() {
        Some('.' | ',') => !after.next().is_some_and(char::is_alphanumeric),
        Some(c) => c.is_whitespace() || "!?;)%°\"".contains(c),
        None => true,
    };
    before.is_none_or(|c| c.is_whitespace() || "(€$£\"".contains(c)) && ends && !is_said_with_more(query, at)
}

/// Whether the words at `at` are a number of their own, and not a part of a longer one.
fn is_whole_phrase(query: &str, at: &Range<usize>) -> bool {
    !is_hyphenated(query, at) && !is_said_with_more(query, at)
}

/// Whether the words beside `at` belong to the number: `two hundred`, `half past five`, `two and a
/// half`, `5 am`.
fn is_said_with_more(query: &str, at: &Range<usize>) -> bool {
    const AFTER: &str = "and past to o'clock oclock am pm a.m. p.m. hundred thousand million dozen point half quarter quarters th st nd rd";
    const BEFORE: &str = "past and point half quarter hundred thousand minus";
    let word = |word: Option<&str>| word.unwrap_or_default().trim_matches([',', '.', '!', '?', ';']).to_lowercase();
    let (before, after) =
        (word(query[..at.start].split_whitespace().next_back()), word(query[at.end..].split_whitespace().next()));
    let is_number = |word: &str| ONES.contains(&word) || TENS.contains(&word);
    is_number(&before)
        || is_number(&after)
        || BEFORE.split(' ').any(|other| other == before)
        || AFTER.split(' ').any(|other| other == after)
}
