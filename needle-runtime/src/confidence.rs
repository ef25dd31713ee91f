//! How likely an answer is to be exact: a logistic regression on the model's certainties, fitted on
//! validation examples.
//!
//! ```text
//! P(exact) = sigmoid(bias + sum_i weight_i * feature_i)
//! ```
//!
//! The features are the logits of the model's own probabilities (of the whole answer, its names,
//! its values, and its least certain token), the smallest margin over another token, the retrieval
//! head's similarities, and whether the answer calls nothing. A Gaussian prior pulls the weights
//! towards the model's own probability of the whole answer, so that a few examples move them little
//! and thousands decide. With that probability as the only feature this is Platt scaling (Platt
//! 1999; Guo et al., arXiv:1706.04599).
//!
//! The model's own probability is far too high when the model is wrong, so the prior alone must not
//! be reported as a confidence. With fewer than [`LEAST_EXAMPLES`] nothing is fitted. With more,
//! the confidence cannot exceed what `n` examples support: it is `(n p + 1) / (n + 2)`, Laplace's
//! rule of succession for `n p` exact answers of `n`.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use needle_data::order::split::query_key;
use needle_data::tokenizer::hex;
use needle_data::{Call, TokenClass, file};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::RuntimeError;
use crate::generate::Generated;

/// Name of the file in a checkpoint.
pub const FILE: &str = "confidence.json";
/// Minimum number of examples to fit a confidence on. With 30, the share of exact answers is known
/// to within 0.18 (two standard errors); with 4, to within 0.5.
pub const LEAST_EXAMPLES: usize = 30;
/// Number of folds of [`cross_validated`].
pub const FOLDS: usize = 10;

/// Names of the features, in the order of the file.
const NAMES: [&str; NUM] = [
    "answer_logit",
    "worst_token_logit",
    "worst_margin",
    "names_logit",
    "values_logit",
    "called_cosine",
    "cosine_lead",
    "no_call",
];
const NUM: usize = 8;
/// Divisors of the features, which bring the weights to a common scale.
const SCALES: [f64; NUM] = [1.0, 3.0, 5.0, 3.0, 3.0, 0.5, 0.5, 1.0];
/// Precision (inverse variance) of the Gaussian prior of the weights; that of the bias is weaker.
const PULL: f64 = 2.0;
const BIAS_PULL: f64 = 0.1;
/// Logits are clamped to plus or minus this: beyond it they carry no information.
const MAX_LOGIT: f64 = 8.0;

/// Inputs of an answer's confidence, in the order of `NAMES`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Features([f64; NUM]);

/// Cosines between a query and tools.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Similarity {
    /// Smallest cosine of a called tool; 0 if none is called.
    pub called: f32,
    /// Largest cosine of a tool that is not called; 0 if there is none.
    pub other: f32,
}

/// `ln(p / (1 - p))` of a log-probability.
fn logit(log_prob: f64) -> f64 {
    let odds = log_prob - (-log_prob.exp_m1()).max(f64::MIN_POSITIVE).ln();
    odds.clamp(-MAX_LOGIT, MAX_LOGIT)
}

impl Features {
    /// Features of an answer whose tokens have `classes` (empty if they are unknown) and that
    /// contains `calls` (`None` if it is not a list of calls).
    pub fn new(answer: &Generated, classes: &[TokenClass], calls: Option<&[Call]>) -> Self {
        let log_probs = || answer.certainties.iter().map(|c| f64::from(c.log_prob));
        let of_class = |class| logit(log_probs().zip(classes).filter(|(_, c)| **c == class).map(|(l, _)| l).sum());
        let worst = log_probs().fold(0.0, f64::min);
        let margin = answer.certainties.iter().map(|c| f64::from(c.margin)).fold(MAX_LOGIT, f64::min);
        Self([
            logit(log_probs().sum()),
            logit(worst),
            margin,
            of_class(TokenClass::Name),
            of_class(TokenClass::Value),
            0.0,
            0.0,
            f64::from(u8::from(calls.is_some_and(<[Call]>::is_empty))),
        ])
    }

