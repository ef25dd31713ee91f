//! Resumes a killed run where it last saved, only with the same recipe and the same inputs.

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
/// If there is no run, its state is damaged, or its recipe differs.
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
        return Err(error(format!("the recipe differs from that of the run: {}", changed.join("; "))));
    }
    let version = env!("CARGO_PKG_VERSION");
    if progress.version != version {
        tracing::warn!(
            "the run was started by needle {}, this is {version}: the result may not be bit-identical",
            progress.version
        );
    }
    Ok(progress)
}

/// Records the inputs of a new run, and checks that a resumed one has the same.
///
/// # Errors
/// If an input cannot be read, or has changed since the run started.
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
                tracing::warn!("an earlier version of needle started this run: its inputs cannot be checked");
            }
            progress.inputs = Some(now);
            Ok(())
        }
    }
}
