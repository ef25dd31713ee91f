//! `needle data check`.

use std::path::{Path, PathBuf};

use needle_data::Problem;
use needle_data::error::{Place, ProblemCode};
use needle_data::packed::{EXTENSION, PackedShard};
use needle_data::source::{Counts, expand, rows};
use needle_data::stats::advice::Advice;
use needle_data::text::record::Record;

use crate::args::QuietArgs;
use crate::commands::{print, print_json};

/// List every row that cannot be used, with file, line, field and reason; exits with 1 if there is
/// one
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle data check mine.jsonl\n  needle data check 'shards/*.parquet' --json\n  needle data check packed/"
)]
pub struct CheckArgs {
    /// Files, directories or globs of JSONL (.gz, .zst), parquet or packed shards
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(help_heading = "Output", long)]
    json: bool,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl CheckArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let is_packed = |path: &PathBuf| path.extension().is_some_and(|e| e == EXTENSION);
        let (packed, text): (Vec<_>, Vec<_>) = expand(&self.files)?.into_iter().partition(is_packed);
        let mut checked = Checked { is_json: self.json, ..Checked::default() };
        for path in &packed {
            let shard = PackedShard::open_any(path)?;
            shard.verify()?;
            checked.counts.read += shard.num_rows() as u64;
            checked.counts.used += shard.num_rows() as u64;
        }
        text.iter().try_for_each(|path| checked.file(path))?;
        let Checked { counts, problems, advice, .. } = checked;
        let warnings = advice.warnings();
        if self.json {
            print_json(&serde_json::json!({
                "rows": counts.read, "used": counts.used, "skipped": counts.skipped, "problems": problems,
                "warnings": warnings,
            }))?;
        } else {
            let reasons = counts.reasons();
            print(format_args!("{} rows, {} usable, {} not{reasons}", counts.read, counts.used, counts.num_skipped()))?;
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        Ok(counts.num_skipped() == 0)
    }
}

/// What was found so far.
#[derive(Default)]
struct Checked {
    is_json: bool,
    counts: Counts,
    problems: Vec<serde_json::Value>,
    advice: Advice,
}

impl Checked {
    fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        // The first row, if it looks like the start of JSON over several lines.
        let mut not_lines: Option<(Place, Problem)> = None;
        for (index, row) in rows(&[path])?.enumerate() {
            let row = row?;
            let record = row.record();
            let first = not_lines.take();
            // Report one problem for the file, rather than one for each of its lines.
            if first.is_some() && record.is_err() {
                return self.problem(first);
            }
            self.problem(first)?;
            match record {
                Err(problem) if index == 0 && problem.code == ProblemCode::NotJsonLines => {
                    not_lines = Some((row.place, problem));
                }
                Err(problem) => self.problem(Some((row.place, problem)))?,
                Ok(record) => {
                    self.counts.add::<()>(&Ok(()));
                    if let Record::ToolCall(example) = record {
                        self.advice.add(&example);
                    }
                }
            }
        }
        self.problem(not_lines)
    }

    fn problem(&mut self, found: Option<(Place, Problem)>) -> anyhow::Result<()> {
        let Some((place, problem)) = found else { return Ok(()) };
        if self.is_json {
            self.problems.push(serde_json::json!({
                "file": place.file, "line": place.line, "field": problem.field, "reason": problem.reason,
            }));
        } else {
            print(format_args!("{place}: {problem}"))?;
        }
        self.counts.add::<()>(&Err(problem));
        Ok(())
    }
}
