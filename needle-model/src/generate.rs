//! Batched greedy decoding.
//!
//! The encoder runs once; each step feeds one token per row through the decoder, whose caches hold
//! everything before it. A row that has ended is still fed to the decoder, but its output is
//! ignored.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use needle_data::batching::batch::pad_rows;
use needle_data::tokenizer::EOS_ID;
use needle_runtime::generate::argmax;
pub use needle_runtime::generate::{Certainty, Generated, MAX_MARGIN, NoHook, StepHook, Stop};

use crate::decoder::DecoderMasks;
use crate::dropout::Dropout;
use crate::mask::AttentionMask;
use crate::ops::FusedOps;
use crate::san::San;

/// Decodes an answer of at most `max_tokens` tokens to each of `prompts` (encoder ids). Before each
/// choice, `hook` may mask logits.
///
/// On equal logits the lowest id wins, as in the original.
pub fn generate<B: FusedOps>(
    model: &San<B>,
    prompts: &[Vec<u32>],
    max_tokens: usize,
    hook: &mut (impl StepHook + ?Sized),
) -> Vec<Generated> {
    if prompts.is_empty() {
        return Vec::new();
    }
    let device = model.device();
    let none = &mut Dropout::none();
    let prompt_ids = ids_tensor::<B>(prompts, &device);
    let memory = model.encode(prompt_ids.clone(), &AttentionMask::padding(prompt_ids.clone()), none);
    let mut cache = model.decoder.cache(&memory);
    // Each step decodes one token, which sees everything before it, so self-attention needs no
    // mask.
    let masks = DecoderMasks { self_attn: AttentionMask::none(), cross_attn: AttentionMask::padding(prompt_ids) };

    let mut answers = vec![Generated { ids: Vec::new(), certainties: Vec::new(), stop: Stop::Length }; prompts.len()];
    let mut running = vec![true; prompts.len()];
    let mut next = vec![EOS_ID; prompts.len()];
    for _ in 0..max_tokens {
        let input = ids_tensor::<B>(&next.iter().map(|&id| vec![id]).collect::<Vec<_>>(), &device); // [batch, 1]
        let hidden = model.decode(input, &mut cache, &masks, none); // [batch, 1, d_model]
        let logits = model.logits(hidden);
        let [_, _, vocab] = logits.dims();
        let mut logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        for (row, logits) in logits.chunks_exact_mut(vocab).enumerate() {
            if !running[row] {
                continue;
            }
            let log_sum_exp = log_sum_exp(logits);
            hook.mask(row, logits);
            let token = argmax(logits);
            answers[row].certainties.push(certainty(logits, token, log_sum_exp));
            if token == EOS_ID {
                answers[row].stop = Stop::Eos;
                running[row] = false;
                continue;
            }
            answers[row].ids.push(token);
            hook.chosen(row, token);
            next[row] = token;
        }
        if !running.contains(&true) {
            break;
        }
    }
    answers
}

/// The ids of `rows` as a tensor `[rows, longest]`, padded with 0.
pub fn ids_tensor<B: Backend>(rows: &[Vec<u32>], device: &B::Device) -> Tensor<B, 2, Int> {
    let (ids, longest) = pad_rows(rows.iter().map(Vec::as_slice));
    Tensor::from_data(TensorData::new(ids, [rows.len(), longest]), device)
}

fn log_sum_exp(logits: &[f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    largest + logits.iter().map(|l| (l - largest).exp()).sum::<f32>().ln()
}

fn certainty(allowed: &[f32], token: u32, log_sum_exp: f32) -> Certainty {
    let chosen = allowed[token as usize];
    let others = allowed.iter().enumerate().filter(|(id, _)| *id != token as usize);
    let next = others.map(|(_, logit)| *logit).fold(f32::NEG_INFINITY, f32::max);
    Certainty { log_prob: chosen - log_sum_exp, margin: (chosen - next).min(MAX_MARGIN) }
}
