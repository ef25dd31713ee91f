//! Batches as plain arrays of ids.

use std::ops::Range;

use serde::Serialize;

use crate::encode::{EncodedExample, PairKey};
use crate::tokenizer::Tokenizer;

/// What one training step reads. All arrays are row-major; 0 is padding in ids and segments alike.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
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
    /// Queries and tools for the contrastive loss; `None` if no tool is called.
    pub retrieval: Option<RetrievalBatch>,
    /// Number of examples in the batch.
    pub num_examples: usize,
}

/// Query `i` belongs to tool `i` and to no other: all tools of a batch are different.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
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
    /// Identity of each pair's tool; no two pairs have the same.
    pub keys: Vec<PairKey>,
}

impl Batch {
    /// Lays out `rows` of examples as padded arrays; `max_pairs` bounds the retrieval pairs.
    pub fn from_rows(rows: &[Vec<&EncodedExample>], max_pairs: usize) -> Self {
        let total = |row: &[&EncodedExample], f: fn(&EncodedExample) -> usize| row.iter().map(|e| f(e)).sum::<usize>();
        let enc_len = rows.iter().map(|r| total(r, |e| e.enc_ids.len())).max().unwrap_or(0);
        let dec_len = rows.iter().map(|r| total(r, |e| e.dec_target.len())).max().unwrap_or(0);
        let mut batch = Self { rows: rows.len(), enc_len, dec_len, ..Self::default() };
        for (index, row) in rows.iter().enumerate() {
            for (segment, example) in (1..).zip(row) {
                batch.enc_ids.extend(signed(&example.enc_ids));
                batch.enc_segments.extend(std::iter::repeat_n(segment, example.enc_ids.len()));
                batch.dec_input.extend(example.dec_input().map(|id| id as i32));
                batch.dec_target.extend(signed(&example.dec_target));
                batch.dec_segments.extend(std::iter::repeat_n(segment, example.dec_target.len()));
                batch.dec_classes.extend(example.dec_classes.iter().map(|&class| class as u8));
            }
            batch.num_examples += row.len();
            // Zeros up to the end of the row.
            batch.enc_ids.resize((index + 1) * enc_len, 0);
            batch.enc_segments.resize((index + 1) * enc_len, 0);
            batch.dec_input.resize((index + 1) * dec_len, 0);
            batch.dec_target.resize((index + 1) * dec_len, 0);
            batch.dec_segments.resize((index + 1) * dec_len, 0);
            batch.dec_classes.resize((index + 1) * dec_len, 0);
        }
        batch.retrieval = RetrievalBatch::of(rows.iter().flatten().copied(), max_pairs);
        batch
    }

    /// The rows in up to `parts` batches of similar size, without retrieval pairs.
    pub fn split(&self, parts: usize) -> Vec<Self> {
        let rows = self.rows.div_ceil(parts.max(1)).max(1);
        (0..self.rows).step_by(rows).map(|start| self.rows_in(start..(start + rows).min(self.rows))).collect()
    }

    /// The `index`-th of `count` parts of similar size, retrieval pairs included. Together, the
    /// parts are the whole batch; some are empty if there are fewer rows than parts.
    pub fn part(&self, index: usize, count: usize) -> Self {
        let range = |length: usize| index * length / count..(index + 1) * length / count;
        Self {
            retrieval: self.retrieval.as_ref().map(|pairs| pairs.select(range(pairs.pairs))),
            // The bounds of examples are not stored, so the first part counts all of them.
            num_examples: if index == 0 { self.num_examples } else { 0 },
            ..self.rows_in(range(self.rows))
        }
    }

    fn rows_in(&self, rows: Range<usize>) -> Self {
        let columns = |values: &[i32], len: usize| values[rows.start * len..rows.end * len].to_vec();
        let (enc_len, dec_len) = (self.enc_len, self.dec_len);
        Self {
            rows: rows.len(),
            enc_len,
            dec_len,
            enc_ids: columns(&self.enc_ids, enc_len),
            enc_segments: columns(&self.enc_segments, enc_len),
            dec_input: columns(&self.dec_input, dec_len),
            dec_target: columns(&self.dec_target, dec_len),
            dec_segments: columns(&self.dec_segments, dec_len),
            dec_classes: self.dec_classes[rows.start * dec_len..rows.end * dec_len].to_vec(),
            retrieval: None,
            num_examples: 0,
        }
    }

    /// The encoder's input of each row as text, for display.
    pub fn rows_as_text(&self, tokenizer: &Tokenizer) -> Vec<String> {
        let text = |row: &[i32]| tokenizer.decode(&row.iter().map(|&id| id as u32).collect::<Vec<_>>());
        self.enc_ids.chunks(self.enc_len.max(1)).map(text).collect()
    }

    /// Number of positions that hold a target.
    pub fn num_targets(&self) -> usize {
        self.dec_segments.iter().filter(|&&s| s != 0).count()
    }

    /// Number of positions that hold a token, encoder and decoder together.
    pub fn num_tokens(&self) -> usize {
        self.enc_segments.iter().chain(&self.dec_segments).filter(|&&s| s != 0).count()
    }
}

