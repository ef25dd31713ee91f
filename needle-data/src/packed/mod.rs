//! Shards of tokenized, packed rows, read through a memory map: text is tokenized once and trained on many times.
//!
//! ```text
//! 0    magic "NEEDLEPK", format version u32, length of the header u32
//! 16   header: JSON, see [`Header`]; then zeros to a multiple of 64
//!      rows       per row: index of its first example u32, then one more with the number of examples
//!      row_sizes  per row: index into the header's `row_sizes` u8; then zeros to a multiple of 64
//!      examples   per example, 48 bytes: place of its tokens u64, place of its classes u64, length of what the encoder
//!                 reads u32, of the target u32, of the query u32, of the tool u32, name key u64, content key u64
//!      tokens     u16: per example what the encoder reads, the target, the tool alone
//!      classes    u8: per example the class of each target
//! ```
//!
//! Little-endian. The header names the tokenizer by its hash, so that ids are never read with another one. Opening checks
//! every length and place; reading checks every id and class; nothing that a file claims is allocated before it is checked.

mod reader;
mod writer;

use serde::{Deserialize, Serialize};

pub use reader::PackedShard;
pub use writer::{PackedWriter, Totals};

use crate::batching::pack::RowSize;
use crate::encode::EncodedExample;

const MAGIC: &[u8; 8] = b"NEEDLEPK";
const VERSION: u32 = 1;
const EXAMPLE_BYTES: usize = 48;
const ALIGNMENT: usize = 64;
/// Extension of packed shards.
pub const EXTENSION: &str = "packed";

/// What a shard says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`crate::Tokenizer::sha256`].
    pub tokenizer_sha256: String,
    /// Number of ids.
    pub vocab_size: usize,
    /// The sizes that rows have.
    pub row_sizes: Vec<RowSize>,
    /// Rows.
    pub num_rows: usize,
    /// Examples.
    pub num_examples: usize,
    /// Tokens of the encoder's and the decoder's sides and of tools alone.
    pub num_tokens: usize,
    /// Targets.
    pub num_targets: usize,
    /// SHA-256 of everything after the header.
    pub body_sha256: String,
}

/// Where each part of a file begins.
#[derive(Debug, Clone, Copy)]
struct Layout {
    rows: usize,
    row_sizes: usize,
    examples: usize,
    tokens: usize,
    classes: usize,
    end: usize,
}

impl Layout {
    /// None if the numbers of `header` overflow.
    fn new(header_len: usize, header: &Header) -> Option<Self> {
        let aligned = |at: usize| at.checked_next_multiple_of(ALIGNMENT);
        let rows = aligned(header_len.checked_add(16)?)?;
        let row_sizes = rows.checked_add(header.num_rows.checked_add(1)?.checked_mul(4)?)?;
        let examples = aligned(row_sizes.checked_add(header.num_rows)?)?;
        let tokens = examples.checked_add(header.num_examples.checked_mul(EXAMPLE_BYTES)?)?;
        let classes = tokens.checked_add(header.num_tokens.checked_mul(2)?)?;
        Some(Self { rows, row_sizes, examples, tokens, classes, end: classes.checked_add(header.num_targets)? })
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedRow {
    /// Its room.
    pub size: RowSize,
    /// What stands in it.
    pub examples: Vec<EncodedExample>,
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::encode::{PairKey, RetrievalPair, TokenClass};
    use crate::tokenizer::Tokenizer;
    use crate::tokenizer::TokenizerConfig;
    use proptest::prelude::*;

    fn tokenizer(text: &str) -> Tokenizer {
        Tokenizer::train(
            &TokenizerConfig { vocab_size: 300, isolate_spaces: true, join_structure: false },
            [text; 3].iter(),
        )
        .unwrap()
    }

    fn example(length: usize, has_tool: bool) -> EncodedExample {
        let ids = |n: usize| (0..n as u32).map(|i| 4 + i % 200).collect::<Vec<_>>();
        EncodedExample {
            enc_ids: ids(2 * length),
            dec_target: ids(length),
            dec_classes: vec![TokenClass::Key; length],
            retrieval: has_tool.then(|| RetrievalPair {
                key: PairKey { name: 7, content: NonZeroU64::new(9) },
                query_len: length,
                tool_ids: ids(3),
            }),
            cut_tokens: 0,
        }
    }

    const SIZE: RowSize = RowSize { enc: 64, dec: 32 };

    fn rows() -> Vec<PackedRow> {
        let row = |examples| PackedRow { size: SIZE, examples };
        vec![row(vec![example(5, true), example(9, false)]), row(vec![example(30, true)])]
    }

    fn shard() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = PackedWriter::new(dir.path(), &tokenizer("set a timer"), &[SIZE]).unwrap();
        rows().iter().for_each(|row| writer.push(row).unwrap());
        writer.take_shard()
    }

    #[test]
    fn rows_come_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer("set a timer");
        let mut writer = PackedWriter::new(dir.path(), &tokenizer, &[SIZE]).unwrap();
        rows().iter().for_each(|row| writer.push(row).unwrap());
        let totals = writer.finish().unwrap();
        assert_eq!((totals.shards, totals.rows, totals.examples), (1, 2, 3));
        let shard = PackedShard::open(&dir.path().join("00000.packed"), &tokenizer).unwrap();
        let read: Vec<PackedRow> = (0..shard.num_rows()).map(|i| shard.row(i).unwrap()).collect();
        assert_eq!(read, rows());
        shard.verify().unwrap();
        assert!(PackedWriter::new(dir.path(), &tokenizer, &[SIZE]).is_err(), "shards are never written over");
    }

    #[test]
    fn another_tokenizer_or_version_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.packed");
        std::fs::write(&path, shard()).unwrap();
        let error = PackedShard::open(&path, &tokenizer("another text")).unwrap_err().to_string();
        assert!(error.contains("another tokenizer"), "{error}");
        let mut newer = shard();
        newer[8] = 2;
        let error = PackedShard::from_bytes(newer).unwrap_err().to_string();
        assert!(error.contains("version 2"), "{error}");
    }

    #[test]
    fn a_shard_truncated_anywhere_is_an_error() {
        let whole = shard();
        for length in 0..whole.len() {
            assert!(PackedShard::from_bytes(whole[..length].to_vec()).is_err(), "{length} of {} bytes", whole.len());
        }
    }

    proptest! {
        /// Whatever happens to the bytes, reading gives an error or rows of valid ids; it never panics.
        #[test]
        fn a_damaged_shard_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = shard();
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(shard) = PackedShard::from_bytes(bytes) {
                for row in 0..shard.num_rows() {
                    if let Ok(row) = shard.row(row) {
                        for example in row.examples {
                            prop_assert!(example.enc_ids.iter().all(|&id| (id as usize) < shard.header().vocab_size));
                        }
                    }
                }
            }
        }
    }
}
