//! Finetunes a checkpoint on the user's own examples and compares it with the base model: split,
//! measure the base, train, measure again.
//!
//! The test part is used only for the two measurements: the validation part decides when training
//! ends and which checkpoint is the best, if it has enough examples to tell; else all planned steps
//! are taken, and the last checkpoint is the result. Both measurements are of the model as it
//! ships: INT4, constrained to the offered tools.

mod comparison;
mod fit;
mod parts;
pub mod plan;
mod prompts;

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::backend::Autodiff;
use needle_data::order::stream::{SourceConfig, Sources};
use needle_data::synth::{Generator, SynthConfig};
use needle_data::text::record::Record;
use needle_data::{DataError, Encoder, Example, Tokenizer, file};
use needle_model::checkpoint::directory;
use needle_model::{FusedOps, SanConfig};
use needle_runtime::confidence::LEAST_EXAMPLES;
use needle_runtime::constrain::copying::CopyStatistics;
use needle_runtime::{AnswerConfig, Needle, Precision, Prediction};

pub use comparison::{BeforeAfter, Change, Comparison};
use fit::{fit_rows, fit_schedule};
pub use parts::Parts;
use parts::write_examples;
use plan::{Forecast, Speed};
use prompts::check_prompts;

use crate::answering;
use crate::distributed::World;
use crate::error::TrainError;
use crate::eval::{Evaluation, calibrate, evaluate};
use crate::recipe::{EvalConfig, Recipe};
use crate::run::directory::{Existing, RunDir};
use crate::run::report;
use crate::run::state;
use crate::training::policies::early_stopping::LEAST_ANSWERS;
use crate::training::trainer;
use crate::training::trainer::{RunOptions, Start};

/// The recipe, as in the repository.
pub const RECIPE: &str = include_str!("../../../configs/finetune.toml");

/// Number of generated examples from which a model trained from scratch learns copying, in addition
/// to the user's own.
const GENERATED: usize = 20_000;

/// Weight of examples that are mixed in, beside 1 for the user's own: docs/LOG.md, "A base model".
const MIXED_IN_WEIGHT: f64 = 0.5;

/// A file beside a base's weights with examples of what it was trained on. They are mixed in, so
/// that a model with a few new examples keeps what it can do: docs/LOG.md, "Finetuning".
pub const MIXTURE: &str = "mixture.jsonl.zst";

/// The model to finetune.
#[derive(Debug, Clone, Copy)]
pub enum Base<'a> {
    /// The checkpoint in this directory.
    Checkpoint(&'a Path),
    /// A new model of the recipe's preset.
    Scratch,
}

/// The user's settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings<'a> {
    /// Overrides of the recipe, as `key=value`.
    pub overrides: &'a [String],
    /// Largest number of minutes to plan for; [`plan`] explains the default.
    pub max_minutes: Option<f64>,
    /// Files of other examples to train on beside the user's own, so that the model keeps what the
    /// base knows; `None` for the base's own [`MIXTURE`], if it has one.
    pub mixed_in: Option<&'a [PathBuf]>,
    /// Cuts prompts that are longer than what the model reads; otherwise they are an error.
    pub cut_long_prompts: bool,
}

impl Settings<'_> {
    fn is_set(&self, key: &str) -> bool {
        is_set(self.overrides, key)
    }

    fn mixed_in(&self, base: Base<'_>) -> Vec<PathBuf> {
        match (self.mixed_in, base) {
            (Some(files), _) => files.to_vec(),
            (None, Base::Checkpoint(path)) => {
                Some(path.join(MIXTURE)).filter(|file| file.is_file()).into_iter().collect()
            }
            (None, Base::Scratch) => Vec::new(),
        }
    }
}

/// The result of a finetune.
pub struct Finetuned {
    /// The comparison of base and tuned model.
    pub comparison: Comparison,
    /// The step after which the run was asked to stop, if it was.
    pub stopped_at: Option<usize>,
}

/// The recipe with the user's overrides. Rows and answers are never longer than the preset allows.
///
/// # Errors
/// If an override cannot be read or is invalid.
pub fn recipe(overrides: &[String]) -> Result<Recipe, TrainError> {
    let error = |reason: String| TrainError::Recipe { path: None, reason };
    let plain: Recipe = toml::from_str(RECIPE).map_err(|e| error(e.to_string()))?;
    let model = overrides.iter().rev().find_map(|o| o.split_once('=').filter(|(key, _)| key.trim() == "model"));
    let preset = SanConfig::preset(model.map_or(&plain.model, |(_, name)| name.trim()))?;
    let mut all = Vec::new();
    for (key, length, most) in [
        ("data.row_enc_tokens", plain.data.row_enc_tokens.longest(), preset.max_enc_len),
        ("data.row_dec_tokens", plain.data.row_dec_tokens.longest(), preset.max_dec_len),
        ("eval.max_tokens", plain.eval.max_tokens, preset.max_dec_len),
    ] {
        if !is_set(overrides, key) {
            all.push(format!("{key}={}", length.min(most)));
        }
    }
    all.extend_from_slice(overrides);
    Recipe::parse(RECIPE, &all).map_err(error)
}

