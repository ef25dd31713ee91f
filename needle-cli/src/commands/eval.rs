//! `needle eval`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::ProgressStyle;
use needle_data::convert::{BfclQuestion, BfclTruth, bfcl_questions, is_bfcl};
use needle_data::source::{BadRows, load_examples};
use needle_data::{DataError, Example, file};
use needle_model::{FusedOps, ModelError};
use needle_runtime::confidence::{self, Confidence};
use needle_runtime::{AnswerConfig, Prediction};
use serde_json::Value;

use super::{PrecisionArg, ValuesArg, checkpoint_at, print, print_json};
use crate::args::{DeviceArgs, QuietArgs};
use needle_train::answering;
use needle_train::eval::bfcl::is_acceptable;
use needle_train::eval::breakdown::Breakdown;
use needle_train::eval::shuffles::{OrderAgreement, Shuffles, order_agreement};
use needle_train::eval::suite::Suite;
use needle_train::eval::{Evaluation, calibrate_on, evaluate, is_exact, labelled_table};
use needle_train::on_device;

/// Measure a checkpoint on examples, as it ships (INT4, constrained to the offered tools): all
/// metrics, a breakdown by tool and by number of calls, and the worst answers
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle eval quickstart/best held_out.jsonl\n  needle eval runs/mine/best test.jsonl \
                        --precision f32 --unconstrained --json\n  needle eval runs/mine/best test.jsonl --compare runs/other/best\n  \
                        needle eval runs/mine/best --suite configs/examples/suites/pet_hotel.json\n  \
                        needle eval runs/mine/best BFCL_v3_simple.json --answers possible_answer/BFCL_v3_simple.json"
)]
pub struct EvalArgs {
    /// Directory of the checkpoint
    checkpoint: PathBuf,
    /// Examples (.jsonl, .jsonl.gz or .jsonl.zst) or BFCL questions
    #[arg(required_unless_present = "suite")]
    data: Option<PathBuf>,
    /// Precision of the weights: as trained, or as exported
    #[arg(long, help_heading = "Answers", value_enum, default_value_t)]
    precision: PrecisionArg,
    /// Decode without constraints, so that an answer may break the schemas of the tools
    #[arg(long, help_heading = "Answers")]
    unconstrained: bool,
    /// Which strings must be words of the query: none (free), all (copied), or those that were
    /// always copied in training (auto)
    #[arg(long, help_heading = "Answers", value_enum, default_value_t)]
    values: ValuesArg,
    /// Compare the greedy answer with up to N others that are nearly as probable and up to N
    /// revisions, and take the one that fits the request best; 0 takes the greedy answer
    #[arg(long, help_heading = "Answers", value_name = "N", default_value_t = AnswerConfig::default().candidates)]
    candidates: usize,
    /// Weight of the retrieval head in choosing a tool: 0 ignores it, 1 counts it as much as the
    /// decoder
    #[arg(long, help_heading = "Answers", value_name = "WEIGHT", default_value_t = AnswerConfig::default().retrieval_weight)]
    retrieval_weight: f32,
    /// Measure only the first N examples
    #[arg(long, help_heading = "Measurement", value_name = "N")]
    limit: Option<usize>,
    /// Another checkpoint to compare with
    #[arg(long, help_heading = "Measurement", value_name = "CHECKPOINT")]
    compare: Option<PathBuf>,
    /// Suite of cases that the model must pass, instead of DATA; exits with 1 if it does not
    #[arg(
        long,
        help_heading = "Measurement",
        value_name = "FILE",
        conflicts_with_all = ["data", "compare", "answers", "shuffles", "calibrate", "limit"]
    )]
    suite: Option<PathBuf>,
    /// BFCL's file of possible answers
    #[arg(long, help_heading = "Measurement", value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Ask each example again with its tools in N other orders, and report how often the answer
    /// stays the same
    #[arg(long, help_heading = "Measurement", value_name = "N")]
    shuffles: Option<usize>,
    /// Seed of the other orders
    #[arg(long, help_heading = "Measurement", value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Fit the confidence on these examples, cross-validate it, and save it in the checkpoint
    #[arg(long, help_heading = "Measurement")]
    calibrate: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// Also write each answer to this file, as JSONL
    #[arg(long, help_heading = "Output", value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    quiet: QuietArgs,
}

