//! `needle data synth`.

use std::io::Write;

use needle_data::synth::{Generator, Part, SynthConfig};

use crate::commands::Global;

/// Generate examples of everyday tools, as JSONL on stdout
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle data synth --count 3\n  needle data synth --count 50000 --categories timers,weather > train.jsonl"
)]
pub struct SynthArgs {
    /// How many
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Also use the values that are kept out of training sets
    #[arg(long)]
    held_out: bool,
    /// Only tools of these categories
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    categories: Vec<String>,
    /// Fewest offered tools
    #[arg(long, default_value_t = 1)]
    min_tools: usize,
    /// Most offered tools
    #[arg(long, default_value_t = 8)]
    max_tools: usize,
    /// Most calls in an answer
    #[arg(long, default_value_t = 3)]
    max_calls: usize,
    /// Leave out the descriptions of parameters
    #[arg(long)]
    brief: bool,
}

impl SynthArgs {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        let generator = Generator::new(SynthConfig {
            seed: global.seed.unwrap_or(0),
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
}
