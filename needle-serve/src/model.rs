//! The interface of a model: answer a question piece by piece, rank tools, embed texts.
//!
//! The trait separates HTTP from the engine, so that the contracts of the API can be tested against
//! a model that follows a script ([`crate::scripted`]), and served by the real one
//! ([`crate::needle`]).

use std::ops::ControlFlow;

use needle_data::{Call, Tool};

/// A query, the tools on offer, and how many calls the answer may have.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// What the user said.
    pub query: String,
    /// The tools on offer; at least one.
    pub tools: Vec<Tool>,
    /// Fewest calls of the answer: 1 where the client demands a call.
    pub min_calls: usize,
    /// Most calls of the answer; by default the model's own limit.
    pub max_calls: Option<usize>,
    /// Most tokens of the answer; by default the model's own limit.
    pub max_tokens: Option<usize>,
    /// An answer whose confidence is lower than this is replaced by "no call".
    pub abstain_below: Option<f64>,
}

impl Question {
    /// A question that may be answered by any number of calls, or by none.
    pub fn new(query: impl Into<String>, tools: Vec<Tool>) -> Self {
        Self { query: query.into(), tools, min_calls: 0, max_calls: None, max_tokens: None, abstain_below: None }
    }
}

/// The next bytes of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Bytes of the JSON list of calls, under the user's tool names; may end inside a character.
    pub bytes: &'a [u8],
    /// The model's probability of the token that these bytes belong to, if it is known.
    pub probability: Option<f32>,
}

/// Called with each piece of an answer; [`ControlFlow::Break`] ends the answer early.
pub type OnPiece<'a> = dyn FnMut(Piece<'_>) -> ControlFlow<()> + 'a;

/// A model's answer, after its last piece.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The calls; none if no tool fits or the model abstained.
    pub calls: Vec<Call>,
    /// Probability that the whole answer is right; none without a calibration.
    pub confidence: Option<f64>,
    /// Whether the answer was withheld because its confidence is below
    /// [`Question::abstain_below`].
    pub abstained: bool,
    /// Whether the answer is a whole list of calls.
    pub is_complete: bool,
    /// Violations of the tools' schemas by the calls.
    pub violations: Vec<String>,
    /// Which part of the query and the tools did not fit into the prompt.
    pub cut: Option<String>,
    /// Names of the tools that were offered, if the catalogue was larger than a prompt holds.
    pub picked: Option<Vec<String>>,
    /// Tokens that the model read.
    pub prompt_tokens: usize,
    /// Tokens that the model wrote.
    pub completion_tokens: usize,
    /// Seconds of computing.
    pub seconds: f64,
}

/// Unit vectors of texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embedded {
    /// One vector per text, `[texts, contrastive_dim]`.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens that the model read.
    pub tokens: usize,
}

/// Why a model gives no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The question cannot be answered: it is empty, too long, or its tools cannot be offered.
    #[error("{0}")]
    Question(String),
    /// The model lacks the part that this needs, such as a retrieval head.
    #[error("{0}")]
    Unsupported(String),
    /// The model failed.
    #[error("{0}")]
    Failed(String),
}

/// A loaded model.
pub trait Model: Send + Sync {
    /// Answers `question`, and calls `on_piece` with the answer's JSON as it is decoded.
    ///
    /// If the answer may be withheld ([`Question::abstain_below`]), `on_piece` is called only once
    /// the confidence is known.
    ///
    /// # Errors
    /// If the question cannot be answered, or the model fails.
    fn answer(&self, question: &Question, on_piece: &mut OnPiece<'_>) -> Result<Answer, ModelError>;

    /// Whether its answers have a confidence.
    fn is_calibrated(&self) -> bool;

    /// The cosine of `query` and of each of `tools`, in the order of `tools`.
    ///
    /// # Errors
    /// If the model has no retrieval head.
    fn similarities(&self, query: &str, tools: &[Tool]) -> Result<Vec<f32>, ModelError>;

    /// Unit vectors of `texts`.
    ///
    /// # Errors
    /// If the model has no retrieval head.
    fn embed(&self, texts: &[String]) -> Result<Embedded, ModelError>;
}
