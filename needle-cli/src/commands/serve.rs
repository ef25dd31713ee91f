//! `needle serve` and `needle playground`.

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use needle_data::Tool;
use needle_serve::mcp::config::McpConfig;
use needle_serve::mcp::front;
use needle_serve::queue::QueueConfig;
use needle_serve::security::ApiKey;
use needle_serve::{PlaygroundConfig, ServerConfig, needle, serve};

use super::{print, read_tools, shipped};

/// Serve models behind OpenAI's API
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle serve runs/mine\n  needle serve home=runs/home office=runs/office --tools tools.json\n  \
                  NEEDLE_KEY=.. needle serve runs/mine --host 0.0.0.0 --api-key-env NEEDLE_KEY\n\nRoutes: /v1/chat/completions, \
                  /v1/responses, /v1/embeddings, /v1/models, /v1/tools/rank, /health, /metrics."
)]
pub struct ServeArgs {
    /// Directories of checkpoints or runs, each with the name that clients use for it; by default
    /// models/needle-mini
    #[arg(value_name = "[NAME=]CHECKPOINT")]
    checkpoints: Vec<String>,
    #[command(flatten)]
    listen: Listen,
    /// Tools for requests that bring none: a file, JSON, or - for stdin
    #[arg(long, help_heading = "Tools", value_name = "FILE|JSON|-")]
    tools: Option<String>,
    /// Add the tools of the MCP servers in this file to those of --tools
    #[arg(long, help_heading = "Tools", value_name = "mcp.json")]
    mcp: Option<PathBuf>,
    /// Requests that may wait in the queue; more are refused
    #[arg(long, help_heading = "Limits", value_name = "N", default_value_t = QueueConfig::default().max_waiting)]
    max_waiting: usize,
    /// Time limit of a request, including its wait in the queue
    #[arg(long, help_heading = "Limits", value_name = "SECONDS", default_value_t = QueueConfig::default().time_limit.as_secs())]
    time_limit: u64,
}

/// Try, finetune and ship models in a browser; serves OpenAI's API, too
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle playground quickstart\n  needle playground runs/mine --workspace work\n\nThe page works \
                  offline. Data, runs and exports are kept in the workspace; nothing is written elsewhere."
)]
pub struct PlaygroundArgs {
    /// Directories of checkpoints or runs, each with the name that the page shows for it; by
    /// default models/needle-mini
    #[arg(value_name = "[NAME=]CHECKPOINT")]
    checkpoints: Vec<String>,
    #[command(flatten)]
    listen: Listen,
    /// Directory of data, runs and exports
    #[arg(long, help_heading = "Page", value_name = "DIR", default_value = "needle-workspace")]
    workspace: PathBuf,
    /// Tools that the page starts with: a file, JSON, or - for stdin
    #[arg(long, help_heading = "Page", value_name = "FILE|JSON|-")]
    tools: Option<String>,
    /// Do not open the page in a browser
    #[arg(long, help_heading = "Page")]
    no_browser: bool,
}

/// Where a server listens, and the key that it asks for.
#[derive(clap::Args)]
pub struct Listen {
    /// Address to listen on; one that other machines can reach requires --api-key-env
    #[arg(long, help_heading = "Server", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 for a free one
    #[arg(long, help_heading = "Server", default_value_t = 8080)]
    port: u16,
    /// Environment variable that holds the API key which clients must send
    #[arg(long, help_heading = "Server", value_name = "NAME")]
    api_key_env: Option<String>,
}

impl Listen {
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    pub(super) fn key(&self) -> anyhow::Result<Option<ApiKey>> {
        let Some(name) = &self.api_key_env else { return Ok(None) };
        let key = std::env::var(name).with_context(|| format!("--api-key-env {name}"))?;
        Ok(Some(ApiKey::new(key).with_context(|| format!("--api-key-env {name}"))?))
    }
}

