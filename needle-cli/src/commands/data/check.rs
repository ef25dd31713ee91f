//! `needle data check`.

use std::path::PathBuf;

use needle_data::packed::{EXTENSION, PackedShard};
use needle_data::source::{Counts, expand, rows};

use crate::commands::{print, print_json};

/// List every row that cannot be used, with file, line, field and reason; exits 1 if there is one
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle data check mine.jsonl\n  needle data check 'shards/*.parquet' --json\n  needle data check packed/"
)]
pub struct CheckArgs {
    /// Files, directories or globs of JSONL (.gz, .zst), parquet or packed shards
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let is_packed = |path: &PathBuf| path.extension().is_some_and(|e| e == EXTENSION);
        let (packed, text): (Vec<_>, Vec<_>) = expand(&self.files)?.into_iter().partition(is_packed);
        let (mut counts, mut problems) = (Counts::default(), Vec::new());
        for path in &packed {
            let shard = PackedShard::open_any(path)?;
            shard.verify()?;
            counts.read += shard.num_rows() as u64;
            counts.used += shard.num_rows() as u64;
        }
        for row in rows(&text)? {
            let row = row?;
            let record = row.record();
            counts.add(&record);
            let Err(problem) = record else { continue };
            if self.json {
                let (file, line) = (&row.place.file, row.place.line);
                problems.push(serde_json::json!({
                    "file": file, "line": line, "field": problem.field, "reason": problem.reason,
                }));
            } else {
                print(format_args!("{}: {problem}", row.place))?;
            }
        }
        if self.json {
            print_json(&serde_json::json!({
                "rows": counts.read, "used": counts.used, "skipped": counts.skipped, "problems": problems,
            }))?;
        } else {
            let reasons = counts.reasons();
            print(format_args!("{} rows, {} usable, {} not{reasons}", counts.read, counts.used, counts.num_skipped()))?;
        }
        Ok(counts.num_skipped() == 0)
    }
}
