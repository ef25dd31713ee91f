//! From windows of rows to batches: parse and encode in parallel, pack, lay out.

use std::collections::VecDeque;

use rand::RngExt;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::augment::mask::{Masks, Synonyms};
use crate::augment::{OtherValues, ValuePool, with_fewer_tools, with_other_values, without_called_tools};
use crate::batching::batch::Batch;
use crate::batching::pack::{RowSize, pack};
use crate::encode::{EncodedExample, Encoder};
use crate::error::{DataError, Place, Problem, ProblemCode};
use crate::order::stream::{Cursor, Item, Window};
use crate::packed::PackedRow;
use crate::random::{Purpose, rng};
use crate::source::{Content, Counts, OnBadRow};
use crate::text::example::Example;
use crate::text::record::Record;

/// Number of rows by which the share of bad rows is judged before any row is used (all of a run's
/// first window, if it has fewer).
const ROWS_BEFORE_JUDGING: usize = 1000;

/// How rows become batches.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderConfig {
    /// Sizes of rows, ascending.
    pub row_sizes: Vec<RowSize>,
    /// Number of rows in a batch of the longest size. Batches of shorter rows have more, so that
    /// the number of positions stays about the same.
    pub rows: usize,
    /// Number of examples that are packed together; a larger window packs more tightly.
    pub pack_window: usize,
    /// Maximum number of retrieval pairs in a batch.
    pub max_retrieval_pairs: usize,
    /// Whether tools, parameters and keys are shuffled anew in each epoch.
    pub shuffle_tools: bool,
    /// Maximum number of tools that an example offers, see [`with_fewer_tools`]; `None` for all.
    pub max_offered_tools: Option<usize>,
    /// Share of the examples with a call whose called tools are withheld, see
    /// [`without_called_tools`].
    pub withheld_fraction: f64,
    /// How often arguments get other values, see [`with_other_values`]; values of other examples
    /// come from the same pack window.
    pub other_values: OtherValues,
    /// How often tools are masked, and requests joined or negated; other tools and requests come
    /// from the same pack window.
    pub masks: Masks,
    /// What to do with a row that cannot be used.
    pub on_bad_row: OnBadRow,
    /// Largest share of rows that may be skipped.
    pub max_bad_fraction: f64,
    /// Number of threads that parse and encode; `None` for all cores. It does not change the
    /// batches.
    pub threads: Option<usize>,
}

/// Encodes and packs the rows of windows, one pack window at a time.
pub struct RowPacker<'a, W> {
    encoder: &'a Encoder<'a>,
    config: LoaderConfig,
    seed: u64,
    pool: rayon::ThreadPool,
    /// Replacement words for masking; `None` if nothing is masked.
    synonyms: Option<Synonyms>,
    windows: W,
    current: Option<Current>,
    counts: Counts,
    first_problem: Option<(Place, Problem)>,
    failed: bool,
}

/// The window that is being packed.
struct Current {
    start: Cursor,
    end: Cursor,
    items: std::vec::IntoIter<Item>,
    chunk: u64,
    used_before: u64,
}

/// The packed rows of one pack window.
#[derive(Debug)]
pub struct PackedRows {
    /// Rows, in shuffled order.
    pub rows: Vec<PackedRow>,
    /// Where the window of these rows starts.
    pub start: Cursor,
    /// Where the next window starts, if these are the last rows of this one.
    pub next: Option<Cursor>,
    /// Counts of all rows up to here, since the run began.
    pub counts: Counts,
}

