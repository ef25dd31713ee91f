//! Verification of exported artifacts: an artifact is read back and must compute what the trained
//! model computes.
//!
//! Codes and scales must equal those of [`crate::quant::int4::quantize`] on the trained weights bit
//! for bit. The model read back and the trained model, at the artifact's precision, then run on the
//! same inputs. Their logits may differ by at most [`LOGITS`] (0 where both hold the same floats),
//! and their greedy tokens must be equal.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use serde::Serialize;

use crate::error::ModelError;
use crate::generate::{NoHook, generate};
use crate::golden::{Inputs, compute};
use crate::ops::FusedOps;
use crate::params::{self, ParamInfo, ParamVisitor};
use crate::san::San;

/// Largest difference of a logit that is allowed.
pub const LOGITS: f64 = 1e-4;
/// Number of tokens of a greedy answer that are compared.
const ANSWER_TOKENS: usize = 32;

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// Number of prompts.
    pub inputs: usize,
    /// Number of tensors compared, value by value.
    pub tensors: usize,
    /// Largest difference of a weight that was found.
    pub max_weight_difference: f64,
    /// Largest difference of a logit that was found.
    pub max_logit_difference: f64,
    /// Largest difference of a logit that is allowed: [`LOGITS`].
    pub logit_bound: f64,
    /// Number of prompts with equal greedy tokens.
    pub same_tokens: usize,
    /// Number of greedy tokens compared.
    pub tokens: usize,
}

/// Compares the trained model `ours` with `read`, the model read back, on `prompts` (at least one
/// id each).
///
/// # Errors
/// If weights, logits or greedy tokens differ by more than is allowed; the message says what
/// differs first.
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
            "the artifact answers {} of {} prompts differently",
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
