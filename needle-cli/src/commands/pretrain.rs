//! `needle pretrain`.

use super::train::TrainingArgs;
use needle_train::distributed::launch::Launch;

/// Train from scratch on text shards, with the trainer of `train`
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle pretrain --config configs/pretrain.toml --data 'shards/*.parquet' --val held_out.jsonl \
                        --tokenizer tokenizer.json --out runs/pre\n  needle pretrain --config configs/pretrain.toml --data shards/ \
                        --out runs/pre --resume"
)]
pub struct PretrainArgs {
    #[command(flatten)]
    training: TrainingArgs,
}

impl PretrainArgs {
    pub(super) fn run(self, launch: Launch) -> anyhow::Result<bool> {
        self.training.run(None, launch)
    }
}
