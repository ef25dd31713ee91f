//! Proof that an artifact is the model: what was written is read back, and computes what the
//! trainer's own model computes.
//!
//! Codes and scales must be the same bits as those of [`crate::quant::int4::quantize`] on the
//! trained weights. The read-back model and the trainer's, at the artifact's precision, then meet
//! the same inputs: their logits may differ by [`LOGITS`] (0 where both hold the same floats),
//! their greedy tokens not at all.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use serde::Serialize;

use crate::error::ModelError;
use crate::generate::{NoHook, generate};
use crate::golden::{Inputs, compute};
use crate::ops::FusedOps;
use crate::params::{self, ParamInfo, ParamVisitor};
use crate::san::San;

/// Largest difference of a logit.
pub const LOGITS: f64 = 1e-4;
/// Tokens of a greedy answer that are compared.
const ANSWER_TOKENS: usize = 32;

/// What was compared, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// Prompts.
    pub inputs: usize,
    /// Tensors compared value by value.
    pub tensors: usize,
    /// Largest difference of a weight.
    pub max_weight_difference: f64,
    /// Largest difference of a logit, and what it may be.
    pub max_logit_difference: f64,
    /// See there.
    pub logit_bound: f64,
    /// Prompts with the same greedy tokens.
    pub same_tokens: usize,
    /// Greedy tokens compared.
    pub tokens: usize,
}

/// Compares the trainer's model with what was read back, on `prompts` (ids, each of at least one).
///
/// # Errors
/// The first thing that differs by more than it may.
pub fn verify<B: FusedOps>(ours: &San<B>, read: &San<B>, prompts: &[Vec<u32>]) -> Result<Verified, ModelError> {
    let differs = |reason: String| ModelError::Config { field: "verify", reason };
    let (weights, tensors) = weight_difference(ours, read);
    if weights > 0.0 {
        return Err(differs(format!("a weight differs by {weights:e} from what was written")));
    }
    let mut logits = 0.0_f64;
    let (mut same_tokens, mut tokens) = (0, 0);
    for prompt in prompts {
        let answers = [ours, read]
            .map(|model| generate(model, std::slice::from_ref(prompt), ANSWER_TOKENS, &mut NoHook).remove(0).ids);
        tokens += answers[0].len();
        same_tokens += usize::from(answers[0] == answers[1]);
        // The decoder reads the end token and then the answer.
        let read_ids: Vec<u32> =
            std::iter::once(needle_data::tokenizer::EOS_ID).chain(answers[0].iter().copied()).collect();
        let outputs = [ours, read].map(|model| {
            let ids = |ids: &[u32]| {
                let values: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
                Tensor::from_data(TensorData::new(values, [1, ids.len()]), &model.device())
            };
            let outputs = compute(model, Inputs { src: ids(prompt), tgt: ids(&read_ids), segments: None });
            outputs.logits.into_data().iter::<f32>().collect::<Vec<f32>>()
        });
        for (a, b) in outputs[0].iter().zip(&outputs[1]) {
            let difference = f64::from((a - b).abs());
            logits = if difference.is_nan() { f64::INFINITY } else { logits.max(difference) };
        }
    }
    if logits > LOGITS {
        return Err(differs(format!("a logit differs by {logits:e}, more than {LOGITS:e}")));
    }
    if same_tokens < prompts.len() {
        return Err(differs(format!(
            "{} of {} prompts are answered otherwise",
            prompts.len() - same_tokens,
            prompts.len()
        )));
    }
    Ok(Verified {
        inputs: prompts.len(),
        tensors,
        max_weight_difference: weights,
        max_logit_difference: logits,
        logit_bound: LOGITS,
        same_tokens,
        tokens,
    })
}

fn weight_difference<B: Backend>(a: &San<B>, b: &San<B>) -> (f64, usize) {
    struct Values(Vec<(String, Vec<f32>)>);
    impl<B: Backend> ParamVisitor<B> for Values {
        fn visit<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) {
            self.0.push((info.name, tensor.into_data().iter::<f32>().collect()));
        }
    }
    let [a, b] = [a, b].map(|model| {
        let mut values = Values(Vec::new());
        params::visit(model, &mut values);
        values.0
    });
    let mut worst = if a.len() == b.len() { 0.0_f64 } else { f64::INFINITY };
    for ((name, a), (other, b)) in a.iter().zip(&b) {
        if name != other || a.len() != b.len() {
            return (f64::INFINITY, 0);
        }
        for (a, b) in a.iter().zip(b) {
            let difference = f64::from((a - b).abs());
            worst = if difference.is_nan() { f64::INFINITY } else { worst.max(difference) };
        }
    }
    (worst, a.len())
}
