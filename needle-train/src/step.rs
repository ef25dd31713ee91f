//! One training step up to the gradients: batch -> losses -> backward.

use burn::tensor::ElementConversion;
use burn::tensor::backend::AutodiffBackend;
use needle_data::Batch;
use needle_data::augment::stream;
use needle_model::dropout::Dropout;
use needle_model::fake_quant::fake_quantize;
use needle_model::int4::Bits;
use needle_model::params::EMBEDDING;
use needle_model::{FusedOps, San};

use crate::loss::{DeviceBatch, contrastive_loss, text_loss};
use crate::optim::{Gradients, collect};
use crate::recipe::Recipe;

/// The losses of one step.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
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
{
    // The stream depends on the step alone, so a resumed step drops what it dropped the first time.
    let dropout = &mut Dropout::new(recipe.dropout, stream(recipe.seed, &[3, step as u64]));
    let quantized = recipe.qat.applies(step, recipe.steps);
    let seen = if quantized {
        fake_quantize(model.clone(), Bits::Int4, |p| {
            p.is_attention_matrix() || recipe.qat.embedding && p.name == EMBEDDING
        })
    } else {
        model.clone()
    };

    let on_device = DeviceBatch::new(batch, recipe.loss.class_weights(), &model.device());
    let text = text_loss(&seen, on_device, recipe.loss.z_coefficient, dropout);
    let wants_contrastive =
        step.is_multiple_of(recipe.loss.contrastive_every_steps) && recipe.loss.contrastive_weight > 0.0;
    let pairs = batch.retrieval.as_ref().filter(|_| wants_contrastive);
    let contrastive = pairs.and_then(|pairs| contrastive_loss(&seen, pairs, dropout));

    let mut total = text.cross_entropy.clone() + text.z.clone();
    if let Some(contrastive) = &contrastive {
        total = total + contrastive.clone() * recipe.loss.contrastive_weight;
    }
    let gradients = collect(model, &total.backward());
    let scalar = |loss: burn::tensor::Tensor<AB, 1>| loss.into_scalar().elem::<f64>();
    let losses = StepLosses {
        cross_entropy: scalar(text.cross_entropy),
        z: scalar(text.z),
        contrastive: contrastive.map(scalar),
        total: scalar(total),
        quantized,
    };
    (losses, gradients)
}
