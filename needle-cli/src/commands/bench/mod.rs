//! `needle bench`.

mod allreduce;
mod data;
mod decode;
mod train;

use super::Global;
use needle_train::distributed::launch::Launch;

/// Measure throughput and memory
#[derive(clap::Subcommand)]
pub enum BenchCommand {
    Allreduce(allreduce::AllreduceArgs),
    Data(data::DataArgs),
    Train(train::TrainArgs),
    Decode(decode::DecodeArgs),
}

impl BenchCommand {
    pub(super) fn run(self, global: &Global, launch: Launch) -> anyhow::Result<bool> {
        match self {
            Self::Allreduce(args) => args.run(launch),
            Self::Data(args) => args.run(global),
            Self::Train(args) => args.run(global),
            Self::Decode(args) => args.run(),
        }
    }
}
