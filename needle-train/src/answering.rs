//! Turns a checkpoint, or a model in training, into a [`Needle`] that answers. INT4 on the CPU runs
//! on the engine that ships, everything else on burn.

use std::path::Path;

use needle_data::Tokenizer;
use needle_model::checkpoint::{Checkpoint, files, weights_to_bytes};
use needle_model::network::BurnNetwork;
use needle_model::{FusedOps, San, SanConfig};
use needle_runtime::file::checkpoint::Checkpoint as Weights;
use needle_runtime::file::tensors::TensorFile;
use needle_runtime::{Engine, Needle, Network, Options, Precision};

use crate::device::is_cpu;
use crate::error::TrainError;

/// Loads the checkpoint in `dir`, or the result of the run there, with its calibration, to answer
/// at `precision`.
///
/// # Errors
/// If there is no readable checkpoint.
pub fn load<B: FusedOps>(dir: &Path, precision: Precision, device: &B::Device) -> Result<Needle, TrainError> {
    if has_engine::<B>(precision) {
        return Ok(Needle::load(dir)?);
    }
    let Checkpoint { config, model, tokenizer } = Checkpoint::<B>::load(dir, device)?;
    Ok(Needle::new(Box::new(BurnNetwork::new(model, config, precision)), tokenizer)?.beside(dir)?)
}

/// Wraps `model`, whose sizes are `config`, to answer at `precision`, without a calibration.
///
/// # Errors
/// If a weight is not finite.
pub fn of_model<B: FusedOps>(
    model: &San<B>,
    config: &SanConfig,
    tokenizer: &Tokenizer,
    precision: Precision,
) -> Result<Needle, TrainError> {
    let network: Box<dyn Network> = if has_engine::<B>(precision) {
        let file = TensorFile::from_bytes(Path::new(files::WEIGHTS), weights_to_bytes(model)?)?;
        let weights = Weights::new(config.clone(), file)?;
        Box::new(Engine::from_source(&weights, None, &Options::default())?)
    } else {
        Box::new(BurnNetwork::new(model.clone(), config.clone(), precision))
    };
    Ok(Needle::new(network, tokenizer.clone())?)
}

/// Whether the engine replaces burn's backend `B` at `precision`.
fn has_engine<B: FusedOps>(precision: Precision) -> bool {
    precision == Precision::Int4 && is_cpu::<B>()
}
