//! A task: the rows of one request, and their requirements.

use needle_data::{Example, Tool};
use serde::{Deserialize, Serialize};

use crate::kind::{Kind, Shape};

/// How long a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// Up to eight words.
    Short,
    /// Eight to eighteen words.
    Medium,
    /// Eighteen to forty words.
    Long,
}

impl Length {
    /// All lengths.
    pub const ALL: [Self; 3] = [Self::Short, Self::Medium, Self::Long];

    /// The length in the words of the teacher's prompt.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Short => "3 to 8 words",
            Self::Medium => "8 to 18 words",
            Self::Long => "18 to 40 words",
        }
    }
}

/// The place of a task in the matrix of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The tool in focus; for rows without a call, an offered tool, which may be similar.
    pub tool: String,
    /// The kind of its requests.
    pub kind: Kind,
    /// The person who asks.
    pub persona: String,
    /// How long the queries are.
    pub length: Length,
    /// Their language, in English.
    pub language: String,
}

/// The rows of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its number in the run.
    pub number: usize,
    /// Number of rows to ask for.
    pub rows: usize,
    /// Their place in the plan's matrix.
    pub cell: Cell,
    /// The tools on offer.
    pub tools: Vec<Tool>,
    /// The existing example to paraphrase or to make near misses of, if any.
    pub source: Option<Example>,
}

impl Task {
    /// The calls of every row, if the task fixes them: those of the source, or none.
    pub fn fixed_answers(&self) -> Option<Vec<needle_data::Call>> {
        match (self.cell.kind.shape(), &self.source) {
            (Shape::Source, Some(source)) => Some(source.answers.clone()),
            (Shape::None, Some(_)) => Some(Vec::new()),
            _ => None,
        }
    }
}
