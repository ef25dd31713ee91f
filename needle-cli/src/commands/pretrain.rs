//! `needle pretrain`.

use std::path::PathBuf;

use super::Global;
use super::train::TrainArgs;
use needle_train::distributed::launch::Launch;

/// Train from scratch on text shards: the trainer of `train`, without a base
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle pretrain --config configs/pretrain.toml --data 'shards/*.parquet' --val held_out.jsonl \
                        --tokenizer tokenizer.json --out runs/pre\n  needle pretrain --config configs/pretrain.toml --data shards/ \
                        --out runs/pre --resume"
)]
pub struct PretrainArgs {
    /// Recipe (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Files, directories or globs of JSONL (.gz, .zst), parquet or packed shards; without it, the recipe's data.sources
    #[arg(long, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Rows to measure the loss on
    #[arg(long, value_name = "FILE")]
    val: Option<PathBuf>,
    /// Directory of the run
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokenizer to use: a tokenizer.json or SentencePiece .model; without it, one is trained on the data
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Go on with the run in --out
    #[arg(long)]
    resume: bool,
    /// Replace the run in --out
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Leave out bad rows, and say how many and why
    #[arg(long)]
    skip_invalid: bool,
    /// Override a setting of the recipe, as key=value
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl PretrainArgs {
    pub(super) fn run(self, global: &Global, launch: Launch) -> anyhow::Result<bool> {
        let Self { config, data, val, out, tokenizer, resume, overwrite, skip_invalid, set } = self;
        TrainArgs { config, data, val, out, base: None, tokenizer, resume, overwrite, skip_invalid, set }
            .run(global, launch)
    }
}