impl RetrievalBatch {
    fn of<'a>(examples: impl Iterator<Item = &'a EncodedExample> + Clone, max_pairs: usize) -> Option<Self> {
        let with_pair = || examples.clone().filter_map(|e| Some((e, e.retrieval.as_ref()?)));
        let keys: Vec<PairKey> = with_pair().map(|(_, pair)| pair.key).collect();
        let chosen = different(&keys, max_pairs);
        if chosen.is_empty() {
            return None;
        }
        let pairs = || with_pair().enumerate().filter(|(i, _)| chosen.binary_search(i).is_ok()).map(|(_, pair)| pair);
        let (query_ids, query_len) = pad_rows(pairs().map(|(example, pair)| &example.enc_ids[..pair.query_len]));
        let (tool_ids, tool_len) = pad_rows(pairs().map(|(_, pair)| pair.tool_ids.as_slice()));
        let keys = chosen.iter().map(|&i| keys[i]).collect();
        Some(Self { pairs: chosen.len(), query_len, query_ids, tool_len, tool_ids, keys })
    }

    /// The pairs with the given indices.
    pub fn select(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let mut selected = Self { query_len: self.query_len, tool_len: self.tool_len, ..Self::default() };
        for i in indices {
            selected.pairs += 1;
            selected.query_ids.extend(&self.query_ids[i * self.query_len..(i + 1) * self.query_len]);
            selected.tool_ids.extend(&self.tool_ids[i * self.tool_len..(i + 1) * self.tool_len]);
            selected.keys.push(self.keys[i]);
        }
        selected
    }
}

/// Ascending indices of up to `most` pairs, no two of which call the same tool: the first pair of
/// each tool.
pub fn different(keys: &[PairKey], most: usize) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        if chosen.len() < most && !chosen.iter().any(|&other| keys[other].is_same(key)) {
            chosen.push(index);
        }
    }
    chosen
}

/// Rows of different lengths as one array, `[rows, longest]`, and the longest length.
pub fn pad_rows<'a>(rows: impl Iterator<Item = &'a [u32]> + Clone) -> (Vec<i32>, usize) {
    let longest = rows.clone().map(<[u32]>::len).max().unwrap_or(0);
    let mut padded = Vec::new();
    for (index, row) in rows.enumerate() {
        padded.extend(signed(row));
        padded.resize((index + 1) * longest, 0);
    }
    (padded, longest)
}

fn signed(ids: &[u32]) -> impl Iterator<Item = i32> {
    ids.iter().map(|&id| id as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{EncodeConfig, Encoder};
    use crate::synth::{Generator, SynthConfig};
    use crate::text::example::Example;
    use crate::tokenizer::{PAD_ID, TokenizerConfig};

    fn examples(count: usize) -> Vec<Example> {
        Generator::new(SynthConfig { num_tools: (1, 3), brief: true, ..Default::default() })
            .unwrap()
            .take(count)
            .collect()
    }

    fn tokenizer(examples: &[Example]) -> Tokenizer {
        let texts: Vec<String> = examples.iter().map(|e| e.to_json().to_string()).collect();
        Tokenizer::train(
            &TokenizerConfig { vocab_size: 600, isolate_spaces: true, join_structure: false },
            texts.iter(),
        )
        .unwrap()
    }

    const LIMITS: EncodeConfig = EncodeConfig { max_enc_tokens: 512, max_dec_tokens: 256, max_tool_tokens: 128 };

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
        let parts: Vec<Batch> = (0..3).map(|i| batch.part(i, 3)).collect();
        assert_eq!(parts.iter().flat_map(|p| p.enc_ids.clone()).collect::<Vec<_>>(), batch.enc_ids);
        assert_eq!((0..7).map(|i| batch.part(i, 7).rows).sum::<usize>(), 5, "some are empty");
    }

    #[test]
    fn retrieval_negatives_never_include_the_positive_tool() {
        let examples = examples(300);
        let tokenizer = tokenizer(&examples);
        let encoder = Encoder::new(&tokenizer, LIMITS).unwrap();
        let encoded: Vec<_> = examples.iter().map(|e| encoder.encode(e, None).unwrap()).collect();
        let rows: Vec<Vec<&EncodedExample>> = encoded.chunks(3).map(|c| c.iter().collect()).collect();
        let batch = Batch::from_rows(&rows, 64);
        let retrieval = batch.retrieval.clone().unwrap();
        let description_of = |row: &[i32]| {
            let ids: Vec<u32> = row.iter().map(|&id| id as u32).collect();
            let tool: serde_json::Value = serde_json::from_str(&tokenizer.decode(&ids)).unwrap();
            tool["description"].as_str().unwrap().to_owned()
        };
        let different: std::collections::HashSet<String> =
            retrieval.tool_ids.chunks(retrieval.tool_len).map(description_of).collect();
        assert_eq!(different.len(), retrieval.pairs, "not even under another name");
        let parts: Vec<RetrievalBatch> = (0..3).filter_map(|i| batch.part(i, 3).retrieval).collect();
        assert_eq!(parts.iter().flat_map(|p| p.tool_ids.clone()).collect::<Vec<_>>(), retrieval.tool_ids);
    }
}
