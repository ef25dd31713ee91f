//! From generated data to an answered query in minutes: data, tokenizer, training, evaluation,
//! artifact.

use std::path::PathBuf;

use burn::backend::Autodiff;
use needle_data::order::stream::Sources;
use needle_data::synth::{Generator, Part, SynthConfig};
use needle_data::text::record::Record;
use needle_data::{DataError, Encoder, Example, Tokenizer, Tool};
use needle_model::FusedOps;

use crate::artifact::{self, Format};
use crate::distributed::World;
use crate::error::TrainError;
use crate::eval::Evaluation;
use crate::out_dir::OutDir;
use crate::recipe::Recipe;
use crate::run::directory::{Existing, RunDir};
use crate::training::trainer;
use crate::training::trainer::{RunOptions, Start};

/// The recipe, as in the repository.
pub const RECIPE: &str = include_str!("../../configs/quickstart.toml");

/// The generator's categories that the quickstart uses, so that there are fewer tools to learn.
const CATEGORIES: [&str; 4] = ["timers", "messaging", "smart_home", "lists"];
const TRAIN_EXAMPLES: usize = 40_000;
const HELD_OUT_EXAMPLES: usize = 400;
const TOKENIZER_EXAMPLES: usize = 4000;

/// A query for the finished model, with the tools that are offered.
pub struct Sample {
    /// The query.
    pub query: &'static str,
    /// Names of the offered tools.
    pub tools: &'static [&'static str],
}

/// Sample queries, each with tools that no training example offers together.
pub const SAMPLES: [Sample; 3] = [
    Sample {
        query: "wake me up at half past six in the morning",
        tools: &["set_alarm", "read_messages", "set_reminder"],
    },
    Sample { query: "text Marisol I am running late", tools: &["create_note", "send_message", "set_thermostat"] },
    Sample { query: "dim the kitchen lights to 35 percent", tools: &["set_light", "start_timer", "add_todo"] },
];

/// The generator's settings.
pub fn synth(part: Part, seed: u64) -> SynthConfig {
    SynthConfig {
        seed,
        part,
        num_tools: (1, 3),
        max_calls: 1,
        // Twice the usual share in training, because declining is learned last.
        no_call_fraction: if part == Part::Train { 0.2 } else { 0.08 },
        brief: true,
        categories: CATEGORIES.map(str::to_owned).to_vec(),
        never_together: SAMPLES.iter().map(|s| s.tools.iter().map(|t| (*t).to_owned()).collect()).collect(),
        ..SynthConfig::default()
    }
}

/// The generated data.
pub struct Data {
    /// Training examples: common values, and never the tools of a sample together.
    pub train: Vec<Example>,
    /// Held-out examples: the values in other sentences, and values that training never shows.
    pub held_out: Vec<Example>,
}

/// Generates training and held-out examples; no query is in both.
///
/// # Errors
/// If the generator has none of the categories.
pub fn data(seed: u64) -> Result<Data, DataError> {
    let train: Vec<Example> = Generator::new(synth(Part::Train, seed))?.take(TRAIN_EXAMPLES).collect();
    let seen: std::collections::HashSet<String> =
        train.iter().map(|e| needle_data::order::split::query_key(&e.query)).collect();
    let held_out = Generator::new(synth(Part::HeldOut, seed))?;
    let held_out = held_out.filter(|e| !seen.contains(&needle_data::order::split::query_key(&e.query)));
    let held_out = held_out.take(HELD_OUT_EXAMPLES).collect();
    Ok(Data { train, held_out })
}

/// The tools of a sample, as in training.
pub fn sample_tools(sample: &Sample) -> Vec<Tool> {
    let catalog = needle_data::synth::catalog();
    let named = |name: &&str| catalog.iter().find(|t| t.name == **name).map(|t| t.tool(true));
    sample.tools.iter().filter_map(named).collect()
}

/// The result of a quickstart.
pub struct Report {
    /// The artifact's directory.
    pub artifact: PathBuf,
    /// Held-out evaluation at f32 and INT4.
    pub evaluations: Vec<Evaluation>,
    /// Seconds of training.
    pub train_seconds: f64,
    /// The step after which the run was asked to stop, if it was; the artifact is then missing.
    pub stopped_at: Option<usize>,
}

/// Trains, evaluates and exports into the directory `run`.
///
/// # Errors
/// If something cannot be written, or training fails.
pub fn run<B: FusedOps>(
    run: &RunDir,
    recipe: &Recipe,
    data: Data,
    device: &B::Device,
    options: RunOptions,
) -> Result<Report, TrainError> {
    let _claim = run.claim(options.existing)?;
    let artifact = run.path().join("int4");
    let is_new = options.existing == Existing::Refuse;
    // Check the destination before minutes of training, not after.
    let export = OutDir::new(&artifact, &run.last(), !is_new)?;
    let start = if options.existing == Existing::Resume {
        Start::<Autodiff<B>>::resume(&run.last(), None, recipe, device)?
    } else {
        let texts: Vec<String> = data.train.iter().take(TOKENIZER_EXAMPLES).flat_map(Encoder::texts).collect();
        let tokenizer = Tokenizer::train(&recipe.tokenizer, texts.iter())?;
        Start::new(tokenizer, recipe, device)?
    };
    let held_out: Vec<Record> = data.held_out.into_iter().map(Record::ToolCall).collect();
    let outcome =
        trainer::train(start, recipe, &Sources::memory(data.train), &held_out, run, options, &World::default())?;
    let (evaluations, train_seconds) = (outcome.validation, outcome.train_seconds);
    if outcome.stopped_at.is_none() {
        artifact::export(&run.result(), Format::NeedleRs, &export, true)?;
    }
    Ok(Report { artifact, evaluations, train_seconds, stopped_at: outcome.stopped_at })
}
