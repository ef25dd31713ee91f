//! Judges finished answers: their violations of the tools' schemas, and their confidence.

use std::collections::HashMap;

use needle_data::{Call, Encoder, Tool};

use super::predict::Prediction;
use super::question::Question;
use crate::confidence::{Confidence, Similarity};
use crate::error::RuntimeError;
use crate::network::Network;
use crate::retrieval::{similarity, tool_texts};

/// Adds the retrieval head's similarities and the confidence to each of `predictions`.
///
/// # Errors
/// If a query or a tool cannot be embedded.
pub(super) fn judge(
    network: &dyn Network,
    encoder: &Encoder<'_>,
    confidence: &Confidence,
    questions: &[Question<'_>],
    predictions: &mut [Prediction],
) -> Result<(), RuntimeError> {
    let similarities = similarities(network, encoder, questions, predictions)?;
    for (prediction, similarity) in predictions.iter_mut().zip(similarities) {
        prediction.features.add_similarity(similarity);
        prediction.confidence = Some(match prediction.calls {
            Some(_) => confidence.of(&prediction.features),
            // Text that is not a list of calls is never exact.
            None => 0.0,
        });
    }
    Ok(())
}

/// Similarity of each query to the tools that its answer calls and to the other tools; zeros
/// without a retrieval head.
fn similarities(
    network: &dyn Network,
    encoder: &Encoder<'_>,
    questions: &[Question<'_>],
    predictions: &[Prediction],
) -> Result<Vec<Similarity>, RuntimeError> {
    // Questions often share tools: each distinct one is embedded once.
    let mut place: HashMap<Vec<u32>, usize> = HashMap::new();
    let mut texts: Vec<Vec<u32>> = Vec::new();
    let offered: Vec<Vec<usize>> = questions
        .iter()
        .map(|q| {
            let of_tool = |text: Vec<u32>| {
                *place.entry(text.clone()).or_insert_with(|| {
                    texts.push(text);
                    texts.len() - 1
                })
            };
            tool_texts(encoder, q.tools).into_iter().map(of_tool).collect()
        })
        .collect();
    let num_tools = texts.len();
    texts.extend(questions.iter().map(|q| encoder.query_ids(q.query)));
    let Some(vectors) = network.embed(&texts)? else {
        return Ok(vec![Similarity::default(); questions.len()]);
    };
    let (tools, queries) = vectors.split_at(num_tools);
    let of_one = |i: usize| {
        let calls = predictions[i].calls.as_deref().unwrap_or_default();
        let (mut called, mut others): (Vec<f32>, Vec<f32>) = (Vec::new(), Vec::new());
        for (tool, &place) in questions[i].tools.iter().zip(&offered[i]) {
            let is_called = calls.iter().any(|call| call.name == tool.name);
            if is_called { &mut called } else { &mut others }.push(similarity(&queries[i], &tools[place]));
        }
        let least = called.into_iter().reduce(f32::min);
        let most = others.into_iter().reduce(f32::max);
        Similarity { called: least.unwrap_or(0.0), other: most.unwrap_or(0.0) }
    };
    Ok((0..questions.len()).map(of_one).collect())
}

/// Describes where `calls` violate the schemas of `tools`.
pub(super) fn violations(tools: &[Tool], calls: &[Call]) -> Vec<String> {
    let of_call = |(i, call): (usize, &Call)| match tools.iter().find(|tool| tool.name == call.name) {
        Some(tool) => tool.violation(&call.arguments).map(|violation| format!("call {i}, {}: {violation}", call.name)),
        None => Some(format!("call {i}: {:?} is not offered", call.name)),
    };
    calls.iter().enumerate().filter_map(of_call).collect()
}
