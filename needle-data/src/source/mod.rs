//! Where rows come from: files of JSONL (plain, `.gz`, `.zst`), parquet and packed rows, or
//! examples held in memory.

mod lines;
mod listing;
mod parquet;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{DataError, Place, Problem, ProblemCode};
use crate::packed::{self, PackedShard};
use crate::text::example::Example;
use crate::text::record::Record;
use crate::tokenizer::Tokenizer;

pub use lines::Lines;
pub use listing::expand;
pub use parquet::ParquetRows;

/// Longer rows are skipped unread (or end the run), so that memory stays bounded whatever a file
/// holds.
pub const MAX_ROW_BYTES: usize = 16 << 20;

/// Used in place of a file name in messages about examples in memory.
const MEMORY: &str = "(examples in memory)";

/// One row before it is parsed.
#[derive(Debug, Clone)]
pub struct Row {
    /// File and line.
    pub place: Place,
    /// The unparsed contents.
    pub content: Content,
}

/// The contents of a row.
#[derive(Debug, Clone)]
pub enum Content {
    /// A line of JSONL.
    Line(Vec<u8>),
    /// Columns of a parquet row that are not null.
    Columns(Vec<(&'static str, Vec<u8>)>),
    /// A row of more than [`MAX_ROW_BYTES`], of which only the length was kept.
    TooLong(usize),
    /// An example held in memory.
    Example(Arc<Vec<Example>>, usize),
    /// A row of a packed shard.
    Packed(Arc<PackedShard>, usize),
}

impl Row {
    /// Approximate number of bytes of its text.
    pub fn num_bytes(&self) -> usize {
        match &self.content {
            Content::Line(line) => line.len(),
            Content::Columns(columns) => columns.iter().map(|(_, value)| value.len()).sum(),
            Content::TooLong(_) => 0,
            // Already in memory: only the reference is new.
            Content::Example(..) => 64,
            Content::Packed(shard, row) => shard.row_bytes(*row),
        }
    }

    /// The row as a line of a plain text file.
    ///
    /// # Errors
    /// If it is not UTF-8, is too long, or is not a line of text.
    pub fn text(&self) -> Result<String, Problem> {
        match &self.content {
            Content::Line(line) => String::from_utf8(line.clone())
                .map_err(|e| Problem::new("line", ProblemCode::NotJson, format!("not UTF-8: {e}"))),
            Content::TooLong(length) => Err(too_long(*length)),
            _ => Err(Problem::new("line", ProblemCode::BadField, "expected a line of text")),
        }
    }

    /// Parses and validates the row.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn record(&self) -> Result<Record, Problem> {
        match &self.content {
            Content::Line(line) => Record::from_line(line).map_err(|problem| goes_over_lines(line).unwrap_or(problem)),
            Content::Columns(columns) => {
                let mut object = Map::new();
                for (name, value) in columns {
                    let text = std::str::from_utf8(value)
                        .map_err(|e| Problem::new(*name, ProblemCode::NotJson, format!("not UTF-8: {e}")))?;
                    object.insert((*name).to_owned(), Value::from(text));
                }
                Record::from_object(&object)
            }
            Content::TooLong(length) => Err(too_long(*length)),
            Content::Example(examples, index) => Ok(Record::ToolCall(examples[*index].clone())),
            Content::Packed(..) => {
                Err(Problem::new("line", ProblemCode::BadField, "a packed row, which holds ids and no text"))
            }
        }
    }
}

/// The problem of a line that begins JSON of several lines, or a list of rows, instead of one row
/// per line; `None` for any other line.
fn goes_over_lines(line: &[u8]) -> Option<Problem> {
    let begins = match line {
        b"{" => "the beginning of an object; put each object on a line of its own",
        [b'[', rest @ ..] if matches!(rest.trim_ascii_start().first(), None | Some(b'{')) => {
            "a list; put each of its objects on a line of its own"
        }
        _ => return None,
    };
    let reason = format!("not JSON Lines: {begins}, for example with `jq -c`");
    Some(Problem::new("line", ProblemCode::NotJsonLines, reason))
}

fn too_long(length: usize) -> Problem {
    Problem::new("line", ProblemCode::RowTooLong, format!("{length} bytes, but a row may have at most {MAX_ROW_BYTES}"))
}

/// A position in a shard, from which reading can resume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Rows (lines, for text) before it.
    pub row: u64,
    /// Bytes of decompressed text before it; 0 in formats whose rows are found by number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub byte: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde requires")]
fn is_zero(byte: &u64) -> bool {
    *byte == 0
}

/// A part of a source that is read from its beginning to its end.
#[derive(Debug, Clone)]
pub enum Shard {
    /// A file, whose extension selects the format; JSONL by default.
    File(PathBuf),
    /// Examples in memory.
    Memory(Arc<Vec<Example>>),
}

impl Shard {
    /// Identifies the shard: the file's name and length, or the number of examples.
    ///
    /// # Errors
    /// If the file's metadata cannot be read.
    pub fn identity(&self) -> Result<String, DataError> {
        match self {
            Self::File(path) => {
                let length = std::fs::metadata(path).map_err(|e| DataError::io(path, e))?.len();
                Ok(format!("{} {length}", path.file_name().unwrap_or_default().to_string_lossy()))
            }
            Self::Memory(examples) => Ok(format!("memory {}", examples.len())),
        }
    }

