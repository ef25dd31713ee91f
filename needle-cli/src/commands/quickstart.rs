//! `needle quickstart`.

use std::path::PathBuf;

use needle_runtime::Needle;

use super::print;
use super::train::stop_on_signal;
use crate::args::{DeviceArgs, ExistingArgs, QuietArgs, RecipeArgs};
use needle_train::eval::table;
use needle_train::quickstart::{RECIPE, SAMPLES, sample_tools};
use needle_train::recipe::Recipe;
use needle_train::run::directory::RunDir;
use needle_train::training::trainer::RunOptions;
use needle_train::{on_device, quickstart};

/// Generate examples, then train, evaluate, export and try a small model, in minutes on any CPU
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  needle quickstart\n  needle quickstart --out /tmp/q --set steps=200")]
pub struct QuickstartArgs {
    /// Directory of the run
    #[arg(help_heading = "Run", long, default_value = "quickstart")]
    out: PathBuf,
    #[command(flatten)]
    existing: ExistingArgs,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl QuickstartArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let recipe = Recipe::parse(RECIPE, &self.recipe.overrides()).map_err(anyhow::Error::msg)?;
        let device = self.device.device()?;
        let run = RunDir::new(&self.out);
        let existing = self.existing.existing();
        let options = RunOptions { existing, quiet: self.quiet.quiet, stop: stop_on_signal()? };
        // Claimed before the data are generated, so that a problem with --out shows at once.
        let _claim = run.claim(existing)?;
        tracing::info!("1/4  generating examples");
        let data = quickstart::data(recipe.seed)?;
        tracing::info!("     {} for training, {} held out, such as", data.train.len(), data.held_out.len());
        if let Some(example) = data.train.iter().find(|e| !e.answers.is_empty()) {
            tracing::info!("     {:?} -> {}", example.query, serde_json::to_string(&example.answers)?);
        }
        tracing::info!("2/4  training tokenizer and model ({} steps)", recipe.steps);
        let report = on_device!(device, |B, device| quickstart::run::<B>(&run, &recipe, data, device, options))?;
        if let Some(step) = report.stopped_at {
            print(format_args!(
                "stopped and saved after step {step} of {}; run the same command with --resume to continue",
                recipe.steps
            ))?;
            return Ok(true);
        }

        tracing::info!("3/4  evaluated on held-out examples, exported");
        print(format_args!("trained in {:.0} s", report.train_seconds))?;
        print(table(&report.evaluations))?;

        tracing::info!("4/4  answering with tools that training never offered together");
        let needle = Needle::load(run.result())?;
        for sample in &SAMPLES {
            let tools = sample_tools(sample);
            let answer = needle.call(sample.query, &tools)?;
            print(format_args!("  {:?} with {}", sample.query, sample.tools.join(", ")))?;
            print(format_args!("    {}", answer.text))?;
        }
        let result = run.result();
        print(format_args!(
            "\ncheckpoint      {}\nINT4 artifact   {}\nreport          {}\n\nTry next:\n  needle run {} --query \"remind me to water \
             the plants at 8 pm\" --tools '[{{\"name\":\"set_reminder\",\"description\":\"Remind the user of something\",\
             \"parameters\":{{\"text\":{{\"type\":\"string\",\"required\":true}},\"time\":{{\"type\":\"string\",\"required\":\
             true}}}}}}]'\n  needle finetune configs/examples/smart_home.jsonl --base {} --out runs/home",
            result.display(),
            report.artifact.display(),
            run.report().display(),
            result.display(),
            result.display(),
        ))?;
        Ok(true)
    }
}
