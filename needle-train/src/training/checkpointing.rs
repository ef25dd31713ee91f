//! Activation checkpointing (Chen et al., arXiv:1604.06174): only the input of each layer is kept;
//! the backward pass recomputes a layer, computes its gradients, and frees it. It costs a third
//! more arithmetic and takes a fraction of the memory.
//!
//! burn's own checkpointing recomputes cheap operations only, and a backward pass may not start
//! another one. The chain rule between layers is therefore written here: for a layer `y = f(x)` and
//! the gradient `g` of the loss with respect to `y`, the gradients of `sum(f(x) * g)` are those of
//! the loss.

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{FloatDType, Tensor};
use needle_data::Batch;
use needle_model::dropout::Dropout;
use needle_model::params::with_gradients;
use needle_model::{FusedOps, San};

use crate::optim::{Gradients, add_gradients, collect};
use crate::recipe::LossConfig;
use crate::training::loss::{DeviceBatch, TextLoss, output_loss};

/// The losses and gradients of a batch (or a part of one with `num_targets` targets in
/// all), equal to those of the whole graph, dropout masks included.
pub fn text_loss_and_gradients<AB>(
    model: &San<AB>,
    batch: &Batch,
    num_targets: usize,
    config: &LossConfig,
    dropout: &mut Dropout,
) -> (TextLoss<AB::InnerBackend>, Gradients<AB::InnerBackend>)
where
    AB: AutodiffBackend + FusedOps,
    AB::InnerBackend: FusedOps,
{
    let plain = model.valid();
    let device = model.device();
    let on_device = DeviceBatch::<AB::InnerBackend>::new(batch, num_targets, config.class_weights(), &device);
    let (enc_mask, masks) = on_device.masks();

    // Forward pass without a graph. For each layer, its input and the state of dropout are kept.
    let mut x = plain.embed(on_device.enc_ids.clone()); // [rows, enc_len, d_model]
    let mut enc_inputs = Vec::new();
    for layer in 0..plain.encoder.layers.len() {
        enc_inputs.push((x.clone(), dropout.clone()));
        x = plain.encoder_layer(layer, x, &enc_mask, dropout);
    }
    let enc_output = x;
    let memory = plain.encoder.final_norm.forward(enc_output.clone());
    let mut x = plain.embed(on_device.dec_input.clone()); // [rows, dec_len, d_model]
    let mut dec_inputs = Vec::new();
    for layer in 0..plain.decoder.layers.len() {
        dec_inputs.push((x.clone(), dropout.clone()));
        (x, _) = plain.decoder_layer(layer, x, memory.clone(), &masks, dropout);
    }

    // Backward pass, layer by layer.
    let on_device = DeviceBatch::<AB>::new(batch, num_targets, config.class_weights(), &device);
    let aligned = on_device.clone().aligned(batch, config.alignment_weight);
    let (enc_mask, masks) = on_device.masks();
    let (enc_ids, dec_input) = (on_device.enc_ids.clone(), on_device.dec_input.clone());
    let mut sums = Sums(Gradients::<AB::InnerBackend>::new());

    let graph = with_gradients(model.clone());
    let output = leaf::<AB>(x);
    let loss = output_loss(&graph, graph.decoder.norm.forward(output.clone()), on_device, config.z_coefficient);
    let mut value = loss.inner();
    let raw = loss.total().backward();
    sums.add(&graph, &raw);
    let mut gradient = grad_of(&output, &raw);

    let mut memory_gradient = memory.zeros_like();
    for (layer, (x, mut dropout)) in dec_inputs.into_iter().enumerate().rev() {
        let graph = with_gradients(model.clone());
        let (x, memory) = (leaf::<AB>(x), leaf::<AB>(memory.clone()));
        let (y, attention) = graph.decoder_layer(layer, x.clone(), memory.clone(), &masks, &mut dropout);
        // The alignment loss is f32, whatever the type of the activations.
        let mut sum = (y * Tensor::from_inner(gradient)).sum().cast(FloatDType::F32);
        if layer + 1 == plain.decoder.layers.len()
            && let Some(alignment) = aligned.alignment_loss(&attention)
        {
            value.alignment = Some(alignment.clone().inner());
            sum = sum + alignment;
        }
        let raw = sum.backward();
        sums.add(&graph, &raw);
        memory_gradient = memory_gradient + grad_of(&memory, &raw);
        gradient = grad_of(&x, &raw);
    }
    sums.add_embedding(model, dec_input, gradient);

    let graph = with_gradients(model.clone());
    let output = leaf::<AB>(enc_output);
    let y = graph.encoder.final_norm.forward(output.clone());
    let raw = (y * Tensor::from_inner(memory_gradient)).sum().backward();
    sums.add(&graph, &raw);
    let mut gradient = grad_of(&output, &raw);
    for (layer, (x, mut dropout)) in enc_inputs.into_iter().enumerate().rev() {
        let graph = with_gradients(model.clone());
        let x = leaf::<AB>(x);
        let y = graph.encoder_layer(layer, x.clone(), &enc_mask, &mut dropout);
        let raw = (y * Tensor::from_inner(gradient)).sum().backward();
        sums.add(&graph, &raw);
        gradient = grad_of(&x, &raw);
    }
    sums.add_embedding(model, enc_ids, gradient);
    (value, sums.0)
}

fn leaf<AB: AutodiffBackend>(x: Tensor<AB::InnerBackend, 3>) -> Tensor<AB, 3> {
    Tensor::from_inner(x).require_grad()
}

fn grad_of<AB: AutodiffBackend>(x: &Tensor<AB, 3>, raw: &AB::Gradients) -> Tensor<AB::InnerBackend, 3> {
    // A tensor on which the loss does not depend has no gradient.
    x.grad(raw).unwrap_or_else(|| x.clone().inner().zeros_like())
}

struct Sums<B: burn::tensor::backend::Backend>(Gradients<B>);

impl<B: FusedOps> Sums<B> {
    fn add<AB: AutodiffBackend<InnerBackend = B>>(&mut self, graph: &San<AB>, raw: &AB::Gradients) {
        add_gradients(&mut self.0, collect(graph, raw));
    }

    fn add_embedding<AB: AutodiffBackend<InnerBackend = B> + FusedOps>(
        &mut self,
        model: &San<AB>,
        ids: Tensor<AB, 2, burn::tensor::Int>,
        gradient: Tensor<B, 3>,
    ) {
        let graph = with_gradients(model.clone());
        let raw = (graph.embed(ids) * Tensor::from_inner(gradient)).sum().backward();
        self.add(&graph, &raw);
    }
}
