//! `needle eval`.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use needle_data::convert::{bfcl_questions, is_bfcl};
use needle_data::source::{OnBadRow, load_examples};
use needle_data::{DataError, Encoder, Example, file};
use needle_model::checkpoint::Checkpoint;
use needle_model::{FusedOps, ModelError};
use serde_json::Value;

use super::{Global, PrecisionArg, limits, print, print_json};
use needle_train::eval::bfcl::is_acceptable;
use needle_train::eval::breakdown::Breakdown;
use needle_train::eval::confidence::{self, Confidence};
use needle_train::eval::predict::Prediction;
use needle_train::eval::{Evaluation, calibrate, evaluate, is_exact, table};
use needle_train::on_device;
use needle_train::recipe::EvalConfig;

/// Measure a checkpoint on examples: every metric of the one scorer, by tool, by number of calls, and the worst answers
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle eval quickstart/run/last held_out.jsonl\n  needle eval runs/mine/best test.jsonl \
                        --precision int4 --constrained --json\n  needle eval runs/mine/best test.jsonl --compare runs/other/best\n  \
                        needle eval runs/mine/best BFCL_v3_simple.json --answers possible_answer/BFCL_v3_simple.json"
)]
pub struct EvalArgs {
    /// Directory of the checkpoint
    checkpoint: PathBuf,
    /// Examples: .jsonl, .jsonl.gz or .jsonl.zst; or questions of BFCL
    data: PathBuf,
    /// As trained, or as exported
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionArg,
    /// Only what the tools allow can be written, as in `needle run`
    #[arg(long)]
    constrained: bool,
    /// Another checkpoint to measure beside it
    #[arg(long, value_name = "CHECKPOINT")]
    compare: Option<PathBuf>,
    /// BFCL's possible answers to the questions
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Fit the confidence on these examples, and keep it in the checkpoint
    #[arg(long)]
    calibrate: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Only the first N examples
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Also write each answer to this file, as JSONL
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
}

/// Wrong answers shown.
const WORST: usize = 20;

/// One checkpoint's result.
struct Measured {
    evaluation: Evaluation,
    predictions: Vec<Prediction>,
    /// Share of the answers that BFCL accepts, for its questions.
    bfcl_accuracy: Option<f64>,
}

/// What to measure on.
struct Questions {
    examples: Vec<Example>,
    /// BFCL's acceptable answers, where they are its questions.
    ground_truth: Option<Vec<Vec<Value>>>,
}