    /// Adds the retrieval head's similarities.
    pub fn add_similarity(&mut self, similarity: Similarity) {
        self.0[5] = f64::from(similarity.called);
        self.0[6] = f64::from(similarity.called - similarity.other);
    }
}

/// A fitted confidence, in the form in which it is saved in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confidence {
    features: Vec<String>,
    weights: [f64; NUM],
    bias: f64,
    /// Number of examples that it was fitted on.
    pub fitted_on: usize,
    /// [`queries_sha256`] of those examples, which tells whether a measurement is on the examples
    /// of the fit.
    #[serde(default)]
    queries_sha256: Option<String>,
}

impl Default for Confidence {
    /// The model's own probability of the whole answer.
    fn default() -> Self {
        let mut weights = [0.0; NUM];
        weights[0] = 1.0;
        Self { features: NAMES.map(str::to_owned).to_vec(), weights, bias: 0.0, fitted_on: 0, queries_sha256: None }
    }
}

impl Confidence {
    /// Fits a confidence on answers and whether each was exact; `None` if there are fewer than
    /// [`LEAST_EXAMPLES`]. `queries` are the queries of the answers.
    pub fn fit<'a>(answers: &[(Features, bool)], queries: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        (answers.len() >= LEAST_EXAMPLES)
            .then(|| Self { queries_sha256: Some(queries_sha256(queries)), ..Self::most_probable(answers) })
    }

    /// The maximum a posteriori estimate, by Newton's method.
    fn most_probable(answers: &[(Features, bool)]) -> Self {
        let start = Self::default();
        let mut fitted = start.clone();
        fitted.fitted_on = answers.len();
        for _ in 0..50 {
            // Gradient and Hessian of the negative log-posterior over (weights, bias).
            let mut gradient = [0.0; NUM + 1];
            let mut hessian = [[0.0; NUM + 1]; NUM + 1];
            for i in 0..NUM {
                gradient[i] = PULL * (fitted.weights[i] - start.weights[i]);
                hessian[i][i] = PULL;
            }
            gradient[NUM] = BIAS_PULL * fitted.bias;
            hessian[NUM][NUM] = BIAS_PULL;
            for (features, is_exact) in answers {
                let x = scaled(features);
                let p = fitted.unbounded(features);
                for i in 0..=NUM {
                    gradient[i] += (p - f64::from(u8::from(*is_exact))) * x[i];
                    for j in 0..=NUM {
                        hessian[i][j] += p * (1.0 - p) * x[i] * x[j];
                    }
                }
            }
            let step = solve(hessian, gradient);
            let largest = step.iter().fold(0.0_f64, |most, s| most.max(s.abs()));
            // A full Newton step may overshoot where the posterior is flat.
            let damped = 1.0 / largest.max(1.0);
            for (weight, step) in fitted.weights.iter_mut().zip(step) {
                *weight -= damped * step;
            }
            fitted.bias -= damped * step[NUM];
            if largest < 1e-9 {
                break;
            }
        }
        fitted
    }

    /// The probability that an answer with `features` is exact, bounded by the number of examples
    /// of the fit.
    pub fn of(&self, features: &Features) -> f64 {
        let n = self.fitted_on as f64;
        (n * self.unbounded(features) + 1.0) / (n + 2.0)
    }

    /// Whether it was fitted on answers to exactly these queries.
    pub fn is_fitted_on<'a>(&self, queries: impl IntoIterator<Item = &'a str>) -> bool {
        self.queries_sha256.as_ref().is_some_and(|fitted| *fitted == queries_sha256(queries))
    }

    /// The description of [`FILE`] in the README of an artifact.
    pub fn about_file(&self) -> String {
        format!(
            "`{FILE}` is a logistic regression, fitted on {} validation examples, that gives the probability that an answer is exact. \
             `needle run` reads it (`--abstain-below`); other runtimes ignore it and answer without a confidence.",
            self.fitted_on
        )
    }

    fn unbounded(&self, features: &Features) -> f64 {
        let x = scaled(features);
        let score: f64 = self.bias + self.weights.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        1.0 / (1.0 + (-score).exp())
    }

    /// Loads the confidence of the checkpoint `dir`; `None` if there is none or, with a warning, if
    /// it was fitted on too few examples.
    ///
    /// # Errors
    /// If the file exists but cannot be read.
    pub fn load(dir: &Path) -> Result<Option<Self>, RuntimeError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = file::read_text(&path)?;
        let read = Self::from_json(&text).map_err(|reason| RuntimeError::bad_file(&path, reason))?;
        if read.fitted_on < LEAST_EXAMPLES {
            tracing::warn!(
                "{}: ignored, because it was fitted on {} examples and needs {LEAST_EXAMPLES}; answers have no confidence",
                path.display(),
                read.fitted_on
            );
            return Ok(None);
        }
        Ok(Some(read))
    }

    /// Saves it in the checkpoint `dir`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), RuntimeError> {
        let path = dir.join(FILE);
        let json = self.to_json().map_err(|e| RuntimeError::bad_file(&path, e.to_string()))?;
        Ok(file::write_atomically(&path, json.as_bytes())?)
    }

    /// Parses the contents of the file.
    ///
    /// # Errors
    /// If they are malformed or have other features.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let read: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if read.features != NAMES {
            return Err(format!("it has the features {}, expected {}", read.features.join(", "), NAMES.join(", ")));
        }
        Ok(read)
    }

    /// The contents of the file.
    ///
    /// # Errors
    /// If a number has no JSON form (NaN or infinity).
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

