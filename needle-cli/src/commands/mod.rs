//! The `needle` command: one file a subcommand. Results go to stdout, progress and logs to stderr.

pub mod bench;
pub mod data;
pub mod eval;
pub mod export;
pub mod finetune;
pub mod golden;
pub mod import;
pub mod info;
pub mod mcp;
pub mod pretrain;
pub mod quickstart;
pub mod report;
pub mod retrieve;
pub mod run;
pub mod serve;
pub mod tokenizer;
pub mod tools;
pub mod train;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use needle_data::Tool;
use needle_model::checkpoint::Checkpoint;
use needle_runtime::constrain::copying::ValuesPolicy;
use needle_runtime::file::locate::locate;
use needle_runtime::{Precision, tools_from_json};

use needle_train::device::{Device, DeviceChoice, Inference};
use needle_train::distributed::launch::Launch;

/// Trains, evaluates and ships tiny tool-calling models.
#[derive(Parser)]
#[command(
    name = "needle",
    version,
    about,
    max_term_width = 100,
    after_help = "Examples:\n  needle quickstart\n  needle data check mine.jsonl\n  needle finetune mine.jsonl --base \
                  quickstart --out runs/mine\n  needle run runs/mine --query \"ten minute timer\" --tools tools.json"
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every subcommand.
#[derive(Args)]
pub struct Global {
    /// Where to compute: auto, cpu, cuda, cuda:N, wgpu or wgpu:N, as far as they are built in; train and pretrain divide their batches
    /// among several (cuda:0,cuda:1)
    #[arg(long, global = true, default_value = "auto", value_delimiter = ',')]
    device: Vec<DeviceChoice>,
    /// Seed of everything random; overrides the recipe's
    #[arg(long, global = true)]
    seed: Option<u64>,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

impl Global {
    fn device(&self) -> anyhow::Result<Device> {
        anyhow::ensure!(self.device.len() == 1, "only train and pretrain compute on several devices");
        self.device_of(0)
    }

    /// The device of the `local_rank`-th process of this machine, or of the `local_rank`-th thread where several devices are named.
    fn device_of(&self, local_rank: usize) -> anyhow::Result<Device> {
        let choice = match self.device.as_slice() {
            [one] => one.device(local_rank),
            several => several[local_rank % several.len()].device(0),
        };
        choice.map_err(anyhow::Error::msg)
    }

