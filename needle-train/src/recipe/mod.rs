//! A run's settings: one typed TOML file. Unknown keys are errors; each default stands here and nowhere else.

mod data;

use std::path::Path;

use needle_data::tokenizer::TokenizerConfig;
use needle_model::SanConfig;
use serde::{Deserialize, Serialize};

pub use data::{DataRecipe, OneOrMore};

use crate::error::TrainError;
use crate::optim::OptimConfig;
use crate::training::schedule::ScheduleConfig;

/// Everything that a run depends on, but for the data and the base checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Seed of initial weights, order, shuffling and dropout.
    pub seed: u64,
    /// Preset of the model's sizes; a base checkpoint brings its own.
    pub model: String,
    /// Number of optimizer steps.
    pub steps: usize,
    /// Probability of dropping an element of an attention's output.
    pub dropout: f64,
    /// Steps in a row that may be skipped because a loss or gradient is not finite, before the run ends.
    pub max_skipped_steps: usize,
    /// How often a run that goes wrong (its loss is not finite, or rises far beyond where it began) may go back to its best
    /// checkpoint and on with a tenth of its rates, before it ends.
    pub max_backoffs: usize,
    /// What activations and products of matrices are computed in. Weights, optimizer, norms, softmax and losses are f32.
    pub compute_dtype: ComputeDtype,
    /// Keeps only the input of each layer for the backward pass, which computes the layer once more: less memory, slower.
    pub activation_checkpointing: bool,
    /// The tokenizer to train, where no base checkpoint brings one.
    pub tokenizer: TokenizerConfig,
    /// Reading, cutting and packing.
    pub data: DataRecipe,
    /// Optimizers.
    pub optim: OptimConfig,
    /// Learning rates over time.
    pub schedule: ScheduleConfig,
    /// Weights of the losses.
    pub loss: LossConfig,
    /// Training for INT4.
    pub qat: QatConfig,
    /// Validation while training.
    pub eval: EvalConfig,
    /// When the run is saved.
    pub checkpoint: CheckpointConfig,
    /// Several processes as one run.
    pub distributed: DistributedConfig,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            seed: 0,
            model: "needle-26m".into(),
            steps: 1000,
            // The original's post-training; its pretraining has none.
            dropout: 0.1,
            // One bad batch is bad luck; several in a row are a broken run.
            max_skipped_steps: 3,
            max_backoffs: 0,
            compute_dtype: ComputeDtype::F32,
            activation_checkpointing: false,
            tokenizer: TokenizerConfig::default(),
            data: DataRecipe::default(),
            optim: OptimConfig::default(),
            schedule: ScheduleConfig::default(),
            loss: LossConfig::default(),
            qat: QatConfig::default(),
            eval: EvalConfig::default(),
            checkpoint: CheckpointConfig::default(),
            distributed: DistributedConfig::default(),
        }
    }
}

/// What activations and products of matrices are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// 32 bits.
    F32,
    /// 16 bits with the exponents of f32: what GPUs are fast in.
    Bf16,
}

/// Several processes as one run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DistributedConfig {
    /// What a gradient travels as.
    pub gradient_dtype: GradientDtype,
}

/// What a gradient travels as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GradientDtype {
    /// As it is.
    #[default]
    F32,
    /// Rounded to nearest: half the bytes.
    Bf16,
}

/// Weights of the losses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Weight of braces, quotes and markers.
    pub structure_weight: f32,
    /// Weight of tool names.
    pub name_weight: f32,
    /// Weight of argument names.
    pub key_weight: f32,
    /// Weight of argument values.
    pub value_weight: f32,
    /// Coefficient of the mean squared log-sum-exp.
    pub z_coefficient: f64,
    /// Weight of the contrastive loss.
    pub contrastive_weight: f64,
    /// Steps between contrastive losses.
    pub contrastive_every_steps: usize,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            // The original's command line and documentation.
            structure_weight: 1.0,
            name_weight: 2.0,
            key_weight: 1.5,
            value_weight: 4.0,
            z_coefficient: 1e-4,
            contrastive_weight: 0.1,
            // The original's 1000 never comes in a short finetune.
            contrastive_every_steps: 4,
        }
    }
}

/// Training for INT4: when the forward pass sees quantized weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QatConfig {
    /// Every so many steps; never, if not given.
    pub every_steps: Option<usize>,
    /// In the last part of the steps, as a fraction of all.
    pub final_fraction: f64,
    /// Whether the embedding is quantized too.
    pub embedding: bool,
}

impl Default for QatConfig {
    fn default() -> Self {
        // The original has every 100th step and no tail; see docs/LOG.md, "Training for INT4".
        Self { every_steps: None, final_fraction: 0.1, embedding: false }
    }
}

