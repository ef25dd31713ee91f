//! `needle retrieve`.

use std::path::PathBuf;

use anyhow::Context;
use needle_data::Encoder;

use super::{Global, limits, load, print, print_json, read_tools};
use crate::eval::retrieval::{embed, rank, tool_texts};

/// Rank a catalogue of tools for a query
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  needle retrieve quickstart/run/last --query \"wake me at seven\" --tools catalogue.json --top-k 3"
)]
pub struct RetrieveArgs {
    /// Directory of the checkpoint
    checkpoint: PathBuf,
    /// What is asked
    #[arg(long)]
    query: String,
    /// The catalogue: a file, JSON, or - for stdin
    #[arg(long, value_name = "FILE|JSON|-")]
    tools: String,
    /// How many tools to name
    #[arg(long, default_value_t = 5)]
    top_k: usize,
    /// Print a JSON list of names and scores
    #[arg(long)]
    json: bool,
}

impl RetrieveArgs {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        let tools = read_tools(&self.tools)?;
        let checkpoint = load(&self.checkpoint, global)?;
        let encoder = Encoder::new(&checkpoint.tokenizer, limits(&checkpoint.config))?;
        let no_head = || format!("{}: the model has no retrieval head", self.checkpoint.display());
        let catalogue = embed(&checkpoint.model, &tool_texts(&encoder, &tools), 32).with_context(no_head)?;
        let query = embed(&checkpoint.model, &[encoder.query_ids(&self.query)], 1).with_context(no_head)?.remove(0);
        let ranked: Vec<_> = rank(&query, &catalogue).into_iter().take(self.top_k).collect();
        if self.json {
            let rows = ranked.iter().map(|(i, score)| serde_json::json!({"name": tools[*i].name, "score": score}));
            return print_json(&rows.collect::<Vec<_>>()).map(|()| true);
        }
        for (index, score) in ranked {
            print(format_args!("{score:>7.3}  {}", tools[index].name))?;
        }
        Ok(true)
    }
}
