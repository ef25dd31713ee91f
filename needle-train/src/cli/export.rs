//! `needle export`.

use std::path::PathBuf;

use clap::ValueEnum;
use needle_model::directory;
use needle_model::export::needle_rs;

use super::{Global, load, print};

/// Write a deployable INT4 artifact
#[derive(clap::Args)]
#[command(after_help = "Example:\n  needle export runs/mine/best --format needle-rs --out dist/mine")]
pub struct ExportArgs {
    /// Directory of the checkpoint
    checkpoint: PathBuf,
    /// Format of the artifact
    #[arg(long, value_enum)]
    format: Format,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// INT4 safetensors and vocab.txt for the needle-infer crate and the needle-rs package
    NeedleRs,
}

impl ExportArgs {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        let checkpoint = load(&self.checkpoint, global)?;
        let files = match self.format {
            Format::NeedleRs => needle_rs::artifact(&checkpoint.model, &checkpoint.config, &checkpoint.tokenizer)?,
        };
        let sizes: Vec<(String, usize)> = files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect();
        directory::write(&self.out, files, None)?;
        for (name, bytes) in sizes {
            print(format_args!("{:<20} {:.2} MB", self.out.join(name).display(), bytes as f64 / 1e6))?;
        }
        Ok(true)
    }
}
