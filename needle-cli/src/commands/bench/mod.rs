//! `needle bench`.

mod allreduce;
mod data;
mod decode;
mod train;

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
    pub(super) fn run(self, launch: Launch) -> anyhow::Result<bool> {
        match self {
            Self::Allreduce(args) => args.run(launch),
            Self::Data(args) => args.run(),
            Self::Train(args) => args.run(),
            Self::Decode(args) => args.run(),
        }
    }
}