/// How many wrong answers are printed at most; `--json` lists all of them.
const WORST: usize = 20;

/// One checkpoint's result.
struct Measured {
    evaluation: Evaluation,
    predictions: Vec<Prediction>,
    /// Which answers BFCL accepts, for its questions.
    accepted: Option<Vec<bool>>,
    /// How much answers depend on the order of the tools, with `--shuffles`.
    order: Option<OrderAgreement>,
}

impl Measured {
    fn bfcl_accuracy(&self) -> Option<f64> {
        let accepted = self.accepted.as_ref()?;
        Some(accepted.iter().filter(|accepted| **accepted).count() as f64 / accepted.len().max(1) as f64)
    }
}

/// What to measure on.
struct Questions {
    examples: Vec<Example>,
    /// For BFCL questions: each one's id and accepted answers.
    bfcl: Option<Vec<(String, BfclTruth)>>,
}

impl Questions {
    /// Whether the examples have answers to compare with; BFCL's relevance questions accept any
    /// call.
    fn have_reference(&self) -> bool {
        self.bfcl.as_ref().is_none_or(|bfcl| bfcl.iter().any(|(_, truth)| *truth != BfclTruth::AnyCall))
    }
}

impl EvalArgs {
    pub(super) fn run(mut self) -> anyhow::Result<bool> {
        self.checkpoint = checkpoint_at(&self.checkpoint)?;
        self.compare = self.compare.as_deref().map(checkpoint_at).transpose()?;
        let device = self.device.device()?;
        if let Some(path) = &self.suite {
            let suite = Suite::load(path)?;
            let questions = Questions { examples: suite.examples(), bfcl: None };
            let measured =
                on_device!(device, |B, device| self.measure::<B>(&self.checkpoint, &questions, false, device))?;
            return self.verdict(&suite, &questions, &measured);
        }
        let questions = self.questions()?;
        let (n, least) = (questions.examples.len(), confidence::LEAST_EXAMPLES);
        anyhow::ensure!(
            !self.calibrate || n >= least,
            "--calibrate: {n} examples are too few to say how often the model is right; at least {least} are needed"
        );
        let measure = |path: &Path, calibrates: bool| {
            on_device!(device, |B, device| self.measure::<B>(path, &questions, calibrates, device))
        };
        let measured = measure(&self.checkpoint, self.calibrate)?;
        if let Some(path) = &self.predictions {
            write_predictions(path, &questions, &measured)?;
        }
        let other = self.compare.as_ref().map(|path| measure(path, false)).transpose()?;
        if self.json {
            let mut value = to_json(&measured, &questions)?;
            if let Some(other) = &other {
                value["compared_with"] = to_json(other, &questions)?;
            }
            return print_json(&value).map(|()| true);
        }
        self.report(&questions, &measured, other.as_ref()).map(|()| true)
    }

    /// Prints how the suite went; true if it passed.
    fn verdict(&self, suite: &Suite, questions: &Questions, measured: &Measured) -> anyhow::Result<bool> {
        if let Some(path) = &self.predictions {
            write_predictions(path, questions, measured)?;
        }
        let answers: Vec<_> = measured.predictions.iter().map(|prediction| prediction.calls.clone()).collect();
        let verdict = suite.judge(&answers);
        if self.json {
            print_json(&serde_json::to_value(&verdict)?)?;
        } else {
            print(verdict.to_text())?;
        }
        Ok(verdict.passed)
    }

