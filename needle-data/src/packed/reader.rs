//! Reading packed shards.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use sha2::{Digest, Sha256};

use super::{EXAMPLE_BYTES, Header, Layout, MAGIC, PackedRow, VERSION};
use crate::encode::{EncodedExample, PairKey, RetrievalPair};
use crate::error::DataError;
use crate::file;
use crate::text::token_class::TokenClass;
use crate::tokenizer::{Tokenizer, hex};

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

impl PackedShard {
    /// Maps `path` into memory and checks its header and all offsets.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, has another version, or was not packed with
    /// `tokenizer`.
    pub fn open(path: &Path, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let shard = Self::open_any(path)?;
        if shard.header.tokenizer_sha256 != tokenizer.sha256() {
            let reason = format!(
                "packed with another tokenizer ({}…) than this one ({}…); pack the text again with `needle data pack`",
                shard.header.tokenizer_sha256.get(..12).unwrap_or("?"),
                &tokenizer.sha256()[..12]
            );
            return Err(DataError::Packed { path: path.to_owned(), reason });
        }
        Ok(shard)
    }

    /// Like [`PackedShard::open`], for any tokenizer.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged or has another version.
    pub fn open_any(path: &Path) -> Result<Self, DataError> {
        let file = file::open_regular(path)?;
        // SAFETY: the map is only read. If another process truncates the file meanwhile, reading it
        // ends this process with a bus error, as in every program that maps files.
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
            return Err(bad(format!("format version {version}; this program reads {VERSION}; pack the text again")));
        }
        let header_len = u32_at(&bytes, 12) as usize;
        let header =
            bytes.get(16..header_len.saturating_add(16)).ok_or_else(|| bad("truncated in its header".into()))?;
        let header: Header = serde_json::from_slice(header).map_err(|e| bad(format!("unreadable header: {e}")))?;
        let layout = Layout::new(header_len, &header).ok_or_else(|| bad("impossible sizes in its header".into()))?;
        if layout.end != bytes.len() {
            return Err(bad(format!(
                "{} bytes long, but its header says {}: truncated or damaged",
                bytes.len(),
                layout.end
            )));
        }
        let shard = Self { path: path.to_owned(), bytes, header, layout };
        shard.check_index().map_err(bad)?;
        Ok(shard)
    }

    /// Checks that every offset and length points inside the file, and that every row has room for
    /// its examples.
    fn check_index(&self) -> Result<(), String> {
        let header = &self.header;
        let sizes = &header.row_sizes;
        if header.num_tokens > 0 && header.vocab_size > 1 << 16 {
            return Err("more ids than fit into two bytes".into());
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
                // Offsets in order and without gaps: so nothing overlaps, and nothing points
                // outside the file.
                if entry.tokens_at != tokens_at || entry.classes_at != classes_at || entry.query_len > entry.enc_len {
                    return Err(format!("example {example} has impossible offsets"));
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

    /// Metadata of the shard.
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

    /// Number of bytes of a row's tokens.
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
                Some(&id) if id as usize >= self.header.vocab_size => Err(self.bad(format!(
                    "example {index} holds id {id}, but the vocabulary has {} ids",
                    self.header.vocab_size
                ))),
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
                key: PairKey { name: entry.name_key, content: NonZeroU64::new(entry.content_key) },
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