    /// Overrides of the recipe: the user's, then the seed.
    fn overrides(&self, set: &[String]) -> Vec<String> {
        set.iter().cloned().chain(self.seed.map(|seed| format!("seed={seed}"))).collect()
    }
}

#[derive(Subcommand)]
enum Command {
    Quickstart(quickstart::QuickstartArgs),
    Pretrain(pretrain::PretrainArgs),
    Train(train::TrainArgs),
    Finetune(finetune::FinetuneArgs),
    Eval(eval::EvalArgs),
    Run(run::RunArgs),
    Retrieve(retrieve::RetrieveArgs),
    Serve(serve::ServeArgs),
    Playground(serve::PlaygroundArgs),
    #[command(subcommand)]
    Mcp(mcp::McpCommand),
    Report(report::ReportArgs),
    Info(info::InfoArgs),
    Golden(golden::GoldenArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    #[command(subcommand)]
    Data(data::DataCommand),
    #[command(subcommand)]
    Tokenizer(tokenizer::TokenizerCommand),
    #[command(subcommand)]
    Tools(tools::ToolsCommand),
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

impl Cli {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// What stopped it, in one sentence.
    pub fn run(self, launch: Launch) -> anyhow::Result<ExitCode> {
        let level = match (self.global.quiet, self.global.verbose) {
            // Of several processes, the first one tells how it goes.
            (false, 0) if launch.rank > 0 => tracing::Level::WARN,
            (true, _) => tracing::Level::ERROR,
            (false, 0) => tracing::Level::INFO,
            (false, 1) => tracing::Level::DEBUG,
            (false, _) => tracing::Level::TRACE,
        };
        let logs = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level);
        logs.with_target(false).without_time().with_level(false).init();
        let global = &self.global;
        if !matches!(
            self.command,
            Command::Train(_) | Command::Pretrain(_) | Command::Bench(bench::BenchCommand::Allreduce(_))
        ) {
            launch.one()?;
        }
        let is_for_devices = matches!(
            self.command,
            Command::Quickstart(_)
                | Command::Pretrain(_)
                | Command::Train(_)
                | Command::Finetune(_)
                | Command::Eval(_)
                | Command::Bench(bench::BenchCommand::Train(_))
        );
        anyhow::ensure!(
            is_for_devices || matches!(global.device[..], [DeviceChoice::Auto | DeviceChoice::Cpu]),
            "this command computes on the processor; leave out --device"
        );
        match self.command {
            Command::Quickstart(args) => args.run(global),
            Command::Pretrain(args) => args.run(global, launch),
            Command::Train(args) => args.run(global, launch),
            Command::Finetune(args) => args.run(global),
            Command::Eval(args) => args.run(global),
            Command::Run(args) => args.run(global),
            Command::Retrieve(args) => args.run(),
            Command::Serve(args) => args.run(),
            Command::Playground(args) => args.run(),
            Command::Mcp(command) => command.run(),
            Command::Report(args) => args.run(),
            Command::Tools(args) => args.run(),
            Command::Info(args) => args.run(),
            Command::Golden(args) => args.run(),
            Command::Export(args) => args.run(),
            Command::Import(args) => args.run(),
            Command::Data(command) => command.run(global),
            Command::Tokenizer(command) => command.run(global),
            Command::Bench(command) => command.run(global, launch),
        }
        .map(|ok| if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// `--values`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ValuesArg {
    /// Strings as the model writes them.
    #[default]
    Free,
    /// Strings are words of the query.
    Copied,
    /// Strings of parameters that training always copied are words of the query.
    Auto,
}

impl From<ValuesArg> for ValuesPolicy {
    fn from(arg: ValuesArg) -> Self {
        match arg {
            ValuesArg::Free => Self::Free,
            ValuesArg::Copied => Self::Copied,
            ValuesArg::Auto => Self::Auto,
        }
    }
}

/// `--precision`; what ships, if not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// As trained.
    F32,
    /// As exported to needle-rs: Q, K, V and O in INT4, the embedding in bf16.
    Int4,
    /// As exported to ONNX: the embedding in INT4, too.
    Int4Embedding,
}

impl Default for PrecisionArg {
    fn default() -> Self {
        match Precision::SHIPPED {
            Precision::F32 => Self::F32,
            Precision::Int4 => Self::Int4,
            Precision::Int4Embedding => Self::Int4Embedding,
        }
    }
}

impl From<PrecisionArg> for Precision {
    fn from(arg: PrecisionArg) -> Self {
        match arg {
            PrecisionArg::F32 => Self::F32,
            PrecisionArg::Int4 => Self::Int4,
            PrecisionArg::Int4Embedding => Self::Int4Embedding,
        }
    }
}

/// Prints a result.
fn print(text: impl std::fmt::Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("stdout")
}

/// Prints a result as JSON.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(serde_json::to_string(value)?)
}

/// For what the processor does, whatever the device.
fn load(dir: &Path) -> anyhow::Result<Checkpoint<Inference>> {
    Ok(Checkpoint::load(&checkpoint_at(dir)?, &Default::default())?)
}

/// The checkpoint that `path` means: itself, or the result of the run there, and then it says so.
fn checkpoint_at(path: &Path) -> anyhow::Result<PathBuf> {
    let found = locate(path)?;
    if found != path {
        tracing::info!("{}: taking the checkpoint in {}", path.display(), found.display());
    }
    Ok(found)
}

/// Tools from a file, from stdin (`-`), or from JSON on the command line.
fn read_tools(source: &str) -> anyhow::Result<Vec<Tool>> {
    let (name, text) = match source.trim_start().chars().next() {
        Some('[' | '{') => ("--tools".to_owned(), source.to_owned()),
        _ if source == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("stdin")?;
            ("stdin".to_owned(), text)
        }
        _ => (source.to_owned(), std::fs::read_to_string(source).with_context(|| source.to_owned())?),
    };
    let tools = tools_from_json(&text).map_err(|problem| anyhow::anyhow!("{name}: {problem}"))?;
    anyhow::ensure!(!tools.is_empty(), "{name}: no tools");
    Ok(tools)
}
