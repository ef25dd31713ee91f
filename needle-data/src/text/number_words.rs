//! The English words that numbers are made of.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// From 0 to 19.
pub const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
/// 20, 30 and so on to 90.
pub const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// The value of a word of [`ONES`], in lower case.
pub fn one(word: &str) -> Option<f64> {
    ONES.iter().position(|one| *one == word).map(|value| value as f64)
}

/// The value of a word of [`TENS`], in lower case.
pub fn ten(word: &str) -> Option<f64> {
    TENS.iter().position(|ten| *ten == word).map(|value| 20.0 + 10.0 * value as f64)
}

/// How numbers are spelled.
#[derive(Debug, Clone, Copy)]
pub struct Spelling {
    /// `twenty-five` instead of `twenty five`.
    pub hyphen: bool,
    /// `a hundred and ten` instead of `a hundred ten`.
    pub and: bool,
    /// `a hundred` instead of `one hundred`.
    pub a_hundred: bool,
}

impl Spelling {
    /// One of the spellings, as often as people use them (an estimate).
    pub fn draw(rng: &mut ChaCha8Rng) -> Self {
        Self { hyphen: rng.random_bool(0.6), and: rng.random_bool(0.7), a_hundred: rng.random_bool(0.5) }
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..8).map(|bits| Self { hyphen: bits & 1 != 0, and: bits & 2 != 0, a_hundred: bits & 4 != 0 })
    }
}

/// [`spell`] takes numbers below this.
pub const SPELLED: u64 = 1_000_000;

/// A number below [`SPELLED`] in English words.
pub fn spell(n: u64, how: Spelling) -> String {
    let one = if how.a_hundred { "a" } else { "one" };
    match n {
        0..20 => ONES[n as usize].into(),
        20..100 if n.is_multiple_of(10) => TENS[n as usize / 10 - 2].into(),
        20..100 => {
            format!("{}{}{}", TENS[n as usize / 10 - 2], if how.hyphen { "-" } else { " " }, ONES[n as usize % 10])
        }
        100..1000 => {
            let hundreds = if n < 200 { one.to_owned() } else { ONES[n as usize / 100].to_owned() };
            match n % 100 {
                0 => format!("{hundreds} hundred"),
                rest => format!("{hundreds} hundred {}{}", if how.and { "and " } else { "" }, spell(rest, how)),
            }
        }
        _ => {
            let thousands = if n < 2000 { one.to_owned() } else { spell(n / 1000, how) };
            match n % 1000 {
                0 => format!("{thousands} thousand"),
                rest if rest < 100 => {
                    format!("{thousands} thousand {}{}", if how.and { "and " } else { "" }, spell(rest, how))
                }
                rest => format!("{thousands} thousand {}", spell(rest, how)),
            }
        }
    }
}
