//! `needle bench data`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use needle_data::batching::loader::{Loader, LoaderConfig};
use needle_data::batching::prefetch::prefetch;
use needle_data::order::stream::{Lane, Sources, Windows};
use needle_data::source::{OnBadRow, Row};
use needle_data::{DataError, Encoder, Tokenizer};
use serde::Serialize;

use crate::args::RecipeArgs;
use crate::commands::tokenizer::load_tokenizer;
use crate::commands::{print, print_json};
use needle_train::recipe::Recipe;
use needle_train::run::memory::peak_rss_mb;
use needle_train::training::trainer::encode_config;

/// Measure how fast data are made into batches: each stage alone on one core, then all together
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle bench data train.jsonl --tokenizer tokenizer.json\n  needle bench data packed/ --tokenizer \
                        tokenizer.json --seconds 5 --json"
)]
pub struct DataArgs {
    /// Files, directories or globs of JSONL (.gz, .zst), parquet or packed shards
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A tokenizer.json, a SentencePiece .model, or a checkpoint
    #[arg(help_heading = "Measurement", long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// Recipe whose data section says how to read and pack
    #[arg(help_heading = "Recipe", long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Time limit of each stage, which also ends after one epoch
    #[arg(help_heading = "Measurement", long, value_name = "SECONDS", default_value_t = 10.0)]
    seconds: f64,
    /// Print one JSON object
    #[arg(help_heading = "Output", long)]
    json: bool,
}

/// The throughput of one stage.
#[derive(Debug, Default, Serialize)]
struct Stage {
    name: &'static str,
    threads: usize,
    seconds: f64,
    rows: u64,
    mb: f64,
    tokens: u64,
    rows_per_second: f64,
    mb_per_second: f64,
    tokens_per_second: f64,
}

/// Counts a stage while it runs.
struct Meter {
    began: Instant,
    limit: Duration,
    rows: u64,
    bytes: u64,
    tokens: u64,
}

impl Meter {
    fn new(limit_seconds: f64) -> Self {
        Self { began: Instant::now(), limit: Duration::from_secs_f64(limit_seconds), rows: 0, bytes: 0, tokens: 0 }
    }

    fn is_over(&self) -> bool {
        self.began.elapsed() >= self.limit
    }

    fn stage(&self, name: &'static str, threads: usize) -> Stage {
        let seconds = self.began.elapsed().as_secs_f64();
        let mb = self.bytes as f64 / 1e6;
        let per_second = |amount: f64| amount / seconds.max(1e-9);
        Stage {
            name,
            threads,
            seconds,
            rows: self.rows,
            mb,
            tokens: self.tokens,
            rows_per_second: per_second(self.rows as f64),
            mb_per_second: per_second(mb),
            tokens_per_second: per_second(self.tokens as f64),
        }
    }
}

#[derive(Debug, Serialize)]
struct DataBench {
    stages: Vec<Stage>,
    /// Share of the batches' positions that hold a token.
    fill: f64,
    peak_rss_mb: Option<f64>,
}

