//! What the server asks of a model: answer a question piece by piece, rank tools, embed texts.
//!
//! The trait keeps HTTP apart from the engine, so that the contracts of the API are tested against
//! a model that answers by script ([`crate::scripted`]) and served by the real one
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
    /// Most calls of the answer; the model's own limit without it.
    pub max_calls: Option<usize>,
    /// Most tokens of the answer; the model's own limit without it.
    pub max_tokens: Option<usize>,
    /// Answers that the model is less sure of become "nothing to call".
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
    /// The model's probability of the token behind these bytes, where it is known.
    pub probability: Option<f32>,
}

/// Takes the pieces of an answer as they come; [`ControlFlow::Break`] ends the answer early.
pub type OnPiece<'a> = dyn FnMut(Piece<'_>) -> ControlFlow<()> + 'a;

/// A model's answer, after its last piece.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The calls; none where no tool fits, or the model abstained.
    pub calls: Vec<Call>,
    /// Probability that the whole answer is right; none without a calibration.
    pub confidence: Option<f64>,
    /// Whether the answer was withheld, being less sure than [`Question::abstain_below`].
    pub abstained: bool,
    /// Whether the answer is a whole list of calls.
    pub is_complete: bool,
    /// Where the calls break the tools' schemas.
    pub violations: Vec<String>,
    /// What of query and tools did not fit into the prompt.
    pub cut: Option<String>,
    /// Names of the tools that were offered, where the catalogue was larger than a prompt holds.
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
    /// One vector a text, `[texts, contrastive_dim]`.
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
    /// The model has no part for this, such as a retrieval head.
    #[error("{0}")]
    Unsupported(String),
    /// The model failed.
    #[error("{0}")]
    Failed(String),
}

/// A loaded model.
pub trait Model: Send + Sync {
    /// Answers `question`; `on_piece` is given the answer's JSON as it comes.
    ///
    /// Where an answer may be withheld ([`Question::abstain_below`]) nothing is given before it is
    /// judged.
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
