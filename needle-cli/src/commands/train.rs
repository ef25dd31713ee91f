//! `needle train`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::Autodiff;
use needle_data::order::split::split_by_tool;
use needle_data::order::stream::Sources;
use needle_data::source::{load_examples, load_records};
use needle_data::text::record::Record;
use needle_data::tokenizer::word_vectors::WordVectors;
use needle_data::{DataError, Tokenizer};
use needle_model::FusedOps;
use tracing::subscriber::NoSubscriber;

use super::tokenizer::{load_tokenizer, texts};
use super::{checkpoint_at, print};
use crate::args::{DevicesArgs, ExistingArgs, QuietArgs, RecipeArgs};
use needle_train::distributed::launch::Launch;
use needle_train::distributed::monitor::Monitor;
use needle_train::distributed::{Threads, World};
use needle_train::error::TrainError;
use needle_train::eval::table;
use needle_train::on_device;
use needle_train::recipe::Recipe;
use needle_train::run::directory::RunDir;
use needle_train::training::trainer;
use needle_train::training::trainer::{Outcome, RunOptions, Start};
use needle_train::training::word_vectors;

/// Train on tool-call examples, from scratch or from a checkpoint
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle train --config configs/finetune.toml --data mine.jsonl --out runs/mine\n  \
                        needle train --config configs/posttrain.toml --data shards/ --val held_out.jsonl \
                        --out runs/post\n  needle train --config configs/posttrain.toml --data shards/ --out runs/post \
                        --resume"
)]
pub struct TrainArgs {
    #[command(flatten)]
    training: TrainingArgs,
    /// Checkpoint to start from; its sizes and tokenizer replace the recipe's
    #[arg(long, help_heading = "Model", value_name = "CHECKPOINT", conflicts_with_all = ["tokenizer", "word_vectors"])]
    base: Option<PathBuf>,
}

/// What `train` and `pretrain` share.
#[derive(clap::Args)]
pub(super) struct TrainingArgs {
    /// Recipe (TOML)
    #[arg(long, help_heading = "Recipe", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Files, directories or globs of JSONL (.gz, .zst), parquet or packed shards; by default, the
    /// recipe's data.sources
    #[arg(long, help_heading = "Data", num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Examples to validate on; by default, a twelfth of each tool's examples in --data is held out
    #[arg(long, help_heading = "Data", value_name = "FILE")]
    val: Option<PathBuf>,
    /// Skip bad rows, and report how many and why
    #[arg(long, help_heading = "Data")]
    skip_invalid: bool,
    /// Tokenizer to use: a tokenizer.json or SentencePiece .model; by default, one is trained on
    /// the data
    #[arg(long, help_heading = "Model", value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Word vectors, in GloVe's text format: each line has a word and its numbers. They initialize
    /// a new model's embedding, and the offered tools are ordered by them
    #[arg(long, help_heading = "Model", value_name = "FILE")]
    word_vectors: Option<PathBuf>,
    /// Directory of the run
    #[arg(long, help_heading = "Run", value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    existing: ExistingArgs,
    #[command(flatten)]
    devices: DevicesArgs,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl TrainArgs {
    pub(super) fn run(self, launch: Launch) -> anyhow::Result<bool> {
        self.training.run(self.base, launch)
    }
}

impl TrainingArgs {
    /// Trains, from the checkpoint `base` if there is one.
    pub(super) fn run(self, base: Option<PathBuf>, launch: Launch) -> anyhow::Result<bool> {
        let base = base.as_deref().map(checkpoint_at).transpose()?;
        let base = base.as_deref();
        let mut overrides = self.recipe.overrides();
        if self.skip_invalid {
            overrides.push("data.on_bad_row=skip".into());
        }
        let recipe = Recipe::load(Some(&self.config), &overrides)?;
        if self.devices.count() > 1 {
            launch.one()?;
            return self.train_on_several(&recipe, base);
        }
        let world = launch.join()?;
        let monitor = Monitor::start(&world, |sentence| {
            eprintln!("error: {sentence}; run the same command with --resume to continue");
            // Exit from here: the training thread is blocked on the missing rank.
            std::process::exit(1);
        })?;
        match self.train(&recipe, base, &world, stop_on_signal()?) {
            Ok(outcome) => {
                world.barrier()?;
                monitor.finish();
                world.finish();
                if world.is_main() { self.conclude(&recipe, &outcome) } else { Ok(true) }
            }
            // All ranks get this error together.
            Err(error) if matches!(error.downcast_ref(), Some(TrainError::Rank { .. })) => {
                monitor.finish();
                world.finish();
                if world.is_main() { Err(error) } else { Ok(false) }
            }
            Err(error) => {
                monitor.leave(&error.to_string());
                Err(error)
            }
        }
    }

