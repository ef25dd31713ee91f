//! Evaluation of a model: the scorer, retrieval metrics, calibration.

pub mod bfcl;
pub mod breakdown;
pub(crate) mod mistake;
pub mod retrieval;
pub(crate) mod score;
pub mod shuffles;
pub mod suite;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use needle_data::Example;
use needle_runtime::confidence::{
    self, Confidence, Features, RiskAtCoverage, expected_calibration_error, risk_coverage,
};
use needle_runtime::constrain::grounding::Grounding;
use needle_runtime::{Needle, Precision, Prediction, Question, RuntimeError};
use serde::Serialize;

use retrieval::RetrievalMetrics;
use score::{Score, Scorer, same_calls};

/// All metrics of one model on one set, at one precision. The keys of its JSON form are a contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of examples.
    pub n: usize,
    /// The precision.
    pub precision: Precision,
    /// Whether the model could only write what the tools allow.
    pub constrained: bool,
    /// The scorer's metrics.
    #[serde(flatten)]
    pub score: Score,
    /// Retrieval over all tools of the set; `None` without a retrieval head or without a call.
    #[serde(flatten)]
    pub retrieval: Option<RetrievalMetrics>,
    /// How well the confidence is calibrated; `None` if the model has no confidence.
    #[serde(flatten)]
    pub calibration: Option<Calibration>,
    /// Fraction of the answers that break the schemas of the tools that they call.
    pub invalid_answers: f64,
    /// Fraction of the arguments whose value nothing in the query supports.
    pub ungrounded_values: f64,
    /// Decoded tokens per second.
    pub tokens_per_second: f64,
    /// Exact match by number of offered tools.
    pub exact_match_by_offered_tools: BTreeMap<usize, f64>,
}

/// The quality of the confidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Mean distance between confidence and accuracy.
    pub expected_calibration_error: f64,
    /// Which confidences were measured.
    pub calibration_measured: CalibrationMeasured,
    /// Number of examples that the confidence was fitted on.
    pub confidence_fitted_on: usize,
    /// Error rates among the most confident answers.
    pub risk_coverage: Vec<RiskAtCoverage>,
}

/// Which confidences a calibration was measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMeasured {
    /// Those of the checkpoint's confidence, fitted before.
    Kept,
    /// The same, measured on the examples that it was fitted on: the error on new examples is
    /// higher.
    KeptOnItsOwnExamples,
    /// For each answer, that of a fit on the other folds of the examples.
    CrossValidated,
}

impl Calibration {
    fn new(judged: &[(f64, bool)], measured: CalibrationMeasured, fitted_on: usize) -> Self {
        Self {
            expected_calibration_error: expected_calibration_error(judged),
            calibration_measured: measured,
            confidence_fitted_on: fitted_on,
            risk_coverage: risk_coverage(judged),
        }
    }

    /// What was measured, in words.
    pub fn to_text(&self) -> String {
        let n = self.confidence_fitted_on;
        match self.calibration_measured {
            CalibrationMeasured::Kept => {
                format!("calibration error: of the checkpoint's confidence, fitted on {n} examples")
            }
            CalibrationMeasured::KeptOnItsOwnExamples => format!(
                "calibration error: on the {n} examples that the confidence was fitted on; it is higher on others (--calibrate \
                 cross-validates)"
            ),
            CalibrationMeasured::CrossValidated => format!(
                "calibration error: cross-validated, each answer judged by a fit on the other folds ({} folds of these {n} \
                 examples); the confidence that is kept is fitted on all",
                confidence::FOLDS
            ),
        }
    }
}

/// The answers of `needle` to `examples`, in order.
fn answers(
    needle: &Needle,
    examples: &[Example],
    progress: &mut (dyn FnMut(usize) + Send),
) -> Result<Vec<Prediction>, RuntimeError> {
    let questions: Vec<Question<'_>> =
        examples.iter().map(|example| Question { query: &example.query, tools: &example.tools }).collect();
    needle.predict(&questions, progress)
}

