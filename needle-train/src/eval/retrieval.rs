//! How well the retrieval head, and word vectors if there are any, find the called tool in a whole
//! catalogue.

use std::collections::BTreeMap;

use needle_data::{Example, Tool};
use needle_runtime::retrieval::{rank, rank_with_words, tool_texts, tool_words};
use needle_runtime::{Needle, RuntimeError};
use serde::Serialize;

/// Retrieval metrics in 0..=1, over the examples with a call and all tools of the set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RetrievalMetrics {
    /// Fraction of the examples whose called tool is ranked first.
    pub recall_at_1: f64,
    /// Fraction of the examples whose called tool is among the first five.
    pub recall_at_5: f64,
    /// Mean reciprocal rank of the called tool.
    pub mrr: f64,
}

/// Retrieval metrics of `needle` on `examples`, over all their tools; a tool that occurs under
/// several names counts once. `None` without a retrieval head or without a call.
///
/// # Errors
/// If the model cannot read a query or a tool.
pub fn evaluate(needle: &Needle, examples: &[Example]) -> Result<Option<RetrievalMetrics>, RuntimeError> {
    let by_name: BTreeMap<&str, &Tool> = examples.iter().flat_map(|e| &e.tools).map(|t| (t.name.as_str(), t)).collect();
    let mut catalogue: Vec<Tool> = Vec::new();
    for tool in by_name.into_values() {
        if !catalogue.iter().any(|other| other.is_same_but_for_name(tool)) {
            catalogue.push(tool.clone());
        }
    }
    let with_call: Vec<&Example> = examples.iter().filter(|e| !e.answers.is_empty()).collect();
    if with_call.is_empty() {
        return Ok(None);
    }
    let encoder = needle.encoder();
    let Some(tools) = needle.network().embed(&tool_texts(&encoder, &catalogue))? else { return Ok(None) };
    let queries: Vec<Vec<u32>> = with_call.iter().map(|e| encoder.query_ids(&e.query)).collect();
    let Some(queries) = needle.network().embed(&queries)? else { return Ok(None) };
    let words = tool_words(&encoder, &catalogue);
    let (mut first, mut top5, mut reciprocal) = (0, 0, 0.0);
    for (example, query) in with_call.iter().zip(&queries) {
        let ranked = match &words {
            Some(words) => rank_with_words(query, &tools, &words.similarities(&example.query, encoder.tokenizer())),
            None => rank(query, &tools),
        };
        // With several calls, the best ranked of the called tools counts.
        let is_called = |tool: &Tool| example.answers.iter().any(|call| call.name == tool.name);
        let called: Vec<&Tool> = example.tools.iter().filter(|tool| is_called(tool)).collect();
        let is_right = |tool: &Tool| called.iter().any(|c| c.name == tool.name || c.is_same_but_for_name(tool));
        if let Some(position) = ranked.iter().position(|(index, _)| is_right(&catalogue[*index])) {
            first += usize::from(position == 0);
            top5 += usize::from(position < 5);
            reciprocal += 1.0 / (position + 1) as f64;
        }
    }
    let n = with_call.len() as f64;
    Ok(Some(RetrievalMetrics { recall_at_1: first as f64 / n, recall_at_5: top5 as f64 / n, mrr: reciprocal / n }))
}
