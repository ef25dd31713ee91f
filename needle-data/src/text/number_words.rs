//! The English words that numbers are made of.

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
