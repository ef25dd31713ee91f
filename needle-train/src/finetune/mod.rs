//! One's own examples to a better checkpoint, and the proof: split, measure the base, train, measure again.
//!
//! The test part is met twice, before and after, and by nothing in between: training is ended and the best checkpoint chosen
//! on the validation part. Both measurements are of what ships: INT4, constrained to the offered tools.

mod comparison;
mod parts;

use std::path::Path;
use std::time::Instant;

use burn::backend::Autodiff;
use needle_data::batching::loader::pack_examples;
use needle_data::order::stream::{SourceConfig, Sources};
use needle_data::synth::{Generator, SynthConfig};
use needle_data::text::record::Record;
use needle_data::{Batch, DataError, EncodedExample, Encoder, Example, Tokenizer, file};
use needle_model::checkpoint::{Checkpoint, directory};
use needle_model::quant::fake_quant::Precision;
use needle_model::{FusedOps, SanConfig};

pub use comparison::{BeforeAfter, Change, Comparison};
pub use parts::Parts;
use parts::write_examples;

use crate::distributed::World;
use crate::error::TrainError;
use crate::eval::confidence::{Confidence, LEAST_EXAMPLES};
use crate::eval::predict::Prediction;
use crate::eval::{Evaluation, calibrate, evaluate};
use crate::needle::limits;
use crate::optim::{LearningRates, Optimizer, clip_global_norm};
use crate::recipe::{EvalConfig, OneOrMore, Recipe};
use crate::run::directory::{Existing, RunDir};
use crate::run::report;
use crate::training::step::forward_backward;
use crate::training::trainer;
use crate::training::trainer::{RunOptions, Start, encode_config};

/// The recipe, as the repository has it.
pub const RECIPE: &str = include_str!("../../../configs/finetune.toml");

/// Times that training meets each example, of a base that can copy already.
const EPOCHS: usize = 6;
/// Fewest steps, however few the examples.
const LEAST_STEPS: usize = 40;
/// From scratch: generated examples that copying is learned on, beside one's own, and steps.
const GENERATED: usize = 20_000;
const STEPS_FROM_SCRATCH: usize = 1500;
/// Validations of a run.
const VALIDATIONS: usize = 8;

/// What to finetune.
#[derive(Debug, Clone, Copy)]
pub enum Base<'a> {
    /// The checkpoint there.
    Checkpoint(&'a Path),
    /// A new model of the recipe's preset.
    Scratch,
}

/// What a finetune came to.
pub struct Finetuned {
    /// Base against tuned.
    pub comparison: Comparison,
    /// Asked to stop after this step.
    pub stopped_at: Option<usize>,
}

/// The recipe with what the user chose; rows and answers are never longer than the preset's.
///
/// # Errors
/// If an override cannot be read, or asks for what cannot work.
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

