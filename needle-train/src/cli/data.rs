//! `needle data`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use needle_data::source::{OnBadRow, examples, load_examples};
use needle_data::stats::Stats;
use needle_data::synth::{Generator, Part, SynthConfig};

use super::{Global, print, print_json};

/// Check, count and generate examples
#[derive(clap::Subcommand)]
#[expect(missing_docs, reason = "the structs carry the help texts")]
pub enum DataCommand {
    Check(CheckArgs),
    Stats(StatsArgs),
    Synth(SynthArgs),
}

/// List every row that cannot be used, with file, line, field and reason; exits 1 if there is one
#[derive(clap::Args)]
#[command(after_help = "Example:\n  needle data check mine.jsonl")]
pub struct CheckArgs {
    /// Examples: .jsonl, .jsonl.gz or .jsonl.zst
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Count rows, tools and calls
#[derive(clap::Args)]
#[command(after_help = "Example:\n  needle data stats mine.jsonl")]
pub struct StatsArgs {
    /// Examples: .jsonl, .jsonl.gz or .jsonl.zst
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

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

impl DataCommand {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        match self {
            Self::Check(args) => args.run(),
            Self::Stats(args) => args.run(),
            Self::Synth(args) => args.run(global),
        }
    }
}

impl CheckArgs {
    fn run(self) -> anyhow::Result<bool> {
        let (mut rows, mut problems) = (0, Vec::new());
        let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
        for file in &self.files {
            for row in examples(file)? {
                rows += 1;
                let (place, example) = row?;
                let Err(problem) = example else { continue };
                *skipped.entry(problem.code.to_string()).or_default() += 1;
                if self.json {
                    problems.push(serde_json::json!({
                        "file": place.file, "line": place.line, "field": problem.field, "reason": problem.reason,
                    }));
                } else {
                    print(format_args!("{place}: {problem}"))?;
                }
            }
        }
        let bad: usize = skipped.values().sum();
        if self.json {
            print_json(
                &serde_json::json!({"rows": rows, "used": rows - bad, "skipped": skipped, "problems": problems}),
            )?;
        } else {
            let reasons: Vec<String> = skipped.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
            let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
            print(format_args!("{rows} rows, {} usable, {bad} not{reasons}", rows - bad))?;
        }
        if rows == 0 {
            tracing::error!("there are no rows");
        }
        Ok(bad == 0 && rows > 0)
    }
}

impl StatsArgs {
    fn run(self) -> anyhow::Result<bool> {
        let (examples, skipped) = load_examples(&self.files, OnBadRow::Skip)?;
        let stats = Stats::of(&examples);
        if self.json {
            print_json(&stats)?;
            return Ok(true);
        }
        let share = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
        print(format_args!("rows                {}", stats.rows))?;
        for (reason, count) in &skipped {
            print(format_args!("  left out          {count} ({reason})"))?;
        }
        print(format_args!(
            "without a call      {} ({:.1} %)",
            stats.no_call_rows,
            share(stats.no_call_rows, stats.rows)
        ))?;
        print(format_args!(
            "several calls       {} ({:.1} %)",
            stats.multi_call_rows,
            share(stats.multi_call_rows, stats.rows)
        ))?;
        print(format_args!(
            "copied text values  {:.1} % of {}",
            share(stats.verbatim_values, stats.string_values),
            stats.string_values
        ))?;
        print("offered tools")?;
        for (count, rows) in &stats.rows_by_offered_tools {
            print(format_args!("  {count:<4}{rows:>8}  {}", bar(*rows, stats.rows)))?;
        }
        print("calls")?;
        for (name, count) in &stats.calls_per_tool {
            print(format_args!("  {count:>6}  {name}"))?;
        }
        let thin = stats.thin_tools().count();
        if thin > 0 {
            tracing::warn!("{thin} tools have fewer than {} calls", needle_data::split::RECOMMENDED_PER_TOOL);
        }
        Ok(true)
    }
}

fn bar(part: usize, whole: usize) -> String {
    "█".repeat((part * 40).div_ceil(whole.max(1)))
}

impl SynthArgs {
    fn run(self, global: &Global) -> anyhow::Result<bool> {
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
