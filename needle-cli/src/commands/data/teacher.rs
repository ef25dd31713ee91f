//! What `needle data generate`, `paraphrase` and `negatives` share: the flags of an endpoint, and a
//! run with its progress.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use indicatif::ProgressStyle;
use needle_teacher::budget::Limits;
use needle_teacher::client::{ApiKey, Proxy};
use needle_teacher::config::TeacherConfig;
use needle_teacher::session::{Planned, Session};
use needle_teacher::summary::cost_text;
use needle_teacher::teacher::StopReason;
use needle_teacher::tokens::Price;

use crate::args::{QuietArgs, VerboseArgs};
use crate::commands::{print, print_json};

/// Flags of every command that asks a teacher.
#[derive(clap::Args)]
pub struct TeacherArgs {
    /// Base address of an OpenAI-compatible endpoint, such as http://localhost:8000/v1
    #[arg(long, help_heading = "Endpoint", value_name = "URL")]
    endpoint: String,
    /// Name of the model at the endpoint
    #[arg(long, help_heading = "Endpoint", value_name = "NAME")]
    model: String,
    /// Environment variable that holds the API key; by default none is sent
    #[arg(long, help_heading = "Endpoint", value_name = "VARIABLE")]
    api_key_env: Option<String>,
    /// Concurrent requests
    #[arg(long, help_heading = "Endpoint", value_name = "N")]
    concurrency: Option<usize>,
    /// Most requests per minute
    #[arg(long, help_heading = "Endpoint", value_name = "N")]
    requests_per_minute: Option<f64>,
    /// Most tokens per minute
    #[arg(long, help_heading = "Endpoint", value_name = "N")]
    tokens_per_minute: Option<f64>,
    /// Price of a million prompt tokens
    #[arg(long, help_heading = "Cost", value_name = "PRICE", requires = "output_price")]
    input_price: Option<f64>,
    /// Price of a million answer tokens
    #[arg(long, help_heading = "Cost", value_name = "PRICE", requires = "input_price")]
    output_price: Option<f64>,
    /// Stop before the run, over all its sessions, costs more than this
    #[arg(long, help_heading = "Cost", value_name = "COST")]
    max_cost: Option<f64>,
    /// Stop before the run, over all its sessions, uses more tokens than this
    #[arg(long, help_heading = "Cost", value_name = "N")]
    max_tokens: Option<u64>,
    /// Print and save the plan with its estimated tokens and cost, and send nothing
    #[arg(long, help_heading = "Cost")]
    dry_run: bool,
    /// Ask this model, at the same endpoint, for a second opinion on every row
    #[arg(long, help_heading = "Trust", value_name = "NAME")]
    judge: Option<String>,
    /// Opinions per row; a row is kept if more than half accept it
    #[arg(long, help_heading = "Trust", value_name = "K", requires = "judge")]
    votes: Option<usize>,
    /// Settings in TOML: plan, trust, client, teacher, judge, rounds (docs/TEACHER.md lists them)
    #[arg(long, help_heading = "Settings", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seed of everything random; overrides that of --config
    #[arg(long, help_heading = "Settings", value_name = "N")]
    seed: Option<u64>,
    /// Print the summary as one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    verbose: VerboseArgs,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl TeacherArgs {
    /// The session that these flags describe, writing to `out`.
    pub fn session(&self, out: PathBuf) -> anyhow::Result<Session> {
        let mut config = TeacherConfig::load(self.config.as_deref())?;
        config.teacher.model.clone_from(&self.model);
        config.seed = self.seed.unwrap_or(config.seed);
        config.client.concurrency = self.concurrency.unwrap_or(config.client.concurrency);
        config.client.requests_per_minute = self.requests_per_minute.or(config.client.requests_per_minute);
        config.client.tokens_per_minute = self.tokens_per_minute.or(config.client.tokens_per_minute);
        if let (Some(input), Some(output)) = (self.input_price, self.output_price) {
            config.teacher.price = Some(Price { input, output });
        }
        config.judge.model = self.judge.clone().or(config.judge.model);
        config.judge.votes = self.votes.unwrap_or(config.judge.votes);
        let key = match &self.api_key_env {
            None => ApiKey::none(),
            Some(name) => {
                let value = std::env::var(name).with_context(|| format!("--api-key-env {name}"))?;
                ApiKey::new(&value).map_err(|reason| anyhow::anyhow!("--api-key-env {name}: {reason}"))?
            }
        };
        Ok(Session {
            endpoint: self.endpoint.clone(),
            key,
            proxy: Proxy::try_from_env(),
            config,
            limits: Limits { cost: self.max_cost, tokens: self.max_tokens },
            out,
            stop: if self.dry_run { Arc::default() } else { stop_on_signal()? },
            dry_run: self.dry_run,
        })
    }

    /// Prints the plan, and runs it unless this is a dry run.
    pub fn run(&self, planned: Planned) -> anyhow::Result<bool> {
        let estimate = format!("{}estimated: {}", planned.text, cost_text(&planned.expected, 0));
        if self.dry_run {
            if self.json {
                print_json(&serde_json::json!({"rows": planned.num_rows(), "estimated": planned.expected}))?;
            } else {
                print(&estimate)?;
                print(format_args!("plan      {}", planned.output().plan().display()))?;
            }
            return Ok(true);
        }
        tracing::info!("{estimate}");
        let bar = self.quiet.progress(Some(planned.num_rows()));
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} rows, {msg} [{elapsed}, {eta} left]")?);
        let output = planned.output().clone();
        let summary = planned.run(&mut |progress| {
            bar.set_position(progress.accepted as u64);
            let cost = progress
                .used
                .cost
                .map_or_else(|| format!("{} tokens", progress.used.tokens()), |cost| format!("cost {cost:.4}"));
            bar.set_message(format!("{} rejected, {cost}", progress.rejected));
        })?;
        bar.finish_and_clear();
        let Some(summary) = summary else { return Ok(true) };
        if self.json {
            print_json(&summary)?;
        } else {
            print(summary.to_text())?;
            for (what, path) in
                [("rows", output.rows()), ("rejected", &output.rejected()), ("report", &output.report())]
            {
                print(format_args!("{what:<10}{}", path.display()))?;
            }
        }
        match summary.ended {
            Some(StopReason::Error(reason)) => {
                anyhow::bail!("{reason}; accepted rows are saved, and the same command continues the run")
            }
            Some(StopReason::Stopped) => tracing::warn!("stopped and saved; the same command continues the run"),
            Some(StopReason::Limit) => {
                tracing::warn!("the limit on cost or tokens is reached; the same command with a higher one continues")
            }
            None => {}
        }
        Ok(summary.accepted > 0)
    }
}

/// A flag that Ctrl-C and SIGTERM set; a second signal ends the process at once.
fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            // 128 + SIGINT: the status that a shell gives an interrupted process.
            std::process::exit(130);
        }
        eprintln!("\nwaiting for the requests under way, then saving; interrupt again to exit at once");
    })?;
    Ok(stop)
}
