//! Shards of tokenized, packed rows, read through a memory map: text is tokenized once and trained
//! on many times.
//!
//! ```text
//! 0    magic "NEEDLEPK", format version u32, length of the header u32
//! 16   header: JSON, see [`Header`]; then zeros to a multiple of 64
//!      rows       per row: index of its first example u32, then one more with the number of examples
//!      row_sizes  per row: index into the header's `row_sizes` u8; then zeros to a multiple of 64
//!      examples   per example, 48 bytes: offset of its tokens u64, offset of its classes u64, length of the encoder's
//!                 input u32, of the target u32, of the query u32, of the tool u32, name key u64, content key u64
//!      tokens     u16: per example the encoder's input, the target, the tool alone
//!      classes    u8: per example the class of each target
//! ```
//!
//! Little-endian. The header holds the tokenizer's hash, so that ids are never read with another
//! one. Opening a shard checks every length and offset; reading a row checks every id and class; no
//! size in a file is used for an allocation before it is checked.
//!
//! The file `index.json` beside the shards lists all of them with their lengths. It is written
//! last: a directory without it is incomplete and is not read.

mod index;
mod reader;
mod writer;

use serde::{Deserialize, Serialize};

pub(crate) use index::check_complete;
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

/// Metadata of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`crate::Tokenizer::sha256`].
    pub tokenizer_sha256: String,
    /// Number of ids.
    pub vocab_size: usize,
    /// The sizes that a row can have.
    pub row_sizes: Vec<RowSize>,
    /// Number of rows.
    pub num_rows: usize,
    /// Number of examples.
    pub num_examples: usize,
    /// Number of tokens: of encoder inputs, of targets and of tools alone.
    pub num_tokens: usize,
    /// Number of targets.
    pub num_targets: usize,
    /// SHA-256 of everything after the header.
    pub body_sha256: String,
}

/// Byte offset of each part of a file.
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
    /// `None` if the sizes in `header` overflow.
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
    /// Its capacity.
    pub size: RowSize,
    /// The examples in it.
    pub examples: Vec<EncodedExample>,
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::encode::{PairKey, RetrievalPair};
    use crate::text::token_class::TokenClass;
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

    /// The state that a process leaves when it is killed after its second shard, in the middle of
    /// the third.
    fn killed(root: &std::path::Path) -> std::path::PathBuf {
        let alive = root.join("alive");
        let mut writer = PackedWriter::new(&alive, &tokenizer("set a timer"), &[SIZE]).unwrap();
        writer.tokens_per_shard = 1;
        rows().iter().for_each(|row| writer.push(row).unwrap());
        std::fs::write(alive.join(".needle-writing-4xy"), b"half a shard").unwrap();
        let left = root.join("left");
        std::fs::create_dir(&left).unwrap();
        for entry in std::fs::read_dir(&alive).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), left.join(entry.file_name())).unwrap();
        }
        let busy = PackedWriter::new(&alive, &tokenizer("set a timer"), &[SIZE]).err().unwrap().to_string();
        assert!(busy.contains("another `needle data pack` is writing here"), "{busy}");
        let reading = crate::source::expand(&[&alive]).unwrap_err().to_string();
        assert!(reading.contains("still writing"), "{reading}");
        drop(writer);
        assert!(!alive.exists(), "a writer that fails removes what it has written");
        left
    }

    #[test]
    fn a_killed_pack_of_several_shards_does_not_pass_for_whole_and_is_begun_anew() {
        let root = tempfile::tempdir().unwrap();
        let dir = killed(root.path());
        for named in [dir.clone(), dir.join("00000.packed"), dir.join("*.packed")] {
            let error = crate::source::expand(&[&named]).unwrap_err().to_string();
            assert!(error.contains("interrupted before it had written all shards"), "{error}");
        }
        let mut writer = PackedWriter::new(&dir, &tokenizer("set a timer"), &[SIZE]).unwrap();
        writer.push(&rows()[0]).unwrap();
        assert_eq!(writer.finish().unwrap().shards, 1);
        let names: Vec<String> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        assert_eq!(names, ["00000.packed", "index.json"], "the killed one's second shard and half a third are gone");
        assert_eq!(crate::source::expand(&[&dir]).unwrap().len(), 1);
    }

    #[test]
    fn shards_that_are_missing_cut_short_or_strange_are_errors() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("packed");
        let mut writer = PackedWriter::new(&dir, &tokenizer("set a timer"), &[SIZE]).unwrap();
        writer.tokens_per_shard = 1;
        rows().iter().for_each(|row| writer.push(row).unwrap());
        assert_eq!(writer.finish().unwrap().shards, 2);
        let error = |named: &std::path::Path| crate::source::expand(&[named]).unwrap_err().to_string();
        assert_eq!(crate::source::expand(&[dir.join("00001.packed")]).unwrap().len(), 1, "one of them may be named");
        let second = std::fs::read(dir.join("00001.packed")).unwrap();
        std::fs::write(dir.join("00002.packed"), &second).unwrap();
        assert!(error(&dir).contains("not among the shards"), "{}", error(&dir));
        std::fs::remove_file(dir.join("00002.packed")).unwrap();
        std::fs::write(dir.join("00001.packed"), &second[..second.len() - 1]).unwrap();
        assert!(error(&dir.join("00000.packed")).contains("00001.packed has"), "{}", error(&dir));
        std::fs::remove_file(dir.join("00001.packed")).unwrap();
        assert!(error(&dir).contains("00001.packed is missing"), "{}", error(&dir));
        std::fs::remove_file(dir.join("index.json")).unwrap();
        assert!(error(&dir).contains("no index.json"), "{}", error(&dir));
        let other = PackedWriter::new(&dir, &tokenizer("set a timer"), &[SIZE]).err().unwrap().to_string();
        assert!(other.contains("holds packed shards already"), "what was not left by a kill is not removed: {other}");
        assert!(dir.join("00000.packed").exists());
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
        /// Whatever happens to the bytes, reading gives an error or rows of valid ids; it never
        /// panics.
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
