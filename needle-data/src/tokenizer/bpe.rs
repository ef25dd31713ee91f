//! Encodes text by SentencePiece's rule for byte-pair encoding, exactly and fast.
//!
//! The rule (Kudo and Richardson 2018, `bpe_model.cc`): of all adjacent pairs of symbols whose
//! union is a piece, merge the one with the best score, the leftmost among equals, until none is
//! left. Pieces are ordered by score, so the score of a merge is the id of the merged piece.
//! Characters that are not a piece become their UTF-8 bytes.
//!
//! Two observations make it fast without changing the result:
//! - if no piece contains two given characters side by side, no merge can cross the gap between
//!   them, so the text splits into short chunks that are encoded separately;
//! - chunks repeat, so each thread caches those that it has encoded.
//!
//! Inside this file a space stands for `▁`: one byte instead of three.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use rustc_hash::{FxHashMap, FxHashSet};
use thread_local::ThreadLocal;

/// Chunks longer than this are not cached: they hardly repeat.
const MAX_CACHED_BYTES: usize = 48;
/// Number of cached chunks at which a thread clears its cache: a few megabytes.
const MAX_CACHED_CHUNKS: usize = 1 << 16;

/// The merge engine of one vocabulary.
#[derive(Debug, Default)]
pub(super) struct Bpe {
    /// Symbol of each character that occurs in a piece; those that are not a piece themselves have
    /// symbols past the last id.
    symbols: FxHashMap<char, u32>,
    /// The symbol that two adjacent symbols merge into.
    merges: FxHashMap<(u32, u32), u32>,
    /// Whether ASCII character `b` may follow `a` inside a piece: bit `b` of `ascii_joins[a]`.
    ascii_joins: Vec<u128>,
    /// The same for pairs with another character.
    other_joins: FxHashSet<(char, char)>,
    /// Texts that are always a single id, longest first.
    whole: Vec<(String, u32)>,
    vocab_size: u32,
    first_byte_id: u32,
    caches: ThreadLocal<RefCell<Cache>>,
}

#[derive(Debug, Default)]
struct Cache {
    chunks: FxHashMap<Box<str>, Range<usize>>,
    ids: Vec<u32>,
}

