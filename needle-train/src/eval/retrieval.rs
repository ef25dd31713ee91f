//! How well the retrieval head finds the called tool in a whole catalogue.

use std::collections::BTreeMap;

use needle_data::text::names::NameMap;
use needle_data::{Encoder, Example, Tool};
use needle_model::dropout::Dropout;
use needle_model::generate::ids_tensor;
use needle_model::{FusedOps, San};
use serde::Serialize;

/// Fractions in 0..=1, over the examples with a call and all tools of the set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RetrievalMetrics {
    /// The called tool is ranked first.
    pub recall_at_1: f64,
    /// It is among the first five.
    pub recall_at_5: f64,
    /// Mean of one over its rank.
    pub mrr: f64,
}

/// Unit vectors of texts, given as ids, a batch at a time; `None` without a retrieval head.
pub fn embed<B: FusedOps>(model: &San<B>, texts: &[Vec<u32>], batch_size: usize) -> Option<Vec<Vec<f32>>> {
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(batch_size.max(1)) {
        let ids = ids_tensor(batch, &model.device());
        let embedded = model.retrieval_embedding(ids, &mut Dropout::none())?; // [batch, dim]
        let [_, dim] = embedded.dims();
        let values: Vec<f32> = embedded.into_data().iter::<f32>().collect();
        vectors.extend(values.chunks_exact(dim).map(<[f32]>::to_vec));
    }
    Some(vectors)
}

/// The ids that stand for each of `tools` alone.
pub fn tool_texts(encoder: &Encoder<'_>, tools: &[Tool]) -> Vec<Vec<u32>> {
    let names = NameMap::of(tools);
    let text = |(i, tool): (usize, &Tool)| encoder.tool_ids(&tool.to_json_named(names.inner(i)).to_string());
    tools.iter().enumerate().map(text).collect()
}

/// The cosine of two unit vectors.
pub fn similarity(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Indices of `tools` by similarity to `query`, best first, with the similarity; equal ones keep their order.
pub fn rank(query: &[f32], tools: &[Vec<f32>]) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = tools.iter().map(|tool| similarity(query, tool)).enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

/// Retrieval metrics of `model` on `examples`, over all their tools; a tool that occurs under several names stands there
/// once. `None` without a retrieval head or without a call.
pub fn evaluate<B: FusedOps>(
    model: &San<B>,
    encoder: &Encoder<'_>,
    examples: &[Example],
    batch_size: usize,
) -> Option<RetrievalMetrics> {
    let by_name: BTreeMap<&str, &Tool> = examples.iter().flat_map(|e| &e.tools).map(|t| (t.name.as_str(), t)).collect();
    let mut catalogue: Vec<Tool> = Vec::new();
    for tool in by_name.into_values() {
        if !catalogue.iter().any(|other| other.is_same_but_for_name(tool)) {
            catalogue.push(tool.clone());
        }
    }
    let with_call: Vec<&Example> = examples.iter().filter(|e| !e.answers.is_empty()).collect();
    if with_call.is_empty() {
        return None;
    }
    let tools = embed(model, &tool_texts(encoder, &catalogue), batch_size)?;
    let queries: Vec<Vec<u32>> = with_call.iter().map(|e| encoder.query_ids(&e.query)).collect();
    let queries = embed(model, &queries, batch_size)?;
    let (mut first, mut top5, mut reciprocal) = (0, 0, 0.0);
    for (example, query) in with_call.iter().zip(&queries) {
        let ranked = rank(query, &tools);
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
    Some(RetrievalMetrics { recall_at_1: first as f64 / n, recall_at_5: top5 as f64 / n, mrr: reciprocal / n })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_ranked_by_similarity_and_ties_keep_their_order() {
        let tools = vec![vec![0.0, 1.0], vec![1.0, 0.0], vec![0.0, 1.0]];
        let ranked: Vec<usize> = rank(&[0.1, 0.9], &tools).into_iter().map(|(i, _)| i).collect();
        assert_eq!(ranked, [0, 2, 1]);
    }
}