impl<'a, W: Iterator<Item = Result<Window, DataError>>> RowPacker<'a, W> {
    /// Packs the rows of `windows`.
    ///
    /// # Errors
    /// If no threads can be started, or there are no row sizes.
    pub fn new(encoder: &'a Encoder<'a>, windows: W, config: LoaderConfig, seed: u64) -> Result<Self, DataError> {
        if config.row_sizes.is_empty() {
            return Err(DataError::Config { field: "row_sizes", reason: "must hold at least one size".into() });
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(config.threads.unwrap_or(0));
        let pool = pool.thread_name(|i| format!("loader-{i}")).build();
        let pool = pool.map_err(|e| DataError::Config { field: "data.threads", reason: e.to_string() })?;
        let synonyms = (!config.masks.is_none()).then(Synonyms::embedded);
        Ok(Self {
            encoder,
            synonyms,
            config,
            seed,
            pool,
            windows,
            current: None,
            counts: Counts::default(),
            first_problem: None,
            failed: false,
        })
    }

    fn pack_next(&mut self) -> Option<Result<PackedRows, DataError>> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None => {
                let Window { mut start, end, items } = match self.windows.next()? {
                    Ok(window) => window,
                    Err(error) => return Some(Err(error)),
                };
                if self.counts.read == 0 {
                    // The first window of a resumed run holds the counts before it.
                    self.counts.clone_from(&start.counts);
                }
                start.counts.clone_from(&self.counts);
                if self.config.on_bad_row == OnBadRow::Skip
                    && self.counts.read == 0
                    && let Err(error) = self.judge_ahead(&items)
                {
                    return Some(Err(error));
                }
                Current { start, end, items: items.into_iter(), chunk: 0, used_before: self.counts.used }
            }
        };
        let items: Vec<Item> = current.items.by_ref().take(self.config.pack_window.max(1)).collect();
        let is_last = current.items.len() == 0;
        let rows = match self.encode(&items, current.items.as_slice(), current.used_before) {
            Ok(encoded) => self.pack(encoded, &[current.start.window, current.chunk]),
            Err(error) => return Some(Err(error)),
        };
        current.chunk += 1;
        current.end.counts.clone_from(&self.counts);
        let next = is_last.then(|| current.end.clone());
        let packed = PackedRows { rows, start: current.start.clone(), next, counts: self.counts.clone() };
        self.current = (!is_last).then_some(current);
        Some(Ok(packed))
    }

    /// The unusable rows among `items`.
    fn bad_rows(&self, items: &[Item]) -> Vec<(Place, Problem)> {
        let config = &self.config;
        let bad = |item: &Item| Some((item.row.place.clone(), parse(config, item).ok()?.err()?));
        self.pool.install(|| items.par_iter().filter_map(bad).collect())
    }

    /// Checks the share of bad rows in the run's first window before any of it is trained on.
    fn judge_ahead(&self, window: &[Item]) -> Result<(), DataError> {
        let sample = &window[..window.len().min(ROWS_BEFORE_JUDGING)];
        let bad = self.bad_rows(sample);
        let Some(found) = bad.first() else { return Ok(()) };
        let mut counts = Counts { read: (sample.len() - bad.len()) as u64, ..Counts::default() };
        bad.iter().for_each(|(_, problem)| counts.add::<()>(&Err(problem.clone())));
        let most = self.config.max_bad_fraction;
        if counts.judge(most, found).is_ok() {
            return Ok(());
        }
        let first = self.bad_rows(window).into_iter().fold(found.clone(), |first, other| earlier(Some(first), other));
        counts.judge(most, &first)
    }

    /// Encodes `items` in parallel, and counts them in order; `rest` are the later items of the
    /// window.
    fn encode(&mut self, items: &[Item], rest: &[Item], used_before: u64) -> Result<Vec<Encoded>, DataError> {
        let (encoder, config, synonyms) = (self.encoder, &self.config, self.synonyms.as_ref());
        let encoded: Vec<_> = self.pool.install(|| {
            let parsed: Vec<Parsed> = items.par_iter().map(|item| parse(config, item)).collect();
            let window = Surroundings::of(&parsed, config, synonyms);
            let encode = |(item, parsed)| encode(encoder, config, &window, item, parsed);
            items.par_iter().zip(parsed).map(encode).collect()
        });
        let mut used = Vec::with_capacity(items.len());
        let mut fatal: Option<(Place, Problem)> = None;
        for (item, encoded) in items.iter().zip(encoded) {
            let encoded = encoded?;
            self.counts.add(&encoded);
            match encoded {
                Ok(encoded) => {
                    self.counts.cut_tokens += encoded.cut_tokens();
                    used.push(encoded);
                }
                Err(problem) => {
                    // An answer that is too long is not an error in the data: it is always skipped
                    // and counted.
                    let is_fatal = config.on_bad_row == OnBadRow::Fail && problem.code != ProblemCode::AnswerTooLong;
                    let found = (item.row.place.clone(), problem);
                    if is_fatal {
                        fatal = Some(earlier(fatal, found.clone()));
                    }
                    self.first_problem = Some(earlier(self.first_problem.take(), found));
                }
            }
        }
        if let Some(fatal) = fatal {
            let (place, problem) =
                self.bad_rows(rest).into_iter().fold(fatal, |first, other| earlier(Some(first), other));
            return Err(DataError::Row { place, problem });
        }
        let is_last = rest.is_empty();
        if is_last && self.counts.used == used_before {
            let first = self.first_problem.as_ref().map(|(place, problem)| format!("{place}: {problem}"));
            return Err(DataError::NoExamples(first.unwrap_or_default()));
        }
        if let Some(first) = &self.first_problem
            && (is_last || self.counts.read >= ROWS_BEFORE_JUDGING as u64)
        {
            self.counts.judge(self.config.max_bad_fraction, first)?;
        }
        Ok(used)
    }

    fn pack(&self, encoded: Vec<Encoded>, place: &[u64]) -> Vec<PackedRow> {
        let (mut rows, mut examples) = (Vec::new(), Vec::new());
        for encoded in encoded {
            match encoded {
                Encoded::Examples(more) => examples.extend(more),
                Encoded::Row(row) => rows.push(row),
            }
        }
        rows.extend(pack_examples(examples, &self.config.row_sizes));
        // Packing sorts by length, so the rows are shuffled again.
        rows.shuffle(&mut rng(self.seed, Purpose::PackedRowOrder, place));
        rows
    }
}

