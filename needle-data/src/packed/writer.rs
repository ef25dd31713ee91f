//! Writing packed shards.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::index::{Index, IndexEntry, Unfinished, shard_name};
use super::{ALIGNMENT, EXAMPLE_BYTES, Header, MAGIC, PackedRow, VERSION};
use crate::batching::pack::RowSize;
use crate::error::DataError;
use crate::file;
use crate::tokenizer::{Tokenizer, hex};

/// Number of tokens after which a writer begins the next shard: about 80 MB.
const TOKENS_PER_SHARD: usize = 32 << 20;

/// Writes rows into as many shards as they need: `00000.packed`, `00001.packed`..., and at the end
/// `index.json`, without which the shards are not read. A writer that is dropped before
/// [`PackedWriter::finish`] removes what it has written.
pub struct PackedWriter {
    dir: PathBuf,
    unfinished: Unfinished,
    is_finished: bool,
    pub(super) tokens_per_shard: usize,
    tokenizer_sha256: String,
    vocab_size: usize,
    row_sizes: Vec<RowSize>,
    shards: Vec<IndexEntry>,
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
    /// Number of shards.
    pub shards: usize,
    /// Number of rows.
    pub rows: usize,
    /// Number of examples.
    pub examples: usize,
    /// Number of positions that hold a token, encoder and decoder together.
    pub used_positions: usize,
    /// Number of positions of all rows, padding included.
    pub positions: usize,
}

impl PackedWriter {
    /// A writer of shards in `dir`, which must not hold shards yet; the remains of a killed writer
    /// are removed.
    ///
    /// # Errors
    /// If there are shards already or another process is writing them, or the vocabulary has more
    /// than 65,536 ids.
    pub fn new(dir: &Path, tokenizer: &Tokenizer, row_sizes: &[RowSize]) -> Result<Self, DataError> {
        let bad = |reason: &str| DataError::Packed { path: dir.to_owned(), reason: reason.into() };
        if tokenizer.vocab_size() > 1 << 16 {
            return Err(bad("more ids than fit into two bytes"));
        }
        if row_sizes.len() > 256 {
            return Err(bad("more than 256 row sizes"));
        }
        Ok(Self {
            dir: dir.to_owned(),
            unfinished: Unfinished::begin(dir)?,
            is_finished: false,
            tokens_per_shard: TOKENS_PER_SHARD,
            tokenizer_sha256: tokenizer.sha256(),
            vocab_size: tokenizer.vocab_size(),
            row_sizes: row_sizes.to_vec(),
            shards: Vec::new(),
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
            reason: format!("a row of {}+{} tokens does not have a declared size", row.size.enc, row.size.dec),
        })?;
        self.rows.extend(((self.examples.len() / EXAMPLE_BYTES) as u32).to_le_bytes());
        self.sizes.push(size as u8);
        for example in &row.examples {
            let (tool, name_key, content_key, query_len) = match &example.retrieval {
                Some(pair) => (
                    pair.tool_ids.as_slice(),
                    pair.key.name,
                    pair.key.content.map_or(0, NonZeroU64::get),
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
        if self.tokens.len() / 2 >= self.tokens_per_shard {
            self.write_shard()?;
        }
        Ok(())
    }

    /// Writes the last shard, and then the index.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn finish(mut self) -> Result<Totals, DataError> {
        if !self.sizes.is_empty() {
            self.write_shard()?;
        }
        let shards = std::mem::take(&mut self.shards);
        let totals = Totals { shards: shards.len(), ..self.total };
        Index::write(&self.dir, shards)?;
        self.is_finished = true;
        self.unfinished.end()?;
        Ok(totals)
    }

    fn write_shard(&mut self) -> Result<(), DataError> {
        let rows = self.sizes.len();
        let bytes = self.take_shard();
        let file = shard_name(self.shards.len());
        file::write_atomically(&self.dir.join(&file), &bytes)?;
        self.shards.push(IndexEntry { file, bytes: bytes.len() as u64, rows });
        Ok(())
    }

    /// The bytes of a shard with all rows that were added since the last one.
    pub(super) fn take_shard(&mut self) -> Vec<u8> {
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
        #[expect(clippy::expect_used, reason = "numbers and strings can always be written as JSON")]
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

impl Drop for PackedWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            self.unfinished.undo();
        }
    }
}