    /// Trains with one thread per device, each with the role of a process.
    fn train_on_several(&self, recipe: &Recipe, base: Option<&Path>) -> anyhow::Result<bool> {
        let stop = stop_on_signal()?;
        let outcomes = Threads::run(self.devices.count(), |world| {
            // Only the first thread logs its progress.
            let _silence = (!world.is_main()).then(|| tracing::subscriber::set_default(NoSubscriber::new()));
            self.train(recipe, base, &world, stop.clone())
        });
        // A thread's own error is more useful than `Lost`, which only says that another is gone.
        let mut outcome = None;
        for result in outcomes {
            match result {
                Ok(of_rank) => outcome = outcome.or(Some(of_rank)),
                Err(error) if matches!(error.downcast_ref(), Some(TrainError::Lost(_))) && outcome.is_none() => {}
                Err(error) => return Err(error),
            }
        }
        let outcome = outcome.ok_or_else(|| anyhow::anyhow!("a device's thread ended without a result"))?;
        self.conclude(recipe, &outcome)
    }

    fn train(
        &self,
        recipe: &Recipe,
        base: Option<&Path>,
        world: &World,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<Outcome> {
        let device = self.devices.of_rank(world.local_rank())?;
        on_device!(device, |B, device| self.train_on::<B>(recipe, base, world, device, stop))
    }

    fn train_on<B: FusedOps>(
        &self,
        recipe: &Recipe,
        base: Option<&Path>,
        world: &World,
        device: &B::Device,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<Outcome> {
        let (train, validation) = self.data(recipe).map_err(with_hint)?;
        let run = RunDir::new(&self.out);
        let options = RunOptions { existing: self.existing.existing(), quiet: self.quiet.quiet, stop };
        let _claim = trainer::claim(&run, options.existing, world)?;
        if self.existing.overwrite {
            let files = self.data.iter().map(PathBuf::as_path).chain(base);
            files.into_iter().try_for_each(|path| run.ensure_outlived_by(path))?;
        }
        let start = self.start::<B>(recipe, base, &train, &run, device)?;
        tracing::info!("{} parameters, {} processes", start.config.num_params_with_head(), world.size());
        trainer::train(start, recipe, &train, &validation, &run, options, world).map_err(|e| with_hint(e.into()))
    }

    fn conclude(&self, recipe: &Recipe, outcome: &Outcome) -> anyhow::Result<bool> {
        let run = RunDir::new(&self.out);
        if let Some(step) = outcome.stopped_at {
            print(format_args!(
                "stopped and saved after step {step} of {}; run the same command with --resume to continue",
                recipe.steps
            ))?;
            return Ok(true);
        }
        print(format_args!(
            "trained in {:.0} s; best checkpoint in {}, curves and answers in {}",
            outcome.train_seconds,
            run.result().display(),
            run.report().display()
        ))?;
        if !outcome.validation.is_empty() {
            print(table(&outcome.validation))?;
        }
        Ok(true)
    }

    /// The training data and the validation records.
    fn data(&self, recipe: &Recipe) -> anyhow::Result<(Sources, Vec<Record>)> {
        let bad_rows = recipe.data.bad_rows();
        let sources = match (self.data.as_slice(), recipe.data.sources.as_slice()) {
            ([], []) => anyhow::bail!("no training data: pass --data, or set [[data.sources]] in the recipe"),
            ([], mixture) => Sources::mixture(mixture)?,
            (paths, _) => Sources::files(paths)?,
        };
        if let Some(path) = &self.val {
            let (validation, counts) = load_records(&[path], bad_rows)?;
            tracing::info!("validation: {counts}");
            return Ok((sources, validation));
        }
        let first = sources.rows().next().transpose()?.and_then(|row| row.record().ok());
        let is_text = !matches!(first, None | Some(Record::ToolCall(_)));
        if self.data.is_empty() || is_text || sources.is_packed() {
            tracing::warn!("no --val: the run is not validated while it trains");
            return Ok((sources, Vec::new()));
        }
        let (train, counts) = load_examples(&self.data, bad_rows)?;
        tracing::info!("data: {counts}");
        let split = split_by_tool(&train, recipe.seed);
        let pick = |part: &[usize]| part.iter().map(|&i| train[i].clone()).collect::<Vec<_>>();
        let (held_out, rest) = (pick(&split.validation), pick(&[split.train, split.test].concat()));
        tracing::info!("no --val: {} of {} examples held out to validate on", held_out.len(), train.len());
        Ok((Sources::memory(rest), held_out.into_iter().map(Record::ToolCall).collect()))
    }

    /// The model to start from: the run's own, the base, or a new one.
    fn start<B: FusedOps>(
        &self,
        recipe: &Recipe,
        base: Option<&Path>,
        data: &Sources,
        run: &RunDir,
        device: &B::Device,
    ) -> anyhow::Result<Start<Autodiff<B>>> {
        if self.existing.resume {
            let start = Start::resume(&run.last(), base, recipe, device)?;
            if let Some(path) = &self.tokenizer {
                anyhow::ensure!(
                    load_tokenizer(path)?.sha256() == start.tokenizer.sha256(),
                    "{}: the run in {} uses another tokenizer; leave out --tokenizer to resume with the run's own",
                    path.display(),
                    self.out.display()
                );
            }
            return Ok(start);
        }
        if let Some(base) = base {
            return Ok(Start::from_checkpoint(base, recipe, device)?);
        }
        let tokenizer: Tokenizer = match &self.tokenizer {
            Some(path) => load_tokenizer(path)?,
            None if data.is_packed() => {
                anyhow::bail!("packed shards hold no text: pass their --tokenizer, or a --base")
            }
            None => {
                tracing::info!("training a tokenizer of {} ids", recipe.tokenizer.vocab_size);
                Tokenizer::train_from(&recipe.tokenizer, texts(data.rows(), recipe.data.on_bad_row))?.0
            }
        };
        let mut start = Start::new(tokenizer, recipe, device)?;
        if let Some(path) = &self.word_vectors {
            let vectors = WordVectors::read_text(path, &start.tokenizer)?;
            word_vectors::begin_with(&mut start.model, &vectors)
                .map_err(|reason| anyhow::anyhow!("{}: {reason}", path.display()))?;
            let (known, all) = (vectors.num_known(), start.tokenizer.vocab_size());
            tracing::info!("{}: vectors for {known} of {all} pieces", path.display());
            start.tokenizer = start.tokenizer.with_word_vectors(vectors);
        }
        Ok(start)
    }
}

/// A flag that Ctrl-C, SIGTERM and SIGUSR1 set. A second Ctrl-C or SIGTERM ends the process at
/// once. (`mpirun` forwards SIGUSR1 to its processes, but kills them soon after it gets a SIGTERM.)
pub(super) fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            // 128 + SIGINT: the status that a shell gives an interrupted process.
            std::process::exit(130);
        }
        eprintln!("\nfinishing the step and saving; interrupt again to exit at once");
    })?;
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, stop.clone())?;
    Ok(stop)
}

/// Adds what to do about it to the error of a bad row.
pub(super) fn with_hint(error: anyhow::Error) -> anyhow::Error {
    let is_row = error.chain().any(|cause| matches!(cause.downcast_ref(), Some(DataError::Row { .. })));
    if is_row {
        anyhow::anyhow!("{error}; `needle data check` lists all such rows, and --skip-invalid skips them")
    } else {
        error
    }
}
