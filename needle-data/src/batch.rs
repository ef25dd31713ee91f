//! Rows of ids as plain arrays, and the order in which an epoch meets the examples.
//!
//! A batch is a pure function of `(seed, epoch, index)`: that pair of numbers is all that a resumed run needs to go on
//! with the very next batch.

use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::augment::{stream, with_fewer_tools};
use crate::encode::{EncodedExample, Encoder};
use crate::error::Problem;
use crate::example::Example;
use crate::pack::{RowSize, pack};
use crate::source::Skipped;
use crate::tool::Tool;

/// What one training step reads. All arrays are row-major; 0 is padding in ids and segments alike.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Columns of the encoder's arrays.
    pub enc_len: usize,
    /// Columns of the decoder's arrays.
    pub dec_len: usize,
    /// Encoder ids, `[rows, enc_len]`.
    pub enc_ids: Vec<i32>,
    /// Which example of its row each encoder position belongs to, from 1, `[rows, enc_len]`.
    pub enc_segments: Vec<i32>,
    /// Decoder input ids, `[rows, dec_len]`.
    pub dec_input: Vec<i32>,
    /// Decoder target ids, `[rows, dec_len]`.
    pub dec_target: Vec<i32>,
    /// Which example of its row each decoder position belongs to, from 1, `[rows, dec_len]`.
    pub dec_segments: Vec<i32>,
    /// [`crate::TokenClass`] of each target as a number, `[rows, dec_len]`.
    pub dec_classes: Vec<u8>,
    /// Queries and tools for the contrastive loss; none if fewer than two different tools are called.
    pub retrieval: Option<RetrievalBatch>,
    /// Examples in the batch.
    pub num_examples: usize,
}

/// Query `i` belongs to tool `i` and to no other: all tools of a batch are different.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RetrievalBatch {
    /// Number of pairs.
    pub pairs: usize,
    /// Columns of `query_ids`.
    pub query_len: usize,
    /// Queries alone, `[pairs, query_len]`.
    pub query_ids: Vec<i32>,
    /// Columns of `tool_ids`.
    pub tool_len: usize,
    /// Tools alone, `[pairs, tool_len]`.
    pub tool_ids: Vec<i32>,
}

impl Batch {
    /// Lays out `rows` of examples; `max_pairs` bounds the retrieval pairs.
    pub fn from_rows(rows: &[Vec<&EncodedExample>], max_pairs: usize) -> Self {
        let total = |row: &[&EncodedExample], f: fn(&EncodedExample) -> usize| row.iter().map(|e| f(e)).sum::<usize>();
        let enc_len = rows.iter().map(|r| total(r, |e| e.enc_ids.len())).max().unwrap_or(0);
        let dec_len = rows.iter().map(|r| total(r, |e| e.dec_target.len())).max().unwrap_or(0);
        let mut batch = Self { rows: rows.len(), enc_len, dec_len, ..Self::default() };
        for row in rows {
            let enc = |f: &dyn Fn(usize, &EncodedExample) -> Vec<i32>| flatten(row, f);
            batch.enc_ids.extend(padded(enc(&|_, e| signed(&e.enc_ids)), enc_len));
            batch.enc_segments.extend(padded(enc(&|s, e| vec![s as i32; e.enc_ids.len()]), enc_len));
            batch.dec_input.extend(padded(enc(&|_, e| signed(&e.dec_input)), dec_len));
            batch.dec_target.extend(padded(enc(&|_, e| signed(&e.dec_target)), dec_len));
            batch.dec_segments.extend(padded(enc(&|s, e| vec![s as i32; e.dec_target.len()]), dec_len));
            let classes = row.iter().flat_map(|e| e.dec_classes.iter().map(|&c| c as u8)).collect();
            batch.dec_classes.extend(padded(classes, dec_len));
            batch.num_examples += row.len();
        }
        batch.retrieval = RetrievalBatch::of(rows.iter().flatten().copied(), max_pairs);
        batch
    }

    /// The rows in up to `parts` batches of like size, without retrieval pairs.
    pub fn split(&self, parts: usize) -> Vec<Self> {
        let rows = self.rows.div_ceil(parts.max(1)).max(1);
        let part = |start: usize| {
            let rows = rows.min(self.rows - start);
            let columns = |values: &[i32], len: usize| values[start * len..(start + rows) * len].to_vec();
            let (enc_len, dec_len) = (self.enc_len, self.dec_len);
            Self {
                rows,
                enc_len,
                dec_len,
                enc_ids: columns(&self.enc_ids, enc_len),
                enc_segments: columns(&self.enc_segments, enc_len),
                dec_input: columns(&self.dec_input, dec_len),
                dec_target: columns(&self.dec_target, dec_len),
                dec_segments: columns(&self.dec_segments, dec_len),
                dec_classes: self.dec_classes[start * dec_len..(start + rows) * dec_len].to_vec(),
                retrieval: None,
                num_examples: 0,
            }
        };
        (0..self.rows).step_by(rows).map(part).collect()
    }