impl EvalArgs {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        let questions = self.questions()?;
        if self.calibrate {
            on_device!(global.device()?, |B, device| self.calibrate::<B>(&questions.examples, device))?;
        }
        let device = global.device()?;
        let measured = on_device!(device, |B, device| self.measure::<B>(&self.checkpoint, &questions, global, device))?;
        let breakdown = Breakdown::new(&questions.examples, &measured.predictions, WORST);
        if let Some(path) = &self.predictions {
            write_predictions(path, &questions.examples, &measured.predictions)?;
        }
        let compare =
            |path: &PathBuf| on_device!(device, |B, device| self.measure::<B>(path, &questions, global, device));
        let other = self.compare.as_ref().map(compare).transpose()?;
        if self.json {
            let mut value = to_json(&measured)?;
            value["breakdown"] = serde_json::to_value(&breakdown)?;
            if let Some(other) = &other {
                value["compared_with"] = to_json(other)?;
            }
            return print_json(&value).map(|()| true);
        }
        let columns: Vec<Evaluation> = std::iter::once(&measured).chain(&other).map(|m| m.evaluation.clone()).collect();
        print(table(&columns))?;
        let line = |name: &str, value: &dyn Fn(&Measured) -> Option<String>| {
            let cells: Vec<String> = std::iter::once(&measured).chain(&other).filter_map(value).collect();
            let row = || cells.iter().map(|cell| format!("{cell:>8}")).collect::<String>();
            if cells.is_empty() { Ok(()) } else { print(format_args!("{name:<22}{}", row())) }
        };
        line("BFCL accuracy", &|m| m.bfcl_accuracy.map(|a| format!("{a:.3}")))?;
        line("tokens/s", &|m| Some(format!("{:.0}", m.evaluation.tokens_per_second)))?;
        if let (Some(other), Some(path)) = (&other, &self.compare) {
            print(differences(&questions.examples, &measured.predictions, &other.predictions, path))?;
        }
        if let Some(calibration) = &measured.evaluation.calibration {
            print("\nanswered   wrong   abstain below")?;
            for point in &calibration.risk_coverage {
                print(format_args!(
                    "{:>7.0} %{:>8.3}{:>16.3}",
                    point.coverage * 100.0,
                    point.risk,
                    point.abstain_below
                ))?;
            }
        }
        print(breakdown.to_text())?;
        Ok(true)
    }

    fn questions(&self) -> anyhow::Result<Questions> {
        let limit = self.limit.unwrap_or(usize::MAX);
        if self.answers.is_none() && !is_bfcl(&self.data)? {
            let (mut examples, _) = load_examples(std::slice::from_ref(&self.data), OnBadRow::Fail)?;
            examples.truncate(limit);
            return Ok(Questions { examples, ground_truth: None });
        }
        let (mut examples, mut ground_truth, mut left_out) = (Vec::new(), Vec::new(), 0);
        bfcl_questions(&self.data, self.answers.as_deref(), &mut |place, question| {
            match question {
                Ok(question) => {
                    examples.push(question.example);
                    ground_truth.push(question.ground_truth);
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
        ground_truth.truncate(limit);
        anyhow::ensure!(!examples.is_empty(), "{}: no questions", self.data.display());
        Ok(Questions { examples, ground_truth: Some(ground_truth) })
    }

    fn config(&self, max_tokens: usize) -> EvalConfig {
        EvalConfig { max_tokens, constrained: self.constrained, ..EvalConfig::default() }
    }

    fn measure<B: FusedOps>(
        &self,
        path: &Path,
        questions: &Questions,
        global: &Global,
        device: &B::Device,
    ) -> anyhow::Result<Measured> {
        let checkpoint = Checkpoint::<B>::load(path, device)?;
        let confidence = Confidence::load(path)?;
        let examples = &questions.examples;
        let encoder = Encoder::new(&checkpoint.tokenizer, limits(&checkpoint.config))?;
        let config = self.config(checkpoint.config.max_dec_len);
        let bar = if global.quiet { ProgressBar::hidden() } else { ProgressBar::new(examples.len() as u64) };
        bar.set_style(ProgressStyle::with_template("{bar:24} {pos}/{len} examples [{elapsed} < {eta}]")?);
        let (precision, show) = (self.precision.into(), &mut |done| bar.set_position(done as u64));
        let (evaluation, predictions) =
            evaluate(&checkpoint.model, &encoder, examples, precision, &config, confidence.as_ref(), show)?;
        bar.finish_and_clear();
        let cut = predictions.iter().filter(|p| p.cut_tokens > 0).count();
        if cut > 0 {
            tracing::warn!(
                "{cut} prompts were longer than the {} tokens that the model reads, and were cut",
                checkpoint.config.max_enc_len
            );
        }
        let bfcl_accuracy = questions.ground_truth.as_ref().map(|truth| {
            let right = examples.iter().zip(truth).zip(&predictions).filter(|((example, truth), prediction)| {
                prediction.calls.as_deref().is_some_and(|calls| is_acceptable(&example.tools, truth, calls))
            });
            right.count() as f64 / examples.len() as f64
        });
        Ok(Measured { evaluation, predictions, bfcl_accuracy })
    }

    fn calibrate<B: FusedOps>(&self, examples: &[Example], device: &B::Device) -> anyhow::Result<()> {
        let checkpoint = Checkpoint::<B>::load(&self.checkpoint, device)?;
        let encoder = Encoder::new(&checkpoint.tokenizer, limits(&checkpoint.config))?;
        let config = self.config(checkpoint.config.max_dec_len);
        let fitted = calibrate(&checkpoint.model, &encoder, examples, self.precision.into(), &config)?;
        fitted.save(&self.checkpoint)?;
        let path = self.checkpoint.join(confidence::FILE);
        tracing::info!("confidence fitted on {} examples: {}", examples.len(), path.display());
        Ok(())
    }
}

fn to_json(measured: &Measured) -> Result<Value, ModelError> {
    let to_value = serde_json::to_value(&measured.evaluation);
    let mut value = to_value.map_err(|e| ModelError::bad_file("evaluation", e.to_string()))?;
    if let Some(accuracy) = measured.bfcl_accuracy {
        value["bfcl_accuracy"] = accuracy.into();
    }
    Ok(value)
}

/// What only one of two models gets right.
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
        lines.push(format!("\n{} {what}", which.len()));
        let shown = which.iter().take(SHOWN);
        lines.extend(shown.map(|&i| format!("  {}\n    {}", examples[i].query, worse[i].text)));
    }
    lines.join("\n")
}

fn write_predictions(path: &Path, examples: &[Example], predictions: &[Prediction]) -> Result<(), DataError> {
    let lines = examples.iter().zip(predictions).map(|(example, prediction)| {
        let line = serde_json::json!({
            "query": example.query, "expected": example.answers, "predicted": prediction.calls, "text": prediction.text,
            "confidence": prediction.confidence, "exact": is_exact(example, prediction),
        });
        format!("{line}\n")
    });
    file::write_atomically(path, lines.collect::<String>().as_bytes())
}