impl QatConfig {
    /// Whether step `step` (from 1) of `steps` sees quantized weights.
    pub fn applies(&self, step: usize, steps: usize) -> bool {
        let tail = steps - (steps as f64 * self.final_fraction).round() as usize;
        step > tail || self.every_steps.is_some_and(|every| step.is_multiple_of(every.max(1)))
    }
}

/// Validation while training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Steps between validations; only at the end, if not given.
    pub every_steps: Option<usize>,
    /// Validates before the first step too, so that the best checkpoint is never worse than what the run began with.
    pub at_start: bool,
    /// Most examples of a validation while training.
    pub max_examples: usize,
    /// Prompts decoded together.
    pub batch_size: usize,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Whether only what the offered tools allow can be written.
    pub constrained: bool,
    /// Most calls of a constrained answer.
    pub max_calls: usize,
    /// Validations without a better result after which the run ends; never before its last step, if not given.
    pub patience: Option<usize>,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            every_steps: Some(500),
            at_start: false,
            max_examples: 256,
            batch_size: 32,
            max_tokens: 256,
            constrained: false,
            // More than any of the datasets in docs/LOG.md asks for.
            max_calls: 8,
            patience: None,
        }
    }
}

/// When the run is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between saves, beside those at each validation, at the end and on a signal.
    pub every_steps: Option<usize>,
    /// Checkpoints kept: the newest is `last/`, those before it `step-N/`. The best is kept besides.
    pub keep_last: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every_steps: Some(500), keep_last: 1 }
    }
}

impl Recipe {
    /// Reads a recipe and applies overrides of the form `section.key=value`, value in TOML (a bare word is a string).
    ///
    /// # Errors
    /// If the file or an override cannot be read, or a key is unknown or has the wrong type; the message names it.
    pub fn load(path: Option<&Path>, overrides: &[String]) -> Result<Self, TrainError> {
        let error = |reason: String| TrainError::Recipe { path: path.map(Path::to_owned), reason };
        let text = match path {
            Some(path) => std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?,
            None => String::new(),
        };
        Self::parse(&text, overrides).map_err(error)
    }

    /// As [`Recipe::load`], from text.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self, String> {
        // Read once as it stands: these messages have lines.
        let plain: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        if overrides.is_empty() {
            plain.validate()?;
            return Ok(plain);
        }
        let mut table: toml::Table = toml::from_str(text).map_err(|e| e.to_string())?;
        for text in overrides {
            let (key, value) = text.split_once('=').ok_or_else(|| format!("--set {text}: expected key=value"))?;
            let value = parse_value(value.trim());
            set(&mut table, key.trim(), value).map_err(|reason| format!("--set {text}: {reason}"))?;
        }
        // Written out and read again, so that the message shows the line that is wrong.
        let recipe: Self = toml::from_str(&table.to_string()).map_err(|e| format!("with --set: {e}"))?;
        recipe.validate()?;
        Ok(recipe)
    }

    fn validate(&self) -> Result<(), String> {
        let model = SanConfig::preset(&self.model).map_err(|e| e.to_string())?;
        let positive = [
            ("steps", self.steps),
            ("data.rows", self.data.rows),
            ("data.lanes", self.data.lanes.unwrap_or(1)),
            ("data.micro_batches", self.data.micro_batches),
            ("data.pack_window", self.data.pack_window),
            ("data.shuffle_buffer_mb", self.data.shuffle_buffer_mb),
            ("data.files_at_once", self.data.files_at_once),
            ("data.threads", self.data.threads.unwrap_or(1)),
            ("loss.contrastive_every_steps", self.loss.contrastive_every_steps),
            ("checkpoint.keep_last", self.checkpoint.keep_last),
            ("eval.batch_size", self.eval.batch_size),
            ("eval.max_tokens", self.eval.max_tokens),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{key} must be at least 1"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!("dropout must be at least 0 and below 1, is {}", self.dropout));
        }
        if !(0.0..=1.0).contains(&self.qat.final_fraction) {
            return Err(format!("qat.final_fraction must be between 0 and 1, is {}", self.qat.final_fraction));
        }
        self.data.validate()?;
        self.schedule.validate()?;
        self.optim.validate()?;
        self.fits(&model)
    }

    /// # Errors
    /// If rows are longer than `model` has positions for.
    pub fn fits(&self, model: &SanConfig) -> Result<(), String> {
        for (key, row, most) in [
            ("data.row_enc_tokens", self.data.row_enc_tokens.longest(), model.max_enc_len),
            ("data.row_dec_tokens", self.data.row_dec_tokens.longest(), model.max_dec_len),
        ] {
            if row > most {
                return Err(format!("{key} is {row}, the model reads {most}"));
            }
        }
        Ok(())
    }

    /// The keys that differ from `other`, each with this recipe's value and the other's.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        fn flatten(value: &toml::Value, key: String, out: &mut std::collections::BTreeMap<String, String>) {
            match value {
                toml::Value::Table(table) => {
                    for (name, value) in table {
                        flatten(value, if key.is_empty() { name.clone() } else { format!("{key}.{name}") }, out);
                    }
                }
                value => _ = out.insert(key, value.to_string()),
            }
        }
        let flat = |recipe: &Self| {
            let mut out = std::collections::BTreeMap::new();
            if let Ok(value) = toml::Value::try_from(recipe) {
                flatten(&value, String::new(), &mut out);
            }
            out
        };
        let (ours, theirs) = (flat(self), flat(other));
        let keys: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let not_given = "not given".to_owned();
        keys.into_iter()
            .map(|key| (key, ours.get(key).unwrap_or(&not_given), theirs.get(key).unwrap_or(&not_given)))
            .filter(|(_, ours, theirs)| ours != theirs)
            .map(|(key, ours, theirs)| format!("{key} is {ours}, was {theirs}"))
            .collect()
    }

    /// The recipe as a TOML file.
    pub fn to_toml(&self) -> String {
        #[expect(clippy::expect_used, reason = "tables of numbers and strings")]
        toml::to_string_pretty(self).expect("a recipe can be written as TOML")
    }
}