/// Finetunes into the directory `run`; `overrides` are settings of the recipe that the user chose.
///
/// # Errors
/// If the examples or the base cannot be used, or something cannot be written.
pub fn run<B: FusedOps>(
    parts: &Parts,
    base: Base<'_>,
    overrides: &[String],
    run: &RunDir,
    device: &B::Device,
    options: RunOptions,
) -> Result<Finetuned, TrainError> {
    let began = Instant::now();
    let recipe = recipe(overrides)?;
    let is_set = |key: &str| is_set(overrides, key);
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
    let recipe = fit(recipe, &start, &parts.train, base, &is_set)?;

    let mut comparison = Comparison {
        base: match base {
            Base::Checkpoint(path) => Some(path.to_owned()),
            Base::Scratch => None,
        },
        examples: [("train", &parts.train), ("validation", &parts.validation), ("test", &parts.test)]
            .map(|(name, part)| (name.to_owned(), part.len()))
            .into(),
        warnings: parts.warnings.clone(),
        ..Comparison::default()
    };
    announce(&recipe, &start, parts)?;
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
    // Nothing is written before all that can be wrong with examples, base and settings has shown.
    run.begin()?;
    let sources = write_sources(run, parts, &generated)?;
    let validation: Vec<Record> = parts.validation.iter().cloned().map(Record::ToolCall).collect();
    let outcome = trainer::train(start, &recipe, &sources, &validation, run, options, &World::default())?;
    comparison.train_seconds = outcome.train_seconds;
    if outcome.stopped_at.is_some() {
        return Ok(Finetuned { comparison, stopped_at: outcome.stopped_at });
    }
    if !run.best().exists() {
        // With no validation examples there is nothing to choose by: what it ended with is the result, in the place for it.
        directory::write(&run.best(), directory::read(&run.last())?, None)?;
    }
    let result = run.best();
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

/// Examples that a new model learns copying on.
fn generated(seed: u64) -> Result<Vec<Example>, DataError> {
    let config = SynthConfig { seed, num_tools: (1, 3), max_calls: 2, brief: true, ..SynthConfig::default() };
    Ok(Generator::new(config)?.take(GENERATED).collect())
}

/// Writes the parts, and the examples that were generated, into the run's directory; from there they are trained on.
fn write_sources(run: &RunDir, parts: &Parts, generated: &[Example]) -> Result<Sources, DataError> {
    let split = run.split();
    std::fs::create_dir_all(&split).map_err(|e| DataError::io(&split, e))?;
    parts.write(&split)?;
    let mut sources = vec![SourceConfig { paths: vec![split.join("train.jsonl")], weight: 1.0 }];
    if !generated.is_empty() {
        let path = split.join("generated.jsonl");
        write_examples(&path, generated)?;
        sources.push(SourceConfig { paths: vec![path], weight: 1.0 });
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

/// The recipe with rows that hold the examples and steps that meet them often enough, where the user has not set them.
fn fit<B: FusedOps>(
    mut recipe: Recipe,
    start: &Start<Autodiff<B>>,
    train: &[Example],
    base: Base<'_>,
    is_set: &dyn Fn(&str) -> bool,
) -> Result<Recipe, TrainError> {
    let encoder = Encoder::new(&start.tokenizer, limits(&start.config))?;
    let sizes: Vec<_> = train.iter().filter_map(|e| encoder.encode(e, None).ok()).map(|e| e.size()).collect();
    let up = |length: usize, least: usize, most: usize| length.next_multiple_of(64).clamp(least.min(most), most);
    let longest = |f: &dyn Fn(&needle_data::batching::pack::RowSize) -> usize| sizes.iter().map(f).max().unwrap_or(0);
    if !is_set("data.row_enc_tokens") {
        let enc = up(longest(&|s| s.enc), recipe.data.row_enc_tokens.longest(), start.config.max_enc_len);
        recipe.data.row_enc_tokens = OneOrMore::One(enc);
    }
    if !is_set("data.row_dec_tokens") {
        // Other values may be longer than those of the example.
        let dec = up(longest(&|s| s.dec) * 3 / 2, 128, start.config.max_dec_len);
        recipe.data.row_dec_tokens = OneOrMore::One(dec);
    }
    recipe.data.max_tool_tokens = recipe.data.max_tool_tokens.min(recipe.data.row_enc_tokens.longest());
    recipe.eval.max_tokens = recipe.eval.max_tokens.min(start.config.max_dec_len);
    if !is_set("steps") {
        let rows = sizes.iter().map(|s| s.enc).sum::<usize>().div_ceil(recipe.data.row_enc_tokens.longest());
        let rows = rows.max(sizes.iter().map(|s| s.dec).sum::<usize>().div_ceil(recipe.data.row_dec_tokens.longest()));
        recipe.steps = match base {
            Base::Checkpoint(_) => (EPOCHS * rows.div_ceil(recipe.data.rows)).max(LEAST_STEPS),
            Base::Scratch => STEPS_FROM_SCRATCH,
        };
    }
    if matches!(base, Base::Scratch) {
        // The rates of a model that begins: configs/quickstart.toml.
        for (key, rate, fresh) in
            [("optim.muon_lr", &mut recipe.optim.muon_lr, 0.02), ("optim.adamw_lr", &mut recipe.optim.adamw_lr, 1e-3)]
        {
            if !is_set(key) {
                *rate = fresh;
            }
        }
        recipe.eval.patience = recipe.eval.patience.filter(|_| is_set("eval.patience"));
    }
    if !is_set("eval.every_steps") {
        recipe.eval.every_steps = Some(recipe.steps.div_ceil(VALIDATIONS));
    }
    Ok(recipe)
}

/// Says what will happen and how long it will take, by one step and one answer.
fn announce<B: FusedOps>(recipe: &Recipe, start: &Start<Autodiff<B>>, parts: &Parts) -> Result<(), TrainError> {
    let encoder = Encoder::new(&start.tokenizer, encode_config(recipe))?;
    let examples: Vec<EncodedExample> = parts.train.iter().filter_map(|e| encoder.encode(e, None).ok()).collect();
    let sizes = recipe.data.row_sizes();
    let mut rows = pack_examples(examples.clone(), &sizes);
    // As many as a step has, however few examples there are.
    while !rows.is_empty() && rows.len() < recipe.data.rows {
        rows.extend(pack_examples(examples.clone(), &sizes));
    }
    let rows: Vec<Vec<&EncodedExample>> =
        rows.iter().take(recipe.data.rows).map(|row| row.examples.iter().collect()).collect();
    let batch = Batch::from_rows(&rows, recipe.data.max_retrieval_pairs);
    let step = || {
        let began = Instant::now();
        let (_, gradients) = forward_backward(&start.model, &batch, recipe, recipe.loss.contrastive_every_steps);
        let (gradients, _) = clip_global_norm(gradients, recipe.optim.clip_global_norm);
        let rates = LearningRates { muon: 0.0, adamw: 0.0 };
        let _ = Optimizer::new(&recipe.optim).step(start.model.clone(), gradients, rates);
        began.elapsed().as_secs_f64()
    };
    // The first is slower: pages, threads, caches.
    let seconds_per_step = [step(), step()][1];
    let asked: Vec<Example> = parts.train.iter().take(8).cloned().collect();
    let began = Instant::now();
    let inner = burn::module::AutodiffModule::valid(&start.model);
    let config = EvalConfig { max_tokens: 64, ..recipe.eval.clone() };
    evaluate::<B>(&inner, &encoder, &asked, Precision::Int4, &config, None, &mut |_| {})?;
    let seconds_per_answer = began.elapsed().as_secs_f64() / asked.len().max(1) as f64;
    let validation =
        parts.validation.len().min(recipe.eval.max_examples) * (VALIDATIONS + 1) + 2 * parts.validation.len();
    let answers = validation + 3 * parts.test.len();
    let total = recipe.steps as f64 * seconds_per_step + answers as f64 * seconds_per_answer;
    tracing::info!(
        "{} examples to train on, {} to validate on, {} to test on; {} steps of {:.2} s, {} answers of {:.3} s: about {}",
        parts.train.len(),
        parts.validation.len(),
        parts.test.len(),
        recipe.steps,
        seconds_per_step,
        answers,
        seconds_per_answer,
        in_words(total)
    );
    Ok(())
}

fn in_words(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

/// The checkpoint in `path` as it ships, on `examples`.
fn measure<B: FusedOps>(
    path: &Path,
    examples: &[Example],
    config: &EvalConfig,
    device: &B::Device,
) -> Result<(Evaluation, Vec<Prediction>), TrainError> {
    let checkpoint = Checkpoint::<B>::load(path, device)?;
    let encoder = Encoder::new(&checkpoint.tokenizer, limits(&checkpoint.config))?;
    let confidence = Confidence::load(path)?;
    let config = as_shipped(config);
    Ok(evaluate(&checkpoint.model, &encoder, examples, Precision::Int4, &config, confidence.as_ref(), &mut |_| {})?)
}

fn as_shipped(config: &EvalConfig) -> EvalConfig {
    EvalConfig { constrained: true, ..config.clone() }
}

/// Fits the confidence on the validation part, and puts it into the checkpoint; false where there are too few examples.
fn keep_confidence<B: FusedOps>(
    path: &Path,
    examples: &[Example],
    config: &EvalConfig,
    device: &B::Device,
) -> Result<bool, TrainError> {
    let checkpoint = Checkpoint::<B>::load(path, device)?;
    let encoder = Encoder::new(&checkpoint.tokenizer, limits(&checkpoint.config))?;
    let fitted = calibrate(&checkpoint.model, &encoder, examples, Precision::Int4, &as_shipped(config))?;
    Ok(fitted.map(|fitted| fitted.save(path)).transpose()?.is_some())
}
