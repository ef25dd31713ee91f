//! `needle data synth`.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;

use needle_data::synth::invent::{InventConfig, Inventor};
use needle_data::synth::{Generator, Part, SynthConfig};

use crate::args::QuietArgs;

/// Generate examples of everyday or of invented tools, as JSONL on stdout
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle data synth --count 3\n  needle data synth --count 50000 --categories timers,weather > train.jsonl\n  needle data synth --invented --count 50000 > train.jsonl\n  needle data synth --invented --held-out --explain --count 20"
)]
pub struct SynthArgs {
    /// Number of examples
    #[arg(long, help_heading = "Examples", value_name = "N", default_value_t = 1000)]
    count: usize,
    /// Seed of everything random
    #[arg(long, help_heading = "Examples", value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also use the values that are held out of training sets; with --invented, use only the tools
    /// that are held out
    #[arg(long, help_heading = "Examples")]
    held_out: bool,
    /// Most calls in an answer
    #[arg(long, help_heading = "Examples", value_name = "N", default_value_t = 3)]
    max_calls: usize,
    /// With --invented: add a key `kind` to each example, which says why it has its calls
    #[arg(long, help_heading = "Examples", requires = "invented")]
    explain: bool,
    /// Invent new tools for each example, instead of taking them from the catalogue
    #[arg(long, help_heading = "Tools", conflicts_with_all = ["categories", "max_calls", "brief"])]
    invented: bool,
    /// Only tools of these categories
    #[arg(long, help_heading = "Tools", value_delimiter = ',', value_name = "NAMES")]
    categories: Vec<String>,
    /// Fewest offered tools
    #[arg(long, help_heading = "Tools", value_name = "N", default_value_t = 1)]
    min_tools: usize,
    /// Most offered tools
    #[arg(long, help_heading = "Tools", value_name = "N", default_value_t = 8)]
    max_tools: usize,
    /// Leave out the descriptions of parameters
    #[arg(long, help_heading = "Tools")]
    brief: bool,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl SynthArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        if self.invented {
            return self.invent();
        }
        let generator = Generator::new(SynthConfig {
            seed: self.seed,
            part: if self.held_out { Part::HeldOut } else { Part::Train },
            num_tools: (self.min_tools, self.max_tools),
            max_calls: self.max_calls,
            brief: self.brief,
            categories: self.categories,
            ..SynthConfig::default()
        })?;
        let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
        for example in generator.take(self.count) {
            writeln!(stdout, "{}", example.to_json())?;
        }
        stdout.flush()?;
        Ok(true)
    }

    fn invent(self) -> anyhow::Result<bool> {
        let inventor = Inventor::new(InventConfig {
            seed: self.seed,
            part: if self.held_out { Part::HeldOut } else { Part::Train },
            min_tools: self.min_tools,
            max_tools: self.max_tools,
            ..InventConfig::default()
        })?;
        let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
        let (mut skeletons, mut kinds) = (HashSet::new(), BTreeMap::new());
        for index in 0..self.count as u64 {
            let invented = inventor.get(index);
            let mut line = invented.example.to_json();
            if self.explain {
                line["kind"] = serde_json::to_value(invented.kind)?;
            }
            writeln!(stdout, "{line}")?;
            skeletons.insert(invented.skeleton);
            *kinds.entry(invented.kind).or_insert(0usize) += 1;
        }
        stdout.flush()?;
        let shares: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
        tracing::info!(
            "{} examples, {} different sentences once values are masked; {} actions on things; {}",
            self.count,
            skeletons.len(),
            inventor.num_frames(),
            shares.join(", ")
        );
        Ok(true)
    }
}
