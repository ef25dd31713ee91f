//! A question to an answer.
//!
//! | file | concept |
//! | --- | --- |
//! | [`config`] | how questions are answered |
//! | [`question`] | what is asked |
//! | [`predict`] | what a model answers, and what its confidence is judged by |
//! | `judge` | whether an answer breaks the tools' schemas, and how sure one can be of it |
//! | `stream` | an answer's text as it comes |
//! | [`needle`] | a model to ask: load, call, stream, many at once, rank |

pub mod config;
mod judge;
pub mod needle;
pub mod predict;
pub mod question;
mod stream;

use needle_data::Call;

use crate::constrain::grounding::ArgumentGrounding;

/// What the model answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The calls; none where no tool fits, or the model abstained.
    pub calls: Vec<Call>,
    /// What the model wrote.
    pub text: String,
    /// Its tokens, `<tool_call>` first.
    pub token_ids: Vec<u32>,
    /// Probability that the whole answer is exact; none without a calibration beside the model, or
    /// with one that was fitted on too few examples.
    pub confidence: Option<f64>,
    /// Examples that the confidence was fitted on.
    pub confidence_fitted_on: Option<usize>,
    /// Whether the answer was withheld for being less sure than
    /// [`config::AnswerConfig::abstain_below`].
    pub abstained: bool,
    /// Whether the answer is a whole list of calls. Where it is not, `calls` is empty and does not
    /// mean that no tool fits: see [`Answer::incomplete_because`].
    pub is_complete: bool,
    /// Where the calls break the tools' schemas, in words: what no grammar holds is checked after
    /// the answer.
    pub violations: Vec<String>,
    /// Where each argument comes from.
    pub groundings: Vec<ArgumentGrounding>,
    /// Whether the answer reached the length limit.
    pub reached_limit: bool,
    /// What of query and tools did not fit, in words.
    pub cut: Option<String>,
    /// Names of the tools that the retrieval head picked, best first, where it had to.
    pub picked: Option<Vec<String>>,
    /// Seconds from question to answer; of a batch, its share.
    pub seconds: f64,
}

impl Answer {
    /// Why the answer is not complete, in words.
    pub fn incomplete_because(&self) -> Option<String> {
        match (self.is_complete, self.reached_limit) {
            (true, _) => None,
            (false, true) => Some(format!("it reached the length limit of {} tokens", self.token_ids.len())),
            (false, false) => Some("it is not a list of calls".to_owned()),
        }
    }
}
