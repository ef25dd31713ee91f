//! Configuration of answering.

use crate::constrain::copying::ValuesPolicy;

/// How questions are answered.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerConfig {
    /// Whether decoding is constrained to what the tools allow.
    pub constrained: bool,
    /// Minimum number of calls of a constrained answer: 1 if a call is required.
    pub min_calls: usize,
    /// Maximum number of calls of a constrained answer.
    pub max_calls: usize,
    /// Maximum number of tokens of an answer; `None` means the model's own limit.
    pub max_tokens: Option<usize>,
    /// Which strings of a constrained answer must be copied from the query.
    pub values: ValuesPolicy,
    /// Maximum number of nearly as probable answers, and of revisions, to compare with a
    /// constrained greedy answer ([`crate::answer::evidence`]); 0 takes the greedy answer. Without
    /// answers that are nearly as probable, the model is certain, and nothing is compared.
    pub candidates: usize,
    /// If more tools than this are offered, the retrieval head picks this many of them.
    pub top_k: usize,
    /// Weight of the retrieval head's scores, relative to the decoder's logits, when a constrained
    /// answer chooses a tool: 0 ignores them, 1 gives them the same weight. Has no effect without a
    /// retrieval head.
    pub retrieval_weight: f32,
    /// Answers with a confidence below this are replaced by an empty list of calls.
    pub abstain_below: Option<f64>,
    /// Whether a prompt longer than the model's limit is an error; otherwise its end is cut off.
    pub strict: bool,
    /// Maximum number of questions per batch.
    pub batch_size: usize,
}

impl Default for AnswerConfig {
    fn default() -> Self {
        Self {
            constrained: cfg!(feature = "constrain"),
            min_calls: 0,
            // More than any of the datasets in docs/LOG.md needs.
            max_calls: 8,
            max_tokens: None,
            values: ValuesPolicy::default(),
            // More bring no better answers: docs/LOG.md, "The best of several answers".
            candidates: 6,
            // Training prompts seldom offer more.
            top_k: 10,
            retrieval_weight: 0.0,
            abstain_below: None,
            strict: false,
            batch_size: 32,
        }
    }
}