fn is_set(overrides: &[String], key: &str) -> bool {
    overrides.iter().any(|o| o.split('=').next().is_some_and(|k| k.trim() == key))
}

/// Finetunes into the directory `run`.
///
/// # Errors
/// If the examples or the base cannot be used, or something cannot be written.
pub fn run<B: FusedOps>(
    parts: &Parts,
    base: Base<'_>,
    settings: Settings<'_>,
    run: &RunDir,
    device: &B::Device,
    options: RunOptions,
) -> Result<Finetuned, TrainError> {
    let began = Instant::now();
    let mut recipe = recipe(settings.overrides)?;
    let _claim = run.claim(options.existing)?;
    let is_resumed = options.existing == Existing::Resume;
    if is_resumed {
        parts.ensure_written(&run.split())?;
    }
    let generated = match base {
        Base::Checkpoint(_) => Vec::new(),
        Base::Scratch => generated(recipe.seed)?,
    };
    let start = match base {
        Base::Checkpoint(path) => {
            if options.existing == Existing::Overwrite {
                run.ensure_outlived_by(path)?;
            }
            if is_resumed {
                Start::resume(&run.last(), Some(path), &recipe, device)?
            } else {
                Start::from_checkpoint(path, &recipe, device)?
            }
        }
        Base::Scratch => new_start::<B>(&parts.train, &generated, &recipe, device)?,
    };
    let batches_per_epoch = fit_rows(&mut recipe, &start, &parts.train, settings)?;
    let mut warnings = parts.warnings.clone();
    warnings.extend(check_prompts(&recipe, &start, parts, settings)?);
    let speed = Speed::measure::<B>(&recipe, &start, parts)?;
    let forecast = Forecast { batches_per_epoch, speed, answers: plan::answers(&recipe, parts) };
    let steps = if is_resumed && !settings.is_set("steps") {
        // Decided once, when the run started: a resumed run does not depend on how fast the machine
        // is now.
        state::progress(&run.last())?.recipe.steps
    } else {
        plan::steps(&recipe, &forecast, base, settings)?
    };
    fit_schedule(&mut recipe, steps, parts.train.len(), base, settings)?;
    let can_choose = parts.validation.len().min(recipe.eval.max_examples) >= LEAST_ANSWERS;
    if !can_choose && !settings.is_set("eval.patience") {
        // As many as are planned, so that only a run that keeps going back to an earlier checkpoint
        // ends early.
        recipe.eval.patience = Some(plan::VALIDATIONS);
    }
    let mixed_in = settings.mixed_in(base);
    let own_share = if mixed_in.is_empty() { 1.0 } else { 1.0 / (1.0 + MIXED_IN_WEIGHT) };
    warnings.extend(plan::announce(&recipe, &forecast, parts, own_share));

    let mut comparison = Comparison {
        base: match base {
            Base::Checkpoint(path) => Some(path.to_owned()),
            Base::Scratch => None,
        },
        examples: [("train", &parts.train), ("validation", &parts.validation), ("test", &parts.test)]
            .map(|(name, part)| (name.to_owned(), part.len()))
            .into(),
        warnings,
        ..Comparison::default()
    };
    let before = match base {
        Base::Checkpoint(path) if !parts.test.is_empty() => {
            Some(measure::<B>(path, &parts.test, &recipe.eval, device)?)
        }
        _ => None,
    };
    if let Some((evaluation, _)) = &before {
        let (exact, f1) = (evaluation.score.exact_match, evaluation.score.call_f1);
        tracing::info!("the base on {} test examples: exact match {exact:.3}, call F1 {f1:.3}", parts.test.len());
    }
    // Write nothing before examples, base and settings have been checked.
    run.begin()?;
    let sources = write_sources(run, parts, &generated, &mixed_in)?;
    let validation: Vec<Record> = parts.validation.iter().cloned().map(Record::ToolCall).collect();
    let outcome = trainer::train(start, &recipe, &sources, &validation, run, options, &World::default())?;
    comparison.train_seconds = outcome.train_seconds;
    if outcome.stopped_at.is_some() {
        return Ok(Finetuned { comparison, stopped_at: outcome.stopped_at });
    }
    // Too few validation examples can tell that nothing was better than the base, but not which
    // checkpoint is the best: that is the last one, whose learning rate has fallen to its end.
    let is_last = !can_choose && state::progress(&run.last())?.early_stopping.best_step != Some(0);
    if is_last || !run.best().exists() {
        directory::write(&run.best(), directory::read(&run.last())?, None)?;
    }
    let result = run.best();
    CopyStatistics::count(&parts.train).save(&result)?;
    if !keep_confidence::<B>(&result, &parts.validation, &recipe.eval, device)? {
        let warning = format!(
            "{} validation examples are too few to fit a confidence ({LEAST_EXAMPLES} are needed): answers come without one",
            parts.validation.len()
        );
        tracing::warn!("{warning}");
        comparison.warnings.push(warning);
    }
    if !parts.test.is_empty() {
        let after = measure::<B>(&result, &parts.test, &recipe.eval, device)?;
        comparison.compare(&parts.test, before, after);
    }
    comparison.seconds = began.elapsed().as_secs_f64();
    let json = serde_json::to_vec_pretty(&comparison).map_err(|e| DataError::io(run.comparison(), e.into()))?;
    file::write_atomically(&run.comparison(), &json)?;
    report::write(std::slice::from_ref(run), &run.report())?;
    Ok(Finetuned { comparison, stopped_at: None })
}

