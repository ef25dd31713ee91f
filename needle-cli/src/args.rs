//! Options that several subcommands share. A subcommand flattens only those that it uses.

use clap::{ArgAction, ArgMatches, Args};
use indicatif::ProgressBar;
use needle_train::device::{Device, DeviceChoice};
use needle_train::run::directory::Existing;

/// `--resume` and `--overwrite`.
#[derive(Args)]
pub struct ExistingArgs {
    /// Resume the run in --out
    #[arg(long, help_heading = "Run")]
    pub resume: bool,
    /// Replace the run in --out
    #[arg(long, help_heading = "Run", conflicts_with = "resume")]
    pub overwrite: bool,
}

impl ExistingArgs {
    /// What to do with a run that is already in the directory.
    pub fn existing(&self) -> Existing {
        match (self.resume, self.overwrite) {
            (true, _) => Existing::Resume,
            (false, true) => Existing::Overwrite,
            (false, false) => Existing::Refuse,
        }
    }
}

/// Changes to a recipe.
#[derive(Args)]
pub struct RecipeArgs {
    /// Override a setting of the recipe, as key=value
    #[arg(long, help_heading = "Recipe", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Seed of everything random; overrides the recipe's
    #[arg(long, help_heading = "Recipe", value_name = "N")]
    seed: Option<u64>,
}

impl RecipeArgs {
    /// Overrides of the recipe as `key=value`: `--set` in order, then the seed.
    pub fn overrides(&self) -> Vec<String> {
        self.set.iter().cloned().chain(self.seed.map(|seed| format!("seed={seed}"))).collect()
    }
}

/// `--device`, for subcommands that use one.
#[derive(Args)]
pub struct DeviceArgs {
    /// Device to compute on: auto, cpu, cuda, cuda:N, wgpu or wgpu:N, where this build has them
    #[arg(long, help_heading = "Compute", value_name = "DEVICE", default_value = "auto", value_delimiter = ',')]
    device: Vec<DeviceChoice>,
}

impl DeviceArgs {
    /// The device.
    ///
    /// # Errors
    /// If it is not available, or several are named.
    pub fn device(&self) -> anyhow::Result<Device> {
        let [device] = self.device[..] else {
            anyhow::bail!("--device: only train and pretrain accept several devices");
        };
        device.device(0).map_err(anyhow::Error::msg)
    }
}

/// `--device`, for subcommands that can use several.
#[derive(Args)]
pub struct DevicesArgs {
    /// Device to compute on: auto, cpu, cuda, cuda:N, wgpu or wgpu:N, where this build has them;
    /// several (cuda:0,cuda:1) split each batch
    #[arg(long, help_heading = "Compute", value_name = "DEVICE", default_value = "auto", value_delimiter = ',')]
    device: Vec<DeviceChoice>,
}

impl DevicesArgs {
    /// How many devices are named.
    pub fn count(&self) -> usize {
        self.device.len()
    }

    /// The device of the `local_rank`-th process of this machine, or of the `local_rank`-th thread
    /// where several devices are named.
    ///
    /// # Errors
    /// If it is not available.
    pub fn of_rank(&self, local_rank: usize) -> anyhow::Result<Device> {
        let choice = match self.device.as_slice() {
            [one] => one.device(local_rank),
            several => several[local_rank % several.len()].device(0),
        };
        choice.map_err(anyhow::Error::msg)
    }
}

/// `-q`.
#[derive(Args)]
pub struct QuietArgs {
    /// Print errors and results only
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,
}

impl QuietArgs {
    /// A progress bar over `len` steps, or a spinner if there is no `len`; hidden with `-q`.
    pub fn progress(&self, len: Option<usize>) -> ProgressBar {
        match len {
            _ if self.quiet => ProgressBar::hidden(),
            Some(len) => ProgressBar::new(len as u64),
            None => ProgressBar::new_spinner(),
        }
    }
}

/// `-v`, for subcommands that log details.
#[derive(Args)]
pub struct VerboseArgs {
    /// Also log details; twice for those of libraries
    #[arg(short, long, help_heading = "Output", action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
}

/// The log level that follows from `-q` and `-v`, if the given subcommand has them.
pub fn log_level(matches: &ArgMatches, is_first_process: bool) -> tracing::Level {
    let mut matches = matches;
    while let Some((_, subcommand)) = matches.subcommand() {
        matches = subcommand;
    }
    let is_quiet = matches.try_get_one("quiet").ok().flatten().copied().unwrap_or(false);
    let verbosity: u8 = matches.try_get_one("verbose").ok().flatten().copied().unwrap_or(0);
    match verbosity {
        _ if is_quiet => tracing::Level::ERROR,
        // Of several processes, the first one logs its progress.
        0 if is_first_process => tracing::Level::INFO,
        0 => tracing::Level::WARN,
        1 => tracing::Level::DEBUG,
        2.. => tracing::Level::TRACE,
    }
}
