//! The order in which rows are read: shard after shard, epoch after epoch, shuffled, divided into
//! lanes, resumable.
//!
//! Each epoch of a source reads its shards in a new order, with several open at a time that take
//! turns. Rows are collected into a *window* (the shuffle buffer: filled, shuffled, emptied), and a
//! window is a pure function of the seed and of its start. A [`Cursor`] is therefore a position in
//! each open shard and a number of batches: resuming reads the window again and continues with the
//! very next batch, whatever the number of threads.
//!
//! The rows can be divided into *lanes*, which are read in parallel. The lanes are disjoint and
//! together hold every row: each has whole shards if there are at least as many shards as lanes,
//! else every `count`-th row of every shard. A run keeps its number of lanes, and so its order,
//! whatever the number of processes that share them (MosaicML's StreamingDataset calls them
//! canonical nodes). A cursor is valid only for its own lane and number of lanes.
//!
//! In a mixture, the source of each row is drawn by weight, and each source has epochs of its own.
//! With a single source, the end of an epoch also ends the window.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::random::{Purpose, rng};
use crate::source::{Counts, Position, Reader, Row, Shard, expand, rows_of};
use crate::text::example::Example;
use crate::tokenizer::{Tokenizer, hex};

/// Files or examples that are read as one, with their weight in a mixture.
#[derive(Debug, Clone)]
pub struct Source {
    shards: Vec<Shard>,
    weight: f64,
}

/// A source of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Files, directories and globs.
    pub paths: Vec<PathBuf>,
    /// Its share of the rows, in proportion to the other sources' weights.
    pub weight: f64,
}

/// All sources of a run.
#[derive(Debug, Clone)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Files as one source: every row once per epoch.
    ///
    /// # Errors
    /// If a pattern names nothing.
    pub fn files<P: AsRef<Path>>(patterns: &[P]) -> Result<Self, DataError> {
        let shards = expand(patterns)?.into_iter().map(Shard::File).collect();
        Ok(Self(vec![Source { shards, weight: 1.0 }]))
    }

    /// A mixture, each row drawn from a source by weight.
    ///
    /// # Errors
    /// If a pattern names nothing, or a weight is not positive.
    pub fn mixture(configs: &[SourceConfig]) -> Result<Self, DataError> {
        let sources = configs.iter().map(|config| {
            if !(config.weight.is_finite() && config.weight > 0.0) {
                let reason = format!("must be positive, is {}", config.weight);
                return Err(DataError::Config { field: "data.sources.weight", reason });
            }
            let shards = expand(&config.paths)?.into_iter().map(Shard::File).collect();
            Ok(Source { shards, weight: config.weight })
        });
        Ok(Self(sources.collect::<Result<_, _>>()?))
    }

    /// Examples held in memory.
    pub fn memory(examples: Vec<Example>) -> Self {
        Self(vec![Source { shards: vec![Shard::Memory(Arc::new(examples))], weight: 1.0 }])
    }

    /// Hash of the weights, names and lengths of all shards. A cursor is valid only for data with
    /// the same fingerprint.
    ///
    /// # Errors
    /// If a file's metadata cannot be read.
    pub fn fingerprint(&self) -> Result<String, DataError> {
        let mut hash = Sha256::new();
        for source in &self.0 {
            hash.update(format!("source {}\n", source.weight));
            for shard in &source.shards {
                hash.update(format!("{}\n", shard.identity()?));
            }
        }
        Ok(hex(&hash.finalize()[..8]))
    }

    /// The shards of every source, in order.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.0.iter().flat_map(|source| &source.shards)
    }

    /// Every row of every source once, in order.
    pub fn rows(&self) -> impl Iterator<Item = Result<Row, DataError>> + '_ {
        rows_of(self.0.iter().flat_map(|source| &source.shards).cloned())
    }

    /// Whether any shard holds packed rows, which have no text.
    pub fn is_packed(&self) -> bool {
        self.0.iter().flat_map(|source| &source.shards).any(Shard::is_packed)
    }
}

/// Which part of the rows to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lane {
    /// Which lane, from 0.
    pub index: usize,
    /// Number of lanes.
    pub count: usize,
}

impl Default for Lane {
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

/// How rows are gathered and shuffled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// Seed of every order.
    pub seed: u64,
    /// Size of the shuffle buffer: MiB of rows that are shuffled together.
    pub shuffle_buffer_mb: usize,
    /// Number of shards of a source that are open at a time and take turns.
    pub shards_at_once: usize,
    /// Which part of the rows to read.
    pub lane: Lane,
}

impl StreamConfig {
    /// All rows, as one lane.
    pub fn new(seed: u64) -> Self {
        Self { seed, shuffle_buffer_mb: 64, shards_at_once: 4, lane: Lane::default() }
    }
}