/// The confidence of each answer by a fit on the other folds, which estimates how a fit on all
/// answers performs on new ones. `folds` has the fold of each answer, less than [`FOLDS`].
pub fn cross_validated(answers: &[(Features, bool)], folds: &[usize]) -> Vec<f64> {
    let fitted: Vec<Confidence> = (0..FOLDS)
        .map(|fold| {
            let others = answers.iter().zip(folds).filter(|(_, f)| **f != fold).map(|(answer, _)| *answer);
            Confidence::most_probable(&others.collect::<Vec<_>>())
        })
        .collect();
    answers.iter().zip(folds).map(|((features, _), &fold)| fitted[fold].of(features)).collect()
}

/// The fold of each query, in order of first occurrence. Repeated queries share a fold.
pub fn folds<'a>(queries: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let fold = |query: &str| {
        let next = seen.len() % FOLDS;
        *seen.entry(query_key(query)).or_insert(next)
    };
    queries.into_iter().map(fold).collect()
}

/// SHA-256 of the distinct queries in alphabetical order.
fn queries_sha256<'a>(queries: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for query in queries.into_iter().map(query_key).collect::<BTreeSet<_>>() {
        hash.update(query);
        hash.update([0]);
    }
    hex(&hash.finalize())
}

/// The scaled features, and a 1 for the bias.
fn scaled(features: &Features) -> [f64; NUM + 1] {
    std::array::from_fn(|i| if i < NUM { features.0[i] / SCALES[i] } else { 1.0 })
}

/// `a x = b` by elimination; `a` is positive definite, so no pivot is 0.
fn solve(mut a: [[f64; NUM + 1]; NUM + 1], mut b: [f64; NUM + 1]) -> [f64; NUM + 1] {
    for i in 0..=NUM {
        for row in i + 1..=NUM {
            let factor = a[row][i] / a[i][i];
            let pivot = a[i];
            for (value, above) in a[row].iter_mut().zip(pivot).skip(i) {
                *value -= factor * above;
            }
            b[row] -= factor * b[i];
        }
    }
    for i in (0..=NUM).rev() {
        let known: f64 = (i + 1..=NUM).map(|j| a[i][j] * b[j]).sum();
        b[i] = (b[i] - known) / a[i][i];
    }
    b
}

