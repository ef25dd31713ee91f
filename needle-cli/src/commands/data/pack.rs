//! `needle data pack`.

use std::path::PathBuf;
use std::time::Instant;

use indicatif::{HumanCount, ProgressStyle};
use needle_data::Encoder;
use needle_data::batching::loader::RowPacker;
use needle_data::batching::prefetch::prefetch;
use needle_data::order::stream::{Lane, Sources, Windows};
use needle_data::packed::PackedWriter;

use crate::args::{QuietArgs, RecipeArgs};
use crate::commands::tokenizer::load_tokenizer;
use crate::commands::{print, print_json};
use needle_train::recipe::Recipe;
use needle_train::training::trainer::encode_config;

/// Tokenize and pack data once, into shards that train reads at memory speed
///
/// The recipe's data section sets row lengths, packing and the shuffling of tools. Examples keep
/// the order of tools that they are packed with; another --seed gives another order.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle data pack 'shards/*.parquet' --tokenizer tokenizer.json --config configs/finetune.toml --out \
                        packed\n  needle data pack train.jsonl --tokenizer runs/base/best --set data.row_enc_tokens=[256,1024] \
                        --set data.row_dec_tokens=[32,128] --out packed"
)]
pub struct PackArgs {
    /// Files, directories or globs of JSONL (.gz, .zst) or parquet
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A tokenizer.json, a SentencePiece .model, or a checkpoint
    #[arg(help_heading = "Shards", long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// Directory to write the shards to
    #[arg(help_heading = "Shards", long, value_name = "DIR")]
    out: PathBuf,
    /// Recipe whose data section says how to pack
    #[arg(long, help_heading = "Recipe", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Print one JSON object
    #[arg(help_heading = "Output", long)]
    json: bool,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl PackArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let recipe = Recipe::load(self.config.as_deref(), &self.recipe.overrides())?;
        let tokenizer = load_tokenizer(&self.tokenizer)?;
        let sources = Sources::files(&self.files)?;
        let encoder = Encoder::new(&tokenizer, encode_config(&recipe))?;
        let mut writer = PackedWriter::new(&self.out, &tokenizer, &recipe.data.row_sizes())?;
        let windows = Windows::new(&sources, &tokenizer, recipe.data.stream(recipe.seed, Lane::default()), None)?;
        let bar = self.quiet.progress(None);
        bar.set_style(ProgressStyle::with_template("{spinner} {msg} [{elapsed}]")?);
        let began = Instant::now();
        let counts = std::thread::scope(|scope| {
            let windows = prefetch(scope, 0, windows);
            let packer = RowPacker::new(&encoder, windows.into_iter(), recipe.data.loader(1), recipe.seed)?;
            for packed in prefetch(scope, 1, packer) {
                let packed = packed?;
                packed.rows.iter().try_for_each(|row| writer.push(row))?;
                bar.set_message(format!("{} rows read", HumanCount(packed.counts.read)));
                bar.tick();
                if packed.next.is_some_and(|next| next.epoch() > 0) {
                    return anyhow::Ok(packed.counts);
                }
            }
            anyhow::bail!("the data ended before their epoch did")
        })?;
        bar.finish_and_clear();
        let totals = writer.finish()?;
        let seconds = began.elapsed().as_secs_f64();
        let fill = totals.used_positions as f64 / totals.positions.max(1) as f64;
        if self.json {
            print_json(&serde_json::json!({"totals": totals, "counts": counts, "fill": fill, "seconds": seconds}))?;
            return Ok(true);
        }
        print(format_args!("{counts}"))?;
        print(format_args!(
            "{} examples in {} rows, {:.1} % of {} positions used, {} shards in {}, {:.1} s",
            HumanCount(totals.examples as u64),
            HumanCount(totals.rows as u64),
            100.0 * fill,
            HumanCount(totals.positions as u64),
            totals.shards,
            self.out.display(),
            seconds
        ))?;
        Ok(true)
    }
}
