//! Statistics of a set of files, counted row by row in little memory (8 bytes per query, to find
//! repeated ones).

pub mod advice;
mod patterns;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::encode::Encoder;
use crate::error::Problem;
use crate::order::split::query_key;
use crate::source::Counts;
use crate::stats::advice::Advice;
use crate::text::example::Example;
use crate::text::record::Record;
use crate::tokenizer::Tokenizer;

/// A histogram of lengths, in bins of growing width.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Histogram {
    /// Number of lengths up to and including each bound.
    pub bins: BTreeMap<usize, usize>,
    /// The longest length.
    pub longest: usize,
    /// Sum of all lengths.
    pub sum: usize,
    /// Number of lengths.
    pub count: usize,
}

impl Histogram {
    /// Counts one length.
    pub fn add(&mut self, length: usize) {
        // 16, 24, 32, 48, 64, 96, 128...: two bins for each doubling.
        let power = length.max(16).next_power_of_two();
        let bound = if length > 16 && length <= power / 4 * 3 { power / 4 * 3 } else { power };
        *self.bins.entry(bound).or_default() += 1;
        self.longest = self.longest.max(length);
        self.sum += length;
        self.count += 1;
    }

    /// Mean length.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.count.max(1) as f64
    }
}

/// Lengths in tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TokenLengths {
    /// Query, separator and tools; for text, all of it.
    pub encoder: Histogram,
    /// Answers; for text, nothing.
    pub decoder: Histogram,
}

/// Queries that two files share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// The file that is read first.
    pub first: String,
    /// The file that repeats queries of the first.
    pub second: String,
    /// Number of rows in `second` whose query is in `first`.
    pub queries: usize,
}

/// Counts over a set of rows.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats<'a> {
    /// Counts of used and skipped rows.
    pub counts: Counts,
    /// Tool-call examples.
    pub tool_calls: usize,
    /// Questions about a text.
    pub questions: usize,
    /// Plain texts.
    pub texts: usize,
    /// Examples in which no tool fits.
    pub no_call_rows: usize,
    /// Examples with more than one call.
    pub multi_call_rows: usize,
    /// Calls of each tool.
    pub calls_per_tool: BTreeMap<String, usize>,
    /// Examples by number of offered tools.
    pub rows_by_offered_tools: BTreeMap<usize, usize>,
    /// String arguments.
    pub string_values: usize,
    /// String arguments that occur literally in the query.
    pub verbatim_values: usize,
    /// Rows whose query (or text) occurs earlier in the same file.
    pub repeated_queries: usize,
    /// Queries that occur in several files. If one of these is a test set, it measures
    /// memorization.
    pub shared_queries: Vec<Shared>,
    /// Lengths in tokens, if a tokenizer was given.
    pub tokens: Option<TokenLengths>,
    /// Warnings about the examples.
    #[serde(skip)]
    pub advice: Advice,
    #[serde(skip)]
    tokenizer: Option<&'a Tokenizer>,
    #[serde(skip)]
    files: Vec<PathBuf>,
    /// Index of the file in which each query was first seen, by the query's hash.
    #[serde(skip)]
    first_seen: HashMap<u64, u32>,
}

impl<'a> Stats<'a> {
    /// Empty statistics; lengths in tokens are counted with `tokenizer`.
    pub fn new(tokenizer: Option<&'a Tokenizer>) -> Self {
        Self { tokenizer, tokens: tokenizer.map(|_| TokenLengths::default()), ..Self::default() }
    }

    /// Counts a row of `file`.
    pub fn add(&mut self, file: &Path, row: &Result<Record, Problem>) {
        self.counts.add(row);
        let Ok(record) = row else { return };
        match record {
            Record::ToolCall(example) => {
                self.tool_calls += 1;
                self.add_example(example);
                self.add_query(file, &example.query);
            }
            Record::Question { query, seed_text, .. } => {
                self.questions += 1;
                self.add_query(file, &format!("{query}\n{seed_text}"));
            }
            Record::Text(text) => {
                self.texts += 1;
                self.add_query(file, text);
            }
        }
        if let (Some(tokenizer), Some(lengths)) = (self.tokenizer, &mut self.tokens) {
            let texts: Vec<usize> =
                Encoder::texts_of(record.clone()).iter().map(|text| tokenizer.encode(text).len()).collect();
            match texts.as_slice() {
                [read, tools, written] => {
                    // The encoder also reads a separator. The decoder also writes the end of the
                    // answer and, before a call, `<tool_call>`.
                    let marks = if matches!(record, Record::ToolCall(_)) { 2 } else { 1 };
                    lengths.encoder.add(read + 1 + tools);
                    lengths.decoder.add(written + marks);
                }
                texts => lengths.encoder.add(texts.iter().sum()),
            }
        }
    }

