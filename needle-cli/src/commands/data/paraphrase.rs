//! `needle data paraphrase`.

use std::path::PathBuf;

use needle_data::source::{BadRows, load_examples};
use needle_teacher::session::Rewrite;

use super::teacher::TeacherArgs;

/// Let a large model reword existing queries; calls and their values stay the same
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  needle data paraphrase mine.jsonl --per-row 4 --endpoint http://localhost:8000/v1 --model large --out \
                  reworded.jsonl"
)]
pub struct ParaphraseArgs {
    /// Files, directories or globs of examples
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// New wordings of each example
    #[arg(help_heading = "Rows", long, value_name = "N", default_value_t = 3)]
    per_row: usize,
    /// File to write the new rows to
    #[arg(help_heading = "Rows", long, value_name = "OUT.jsonl")]
    out: PathBuf,
    #[command(flatten)]
    teacher: TeacherArgs,
}

impl ParaphraseArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let (examples, _) = load_examples(&self.files, BadRows::Fail)?;
        let planned = self.teacher.session(self.out)?.rewrite(Rewrite::Paraphrase, &examples, self.per_row)?;
        self.teacher.run(planned)
    }
}
