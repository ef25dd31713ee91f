//! Ranks tools by similarity to a query: the retrieval head embeds query and tools as unit vectors,
//! and tools are ranked by cosine. If the tokenizer has word vectors, the similarity of the words
//! ([`needle_data::similarity`]) is added: it finds tools that the model was never trained on.

pub mod catalogue;
pub mod tool_vectors;

use needle_data::similarity::ToolWords;
use needle_data::text::names::NameMap;
use needle_data::{Encoder, Tool};
use serde_json::Value;

/// The token ids by which each of `tools` is embedded.
pub fn tool_texts(encoder: &Encoder<'_>, tools: &[Tool]) -> Vec<Vec<u32>> {
    let names = NameMap::of(tools);
    let text = |(i, tool): (usize, &Tool)| encoder.tool_ids(&tool.to_json_named(names.inner(i)).to_string());
    tools.iter().enumerate().map(text).collect()
}

/// The words of `tools`; `None` if the tokenizer has no word vectors.
pub fn tool_words(encoder: &Encoder<'_>, tools: &[Tool]) -> Option<ToolWords> {
    let names = NameMap::of(tools);
    let native: Vec<Value> = tools.iter().enumerate().map(|(i, tool)| tool.to_json_named(names.inner(i))).collect();
    ToolWords::new(&native, encoder.tokenizer())
}

/// The cosine of two unit vectors.
pub fn similarity(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Ranks `tools` by similarity to `query`: pairs of index and similarity, best first. Equally
/// similar tools keep their order.
pub fn rank(query: &[f32], tools: &[Vec<f32>]) -> Vec<(usize, f32)> {
    best_first(tools.iter().map(|tool| similarity(query, tool)).collect())
}

/// As [`rank`], with the similarity of words added to that of the vectors.
pub fn rank_with_words(query: &[f32], tools: &[Vec<f32>], words: &[f32]) -> Vec<(usize, f32)> {
    best_first(tools.iter().zip(words).map(|(tool, words)| similarity(query, tool) + words).collect())
}

fn best_first(similarities: Vec<f32>) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = similarities.into_iter().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
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
