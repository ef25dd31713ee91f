//! `needle data`.

mod check;
mod convert;
mod pack;
mod stats;
mod synth;

use super::Global;

/// Check, count, convert, pack and generate examples
#[derive(clap::Subcommand)]
pub enum DataCommand {
    Check(check::CheckArgs),
    Stats(stats::StatsArgs),
    Convert(convert::ConvertArgs),
    Pack(pack::PackArgs),
    Synth(synth::SynthArgs),
}

impl DataCommand {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        match self {
            Self::Check(args) => args.run(),
            Self::Stats(args) => args.run(),
            Self::Convert(args) => args.run(),
            Self::Pack(args) => args.run(global),
            Self::Synth(args) => args.run(global),
        }
    }
}
