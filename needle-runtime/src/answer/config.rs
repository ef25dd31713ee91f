//! How questions are answered.

use crate::constrain::copying::ValuesPolicy;

/// How questions are answered.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerConfig {
    /// Only what the tools allow is written.
    pub constrained: bool,
    /// Fewest calls of an answer, where it is constrained: 1 where a call is demanded.
    pub min_calls: usize,
    /// Most calls of an answer, where it is constrained.
    pub max_calls: usize,
    /// Most tokens of an answer; as many as the model writes, if not given.
    pub max_tokens: Option<usize>,
    /// Which strings of a constrained answer must be words of the query.
    pub values: ValuesPolicy,
    /// Where the grammar forbids what the model wants, other answers are decoded, and the most
    /// probable one is taken.
    pub look_ahead: bool,
    /// Where more tools are offered, the retrieval head picks so many.
    pub top_k: usize,
    /// How much the retrieval head has to say about which tool a constrained answer calls, beside
    /// the decoder: 0 nothing, 1 as much. Without such a head it is 0.
    pub retrieval_weight: f32,
    /// Answers of which the model is less sure become "nothing to call".
    pub abstain_below: Option<f64>,
    /// A prompt longer than the model reads is an error; else its end is cut.
    pub strict: bool,
    /// Questions answered together.
    pub batch_size: usize,
}

impl Default for AnswerConfig {
    fn default() -> Self {
        Self {
            constrained: cfg!(feature = "constrain"),
            min_calls: 0,
            // More than any of the datasets in docs/LOG.md asks for.
            max_calls: 8,
            max_tokens: None,
            values: ValuesPolicy::default(),
            look_ahead: false,
            // Training prompts seldom offer more.
            top_k: 10,
            retrieval_weight: 0.0,
            abstain_below: None,
            strict: false,
            batch_size: 32,
        }
    }
}