/// Evaluates `needle` on `examples`, with its precision and configuration; also returns the
/// predictions, in order.
///
/// # Errors
/// If decoding is constrained and an example's tools cannot be turned into a grammar.
pub fn evaluate(
    needle: &Needle,
    examples: &[Example],
    progress: &mut (dyn FnMut(usize) + Send),
) -> Result<(Evaluation, Vec<Prediction>), RuntimeError> {
    let start = Instant::now();
    let predictions = answers(needle, examples, progress)?;
    let seconds = start.elapsed().as_secs_f64();
    let mut all = Scorer::default();
    let mut by_offered: BTreeMap<usize, Scorer> = BTreeMap::new();
    for (example, prediction) in examples.iter().zip(&predictions) {
        all.add(&example.answers, prediction.calls.as_deref());
        by_offered.entry(example.tools.len()).or_default().add(&example.answers, prediction.calls.as_deref());
    }
    let tokens: usize = predictions.iter().map(|p| p.token_ids.len()).sum();
    let calibration = needle.confidence().and_then(|confidence| {
        let is_own = confidence.is_fitted_on(examples.iter().map(|example| example.query.as_str()));
        let measured = if is_own { CalibrationMeasured::KeptOnItsOwnExamples } else { CalibrationMeasured::Kept };
        let judged = judged(examples, &predictions);
        (!judged.is_empty()).then(|| Calibration::new(&judged, measured, confidence.fitted_on))
    });
    let evaluation = Evaluation {
        n: examples.len(),
        precision: needle.precision(),
        constrained: needle.config().constrained,
        score: all.score(),
        retrieval: retrieval::evaluate(needle, examples)?,
        calibration,
        invalid_answers: fraction(predictions.iter().map(|prediction| !prediction.violations.is_empty())),
        ungrounded_values: fraction(
            predictions.iter().flat_map(|p| &p.groundings).map(|mark| mark.grounding == Grounding::NotInQuery),
        ),
        tokens_per_second: tokens as f64 / seconds.max(1e-9),
        exact_match_by_offered_tools: by_offered.into_iter().map(|(n, s)| (n, s.score().exact_match)).collect(),
    };
    Ok((evaluation, predictions))
}

/// Fraction of `all` that is true; 0 if there are none.
fn fraction(all: impl Iterator<Item = bool>) -> f64 {
    let (count, n) = all.fold((0_usize, 0_usize), |(count, n), one| (count + usize::from(one), n + 1));
    count as f64 / n.max(1) as f64
}

/// Whether `prediction` holds exactly the calls that `example` expects.
pub fn is_exact(example: &Example, prediction: &Prediction) -> bool {
    prediction.calls.as_deref().is_some_and(|calls| same_calls(&example.answers, calls))
}

/// The confidence of each answer, and whether it was exact.
fn judged(examples: &[Example], predictions: &[Prediction]) -> Vec<(f64, bool)> {
    let pairs = examples.iter().zip(predictions);
    pairs.filter_map(|(example, prediction)| Some((prediction.confidence?, is_exact(example, prediction)))).collect()
}

/// Fits a confidence on the answers of `needle` to `examples`; `None` if there are fewer than
/// [`confidence::LEAST_EXAMPLES`].
///
/// # Errors
/// As [`evaluate`].
pub fn calibrate(needle: &Needle, examples: &[Example]) -> Result<Option<Confidence>, RuntimeError> {
    if examples.len() < confidence::LEAST_EXAMPLES {
        return Ok(None);
    }
    // Any confidence will do: only its features are needed.
    let needle = needle.clone().with_confidence(Some(Confidence::default()));
    let predictions = answers(&needle, examples, &mut |_| {})?;
    Ok(fit(examples, &predictions))
}

/// Features of each answer, and whether it was exact.
fn features(examples: &[Example], predictions: &[Prediction]) -> Vec<(Features, bool)> {
    examples.iter().zip(predictions).map(|(example, p)| (p.features, is_exact(example, p))).collect()
}

