//! One training step up to the gradients: batch -> losses -> backward.
//!
//! A batch is computed in micro-batches, one after the other, which takes less memory. Their losses have the whole batch's
//! denominators, so the sum of their gradients is the whole batch's gradient, to rounding. The contrastive loss is not
//! divided: every pair is every other pair's negative.
//!
//! (Side by side they would be no faster: burn's autodiff waits for every graph at the end of a backward pass.)

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{ElementConversion, Tensor};
use needle_data::Batch;
use needle_data::augment::stream;
use needle_model::dropout::Dropout;
use needle_model::fake_quant::fake_quantize;
use needle_model::int4::Bits;
use needle_model::params::{EMBEDDING, ParamInfo, with_gradients};
use needle_model::{FusedOps, San};
use rand::RngExt;

use crate::checkpointing::text_loss_and_gradients;
use crate::loss::{DeviceBatch, TextLoss, contrastive_loss, text_loss};
use crate::optim::{Gradients, add_gradients, collect};
use crate::recipe::Recipe;

/// The losses of one step.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct StepLosses {
    /// Weighted cross-entropy.
    pub cross_entropy: f64,
    /// z-loss.
    pub z: f64,
    /// Contrastive loss, on the steps that have one.
    pub contrastive: Option<f64>,
    /// What was minimized.
    pub total: f64,
    /// Whether the forward pass saw quantized weights.
    pub quantized: bool,
}

/// Losses and gradients of `batch` at step `step` (from 1).
pub fn forward_backward<AB>(
    model: &San<AB>,
    batch: &Batch,
    recipe: &Recipe,
    step: usize,
) -> (StepLosses, Gradients<AB::InnerBackend>)
where
    AB: AutodiffBackend + FusedOps,
    AB::InnerBackend: FusedOps,
{
    let quantized = recipe.qat.applies(step, recipe.steps);
    let has_contrastive =
        step.is_multiple_of(recipe.loss.contrastive_every_steps) && recipe.loss.contrastive_weight > 0.0;
    let mut pairs = batch.retrieval.as_ref().filter(|_| has_contrastive);
    let quantizes = |p: &ParamInfo| p.is_attention_matrix() || recipe.qat.embedding && p.name == EMBEDDING;
    let num_targets = batch.num_targets();
    let mut losses = StepLosses { quantized, ..StepLosses::default() };
    let mut gradients = Gradients::<AB::InnerBackend>::new();
    for (i, part) in batch.split(recipe.data.micro_batches).iter().enumerate() {
        // Leaves of its own for each graph: burn forgets a leaf that an earlier backward pass has left behind.
        let model = with_gradients(model.clone());
        let seen = if quantized { fake_quantize(model.clone(), Bits::Int4, quantizes) } else { model.clone() };
        // The stream depends on the step alone, so a resumed step drops what it dropped the first time.
        let seed = stream(recipe.seed, &[3, step as u64, i as u64]).random();
        let dropout = &mut Dropout::new(recipe.dropout, seed);
        // The pairs of the whole batch ride with its first part.
        let pairs = pairs.take();
        let (more_losses, more) = if recipe.activation_checkpointing {
            // The straight-through estimator passes gradients on as they are: those of the quantized weights are the weights'.
            let (cross_entropy, z, mut gradients) =
                text_loss_and_gradients(&seen, part, num_targets, &recipe.loss, dropout);
            let mut losses = StepLosses { cross_entropy, z, total: cross_entropy + z, ..StepLosses::default() };
            if let Some(contrastive) = pairs.and_then(|pairs| contrastive_loss(&seen, pairs, dropout)) {
                losses.contrastive = Some(contrastive.clone().into_scalar().elem::<f64>());
                losses.total += losses.contrastive.unwrap_or(0.0) * recipe.loss.contrastive_weight;
                let of_pairs = collect(&model, &(contrastive * recipe.loss.contrastive_weight).backward());
                add_gradients(&mut gradients, of_pairs);
            }
            (losses, gradients)
        } else {
            let on_device = DeviceBatch::new(part, num_targets, recipe.loss.class_weights(), &model.device());
            let text = text_loss(&seen, on_device, recipe.loss.z_coefficient, dropout);
            let contrastive = pairs.and_then(|pairs| contrastive_loss(&seen, pairs, dropout));
            let losses = StepLosses::new(&text, contrastive.as_ref(), recipe.loss.contrastive_weight);
            let mut total = text.cross_entropy + text.z;
            if let Some(contrastive) = contrastive {
                total = total + contrastive * recipe.loss.contrastive_weight;
            }
            (losses, collect(&model, &total.backward()))
        };

        losses.cross_entropy += more_losses.cross_entropy;
        losses.z += more_losses.z;
        losses.contrastive = losses.contrastive.or(more_losses.contrastive);
        losses.total += more_losses.total;
        add_gradients(&mut gradients, more);
    }
    (losses, gradients)
}

impl StepLosses {
    fn new<B: Backend>(text: &TextLoss<B>, contrastive: Option<&Tensor<B, 1>>, contrastive_weight: f64) -> Self {
        let scalar = |loss: &Tensor<B, 1>| loss.clone().into_scalar().elem::<f64>();
        let (cross_entropy, z, contrastive) = (scalar(&text.cross_entropy), scalar(&text.z), contrastive.map(scalar));
        let total = cross_entropy + z + contrastive.map_or(0.0, |loss| loss * contrastive_weight);
        Self { cross_entropy, z, contrastive, total, quantized: false }
    }
}
