//! Errors of this crate: what is wrong with the input, and where.

use std::fmt;
use std::path::PathBuf;

/// A line of a file. Places in one file are ordered by line number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Place {
    /// The file as the user named it.
    pub file: PathBuf,
    /// Line number, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Why one row cannot be used: the field, a short stable code to count by, and a sentence for the
/// user.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Problem {
    /// Path of the field, such as `answers[0].arguments.city`; `line` for the row as a whole.
    pub field: String,
    /// Stable code to count and filter by.
    pub code: ProblemCode,
    /// One sentence: what was found and what was expected.
    pub reason: String,
}

impl Problem {
    /// A problem with `field`; `reason` is one sentence.
    pub fn new(field: impl Into<String>, code: ProblemCode, reason: impl Into<String>) -> Self {
        Self { field: field.into(), code, reason: reason.into() }
    }
}

/// The kinds of unusable rows. The snake_case names are the keys of every count that we print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// The line or an embedded string is not JSON.
    NotJson,
    /// The line begins a JSON value that spans several lines, or a list of rows.
    NotJsonLines,
    /// A key is missing, or a value has another JSON type than its key requires.
    BadField,
    /// The query is missing, empty or blank.
    EmptyQuery,
    /// `tools` is not a list of tool definitions.
    BadTools,
    /// Two offered tools share a name.
    DuplicateTool,
    /// A call names a tool that is not offered.
    UnknownTool,
    /// A call has an argument that its tool does not declare.
    UnknownArgument,
    /// A call lacks a required argument.
    MissingArgument,
    /// An argument has another type than declared.
    WrongType,
    /// A pretraining text is missing, empty or blank.
    EmptyText,
    /// The row is longer than the limit on what is read into memory at once.
    RowTooLong,
    /// The answer has more tokens than the decoder reads; it is skipped, never cut.
    AnswerTooLong,
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::NotJson => "not_json",
            Self::NotJsonLines => "not_json_lines",
            Self::BadField => "bad_field",
            Self::EmptyQuery => "empty_query",
            Self::BadTools => "bad_tools",
            Self::DuplicateTool => "duplicate_tool",
            Self::UnknownTool => "unknown_tool",
            Self::UnknownArgument => "unknown_argument",
            Self::MissingArgument => "missing_argument",
            Self::WrongType => "wrong_type",
            Self::EmptyText => "empty_text",
            Self::RowTooLong => "row_too_long",
            Self::AnswerTooLong => "answer_too_long",
        };
        f.write_str(name)
    }
}

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file could not be opened, read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: std::io::Error,
    },
    /// A row cannot be used.
    #[error("{place}: {problem}")]
    Row {
        /// File and line of the row.
        place: Place,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A packed shard is damaged, or was made with another tokenizer or version.
    #[error("{}: {reason}", path.display())]
    Packed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// So many rows are unusable that this is probably not the intended data.
    #[error("{skipped} of {read} rows cannot be used, more than max_bad_fraction = {most}; the first: {first}")]
    TooManyBadRows {
        /// Rows left out.
        skipped: u64,
        /// Rows read.
        read: u64,
        /// The limit.
        most: f64,
        /// The first bad row, with its place.
        first: String,
    },
    /// A whole epoch yielded no example.
    #[error("no usable example: {0}")]
    NoExamples(String),
    /// Training cannot resume from a saved position in the data.
    #[error("cannot resume from the saved position in the data: {0}")]
    Cursor(String),
    /// A file holds no row at all.
    #[error("{}: no rows", .0.display())]
    Empty(PathBuf),
    /// Word vectors cannot be used.
    #[error("{}: {reason}", path.display())]
    WordVectors {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// The tokenizer file or its training input is unusable.
    #[error("tokenizer{}: {reason}", path.as_ref().map(|p| format!(" {}", p.display())).unwrap_or_default())]
    Tokenizer {
        /// The file, if one is involved.
        path: Option<PathBuf>,
        /// What is wrong.
        reason: String,
    },
    /// A setting has an invalid value.
    #[error("{field}: {reason}")]
    Config {
        /// The setting.
        field: &'static str,
        /// What was expected.
        reason: String,
    },
}

impl DataError {
    /// Wraps an I/O error with the path of its file.
    pub fn io(path: impl Into<PathBuf>, error: std::io::Error) -> Self {
        Self::Io { path: path.into(), error }
    }
}
