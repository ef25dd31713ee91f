//! The `needle` command: one file per subcommand. Results go to stdout, progress and logs to
//! stderr.

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
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use needle_data::Tool;
use needle_model::checkpoint::{Checkpoint, files};
use needle_runtime::constrain::copying::ValuesPolicy;
use needle_runtime::file::locate::locate;
use needle_runtime::{Engine, Needle, Options, Precision, tools_from_json};
use needle_train::answering;
use needle_train::device::Inference;
use needle_train::distributed::launch::Launch;
use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::allocator::keep_freed_pages;
use crate::args::log_level;
use crate::threads::join_pool;

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
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Quickstart(quickstart::QuickstartArgs),
    Pretrain(pretrain::PretrainArgs),
    Train(train::TrainArgs),
    Finetune(Box<finetune::FinetuneArgs>),
    Eval(Box<eval::EvalArgs>),
    Run(Box<run::RunArgs>),
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

impl Command {
    /// Whether the command runs training steps in this process.
    fn trains(&self) -> bool {
        use Command::{Bench, Finetune, Pretrain, Quickstart, Train};
        matches!(self, Quickstart(_) | Pretrain(_) | Train(_) | Finetune(_) | Bench(_))
    }
}

impl Cli {
    /// Reads the command line and runs the subcommand.
    ///
    /// # Errors
    /// What stopped it, in one sentence.
    pub fn run(launch: Launch) -> anyhow::Result<ExitCode> {
        let matches = Self::command().get_matches();
        let cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let level = log_level(&matches, launch.rank == 0);
        // Of our own crates; dependencies report only what went wrong.
        let filter = EnvFilter::new(format!("{},needle={level}", level.min(Level::WARN)));
        let logs = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
        logs.with_target(false).without_time().with_level(false).init();
        if !matches!(
            cli.command,
            Command::Train(_) | Command::Pretrain(_) | Command::Bench(bench::BenchCommand::Allreduce(_))
        ) {
            launch.one()?;
        }
        if cli.command.trains() {
            keep_freed_pages();
            join_pool()?;
        }
        match cli.command {
            Command::Quickstart(args) => args.run(),
            Command::Pretrain(args) => args.run(launch),
            Command::Train(args) => args.run(launch),
            Command::Finetune(args) => args.run(),
            Command::Eval(args) => args.run(),
            Command::Run(args) => args.run(),
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
            Command::Data(command) => command.run(),
            Command::Tokenizer(command) => command.run(),
            Command::Bench(command) => command.run(launch),
        }
        .map(|ok| if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Directory of the model that ships with the repository.
const SHIPPED: &str = "models/needle-mini";

/// `--values`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ValuesArg {
    /// The model is free to write any string.
    #[default]
    Free,
    /// Every string must be words of the query.
    Copied,
    /// Strings must be words of the query for parameters that were always copied in training.
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

/// Loads the model in `dir` on the CPU; if `is_exact`, with activations in f32.
fn needle_at(dir: &Path, precision: PrecisionArg, is_exact: bool) -> anyhow::Result<Needle> {
    if is_exact && matches!(precision, PrecisionArg::Int4) {
        let options = Options { exact: true, ..Options::default() };
        return Ok(Needle::from_engine(Engine::open_with(dir, &options)?)?);
    }
    // Burn's activations are in f32.
    Ok(answering::load::<Inference>(dir, precision.into(), &Default::default())?)
}

/// `--precision`; the default is the precision that ships.
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

/// Loads a checkpoint on the CPU, for subcommands without `--device`.
fn load(dir: &Path) -> anyhow::Result<Checkpoint<Inference>> {
    Ok(Checkpoint::load(&checkpoint_at(dir)?, &Default::default())?)
}

/// The checkpoint at `path`: `path` itself, or the result of the run there, which it then logs.
fn checkpoint_at(path: &Path) -> anyhow::Result<PathBuf> {
    let found = locate(path)?;
    if found != path {
        tracing::info!("{}: using the checkpoint in {}", path.display(), found.display());
    }
    Ok(found)
}

/// The named checkpoint, or the model that ships with the repository.
fn checkpoint_or_shipped(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    named.map_or_else(shipped, checkpoint_at)
}

/// The model that ships with the repository: in the working directory, or in the clone that this
/// program was built from.
fn shipped() -> anyhow::Result<PathBuf> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(SHIPPED);
    let found = [PathBuf::from(SHIPPED), built_from].into_iter().find(|path| path.join(files::WEIGHTS).is_file());
    let path = found.with_context(|| {
        format!("no checkpoint is given, and there is no model in {SHIPPED}: name one, such as quickstart/best after `needle quickstart`")
    })?;
    tracing::info!("no checkpoint is given: using {SHIPPED}");
    Ok(path)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A subcommand with more options than this groups them under headings.
    const MOST_WITHOUT_HEADINGS: usize = 6;

    /// Every subcommand that has no subcommands of its own, by its full name.
    fn leaves(command: &clap::Command, name: &str) -> Vec<(String, clap::Command)> {
        let children = command.get_subcommands().filter(|child| child.get_name() != "help");
        let below = children.flat_map(|child| leaves(child, &format!("{name} {}", child.get_name())));
        let below: Vec<_> = below.collect();
        if below.is_empty() { vec![(name.trim().to_owned(), command.clone())] } else { below }
    }

    fn subcommands() -> Vec<(String, clap::Command)> {
        let mut command = Cli::command();
        command.build();
        leaves(&command, "")
    }

    fn options(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
        let is_option = |arg: &&clap::Arg| !arg.is_positional() && arg.get_id() != "help";
        command.get_arguments().filter(is_option)
    }

    /// The subcommands that have the option `--name`.
    fn with_option(name: &str) -> Vec<String> {
        let has = |command: &clap::Command| options(command).any(|o| o.get_long() == Some(name));
        subcommands().into_iter().filter(|(_, c)| has(c)).map(|(name, _)| name).collect()
    }

    #[test]
    fn every_argument_says_what_it_does_and_many_options_stand_under_headings() {
        let subcommands = subcommands();
        assert!(subcommands.len() > 20, "{}", subcommands.len());
        for (name, command) in &subcommands {
            assert!(command.get_about().is_some(), "{name} does not say what it does");
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{name}: {} has no help", arg.get_id());
            }
            if options(command).count() > MOST_WITHOUT_HEADINGS {
                for option in options(command) {
                    let id = option.get_id();
                    assert!(option.get_help_heading().is_some(), "{name}: {id} is under no heading");
                }
            }
        }
    }

    #[test]
    fn a_subcommand_offers_a_device_a_seed_and_log_levels_only_where_they_act() {
        let on_devices = ["quickstart", "pretrain", "train", "finetune", "eval", "bench train"];
        assert_eq!(with_option("device"), on_devices);
        let random = [
            "quickstart",
            "pretrain",
            "train",
            "finetune",
            "eval",
            "data pack",
            "data synth",
            "data generate",
            "data paraphrase",
            "data negatives",
            "data augment",
            "bench data",
            "bench train",
        ];
        assert_eq!(with_option("seed"), random);
        let detailed = ["run", "retrieve", "data generate", "data paraphrase", "data negatives"];
        assert_eq!(with_option("verbose"), detailed);
        for silent in ["report", "tools check", "tokenizer encode", "bench allreduce"] {
            assert!(!with_option("quiet").contains(&silent.to_owned()), "{silent}");
        }
    }
}
