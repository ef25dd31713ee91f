//! Trains byte-pair encoding with the `tokenizers` crate, in bounded memory.
//!
//! Training needs only the distinct words and their counts. If there are more than [`MAX_WORDS`]
//! (as in random strings, but not in text), the rarest are dropped, as in lossy counting (Manku and
//! Motwani 2002).

use std::collections::{BTreeMap, BTreeSet};

use ahash::{AHashMap, AHashSet};
use compact_str::CompactString;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tokenizers::models::bpe::{BPE, BpeTrainer};

use super::{FIRST_MERGED_ID, SPACE, Tokenizer};
use crate::error::DataError;

/// Longest piece in characters. SentencePiece's default is 16; a parameter's
/// `":{"type":"string","description":"` has 34.
const MAX_PIECE_CHARS: usize = 48;
/// Longer runs are split: no piece is that long, and a run of megabytes would cost many times its
/// size.
const MAX_WORD_CHARS: usize = 64;
/// The words between the punctuation of definitions and calls of any tool.
const SCHEMA_WORDS: [&str; 18] = [
    "name",
    "description",
    "parameters",
    "arguments",
    "type",
    "required",
    "enum",
    "items",
    "properties",
    "string",
    "integer",
    "number",
    "boolean",
    "array",
    "object",
    "true",
    "false",
    "null",
];
/// Maximum number of distinct words that are kept; each takes about 600 bytes while merges are
/// computed.
const MAX_WORDS: usize = 4_000_000;
/// Bytes of text that are counted together.
const CHUNK_BYTES: usize = 8 << 20;

/// How a tokenizer is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// Total number of ids: 262 special pieces and bytes, and the learned rest, of which at most
    /// half are single characters.
    pub vocab_size: usize,
    /// Whether `▁` is always a piece of its own. A word then has the same ids after a space in the
    /// query as after a quote in the answer, so that copying a word is copying ids; prose takes
    /// about one id more per word. SentencePiece's behavior is `false`.
    pub isolate_spaces: bool,
    /// Whether the JSON between the names and values of definitions and calls may be one piece:
    /// `":{"type":"string","description":"` is one id instead of twelve, and prompts are half as
    /// long. SentencePiece never joins letters with punctuation (`false`).
    pub join_structure: bool,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        // 8192 as in the published model; for the other two, see docs/LOG.md, "Spaces as pieces of
        // their own" and "Structure as pieces".
        Self { vocab_size: 8192, isolate_spaces: true, join_structure: true }
    }
}

/// Counts of the training text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TrainingText {
    /// Number of texts.
    pub texts: usize,
    /// Number of bytes.
    pub bytes: usize,
    /// Number of distinct words.
    pub words: usize,
    /// Occurrences of rare words that were dropped to bound memory.
    pub dropped_occurrences: u64,
}

impl Tokenizer {
    /// Trains on `texts`. The same texts in the same order give the same tokenizer.
    ///
    /// Pieces join letters with letters, digits with nothing, and other characters with each other
    /// (and with the words of a JSON schema, see [`TokenizerConfig::join_structure`]), so that a
    /// value has the same ids in every context.
    ///
    /// # Errors
    /// If there is no text, or `vocab_size` leaves no room for pieces.
    pub fn train<S: AsRef<str>>(config: &TokenizerConfig, texts: impl Iterator<Item = S>) -> Result<Self, DataError> {
        Ok(Self::train_from(config, texts.map(Ok))?.0)
    }

    /// Like [`Tokenizer::train`], from a stream of texts, none of which is kept.
    ///
    /// # Errors
    /// Also the first error of `texts`.
    pub fn train_from<S: AsRef<str>>(
        config: &TokenizerConfig,
        texts: impl Iterator<Item = Result<S, DataError>>,
    ) -> Result<(Self, TrainingText), DataError> {
        let error = |reason: String| DataError::Tokenizer { path: None, reason };
        let room = config.vocab_size.saturating_sub(FIRST_MERGED_ID);
        if room < 2 {
            let reason = format!(
                "vocab_size {} is too small: {FIRST_MERGED_ID} ids are special pieces and bytes",
                config.vocab_size
            );
            return Err(error(reason));
        }
        let (words, stats) = count_words(config, texts)?;
        let words = without_rare_characters(words, room / 2);
        let trainer = BpeTrainer::builder()
            .vocab_size(room)
            // A pair that occurs once does not make a piece.
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
        let merged: Vec<String> = by_id.into_values().filter(|p| p.chars().count() > 1).collect();
        let merged = merged.into_iter().take(room - characters.len());
        Ok((Self::from_learned(merged.chain(characters).collect()), stats))
    }
}

type Counts = AHashMap<CompactString, u64>;

fn count_words<S: AsRef<str>>(
    config: &TokenizerConfig,
    texts: impl Iterator<Item = Result<S, DataError>>,
) -> Result<(Counts, TrainingText), DataError> {
    let mut stats = TrainingText::default();
    let mut all = Counts::new();
    let mut chunk: Vec<String> = Vec::new();
    let mut chunk_bytes = 0;
    let mut add = |chunk: &mut Vec<String>, stats: &mut TrainingText| {
        let counted: Vec<Counts> = chunk
            .par_chunks(chunk.len().div_ceil(4 * rayon::current_num_threads()).max(1))
            .map(|texts| {
                let mut counts = Counts::new();
                for text in texts {
                    let mut words = words(text, config.isolate_spaces);
                    if config.join_structure {
                        words = join_structure(&words);
                    }
                    words.into_iter().for_each(|word| *counts.entry(word).or_default() += 1);
                }
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
                stats.dropped_occurrences += if *count <= rare { *count } else { 0 };
                *count > rare
            });
            rare *= 2;
        }
        stats.words = all.len();
    };
    for text in texts {
        let text = text?;
        stats.texts += 1;
        stats.bytes += text.as_ref().len();
        chunk_bytes += text.as_ref().len();
        chunk.push(text.as_ref().to_owned());
        if chunk_bytes >= CHUNK_BYTES {
            add(&mut chunk, &mut stats);
            chunk_bytes = 0;
        }
    }
    add(&mut chunk, &mut stats);
    Ok((all, stats))
}

