//! New names made from syllables: a model can copy them, but cannot remember them.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::said::capitalized;
use crate::synth::values::pick;

const ONSETS: [&str; 48] = [
    "b", "bl", "br", "c", "ch", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gr", "h", "j", "k", "kl", "kn",
    "l", "m", "n", "p", "ph", "pl", "pr", "qu", "r", "s", "sc", "sh", "sk", "sl", "sn", "sp", "st", "str", "sv", "t",
    "th", "tr", "v", "w", "y", "z", "", "",
];
const VOWELS: [&str; 17] = ["a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "au", "ea", "ee", "ia", "oo", "ou", "y"];
const CODAS: [&str; 30] = [
    "", "", "", "", "b", "ck", "d", "g", "l", "ll", "m", "mp", "n", "nd", "ng", "nk", "nt", "p", "r", "rd", "rk", "rn",
    "s", "sk", "ss", "st", "t", "th", "x", "z",
];

/// An invented word in lower case.
pub(super) fn word(rng: &mut ChaCha8Rng) -> String {
    let syllables = pick(rng, &[1, 2, 2, 2, 2, 3, 3]);
    let mut word = String::new();
    for i in 0..syllables {
        word.push_str(pick(rng, &ONSETS));
        word.push_str(pick(rng, &VOWELS));
        // Inside a word, a coda is rarer: `Brelsanto` rather than `Brelldsantth`.
        if i + 1 == syllables || rng.random_bool(0.3) {
            word.push_str(pick(rng, &CODAS));
        }
    }
    if word.len() < 3 { word + "n" } else { word }
}

/// An invented word with a capital first letter.
pub(super) fn name(rng: &mut ChaCha8Rng) -> String {
    capitalized(&word(rng))
}

/// An identification code in one of several formats: `V3`, `AB-77-Z`, `440-HEN`, `#4512`,
/// `INV-2024-003`.
pub(super) fn code(rng: &mut ChaCha8Rng) -> String {
    let letters = |rng: &mut ChaCha8Rng, n: usize| -> String {
        (0..n).map(|_| char::from(b'A' + rng.random_range(0..26u8))).collect()
    };
    let digits = |rng: &mut ChaCha8Rng, n: usize| -> String {
        (0..n).map(|_| char::from(b'0' + rng.random_range(0..10u8))).collect()
    };
    let few = rng.random_range(1..=3);
    let many = rng.random_range(2..=5);
    match rng.random_range(0..12) {
        0 => letters(rng, 1) + &digits(rng, few),
        1 => format!("{}-{}", letters(rng, few), digits(rng, many)),
        2 => letters(rng, few) + &digits(rng, many),
        3 => format!("{}-{}-{}", letters(rng, 2), digits(rng, 2), letters(rng, 1)),
        4 => format!("{}-{}", digits(rng, 3), letters(rng, 3)),
        5 => format!("{}-20{}-{}", letters(rng, 3), rng.random_range(18..30), digits(rng, 3)),
        6 => format!("#{}", digits(rng, many)),
        7 => format!("{}/{}", digits(rng, few), digits(rng, 2)),
        8 => word(rng).to_uppercase() + &digits(rng, few),
        9 => format!("{}-{}", word(rng).to_uppercase(), digits(rng, many)),
        10 => format!("{}{}{}", digits(rng, 1), letters(rng, 2).to_lowercase(), digits(rng, few)),
        _ => format!("{}_{}", word(rng), digits(rng, few)),
    }
}
