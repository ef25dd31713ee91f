//! `needle info`.

use std::path::PathBuf;

use needle_model::checkpoint::files;

use super::{checkpoint_at, load, print, print_json};
use crate::args::QuietArgs;
use needle_train::run::state;

/// Print sizes, parameter counts and origin of a checkpoint; reads it whole, and fails if it is
/// damaged
#[derive(clap::Args)]
#[command(after_help = "Example:\n  needle info quickstart/best")]
pub struct InfoArgs {
    /// Directory of the checkpoint
    checkpoint: PathBuf,
    /// Print one JSON object
    #[arg(help_heading = "Output", long)]
    json: bool,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl InfoArgs {
    pub(super) fn run(mut self) -> anyhow::Result<bool> {
        self.checkpoint = checkpoint_at(&self.checkpoint)?;
        // Load everything, so that a damaged checkpoint is an error.
        let config = load(&self.checkpoint)?.config;
        let state = state::inspect(&self.checkpoint)?;
        let bytes = |name: &str| std::fs::metadata(self.checkpoint.join(name)).map(|m| m.len()).ok();
        let quantized = config.num_matrix_params();
        if self.json {
            print_json(&serde_json::json!({
                "config": config,
                "num_params": config.num_params(),
                "num_params_with_head": config.num_params_with_head(),
                "num_params_int4": quantized,
                "bytes": {files::WEIGHTS: bytes(files::WEIGHTS), files::TOKENIZER: bytes(files::TOKENIZER)},
                "trainer": state,
            }))?;
            return Ok(true);
        }
        let count = |n: usize| format!("{:.3}M", n as f64 / 1e6);
        print(format_args!(
            "parameters          {} ({} with the retrieval head)",
            count(config.num_params()),
            count(config.num_params_with_head())
        ))?;
        print(format_args!("  quantized         {} (Q, K, V, O)", count(quantized)))?;
        print(format_args!("  embedding         {}", count(config.vocab_size * config.d_model)))?;
        print(format_args!("vocabulary          {}", config.vocab_size))?;
        print(format_args!(
            "width, heads        {}, {} ({} for keys and values)",
            config.d_model, config.num_heads, config.num_kv_heads
        ))?;
        print(format_args!(
            "layers              {} encoder, {} decoder",
            config.num_encoder_layers, config.num_decoder_layers
        ))?;
        print(format_args!(
            "longest rows        {} encoder, {} decoder tokens",
            config.max_enc_len, config.max_dec_len
        ))?;
        for name in [files::WEIGHTS, files::TOKENIZER] {
            print(format_args!("{name:<20}{:.2} MB", bytes(name).unwrap_or(0) as f64 / 1e6))?;
        }
        match state {
            Some(state) => print(format_args!(
                "trained             {} steps, seed {}, by needle {}",
                state["step"],
                state["recipe"]["seed"],
                state["version"].as_str().unwrap_or("?")
            ))?,
            None => print("trained             unknown: no trainer/state.json")?,
        }
        Ok(true)
    }
}