/// Splits the words at all characters but the `most` most common ones (and `▁`). The others fall
/// back to bytes, because a vocabulary with thousands of rare characters would have no room for
/// words. SentencePiece drops the rarest 0.05 % of occurrences.
fn without_rare_characters(words: Counts, most: usize) -> Counts {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in &words {
        word.chars().for_each(|c| *counts.entry(c).or_default() += count);
    }
    if counts.len() <= most {
        return words;
    }
    let mut by_count: Vec<(char, u64)> = counts.into_iter().collect();
    // The sort is stable: among equally common characters, the first in Unicode stay.
    by_count.sort_by_key(|(c, count)| (*c != SPACE, std::cmp::Reverse(*count)));
    let kept: AHashSet<char> = by_count.into_iter().take(most.max(1)).map(|(c, _)| c).collect();
    let mut cut = Counts::new();
    for (word, count) in words {
        for part in word.split(|c| !kept.contains(&c)).filter(|part| !part.is_empty()) {
            *cut.entry(part.into()).or_default() += count;
        }
    }
    cut
}

/// Class of a character. Only characters of the same class may share a piece.
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

/// Splits a text into the strings inside which training may merge; `▁` stays in front of its word
/// unless `isolate_spaces`.
fn words(text: &str, isolate_spaces: bool) -> Vec<CompactString> {
    let mut words = Vec::new();
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
            words.push(std::mem::take(&mut word));
            chars = 0;
        }
        word.push(c);
        chars += 1;
        previous = Some(now);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Joins punctuation, schema words and punctuation into one word: `":{"` + `type` + `":"` +
/// `string` + `","`.
fn join_structure(words: &[CompactString]) -> Vec<CompactString> {
    // JSON punctuation contains a quote, except around `true`, `false` and `null`, where it follows
    // punctuation that does.
    let is_sign = |word: &str| word.chars().all(|c| "{}[]\",:.!?".contains(c));
    let mut joined: Vec<CompactString> = Vec::with_capacity(words.len());
    let mut at = 0;
    while let Some(first) = words.get(at) {
        let mut word = first.clone();
        at += 1;
        if is_sign(&word) && word.contains('"') {
            while let [name, sign, ..] = &words[at..]
                && SCHEMA_WORDS.contains(&name.as_str())
                && is_sign(sign)
                && word.len() + name.len() + sign.len() <= MAX_WORD_CHARS
            {
                word.push_str(name);
                word.push_str(sign);
                at += 2;
            }
        }
        joined.push(word);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_characters_fall_back_to_bytes_and_leave_room_for_words() {
        let common = "set a timer for ten minutes ".repeat(50);
        let rare: String = ('\u{4e00}'..'\u{4e80}').collect();
        let config = TokenizerConfig { vocab_size: 262 + 60, isolate_spaces: false, join_structure: false };
        let train = |texts: [&str; 2]| Tokenizer::train(&config, texts.iter()).unwrap();
        let tokenizer = train([&common, &rare]);
        assert_eq!(tokenizer.to_json(), train([&rare, &common]).to_json(), "whatever the order");
        assert_eq!(tokenizer.encode("timer").len(), 1);
        assert_eq!(tokenizer.decode(&tokenizer.encode("a 一 b")), "a 一 b");
        assert!(tokenizer.encode(&rare).len() > 2 * 128, "most of them by bytes");
    }

    #[test]
    fn endless_words_cost_no_more_than_their_length() {
        let endless = "x".repeat(3 << 20);
        let config = TokenizerConfig { vocab_size: 300, isolate_spaces: false, join_structure: false };
        let (tokenizer, stats) = Tokenizer::train_from(&config, [Ok(endless.as_str())].into_iter()).unwrap();
        assert!(stats.words < 5 && tokenizer.encode(&endless).len() < endless.len() / 4);
    }

    #[test]
    fn the_json_around_names_and_values_becomes_single_pieces_and_words_stay_what_they_are() {
        let tool = |name: &str| {
            format!(r#"[{{"name":"get_{name}","parameters":{{"{name}":{{"type":"string","required":false}}}}}}]"#)
        };
        let texts: Vec<String> =
            ["rain", "snow", "type", "wind"].iter().flat_map(|n| [tool(n), format!("a name for {n}")]).collect();
        let config = TokenizerConfig { vocab_size: 600, isolate_spaces: true, join_structure: true };
        let tokenizer = Tokenizer::train(&config, texts.iter().cycle().take(5 * texts.len())).unwrap();
        let pieces = |text: &str| -> Vec<String> {
            tokenizer.encode(text).iter().map(|&id| tokenizer.piece(id).unwrap().to_owned()).collect()
        };
        let snow = [
            "▁",
            "[{\"name\":\"",
            "get",
            "_",
            "snow",
            "\",\"parameters\":{\"",
            "snow",
            "\":{\"type\":\"string\",\"required\":false}}}]",
        ];
        assert_eq!(pieces(&tool("snow")), snow);
        assert_eq!(pieces("a name for snow"), ["▁", "a", "▁", "name", "▁", "for", "▁", "snow"]);
        assert_eq!(tokenizer.decode(&tokenizer.encode(&tool("type"))), tool("type"));
    }
}
