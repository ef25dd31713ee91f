//! `needle report`.

use std::path::PathBuf;

use super::print;
use needle_train::run::directory::RunDir;
use needle_train::run::report;

/// Write an HTML report of one run, or a comparison of several: curves, answers, recipes
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  needle report runs/mine\n  needle report runs/a runs/b --out comparison.html")]
pub struct ReportArgs {
    /// Directories of runs
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// File to write; by default report.html, for one run in its directory
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl ReportArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let runs: Vec<RunDir> = self.runs.iter().map(RunDir::new).collect();
        let out = match (self.out, runs.as_slice()) {
            (Some(out), _) => out,
            (None, [run]) => run.report(),
            (None, _) => "report.html".into(),
        };
        report::write(&runs, &out)?;
        print(out.display())?;
        Ok(true)
    }
}
