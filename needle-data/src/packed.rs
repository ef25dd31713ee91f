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

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::encode::{EncodedExample, RetrievalPair, TokenClass};
use crate::error::DataError;
use crate::file;
use crate::pack::RowSize;
use crate::tokenizer::Tokenizer;

const MAGIC: &[u8; 8] = b"NEEDLEPK";
const VERSION: u32 = 1;
const EXAMPLE_BYTES: usize = 48;
const ALIGNMENT: usize = 64;
/// Tokens of a shard, after which a writer begins the next: about 80 MB.
const TOKENS_PER_SHARD: usize = 32 << 20;

/// Extension of packed shards.
pub const EXTENSION: &str = "packed";

/// What a shard says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`Tokenizer::sha256`].
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

/// A shard, open for reading.
#[derive(Debug)]
pub struct PackedShard {
    path: PathBuf,
    bytes: Bytes,
    header: Header,
    layout: Layout,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
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

impl PackedShard {
    /// Maps `path` into memory and checks that it is whole.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, has another version, or was made with another tokenizer than `tokenizer`.
    pub fn open(path: &Path, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let shard = Self::open_any(path)?;
        if shard.header.tokenizer_sha256 != tokenizer.sha256() {
            let reason = format!(
                "packed with another tokenizer ({}…) than this one ({}…); pack the text anew with `needle data pack`",
                shard.header.tokenizer_sha256.get(..12).unwrap_or("?"),
                &tokenizer.sha256()[..12]
            );
            return Err(DataError::Packed { path: path.to_owned(), reason });
        }
        Ok(shard)
    }

    /// As [`PackedShard::open`], whatever the tokenizer.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged or has another version.
    pub fn open_any(path: &Path) -> Result<Self, DataError> {
        let file = std::fs::File::open(path).map_err(|e| DataError::io(path, e))?;
        // SAFETY: the map is only read. Should another process cut the file short meanwhile, reading it would end this one
        // with a bus error, as it does for every program that maps files.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| DataError::io(path, e))?;
        Self::new(path, Bytes::Mapped(map))
    }

    /// A shard in memory.
    ///
    /// # Errors
    /// If it is damaged or has another version.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, DataError> {
        Self::new(Path::new("(memory)"), Bytes::Owned(bytes))
    }

    fn new(path: &Path, bytes: Bytes) -> Result<Self, DataError> {
        let bad = |reason: String| DataError::Packed { path: path.to_owned(), reason };
        if bytes.len() < 16 || bytes[..8] != *MAGIC {
            return Err(bad("not a packed shard".into()));
        }
        let version = u32_at(&bytes, 8);
        if version != VERSION {
            return Err(bad(format!("format version {version}; this program reads {VERSION}; pack the text anew")));
        }
        let header_len = u32_at(&bytes, 12) as usize;
        let header =
            bytes.get(16..header_len.saturating_add(16)).ok_or_else(|| bad("truncated in its header".into()))?;
        let header: Header = serde_json::from_slice(header).map_err(|e| bad(format!("unreadable header: {e}")))?;
        let layout = Layout::new(header_len, &header).ok_or_else(|| bad("impossible sizes in its header".into()))?;
        if layout.end != bytes.len() {
            return Err(bad(format!(
                "{} bytes long, its header says {}: truncated or damaged",
                bytes.len(),
                layout.end
            )));
        }
        let shard = Self { path: path.to_owned(), bytes, header, layout };
        shard.check_index().map_err(bad)?;
        Ok(shard)
    }

