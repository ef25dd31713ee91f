//! How good a model is: predictions, the one scorer, retrieval metrics.

pub mod mistake;
pub mod predict;
pub mod retrieval;
pub mod score;

use std::collections::BTreeMap;
use std::time::Instant;

use needle_data::{Encoder, Example};
use needle_model::fake_quant::{Precision, at_precision};
use needle_model::{FusedOps, San};
use serde::Serialize;

use crate::recipe::EvalConfig;
use predict::{Prediction, predict};
use retrieval::RetrievalMetrics;
use score::{Score, Scorer};

/// All metrics of one model on one set, at one precision. The keys of its JSON form are a contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Examples.
    pub n: usize,
    /// The precision.
    pub precision: Precision,
    /// What the scorer counted.
    #[serde(flatten)]
    pub score: Score,
    /// Retrieval over all tools of the set; none without a retrieval head, or without a call.
    #[serde(flatten)]
    pub retrieval: Option<RetrievalMetrics>,
    /// Decoded tokens a second.
    pub tokens_per_second: f64,
    /// Exact match by number of offered tools.
    pub exact_match_by_offered_tools: BTreeMap<usize, f64>,
}

/// Evaluates `model` on `examples` at `precision`; also gives the predictions, in order.
pub fn evaluate<B: FusedOps>(
    model: &San<B>,
    encoder: &Encoder<'_>,
    examples: &[Example],
    precision: Precision,
    config: &EvalConfig,
    progress: &mut dyn FnMut(usize),
) -> (Evaluation, Vec<Prediction>) {
    let model = at_precision(model.clone(), precision);
    let start = Instant::now();
    let predictions = predict(&model, encoder, examples, config, progress);
    let seconds = start.elapsed().as_secs_f64();
    let mut all = Scorer::default();
    let mut by_offered: BTreeMap<usize, Scorer> = BTreeMap::new();
    for (example, prediction) in examples.iter().zip(&predictions) {
        all.add(&example.answers, prediction.calls.as_deref());
        by_offered.entry(example.tools.len()).or_default().add(&example.answers, prediction.calls.as_deref());
    }
    let tokens: usize = predictions.iter().map(|p| p.token_ids.len()).sum();
    let evaluation = Evaluation {
        n: examples.len(),
        precision,
        score: all.score(),
        retrieval: retrieval::evaluate(&model, encoder, examples, config.batch_size),
        tokens_per_second: tokens as f64 / seconds.max(1e-9),
        exact_match_by_offered_tools: by_offered.into_iter().map(|(n, s)| (n, s.score().exact_match)).collect(),
    };
    (evaluation, predictions)
}
