//! How good a model is: predictions, the one scorer, retrieval metrics, confidence.

pub mod bfcl;
pub mod breakdown;
pub mod confidence;
pub mod mistake;
pub mod predict;
pub mod retrieval;
pub mod score;

use std::collections::BTreeMap;
use std::time::Instant;

use needle_data::{Encoder, Example};
use needle_model::constrain::Constrainer;
use needle_model::quant::fake_quant::{Precision, at_precision};
use needle_model::{FusedOps, ModelError, San};
use serde::Serialize;

use crate::recipe::EvalConfig;
use confidence::{Confidence, RiskAtCoverage, expected_calibration_error, risk_coverage};
use predict::{Answerer, Prediction, Question};
use retrieval::RetrievalMetrics;
use score::{Score, Scorer, same_calls};

/// All metrics of one model on one set, at one precision. The keys of its JSON form are a contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Examples.
    pub n: usize,
    /// The precision.
    pub precision: Precision,
    /// Whether the model could only write what the tools allow.
    pub constrained: bool,
    /// What the scorer counted.
    #[serde(flatten)]
    pub score: Score,
    /// Retrieval over all tools of the set; none without a retrieval head, or without a call.
    #[serde(flatten)]
    pub retrieval: Option<RetrievalMetrics>,
    /// How well confidence is calibrated; none where the model has no calibration.
    #[serde(flatten)]
    pub calibration: Option<Calibration>,
    /// Decoded tokens a second.
    pub tokens_per_second: f64,
    /// Exact match by number of offered tools.
    pub exact_match_by_offered_tools: BTreeMap<usize, f64>,
}

/// What confidence is worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Mean distance of confidence and accuracy.
    pub expected_calibration_error: f64,
    /// What is wrong among the most confident answers.
    pub risk_coverage: Vec<RiskAtCoverage>,
}

/// The answers of `model`, which is at its precision already, to `examples`.
fn answers<B: FusedOps>(
    model: &San<B>,
    encoder: &Encoder<'_>,
    examples: &[Example],
    config: &EvalConfig,
    confidence: Option<&Confidence>,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Prediction>, ModelError> {
    let constrainer = config.constrained.then(|| Constrainer::new(encoder.tokenizer())).transpose()?;
    let questions: Vec<Question<'_>> =
        examples.iter().map(|example| Question { query: &example.query, tools: &example.tools }).collect();
    Answerer { model, encoder, constrainer: constrainer.as_ref(), confidence, config }.answer(&questions, progress)
}

/// Evaluates `model` on `examples` at `precision`; also gives the predictions, in order.
///
/// # Errors
/// If an example's tools cannot be constrained, where `config` asks for it.
pub fn evaluate<B: FusedOps>(
    model: &San<B>,
    encoder: &Encoder<'_>,
    examples: &[Example],
    precision: Precision,
    config: &EvalConfig,
    confidence: Option<&Confidence>,
    progress: &mut dyn FnMut(usize),
) -> Result<(Evaluation, Vec<Prediction>), ModelError> {
    let model = at_precision(model.clone(), precision);
    let start = Instant::now();
    let predictions = answers(&model, encoder, examples, config, confidence, progress)?;
    let seconds = start.elapsed().as_secs_f64();
    let mut all = Scorer::default();
    let mut by_offered: BTreeMap<usize, Scorer> = BTreeMap::new();
    for (example, prediction) in examples.iter().zip(&predictions) {
        all.add(&example.answers, prediction.calls.as_deref());
        by_offered.entry(example.tools.len()).or_default().add(&example.answers, prediction.calls.as_deref());
    }
    let tokens: usize = predictions.iter().map(|p| p.token_ids.len()).sum();
    let judged: Vec<(f64, bool)> = examples
        .iter()
        .zip(&predictions)
        .filter_map(|(example, prediction)| Some((prediction.confidence?, is_exact(example, prediction))))
        .collect();
    let calibration = (!judged.is_empty()).then(|| Calibration {
        expected_calibration_error: expected_calibration_error(&judged),
        risk_coverage: risk_coverage(&judged),
    });
    let evaluation = Evaluation {
        n: examples.len(),
        precision,
        constrained: config.constrained,
        score: all.score(),
        retrieval: retrieval::evaluate(&model, encoder, examples, config.batch_size),
        calibration,
        tokens_per_second: tokens as f64 / seconds.max(1e-9),
        exact_match_by_offered_tools: by_offered.into_iter().map(|(n, s)| (n, s.score().exact_match)).collect(),
    };
    Ok((evaluation, predictions))
}

/// Whether `prediction` holds exactly the calls that `example` asks for.
pub fn is_exact(example: &Example, prediction: &Prediction) -> bool {
    prediction.calls.as_deref().is_some_and(|calls| same_calls(&example.answers, calls))
}

/// Fits a confidence on the answers of `model`, at `precision`, to `examples`.
///
/// # Errors
/// As [`evaluate`].
pub fn calibrate<B: FusedOps>(
    model: &San<B>,
    encoder: &Encoder<'_>,
    examples: &[Example],
    precision: Precision,
    config: &EvalConfig,
) -> Result<Confidence, ModelError> {
    let model = at_precision(model.clone(), precision);
    // Whatever the confidence, its features are computed.
    let any = Confidence::default();
    let predictions = answers(&model, encoder, examples, config, Some(&any), &mut |_| {})?;
    let judged = examples.iter().zip(&predictions).map(|(example, p)| (p.features, is_exact(example, p)));
    Ok(Confidence::fit(&judged.collect::<Vec<_>>()))
}

/// Evaluations side by side.
pub fn table(evaluations: &[Evaluation]) -> String {
    let mut lines = vec![format!("{:<22}", format!("on {} examples", evaluations.first().map_or(0, |e| e.n)))];
    for evaluation in evaluations {
        lines[0].push_str(&format!("{:>8}", evaluation.precision.to_string()));
    }
    let mut row = |name: &str, value: &dyn Fn(&Evaluation) -> Option<f64>| {
        if evaluations.iter().any(|e| value(e).is_some()) {
            let cells = evaluations.iter().map(|e| value(e).map_or("       -".into(), |v| format!("{v:>8.3}")));
            lines.push(format!("{name:<22}{}", cells.collect::<String>()));
        }
    };
    row("exact match", &|e| Some(e.score.exact_match));
    row("call F1", &|e| Some(e.score.call_f1));
    row("name F1", &|e| Some(e.score.name_f1));
    row("JSON parse rate", &|e| Some(e.score.parse_rate));
    row("argument accuracy", &|e| Some(e.score.args_accuracy));
    row("value accuracy", &|e| Some(e.score.value_accuracy));
    row("hallucinated params", &|e| Some(e.score.hallucinated_params));
    row("missing params", &|e| Some(e.score.missing_params));
    row("no-tool precision", &|e| Some(e.score.no_tool_precision));
    row("no-tool recall", &|e| Some(e.score.no_tool_recall));
    row("retrieval recall@1", &|e| e.retrieval.map(|r| r.recall_at_1));
    row("retrieval recall@5", &|e| e.retrieval.map(|r| r.recall_at_5));
    row("retrieval MRR", &|e| e.retrieval.map(|r| r.mrr));
    row("calibration error", &|e| e.calibration.as_ref().map(|c| c.expected_calibration_error));
    let offered: std::collections::BTreeSet<usize> =
        evaluations.iter().flat_map(|e| e.exact_match_by_offered_tools.keys().copied()).collect();
    for count in offered {
        row(&format!("exact, {count} offered"), &|e| e.exact_match_by_offered_tools.get(&count).copied());
    }
    lines.join("\n")
}
