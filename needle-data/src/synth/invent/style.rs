//! The style of a request: capitals, punctuation, and a typing error in a word that is not a value.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::said::{Piece, Said};
use crate::synth::values::pick;

/// Gives `said` a random writing style.
pub(super) fn style(said: &mut Said, is_question: bool, rng: &mut ChaCha8Rng) {
    if rng.random_bool(0.06) {
        shorten(said, rng);
    }
    if rng.random_bool(0.07) {
        misspell(said, rng);
    }
    let end = if is_question { "?" } else { "." };
    let has_end = said.whole().trim_end().ends_with(['.', '!', '?', '"', ')']);
    match rng.random_range(0..100) {
        0..24 => said.0.iter_mut().for_each(|piece| piece.text = piece.text.to_lowercase()),
        24..58 => {
            capitalize_sentences(said);
            if !has_end {
                said.push(end);
            }
        }
        58..78 => said.capitalize(),
        78..80 => {
            said.capitalize();
            if !has_end {
                said.push("!");
            }
        }
        80..81 => said.0.iter_mut().for_each(|piece| piece.text = piece.text.to_uppercase()),
        81..90 if is_question && !has_end => {
            said.push("?");
        }
        _ => {}
    }
}

/// Capitalizes the start of the text, and each start of a sentence that is not a value.
fn capitalize_sentences(said: &mut Said) {
    let mut starts = false;
    for piece in &mut said.0 {
        let mut text = String::with_capacity(piece.text.len());
        for c in piece.text.chars() {
            let is_start = starts && !piece.is_value && c.is_alphabetic();
            text.extend(is_start.then(|| c.to_uppercase()).into_iter().flatten());
            if !is_start {
                text.push(c);
            }
            let ends = matches!(c, '.' | '?' | '!') && !piece.is_value && !text.ends_with("..");
            let is_space = c.is_whitespace();
            starts = ends || (starts && is_space);
        }
        piece.text = text;
    }
    said.capitalize();
}

/// Replaces words by chat abbreviations.
fn shorten(said: &mut Said, rng: &mut ChaCha8Rng) {
    const SHORT: [(&str, &str); 10] = [
        ("please", "pls"),
        ("thanks", "thx"),
        (" you ", " u "),
        (" and ", " & "),
        ("because", "bc"),
        ("tomorrow", "tmrw"),
        ("could you", "cld u"),
        ("I need", "need"),
        ("want to", "wanna"),
        ("with ", "w/ "),
    ];
    for piece in said.0.iter_mut().filter(|piece| !piece.is_value) {
        for (long, short) in SHORT {
            if rng.random_bool(0.7) {
                piece.text = piece.text.replace(long, short);
            }
        }
    }
}

/// Makes one typing error in one longer word.
fn misspell(said: &mut Said, rng: &mut ChaCha8Rng) {
    let candidates: Vec<usize> =
        (0..said.0.len()).filter(|&i| !said.0[i].is_value && said.0[i].text.split(' ').any(is_plain)).collect();
    if candidates.is_empty() {
        return;
    }
    let piece: &mut Piece = &mut said.0[pick(rng, &candidates)];
    let words: Vec<&str> = piece.text.split(' ').collect();
    let long: Vec<usize> = (0..words.len()).filter(|&i| is_plain(words[i])).collect();
    let chosen = pick(rng, &long);
    let mut letters: Vec<char> = words[chosen].chars().collect();
    let at = rng.random_range(1..letters.len() - 1);
    match rng.random_range(0..3) {
        0 => letters.swap(at, at + 1),
        1 => {
            letters.remove(at);
        }
        _ => letters.insert(at, letters[at]),
    }
    let slip: String = letters.into_iter().collect();
    piece.text = words
        .iter()
        .enumerate()
        .map(|(i, word)| if i == chosen { slip.as_str() } else { word })
        .collect::<Vec<_>>()
        .join(" ");
}

fn is_plain(word: &str) -> bool {
    word.len() >= 5 && word.chars().all(|c| c.is_ascii_lowercase())
}