/// The position of a run in the data: enough to continue with the very next batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Hash of the sources' weights, file names and lengths.
    pub data: String,
    /// The lane that it belongs to.
    pub lane: Lane,
    /// Number of windows before this one.
    pub window: u64,
    /// Number of batches taken from this window.
    pub batch: u64,
    /// Where the window starts in each source.
    pub sources: Vec<SourceCursor>,
    /// Counts of the rows in the windows before this one.
    pub counts: Counts,
}

/// The position in a source where a window starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCursor {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Number of shards of the epoch that have been opened.
    pub opened: usize,
    /// Those of them that have not ended, in the order of their turns.
    pub open: Vec<OpenShard>,
    /// Whether the epoch has yielded a row yet.
    pub has_rows: bool,
}

impl SourceCursor {
    const START: Self = Self { epoch: 0, opened: 0, open: Vec::new(), has_rows: false };
}

/// A position in one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenShard {
    /// Index of the shard in its source.
    pub shard: usize,
    /// Position of its next row.
    pub at: Position,
}

impl Cursor {
    /// Epoch of the source that is furthest behind.
    pub fn epoch(&self) -> u64 {
        self.sources.iter().map(|source| source.epoch).min().unwrap_or(0)
    }
}

/// A row of a window.
#[derive(Debug, Clone)]
pub struct Item {
    /// The row.
    pub row: Row,
    /// Seed of the row's own draws: the same for this row in this epoch, whenever and wherever it
    /// is read.
    pub seed: u64,
}

/// Rows that are shuffled together.
#[derive(Debug)]
pub struct Window {
    /// Where this window starts.
    pub start: Cursor,
    /// Where the next window starts; the loader fills in its counts.
    pub end: Cursor,
    /// Its rows, shuffled.
    pub items: Vec<Item>,
}

/// An endless iterator over the windows of sources.
pub struct Windows {
    readers: Vec<SourceReader>,
    weights: Vec<f64>,
    config: StreamConfig,
    cursor: Cursor,
    failed: bool,
}

impl Windows {
    /// Windows from `cursor` on, or from the beginning. Packed shards are opened with `tokenizer`.
    ///
    /// # Errors
    /// If a shard cannot be read, or `cursor` belongs to other data, another lane or another number
    /// of lanes.
    pub fn new(
        sources: &Sources,
        tokenizer: &Tokenizer,
        config: StreamConfig,
        cursor: Option<Cursor>,
    ) -> Result<Self, DataError> {
        let lane = config.lane;
        if lane.index >= lane.count {
            let reason = format!("lane {} of {}: lanes count from 0", lane.index, lane.count);
            return Err(DataError::Config { field: "lane", reason });
        }
        let data = sources.fingerprint()?;
        let cursor = match cursor {
            None => Cursor {
                data,
                lane,
                window: 0,
                batch: 0,
                sources: vec![SourceCursor::START; sources.0.len()],
                counts: Counts::default(),
            },
            Some(cursor) if cursor.lane != lane => {
                let Lane { index, count } = cursor.lane;
                return Err(DataError::Cursor(format!(
                    "it belongs to lane {index} of {count}, but this is lane {} of {}; resume with data.lanes = {count}, or begin a \
                     new run from the checkpoint with --base",
                    lane.index, lane.count
                )));
            }
            Some(cursor) if cursor.data != data || cursor.sources.len() != sources.0.len() => {
                return Err(DataError::Cursor(
                    "the data differ from those of the run: a file was added, removed, renamed or changed in length, or a \
                     weight was changed"
                        .into(),
                ));
            }
            Some(cursor) => cursor,
        };
        let readers = sources.0.iter().enumerate().map(|(index, source)| {
            SourceReader::open(index, source.shards.clone(), &config, tokenizer, &cursor.sources[index])
        });
        let readers = readers.collect::<Result<_, _>>()?;
        let weights = sources.0.iter().map(|source| source.weight).collect();
        Ok(Self { readers, weights, config, cursor, failed: false })
    }

    fn read(&mut self) -> Result<Window, DataError> {
        let window = self.cursor.window;
        let start = self.cursor.clone();
        let most_bytes = self.config.shuffle_buffer_mb.max(1) << 20;
        let mut draw = rng(self.config.seed, Purpose::Mixture, &[window]);
        let (mut items, mut num_bytes, mut ends_epoch) = (Vec::new(), 0, false);
        while num_bytes < most_bytes && !ends_epoch {
            let source = choose(&self.weights, &mut draw);
            match self.readers[source].next_item()? {
                Some(item) => {
                    // A row takes more memory than its text: its place, and its entry in the
                    // window's list.
                    num_bytes += item.row.num_bytes() + 128;
                    items.push(item);
                }
                None => {
                    self.readers[source].next_epoch()?;
                    ends_epoch = self.readers.len() == 1;
                }
            }
        }
        items.shuffle(&mut rng(self.config.seed, Purpose::WindowOrder, &[window]));
        self.cursor.window += 1;
        self.cursor.batch = 0;
        self.cursor.sources = self.readers.iter().map(SourceReader::cursor).collect();
        Ok(Window { start, end: self.cursor.clone(), items })
    }
}

