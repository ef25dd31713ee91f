//! Validation during training: the loss at f32 and at INT4, and answers to tool-call examples.

use std::path::Path;

use burn::tensor::{ElementConversion, Tensor};
use needle_data::batching::loader::pack_examples;
use needle_data::text::record::Record;
use needle_data::{Batch, DataError, EncodedExample, Encoder, Example, file};
use needle_model::checkpoint::Checkpoint;
use needle_model::dropout::Dropout;
use needle_model::quant::fake_quant::at_precision;
use needle_model::{FusedOps, San, SanConfig};
use needle_runtime::{Precision, Prediction};
use serde::Serialize;

use crate::answering;
use crate::distributed::World;
use crate::error::TrainError;
use crate::eval::mistake::{Mistake, mistake};
use crate::eval::{Evaluation, evaluate};
use crate::recipe::Recipe;
use crate::run::directory::RunDir;
use crate::run::report::LiveReport;
use crate::run::tracking::{Event, Tracker};
use crate::training::loss::{DeviceBatch, decoder_output};
use crate::training::policies::early_stopping::{Measured, TokenFit};

/// Number of answers kept for the report.
const SAMPLE_PREDICTIONS: usize = 100;

/// Validation examples, prepared for measuring models.
pub struct Validator<'a> {
    encoder: &'a Encoder<'a>,
    recipe: &'a Recipe,
    /// Sizes of the model.
    config: SanConfig,
    /// All tool-call examples.
    examples: Vec<Example>,
    /// The first rows of any kind, as batches.
    batches: Vec<Batch>,
    /// The run's page.
    report: LiveReport,
}

/// One answer for the report.
#[derive(Debug, Clone, Serialize)]
struct Answered {
    query: String,
    tools: Vec<String>,
    expected: Vec<needle_data::Call>,
    predicted: String,
    mistake: Option<Mistake>,
    wrong: Option<String>,
}

impl Answered {
    /// Judges `prediction`, the answer to `example`.
    fn new(example: &Example, prediction: &Prediction) -> Self {
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

impl<'a> Validator<'a> {
    /// Prepares `records` for validation: the first `recipe.eval.max_examples` of them are for the
    /// loss, all tool calls among `records` are for answers. `config` are the sizes of the models
    /// that are measured.
    pub fn new(
        records: &[Record],
        encoder: &'a Encoder<'a>,
        recipe: &'a Recipe,
        config: SanConfig,
        run: &RunDir,
    ) -> Self {
        // Examples whose answers are too long for the decoder are left out; training counts such
        // rows.
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
        let report = LiveReport::new(run);
        Self { encoder, recipe, config, examples: examples.collect(), batches, report }
    }

    /// Validates `model` after `step`: the loss at f32 and INT4, and answers at INT4 to the first
    /// `eval.max_examples` examples. [`Measured::new`] explains what chooses checkpoints. Answers
    /// are written to `run`, metrics to `tracker`.
    ///
    /// # Errors
    /// If the model cannot answer, or something cannot be written.
    pub fn measure<B: FusedOps>(
        &self,
        model: &San<B>,
        step: usize,
        run: &RunDir,
        tracker: &mut Tracker,
    ) -> Result<Measured, TrainError> {
        let mut call_f1 = None;
        let fit = |precision| self.fit(model, precision);
        let int4 = fit(Precision::Int4);
        if let Some((f32, int4)) = fit(Precision::F32).zip(int4) {
            tracker.report(&Event::ValidationLoss {
                step,
                validation_loss_f32: f32.loss,
                validation_loss_int4: int4.loss,
                token_probability_int4: int4.probability,
            })?;
        }
        let sample = &self.examples[..self.examples.len().min(self.recipe.eval.max_examples)];
        if !sample.is_empty() {
            let (evaluation, predictions) = self.evaluate(model, Precision::Int4, sample)?;
            call_f1 = Some(evaluation.score.call_f1);
            write_predictions(&run.predictions(), sample, &predictions)?;
            tracker.report(&Event::Validation { step, evaluation })?;
        }
        Ok(Measured::new(call_f1, sample.len(), int4))
    }

    /// Evaluates the run's result at f32 and INT4 on all examples: `last` (the model at the end of
    /// the run, and its step), or the checkpoint in `best/` if another step was the best. Returns
    /// nothing if there are no examples.
    ///
    /// # Errors
    /// As [`Validator::measure`].
    pub fn measure_result<B: FusedOps>(
        &self,
        last: (San<B>, usize),
        best_step: Option<usize>,
        run: &RunDir,
        tracker: &mut Tracker,
    ) -> Result<Vec<Evaluation>, TrainError> {
        if self.examples.is_empty() {
            return Ok(Vec::new());
        }
        let (model, step) = match best_step.filter(|best| *best != last.1) {
            Some(best) => (Checkpoint::load(&run.best(), &last.0.device())?.model, best),
            None => last,
        };
        let mut evaluations = Vec::new();
        for precision in [Precision::F32, Precision::Int4] {
            let (evaluation, _) = self.evaluate(&model, precision, &self.examples)?;
            tracker.report(&Event::Validation { step, evaluation: evaluation.clone() })?;
            evaluations.push(evaluation);
        }
        Ok(evaluations)
    }

    /// Writes the run's report page; only rank 0 does.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_report(&mut self, world: &World) -> Result<(), TrainError> {
        if world.is_main() { self.report.write() } else { Ok(()) }
    }

    fn evaluate<B: FusedOps>(
        &self,
        model: &San<B>,
        precision: Precision,
        examples: &[Example],
    ) -> Result<(Evaluation, Vec<Prediction>), TrainError> {
        let needle = answering::of_model(model, &self.config, self.encoder.tokenizer(), precision)?;
        let needle =
            needle.with_lengths(self.encoder.config().clone())?.with_config(self.recipe.eval.answer_config())?;
        Ok(evaluate(&needle, examples, &mut |_| {})?)
    }

    /// How well `model` predicts the validation rows at `precision`; `None` if there are none.
    fn fit<B: FusedOps>(&self, model: &San<B>, precision: Precision) -> Option<TokenFit> {
        let num_targets: usize = self.batches.iter().map(Batch::num_targets).sum();
        if num_targets == 0 {
            return None;
        }
        let model = at_precision(model.clone(), precision);
        let (mut loss, mut probability, mut weight) = (0.0, 0.0, 0.0);
        for batch in &self.batches {
            let batch = DeviceBatch::new(batch, num_targets, self.recipe.loss.class_weights(), &model.device());
            let (hidden, _) = decoder_output(&model, &batch, &mut Dropout::none());
            let [nll, _] = model.cross_entropy(hidden, batch.dec_target.clone()); // [rows, dec_len]
            let sum = |values: Tensor<B, 2>| (values * batch.target_weights.clone()).sum().into_scalar().elem::<f64>();
            loss += sum(nll.clone()) / num_targets as f64;
            probability += sum(nll.neg().exp());
            weight += batch.target_weights.clone().sum().into_scalar().elem::<f64>();
        }
        Some(TokenFit { loss, probability: probability / weight })
    }
}

fn write_predictions(path: &Path, examples: &[Example], predictions: &[Prediction]) -> Result<(), TrainError> {
    let mut lines = String::new();
    for (example, prediction) in examples.iter().zip(predictions).take(SAMPLE_PREDICTIONS) {
        let line = serde_json::to_string(&Answered::new(example, prediction));
        lines.push_str(&line.map_err(|e| DataError::io(path, e.into()))?);
        lines.push('\n');
    }
    Ok(file::write_atomically(path, lines.as_bytes())?)
}