    /// Prints everything as text.
    fn report(&self, questions: &Questions, measured: &Measured, other: Option<&Measured>) -> anyhow::Result<()> {
        let both: Vec<&Measured> = std::iter::once(measured).chain(other).collect();
        let labels = match &self.compare {
            Some(other) => labels(&self.checkpoint, other).to_vec(),
            None => vec![measured.evaluation.precision.to_string()],
        };
        let columns: Vec<_> = labels.into_iter().zip(both.iter().map(|m| &m.evaluation)).collect();
        let more = [
            ("BFCL accuracy", both.iter().map(|m| m.bfcl_accuracy().map(|a| format!("{a:.3}"))).collect::<Vec<_>>()),
            ("invalid answers", both.iter().map(|m| Some(format!("{:.3}", m.evaluation.invalid_answers))).collect()),
            (
                "ungrounded values",
                both.iter().map(|m| Some(format!("{:.3}", m.evaluation.ungrounded_values))).collect(),
            ),
            ("same if reordered", both.iter().map(|m| of_order(m, &|o| o.shuffle_agreement)).collect()),
            ("exact if reordered", both.iter().map(|m| of_order(m, &|o| mean(&o.exact_match_shuffled))).collect()),
            ("tokens/s", both.iter().map(|m| Some(format!("{:.0}", m.evaluation.tokens_per_second))).collect()),
        ];
        print(labelled_table(&columns, questions.have_reference(), &more))?;
        if !questions.have_reference() {
            return print("\nany call is accepted here: there are no reference answers for other metrics");
        }
        if let (Some(other), Some(path)) = (other, &self.compare) {
            print(differences(&questions.examples, &measured.predictions, &other.predictions, path))?;
        }
        if let Some(calibration) = &measured.evaluation.calibration {
            print(format_args!("\n{}\nanswered   wrong   abstain below", calibration.to_text()))?;
            for point in &calibration.risk_coverage {
                print(format_args!(
                    "{:>7.0} %{:>8.3}{:>16.3}",
                    point.coverage * 100.0,
                    point.risk,
                    point.abstain_below
                ))?;
            }
        }
        print(Breakdown::new(&questions.examples, &measured.predictions).to_text(WORST))
    }

    fn questions(&self) -> anyhow::Result<Questions> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let data = self.data.as_deref().context("no examples to measure on")?;
        if self.answers.is_none() && !is_bfcl(data)? {
            let (mut examples, _) = load_examples(&[data.to_owned()], BadRows::Fail)?;
            examples.truncate(limit);
            return Ok(Questions { examples, bfcl: None });
        }
        let (mut examples, mut bfcl, mut left_out) = (Vec::new(), Vec::new(), 0);
        bfcl_questions(data, self.answers.as_deref(), &mut |place, question| {
            match question {
                Ok(BfclQuestion { id, example, truth }) => {
                    examples.push(example);
                    bfcl.push((id, truth));
                }
                Err(problem) => {
                    left_out += 1;
                    tracing::warn!("{place}: {problem}");
                }
            }
            Ok(())
        })?;
        if left_out > 0 {
            tracing::warn!("{left_out} questions cannot be asked and are left out");
        }
        examples.truncate(limit);
        bfcl.truncate(limit);
        anyhow::ensure!(!examples.is_empty(), "{}: no questions", data.display());
        Ok(Questions { examples, bfcl: Some(bfcl) })
    }

    fn config(&self) -> AnswerConfig {
        let default = AnswerConfig::default();
        AnswerConfig {
            constrained: default.constrained && !self.unconstrained,
            values: self.values.into(),
            candidates: self.candidates,
            retrieval_weight: self.retrieval_weight,
            ..default
        }
    }

    /// Measures the checkpoint in `path`; if it `calibrates`, fits the confidence and saves it
    /// there.
    fn measure<B: FusedOps>(
        &self,
        path: &Path,
        questions: &Questions,
        calibrates: bool,
        device: &B::Device,
    ) -> anyhow::Result<Measured> {
        let mut needle = answering::load::<B>(path, self.precision.into(), device)?.with_config(self.config())?;
        if calibrates {
            // Some features to fit on are computed only for a model with a confidence; any will do.
            needle = needle.with_confidence(Some(Confidence::default()));
        }
        let examples = &questions.examples;
        let bar = self.quiet.progress(Some(examples.len()));
        bar.set_style(ProgressStyle::with_template("{bar:24} {pos}/{len} examples [{elapsed} < {eta}]")?);
        let (mut evaluation, mut predictions) = evaluate(&needle, examples, &mut |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        let cut = predictions.iter().filter(|p| p.cut_tokens > 0).count();
        if cut > 0 {
            tracing::warn!(
                "{cut} prompts were longer than the {} tokens that the model reads, and were cut",
                needle.model_config().max_enc_len
            );
        }
        if calibrates && let Some((fitted, calibration)) = calibrate_on(examples, &mut predictions) {
            fitted.save(path)?;
            let file = path.join(confidence::FILE);
            tracing::info!("confidence fitted on {} examples: {}", fitted.fitted_on, file.display());
            evaluation.calibration = Some(calibration);
        }
        let accepted = questions.bfcl.as_ref().map(|bfcl| {
            let both = examples.iter().zip(bfcl).zip(&predictions);
            both.map(|((example, (_, truth)), prediction)| {
                is_acceptable(&example.tools, truth, prediction.calls.as_deref())
            })
            .collect()
        });
        let order = match self.shuffles {
            Some(count) => {
                let shuffles = Shuffles { count, seed: self.seed };
                Some(order_agreement(&needle, examples, &predictions, shuffles)?)
            }
            None => None,
        };
        Ok(Measured { evaluation, predictions, accepted, order })
    }
}