/// Generated examples from which a new model learns copying.
fn generated(seed: u64) -> Result<Vec<Example>, DataError> {
    let config = SynthConfig { seed, num_tools: (1, 3), max_calls: 2, brief: true, ..SynthConfig::default() };
    Ok(Generator::new(config)?.take(GENERATED).collect())
}

/// Writes the parts and the generated examples into the run's directory, from which training reads
/// them.
fn write_sources(
    run: &RunDir,
    parts: &Parts,
    generated: &[Example],
    mixed_in: &[PathBuf],
) -> Result<Sources, DataError> {
    let split = run.split();
    std::fs::create_dir_all(&split).map_err(|e| DataError::io(&split, e))?;
    parts.write(&split)?;
    let mut sources = vec![SourceConfig { paths: vec![split.join("train.jsonl")], weight: 1.0 }];
    if !generated.is_empty() {
        let path = split.join("generated.jsonl");
        write_examples(&path, generated)?;
        sources.push(SourceConfig { paths: vec![path], weight: 1.0 });
    }
    if !mixed_in.is_empty() {
        sources.push(SourceConfig { paths: mixed_in.to_vec(), weight: MIXED_IN_WEIGHT });
    }
    Sources::mixture(&sources)
}

fn new_start<B: FusedOps>(
    own: &[Example],
    generated: &[Example],
    recipe: &Recipe,
    device: &B::Device,
) -> Result<Start<Autodiff<B>>, TrainError> {
    let texts = own.iter().chain(generated.iter().take(GENERATED / 5)).flat_map(Encoder::texts);
    let preset = SanConfig::preset(&recipe.model)?;
    let vocab_size = recipe.tokenizer.vocab_size.min(preset.vocab_size);
    let tokenizer = needle_data::tokenizer::TokenizerConfig { vocab_size, ..recipe.tokenizer.clone() };
    let tokenizer = Tokenizer::train(&tokenizer, texts)?;
    Start::new(tokenizer, recipe, device)
}

/// Evaluates the checkpoint in `path`, as it ships, on `examples`.
fn measure<B: FusedOps>(
    path: &Path,
    examples: &[Example],
    config: &EvalConfig,
    device: &B::Device,
) -> Result<(Evaluation, Vec<Prediction>), TrainError> {
    Ok(evaluate(&as_shipped::<B>(path, config, device)?, examples, &mut |_| {})?)
}

/// Loads the checkpoint in `path` as it ships: INT4, constrained to the offered tools.
fn as_shipped<B: FusedOps>(path: &Path, config: &EvalConfig, device: &B::Device) -> Result<Needle, TrainError> {
    let config = AnswerConfig { constrained: true, ..config.answer_config() };
    Ok(answering::load::<B>(path, Precision::SHIPPED, device)?.with_config(config)?)
}

/// Fits the confidence on the validation part and saves it into the checkpoint; false if there are
/// too few examples.
fn keep_confidence<B: FusedOps>(
    path: &Path,
    examples: &[Example],
    config: &EvalConfig,
    device: &B::Device,
) -> Result<bool, TrainError> {
    let fitted = calibrate(&as_shipped::<B>(path, config, device)?, examples)?;
    Ok(fitted.map(|fitted| fitted.save(path)).transpose()?.is_some())
}
