//! `needle mcp`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use needle_data::source::{OnBadRow, load_placed_examples};
use needle_serve::mcp::config::{McpConfig, ServerSpec};
use needle_serve::mcp::front;
use needle_serve::mcp::router::Router;
use needle_serve::mcp::upstream::Upstream;
use needle_serve::mcp::verdict::Lines;
use needle_serve::queue::{Queue, QueueConfig};
use needle_serve::{needle, ranking};

use super::serve::{Listen, interrupted, runtime};
use super::{print, print_json};

/// Import the tools of MCP servers, or route to them
#[derive(clap::Subcommand)]
pub enum McpCommand {
    Import(ImportArgs),
    Serve(McpServeArgs),
}

impl McpCommand {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        match self {
            Self::Import(args) => args.run(),
            Self::Serve(args) => args.run(),
        }
    }
}

/// Print a server's tools as a tools file
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle mcp import http://127.0.0.1:9000/mcp > tools.json\n  needle mcp import -- npx -y some-server > \
                  tools.json"
)]
pub struct ImportArgs {
    /// The server's address, or the command that starts it
    #[arg(required = true, trailing_var_arg = true, value_name = "URL|COMMAND")]
    server: Vec<String>,
}

impl ImportArgs {
    fn run(self) -> anyhow::Result<bool> {
        let spec = ServerSpec::from_words(&self.server)?;
        let (tools, problems) = runtime()?.block_on(front::import(&self.server[0], &spec))?;
        problems.iter().for_each(|problem| tracing::warn!("{problem}; skipped"));
        tracing::info!("{} tools", tools.len());
        print(serde_json::to_string_pretty(&tools)?).map(|()| true)
    }
}

/// Be one MCP server in front of many, with three tools: find_tools, route and call_tool
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle mcp serve runs/mine --config mcp.json\n  needle mcp serve runs/mine --config mcp.json --http \
                  --port 9000\n  needle mcp serve runs/mine --config mcp.json --measure queries.jsonl\n\nWithout --http it uses \
                  stdin and stdout. route calls nothing: it answers act, confirm or refuse."
)]
pub struct McpServeArgs {
    /// Directory of the checkpoint or run
    checkpoint: PathBuf,
    /// The servers, in the format of other MCP clients: {"mcpServers": {..}}
    #[arg(long, help_heading = "Server", value_name = "mcp.json")]
    config: PathBuf,
    /// Listen on --host and --port, at /mcp, instead of stdin and stdout
    #[arg(long, help_heading = "Server")]
    http: bool,
    #[command(flatten)]
    listen: Listen,
    /// Confidence from which route answers act
    #[arg(long, help_heading = "Routing", value_name = "P", default_value_t = Lines::default().act_from, value_parser = probability)]
    act_from: f64,
    /// Confidence below which route answers refuse
    #[arg(long, help_heading = "Routing", value_name = "P", default_value_t = Lines::default().refuse_below, value_parser = probability)]
    refuse_below: f64,
    /// Do not serve: print the recall of find_tools at 1, 3, 5 and 10, and its MRR, on these
    /// examples
    #[arg(long, help_heading = "Routing", value_name = "FILE", conflicts_with = "http")]
    measure: Option<PathBuf>,
}

impl McpServeArgs {
    fn run(self) -> anyhow::Result<bool> {
        let lines = Lines { act_from: self.act_from, refuse_below: self.refuse_below };
        let config = McpConfig::load(&self.config)?;
        let model = needle::load(&self.checkpoint).map_err(anyhow::Error::msg)?;
        runtime()?.block_on(async {
            let upstreams = Upstream::connect_all(&config.servers).await?;
            let queue = Queue::new(QueueConfig::default());
            let router = Arc::new(Router::new(model.clone(), queue, lines, upstreams).await?);
            let tools = router.tools().await;
            tracing::info!("{} tools of {} servers", tools.len(), config.servers.len());
            if let Some(path) = &self.measure {
                let (examples, _) = load_placed_examples(std::slice::from_ref(path), OnBadRow::Fail.up_to(0.0))?;
                let queries = examples.into_iter().map(|(_, example)| {
                    let names = example.answers.into_iter().map(|call| call.name);
                    (example.query, names.collect())
                });
                let queries: Vec<(String, Vec<String>)> = queries.collect();
                return print_json(&ranking::recall(&*model, &tools, &queries, &[1, 3, 5, 10])?).map(|()| true);
            }
            if !self.http {
                front::serve_stdio(router).await?;
                return Ok(true);
            }
            let on_listening = |address| _ = print(format_args!("http://{address}/mcp"));
            front::serve_http(router, self.listen.address(), self.listen.key()?, on_listening, interrupted()).await?;
            Ok(true)
        })
    }
}

fn probability(text: &str) -> anyhow::Result<f64> {
    let value: f64 = text.parse().context("expected a number between 0 and 1")?;
    anyhow::ensure!((0.0..=1.0).contains(&value), "expected a number between 0 and 1");
    Ok(value)
}