    /// Whether it holds packed rows, which have no text.
    pub fn is_packed(&self) -> bool {
        matches!(self, Self::File(path) if path.extension().is_some_and(|e| e == packed::EXTENSION))
    }
}

/// Reads the rows of one shard, from a position on.
pub enum Reader {
    /// Rows of a text file.
    Lines(Box<Lines>),
    /// Rows of a parquet file.
    Parquet(Box<ParquetRows>),
    /// Rows of a packed shard: the shard, its path and the next row.
    Packed(Arc<PackedShard>, PathBuf, usize),
    /// Examples in memory, and the index of the next one.
    Memory(Arc<Vec<Example>>, usize),
}

impl Reader {
    /// Opens `shard` at `position`. A packed shard must have been packed with `tokenizer`, if that
    /// is given.
    ///
    /// # Errors
    /// If the shard cannot be read, or ends before `position`.
    pub fn open(shard: &Shard, position: Position, tokenizer: Option<&Tokenizer>) -> Result<Self, DataError> {
        let row = position.row as usize;
        match shard {
            Shard::Memory(examples) => Ok(Self::Memory(examples.clone(), row)),
            Shard::File(path) if shard.is_packed() => {
                let shard = match tokenizer {
                    Some(tokenizer) => PackedShard::open(path, tokenizer)?,
                    None => PackedShard::open_any(path)?,
                };
                Ok(Self::Packed(Arc::new(shard), path.clone(), row))
            }
            Shard::File(path) if path.extension().is_some_and(|e| e == "parquet") => {
                Ok(Self::Parquet(Box::new(ParquetRows::open(path, position)?)))
            }
            Shard::File(path) => Ok(Self::Lines(Box::new(Lines::open(path, position)?))),
        }
    }

    /// Position of the next row.
    pub fn position(&self) -> Position {
        match self {
            Self::Lines(lines) => lines.position(),
            Self::Parquet(rows) => rows.position(),
            Self::Packed(_, _, row) | Self::Memory(_, row) => Position { row: *row as u64, byte: 0 },
        }
    }

    /// The next row.
    ///
    /// # Errors
    /// If the shard cannot be read further, or has no row at all.
    pub fn next_row(&mut self) -> Result<Option<Row>, DataError> {
        match self {
            Self::Lines(lines) => lines.next_row(),
            Self::Parquet(rows) => rows.next_row(),
            Self::Packed(shard, path, _) if shard.num_rows() == 0 => Err(DataError::Empty(path.clone())),
            Self::Memory(examples, _) if examples.is_empty() => Err(DataError::Empty(MEMORY.into())),
            Self::Packed(shard, path, next) => Ok((*next < shard.num_rows()).then(|| {
                *next += 1;
                let place = Place { file: path.clone(), line: *next };
                Row { place, content: Content::Packed(shard.clone(), *next - 1) }
            })),
            Self::Memory(examples, next) => Ok((*next < examples.len()).then(|| {
                *next += 1;
                let place = Place { file: MEMORY.into(), line: *next };
                Row { place, content: Content::Example(examples.clone(), *next - 1) }
            })),
        }
    }
}

/// All rows of all files that `patterns` name, in order.
///
/// # Errors
/// If a pattern names nothing.
pub fn rows<P: AsRef<Path>>(patterns: &[P]) -> Result<impl Iterator<Item = Result<Row, DataError>>, DataError> {
    Ok(rows_of(expand(patterns)?.into_iter().map(Shard::File)))
}

/// All rows of all `shards`, in order, up to the first error.
pub fn rows_of(mut shards: impl Iterator<Item = Shard>) -> impl Iterator<Item = Result<Row, DataError>> {
    let mut open: Option<Reader> = None;
    let mut failed = false;
    std::iter::from_fn(move || {
        while !failed {
            let Some(reader) = &mut open else {
                match Reader::open(&shards.next()?, Position::default(), None) {
                    Ok(reader) => open = Some(reader),
                    Err(error) => {
                        failed = true;
                        return Some(Err(error));
                    }
                }
                continue;
            };
            match reader.next_row().transpose() {
                None => open = None,
                Some(row) => {
                    failed = row.is_err();
                    return Some(row);
                }
            }
        }
        None
    })
}

/// What to do with a row that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// Stop with an error that gives its place and reason.
    #[default]
    Fail,
    /// Skip it, and count it by reason.
    Skip,
}

