//! A question, and the limits of its answer.

use needle_data::Tool;

use super::copying::Values;

/// A question to compile into a constraint.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The query.
    pub query: &'a str,
    /// The offered tools.
    pub tools: &'a [Tool],
    /// Which strings must be copied from the query.
    pub values: &'a Values,
    /// Minimum number of calls of an answer.
    pub min_calls: usize,
    /// Maximum number of calls of an answer.
    pub max_calls: usize,
    /// Maximum number of tokens of an answer, including `<tool_call>` and the end token.
    pub max_tokens: usize,
}