impl DataArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let recipe = Recipe::load(self.config.as_deref(), &self.recipe.overrides())?;
        let tokenizer = load_tokenizer(&self.tokenizer)?;
        let encoder = Encoder::new(&tokenizer, encode_config(&recipe))?;
        let sources = Sources::files(&self.files)?;
        let mut stages = Vec::new();
        if !sources.is_packed() {
            stages.push(self.read(&sources)?);
            stages.push(self.parse(&sources)?);
            stages.push(self.tokenize(&sources, &tokenizer)?);
        }
        let cores = std::thread::available_parallelism()?.get();
        let (one, _) = self.batches(&sources, &encoder, &recipe, 1)?;
        let (all, fill) = self.batches(&sources, &encoder, &recipe, recipe.data.threads.unwrap_or(cores))?;
        stages.extend([one, all]);
        let bench = DataBench { stages, fill, peak_rss_mb: peak_rss_mb() };
        if self.json {
            print_json(&bench)?;
            return Ok(true);
        }
        print(format_args!("{:<32}{:>8}{:>12}{:>10}{:>14}", "stage", "threads", "rows/s", "MB/s", "tokens/s"))?;
        for s in &bench.stages {
            let tokens = if s.tokens > 0 { format!("{:.0}", s.tokens_per_second) } else { "-".into() };
            print(format_args!(
                "{:<32}{:>8}{:>12.0}{:>10.1}{tokens:>14}",
                s.name, s.threads, s.rows_per_second, s.mb_per_second
            ))?;
        }
        print(format_args!("positions used {:.1} %", 100.0 * bench.fill))?;
        if let Some(mb) = bench.peak_rss_mb {
            print(format_args!("peak memory {mb:.0} MB"))?;
        }
        Ok(true)
    }

    fn read(&self, sources: &Sources) -> Result<Stage, DataError> {
        let mut meter = Meter::new(self.seconds);
        for row in sources.rows() {
            meter.bytes += row?.num_bytes() as u64;
            meter.rows += 1;
            if meter.is_over() {
                break;
            }
        }
        Ok(meter.stage("read and unpack", 1))
    }

    fn parse(&self, sources: &Sources) -> Result<Stage, DataError> {
        let rows = self.some_rows(sources)?;
        let mut meter = Meter::new(self.seconds);
        for row in &rows {
            let _ = std::hint::black_box(row.record());
            meter.bytes += row.num_bytes() as u64;
            meter.rows += 1;
            if meter.is_over() {
                break;
            }
        }
        Ok(meter.stage("parse and validate", 1))
    }

    fn tokenize(&self, sources: &Sources, tokenizer: &Tokenizer) -> Result<Stage, DataError> {
        let records = self.some_rows(sources)?.into_iter().filter_map(|row| row.record().ok());
        let texts: Vec<Vec<String>> = records.map(Encoder::texts_of).collect();
        let mut meter = Meter::new(self.seconds);
        for text in texts.iter().flatten() {
            meter.tokens += std::hint::black_box(tokenizer.encode(text)).len() as u64;
            meter.bytes += text.len() as u64;
            if meter.is_over() {
                break;
            }
        }
        meter.rows = texts.len() as u64;
        Ok(meter.stage("tokenize", 1))
    }

    /// Enough rows for a measurement, held in memory so that reading is not measured again.
    fn some_rows(&self, sources: &Sources) -> Result<Vec<Row>, DataError> {
        let mut bytes = 0;
        sources
            .rows()
            .take_while(|row| {
                let is_enough = bytes > 50_000_000;
                bytes += row.as_ref().map_or(0, Row::num_bytes);
                !is_enough
            })
            .collect()
    }

    /// Everything from files to batches. One thread is the caller's own, so that the result is the
    /// speed of one core.
    fn batches(
        &self,
        sources: &Sources,
        encoder: &Encoder<'_>,
        recipe: &Recipe,
        threads: usize,
    ) -> Result<(Stage, f64), DataError> {
        let config = LoaderConfig { threads: Some(threads), on_bad_row: OnBadRow::Skip, ..recipe.data.loader(1) };
        let windows =
            Windows::new(sources, encoder.tokenizer(), recipe.data.stream(recipe.seed, Lane::default()), None)?;
        let mut meter = Meter::new(self.seconds);
        let mut positions = 0;
        let mut measure = |loaded: Result<needle_data::batching::loader::Loaded, DataError>, meter: &mut Meter| {
            let loaded = loaded?;
            if loaded.epoch > 0 || meter.is_over() {
                return Ok(false);
            }
            meter.tokens += loaded.batch.num_tokens() as u64;
            meter.rows = loaded.counts.used;
            positions += loaded.batch.rows * (loaded.batch.enc_len + loaded.batch.dec_len);
            Ok(true)
        };
        if threads == 1 {
            for loaded in Loader::new(encoder, windows, config, recipe.seed)? {
                if !measure(loaded, &mut meter)? {
                    break;
                }
            }
        } else {
            std::thread::scope(|scope| {
                let windows = prefetch(scope, 0, windows).into_iter();
                let loader = Loader::new(encoder, windows, config, recipe.seed)?;
                for loaded in prefetch(scope, 4, loader) {
                    if !measure(loaded, &mut meter)? {
                        break;
                    }
                }
                Ok::<_, DataError>(())
            })?;
        }
        let fill = meter.tokens as f64 / positions.max(1) as f64;
        Ok((meter.stage("files to batches", threads), fill))
    }
}
