//! `needle report`.

use std::path::PathBuf;

use super::print;
use needle_train::run::directory::RunDir;
use needle_train::run::report;

/// Make a page of one run, or of several to compare: curves, answers, recipes
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  needle report runs/mine\n  needle report runs/a runs/b --out comparison.html")]
pub struct ReportArgs {
    /// Directories of runs
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Where to write; for one run, its own report.html
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