/// Expected calibration error: the mean distance between confidence and accuracy over ten bins of
/// equal width, weighted by their sizes (Guo et al. 2017). `answers` are pairs of a confidence and
/// whether the answer was exact.
pub fn expected_calibration_error(answers: &[(f64, bool)]) -> f64 {
    const BINS: usize = 10;
    let mut sums = [(0.0, 0.0); BINS];
    for (confidence, is_exact) in answers {
        let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
        sums[bin].0 += confidence;
        sums[bin].1 += f64::from(u8::from(*is_exact));
    }
    sums.iter().map(|(confidence, exact)| (confidence - exact).abs()).sum::<f64>() / answers.len().max(1) as f64
}

/// A point of the risk-coverage curve (El-Yaniv and Wiener 2010).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RiskAtCoverage {
    /// Share of the questions that are answered, the most confident first.
    pub coverage: f64,
    /// Share of those answers that are wrong.
    pub risk: f64,
    /// The value of `--abstain-below` at which this share is answered.
    pub abstain_below: f64,
}

/// The curve at every tenth of the answers.
pub fn risk_coverage(answers: &[(f64, bool)]) -> Vec<RiskAtCoverage> {
    let mut sorted = answers.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let at = |tenth: usize| {
        let n = (sorted.len() * tenth).div_ceil(10);
        let wrong = sorted[..n].iter().filter(|(_, is_exact)| !is_exact).count();
        let abstain_below = sorted[..n].last().map_or(0.0, |(confidence, _)| *confidence);
        RiskAtCoverage { coverage: n as f64 / sorted.len() as f64, risk: wrong as f64 / n as f64, abstain_below }
    };
    if sorted.is_empty() { Vec::new() } else { (1..=10).map(at).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    /// Answers that are exact with probability `sigmoid(truth(x))`, where `x` is the model's own
    /// logit.
    fn answers(n: usize, truth: impl Fn(f64) -> f64) -> Vec<(Features, bool)> {
        let mut rng = rand::rngs::ChaCha8Rng::seed_from_u64(1);
        let mut draw = || {
            let mut features = Features::default();
            features.0[0] = rng.random_range(-5.0..5.0);
            let p = 1.0 / (1.0 + (-truth(features.0[0])).exp());
            (features, rng.random_bool(p))
        };
        (0..n).map(|_| draw()).collect()
    }

    fn error(confidence: &Confidence, answers: &[(Features, bool)]) -> f64 {
        let judged: Vec<(f64, bool)> = answers.iter().map(|(f, exact)| (confidence.of(f), *exact)).collect();
        expected_calibration_error(&judged)
    }

    #[test]
    fn an_overconfident_model_is_calibrated_by_fitting() {
        let truth = |x: f64| 0.4 * x - 1.0;
        let (seen, fresh) = (answers(2000, truth), answers(4000, truth));
        let fitted = Confidence::fit(&seen, ["q"]).unwrap();
        let prior = Confidence { fitted_on: usize::MAX, ..Confidence::default() };
        let (before, after) = (error(&prior, &fresh), error(&fitted, &fresh));
        assert!(before > 0.15 && after < 0.03, "{before} {after}");
        assert!((fitted.weights[0] - 0.4).abs() < 0.1 && (fitted.bias + 1.0).abs() < 0.2, "{fitted:?}");
        assert_eq!(Confidence::from_json(&fitted.to_json().unwrap()).unwrap(), fitted);
        assert!(
            Confidence::from_json(r#"{"features":[],"weights":[0,0,0,0,0,0,0,0],"bias":0,"fitted_on":1}"#).is_err()
        );
    }

    #[test]
    fn too_few_answers_are_not_fitted_and_few_answers_do_not_give_certainty() {
        // The model is always confident, and right in one of four answers.
        let sure = |n: usize| -> Vec<(Features, bool)> {
            (0..n).map(|i| (Features([6.0, 6.0, 8.0, 7.0, 7.0, 0.9, 0.5, 0.0]), i % 4 == 0)).collect()
        };
        assert_eq!(Confidence::fit(&sure(4), ["q"]), None);
        assert_eq!(Confidence::fit(&sure(LEAST_EXAMPLES - 1), ["q"]), None);
        let fitted = Confidence::fit(&sure(LEAST_EXAMPLES), ["q"]).unwrap();
        assert!((0.1..0.5).contains(&fitted.of(&sure(1)[0].0)), "{fitted:?}");

        for is_exact in [true, false] {
            let alike: Vec<_> = sure(LEAST_EXAMPLES).into_iter().map(|(f, _)| (f, is_exact)).collect();
            let p = Confidence::fit(&alike, ["q"]).unwrap().of(&alike[0].0);
            let bound = 1.0 / (LEAST_EXAMPLES as f64 + 2.0);
            assert!((bound..=1.0 - bound).contains(&p), "{p}");
        }
    }

    #[test]
    fn cross_validation_estimates_the_error_on_new_answers_better_than_the_error_on_the_fitted_ones() {
        // The features are noise, and a fit overfits to them.
        let mut rng = rand::rngs::ChaCha8Rng::seed_from_u64(3);
        let mut draw = |n: usize| -> Vec<(Features, bool)> {
            (0..n)
                .map(|_| (Features(std::array::from_fn(|_| rng.random_range(-6.0..6.0))), rng.random_bool(0.5)))
                .collect()
        };
        const N: usize = 60;
        let queries: Vec<String> = (0..N).map(|i| i.to_string()).collect();
        let folds = folds(queries.iter().map(String::as_str));
        let (mut on_seen, mut on_fresh, mut on_held_out) = (0.0, 0.0, 0.0);
        // The mean of many draws: the error on so few answers is mostly chance.
        for _ in 0..40 {
            let (seen, fresh) = (draw(N), draw(N));
            let fitted = Confidence::fit(&seen, ["q"]).unwrap();
            let held_out = cross_validated(&seen, &folds).into_iter().zip(seen.iter().map(|(_, exact)| *exact));
            on_seen += error(&fitted, &seen) / 40.0;
            on_fresh += error(&fitted, &fresh) / 40.0;
            on_held_out += expected_calibration_error(&held_out.collect::<Vec<_>>()) / 40.0;
        }
        let off = |estimate: f64| (estimate - on_fresh).abs();
        assert!(on_seen < on_fresh && off(on_held_out) < off(on_seen) / 2.0, "{on_seen} {on_fresh} {on_held_out}");
    }

    #[test]
    fn repeated_queries_share_a_fold_and_identify_the_fit() {
        let folds = folds(["a", "b", " A ", "c"]);
        assert_eq!(folds, [0, 1, 0, 2]);
        let answers = vec![(Features::default(), true); LEAST_EXAMPLES];
        let fitted = Confidence::fit(&answers, ["b", "a"]).unwrap();
        assert!(fitted.is_fitted_on(["A", "b"]) && !fitted.is_fitted_on(["a"]));
    }

    #[test]
    fn a_saved_confidence_that_was_fitted_on_four_examples_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        Confidence { fitted_on: 4, ..Confidence::default() }.save(dir.path()).unwrap();
        assert_eq!(Confidence::load(dir.path()).unwrap(), None);
        let enough = Confidence { fitted_on: LEAST_EXAMPLES, ..Confidence::default() };
        enough.save(dir.path()).unwrap();
        assert_eq!(Confidence::load(dir.path()).unwrap(), Some(enough));
    }

    #[test]
    fn with_an_informative_confidence_risk_falls_with_coverage() {
        let judged: Vec<(f64, bool)> = (0..100).map(|i| (f64::from(i) / 100.0, i >= 30)).collect();
        let curve = risk_coverage(&judged);
        assert_eq!((curve[0].coverage, curve[0].risk, curve[0].abstain_below), (0.1, 0.0, 0.9));
        assert_eq!((curve[9].coverage, curve[9].risk), (1.0, 0.3));
        assert!(risk_coverage(&[]).is_empty());
    }

    #[test]
    fn logits_of_probabilities_zero_and_one_stay_finite() {
        assert_eq!(logit(0.0), MAX_LOGIT);
        assert_eq!(logit(f64::NEG_INFINITY), -MAX_LOGIT);
        assert!((logit(0.5_f64.ln())).abs() < 1e-12);
    }
}
