//! A killed run resumes where it last saved: with the same recipe and the same inputs, or not at
//! all.

use needle_data::order::stream::Sources;
use needle_data::text::record::Record;
use needle_model::FusedOps;

use crate::error::TrainError;
use crate::optim::Optimizer;
use crate::recipe::Recipe;
use crate::run::directory::RunDir;
use crate::run::inputs::{self, Base, Inputs};
use crate::run::state::{self, Progress};

/// Reads the state of the run in `run` into `optimizer`.
///
/// # Errors
/// If there is no run, its state is damaged, or its recipe is another one.
pub fn resume<B: FusedOps>(
    run: &RunDir,
    recipe: &Recipe,
    optimizer: &mut Optimizer<B>,
    device: &B::Device,
) -> Result<Progress, TrainError> {
    let error = |reason: String| TrainError::Run { path: run.path().to_owned(), reason };
    if !run.last().exists() {
        return Err(error("there is no run to resume here (no last/); leave out --resume to start one".into()));
    }
    let progress = state::load(&run.last(), optimizer, device)?;
    let changed = recipe.differences(&progress.recipe);
    if !changed.is_empty() {
        return Err(error(format!("the recipe is not that of the run; different: {}", changed.join("; "))));
    }
    let version = env!("CARGO_PKG_VERSION");
    if progress.version != version {
        tracing::warn!(
            "the run was begun by needle {}, this is {version}: it may not go on to the same bits",
            progress.version
        );
    }
    Ok(progress)
}

/// Records what a new run reads, and makes sure that a resumed one reads the same.
///
/// # Errors
/// If an input cannot be read, or is not what it was when the run began.
pub fn compare_inputs(
    progress: &mut Progress,
    is_resumed: bool,
    (data, validation, base): (&Sources, &[Record], &Base),
    run: &RunDir,
) -> Result<(), TrainError> {
    let now = Inputs::new(data, validation, base)?;
    match &progress.inputs {
        Some(begun) => inputs::ensure_same(&now, begun, base, run.path()),
        None => {
            if is_resumed {
                tracing::warn!("an earlier version of needle began this run: what it reads cannot be compared");
            }
            progress.inputs = Some(now);
            Ok(())
        }
    }
}