    /// Positions that hold a target.
    pub fn num_targets(&self) -> usize {
        self.dec_segments.iter().filter(|&&s| s != 0).count()
    }

    /// Positions that hold a token, encoder and decoder together.
    pub fn num_tokens(&self) -> usize {
        self.enc_segments.iter().chain(&self.dec_segments).filter(|&&s| s != 0).count()
    }
}

impl RetrievalBatch {
    fn of<'a>(examples: impl Iterator<Item = &'a EncodedExample>, max_pairs: usize) -> Option<Self> {
        let mut pairs: Vec<&crate::encode::RetrievalPair> = Vec::new();
        for pair in examples.filter_map(|e| e.retrieval.as_ref()) {
            let is_same = |other: &Tool| other.name == pair.tool.name || other.is_same_but_for_name(&pair.tool);
            if pairs.len() < max_pairs && !pairs.iter().any(|p| is_same(&p.tool)) {
                pairs.push(pair);
            }
        }
        if pairs.len() < 2 {
            return None;
        }
        let (query_ids, query_len) = pad_rows(pairs.iter().map(|p| p.query_ids.as_slice()));
        let (tool_ids, tool_len) = pad_rows(pairs.iter().map(|p| p.tool_ids.as_slice()));
        Some(Self { pairs: pairs.len(), query_len, query_ids, tool_len, tool_ids })
    }
}

/// Rows of different lengths as one array, `[rows, longest]`, and the longest length.
pub fn pad_rows<'a>(rows: impl Iterator<Item = &'a [u32]> + Clone) -> (Vec<i32>, usize) {
    let longest = rows.clone().map(<[u32]>::len).max().unwrap_or(0);
    (rows.flat_map(|row| padded(signed(row), longest)).collect(), longest)
}

fn signed(ids: &[u32]) -> Vec<i32> {
    ids.iter().map(|&id| id as i32).collect()
}

fn flatten(row: &[&EncodedExample], f: &dyn Fn(usize, &EncodedExample) -> Vec<i32>) -> Vec<i32> {
    row.iter().enumerate().flat_map(|(i, e)| f(i + 1, e)).collect()
}

fn padded<T: Default + Clone>(mut row: Vec<T>, len: usize) -> Vec<T> {
    row.resize(len, T::default());
    row
}

/// How batches are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Rows of a batch.
    pub rows: usize,
    /// Encoder tokens of a row.
    pub row_enc_tokens: usize,
    /// Decoder tokens of a row.
    pub row_dec_tokens: usize,
    /// Examples among which rows are packed; more packs tighter, fewer mixes better.
    pub pack_window: usize,
    /// Most retrieval pairs of a batch.
    pub max_retrieval_pairs: usize,
    /// Whether tools, parameters and keys are shuffled anew each epoch.
    pub shuffle_tools: bool,
    /// Most tools that an example offers, see [`with_fewer_tools`]; all, if not given.
    pub max_offered_tools: Option<usize>,
}

/// Where in the data a run stands: enough to go on with the very next batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Window of the epoch, from 0.
    pub window: usize,
    /// Batch of the window, from 0.
    pub batch: usize,
}

/// A batch, and where the data stands after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The batch.
    pub batch: Batch,
    /// Where the next one stands.
    pub cursor: Cursor,
    /// Examples left out since the loader was made, by reason.
    pub skipped: Skipped,
}

/// The batches of examples held in memory, epoch after epoch.
pub struct Loader<'a> {
    encoder: &'a Encoder<'a>,
    examples: &'a [Example],
    config: BatchConfig,
    seed: u64,
    cursor: Cursor,
    current: Vec<Batch>,
    skipped: Skipped,
}