    fn add_example(&mut self, example: &Example) {
        self.advice.add(example);
        self.no_call_rows += usize::from(example.answers.is_empty());
        self.multi_call_rows += usize::from(example.answers.len() > 1);
        *self.rows_by_offered_tools.entry(example.tools.len()).or_default() += 1;
        for call in &example.answers {
            *self.calls_per_tool.entry(call.name.clone()).or_default() += 1;
            for value in call.arguments.values().filter_map(Value::as_str) {
                self.string_values += 1;
                self.verbatim_values += usize::from(example.query.contains(value));
            }
        }
    }

    fn add_query(&mut self, file: &Path, query: &str) {
        let index = match self.files.iter().rposition(|known| known == file) {
            Some(index) => index,
            None => {
                self.files.push(file.to_owned());
                self.files.len() - 1
            }
        };
        let hash = std::hash::BuildHasher::hash_one(&rustc_hash::FxBuildHasher, query_key(query));
        let first = match self.first_seen.entry(hash) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(index as u32);
                return;
            }
            std::collections::hash_map::Entry::Occupied(first) => *first.get() as usize,
        };
        if first == index {
            self.repeated_queries += 1;
            return;
        }
        let [first, second] = [first, index].map(|i| self.files[i].display().to_string());
        match self.shared_queries.iter_mut().find(|shared| shared.first == first && shared.second == second) {
            Some(shared) => shared.queries += 1,
            None => self.shared_queries.push(Shared { first, second, queries: 1 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: &str = r#"{"query":"call Bob","tools":[{"name":"call","parameters":{"who":{"type":"string"}}}],"answers":[{"name":"call","arguments":{"who":"Bob"}},{"name":"call","arguments":{"who":"Al"}}]}"#;

    fn stats(lines: &[(&str, &str)]) -> Stats<'static> {
        let mut stats = Stats::new(None);
        for (file, line) in lines {
            stats.add(Path::new(file), &Record::from_line(line.as_bytes()));
        }
        stats
    }

    #[test]
    fn rows_calls_and_copied_values_are_counted() {
        let hello = r#"{"query":"hello","tools":[],"answers":[]}"#;
        let stats = stats(&[("a", CALLS), ("a", hello), ("a", r#"{"text":"some text"}"#), ("a", "{")]);
        assert_eq!((stats.tool_calls, stats.no_call_rows, stats.multi_call_rows, stats.texts), (2, 1, 1, 1));
        assert_eq!((stats.string_values, stats.verbatim_values), (2, 1));
        assert!(stats.advice.warnings()[0].contains("(call 1)"), "{:?}", stats.advice.warnings());
        assert_eq!((stats.counts.read, stats.counts.num_skipped()), (4, 1));
    }

    #[test]
    fn repeated_and_shared_queries_are_told_apart() {
        let loud = CALLS.replace("call Bob", "CALL  bob");
        let stats = stats(&[("train", CALLS), ("train", CALLS), ("test", &loud), ("test", r#"{"text":"x"}"#)]);
        assert_eq!(stats.repeated_queries, 1);
        let shared = Shared { first: "train".into(), second: "test".into(), queries: 1 };
        assert_eq!(stats.shared_queries, [shared]);
    }

    #[test]
    fn lengths_fall_into_bins_of_growing_width() {
        let mut histogram = Histogram::default();
        [0, 16, 17, 24, 25, 32, 700, 769].into_iter().for_each(|length| histogram.add(length));
        assert_eq!(histogram.bins, BTreeMap::from([(16, 2), (24, 2), (32, 2), (768, 1), (1024, 1)]));
        assert_eq!((histogram.longest, histogram.count), (769, 8));
    }
}
