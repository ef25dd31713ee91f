//! What a run is measured by while it trains: the loss at f32 and at INT4, and answers to tool-call examples.

use burn::tensor::ElementConversion;
use needle_data::batching::loader::pack_examples;
use needle_data::text::record::Record;
use needle_data::{Batch, EncodedExample, Encoder, Example};
use needle_model::dropout::Dropout;
use needle_model::quant::fake_quant::{Precision, at_precision};
use needle_model::{FusedOps, San};
use serde::Serialize;

use crate::eval::mistake::{Mistake, mistake};
use crate::eval::predict::Prediction;
use crate::recipe::Recipe;
use crate::training::loss::{DeviceBatch, text_loss};

/// Validation rows, ready to be measured by.
pub struct Validation {
    /// All tool-call examples.
    pub examples: Vec<Example>,
    /// The first rows of any kind, as batches.
    batches: Vec<Batch>,
}

/// One answer for the report.
#[derive(Debug, Clone, Serialize)]
pub struct Answered {
    query: String,
    tools: Vec<String>,
    expected: Vec<needle_data::Call>,
    predicted: String,
    mistake: Option<Mistake>,
    wrong: Option<String>,
}

impl Answered {
    /// `prediction` for `example`, judged.
    pub fn new(example: &Example, prediction: &Prediction) -> Self {
        let mistake = mistake(&example.answers, prediction.calls.as_deref());
        Self {
            query: example.query.clone(),
            tools: example.tools.iter().map(|tool| tool.name.clone()).collect(),
            expected: example.answers.clone(),
            predicted: prediction.text.clone(),
            wrong: mistake.as_ref().map(Mistake::to_string),
            mistake,
        }
    }
}

impl Validation {
    /// The first `recipe.eval.max_examples` of `records` give the loss, all tool calls among them answers.
    pub fn new(records: &[Record], encoder: &Encoder<'_>, recipe: &Recipe) -> Self {
        // An answer too long for the decoder cannot be measured by; training counts such rows.
        let encoded = records.iter().take(recipe.eval.max_examples).filter_map(|r| encoder.encode_record(r).ok());
        let encoded: Vec<EncodedExample> = encoded.flatten().collect();
        let sizes = recipe.data.row_sizes();
        let longest = &sizes[sizes.len() - 1..];
        let rows = pack_examples(encoded, longest);
        let batches = rows
            .chunks(recipe.data.rows)
            .map(|rows| {
                let rows: Vec<Vec<&EncodedExample>> = rows.iter().map(|row| row.examples.iter().collect()).collect();
                Batch::from_rows(&rows, 0)
            })
            .collect();
        let examples = records.iter().filter_map(|record| match record {
            Record::ToolCall(example) => Some(example.clone()),
            _ => None,
        });
        Self { examples: examples.collect(), batches }
    }

    /// Weighted cross-entropy of `model` at `precision` over the validation rows; none where there are none.
    pub fn loss<B: FusedOps>(&self, model: &San<B>, precision: Precision, recipe: &Recipe) -> Option<f64> {
        let num_targets: usize = self.batches.iter().map(Batch::num_targets).sum();
        if num_targets == 0 {
            return None;
        }
        let model = at_precision(model.clone(), precision);
        let sum = self.batches.iter().map(|batch| {
            let on_device = DeviceBatch::new(batch, num_targets, recipe.loss.class_weights(), &model.device());
            let loss = text_loss(&model, on_device, 0.0, &mut Dropout::none());
            loss.cross_entropy.into_scalar().elem::<f64>()
        });
        Some(sum.sum())
    }
}
