//! `needle data augment`.

use std::path::PathBuf;

use needle_data::source::{BadRows, load_examples};
use needle_teacher::offline::{Changes, augment};
use needle_teacher::session::write_rows;

use crate::commands::print;

/// Make new rows from existing ones without a teacher: other values, typos, masked tool names,
/// withheld tools
///
/// Shares are between 0 and 1, and independent of each other.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle data augment mine.jsonl --out more.jsonl\n  needle data augment mine.jsonl --copies 5 --typos 1 \
                  --other-values 0 --masked-names 0 --withheld 0 --out typed.jsonl"
)]
pub struct AugmentArgs {
    /// Files, directories or globs of examples
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Most new rows from each example
    #[arg(help_heading = "Rows", long, value_name = "N", default_value_t = Changes::default().copies)]
    copies: usize,
    /// Also write the existing rows
    #[arg(help_heading = "Rows", long)]
    with_originals: bool,
    /// File to write
    #[arg(help_heading = "Rows", long, value_name = "FILE")]
    out: PathBuf,
    /// Seed of everything random
    #[arg(long, help_heading = "Rows", value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Share of values replaced: texts by another example's value for the same argument, numbers by
    /// others
    #[arg(help_heading = "Changes", long, value_name = "SHARE", default_value_t = Changes::default().other_values)]
    other_values: f64,
    /// Of those, the share replaced by made-up words
    #[arg(help_heading = "Changes", long, value_name = "SHARE", default_value_t = Changes::default().made_up)]
    made_up: f64,
    /// Share of rows with typos
    #[arg(help_heading = "Changes", long, value_name = "SHARE", default_value_t = Changes::default().typos)]
    typos: f64,
    /// Share of rows whose tools have meaningless names
    #[arg(help_heading = "Changes", long, value_name = "SHARE", default_value_t = Changes::default().masked_names)]
    masked_names: f64,
    /// Share of rows without the tools that were called, so that the answer is []
    #[arg(help_heading = "Changes", long, value_name = "SHARE", default_value_t = Changes::default().withheld)]
    withheld: f64,
}

impl AugmentArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let (mut rows, _) = load_examples(&self.files, BadRows::Fail)?;
        let changes = Changes {
            copies: self.copies,
            other_values: self.other_values,
            made_up: self.made_up,
            typos: self.typos,
            masked_names: self.masked_names,
            withheld: self.withheld,
        };
        let new = augment(&rows, &changes, self.seed)?;
        print(format_args!("{} new rows from {}: {}", new.len(), rows.len(), self.out.display()))?;
        if self.with_originals {
            rows.extend(new);
        } else {
            rows = new;
        }
        write_rows(&self.out, &rows)?;
        Ok(!rows.is_empty())
    }
}