    /// Every place and length points inside the file, and every row has room for its examples.
    fn check_index(&self) -> Result<(), String> {
        let header = &self.header;
        let sizes = &header.row_sizes;
        if header.num_tokens > 0 && header.vocab_size > 1 << 16 {
            return Err("more ids than two bytes tell apart".into());
        }
        let (mut tokens_at, mut classes_at) = (0, 0);
        for row in 0..header.num_rows {
            let (first, next) = (self.first_example(row), self.first_example(row + 1));
            if (row == 0 && first != 0) || first >= next || next > header.num_examples {
                return Err(format!("row {row} has impossible examples"));
            }
            let size = sizes.get(usize::from(self.bytes[self.layout.row_sizes + row]));
            let size = size.ok_or_else(|| format!("row {row} has an unknown size"))?;
            let (mut enc, mut dec) = (0usize, 0usize);
            for example in first..next {
                let entry = self.entry(example);
                if entry.enc_len == 0 || entry.dec_len == 0 {
                    return Err(format!("example {example} is empty"));
                }
                // In order and without gaps: so nothing overlaps and nothing points outside.
                if entry.tokens_at != tokens_at || entry.classes_at != classes_at || entry.query_len > entry.enc_len {
                    return Err(format!("example {example} has impossible places"));
                }
                tokens_at += (entry.enc_len + entry.dec_len + entry.tool_len) as u64;
                classes_at += entry.dec_len as u64;
                enc += entry.enc_len;
                dec += entry.dec_len;
            }
            if enc > size.enc || dec > size.dec {
                return Err(format!("row {row} has no room for its examples"));
            }
        }
        let last = self.first_example(header.num_rows);
        if last != header.num_examples
            || tokens_at != header.num_tokens as u64
            || classes_at != header.num_targets as u64
        {
            return Err("its index does not cover its contents".into());
        }
        Ok(())
    }

    /// What the file says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.header.num_rows
    }

    /// Reads everything and compares it with the hash in the header.
    ///
    /// # Errors
    /// If a byte has changed since the file was written.
    pub fn verify(&self) -> Result<(), DataError> {
        let hash = hex(&Sha256::digest(&self.bytes[self.layout.rows..]));
        if hash != self.header.body_sha256 {
            return Err(self.bad("its contents have changed since it was written".into()));
        }
        (0..self.num_rows()).try_for_each(|row| self.row(row).map(drop))
    }

    /// Bytes of tokens of a row.
    pub fn row_bytes(&self, row: usize) -> usize {
        let examples = self.first_example(row)..self.first_example(row + 1);
        examples.map(|e| self.entry(e)).map(|e| 2 * (e.enc_len + e.dec_len + e.tool_len)).sum()
    }

    /// Reads a row.
    ///
    /// # Errors
    /// If it holds an id or a class that does not exist.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> Result<PackedRow, DataError> {
        let size = self.header.row_sizes[usize::from(self.bytes[self.layout.row_sizes + row])];
        let examples = self.first_example(row)..self.first_example(row + 1);
        Ok(PackedRow { size, examples: examples.map(|e| self.example(e)).collect::<Result<_, _>>()? })
    }

    fn example(&self, index: usize) -> Result<EncodedExample, DataError> {
        let entry = self.entry(index);
        let tokens = self.layout.tokens + 2 * entry.tokens_at as usize;
        let ids = |from: usize, len: usize| {
            let bytes = &self.bytes[tokens + 2 * from..tokens + 2 * (from + len)];
            let ids: Vec<u32> = bytes.chunks_exact(2).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]]))).collect();
            match ids.iter().max() {
                Some(&id) if id as usize >= self.header.vocab_size => {
                    Err(self.bad(format!("example {index} holds id {id} of {}", self.header.vocab_size)))
                }
                _ => Ok(ids),
            }
        };
        let classes = self.layout.classes + entry.classes_at as usize;
        let classes = self.bytes[classes..classes + entry.dec_len].iter().map(|&class| {
            TokenClass::from_number(class).ok_or_else(|| self.bad(format!("example {index} holds class {class}")))
        });
        let tool_ids = ids(entry.enc_len + entry.dec_len, entry.tool_len)?;
        Ok(EncodedExample {
            enc_ids: ids(0, entry.enc_len)?,
            dec_target: ids(entry.enc_len, entry.dec_len)?,
            dec_classes: classes.collect::<Result<_, _>>()?,
            retrieval: (!tool_ids.is_empty()).then_some(RetrievalPair {
                name_key: entry.name_key,
                content_key: NonZeroU64::new(entry.content_key),
                query_len: entry.query_len,
                tool_ids,
            }),
            cut_tokens: 0,
        })
    }

    fn first_example(&self, row: usize) -> usize {
        u32_at(&self.bytes, self.layout.rows + 4 * row) as usize
    }

    fn entry(&self, index: usize) -> Entry {
        let at = self.layout.examples + index * EXAMPLE_BYTES;
        let bytes = &self.bytes[at..at + EXAMPLE_BYTES];
        Entry {
            tokens_at: u64_at(bytes, 0),
            classes_at: u64_at(bytes, 8),
            enc_len: u32_at(bytes, 16) as usize,
            dec_len: u32_at(bytes, 20) as usize,
            query_len: u32_at(bytes, 24) as usize,
            tool_len: u32_at(bytes, 28) as usize,
            name_key: u64_at(bytes, 32),
            content_key: u64_at(bytes, 40),
        }
    }

    fn bad(&self, reason: String) -> DataError {
        DataError::Packed { path: self.path.clone(), reason }
    }
}

