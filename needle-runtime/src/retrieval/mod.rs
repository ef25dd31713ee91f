//! Ranks tools by similarity to a query: the retrieval head embeds query and tools as unit vectors,
//! and tools are ranked by cosine.

pub mod catalogue;
pub mod tool_vectors;

use needle_data::text::names::NameMap;
use needle_data::{Encoder, Tool};

/// The token ids by which each of `tools` is embedded.
pub fn tool_texts(encoder: &Encoder<'_>, tools: &[Tool]) -> Vec<Vec<u32>> {
    let names = NameMap::of(tools);
    let text = |(i, tool): (usize, &Tool)| encoder.tool_ids(&tool.to_json_named(names.inner(i)).to_string());
    tools.iter().enumerate().map(text).collect()
}

/// The cosine of two unit vectors.
pub fn similarity(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Ranks `tools` by similarity to `query`: pairs of index and similarity, best first. Equally
/// similar tools keep their order.
pub fn rank(query: &[f32], tools: &[Vec<f32>]) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = tools.iter().map(|tool| similarity(query, tool)).enumerate().collect();
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