impl OnBadRow {
    /// The same choice, with the largest share of rows that may be skipped.
    pub fn up_to(self, max_fraction: f64) -> BadRows {
        match self {
            Self::Fail => BadRows::Fail,
            Self::Skip => BadRows::Skip { max_fraction },
        }
    }
}

/// What to do with unusable rows of files that are read as a whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BadRows {
    /// Stop at the first.
    Fail,
    /// Skip them and count them.
    Skip {
        /// Largest share of all rows that may be skipped; a larger one means the wrong file rather
        /// than a few bad rows.
        max_fraction: f64,
    },
}

/// Number of skipped rows by reason.
pub type Skipped = BTreeMap<ProblemCode, u64>;

/// Counts of rows: `read = used + skipped`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows read.
    pub read: u64,
    /// Rows used.
    pub used: u64,
    /// Number of skipped rows by reason.
    pub skipped: Skipped,
    /// Tokens of used rows that were truncated.
    pub cut_tokens: u64,
}

impl Counts {
    /// Number of skipped rows, for any reason.
    pub fn num_skipped(&self) -> u64 {
        self.skipped.values().sum()
    }

    /// Checks that at most a share of `max_fraction` of the rows was skipped; `first` is the first
    /// of them.
    ///
    /// # Errors
    /// If more were skipped.
    pub fn judge(&self, max_fraction: f64, (place, problem): &(Place, Problem)) -> Result<(), DataError> {
        let (read, skipped) = (self.read, self.num_skipped());
        if skipped as f64 <= max_fraction * read as f64 {
            return Ok(());
        }
        Err(DataError::TooManyBadRows { skipped, read, most: max_fraction, first: format!("{place}: {problem}") })
    }

    /// The reasons and their counts, in parentheses; empty if no row was skipped.
    pub fn reasons(&self) -> String {
        let reasons: Vec<String> = self.skipped.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) }
    }

    /// Adds the counts of `more`.
    pub fn merge(&mut self, more: &Self) {
        self.read += more.read;
        self.used += more.used;
        self.cut_tokens += more.cut_tokens;
        for (reason, number) in &more.skipped {
            *self.skipped.entry(*reason).or_default() += number;
        }
    }

    /// Counts one row.
    pub fn add<T>(&mut self, row: &Result<T, Problem>) {
        self.read += 1;
        match row {
            Ok(_) => self.used += 1,
            Err(problem) => *self.skipped.entry(problem.code).or_default() += 1,
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (read, used, skipped) = (self.read, self.used, self.num_skipped());
        write!(f, "{read} rows read, {used} used, {skipped} left out{}", self.reasons())?;
        if self.cut_tokens > 0 {
            write!(f, "; {} tokens did not fit", self.cut_tokens)?;
        }
        Ok(())
    }
}

/// Reads all rows of all files into memory.
///
/// # Errors
/// If a file cannot be read or has no row at all; at the first bad row if `bad_rows` is
/// [`BadRows::Fail`], else if there are too many bad rows.
pub fn load_records<P: AsRef<Path>>(patterns: &[P], bad_rows: BadRows) -> Result<(Vec<Record>, Counts), DataError> {
    let (placed, counts) = load(patterns, bad_rows, Ok)?;
    Ok((without_places(placed), counts))
}

/// Reads all tool-call examples of all files into memory.
///
/// # Errors
/// As [`load_records`]; pretraining text is a bad row.
pub fn load_examples<P: AsRef<Path>>(patterns: &[P], bad_rows: BadRows) -> Result<(Vec<Example>, Counts), DataError> {
    let (placed, counts) = load_placed_examples(patterns, bad_rows)?;
    Ok((without_places(placed), counts))
}

/// Like [`load_examples`], with the file and line of each example.
///
/// # Errors
/// As [`load_examples`].
pub fn load_placed_examples<P: AsRef<Path>>(
    patterns: &[P],
    bad_rows: BadRows,
) -> Result<(Vec<(Place, Example)>, Counts), DataError> {
    load(patterns, bad_rows, |record| match record {
        Record::ToolCall(example) => Ok(example),
        _ => Err(Problem::new("line", ProblemCode::BadField, "pretraining text, expected a tool-call example")),
    })
}