struct Entry {
    tokens_at: u64,
    classes_at: u64,
    enc_len: usize,
    dec_len: usize,
    query_len: usize,
    tool_len: usize,
    name_key: u64,
    content_key: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes rows into as many shards as they need: `00000.packed`, `00001.packed`...
pub struct PackedWriter {
    dir: PathBuf,
    tokenizer_sha256: String,
    vocab_size: usize,
    row_sizes: Vec<RowSize>,
    shards: usize,
    total: Totals,
    rows: Vec<u8>,
    sizes: Vec<u8>,
    examples: Vec<u8>,
    tokens: Vec<u8>,
    classes: Vec<u8>,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Shards.
    pub shards: usize,
    /// Rows.
    pub rows: usize,
    /// Examples.
    pub examples: usize,
    /// Positions that hold a token, encoder and decoder.
    pub used_positions: usize,
    /// Positions of all rows.
    pub positions: usize,
}

impl PackedWriter {
    /// A writer of shards in `dir`, which must not hold shards yet.
    ///
    /// # Errors
    /// If there are shards already, or the vocabulary has more than 65,536 ids.
    pub fn new(dir: &Path, tokenizer: &Tokenizer, row_sizes: &[RowSize]) -> Result<Self, DataError> {
        let bad = |reason: &str| DataError::Packed { path: dir.to_owned(), reason: reason.into() };
        if tokenizer.vocab_size() > 1 << 16 {
            return Err(bad("more ids than two bytes tell apart"));
        }
        if row_sizes.len() > 256 {
            return Err(bad("more than 256 sizes of rows"));
        }
        if dir.join(format!("00000.{EXTENSION}")).exists() {
            return Err(bad("holds packed shards already; name another directory or remove them"));
        }
        Ok(Self {
            dir: dir.to_owned(),
            tokenizer_sha256: tokenizer.sha256(),
            vocab_size: tokenizer.vocab_size(),
            row_sizes: row_sizes.to_vec(),
            shards: 0,
            total: Totals::default(),
            rows: Vec::new(),
            sizes: Vec::new(),
            examples: Vec::new(),
            tokens: Vec::new(),
            classes: Vec::new(),
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If its size is not among the writer's, or a full shard cannot be written.
    pub fn push(&mut self, row: &PackedRow) -> Result<(), DataError> {
        let size = self.row_sizes.iter().position(|s| *s == row.size);
        let size = size.ok_or_else(|| DataError::Packed {
            path: self.dir.clone(),
            reason: format!("a row of {}+{} tokens is of no declared size", row.size.enc, row.size.dec),
        })?;
        self.rows.extend(((self.examples.len() / EXAMPLE_BYTES) as u32).to_le_bytes());
        self.sizes.push(size as u8);
        for example in &row.examples {
            let (tool, name_key, content_key, query_len) = match &example.retrieval {
                Some(pair) => (
                    pair.tool_ids.as_slice(),
                    pair.name_key,
                    pair.content_key.map_or(0, NonZeroU64::get),
                    pair.query_len,
                ),
                None => (&[][..], 0, 0, 0),
            };
            let lengths = [example.enc_ids.len(), example.dec_target.len(), query_len, tool.len()];
            self.examples.extend((self.tokens.len() as u64 / 2).to_le_bytes());
            self.examples.extend((self.classes.len() as u64).to_le_bytes());
            self.examples.extend(lengths.into_iter().flat_map(|len| (len as u32).to_le_bytes()));
            self.examples.extend([name_key, content_key].into_iter().flat_map(u64::to_le_bytes));
            let ids = example.enc_ids.iter().chain(&example.dec_target).chain(tool);
            self.tokens.extend(ids.flat_map(|&id| (id as u16).to_le_bytes()));
            self.classes.extend(example.dec_classes.iter().map(|&class| class as u8));
            self.total.used_positions += lengths[0] + lengths[1];
        }
        self.total.rows += 1;
        self.total.examples += row.examples.len();
        self.total.positions += row.size.enc + row.size.dec;
        if self.tokens.len() / 2 >= TOKENS_PER_SHARD {
            self.write_shard()?;
        }
        Ok(())
    }

    /// Writes the last shard.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> Result<Totals, DataError> {
        if !self.sizes.is_empty() {
            self.write_shard()?;
        }
        Ok(Totals { shards: self.shards, ..self.total })
    }

    fn write_shard(&mut self) -> Result<(), DataError> {
        let bytes = self.take_shard();
        let path = self.dir.join(format!("{:05}.{EXTENSION}", self.shards));
        file::write_atomically(&path, &bytes)?;
        self.shards += 1;
        Ok(())
    }

    /// The bytes of a shard of what was added since the last one.
    fn take_shard(&mut self) -> Vec<u8> {
        let num_examples = self.examples.len() / EXAMPLE_BYTES;
        let mut body = std::mem::take(&mut self.rows);
        body.extend((num_examples as u32).to_le_bytes());
        let num_rows = self.sizes.len();
        body.append(&mut self.sizes);
        body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
        body.append(&mut self.examples);
        let num_tokens = self.tokens.len() / 2;
        body.append(&mut self.tokens);
        let num_targets = self.classes.len();
        body.append(&mut self.classes);
        let header = Header {
            tokenizer_sha256: self.tokenizer_sha256.clone(),
            vocab_size: self.vocab_size,
            row_sizes: self.row_sizes.clone(),
            num_rows,
            num_examples,
            num_tokens,
            num_targets,
            body_sha256: hex(&Sha256::digest(&body)),
        };
        #[expect(clippy::expect_used, reason = "numbers and strings")]
        let header = serde_json::to_vec(&header).expect("a header can be written as JSON");
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((header.len() as u32).to_le_bytes());
        bytes.extend(header);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes.append(&mut body);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::TokenizerConfig;
    use proptest::prelude::*;

    fn tokenizer(text: &str) -> Tokenizer {
        Tokenizer::train(&TokenizerConfig { vocab_size: 300, isolate_spaces: true }, [text; 3].iter()).unwrap()
    }

    fn example(length: usize, has_tool: bool) -> EncodedExample {
        let ids = |n: usize| (0..n as u32).map(|i| 4 + i % 200).collect::<Vec<_>>();
        EncodedExample {
            enc_ids: ids(2 * length),
            dec_target: ids(length),
            dec_classes: vec![TokenClass::Key; length],
            retrieval: has_tool.then(|| RetrievalPair {
                name_key: 7,
                content_key: NonZeroU64::new(9),
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