impl<'a> Loader<'a> {
    /// Batches of `examples` from `cursor` on.
    ///
    /// # Errors
    /// The first example that cannot be encoded, if none can.
    pub fn new(
        encoder: &'a Encoder<'a>,
        examples: &'a [Example],
        config: BatchConfig,
        seed: u64,
        cursor: Cursor,
    ) -> Result<Self, Problem> {
        let mut first_problem = None;
        if !examples.iter().any(|e| encoder.encode(e, None).map_err(|p| first_problem.get_or_insert(p).clone()).is_ok())
        {
            let nothing = || Problem::new("line", crate::error::ProblemCode::BadField, "there are no examples");
            return Err(first_problem.unwrap_or_else(nothing));
        }
        let mut loader = Self { encoder, examples, config, seed, cursor, current: Vec::new(), skipped: Skipped::new() };
        loader.current = loader.window(cursor.epoch, cursor.window);
        Ok(loader)
    }

    fn window(&mut self, epoch: u64, window: usize) -> Vec<Batch> {
        let config = &self.config;
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        order.shuffle(&mut stream(self.seed, &[0, epoch]));
        let members = order.chunks(config.pack_window.max(1)).nth(window).unwrap_or(&[]);
        let mut encoded: Vec<EncodedExample> = Vec::with_capacity(members.len());
        for &index in members {
            // A stream of its own for each example and epoch, whatever the order of loading.
            let mut rng = stream(self.seed, &[1, epoch, index as u64]);
            let example = match config.max_offered_tools {
                Some(most) => std::borrow::Cow::Owned(with_fewer_tools(&self.examples[index], most, &mut rng)),
                None => std::borrow::Cow::Borrowed(&self.examples[index]),
            };
            let shuffle_seed = config.shuffle_tools.then(|| rng.random());
            match self.encoder.encode(&example, shuffle_seed) {
                Ok(example) => encoded.push(example),
                Err(problem) => *self.skipped.entry(problem.code).or_default() += 1,
            }
        }
        let lengths: Vec<RowSize> =
            encoded.iter().map(|e| RowSize { enc: e.enc_ids.len(), dec: e.dec_target.len() }).collect();
        let mut rows = pack(&lengths, RowSize { enc: config.row_enc_tokens, dec: config.row_dec_tokens });
        // Packing sorts by length; the order of rows must not.
        rows.shuffle(&mut stream(self.seed, &[2, epoch, window as u64]));
        let rows: Vec<Vec<&EncodedExample>> = rows.iter().map(|r| r.iter().map(|&i| &encoded[i]).collect()).collect();
        rows.chunks(config.rows.max(1)).map(|rows| Batch::from_rows(rows, config.max_retrieval_pairs)).collect()
    }
}

