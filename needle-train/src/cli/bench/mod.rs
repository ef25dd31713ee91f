//! `needle bench`.

mod data;
mod decode;
mod train;

use super::Global;

/// Measure throughput and memory
#[derive(clap::Subcommand)]
#[expect(missing_docs, reason = "the structs carry the help texts")]
pub enum BenchCommand {
    Data(data::DataArgs),
    Train(train::TrainArgs),
    Decode(decode::DecodeArgs),
}

impl BenchCommand {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        match self {
            Self::Data(args) => args.run(global),
            Self::Train(args) => args.run(global),
            Self::Decode(args) => args.run(global),
        }
    }
}
