//! Byte-pair encoding with SentencePiece semantics, on the `tokenizers` crate.
//!
//! SentencePiece (<https://arxiv.org/abs/1808.06226>) treats a text as one string with `▁` for each space and one `▁` in
//! front, collapses runs of spaces, and merges the adjacent pair whose union has the best score until none is left. The
//! score is the order in which training found the pieces, so a file of pieces in order is the whole model; the merge list
//! that `tokenizer.json` needs is derived from it (every split of every piece, best piece first). Characters outside the
//! vocabulary fall back to their UTF-8 bytes.
//!
//! Layout of the ids, as the published model has it: specials 0-5, the 256 bytes, merged pieces best first, characters.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::tokenizer::Trainer;

use crate::error::DataError;

/// Padding.
pub const PAD_ID: u32 = 0;
/// End of the answer; also what the decoder starts from.
pub const EOS_ID: u32 = 1;
/// Beginning of a sequence; reserved, as in the original.
pub const BOS_ID: u32 = 2;
/// Unknown piece; never met, since bytes stand in for unknown characters.
pub const UNK_ID: u32 = 3;
/// First token of every tool-call answer.
pub const TOOL_CALL_ID: u32 = 4;
/// Separates the query from the tools.
pub const TOOLS_ID: u32 = 5;

const SPECIAL_PIECES: [&str; 6] = ["<pad>", "</s>", "<s>", "<unk>", "<tool_call>", "<tools>"];
const NUM_SPECIAL: usize = SPECIAL_PIECES.len();
const FIRST_BYTE_ID: usize = NUM_SPECIAL;
const FIRST_MERGED_ID: usize = NUM_SPECIAL + 256;
/// SentencePiece's own default.
const MAX_PIECE_CHARS: usize = 16;
const SPACE: char = '▁';

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

/// Text to ids and back.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pieces: Vec<String>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish()
    }
}

impl Tokenizer {
    /// Trains on `texts`. The same texts in the same order give the same tokenizer.
    ///
    /// Pieces join letters with letters, digits with nothing, and other signs with each other, so that a value keeps its
    /// ids whatever stands around it.
    ///
    /// # Errors
    /// If there is no text, or `vocab_size` leaves no room for its characters.
    pub fn train<S: AsRef<str> + Send>(
        config: &TokenizerConfig,
        texts: impl Iterator<Item = S> + Send,
    ) -> Result<Self, DataError> {
        let error = |reason: String| DataError::Tokenizer { path: None, reason };
        let mut trainer = BpeTrainer::builder()
            .vocab_size(config.vocab_size.saturating_sub(FIRST_MERGED_ID))
            // A pair seen once teaches nothing.
            .min_frequency(2)
            .max_token_length(Some(MAX_PIECE_CHARS))
            .show_progress(false)
            .build();
        let isolate = config.isolate_spaces;
        trainer.feed(texts, |text| Ok(pre_tokenize(text, isolate))).map_err(|e| error(e.to_string()))?;
        let mut model = BPE::default();
        trainer.train(&mut model).map_err(|e| error(e.to_string()))?;

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
        Self::from_pieces(merged.chain(characters).collect())
    }

