//! A model's answers to examples.

use needle_data::example::parse_answers;
use needle_data::names::NameMap;
use needle_data::{Call, Encoder, Example};
use needle_model::generate::{Generated, NoHook, Stop, generate};
use needle_model::{FusedOps, San};
use serde::Serialize;
use serde_json::Value;

use crate::recipe::EvalConfig;

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The calls, under the user's tool names; none if the text is not a list of calls.
    pub calls: Option<Vec<Call>>,
    /// What the model wrote.
    pub text: String,
    /// Its tokens, `<tool_call>` first.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// Tokens of the prompt that did not fit.
    pub cut_tokens: usize,
}

impl Prediction {
    /// Reads `generated` as an answer under the names of the offered tools.
    pub fn new(generated: Generated, encoder: &Encoder<'_>, names: &NameMap, cut_tokens: usize) -> Self {
        let text = encoder.tokenizer().decode(&generated.ids);
        let calls = serde_json::from_str::<Value>(&text).ok().and_then(|value| parse_answers(Some(&value)).ok());
        let calls = calls.map(|calls| {
            calls.into_iter().map(|call| Call { name: names.to_outer(&call.name).to_owned(), ..call }).collect()
        });
        Self { calls, text, token_ids: generated.ids, stop: generated.stop, cut_tokens }
    }
}

/// Answers to `examples`, in order; `progress` is told how many are done.
pub fn predict<B: FusedOps>(
    model: &San<B>,
    encoder: &Encoder<'_>,
    examples: &[Example],
    config: &EvalConfig,
    progress: &mut dyn FnMut(usize),
) -> Vec<Prediction> {
    let prompts: Vec<(Vec<u32>, usize)> = examples.iter().map(|e| encoder.prompt(&e.query, &e.tools)).collect();
    // Prompts of like length share a batch: less padding.
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|&i| prompts[i].0.len());
    let mut predictions: Vec<Option<Prediction>> = vec![None; examples.len()];
    let mut done = 0;
    for batch in order.chunks(config.batch_size) {
        let inputs: Vec<Vec<u32>> = batch.iter().map(|&i| prompts[i].0.clone()).collect();
        let answers = generate(model, &inputs, config.max_tokens, &mut NoHook);
        for (&index, answer) in batch.iter().zip(answers) {
            predictions[index] =
                Some(Prediction::new(answer, encoder, &NameMap::of(&examples[index].tools), prompts[index].1));
        }
        done += batch.len();
        progress(done);
    }
    predictions.into_iter().flatten().collect()
}
