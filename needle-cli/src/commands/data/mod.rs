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
    pub(super) fn run(self) -> anyhow::Result<bool> {
        match self {
            Self::Check(args) => args.run(),
            Self::Stats(args) => args.run(),
            Self::Convert(args) => args.run(),
            Self::Pack(args) => args.run(),
            Self::Synth(args) => args.run(),
            Self::Generate(args) => args.run(),
            Self::Paraphrase(args) => args.run(),
            Self::Negatives(args) => args.run(),
            Self::Augment(args) => args.run(),
        }
    }
}
