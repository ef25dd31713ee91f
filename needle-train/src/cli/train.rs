//! `needle train`.

use std::path::PathBuf;

use needle_data::source::{OnBadRow, Skipped, load_examples};
use needle_data::split::split_by_tool;
use needle_data::{Encoder, Example, Tokenizer};
use needle_model::checkpoint::Checkpoint;
use needle_model::{San, SanConfig};

use super::quickstart::table;
use super::{Global, print};
use crate::device::Training;
use crate::recipe::Recipe;
use crate::trainer::{self, RunDir, RunOptions, Start};

/// Train on tool-call examples, from scratch or from a checkpoint
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle train --config configs/finetune.toml --data mine.jsonl --out runs/mine\n  \
                        needle train --config configs/snips.toml --data snips.train.jsonl.gz --val snips.validation.jsonl.gz \
                        --out runs/snips\n  needle train --config configs/snips.toml --data snips.train.jsonl.gz --out runs/snips \
                        --resume"
)]
pub struct TrainArgs {
    /// Recipe (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Examples: .jsonl, .jsonl.gz or .jsonl.zst
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    data: Vec<PathBuf>,
    /// Examples to validate on; without it, a twelfth of each tool's examples is held out
    #[arg(long, value_name = "FILE")]
    val: Option<PathBuf>,
    /// Directory of the run
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Checkpoint to start from; its sizes and tokenizer replace the recipe's
    #[arg(long, value_name = "CHECKPOINT")]
    base: Option<PathBuf>,
    /// Go on with the run in --out
    #[arg(long)]
    resume: bool,
    /// Leave out bad rows, and say how many and why
    #[arg(long)]
    skip_invalid: bool,
    /// Override a setting of the recipe, as key=value
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl TrainArgs {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        let recipe = Recipe::load(Some(&self.config), &global.overrides(&self.set))?;
        let on_bad_row = if self.skip_invalid { OnBadRow::Skip } else { recipe.data.on_bad_row };
        let read = |paths: &[PathBuf]| {
            load_examples(paths, on_bad_row).map_err(|e| {
                let hint = if matches!(e, needle_data::DataError::Row { .. }) {
                    "; `needle data check` lists all such rows, --skip-invalid leaves them out"
                } else {
                    ""
                };
                anyhow::anyhow!("{e}{hint}")
            })
        };
        let (mut train, skipped) = read(&self.data)?;
        report_skipped("training", train.len(), &skipped);
        let validation: Vec<Example> = match &self.val {
            Some(path) => {
                let (examples, skipped) = read(std::slice::from_ref(path))?;
                report_skipped("validation", examples.len(), &skipped);
                examples
            }
            None => {
                let split = split_by_tool(&train, recipe.seed);
                let pick = |part: &[usize]| part.iter().map(|&i| train[i].clone()).collect::<Vec<_>>();
                let (held_out, rest) = (pick(&split.validation), pick(&[split.train, split.test].concat()));
                tracing::info!("no --val: {} of {} examples held out to validate on", held_out.len(), train.len());
                train = rest;
                held_out
            }
        };

        let device = global.device();
        let run = RunDir::new(&self.out);
        let existing = self.resume.then(|| run.last()).filter(|last| last.exists());
        let start = match existing.or(self.base) {
            Some(base) => {
                let Checkpoint { config, model, tokenizer } = Checkpoint::<Training>::load(&base, &device)?;
                tracing::info!("starting from {}", base.display());
                Start { config, model, tokenizer }
            }
            None => {
                let texts: Vec<String> = train.iter().flat_map(Encoder::texts).collect();
                tracing::info!("training a tokenizer of {} ids on {} texts", recipe.tokenizer.vocab_size, texts.len());
                let tokenizer = Tokenizer::train(&recipe.tokenizer, texts.iter())?;
                let config = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset(&recipe.model)? };
                let model = San::new(&config, recipe.seed, &device)?;
                Start { config, model, tokenizer }
            }
        };
        tracing::info!("{} parameters, {} training examples", start.config.num_params_with_head(), train.len());
        let options = RunOptions { resume: self.resume, quiet: global.quiet };
        let outcome = trainer::train(start, &recipe, &train, &validation, &run, options)?;
        print(format_args!(
            "trained in {:.0} s; best checkpoint in {}",
            outcome.train_seconds,
            run.result().display()
        ))?;
        if !outcome.validation.is_empty() {
            print(table(&outcome.validation))?;
        }
        Ok(true)
    }
}

fn report_skipped(what: &str, used: usize, skipped: &Skipped) {
    let total: usize = skipped.values().sum();
    if total > 0 {
        let reasons: Vec<String> = skipped.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        tracing::warn!("{what}: {} rows read, {used} used, {total} left out ({})", used + total, reasons.join(", "));
    }
}