impl ServeArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let mut tools = self.tools.as_deref().map(read_tools).transpose()?.unwrap_or_default();
        runtime()?.block_on(async {
            if let Some(path) = &self.mcp {
                tools.extend(mcp_tools(path).await?);
            }
            let queue = QueueConfig {
                max_waiting: self.max_waiting,
                time_limit: Duration::from_secs(self.time_limit),
                ..QueueConfig::default()
            };
            let config = ServerConfig {
                address: self.listen.address(),
                key: self.listen.key()?,
                tools,
                queue,
                ..ServerConfig::local(0)
            };
            run(config, models(&self.checkpoints)?, false).await
        })
    }
}

impl PlaygroundArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let models = models(&self.checkpoints)?;
        let playground = PlaygroundConfig {
            workspace: self.workspace.clone(),
            needle: std::env::current_exe().context("the path of this program")?,
            bases: models.clone(),
        };
        let config = ServerConfig {
            address: self.listen.address(),
            key: self.listen.key()?,
            tools: self.tools.as_deref().map(read_tools).transpose()?.unwrap_or_default(),
            playground: Some(playground),
            ..ServerConfig::local(0)
        };
        // Scripts read the address from stdout instead.
        let opens_browser = !self.no_browser && std::io::stdout().is_terminal();
        runtime()?.block_on(run(config, models, opens_browser))
    }
}

async fn run(config: ServerConfig, models: Vec<(String, PathBuf)>, opens_browser: bool) -> anyhow::Result<bool> {
    let names: Vec<&str> = models.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(", ");
    let on_listening = |address: SocketAddr| {
        // The address goes to stdout, for scripts that start the server.
        let _ = print(format_args!("http://{address}"));
        if opens_browser && let Err(error) = open::that_detached(format!("http://{address}")) {
            tracing::warn!("no browser could be opened ({error}): open the address yourself");
        }
        tracing::info!("serving {names} until interrupted");
    };
    serve(config, models, Arc::new(needle::load), on_listening, interrupted()).await?;
    Ok(true)
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the server's threads")
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn interrupted() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// Names and directories of `[NAME=]CHECKPOINT`; by default, of the model that ships with the
/// repository.
pub(super) fn models(checkpoints: &[String]) -> anyhow::Result<Vec<(String, PathBuf)>> {
    if checkpoints.is_empty() {
        let path = shipped()?;
        return Ok(vec![(default_name(&path), path)]);
    }
    let mut models: Vec<(String, PathBuf)> = Vec::new();
    for text in checkpoints {
        let (name, path) = match text.split_once('=').filter(|(name, _)| !name.contains(['/', '\\'])) {
            Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
            None => (default_name(Path::new(text)), PathBuf::from(text)),
        };
        anyhow::ensure!(path.exists(), "{}: no such file or directory", path.display());
        let is_free = !name.is_empty() && models.iter().all(|(other, _)| *other != name);
        anyhow::ensure!(is_free, "two models are called {name:?}; give names: NAME={}", path.display());
        models.push((name, path));
    }
    Ok(models)
}

/// The run's name for a checkpoint inside a run, else the directory's.
fn default_name(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let own = name(path).unwrap_or_else(|| "needle".to_owned());
    if own == "best" || own == "last" { path.parent().and_then(name).unwrap_or(own) } else { own }
}

/// All tools of the servers in the file.
async fn mcp_tools(path: &Path) -> anyhow::Result<Vec<Tool>> {
    let mut all = Vec::new();
    for (name, spec) in McpConfig::load(path)?.servers {
        let (tools, problems) = front::import(&name, &spec).await?;
        problems.iter().for_each(|problem| tracing::warn!("{name}: {problem}; skipped"));
        all.extend(tools);
    }
    Ok(Tool::list_from_json(&all.into())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_by_its_name_or_by_its_run() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("home").join("best");
        std::fs::create_dir_all(&run).unwrap();
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let named = models(&[text(&run), format!("other={}", text(&run))]).unwrap();
        assert_eq!(named.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["home", "other"]);
        assert!(models(&[text(&run), text(&run)]).unwrap_err().to_string().contains("NAME="));
        assert!(models(&["nowhere".to_owned()]).is_err());
    }
}
