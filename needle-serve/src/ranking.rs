//! Ranks tools for a query, by the model's similarity and by shared words (BM25).
//!
//! `score = similarity + bm25 / most`, where the similarity is the cosine of the retrieval head's
//! vectors (plus that of the words if the model has word vectors), and `most` is the highest score
//! of a single word, one that no other tool has. So a shared rare word, such as the name of a tool
//! that the model was never trained on, counts as much as a perfect cosine, and a shared "the" next
//! to nothing. Sums of scaled scores beat sums of ranks (Bruch et al. 2023,
//! <https://arxiv.org/abs/2210.11934>): by rank, a tool that shares only common words could
//! overtake one that fits.

use std::collections::BTreeMap;

use needle_data::Tool;
use serde::Serialize;

use crate::bm25::Bm25;
use crate::model::{Model, ModelError};

/// A tool's place in a ranking.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// The tool's index in the catalogue.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The sum of both scores; higher is better.
    pub score: f64,
    /// The model's similarity of the query and the tool; none if it has no retrieval head.
    pub similarity: Option<f32>,
    /// BM25 of the query's words in the tool's.
    pub word_score: f64,
}

/// The index of the words of `tools` by which [`rank`] ranks them.
pub fn index(tools: &[Tool]) -> Bm25 {
    let texts: Vec<String> = tools.iter().map(tool_words).collect();
    Bm25::new(texts.iter().map(String::as_str))
}

/// The words of a tool's name, description and arguments.
pub fn tool_words(tool: &Tool) -> String {
    let mut text = format!("{} {}", tool.name, tool.description);
    for parameter in &tool.parameters {
        text.push(' ');
        text.push_str(&parameter.name);
        if let Some(description) = parameter.spec.get("description").and_then(|d| d.as_str()) {
            text.push(' ');
            text.push_str(description);
        }
    }
    text
}

/// Ranks `tools`, whose words are in `index`, by how well they fit `query`, best first. A model
/// without a retrieval head ranks by words alone.
///
/// # Errors
/// If the model fails.
pub fn rank(model: &dyn Model, query: &str, tools: &[Tool], index: &Bm25) -> Result<Vec<Ranked>, ModelError> {
    let (word_scores, most) = (index.scores(query), index.most_of_a_word());
    let similarities = match model.similarities(query, tools) {
        Ok(similarities) => Some(similarities),
        Err(ModelError::Unsupported(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(join(tools, similarities.as_deref(), &word_scores, most))
}

/// Joins two lists of scores, in the order of `tools`, into one ranking; `most` is the highest
/// score of one word.
fn join(tools: &[Tool], similarities: Option<&[f32]>, word_scores: &[f64], most: f64) -> Vec<Ranked> {
    let place = |(index, tool): (usize, &Tool)| {
        let similarity = similarities.map(|all| all[index]);
        let word_score = word_scores[index];
        let score = similarity.map_or(0.0, f64::from) + word_score / most;
        Ranked { index, name: tool.name.clone(), score, similarity, word_score }
    };
    let mut ranked: Vec<Ranked> = tools.iter().enumerate().map(place).collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    ranked
}

/// How often the right tools of queries are among the best k.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recall {
    /// Queries that were measured.
    pub queries: usize,
    /// Tools of the catalogue.
    pub tools: usize,
    /// For each k, the mean fraction of a query's right tools among the first k.
    pub recall_at: BTreeMap<usize, f64>,
    /// Mean reciprocal rank of the first right tool.
    pub mrr: f64,
}

/// Measures `model` on queries with the names of their right tools, and skips queries without any.
///
/// # Errors
/// If the model fails.
pub fn recall(
    model: &dyn Model,
    tools: &[Tool],
    queries: &[(String, Vec<String>)],
    ks: &[usize],
) -> Result<Recall, ModelError> {
    let mut recall =
        Recall { queries: 0, tools: tools.len(), recall_at: ks.iter().map(|&k| (k, 0.0)).collect(), mrr: 0.0 };
    let index = index(tools);
    for (query, right) in queries.iter().filter(|(_, right)| !right.is_empty()) {
        let ranked = rank(model, query, tools, &index)?;
        recall.queries += 1;
        for (&k, sum) in &mut recall.recall_at {
            let found = right.iter().filter(|name| ranked.iter().take(k).any(|r| r.name == **name)).count();
            *sum += found as f64 / right.len() as f64;
        }
        recall.mrr += ranked.iter().position(|r| right.contains(&r.name)).map_or(0.0, |p| 1.0 / (p + 1) as f64);
    }
    let count = recall.queries.max(1) as f64;
    recall.recall_at.values_mut().for_each(|sum| *sum /= count);
    recall.mrr /= count;
    Ok(recall)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::Scripted;

    fn tools(names: &[&str]) -> Vec<Tool> {
        names.iter().map(|name| Tool::new(*name, format!("{name} things"), Vec::new())).collect()
    }

    fn names(ranked: &[Ranked]) -> Vec<&str> {
        ranked.iter().map(|r| r.name.as_str()).collect()
    }

    #[test]
    fn a_tool_that_both_lists_like_comes_before_one_that_only_one_likes() {
        let tools = tools(&["a", "b", "c"]);
        let ranked = join(&tools, Some(&[0.9, 0.8, 0.1]), &[0.0, 2.0, 1.0], 4.0);
        assert_eq!(names(&ranked), ["b", "a", "c"]);
    }

    #[test]
    fn without_vectors_words_decide_and_ties_keep_the_order_of_the_catalogue() {
        let tools = tools(&["a", "b", "c", "d"]);
        assert_eq!(names(&join(&tools, None, &[0.0, 1.0, 0.0, 3.0], 4.0)), ["d", "b", "a", "c"]);
    }

    #[test]
    fn recall_counts_the_right_tools_among_the_first() {
        let tools = tools(&["frobnicate", "calibrate", "annihilate"]);
        let queries = [
            ("frobnicate it".to_owned(), vec!["frobnicate".to_owned()]),
            ("calibrate it".to_owned(), vec!["calibrate".to_owned(), "not there".to_owned()]),
            ("idle".to_owned(), Vec::new()),
        ];
        let recall = recall(&Scripted::default(), &tools, &queries, &[1, 3]).unwrap();
        assert_eq!(recall.queries, 2);
        assert!(recall.recall_at[&1] <= recall.recall_at[&3]);
        assert_eq!(recall.recall_at[&3], 0.75);
    }
}