fn fit(examples: &[Example], predictions: &[Prediction]) -> Option<Confidence> {
    Confidence::fit(&features(examples, predictions), examples.iter().map(|example| example.query.as_str()))
}

/// Fits a confidence on the answers of [`evaluate`] with any confidence, and measures its quality
/// by cross-validation: each of `predictions` gets the confidence of a fit that has not seen it.
/// `None` if they are too few.
pub fn calibrate_on(examples: &[Example], predictions: &mut [Prediction]) -> Option<(Confidence, Calibration)> {
    let fitted = fit(examples, predictions)?;
    let folds = confidence::folds(examples.iter().map(|example| example.query.as_str()));
    let held_out = confidence::cross_validated(&features(examples, predictions), &folds);
    for (prediction, held_out) in predictions.iter_mut().zip(held_out) {
        // Text that is not a list of calls is never exact.
        prediction.confidence = Some(if prediction.calls.is_some() { held_out } else { 0.0 });
    }
    let judged = judged(examples, predictions);
    let calibration = Calibration::new(&judged, CalibrationMeasured::CrossValidated, examples.len());
    Some((fitted, calibration))
}

/// Evaluations of one checkpoint side by side, each under its precision.
pub fn table(evaluations: &[Evaluation]) -> String {
    let columns: Vec<_> = evaluations.iter().map(|e| (e.precision.to_string(), e)).collect();
    labelled_table(&columns, true, &[])
}

/// Evaluations side by side, each under its label, with the rows of `more` below. Without a
/// reference, the metrics that compare answers with one are left out.
pub fn labelled_table(
    columns: &[(String, &Evaluation)],
    has_reference: bool,
    more: &[(&str, Vec<Option<String>>)],
) -> String {
    let width = columns.iter().map(|(label, _)| label.chars().count() + 2).max().unwrap_or(0).max(8);
    let line = |name: &str, cells: Vec<Option<String>>| {
        let cells = cells.into_iter().map(|cell| format!("{:>width$}", cell.unwrap_or_else(|| "-".to_owned())));
        format!("{name:<22}{}", cells.collect::<String>())
    };
    let texts = |name: &str, value: &dyn Fn(&Evaluation) -> String| {
        line(name, columns.iter().map(|(_, e)| Some(value(e))).collect())
    };
    let n = columns.first().map_or(0, |(_, e)| e.n);
    let mut lines = vec![line(&format!("on {n} examples"), columns.iter().map(|(l, _)| Some(l.clone())).collect())];
    if columns.iter().any(|(label, evaluation)| *label != evaluation.precision.to_string()) {
        lines.push(texts("precision", &|e| e.precision.to_string()));
    }
    lines.push(texts("constrained to tools", &|e| if e.constrained { "yes" } else { "no" }.to_owned()));
    if has_reference {
        for (name, values) in metrics(columns) {
            lines.push(line(&name, values.into_iter().map(|value| value.map(|v| format!("{v:.3}"))).collect()));
        }
    }
    for (name, cells) in more.iter().filter(|(_, cells)| cells.iter().any(Option::is_some)) {
        lines.push(line(name, cells.clone()));
    }
    lines.join("\n")
}

/// Every metric that any of the evaluations has, with its values.
fn metrics(columns: &[(String, &Evaluation)]) -> Vec<(String, Vec<Option<f64>>)> {
    let mut rows: Vec<(String, Vec<Option<f64>>)> = Vec::new();
    let mut row = |name: &str, value: &dyn Fn(&Evaluation) -> Option<f64>| {
        let values: Vec<Option<f64>> = columns.iter().map(|(_, e)| value(e)).collect();
        if values.iter().any(Option::is_some) {
            rows.push((name.to_owned(), values));
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
    let offered: BTreeSet<usize> =
        columns.iter().flat_map(|(_, e)| e.exact_match_by_offered_tools.keys().copied()).collect();
    for count in offered {
        row(&format!("exact, {count} offered"), &|e| e.exact_match_by_offered_tools.get(&count).copied());
    }
    rows
}