impl Iterator for Loader<'_> {
    type Item = Loaded;

    /// The next batch; there is always one, since epochs follow each other without end.
    fn next(&mut self) -> Option<Loaded> {
        let windows = self.examples.len().div_ceil(self.config.pack_window.max(1));
        while self.cursor.batch >= self.current.len() {
            self.cursor = Cursor { window: self.cursor.window + 1, batch: 0, ..self.cursor };
            if self.cursor.window >= windows {
                self.cursor = Cursor { epoch: self.cursor.epoch + 1, window: 0, batch: 0 };
            }
            self.current = self.window(self.cursor.epoch, self.cursor.window);
        }
        let batch = std::mem::take(&mut self.current[self.cursor.batch]);
        self.cursor.batch += 1;
        Some(Loaded { batch, cursor: self.cursor, skipped: self.skipped.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::EncodeConfig;
    use crate::synth::{Generator, SynthConfig};
    use crate::tokenizer::{PAD_ID, Tokenizer, TokenizerConfig};

    fn examples(count: usize) -> Vec<Example> {
        Generator::new(SynthConfig { num_tools: (1, 3), brief: true, ..Default::default() })
            .unwrap()
            .take(count)
            .collect()
    }

    fn tokenizer(examples: &[Example]) -> Tokenizer {
        let texts: Vec<String> = examples.iter().map(|e| e.to_json().to_string()).collect();
        Tokenizer::train(&TokenizerConfig { vocab_size: 600, isolate_spaces: true }, texts.iter()).unwrap()
    }

    fn config() -> BatchConfig {
        BatchConfig {
            max_offered_tools: None,
            rows: 4,
            row_enc_tokens: 512,
            row_dec_tokens: 256,
            pack_window: 40,
            max_retrieval_pairs: 8,
            shuffle_tools: true,
        }
    }

    const LIMITS: EncodeConfig = EncodeConfig { max_enc_tokens: 512, max_dec_tokens: 256, max_tool_tokens: 128 };

    #[test]
    fn an_epoch_holds_every_example_once() {
        let examples = examples(100);
        let tokenizer = tokenizer(&examples);
        let encoder = Encoder::new(&tokenizer, LIMITS).unwrap();
        let loader = Loader::new(&encoder, &examples, config(), 5, Cursor::default()).unwrap();
        let mut seen = 0;
        let mut tokens = 0;
        for Loaded { batch, .. } in loader {
            seen += batch.num_examples;
            tokens += batch.dec_segments.iter().filter(|&&s| s != 0).count();
            if seen >= 100 {
                break;
            }
        }
        let expected: usize = examples.iter().map(|e| encoder.encode(e, None).unwrap().dec_target.len()).sum();
        assert_eq!(seen, 100);
        assert_eq!(tokens, expected);
    }

    #[test]
    fn a_resumed_loader_goes_on_with_the_very_next_batch() {
        let examples = examples(90);
        let tokenizer = tokenizer(&examples);
        let encoder = Encoder::new(&tokenizer, LIMITS).unwrap();
        let loader = |cursor| Loader::new(&encoder, &examples, config(), 5, cursor).unwrap();
        let whole: Vec<Loaded> = loader(Cursor::default()).take(30).collect();
        for stop in [0, 1, 7, 13, 29] {
            let cursor = if stop == 0 { Cursor::default() } else { whole[stop - 1].cursor };
            let tail: Vec<Loaded> = loader(cursor).take(30 - stop).collect();
            assert_eq!(tail, whole[stop..], "stopped after {stop}");
        }
        assert_ne!(whole[0], Loader::new(&encoder, &examples, config(), 6, Cursor::default()).unwrap().next().unwrap());
    }

    #[test]
    fn segments_mark_tokens_and_zero_marks_padding() {
        let examples = examples(12);
        let tokenizer = tokenizer(&examples);
        let encoder = Encoder::new(&tokenizer, LIMITS).unwrap();
        let encoded: Vec<_> = examples.iter().map(|e| encoder.encode(e, None).unwrap()).collect();
        let batch = Batch::from_rows(&[vec![&encoded[0], &encoded[1]], vec![&encoded[2]]], 8);
        assert_eq!(batch.enc_ids.len(), batch.rows * batch.enc_len);
        assert_eq!(batch.dec_classes.len(), batch.rows * batch.dec_len);
        for (id, segment) in batch.enc_ids.iter().zip(&batch.enc_segments) {
            assert_eq!(*id == PAD_ID as i32, *segment == 0);
        }
        assert_eq!(batch.enc_segments[encoded[0].enc_ids.len()], 2);
    }

    #[test]
    fn parts_of_a_batch_hold_its_rows_in_order() {
        let batch = Batch { rows: 5, enc_len: 2, dec_len: 1, enc_ids: (0..10).collect(), ..Batch::default() };
        let filled = |n: usize| vec![1; n];
        let batch = Batch {
            enc_segments: filled(10),
            dec_input: filled(5),
            dec_target: filled(5),
            dec_segments: filled(5),
            dec_classes: vec![0; 5],
            ..batch
        };
        let parts = batch.split(2);
        assert_eq!(parts.iter().map(|p| p.rows).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(parts.iter().flat_map(|p| p.enc_ids.clone()).collect::<Vec<_>>(), batch.enc_ids);
        assert_eq!(parts.iter().map(Batch::num_targets).sum::<usize>(), batch.num_targets());
        assert_eq!(batch.split(99).len(), 5);
    }

    #[test]
    fn retrieval_negatives_never_include_the_positive_tool() {
        let examples = examples(300);
        let tokenizer = tokenizer(&examples);
        let encoder = Encoder::new(&tokenizer, LIMITS).unwrap();
        let encoded: Vec<_> = examples.iter().map(|e| encoder.encode(e, None).unwrap()).collect();
        let rows: Vec<Vec<&EncodedExample>> = encoded.chunks(3).map(|c| c.iter().collect()).collect();
        let batch = Batch::from_rows(&rows, 64);
        let retrieval = batch.retrieval.unwrap();
        let description_of = |row: &[i32]| {
            let ids: Vec<u32> = row.iter().map(|&id| id as u32).collect();
            let tool: serde_json::Value = serde_json::from_str(&tokenizer.decode(&ids)).unwrap();
            tool["description"].as_str().unwrap().to_owned()
        };
        let different: std::collections::HashSet<String> =
            retrieval.tool_ids.chunks(retrieval.tool_len).map(description_of).collect();
        assert_eq!(different.len(), retrieval.pairs, "not even under another name");
        assert!(Batch::from_rows(&rows[..1], 1).retrieval.is_none(), "one pair has no negatives");
    }
}
