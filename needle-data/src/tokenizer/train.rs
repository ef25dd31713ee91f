//! Training byte-pair encoding with the `tokenizers` crate, in bounded memory.
//!
//! Training needs only the different words and their counts. Should they grow beyond [`MAX_WORDS`] (random strings do; text
//! does not), the rarest are dropped, as in lossy counting (Manku and Motwani 2002).

use std::collections::{BTreeMap, BTreeSet};

use ahash::AHashMap;
use compact_str::CompactString;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tokenizers::models::bpe::{BPE, BpeTrainer};

use super::{FIRST_MERGED_ID, SPACE, Tokenizer};
use crate::error::DataError;

/// SentencePiece's own default.
const MAX_PIECE_CHARS: usize = 16;
/// Longer runs are cut: a piece never gets that long, and a run of megabytes would cost many times its size.
const MAX_WORD_CHARS: usize = 4 * MAX_PIECE_CHARS;
/// Different words kept; each takes about 600 bytes while merges are computed.
const MAX_WORDS: usize = 4_000_000;
/// Texts counted together.
const CHUNK_BYTES: usize = 8 << 20;

/// How a tokenizer is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// Number of ids in all; the smallest that works is 262 plus the characters of the text.
    pub vocab_size: usize,
    /// Whether `▁` is always a piece of its own. A word then has the same ids after a space in the query as after a quote
    /// in the answer, so that copying it is copying ids; prose costs about one id a word more. SentencePiece glues (false).
    pub isolate_spaces: bool,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        // 8192 as in the published model; spaces isolated: see docs/LOG.md, "Spaces as pieces of their own".
        Self { vocab_size: 8192, isolate_spaces: true }
    }
}

/// What training met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TrainingText {
    /// Texts.
    pub texts: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Different words.
    pub words: usize,
    /// Occurrences of words dropped for being rare among too many.
    pub dropped_occurrences: u64,
}

impl Tokenizer {
    /// Trains on `texts`. The same texts in the same order give the same tokenizer.
    ///
    /// Pieces join letters with letters, digits with nothing, and other signs with each other, so that a value keeps its
    /// ids whatever stands around it.
    ///
    /// # Errors
    /// If there is no text, or `vocab_size` leaves no room for its characters.
    pub fn train<S: AsRef<str>>(
        config: &TokenizerConfig,
        texts: impl Iterator<Item = S>,
    ) -> Result<Self, DataError> {
        Ok(Self::train_from(config, texts.map(Ok))?.0)
    }

    /// As [`Tokenizer::train`], from texts that are read while it runs: none is kept.
    ///
    /// # Errors
    /// Also the first error of `texts`.
    pub fn train_from<S: AsRef<str>>(
        config: &TokenizerConfig,
        texts: impl Iterator<Item = Result<S, DataError>>,
    ) -> Result<(Self, TrainingText), DataError> {
        let error = |reason: String| DataError::Tokenizer { path: None, reason };
        let (words, met) = count_words(config.isolate_spaces, texts)?;
        let trainer = BpeTrainer::builder()
            .vocab_size(config.vocab_size.saturating_sub(FIRST_MERGED_ID))
            // A pair seen once teaches nothing.
            .min_frequency(2)
            .max_token_length(Some(MAX_PIECE_CHARS))
            .show_progress(false)
            .build();
        let mut model = BPE::default();
        trainer.do_train(&words, &mut model).map_err(|e| error(e.to_string()))?;
        drop(words);

        let by_id: BTreeMap<u32, String> = model.get_vocab().into_iter().map(|(piece, id)| (id, piece)).collect();
        let mut characters: BTreeSet<String> = by_id.values().filter(|p| p.chars().count() == 1).cloned().collect();
        if characters.is_empty() {
            return Err(error("no text to train on".into()));
        }
        characters.insert(SPACE.to_string());
        let room = config.vocab_size.saturating_sub(FIRST_MERGED_ID);
        if room < characters.len() {
            return Err(error(format!(
                "vocab_size {} is too small: {FIRST_MERGED_ID} special and byte pieces and {} characters need {}",
                config.vocab_size,
                characters.len(),
                FIRST_MERGED_ID + characters.len()
            )));
        }
        let merged: Vec<String> = by_id.into_values().filter(|p| p.chars().count() > 1).collect();
        let merged = merged.into_iter().take(room - characters.len());
        Ok((Self::from_learned(merged.chain(characters).collect()), met))
    }
}

type Counts = AHashMap<CompactString, u64>;

fn count_words<S: AsRef<str>>(
    isolate_spaces: bool,
    texts: impl Iterator<Item = Result<S, DataError>>,
) -> Result<(Counts, TrainingText), DataError> {
    let mut met = TrainingText::default();
    let mut all = Counts::new();
    let mut chunk: Vec<String> = Vec::new();
    let mut chunk_bytes = 0;
    let mut add = |chunk: &mut Vec<String>, met: &mut TrainingText| {
        let counted: Vec<Counts> = chunk
            .par_chunks(chunk.len().div_ceil(4 * rayon::current_num_threads()).max(1))
            .map(|texts| {
                let mut counts = Counts::new();
                texts.iter().for_each(|text| for_each_word(text, isolate_spaces, |w| *counts.entry(w).or_default() += 1));
                counts
            })
            .collect();
        for (word, count) in counted.into_iter().flatten() {
            *all.entry(word).or_default() += count;
        }
        chunk.clear();
        let mut rare = 1;
        while all.len() > MAX_WORDS {
            all.retain(|_, count| {
                met.dropped_occurrences += if *count <= rare { *count } else { 0 };
                *count > rare
            });
            rare *= 2;
        }
        met.words = all.len();
    };
    for text in texts {
        let text = text?;
        met.texts += 1;
        met.bytes += text.as_ref().len();
        chunk_bytes += text.as_ref().len();
        chunk.push(text.as_ref().to_owned());
        if chunk_bytes >= CHUNK_BYTES {
            add(&mut chunk, &mut met);
            chunk_bytes = 0;
        }
    }
    add(&mut chunk, &mut met);
    Ok((all, met))
}

/// Which characters may share a piece.
#[derive(PartialEq, Clone, Copy)]
enum Script {
    Letter,
    Digit,
    Sign,
    Space,
}

fn script(c: char) -> Script {
    match c {
        SPACE => Script::Space,
        _ if c.is_alphabetic() => Script::Letter,
        _ if c.is_numeric() => Script::Digit,
        _ => Script::Sign,
    }
}

/// Cuts a text into the strings inside which training may merge; `▁` stays in front of its word unless `isolate_spaces`.
fn for_each_word(text: &str, isolate_spaces: bool, mut each: impl FnMut(CompactString)) {
    let mut word = CompactString::default();
    let mut chars = 0;
    let mut previous = None;
    let spaced = std::iter::once(SPACE).chain(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
    for c in spaced {
        let now = script(c);
        let joins = match previous {
            None => false,
            Some(Script::Space) => now != Script::Space && !isolate_spaces,
            Some(before) => now == before && now != Script::Digit && now != Script::Space,
        };
        if !word.is_empty() && (!joins || chars == MAX_WORD_CHARS) {
            each(std::mem::take(&mut word));
            chars = 0;
        }
        word.push(c);
        chars += 1;
        previous = Some(now);
    }
    if !word.is_empty() {
        each(word);
    }
}