    /// Builds the tokenizer whose pieces after the specials and bytes are `learned`, best first.
    fn from_pieces(learned: Vec<String>) -> Result<Self, DataError> {
        let bytes = (0..=255u8).map(|b| format!("<0x{b:02X}>"));
        let pieces: Vec<String> = SPECIAL_PIECES.iter().map(|s| (*s).to_owned()).chain(bytes).chain(learned).collect();
        let vocab: HashMap<&str, usize> = pieces.iter().enumerate().map(|(id, p)| (p.as_str(), id)).collect();
        let merges: Vec<[&str; 2]> = pieces[FIRST_MERGED_ID..]
            .iter()
            .flat_map(|piece| piece.char_indices().skip(1).map(|(cut, _)| piece.split_at(cut)))
            .filter(|(left, right)| vocab.contains_key(left) && vocab.contains_key(right))
            .map(|(left, right)| [left, right])
            .collect();
        let added = |id: u32| {
            json!({"id": id, "content": SPECIAL_PIECES[id as usize], "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        };
        let ordered: serde_json::Map<String, Value> =
            pieces.iter().enumerate().map(|(id, p)| (p.clone(), id.into())).collect();
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null,
            // Only the two markers can be written in a text; the control pieces have no spelling.
            "added_tokens": [added(TOOL_CALL_ID), added(TOOLS_ID)],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ]},
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},
            "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ]},
            "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                      "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                      "vocab": ordered, "merges": merges},
        });
        Self::from_json(&file.to_string(), None)
    }

    fn from_json(text: &str, path: Option<&Path>) -> Result<Self, DataError> {
        let error = |reason: String| DataError::Tokenizer { path: path.map(Path::to_owned), reason };
        let inner: tokenizers::Tokenizer = text.parse().map_err(|e: tokenizers::Error| error(e.to_string()))?;
        let size = inner.get_vocab_size(true);
        let pieces = (0..size as u32)
            .map(|id| inner.id_to_token(id).ok_or_else(|| error(format!("no piece has id {id} of {size}"))))
            .collect::<Result<Vec<_>, _>>()?;
        for (id, piece) in SPECIAL_PIECES.iter().enumerate() {
            if pieces.get(id).is_none_or(|p| p != piece) {
                return Err(error(format!("id {id} must be {piece:?}, is {:?}", pieces.get(id))));
            }
        }
        Ok(Self { inner, pieces })
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// If the file cannot be read, is not a tokenizer, or has other special ids than 0-5.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| DataError::io(path, e))?;
        Self::from_json(&text, Some(path))
    }

    /// The contents of a `tokenizer.json`, which [`Tokenizer::load`] and Hugging Face's `tokenizers` read.
    pub fn to_json(&self) -> String {
        #[expect(clippy::expect_used, reason = "a tokenizer that was parsed from JSON can be written as JSON")]
        self.inner.to_string(true).expect("serializable")
    }

    /// Writes a `tokenizer.json`, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), DataError> {
        let path = path.as_ref();
        crate::source::write_atomically(path, self.to_json().as_bytes())
    }

    /// Number of ids.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The piece of `id`, with `▁` for a space and `<0xNN>` for a byte.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize).map(String::as_str)
    }

    /// The bytes that `id` stands for in a text; none for specials.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        match id as usize {
            0..NUM_SPECIAL => Vec::new(),
            byte @ FIRST_BYTE_ID..FIRST_MERGED_ID => vec![(byte - FIRST_BYTE_ID) as u8],
            learned => self.pieces.get(learned).map(|p| p.replace(SPACE, " ").into_bytes()).unwrap_or_default(),
        }
    }

    /// SentencePiece's score of `id`: 0 for specials and bytes, then falling by 1 a piece.
    pub fn score(&self, id: u32) -> f32 {
        -((id as usize).saturating_sub(FIRST_MERGED_ID) as f32)
    }

    /// The ids of `text`. `<tools>` and `<tool_call>` in it become their special ids, as in the original.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_with_spans(text).0
    }

    /// The ids of `text` and, for each, the range of bytes of `text` that it covers (empty for the space in front).
    pub fn encode_with_spans(&self, text: &str) -> (Vec<u32>, Vec<Range<usize>>) {
        #[expect(clippy::expect_used, reason = "with byte fallback every text has ids")]
        let encoding = self.inner.encode(text, false).expect("encodable");
        let spans = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        (encoding.get_ids().to_vec(), spans)
    }

    /// The text of `ids`: specials are left out, bytes that are not UTF-8 become U+FFFD, the space in front goes.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.token_bytes(id)).collect();
        let text = String::from_utf8_lossy(&bytes);
        text.strip_prefix(' ').unwrap_or(&text).to_owned()
    }
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
fn pre_tokenize(text: &str, isolate_spaces: bool) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous = None;
    let spaced = std::iter::once(SPACE).chain(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
    for c in spaced {
        let now = script(c);
        let joins = match previous {
            None => false,
            Some(Script::Space) => now != Script::Space && !isolate_spaces,
            Some(before) => now == before && now != Script::Digit && now != Script::Space,
        };
        match words.last_mut() {
            Some(word) if joins => word.push(c),
            _ => words.push(c.to_string()),
        }
        previous = Some(now);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn small(isolate_spaces: bool) -> Tokenizer {
        let texts = [
            "set a timer for ten minutes",
            r#"[{"name":"set_timer","arguments":{"minutes":10}}]"#,
            "turn the timer off",
        ];
        let config = TokenizerConfig { vocab_size: 330, isolate_spaces };
        Tokenizer::train(&config, texts.iter().cycle().take(30)).unwrap()
    }

    #[test]
    fn special_ids_are_where_the_published_model_has_them() {
        let tokenizer = small(true);
        assert!(tokenizer.vocab_size() <= 330);
        let specials = [PAD_ID, EOS_ID, BOS_ID, UNK_ID, TOOL_CALL_ID, TOOLS_ID];
        let pieces: Vec<_> = specials.iter().map(|&id| tokenizer.piece(id).unwrap()).collect();
        assert_eq!(pieces, SPECIAL_PIECES);
        assert_eq!(tokenizer.piece(6), Some("<0x00>"));
        assert_eq!(tokenizer.encode("a <tools> b").iter().filter(|&&id| id == TOOLS_ID).count(), 1);
        assert!(
            !tokenizer.encode("<pad> </s> <unk>").iter().any(|&id| id <= UNK_ID),
            "control pieces have no spelling"
        );
    }

    #[test]
    fn a_word_has_the_same_ids_in_the_query_and_in_the_answer() {
        let tokenizer = small(true);
        let in_query = tokenizer.encode("timer");
        let in_answer = tokenizer.encode("\"timer\"");
        assert!(in_answer.windows(in_query.len() - 1).any(|w| w == &in_query[1..]), "{in_query:?} in {in_answer:?}");
    }

    #[test]
    fn training_twice_gives_the_same_file_and_loading_it_the_same_ids() {
        let tokenizer = small(false);
        assert_eq!(tokenizer.to_json(), small(false).to_json());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        tokenizer.save(&path).unwrap();
        let loaded = Tokenizer::load(&path).unwrap();
        assert_eq!(loaded.encode("set a timer off"), tokenizer.encode("set a timer off"));
    }

    #[test]
    fn unusable_input_is_refused() {
        let config = TokenizerConfig { vocab_size: 270, isolate_spaces: true };
        assert!(Tokenizer::train(&config, ["abcdefghijklmnop"].iter()).is_err(), "no room for the characters");
        assert!(Tokenizer::train(&config, std::iter::empty::<&str>()).is_err(), "no text");
        assert!(Tokenizer::from_json("{}", None).is_err());
    }

    #[test]
    fn spans_point_into_the_original_text() {
        let tokenizer = small(true);
        let text = "set  é timer";
        let (ids, spans) = tokenizer.encode_with_spans(text);
        assert_eq!(ids.len(), spans.len());
        let last = spans.last().unwrap();
        assert!(text[last.clone()].ends_with("timer") || "timer".ends_with(&text[last.clone()]));
    }

    proptest! {
        /// Runs of spaces collapse and outer spaces go; everything else, any Unicode included, comes back.
        #[test]
        fn decoding_gives_the_text_back(text in "\\PC{0,40}") {
            prop_assume!(!text.contains("<tool") && !text.contains('▁'));
            let tokenizer = small(true);
            let collapsed = text.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), collapsed);
        }
    }
}