impl Bpe {
    /// `learned` are the pieces from id `first_id` on, `whole` the texts that are never split, and
    /// `first_byte_id` is the id of byte 0.
    pub(super) fn new<'a>(
        learned: impl Iterator<Item = &'a str> + Clone,
        first_id: u32,
        whole: &[(&str, u32)],
        first_byte_id: u32,
    ) -> Self {
        let vocab_size = first_id + learned.clone().count() as u32;
        let mut bpe = Self { vocab_size, first_byte_id, ascii_joins: vec![0; 128], ..Self::default() };
        bpe.whole = whole.iter().map(|(text, id)| ((*text).to_owned(), *id)).collect();
        bpe.whole.sort_by_key(|(text, _)| Reverse(text.len()));

        let spaced: Vec<String> = learned.map(|piece| piece.replace(super::SPACE, " ")).collect();
        let ids: FxHashMap<&str, u32> = spaced.iter().zip(first_id..).map(|(piece, id)| (piece.as_str(), id)).collect();
        let mut unnamed = vocab_size;
        for piece in &spaced {
            for c in piece.chars() {
                bpe.symbols.entry(c).or_insert_with(|| {
                    ids.get(c.encode_utf8(&mut [0; 4]) as &str).copied().unwrap_or_else(|| {
                        unnamed += 1;
                        unnamed - 1
                    })
                });
            }
            for (a, b) in piece.chars().zip(piece.chars().skip(1)) {
                match (u32::from(a), u32::from(b)) {
                    (a @ 0..128, b @ 0..128) => bpe.ascii_joins[a as usize] |= 1 << b,
                    _ => _ = bpe.other_joins.insert((a, b)),
                }
            }
        }
        let symbol = |part: &str| {
            let mut chars = part.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => bpe.symbols.get(&c).copied(),
                _ => ids.get(part).copied(),
            }
        };
        let mut merges = FxHashMap::default();
        for piece in &spaced {
            for (left, right) in piece.char_indices().skip(1).map(|(cut, _)| piece.split_at(cut)) {
                if let (Some(left), Some(right)) = (symbol(left), symbol(right)) {
                    merges.insert((left, right), ids[piece.as_str()]);
                }
            }
        }
        bpe.merges = merges;
        bpe
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let normalized = normalize(text);
        let mut cache = self.caches.get_or_default().borrow_mut();
        let mut start = 0;
        for (at, _) in normalized.match_indices('<') {
            if at < start {
                continue;
            }
            if let Some((whole, id)) = self.whole.iter().find(|(whole, _)| normalized[at..].starts_with(whole)) {
                self.encode_plain(&normalized[start..at], &mut cache, out);
                out.push(*id);
                start = at + whole.len();
            }
        }
        self.encode_plain(&normalized[start..], &mut cache, out);
    }

    /// Splits `text` where no piece joins two characters, and encodes it chunk by chunk.
    fn encode_plain(&self, text: &str, cache: &mut Cache, out: &mut Vec<u32>) {
        let bytes = text.as_bytes();
        let mut start = 0;
        let mut at = 0;
        while start < text.len() {
            // `at` is the first byte of a character; move to the first gap after it.
            loop {
                let (a, b) = (bytes[at], bytes.get(at + 1).copied());
                let joins = match (a, b) {
                    (0..128, None) => false,
                    (0..128, Some(b @ 0..128)) => self.ascii_joins[usize::from(a)] >> b & 1 == 1,
                    _ => {
                        let mut chars = text[at..].chars();
                        let a = chars.next().unwrap_or_default();
                        at += a.len_utf8() - 1;
                        chars.next().is_some_and(|b| self.other_joins.contains(&(a, b)))
                    }
                };
                at += 1;
                if !joins {
                    break;
                }
            }
            self.encode_chunk(&text[start..at], cache, out);
            start = at;
        }
    }

    fn encode_chunk(&self, chunk: &str, cache: &mut Cache, out: &mut Vec<u32>) {
        if let Some(known) = cache.chunks.get(chunk) {
            out.extend_from_slice(&cache.ids[known.clone()]);
            return;
        }
        let before = out.len();
        self.merge(chunk, out);
        if chunk.len() <= MAX_CACHED_BYTES {
            if cache.chunks.len() >= MAX_CACHED_CHUNKS {
                *cache = Cache::default();
            }
            let from = cache.ids.len();
            cache.ids.extend_from_slice(&out[before..]);
            cache.chunks.insert(chunk.into(), from..cache.ids.len());
        }
    }

    /// Applies the rule to one chunk, with a queue of candidate merges over a linked list of
    /// symbols.
    fn merge(&self, chunk: &str, out: &mut Vec<u32>) {
        const NONE: usize = usize::MAX;
        const GONE: u32 = u32::MAX;
        struct Symbol {
            id: u32,
            from: usize,
            previous: usize,
            next: usize,
        }
        let unknown = u32::MAX - 1;
        let mut list: Vec<Symbol> = chunk
            .char_indices()
            .enumerate()
            .map(|(i, (from, c))| Symbol {
                id: self.symbols.get(&c).copied().unwrap_or(unknown),
                from,
                previous: i.wrapping_sub(1),
                next: i + 1,
            })
            .collect();
        if let Some(last) = list.last_mut() {
            last.next = NONE;
        }
        // Smallest first: by the id of the merged piece, then by position. The ids of both symbols
        // show whether the candidate is still valid.
        let mut queue = BinaryHeap::new();
        let propose = |list: &[Symbol], queue: &mut BinaryHeap<_>, left: usize| {
            let right = list[left].next;
            if right != NONE
                && let Some(&made) = self.merges.get(&(list[left].id, list[right].id))
            {
                queue.push(Reverse((made, left, list[left].id, right, list[right].id)));
            }
        };
        for left in 0..list.len() {
            propose(&list, &mut queue, left);
        }
        while let Some(Reverse((made, left, left_id, right, right_id))) = queue.pop() {
            if list[left].id != left_id || list[left].next != right || list[right].id != right_id {
                continue;
            }
            let after = list[right].next;
            list[right].id = GONE;
            list[left].id = made;
            list[left].next = after;
            if after != NONE {
                list[after].previous = left;
            }
            if list[left].previous != NONE {
                propose(&list, &mut queue, list[left].previous);
            }
            propose(&list, &mut queue, left);
        }
        for symbol in list.iter().filter(|s| s.id != GONE) {
            if symbol.id < self.vocab_size {
                out.push(symbol.id);
            } else {
                let end = chunk[symbol.from..].chars().next().map_or(0, char::len_utf8);
                let bytes = &chunk.as_bytes()[symbol.from..symbol.from + end];
                out.extend(bytes.iter().map(|&b| self.first_byte_id + u32::from(b)));
            }
        }
    }
}

/// SentencePiece's identity normalization: outer spaces are removed, runs of spaces collapse, and
/// one space is prepended. A `▁` in the text becomes a space as well, but does not collapse, and is
/// removed at the end of the text.
fn normalize(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        out.push(' ');
        if word.contains(super::SPACE) {
            out.extend(word.chars().map(|c| if c == super::SPACE { ' ' } else { c }));
        } else {
            out.push_str(word);
        }
    }
    out.truncate(out.trim_end_matches(' ').len());
    out
}
