//! `needle data stats`.

use std::path::PathBuf;

use needle_data::source::{expand, rows};
use needle_data::stats::advice::FEW_PER_TOOL;
use needle_data::stats::{Histogram, Stats};

use crate::args::QuietArgs;
use crate::commands::tokenizer::load_tokenizer;
use crate::commands::{print, print_json};

/// Count rows, tools, calls and tokens, and the queries that several files share
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle data stats mine.jsonl\n  needle data stats train.jsonl validation.jsonl --tokenizer \
                        quickstart/best"
)]
pub struct StatsArgs {
    /// Files, directories or globs of JSONL (.gz, .zst) or parquet
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Also count tokens: a tokenizer.json, a SentencePiece .model, or a checkpoint
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Print one JSON object
    #[arg(help_heading = "Output", long)]
    json: bool,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl StatsArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let tokenizer = self.tokenizer.as_deref().map(load_tokenizer).transpose()?;
        let mut stats = Stats::new(tokenizer.as_ref());
        for file in expand(&self.files)? {
            for row in rows(std::slice::from_ref(&file))? {
                stats.add(&file, &row?.record());
            }
        }
        for warning in stats.advice.warnings() {
            tracing::warn!("{warning}");
        }
        if self.json {
            print_json(&stats)?;
            return Ok(true);
        }
        let share = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
        print(format_args!("rows                {}", stats.counts))?;
        for (kind, rows) in [("tool calls", stats.tool_calls), ("questions", stats.questions), ("texts", stats.texts)] {
            if rows > 0 {
                print(format_args!("  {kind:<18}{rows}"))?;
            }
        }
        if stats.tool_calls > 0 {
            for (what, part) in [("without a call", stats.no_call_rows), ("several calls", stats.multi_call_rows)] {
                print(format_args!("{what:<20}{part} ({:.1} %)", share(part, stats.tool_calls)))?;
            }
            print(format_args!(
                "copied text values  {:.1} % of {} occur verbatim in the query",
                share(stats.verbatim_values, stats.string_values),
                stats.string_values
            ))?;
        }
        print(format_args!("repeated queries    {}", stats.repeated_queries))?;
        for shared in &stats.shared_queries {
            print(format_args!("  {} queries of {} are also in {}", shared.queries, shared.first, shared.second))?;
        }
        if let Some(tokens) = &stats.tokens {
            print(format_args!("tokens              {} read, {} written", tokens.encoder.sum, tokens.decoder.sum))?;
            print("tokens to read (encoder)")?;
            print_histogram(&tokens.encoder)?;
            print("tokens to write (decoder)")?;
            print_histogram(&tokens.decoder)?;
        }
        if stats.tool_calls > 0 {
            print("offered tools")?;
            for (count, rows) in &stats.rows_by_offered_tools {
                print(format_args!("  {count:<4}{rows:>8}  {}", bar(*rows, stats.tool_calls)))?;
            }
            print("calls")?;
            for (name, count) in &stats.calls_per_tool {
                let few = if *count < FEW_PER_TOOL { "  (few)" } else { "" };
                print(format_args!("  {count:>6}  {name}{few}"))?;
            }
        }
        Ok(true)
    }
}

fn print_histogram(histogram: &Histogram) -> anyhow::Result<()> {
    let most = histogram.bins.values().copied().max().unwrap_or(0);
    for (up_to, rows) in &histogram.bins {
        print(format_args!("  up to {up_to:<8}{rows:>8}  {}", bar(*rows, most)))?;
    }
    print(format_args!("  longest {}, mean {:.1}", histogram.longest, histogram.mean()))
}

fn bar(part: usize, whole: usize) -> String {
    "█".repeat((part * 40).div_ceil(whole.max(1)))
}
