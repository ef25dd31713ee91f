//! The `needle` command: one file a subcommand.
pub mod quickstart;

use clap::{Args, Parser, Subcommand};

use crate::device::DeviceChoice;

/// Trains, evaluates and ships tiny tool-calling models.
#[derive(Parser)]
#[command(name = "needle", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every subcommand.
#[derive(Args)]
pub struct Global {
    /// Where to compute: auto or cpu
    #[arg(long, global = true, default_value = "auto")]
    pub(crate) device: DeviceChoice,
}

#[derive(Subcommand)]
enum Command {
    Quickstart(quickstart::QuickstartArgs),
}

impl Cli {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Quickstart(args) => quickstart::run(&self.global, args),
        }
    }
}
