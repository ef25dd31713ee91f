//! Batched greedy decoding.
//!
//! The encoder runs once; each step feeds one token a row through the decoder, whose caches hold everything before it. A row
//! that has ended keeps being fed, and what it says is not recorded.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use needle_data::batch::pad_rows;
use needle_data::tokenizer::EOS_ID;

use crate::decoder::DecoderMasks;
use crate::dropout::Dropout;
use crate::fused::FusedOps;
use crate::mask::AttentionMask;
use crate::san::San;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The model ended it.
    Eos,
    /// It reached the length limit.
    Length,
}

/// One decoded answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The tokens, `<tool_call>` first, without the end.
    pub ids: Vec<u32>,
    /// Log-probability of each token among those allowed.
    pub log_probs: Vec<f32>,
    /// Why it ended.
    pub stop: Stop,
}

/// Sees every step of a row before and after its token is chosen: the place where constraints and streaming go in.
pub trait StepHook {
    /// May forbid tokens by setting their logits to negative infinity. `row` is the row's index in the batch.
    fn mask(&mut self, row: usize, logits: &mut [f32]) {
        let _ = (row, logits);
    }

    /// Told the token that row `row` got.
    fn chosen(&mut self, row: usize, token: u32) {
        let _ = (row, token);
    }
}

/// No constraint, no streaming.
pub struct NoHook;

impl StepHook for NoHook {}

/// Decodes an answer to each of `prompts` (encoder ids), of at most `max_tokens` tokens.
///
/// On equal logits the lowest id wins, as in the original.
pub fn generate<B: FusedOps>(
    model: &San<B>,
    prompts: &[Vec<u32>],
    max_tokens: usize,
    hook: &mut impl StepHook,
) -> Vec<Generated> {
    if prompts.is_empty() {
        return Vec::new();
    }
    let device = model.device();
    let none = &mut Dropout::none();
    let prompt_ids = ids_tensor::<B>(prompts, &device);
    let memory = model.encode(prompt_ids.clone(), &AttentionMask::padding(prompt_ids.clone()), none);
    let mut cache = model.decoder.cache(&memory);
    // One token at a time sees everything before it, so self-attention needs no mask.
    let masks = DecoderMasks { self_attn: AttentionMask::none(), cross_attn: AttentionMask::padding(prompt_ids) };

    let mut answers = vec![Generated { ids: Vec::new(), log_probs: Vec::new(), stop: Stop::Length }; prompts.len()];
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
            hook.mask(row, logits);
            let token = argmax(logits);
            if token == EOS_ID {
                answers[row].stop = Stop::Eos;
                running[row] = false;
                continue;
            }
            answers[row].ids.push(token);
            answers[row].log_probs.push(log_prob(logits, token));
            hook.chosen(row, token);
            next[row] = token;
        }
        if !running.contains(&true) {
            break;
        }
    }
    answers
}

/// Ids as a tensor, `[rows, longest]`, padded with 0.
pub fn ids_tensor<B: Backend>(rows: &[Vec<u32>], device: &B::Device) -> Tensor<B, 2, Int> {
    let (ids, longest) = pad_rows(rows.iter().map(Vec::as_slice));
    Tensor::from_data(TensorData::new(ids, [rows.len(), longest]), device)
}

fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = i;
        }
    }
    best as u32
}

fn log_prob(logits: &[f32], token: u32) -> f32 {
    let chosen = logits[token as usize];
    // The chosen logit is the largest.
    -logits.iter().map(|l| (l - chosen).exp()).sum::<f32>().ln()
}
