//! `needle data convert`.

use std::path::PathBuf;

use needle_data::convert::{Format, convert};
use needle_data::source::{Counts, OnBadRow, expand};
use needle_data::{DataError, file};

use crate::args::QuietArgs;
use crate::commands::print;

/// `--from`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum FormatArg {
    /// Salesforce/xlam-function-calling-60k
    Xlam,
    /// Messages with tool_calls
    Openai,
    /// glaiveai/glaive-function-calling-v2
    Glaive,
    /// Team-ACE/ToolACE
    Toolace,
    /// Berkeley Function Calling Leaderboard, with --answers
    Bfcl,
}

impl From<FormatArg> for Format {
    fn from(arg: FormatArg) -> Self {
        match arg {
            FormatArg::Xlam => Self::Xlam,
            FormatArg::Openai => Self::Openai,
            FormatArg::Glaive => Self::Glaive,
            FormatArg::Toolace => Self::Toolace,
            FormatArg::Bfcl => Self::Bfcl,
        }
    }
}

/// Convert other tool-calling datasets to this project's JSONL, and validate them
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle data convert xlam_function_calling_60k.json --out xlam.jsonl\n  needle data convert \
                        BFCL_v3_simple.json --answers possible_answer/BFCL_v3_simple.json --out bfcl_simple.jsonl"
)]
pub struct ConvertArgs {
    /// Files: JSONL or one JSON list, also .gz and .zst
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Format of the files; by default detected row by row
    #[arg(long, value_enum)]
    from: Option<FormatArg>,
    /// BFCL's file of possible answers
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Stop at the first row that cannot be converted
    #[arg(long)]
    strict: bool,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl ConvertArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let on_bad_row = if self.strict { OnBadRow::Fail } else { OnBadRow::Skip };
        let mut counts = Counts::default();
        let mut failed: Option<DataError> = None;
        file::write_with(&self.out, |out| {
            let mut write = || -> Result<(), DataError> {
                for path in expand(&self.files)? {
                    convert(&path, self.from.map(Format::from), self.answers.as_deref(), &mut |place, example| {
                        counts.add(&example);
                        match example {
                            Ok(example) => {
                                writeln!(out, "{}", example.to_json()).map_err(|e| DataError::io(&self.out, e))
                            }
                            Err(problem) if on_bad_row == OnBadRow::Fail => Err(DataError::Row { place, problem }),
                            Err(problem) => {
                                tracing::warn!("{place}: {problem}");
                                Ok(())
                            }
                        }
                    })?;
                }
                Ok(())
            };
            // No file with half of the rows is written: the original error is returned below.
            write().map_err(|error| {
                failed = Some(error);
                std::io::Error::other("not converted")
            })
        })
        .map_err(|error| failed.take().unwrap_or(error))?;
        print(format_args!("{counts}: {}", self.out.display()))?;
        Ok(counts.used > 0)
    }
}
