//! `needle retrieve`.

use std::path::PathBuf;
use std::time::Instant;

use super::{PrecisionArg, checkpoint_at, print, print_json, read_tools};
use needle_train::answering;
use needle_train::device::Inference;

/// Rank a catalogue of tools for a query
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  needle retrieve quickstart/best --query \"wake me at seven\" --tools catalogue.json --top-k 3\n\n\
                  A catalogue is embedded once; its vectors are kept in the checkpoint's directory."
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
    /// As trained, or as exported
    #[arg(long, value_enum, default_value_t)]
    precision: PrecisionArg,
    /// Print a JSON list of names and scores
    #[arg(long)]
    json: bool,
}

impl RetrieveArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let tools = read_tools(&self.tools)?;
        anyhow::ensure!(!self.query.trim().is_empty(), "--query is empty");
        let path = checkpoint_at(&self.checkpoint)?;
        let needle = answering::load::<Inference>(&path, self.precision.into(), &Default::default())?;
        let start = Instant::now();
        let catalogue = needle.catalogue(&tools)?;
        let embedded = start.elapsed();
        let ranked = needle.rank(&self.query, &catalogue)?;
        let how = if catalogue.was_kept { "read" } else { "computed and kept" };
        let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
        let (all, first) = (ms(start.elapsed()), ms(embedded));
        tracing::info!("{} tools ranked in {all:.1} ms, of which {first:.1} for their embeddings ({how})", tools.len());
        let ranked = ranked.into_iter().take(self.top_k);
        if self.json {
            let rows = ranked.map(|(i, score)| serde_json::json!({"name": tools[i].name, "score": score}));
            return print_json(&rows.collect::<Vec<_>>()).map(|()| true);
        }
        for (index, score) in ranked {
            print(format_args!("{score:>7.3}  {}", tools[index].name))?;
        }
        Ok(true)
    }
}
