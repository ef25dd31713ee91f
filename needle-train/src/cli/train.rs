//! `needle train`.

use std::path::PathBuf;

use needle_data::source::load_examples;
use needle_data::split::split_by_tool;
use needle_data::stream::Sources;
use needle_data::{DataError, Example, Tokenizer};
use needle_model::checkpoint::Checkpoint;
use needle_model::{San, SanConfig};

use super::quickstart::table;
use super::tokenizer::{load_tokenizer, texts};
use super::{Global, print};
use crate::device::{Device, Training};
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
    /// Files, directories or globs of JSONL (.gz, .zst), parquet or packed shards; without it, the recipe's data.sources
    #[arg(long, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Examples to validate on; without it, a twelfth of each tool's examples in --data is held out
    #[arg(long, value_name = "FILE")]
    val: Option<PathBuf>,
    /// Directory of the run
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Checkpoint to start from; its sizes and tokenizer replace the recipe's
    #[arg(long, value_name = "CHECKPOINT")]
    base: Option<PathBuf>,
    /// Tokenizer to use: a tokenizer.json or SentencePiece .model; without it, one is trained on the data
    #[arg(long, value_name = "FILE", conflicts_with = "base")]
    tokenizer: Option<PathBuf>,
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
        let mut overrides = global.overrides(&self.set);
        if self.skip_invalid {
            overrides.push("data.on_bad_row=skip".into());
        }
        let recipe = Recipe::load(Some(&self.config), &overrides)?;
        let (train, validation) = self.data(&recipe).map_err(with_hint)?;
        let device = global.device();
        let run = RunDir::new(&self.out);
        let start = self.start(&recipe, &train, &run, &device)?;
        tracing::info!("{} parameters", start.config.num_params_with_head());
        let options = RunOptions { resume: self.resume, quiet: global.quiet };
        let outcome =
            trainer::train(start, &recipe, &train, &validation, &run, options).map_err(|e| with_hint(e.into()))?;
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

    /// What to train on and what to validate on.
    fn data(&self, recipe: &Recipe) -> anyhow::Result<(Sources, Vec<Example>)> {
        let on_bad_row = recipe.data.on_bad_row;
        let sources = match (self.data.as_slice(), recipe.data.sources.as_slice()) {
            ([], []) => anyhow::bail!("nothing to train on: name files by --data, or [[data.sources]] in the recipe"),
            ([], mixture) => Sources::mixture(mixture)?,
            (paths, _) => Sources::files(paths)?,
        };
        if let Some(path) = &self.val {
            let (validation, counts) = load_examples(&[path], on_bad_row)?;
            tracing::info!("validation: {counts}");
            return Ok((sources, validation));
        }
        let first = sources.rows().next().transpose()?.and_then(|row| row.record().ok());
        let is_text = !matches!(first, None | Some(needle_data::record::Record::ToolCall(_)));
        if self.data.is_empty() || is_text || sources.is_packed() {
            tracing::warn!("no --val: the run is not validated while it trains");
            return Ok((sources, Vec::new()));
        }
        let (train, counts) = load_examples(&self.data, on_bad_row)?;
        tracing::info!("data: {counts}");
        let split = split_by_tool(&train, recipe.seed);
        let pick = |part: &[usize]| part.iter().map(|&i| train[i].clone()).collect::<Vec<_>>();
        let (held_out, rest) = (pick(&split.validation), pick(&[split.train, split.test].concat()));
        tracing::info!("no --val: {} of {} examples held out to validate on", held_out.len(), train.len());
        Ok((Sources::memory(rest), held_out))
    }

    /// The model to begin with: the run's own, the base, or a new one.
    fn start(&self, recipe: &Recipe, data: &Sources, run: &RunDir, device: &Device) -> anyhow::Result<Start<Training>> {
        let existing = self.resume.then(|| run.last()).filter(|last| last.exists());
        if let Some(base) = existing.or(self.base.clone()) {
            let Checkpoint { config, model, tokenizer } = Checkpoint::<Training>::load(&base, device)?;
            tracing::info!("starting from {}", base.display());
            return Ok(Start { config, model, tokenizer });
        }
        let tokenizer: Tokenizer = match &self.tokenizer {
            Some(path) => load_tokenizer(path)?,
            None if data.is_packed() => anyhow::bail!("packed shards hold no text: name their --tokenizer or a --base"),
            None => {
                tracing::info!("training a tokenizer of {} ids", recipe.tokenizer.vocab_size);
                Tokenizer::train_from(&recipe.tokenizer, texts(data.rows(), recipe.data.on_bad_row))?.0
            }
        };
        let config = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset(&recipe.model)? };
        let model = San::new(&config, recipe.seed, device)?;
        Ok(Start { config, model, tokenizer })
    }
}

/// Tells what to do about a bad row.
fn with_hint(error: anyhow::Error) -> anyhow::Error {
    let is_row = error.chain().any(|cause| matches!(cause.downcast_ref(), Some(DataError::Row { .. })));
    if is_row {
        anyhow::anyhow!("{error}; `needle data check` lists all such rows, --skip-invalid leaves them out")
    } else {
        error
    }
}
