//! `needle eval`.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use needle_data::Encoder;
use needle_data::source::{OnBadRow, load_examples};

use super::{Global, PrecisionArg, limits, load, print, print_json};
use crate::eval::{evaluate, table};
use crate::recipe::EvalConfig;

/// Measure a checkpoint on examples: every metric of the one scorer
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle eval quickstart/run/last held_out.jsonl\n  needle eval runs/mine/best test.jsonl \
                        --precision int4 --json"
)]
pub struct EvalArgs {
    /// Directory of the checkpoint
    checkpoint: PathBuf,
    /// Examples: .jsonl, .jsonl.gz or .jsonl.zst
    data: PathBuf,
    /// As trained, or as exported
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionArg,
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

impl EvalArgs {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        let checkpoint = load(&self.checkpoint, global)?;
        let (mut examples, _) = load_examples(std::slice::from_ref(&self.data), OnBadRow::Fail)?;
        examples.truncate(self.limit.unwrap_or(usize::MAX));
        let encoder = Encoder::new(&checkpoint.tokenizer, limits(&checkpoint.config))?;
        let config = EvalConfig { max_tokens: checkpoint.config.max_dec_len, ..EvalConfig::default() };
        let bar = if global.quiet { ProgressBar::hidden() } else { ProgressBar::new(examples.len() as u64) };
        bar.set_style(ProgressStyle::with_template("{bar:24} {pos}/{len} examples [{elapsed} < {eta}]")?);
        let precision = self.precision.into();
        let (evaluation, predictions) =
            evaluate(&checkpoint.model, &encoder, &examples, precision, &config, &mut |done| {
                bar.set_position(done as u64)
            });
        bar.finish_and_clear();
        if let Some(path) = &self.predictions {
            let lines = examples.iter().zip(&predictions).map(|(example, prediction)| {
                let line = serde_json::json!({
                    "query": example.query, "expected": example.answers, "predicted": prediction.calls, "text": prediction.text,
                });
                format!("{line}\n")
            });
            needle_data::file::write_atomically(path, lines.collect::<String>().as_bytes())?;
        }
        let cut = predictions.iter().filter(|p| p.cut_tokens > 0).count();
        if cut > 0 {
            tracing::warn!(
                "{cut} prompts were longer than the {} tokens that the model reads, and were cut",
                checkpoint.config.max_enc_len
            );
        }
        if self.json {
            print_json(&evaluation)?;
        } else {
            print(table(std::slice::from_ref(&evaluation)))?;
            print(format_args!("{:<22}{:>8.0}", "tokens/s", evaluation.tokens_per_second))?;
        }
        Ok(true)
    }
}