impl<W: Iterator<Item = Result<Window, DataError>>> Iterator for RowPacker<'_, W> {
    type Item = Result<PackedRows, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let rows = self.pack_next();
        self.failed = rows.as_ref().is_some_and(Result::is_err);
        rows
    }
}

/// The earlier of two bad rows in the order of the file; rows arrive shuffled.
fn earlier(first: Option<(Place, Problem)>, other: (Place, Problem)) -> (Place, Problem) {
    match first {
        Some(first) if first.0 <= other.0 => first,
        _ => other,
    }
}

enum Encoded {
    Examples(Vec<EncodedExample>),
    Row(PackedRow),
}

impl Encoded {
    fn cut_tokens(&self) -> u64 {
        match self {
            Self::Examples(examples) => examples.iter().map(|e| e.cut_tokens as u64).sum(),
            Self::Row(_) => 0,
        }
    }
}

/// A parsed row, before any augmentation is drawn.
type Parsed = Result<Result<Unencoded, Problem>, DataError>;

enum Unencoded {
    Record(Record),
    Row(PackedRow),
}

fn parse(config: &LoaderConfig, item: &Item) -> Parsed {
    let Content::Packed(shard, index) = &item.row.content else {
        return Ok(item.row.record().map(Unencoded::Record));
    };
    let mut row = shard.row(*index)?;
    let Some(size) = config.row_sizes.iter().find(|size| size.holds(row.size)) else {
        let (size, longest) = (row.size, config.row_sizes[config.row_sizes.len() - 1]);
        let reason = format!(
            "has rows of {}+{} tokens, but the recipe's longest have {}+{}",
            size.enc, size.dec, longest.enc, longest.dec
        );
        return Err(DataError::Packed { path: item.row.place.file.clone(), reason });
    };
    row.size = *size;
    Ok(Ok(Unencoded::Row(row)))
}

/// What augmentation can take from the other examples of a pack window.
struct Surroundings<'a> {
    values: Option<ValuePool>,
    others: Vec<Example>,
    synonyms: Option<&'a Synonyms>,
}

impl<'a> Surroundings<'a> {
    fn of(rows: &[Parsed], config: &LoaderConfig, synonyms: Option<&'a Synonyms>) -> Self {
        let examples = || {
            rows.iter().filter_map(|row| match row {
                Ok(Ok(Unencoded::Record(Record::ToolCall(example)))) => Some(example),
                _ => None,
            })
        };
        let values = (config.other_values.fraction > 0.0).then(|| ValuePool::new(examples()));
        let others = if config.masks.needs_others() { examples().cloned().collect() } else { Vec::new() };
        Self { values, others, synonyms }
    }
}

/// Augments and encodes one row of a source. The result is a pure function of the row, its seed and
/// its pack window.
fn encode(
    encoder: &Encoder<'_>,
    config: &LoaderConfig,
    window: &Surroundings<'_>,
    item: &Item,
    parsed: Parsed,
) -> Result<Result<Encoded, Problem>, DataError> {
    let record = match parsed? {
        Ok(Unencoded::Record(record)) => record,
        Ok(Unencoded::Row(row)) => return Ok(Ok(Encoded::Row(row))),
        Err(problem) => return Ok(Err(problem)),
    };
    Ok(match record {
        Record::ToolCall(mut example) => {
            let mut rng = rng(item.seed, Purpose::Augmentation, &[]);
            if let Some(values) = &window.values {
                example = with_other_values(&example, values, config.other_values, &mut rng);
            }
            if let Some(synonyms) = window.synonyms {
                example = config.masks.apply(example, &window.others, synonyms, &mut rng);
            }
            if config.withheld_fraction > 0.0 && rng.random_bool(config.withheld_fraction) {
                example = without_called_tools(&example).unwrap_or(example);
            }
            if let Some(most) = config.max_offered_tools {
                example = with_fewer_tools(&example, most, &mut rng);
            }
            let shuffle_seed = config.shuffle_tools.then(|| rng.random());
            encoder.encode(&example, shuffle_seed).map(|example| vec![example])
        }
        text => encoder.encode_record(&text),
    }
    .map(Encoded::Examples))
}

