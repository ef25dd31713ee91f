//! `needle data`.

mod augment;
mod check;
mod convert;
mod generate;
mod negatives;
mod pack;
mod paraphrase;
mod stats;
mod synth;
mod teacher;

use super::Global;

/// Check, count, convert, pack and generate examples
#[derive(clap::Subcommand)]
pub enum DataCommand {
    Check(check::CheckArgs),
    Stats(stats::StatsArgs),
    Convert(convert::ConvertArgs),
    Pack(pack::PackArgs),
    Synth(synth::SynthArgs),
    Generate(Box<generate::GenerateArgs>),
    Paraphrase(Box<paraphrase::ParaphraseArgs>),
    Negatives(Box<negatives::NegativesArgs>),
    Augment(augment::AugmentArgs),
}

impl DataCommand {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        match self {
            Self::Check(args) => args.run(),
            Self::Stats(args) => args.run(),
            Self::Convert(args) => args.run(),
            Self::Pack(args) => args.run(global),
            Self::Synth(args) => args.run(global),
            Self::Generate(args) => args.run(global),
            Self::Paraphrase(args) => args.run(global),
            Self::Negatives(args) => args.run(global),
            Self::Augment(args) => args.run(global),
        }
    }
}