fn without_places<T>(placed: Vec<(Place, T)>) -> Vec<T> {
    placed.into_iter().map(|(_, row)| row).collect()
}

fn load<P: AsRef<Path>, T>(
    patterns: &[P],
    bad_rows: BadRows,
    convert: impl Fn(Record) -> Result<T, Problem>,
) -> Result<(Vec<(Place, T)>, Counts), DataError> {
    let mut loaded = Vec::new();
    let mut counts = Counts::default();
    let mut first: Option<(Place, Problem)> = None;
    for row in rows(patterns)? {
        let row = row?;
        let converted = row.record().and_then(&convert);
        counts.add(&converted);
        match converted {
            Ok(converted) => loaded.push((row.place, converted)),
            Err(problem) if bad_rows == BadRows::Fail => return Err(DataError::Row { place: row.place, problem }),
            Err(problem) => _ = first.get_or_insert((row.place, problem)),
        }
    }
    if let (BadRows::Skip { max_fraction }, Some(first)) = (bad_rows, first) {
        counts.judge(max_fraction, &first)?;
    }
    Ok((loaded, counts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const SKIP: BadRows = BadRows::Skip { max_fraction: 0.5 };
    const GOOD: &str = r#"{"query":"q","tools":[{"name":"a"}],"answers":[]}"#;

    fn file(name: &str, contents: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, contents).unwrap();
        (dir, path)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_gzip_and_zstd_files_read_the_same() {
        let text = format!("\u{feff}{GOOD}\r\n\n{GOOD}");
        for (name, bytes) in [
            ("a.jsonl", text.clone().into_bytes()),
            ("a.jsonl.gz", gzip(text.as_bytes())),
            ("a.jsonl.zst", zstd::encode_all(text.as_bytes(), 1).unwrap()),
        ] {
            let (_dir, path) = file(name, &bytes);
            let (loaded, counts) = load_examples(&[path], BadRows::Fail).unwrap();
            assert_eq!((loaded.len(), counts.num_skipped()), (2, 0), "{name}");
        }
    }

    #[test]
    fn a_bad_row_stops_with_its_line_or_is_counted() {
        let (_dir, path) = file("a.jsonl", format!("{GOOD}\n\n{{}}}}\n{GOOD}\n\"\\\u{1}\"\n").as_bytes());
        let error = load_examples(std::slice::from_ref(&path), BadRows::Fail).unwrap_err();
        assert!(error.to_string().contains("a.jsonl:3: line: not JSON"), "{error}");
        let (loaded, counts) = load_examples(&[path], SKIP).unwrap();
        assert_eq!((loaded.len(), counts.skipped[&ProblemCode::NotJson]), (2, 2));
        assert_eq!(counts.to_string(), "4 rows read, 2 used, 2 left out (not_json 2)");
    }

    /// Regression: most of a file of 500 rows was skipped silently, because the share was judged
    /// only from 1,000 rows on.
    #[test]
    fn too_large_a_share_of_bad_rows_is_refused_in_small_files_too() {
        let (_dir, path) = file("a.jsonl", format!("{GOOD}\n7\n8\n{GOOD}\n9\n").as_bytes());
        let error = load_examples(std::slice::from_ref(&path), SKIP).unwrap_err().to_string();
        assert!(error.contains("3 of 5 rows") && error.contains("a.jsonl:2: line: expected an object"), "{error}");
        let (loaded, _) = load_examples(&[path], BadRows::Skip { max_fraction: 0.6 }).unwrap();
        assert_eq!(loaded.len(), 2);
    }

    #[test]
    fn json_that_is_not_in_lines_says_so() {
        let record = |line: &str| {
            let place = Place { file: "a.json".into(), line: 1 };
            Row { place, content: Content::Line(line.into()) }.record().unwrap_err()
        };
        for line in ["[", "{", "[ {", &format!("[{GOOD},"), &format!("[{GOOD}]")] {
            assert_eq!(record(line).code, ProblemCode::NotJsonLines, "{line}");
        }
        assert!(record("[").reason.contains("each of its objects on a line of its own"));
        assert_eq!(record("[]").code, ProblemCode::BadField);
        assert_eq!(record("{}}").code, ProblemCode::NotJson);
    }

    #[test]
    fn truncated_packed_files_are_errors_and_keep_what_came_before() {
        let text = (0..40_000u64)
            .map(|i| format!("{{\"text\":\"{}\"}}\n", i.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
            .collect::<String>();
        for (name, whole) in
            [("a.jsonl.gz", gzip(text.as_bytes())), ("a.jsonl.zst", zstd::encode_all(text.as_bytes(), 1).unwrap())]
        {
            let (_dir, path) = file(name, &whole[..whole.len() / 2]);
            let rows: Vec<_> = rows(&[&path]).unwrap().collect();
            let (last, before) = rows.split_last().unwrap();
            assert!(matches!(last, Err(DataError::Io { .. })), "{name}");
            assert!(!before.is_empty() && before.iter().all(Result::is_ok), "{name}");
            assert!(last.as_ref().unwrap_err().to_string().contains(&format!("{name}:")), "with the line");
        }
    }

    #[test]
    fn missing_empty_and_repeated_files_and_directories_are_errors() {
        let (dir, path) = file("a.jsonl", b"\n\n");
        assert!(matches!(load_examples(&[&path], SKIP), Err(DataError::Empty(_))));
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(load_examples(&[&path], SKIP), Err(DataError::Empty(_))));
        std::fs::write(&path, GOOD).unwrap();
        let twice = expand(&[path.as_path(), dir.path()]).unwrap_err().to_string();
        assert!(twice.contains("named twice"), "{twice}");
        let nothing = expand(&[dir.path().join("*.parquet")]).unwrap_err().to_string();
        assert!(nothing.contains("matches no file"), "{nothing}");
        let empty = tempfile::tempdir().unwrap();
        assert!(expand(&[empty.path()]).unwrap_err().to_string().contains("holds no file"));
        assert!(expand(&["/nowhere/a.jsonl"]).unwrap_err().to_string().contains("no such file"));
        assert!(Lines::open(dir.path(), Position::default()).is_err());
    }

    #[test]
    fn directories_are_searched_and_globs_matched_in_order() {
        let (dir, _) = file("b.jsonl", GOOD.as_bytes());
        std::fs::create_dir(dir.path().join("more")).unwrap();
        for name in ["a.jsonl.gz", "more/c.parquet", "notes.txt", "more/readme.md"] {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        let names = |files: Vec<PathBuf>| -> Vec<String> {
            files.iter().map(|f| f.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(expand(&[dir.path()]).unwrap()), ["a.jsonl.gz", "b.jsonl", "more/c.parquet"]);
        assert_eq!(names(expand(&[dir.path().join("*.jsonl*")]).unwrap()), ["a.jsonl.gz", "b.jsonl"]);
    }

    #[test]
    fn invalid_utf8_is_a_problem_of_its_line() {
        let (_dir, path) = file("a.jsonl", &[GOOD.as_bytes(), b"\n\"\xff\"\n"].concat());
        let error = load_examples(&[path], BadRows::Fail).unwrap_err();
        assert!(error.to_string().contains(":2: line: not UTF-8"), "{error}");
    }

    #[test]
    fn a_line_of_fifty_megabytes_is_counted_and_not_kept() {
        let long = format!("{{\"text\":\"{}\"}}", "x".repeat(50 << 20));
        let (_dir, path) = file("a.jsonl", format!("{GOOD}\n{long}\n{GOOD}\n").as_bytes());
        let (loaded, counts) = load_examples(&[path], SKIP).unwrap();
        assert_eq!((loaded.len(), counts.skipped[&ProblemCode::RowTooLong]), (2, 1));
    }

    #[test]
    fn reading_goes_on_from_every_position() {
        let text = format!("\u{feff}{GOOD}\r\n\n{GOOD}\n  {GOOD}\n{GOOD}");
        for (name, bytes) in [("a.jsonl", text.clone().into_bytes()), ("a.jsonl.gz", gzip(text.as_bytes()))] {
            let (_dir, path) = file(name, &bytes);
            let mut lines = Lines::open(&path, Position::default()).unwrap();
            let mut left = 4;
            loop {
                let mut again = Lines::open(&path, lines.position()).unwrap();
                let mut rest = 0;
                while let Some(row) = again.next_row().unwrap() {
                    assert!(row.record().is_ok(), "{name}: {:?}", row);
                    rest += 1;
                }
                assert_eq!(rest, left, "{name}");
                if lines.next_row().unwrap().is_none() {
                    break;
                }
                left -= 1;
            }
            let shortened = Lines::open(&path, Position { row: 9, byte: 9999 }).err().unwrap().to_string();
            assert!(shortened.contains("ends before byte 9999"), "{shortened}");
        }
    }
}