/// Packs examples into rows of `sizes`.
pub fn pack_examples(examples: Vec<EncodedExample>, sizes: &[RowSize]) -> Vec<PackedRow> {
    let lengths: Vec<RowSize> = examples.iter().map(EncodedExample::size).collect();
    let mut examples: Vec<Option<EncodedExample>> = examples.into_iter().map(Some).collect();
    pack(&lengths, sizes)
        .into_iter()
        .map(|row| PackedRow {
            size: sizes[row.size],
            examples: row.members.into_iter().filter_map(|i| examples[i].take()).collect(),
        })
        .collect()
}

/// A batch, and the position in the data after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The batch.
    pub batch: Batch,
    /// Position of the next batch.
    pub cursor: Cursor,
    /// Epoch that the batch belongs to, of the source that is furthest behind.
    pub epoch: u64,
    /// Counts of all rows of the pack windows begun so far, since the run began.
    pub counts: Counts,
}

/// An iterator over the batches of windows. All rows of a batch have the same size.
///
/// Rows that do not fill a batch wait for the next pack window; at the end of a window, they are
/// packed again together, so that at most one batch of a window is smaller than the others.
pub struct Loader<'a, W> {
    rows: RowPacker<'a, W>,
    /// Rows that wait for a full batch, by size.
    waiting: Vec<Vec<PackedRow>>,
    ready: VecDeque<Loaded>,
    /// Number of batches made of the current window.
    batch: u64,
}

impl<'a, W: Iterator<Item = Result<Window, DataError>>> Loader<'a, W> {
    /// Batches of `windows`.
    ///
    /// # Errors
    /// As [`RowPacker::new`].
    pub fn new(encoder: &'a Encoder<'a>, windows: W, config: LoaderConfig, seed: u64) -> Result<Self, DataError> {
        let waiting = vec![Vec::new(); config.row_sizes.len()];
        let rows = RowPacker::new(encoder, windows, config, seed)?;
        Ok(Self { rows, waiting, ready: VecDeque::new(), batch: 0 })
    }

    fn lay_out(&mut self, packed: PackedRows) {
        let sizes = self.rows.config.row_sizes.clone();
        for row in packed.rows {
            let Some(size) = sizes.iter().position(|size| *size == row.size) else { continue };
            self.waiting[size].push(row);
            let full = self.rows_of_batch(size);
            if self.waiting[size].len() == full {
                let rows = std::mem::take(&mut self.waiting[size]);
                self.push(&rows, &packed.start, &packed.counts);
            }
        }
        let Some(next) = packed.next else { return };
        let left: Vec<EncodedExample> =
            self.waiting.iter_mut().flat_map(std::mem::take).flat_map(|r| r.examples).collect();
        let longest = sizes.len() - 1;
        for rows in pack_examples(left, &sizes[longest..]).chunks(self.rows_of_batch(longest)) {
            self.push(rows, &packed.start, &packed.counts);
        }
        // After the last batch of a window, the cursor is the start of the next window, so that
        // resuming does not read this one again.
        if let Some(last) = self.ready.back_mut() {
            last.cursor = next;
        }
        self.batch = 0;
    }

    /// Number of rows in a batch of the size with index `size`, for as many positions as `rows`
    /// rows of the longest size.
    fn rows_of_batch(&self, size: usize) -> usize {
        let positions = |size: &RowSize| size.enc + size.dec;
        let sizes = &self.rows.config.row_sizes;
        (self.rows.config.rows * positions(&sizes[sizes.len() - 1]) / positions(&sizes[size]).max(1)).max(1)
    }

    fn push(&mut self, rows: &[PackedRow], start: &Cursor, counts: &Counts) {
        self.batch += 1;
        // A resumed run has already seen this batch.
        if self.batch <= start.batch {
            return;
        }
        let rows: Vec<Vec<&EncodedExample>> = rows.iter().map(|row| row.examples.iter().collect()).collect();
        self.ready.push_back(Loaded {
            batch: Batch::from_rows(&rows, self.rows.config.max_retrieval_pairs),
            cursor: Cursor { batch: self.batch, ..start.clone() },
            epoch: start.epoch(),
            counts: counts.clone(),
        });
    }
}

impl<W: Iterator<Item = Result<Window, DataError>>> Iterator for Loader<'_, W> {
    type Item = Result<Loaded, DataError>;

    /// The next batch; there is always one, because epochs repeat endlessly.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(loaded) = self.ready.pop_front() {
                return Some(Ok(loaded));
            }
            match self.rows.next()? {
                Ok(rows) => self.lay_out(rows),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