fn parse_value(text: &str) -> toml::Value {
    let document: Result<toml::Table, _> = toml::from_str(&format!("value = {text}"));
    let value = document.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn set(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<(), String> {
    let (section, rest) = match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            return Ok(());
        }
        Some(parts) => parts,
    };
    let inner = table.entry(section).or_insert_with(|| toml::Table::new().into());
    match inner.as_table_mut() {
        Some(inner) => set(inner, rest, value),
        None => Err(format!("{section} is a value, not a section")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_recipe_is_the_default_and_survives_the_round_trip() {
        let recipe = Recipe::parse("", &[]).unwrap();
        assert_eq!(recipe, Recipe::default());
        assert_eq!(Recipe::parse(&recipe.to_toml(), &[]).unwrap(), recipe);
    }

    #[test]
    fn overrides_reach_into_sections() {
        let overrides = [
            "steps=7",
            "optim.muon_lr=0.5",
            "model=tiny",
            "qat.every_steps = 3",
            "data.row_enc_tokens=64",
            "data.row_dec_tokens=64",
        ];
        let recipe = Recipe::parse("steps = 5", &overrides.map(str::to_owned)).unwrap();
        assert_eq!((recipe.steps, recipe.optim.muon_lr, recipe.model.as_str()), (7, 0.5, "tiny"));
        assert_eq!(recipe.qat.every_steps, Some(3));
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (text, set, expected) in [
            ("stepps = 5", "", "stepps"),
            ("[optim]\nlr = 1", "", "lr"),
            ("", "optim.lr=1", "lr"),
            ("", "steps", "expected key=value"),
            ("", "steps=many", "steps"),
            ("", "steps.x=1", "steps"),
            ("steps = 0", "", "steps must be at least 1"),
            ("model = \"huge\"", "", "huge"),
            ("", "dropout=1", "dropout"),
            ("", "data.row_enc_tokens=9999", "data.row_enc_tokens is 9999"),
            ("", "data.row_enc_tokens=[64, 128]", "2 lengths and data.row_dec_tokens 1"),
            ("data = { row_enc_tokens = [128, 64], row_dec_tokens = [8, 16] }", "", "must ascend"),
            ("", "data.max_bad_fraction=2", "max_bad_fraction"),
        ] {
            let overrides: Vec<String> = if set.is_empty() { vec![] } else { vec![set.to_owned()] };
            let error = Recipe::parse(text, &overrides).unwrap_err();
            assert!(error.contains(expected), "{text:?} {set:?}: {error}");
        }
    }

    #[test]
    fn qat_comes_at_its_interval_and_in_the_tail() {
        let qat = QatConfig { every_steps: Some(10), final_fraction: 0.2, embedding: false };
        let steps: Vec<usize> = (1..=50).filter(|&s| qat.applies(s, 50)).collect();
        assert_eq!(steps, [10, 20, 30, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50]);
        let never = QatConfig { every_steps: None, final_fraction: 0.0, embedding: false };
        assert!((1..=50).all(|s| !never.applies(s, 50)));
    }
}
