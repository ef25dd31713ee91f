//! `needle finetune`.

use std::path::PathBuf;

use needle_data::source::{OnBadRow, load_placed_examples};

use super::train::{stop_on_signal, with_hint};
use super::{checkpoint_or_shipped, print, print_json};
use crate::args::{DeviceArgs, ExistingArgs, QuietArgs, RecipeArgs};
use needle_train::finetune::plan::{DEFAULT_MINUTES, EPOCHS};
use needle_train::finetune::{Base, Parts, Settings};
use needle_train::run::directory::RunDir;
use needle_train::training::trainer::RunOptions;
use needle_train::{finetune, on_device};

/// Finetune a checkpoint on your own examples, and compare it with the base model
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle finetune mine.jsonl --base quickstart --out runs/mine\n  needle finetune mine.jsonl \
                  --base none --model small --out runs/mine\n  needle finetune mine.jsonl --base runs/big --out runs/mine \
                  --lora-rank 8\n\nA line of mine.jsonl: {\"query\": \"..\", \"tools\": [{\"name\", \"description\", \"parameters\"}], \
                  \"answers\": [{\"name\", \"arguments\"}]}; answers [] where no tool fits."
)]
pub struct FinetuneArgs {
    /// Examples: .jsonl, .jsonl.gz or .jsonl.zst
    data: PathBuf,
    /// Checkpoint to start from, or none for a new model; by default models/needle-mini
    #[arg(long, help_heading = "Model", value_name = "CHECKPOINT|none")]
    base: Option<PathBuf>,
    /// Preset of the new model's sizes; needs --base none
    #[arg(long, help_heading = "Model", value_name = "PRESET")]
    model: Option<String>,
    /// Directory of the run; the result is in its best/
    #[arg(long, help_heading = "Run", value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    existing: ExistingArgs,
    /// Skip bad rows, and report how many and why
    #[arg(long, help_heading = "Data")]
    skip_invalid: bool,
    /// Also train on these examples, half as often as on yours, so that the model keeps what the
    /// base knows; by default the base's own mixture.jsonl.zst, if it has one; none for yours alone
    #[arg(long, help_heading = "Data", value_name = "FILES|none", num_args = 1..)]
    mix: Option<Vec<PathBuf>>,
    /// Truncate prompts that are longer than the base reads, instead of refusing them
    #[arg(long, help_heading = "Data")]
    cut_long_prompts: bool,
    #[arg(long, help_heading = "Recipe", value_name = "MINUTES", value_parser = minutes, help = format!(
        "Time budget to plan for; by default, {DEFAULT_MINUTES} minutes for small sets and {EPOCHS} epochs for others"
    ))]
    max_minutes: Option<f64>,
    /// Train only LoRA adapters of this rank, and merge them into the result
    #[arg(long, help_heading = "Recipe", value_name = "RANK")]
    lora_rank: Option<usize>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print the comparison as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl FinetuneArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let is_scratch = self.base.as_ref().is_some_and(|base| base.as_os_str() == "none");
        anyhow::ensure!(
            is_scratch || self.model.is_none(),
            "--model is for --base none: a checkpoint has its own sizes"
        );
        let mut overrides: Vec<String> = self.model.iter().map(|model| format!("model={model}")).collect();
        if let Some(rank) = self.lora_rank {
            // Adapters start at zero and tolerate a higher learning rate: docs/LOG.md,
            // "Finetuning".
            overrides.extend([format!("optim.lora_rank={rank}"), "optim.adamw_lr=3e-3".to_owned()]);
        }
        overrides.extend(self.recipe.overrides());
        // Loaded before the data, which are split by the recipe's seed.
        let recipe = finetune::recipe(&overrides)?;
        let on_bad_row = if self.skip_invalid { OnBadRow::Skip } else { OnBadRow::Fail };
        let bad_rows = on_bad_row.up_to(recipe.data.max_bad_fraction);
        let (examples, counts) = load_placed_examples(std::slice::from_ref(&self.data), bad_rows)
            .map_err(|error| with_hint(error.into()))?;
        tracing::info!("{}: {counts}", self.data.display());
        let parts = Parts::new(examples, recipe.seed)?;
        for warning in &parts.warnings {
            tracing::warn!("{warning}");
        }
        let checkpoint = (!is_scratch).then(|| checkpoint_or_shipped(self.base.as_deref())).transpose()?;
        let base = checkpoint.as_deref().map_or(Base::Scratch, Base::Checkpoint);
        let mut mix = self.mix;
        if let Some(files) = &mut mix {
            files.retain(|file| file.as_os_str() != "none");
        }
        let run = RunDir::new(&self.out);
        let existing = self.existing.existing();
        let options = RunOptions { existing, quiet: self.quiet.quiet, stop: stop_on_signal()? };
        let settings = Settings {
            overrides: &overrides,
            max_minutes: self.max_minutes,
            mixed_in: mix.as_deref(),
            cut_long_prompts: self.cut_long_prompts,
        };
        let result = on_device!(self.device.device()?, |B, device| finetune::run::<B>(
            &parts, base, settings, &run, device, options
        ))?;
        if let Some(step) = result.stopped_at {
            print(format_args!("stopped and saved after step {step}; run the same command with --resume to continue"))?;
            return Ok(true);
        }
        if self.json {
            return print_json(&result.comparison).map(|()| true);
        }
        print(result.comparison.to_text())?;
        let (best, report) = (run.result(), run.report());
        print(format_args!(
            "\nfinetuned in {:.0} s\ncheckpoint  {}\nreport      {}\n\nTry next:\n  needle run {} --query \"..\" --tools tools.json",
            result.comparison.seconds,
            best.display(),
            report.display(),
            best.display()
        ))?;
        Ok(true)
    }
}

/// A time budget: a number of minutes above 0.
fn minutes(text: &str) -> Result<f64, String> {
    let minutes: Result<f64, _> = text.parse();
    minutes.ok().filter(|m| m.is_finite() && *m > 0.0).ok_or_else(|| "expected a number of minutes above 0".into())
}
