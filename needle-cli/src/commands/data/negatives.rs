//! `needle data negatives`.

use std::path::PathBuf;

use needle_data::source::{BadRows, load_examples};
use needle_teacher::session::Rewrite;

use super::teacher::TeacherArgs;

/// Let a large model write requests that resemble existing ones but fit none of their tools
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  needle data negatives mine.jsonl --endpoint http://localhost:8000/v1 --model large --judge large --votes 3 \
                  --out negatives.jsonl"
)]
pub struct NegativesArgs {
    /// Files, directories or globs of examples
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// New rows for each example with a call
    #[arg(help_heading = "Rows", long, value_name = "N", default_value_t = 1)]
    per_row: usize,
    /// File to write the new rows to
    #[arg(help_heading = "Rows", long, value_name = "OUT.jsonl")]
    out: PathBuf,
    #[command(flatten)]
    teacher: TeacherArgs,
}

impl NegativesArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let (examples, _) = load_examples(&self.files, BadRows::Fail)?;
        let planned = self.teacher.session(self.out)?.rewrite(Rewrite::Negatives, &examples, self.per_row)?;
        self.teacher.run(planned)
    }
}
