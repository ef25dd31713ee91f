//! A task: one request's worth of rows, and what they have to be.

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
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Short, Self::Medium, Self::Long];

    /// What the teacher is told.
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
    /// The tool in focus; of rows without a call, the one that is nearly meant or on offer.
    pub tool: String,
    /// What is special about its requests.
    pub kind: Kind,
    /// Who asks.
    pub persona: String,
    /// How long the queries are.
    pub length: Length,
    /// Their language, in English.
    pub language: String,
}

/// One request's worth of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its number in the run.
    pub number: usize,
    /// Rows that it is to give.
    pub rows: usize,
    /// What they are to be.
    pub cell: Cell,
    /// The tools on offer.
    pub tools: Vec<Tool>,
    /// What somebody wrote, where that is to be worded anew or made a near miss of.
    pub source: Option<Example>,
}

impl Task {
    /// The calls that a row has where the task fixes them: those of the source, or none.
    pub fn fixed_answers(&self) -> Option<Vec<needle_data::Call>> {
        match (self.cell.kind.shape(), &self.source) {
            (Shape::Source, Some(source)) => Some(source.answers.clone()),
            (Shape::None, Some(_)) => Some(Vec::new()),
            _ => None,
        }
    }
}