impl Iterator for Windows {
    type Item = Result<Window, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let window = self.read();
        self.failed = window.is_err();
        Some(window)
    }
}

/// An index drawn in proportion to `weights`.
fn choose(weights: &[f64], draw: &mut ChaCha8Rng) -> usize {
    if weights.len() < 2 {
        return 0;
    }
    let mut left = draw.random::<f64>() * weights.iter().sum::<f64>();
    for (index, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return index;
        }
    }
    weights.len() - 1
}

/// One source, epoch after epoch.
struct SourceReader {
    index: usize,
    shards: Vec<Shard>,
    tokenizer: Tokenizer,
    seed: u64,
    lane: Lane,
    shards_at_once: usize,
    epoch: u64,
    /// This lane's shards of the epoch, in order.
    order: Vec<usize>,
    opened: usize,
    open: VecDeque<(usize, Reader)>,
    has_rows: bool,
}

impl SourceReader {
    fn open(
        index: usize,
        shards: Vec<Shard>,
        config: &StreamConfig,
        tokenizer: &Tokenizer,
        cursor: &SourceCursor,
    ) -> Result<Self, DataError> {
        let mut reader = Self {
            index,
            shards,
            tokenizer: tokenizer.clone(),
            seed: config.seed,
            lane: config.lane,
            shards_at_once: config.shards_at_once.max(1),
            epoch: cursor.epoch,
            order: Vec::new(),
            opened: cursor.opened,
            open: VecDeque::new(),
            has_rows: cursor.has_rows,
        };
        reader.order = reader.order_of_epoch();
        for open in &cursor.open {
            let shard = reader.shards.get(open.shard);
            let shard = shard.ok_or_else(|| DataError::Cursor(format!("there is no shard {}", open.shard)))?;
            reader.open.push_back((open.shard, Reader::open(shard, open.at, Some(tokenizer))?));
        }
        Ok(reader)
    }

    fn divides_shards(&self) -> bool {
        self.shards.len() >= self.lane.count
    }

    fn order_of_epoch(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.shards.len()).collect();
        order.shuffle(&mut rng(self.seed, Purpose::ShardOrder, &[self.index as u64, self.epoch]));
        if self.divides_shards() {
            order = order.into_iter().skip(self.lane.index).step_by(self.lane.count).collect();
        }
        order
    }

    fn cursor(&self) -> SourceCursor {
        let open = self.open.iter().map(|(shard, reader)| OpenShard { shard: *shard, at: reader.position() });
        SourceCursor { epoch: self.epoch, opened: self.opened, open: open.collect(), has_rows: self.has_rows }
    }

    /// The next row of this lane, or `None` at the end of the epoch.
    fn next_item(&mut self) -> Result<Option<Item>, DataError> {
        loop {
            while self.open.len() < self.shards_at_once && self.opened < self.order.len() {
                let shard = self.order[self.opened];
                self.open
                    .push_back((shard, Reader::open(&self.shards[shard], Position::default(), Some(&self.tokenizer))?));
                self.opened += 1;
            }
            let Some((shard, mut reader)) = self.open.pop_front() else { return Ok(None) };
            let Lane { index, count } = self.lane;
            let is_mine = |number: u64| self.divides_shards() || number % count as u64 == index as u64;
            loop {
                // The number of the row or line in its shard, which is the same for every lane.
                let Some(row) = reader.next_row()? else { break };
                let number = row.place.line as u64;
                if is_mine(number) {
                    let mut seed =
                        rng(self.seed, Purpose::RowSeed, &[self.index as u64, self.epoch, shard as u64, number]);
                    self.open.push_back((shard, reader));
                    self.has_rows = true;
                    return Ok(Some(Item { row, seed: seed.random() }));
                }
            }
        }
    }

    fn next_epoch(&mut self) -> Result<(), DataError> {
        if !self.has_rows {
            let Lane { index, count } = self.lane;
            let reason =
                format!("lane {index} of {count} gets no row of source {}, which has too few rows", self.index + 1);
            return Err(DataError::NoExamples(reason));
        }
        self.epoch += 1;
        self.opened = 0;
        self.has_rows = false;
        self.order = self.order_of_epoch();
        Ok(())
    }
}
