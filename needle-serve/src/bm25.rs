//! BM25: how many of a query's words a document has, with rare words counting more.
//!
//! `score(q, d) = sum_w idf(w) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(d) / mean_len))`, with
//! `idf(w) = ln(1 + (N - n(w) + 0.5) / (n(w) + 0.5))` (Robertson and Zaragoza 2009, with the
//! non-negative idf of Lucene). It complements the vectors, which are weakest at rare words, such
//! as the names of tools that the model was never trained on.

use std::collections::HashMap;

/// How soon repetitions of a word stop counting.
const K1: f64 = 1.2;
/// How much longer documents are discounted.
const B: f64 = 0.75;

/// An index of documents.
#[derive(Debug, Clone, Default)]
pub struct Bm25 {
    /// For each word, the documents that have it, and how often.
    postings: HashMap<String, Vec<(usize, usize)>>,
    /// Words of each document.
    lengths: Vec<usize>,
}

impl Bm25 {
    /// Indexes `documents`.
    pub fn new<'a>(documents: impl IntoIterator<Item = &'a str>) -> Self {
        let mut index = Self::default();
        for (i, document) in documents.into_iter().enumerate() {
            let words = words(document);
            index.lengths.push(words.len());
            let mut counts: HashMap<String, usize> = HashMap::new();
            for word in words {
                *counts.entry(word).or_default() += 1;
            }
            for (word, count) in counts {
                index.postings.entry(word).or_default().push((i, count));
            }
        }
        index
    }

    /// The score of each document, in order; 0 if it shares no word with `query`.
    pub fn scores(&self, query: &str) -> Vec<f64> {
        let mut scores = vec![0.0; self.lengths.len()];
        let num_documents = self.lengths.len() as f64;
        let mean_len = (self.lengths.iter().sum::<usize>() as f64 / num_documents.max(1.0)).max(1.0);
        let mut asked = words(query);
        asked.sort_unstable();
        asked.dedup();
        for found in asked.iter().filter_map(|word| self.postings.get(word)) {
            let idf = idf(num_documents, found.len() as f64);
            for &(document, count) in found {
                let (count, len) = (count as f64, self.lengths[document] as f64);
                scores[document] += idf * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * len / mean_len));
            }
        }
        scores
    }

    /// An upper bound of what one word of a query can add to a document's score.
    pub fn most_of_a_word(&self) -> f64 {
        idf(self.lengths.len() as f64, 1.0) * (K1 + 1.0)
    }
}

/// Inverse document frequency of a word that `having` of `num_documents` documents have.
fn idf(num_documents: f64, having: f64) -> f64 {
    (1.0 + (num_documents - having + 0.5).max(0.0) / (having + 0.5)).ln().max(f64::MIN_POSITIVE)
}

/// The words of a text in lower case: `getWeather_v2` is `get`, `weather`, `v2`.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut was_lower = false;
    for c in text.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() && was_lower {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase();
    }
    words.extend((!word.is_empty()).then_some(word));
    words.iter().map(|word| stem(word)).collect()
}

/// Strips a plural `s`, so that `timers` and `timer` are one word.
fn stem(word: &str) -> String {
    let is_plural = word.len() > 3 && word.ends_with('s') && !word.ends_with("ss");
    if is_plural { word[..word.len() - 1].to_owned() } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_into_words() {
        assert_eq!(words("getWeather_v2 für Städte, HTTP!"), ["get", "weather", "v2", "für", "städte", "http"]);
        assert_eq!(words("timers glass as"), ["timer", "glass", "as"]);
        assert!(words(" ,.;").is_empty());
    }

    #[test]
    fn a_rare_word_counts_more_than_a_common_one_and_a_repeated_one_little_more() {
        let index = Bm25::new(["set a timer", "set an alarm", "set the volume", "set set set set the light"]);
        let scores = index.scores("set alarm");
        assert!(scores[1] > 2.0 * scores[0], "{scores:?}");
        assert!(scores[3] < 2.0 * scores[0], "{scores:?}");
    }

    #[test]
    fn the_score_is_that_of_the_formula() {
        let index = Bm25::new(["a b", "a c c c"]);
        let idf = (1.0_f64 + (2.0 - 1.0 + 0.5) / (1.0 + 0.5)).ln();
        let expected = idf * 3.0 * 2.2 / (3.0 + 1.2 * (0.25 + 0.75 * 4.0 / 3.0));
        let scores = index.scores("c");
        assert_eq!(scores[0], 0.0);
        assert!((scores[1] - expected).abs() < 1e-12);
    }

    #[test]
    fn nothing_is_found_in_nothing() {
        assert!(Bm25::new([]).scores("a").is_empty());
        assert_eq!(Bm25::new(["a", ""]).scores(""), [0.0, 0.0]);
    }
}
