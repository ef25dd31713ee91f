//! Near-duplicates: MinHash finds candidates, and the exact Jaccard similarity decides.
//!
//! Broder, "On the resemblance and containment of documents" (1997). A text is the set of its
//! 4-character shingles, after lower-casing and collapsing white space; 128 hashes in 32 bands of 4
//! find a pair of similarity 0.8 with probability `1 - (1 - 0.8^4)^32 > 0.9999999`. A found pair is
//! then compared shingle by shingle, so that no text is rejected by chance.

use std::collections::HashMap;
use std::hash::BuildHasher;

use rustc_hash::{FxBuildHasher, FxHashSet};

/// Number of characters of a shingle.
const SHINGLE: usize = 4;
const BANDS: usize = 32;
const ROWS: usize = 4;

/// The texts kept so far.
#[derive(Debug, Clone, Default)]
pub struct NearDuplicates {
    /// Indices of the texts that have a band of hashes.
    bands: HashMap<(usize, u64), Vec<usize>, FxBuildHasher>,
    texts: Vec<Option<(String, FxHashSet<u64>)>>,
}

impl NearDuplicates {
    /// The kept text that is most similar to `text`, and the similarity, if that is at least
    /// `threshold`.
    pub fn find(&self, text: &str, threshold: f64) -> Option<(&str, f64)> {
        let shingles = shingles(text);
        let mut candidates: Vec<usize> =
            bands(&shingles).filter_map(|band| self.bands.get(&band)).flatten().copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        let mut best: Option<(&str, f64)> = None;
        for (kept, theirs) in candidates.into_iter().filter_map(|i| self.texts[i].as_ref()) {
            let similarity = jaccard(&shingles, theirs);
            if similarity >= threshold && best.is_none_or(|(_, most)| similarity > most) {
                best = Some((kept, similarity));
            }
        }
        best
    }

    /// Keeps `text`, and returns the number by which it can be forgotten.
    pub fn insert(&mut self, text: &str) -> usize {
        let (number, shingles) = (self.texts.len(), shingles(text));
        for band in bands(&shingles) {
            self.bands.entry(band).or_default().push(number);
        }
        self.texts.push(Some((text.to_owned(), shingles)));
        number
    }

    /// Forgets a text that was rejected after all.
    pub fn forget(&mut self, number: usize) {
        self.texts[number] = None;
    }
}

fn shingles(text: &str) -> FxHashSet<u64> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let chars: Vec<char> = words.join(" ").chars().collect();
    // A text that is shorter than a shingle is a single shingle.
    chars.windows(SHINGLE.min(chars.len().max(1))).map(|window| FxBuildHasher.hash_one(window)).collect()
}

/// The bands of the MinHash signature.
fn bands(shingles: &FxHashSet<u64>) -> impl Iterator<Item = (usize, u64)> {
    (0..BANDS).map(move |band| {
        let minima = (0..ROWS).map(|row| {
            let seed = (band * ROWS + row) as u64;
            shingles.iter().map(|&shingle| mix(shingle ^ mix(seed))).min().unwrap_or(u64::MAX)
        });
        (band, FxBuildHasher.hash_one(minima.collect::<Vec<u64>>()))
    })
}

/// SplitMix64's finalizer: one seed, one hash function.
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn jaccard(a: &FxHashSet<u64>, b: &FxHashSet<u64>) -> f64 {
    let shared = a.intersection(b).count();
    let all = a.len() + b.len() - shared;
    if all == 0 { 1.0 } else { shared as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewordings_by_a_letter_are_found_and_other_requests_are_not() {
        let mut kept = NearDuplicates::default();
        kept.insert("Turn on the lights in the living room, please");
        let number = kept.insert("set a timer for ten minutes");
        for near in ["turn on the  lights in the living room please", "Turn on the light in the living room, please"] {
            assert!(kept.find(near, 0.8).is_some(), "{near}");
        }
        for other in ["Turn on the oven", "what is the weather like in Lima", "日本語のテキスト", "", "a"] {
            assert!(kept.find(other, 0.8).is_none(), "{other}");
        }
        assert!(kept.find("set a timer for ten minutes", 1.0).is_some());
        kept.forget(number);
        assert!(kept.find("set a timer for ten minutes", 0.8).is_none());
    }

    #[test]
    fn pairs_above_the_threshold_are_never_missed_among_many() {
        let mut kept = NearDuplicates::default();
        let text = |i: usize| {
            let words: Vec<String> = (0..12).map(|j| format!("{:x}", mix((i * 12 + j) as u64) >> 40)).collect();
            words.join(" ")
        };
        for i in 0..2000 {
            assert!(kept.find(&text(i), 0.8).is_none());
            kept.insert(&text(i));
        }
        for i in 0..2000 {
            let near = format!("{}s", text(i));
            assert_eq!(kept.find(&near, 0.8).unwrap().0, text(i));
        }
    }

    #[test]
    fn empty_and_tiny_texts_have_a_place() {
        let mut kept = NearDuplicates::default();
        kept.insert("");
        kept.insert("hi");
        assert_eq!(kept.find("", 0.8).unwrap().0, "");
        assert_eq!(kept.find("Hi", 0.8).unwrap().0, "hi");
        assert!(kept.find("ho", 0.8).is_none());
    }
}
