//! From a question to an answer.
//!
//! | file | concept |
//! | --- | --- |
//! | [`config`] | how questions are answered |
//! | [`question`] | what is asked |
//! | [`predict`] | a model's predictions, with the features of their confidence |
//! | `judge` | schema violations and confidence of an answer |
//! | `pieces` | an answer's bytes as text, cut between characters |
//! | `stopwatch` | how long an answer took |
//! | `stream` | streaming an answer's text |
//! | [`needle`] | [`needle::Needle`], a model that can be asked: load, call, stream, batch, rank |

pub mod config;
pub mod evidence;
mod judge;
pub mod needle;
mod pieces;
pub mod predict;
pub mod question;
mod stopwatch;
mod stream;

use needle_data::Call;

pub use pieces::Utf8Pieces;

use crate::constrain::grounding::ArgumentGrounding;

/// What the model answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The calls; empty if no tool fits or the model abstained.
    pub calls: Vec<Call>,
    /// The text that the model wrote.
    pub text: String,
    /// Token ids of `text`; the first is `<tool_call>`.
    pub token_ids: Vec<u32>,
    /// Probability that the whole answer is exact; `None` if the model has no calibrated
    /// confidence, or one that was fitted on too few examples.
    pub confidence: Option<f64>,
    /// Number of examples that the confidence was fitted on.
    pub confidence_fitted_on: Option<usize>,
    /// Whether the answer was withheld because its confidence is below
    /// [`config::AnswerConfig::abstain_below`].
    pub abstained: bool,
    /// Whether the answer is a complete list of calls. If it is not, `calls` is empty, but that
    /// does not mean that no tool fits: see [`Answer::incomplete_because`].
    pub is_complete: bool,
    /// Violations of the tools' schemas, one sentence each. Rules that no grammar can enforce are
    /// checked after decoding.
    pub violations: Vec<String>,
    /// Where each argument comes from.
    pub groundings: Vec<ArgumentGrounding>,
    /// Whether the answer reached the length limit.
    pub reached_limit: bool,
    /// Which part of query and tools did not fit into the prompt, in words.
    pub cut: Option<String>,
    /// Names of the tools that the retrieval head picked, best first, if more than
    /// [`config::AnswerConfig::top_k`] were offered.
    pub picked: Option<Vec<String>>,
    /// Seconds from question to answer; in a batch, the mean per answer.
    pub seconds: f64,
}

impl Answer {
    /// Why the answer is incomplete; `None` if it is complete.
    pub fn incomplete_because(&self) -> Option<String> {
        match (self.is_complete, self.reached_limit) {
            (true, _) => None,
            (false, true) => Some(format!("it reached the length limit of {} tokens", self.token_ids.len())),
            (false, false) => Some("it is not a list of calls".to_owned()),
        }
    }
}
