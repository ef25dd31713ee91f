//! `needle retrieve`.

use std::path::PathBuf;
use std::time::Instant;

use super::{PrecisionArg, checkpoint_or_shipped, needle_at, print, print_json, read_tools};
use crate::args::{QuietArgs, VerboseArgs};

/// Rank a catalogue of tools for a query
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  needle retrieve quickstart/best --query \"wake me at seven\" --tools catalogue.json --top-k 3\n\n\
                  A catalogue is embedded once; its vectors are cached in the checkpoint's directory."
)]
pub struct RetrieveArgs {
    /// Directory of the checkpoint; by default models/needle-mini
    checkpoint: Option<PathBuf>,
    /// The user's request
    #[arg(help_heading = "Question", long)]
    query: String,
    /// The catalogue: a file, JSON, or - for stdin
    #[arg(help_heading = "Question", long, value_name = "FILE|JSON|-")]
    tools: String,
    /// How many tools to print
    #[arg(help_heading = "Question", long, default_value_t = 5)]
    top_k: usize,
    /// Precision of the weights: as trained, or as exported
    #[arg(help_heading = "Question", long, value_enum, default_value_t)]
    precision: PrecisionArg,
    /// Compute activations in f32 instead of INT8, as needle-rs does; slower
    #[arg(long, help_heading = "Question")]
    exact: bool,
    /// Print a JSON list of names and scores
    #[arg(help_heading = "Output", long)]
    json: bool,
    #[command(flatten)]
    verbose: VerboseArgs,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl RetrieveArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let tools = read_tools(&self.tools)?;
        anyhow::ensure!(!self.query.trim().is_empty(), "--query is empty");
        let path = checkpoint_or_shipped(self.checkpoint.as_deref())?;
        let needle = needle_at(&path, self.precision, self.exact)?;
        let start = Instant::now();
        let catalogue = needle.catalogue(&tools)?;
        let embedded = start.elapsed();
        let ranked = needle.rank(&self.query, &catalogue)?;
        let how = if catalogue.was_kept { "from the cache" } else { "computed and cached" };
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