fn of_order(measured: &Measured, value: &dyn Fn(&OrderAgreement) -> f64) -> Option<String> {
    measured.order.as_ref().map(|order| format!("{:.3}", value(order)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The two paths as column headings, without the folders that they share.
fn labels(ours: &Path, theirs: &Path) -> [String; 2] {
    let shared = ours.components().zip(theirs.components()).take_while(|(a, b)| a == b).count();
    [ours, theirs].map(|path| {
        let own: PathBuf = path.components().skip(shared).collect();
        if own.as_os_str().is_empty() { path } else { &own }.display().to_string()
    })
}

fn to_json(measured: &Measured, questions: &Questions) -> Result<Value, ModelError> {
    let bad = |e: serde_json::Error| ModelError::bad_file("evaluation", e.to_string());
    let Evaluation { n, precision, constrained, tokens_per_second, .. } = &measured.evaluation;
    let mut value = if questions.have_reference() {
        let mut value = serde_json::to_value(&measured.evaluation).map_err(bad)?;
        let breakdown = Breakdown::new(&questions.examples, &measured.predictions);
        value["breakdown"] = serde_json::to_value(breakdown).map_err(bad)?;
        value
    } else {
        serde_json::json!({
            "n": n, "precision": precision, "constrained": constrained, "tokens_per_second": tokens_per_second,
        })
    };
    if let Some(order) = &measured.order {
        value["order"] = serde_json::to_value(order).map_err(bad)?;
    }
    if let Some(accuracy) = measured.bfcl_accuracy() {
        value["bfcl_accuracy"] = accuracy.into();
    }
    Ok(value)
}

/// The examples that only one of the two models gets right.
fn differences(examples: &[Example], ours: &[Prediction], theirs: &[Prediction], other: &Path) -> String {
    const SHOWN: usize = 5;
    let mut lines = Vec::new();
    let other = other.display();
    for (better, worse, what) in [
        (ours, theirs, format!("right here, wrong in {other}")),
        (theirs, ours, format!("wrong here, right in {other}")),
    ] {
        let differ = |i: &usize| is_exact(&examples[*i], &better[*i]) && !is_exact(&examples[*i], &worse[*i]);
        let which: Vec<usize> = (0..examples.len()).filter(differ).collect();
        let shown = if which.len() > SHOWN { format!(" (the first {SHOWN} shown)") } else { String::new() };
        lines.push(format!("\n{} {what}{shown}", which.len()));
        lines.extend(which.iter().take(SHOWN).map(|&i| format!("  {}\n    {}", examples[i].query, worse[i].text)));
    }
    lines.join("\n")
}

fn write_predictions(path: &Path, questions: &Questions, measured: &Measured) -> Result<(), DataError> {
    let lines = questions.examples.iter().zip(&measured.predictions).enumerate().map(|(i, (example, prediction))| {
        let mut line = serde_json::json!({
            "violations": prediction.violations, "grounding": prediction.groundings,
            "query": example.query, "expected": example.answers, "predicted": prediction.calls, "text": prediction.text,
            "confidence": prediction.confidence, "exact": is_exact(example, prediction),
        });
        if let Some(((id, _), accepted)) =
            questions.bfcl.as_ref().zip(measured.accepted.as_ref()).map(|(q, a)| (&q[i], a[i]))
        {
            line["id"] = id.as_str().into();
            line["bfcl_accepted"] = accepted.into();
        }
        format!("{line}\n")
    });
    file::write_atomically(path, lines.collect::<String>().as_bytes())
}
