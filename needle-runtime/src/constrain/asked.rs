//! What is asked, and what the answer may be.

use needle_data::Tool;

use super::copying::Values;

/// A question, as constraints see it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The query.
    pub query: &'a str,
    /// The tools on offer.
    pub tools: &'a [Tool],
    /// Which strings must be words of the query.
    pub values: &'a Values,
    /// Fewest calls of an answer.
    pub min_calls: usize,
    /// Most calls of an answer.
    pub max_calls: usize,
    /// Most tokens of an answer, `<tool_call>` and the end included.
    pub max_tokens: usize,
}
