//! A run's settings: one typed TOML file. Unknown keys are errors. Defaults and ranges
//! ([`crate::range`]) are defined here and nowhere else.

mod data;
mod optim;
mod schedule;
mod sizes;

use std::path::Path;

use needle_data::file;
use needle_data::tokenizer::TokenizerConfig;
use needle_model::SanConfig;
use needle_runtime::AnswerConfig;
use serde::{Deserialize, Serialize};

pub use data::{DataRecipe, OneOrMore};
pub use optim::{Group, OptimConfig};
pub use schedule::ScheduleConfig;
pub use sizes::Sizes;

use crate::error::TrainError;
use crate::range;
use crate::range::Allowed::{Below, Number, Section, Whole};
use crate::range::{MAX_STEPS, MAX_WHOLE, section};

section! {
    /// Everything that a run depends on, except for the data and the base checkpoint.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Recipe {
        /// Seed of initial weights, data order, shuffling and dropout.
        pub seed: u64 => Whole(0, MAX_WHOLE),
        /// Preset of the model's sizes; a base checkpoint brings its own.
        pub model: String,
        /// Sizes that replace the preset's.
        pub sizes: Sizes => Section(Sizes::KEYS),
        /// Number of optimizer steps.
        pub steps: usize => Whole(1, MAX_STEPS),
        /// Dropout probability of the attentions' outputs.
        pub dropout: f64 => Below(0.0, 1.0),
        /// Number of consecutive steps that may be skipped because a loss or gradient is not
        /// finite, before the run backs off or ends.
        pub max_skipped_steps: usize => Whole(0, MAX_STEPS),
        /// How often the run may back off, that is, return to its best checkpoint and continue with
        /// a tenth of its learning rates. It does so when too many steps are skipped, or when its
        /// loss rises far above the initial value.
        pub max_backoffs: usize => Whole(0, 100),
        /// The type of activations and matrix products. Weights, optimizer, norms, softmax and
        /// losses are f32.
        pub compute_dtype: ComputeDtype,
        /// Activation checkpointing: keeps only the input of each layer and recomputes the layer in
        /// the backward pass. It saves memory and costs time.
        pub activation_checkpointing: bool,
        /// The tokenizer to train, if no base checkpoint brings one.
        pub tokenizer: TokenizerConfig => Section(&[("vocab_size", Whole(264, 1 << 20))]),
        /// Reading, truncation, packing and augmentation of the data.
        pub data: DataRecipe => Section(DataRecipe::KEYS),
        /// Optimizers.
        pub optim: OptimConfig => Section(OptimConfig::KEYS),
        /// The learning-rate schedule.
        pub schedule: ScheduleConfig => Section(ScheduleConfig::KEYS),
        /// Weights of the losses.
        pub loss: LossConfig => Section(LossConfig::KEYS),
        /// Quantization-aware training for INT4.
        pub qat: QatConfig => Section(QatConfig::KEYS),
        /// Validation during training.
        pub eval: EvalConfig => Section(EvalConfig::KEYS),
        /// When the run is saved.
        pub checkpoint: CheckpointConfig => Section(CheckpointConfig::KEYS),
        /// Training over several processes.
        pub distributed: DistributedConfig,
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            seed: 0,
            model: "needle-26m".into(),
            sizes: Sizes::default(),
            steps: 1000,
            // The original's post-training; its pretraining has none.
            dropout: 0.1,
            // One bad batch is bad luck; several in a row mean a broken run.
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

/// The type of activations and matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// float32.
    F32,
    /// bfloat16, in which GPUs are fast.
    Bf16,
}

/// Training over several processes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DistributedConfig {
    /// The type in which gradients are sent.
    pub gradient_dtype: GradientDtype,
}

/// The type in which gradients are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GradientDtype {
    /// f32, unchanged.
    #[default]
    F32,
    /// bf16, rounded to nearest: half the bytes.
    Bf16,
}

section! {
    /// Weights of the losses.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct LossConfig {
        /// Weight of braces, quotes and markers.
        pub structure_weight: f32 => Number(0.0, 1e3),
        /// Weight of tool names.
        pub name_weight: f32 => Number(0.0, 1e3),
        /// Weight of argument names.
        pub key_weight: f32 => Number(0.0, 1e3),
        /// Weight of argument values.
        pub value_weight: f32 => Number(0.0, 1e3),
        /// Coefficient of the z-loss, the mean squared log-sum-exp.
        pub z_coefficient: f64 => Number(0.0, 1e3),
        /// Weight of the alignment loss, the negative logarithm of the last cross-attention's
        /// weight on the token that a value or a tool's name is copied from (docs/LOG.md, "Looking
        /// at what is copied").
        pub alignment_weight: f64 => Number(0.0, 1e3),
        /// Weight of the contrastive loss.
        pub contrastive_weight: f64 => Number(0.0, 1e3),
        /// Interval, in steps, at which the contrastive loss is computed.
        pub contrastive_every_steps: usize => Whole(1, MAX_STEPS),
    }
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
            alignment_weight: 0.0,
            contrastive_weight: 0.1,
            // A short finetune never reaches the original's 1000.
            contrastive_every_steps: 4,
        }
    }
}

section! {
    /// Quantization-aware training for INT4: when the forward pass uses quantized weights.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct QatConfig {
        /// Interval, in steps, at which a step uses quantized weights; with 0, only the steps of
        /// `final_fraction` do.
        #[serde(deserialize_with = "null_is_zero")]
        pub every_steps: usize => Whole(0, MAX_STEPS),
        /// Share of all steps, at the end of the run, that use quantized weights.
        pub final_fraction: f64 => Number(0.0, 1.0),
        /// Whether the embedding is quantized too.
        pub embedding: bool,
    }
}

impl Default for QatConfig {
    fn default() -> Self {
        // The interval is the original's, which has no final phase: what closes the gap between f32
        // and INT4 is the tail (docs/LOG.md, "Training for INT4").
        Self { every_steps: 100, final_fraction: 0.1, embedding: false }
    }
}

/// Reads the `null` by which runs of earlier builds said that there is no interval.
fn null_is_zero<'de, D: serde::Deserializer<'de>>(value: D) -> Result<usize, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or(0))
}

impl QatConfig {
    /// Whether step `step` (from 1) of `steps` uses quantized weights.
    pub fn applies(&self, step: usize, steps: usize) -> bool {
        let tail = steps - (steps as f64 * self.final_fraction).round() as usize;
        step > tail || (self.every_steps > 0 && step.is_multiple_of(self.every_steps))
    }
}

section! {
    /// Validation during training.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct EvalConfig {
        /// Steps between validations, besides the one at the end.
        pub every_steps: Option<usize> => Whole(1, MAX_STEPS),
        /// Also validates before the first step, so that the best checkpoint is never worse than
        /// the run's start.
        pub at_start: bool,
        /// Largest number of examples of a validation during training.
        pub max_examples: usize => Whole(1, 1 << 30),
        /// Prompts decoded together.
        pub batch_size: usize => Whole(1, 4096),
        /// Largest number of tokens of an answer.
        pub max_tokens: usize => Whole(1, 1 << 20),
        /// Whether decoding is constrained to what the offered tools allow.
        pub constrained: bool,
        /// Largest number of calls of a constrained answer.
        pub max_calls: usize => Whole(1, 256),
        /// Patience for early stopping: number of validations without a better result after which
        /// the run ends. Without it, the run takes all its steps.
        pub patience: Option<usize> => Whole(1, MAX_STEPS),
    }
}

impl EvalConfig {
    /// How a model answers when it is validated by this recipe.
    pub fn answer_config(&self) -> AnswerConfig {
        let Self { constrained, max_calls, max_tokens, batch_size, .. } = *self;
        AnswerConfig { constrained, max_calls, max_tokens: Some(max_tokens), batch_size, ..AnswerConfig::default() }
    }
}

impl Default for EvalConfig {
    fn default() -> Self {
        let answers = AnswerConfig::default();
        Self {
            every_steps: Some(500),
            at_start: false,
            max_examples: 256,
            batch_size: answers.batch_size,
            max_tokens: 256,
            constrained: false,
            max_calls: answers.max_calls,
            patience: None,
        }
    }
}

section! {
    /// When the run is saved.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct CheckpointConfig {
        /// Steps between saves, besides those at each validation, at the end and on a signal.
        pub every_steps: Option<usize> => Whole(1, MAX_STEPS),
        /// Number of checkpoints that are kept: the newest is `last/`, those before it `step-N/`.
        /// The best is kept in addition.
        pub keep_last: usize => Whole(1, 1_000_000),
    }
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every_steps: Some(500), keep_last: 1 }
    }
}

impl Recipe {
    /// Reads a recipe and applies overrides of the form `section.key=value`, where the value is
    /// TOML (a bare word is a string).
    ///
    /// # Errors
    /// If the file or an override cannot be read, a key is unknown or has the wrong type, or a
    /// number is out of its range; the message names it.
    pub fn load(path: Option<&Path>, overrides: &[String]) -> Result<Self, TrainError> {
        let error = |reason: String| TrainError::Recipe { path: path.map(Path::to_owned), reason };
        let text = match path {
            Some(path) => file::read_text(path)?,
            None => String::new(),
        };
        Self::parse(&text, overrides).map_err(error)
    }

    /// As [`Recipe::load`], from text.
    ///
    /// # Errors
    /// If the text or an override is invalid; the message names the key.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self, String> {
        let mut table: toml::Table = toml::from_str(text).map_err(|e| e.to_string())?;
        range::check(&table, Self::KEYS)?;
        // Parsed first without overrides, because these messages have line numbers.
        let plain: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        if overrides.is_empty() {
            plain.validate()?;
            return Ok(plain);
        }
        for text in overrides {
            let (key, value) = text.split_once('=').ok_or_else(|| format!("--set {text}: expected key=value"))?;
            let value = parse_value(value.trim());
            set(&mut table, key.trim(), value).map_err(|reason| format!("--set {text}: {reason}"))?;
        }
        range::check(&table, Self::KEYS).map_err(|reason| format!("with --set: {reason}"))?;
        // Serialized and parsed again, so that the message shows the wrong line.
        let recipe: Self = toml::from_str(&table.to_string()).map_err(|e| format!("with --set: {e}"))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Checks combinations of keys; [`Recipe::KEYS`] has the range of each.
    fn validate(&self) -> Result<(), String> {
        let model = self.model_config()?;
        if let Some(lanes) = self.data.lanes.filter(|lanes| !self.data.rows.is_multiple_of(*lanes)) {
            return Err(format!("data.lanes is {lanes}, which does not divide data.rows = {}", self.data.rows));
        }
        if self.loss.class_weights().iter().all(|weight| *weight == 0.0) {
            return Err(
                "loss.structure_weight, name_weight, key_weight and value_weight are all 0: nothing would be learned"
                    .into(),
            );
        }
        self.data.validate()?;
        self.fits(&model)
    }

    /// The sizes of a new model. Its vocabulary is the preset's until there is a tokenizer.
    ///
    /// # Errors
    /// If there is no such preset, or the sizes do not fit each other.
    pub fn model_config(&self) -> Result<SanConfig, String> {
        self.sizes.of(SanConfig::preset(&self.model).map_err(|e| e.to_string())?)
    }

    /// Checks that the recipe fits `model`.
    ///
    /// # Errors
    /// If rows or answers are longer than `model` has positions for, or the warmup is longer than
    /// the run.
    pub fn fits(&self, model: &SanConfig) -> Result<(), String> {
        for (key, tokens, most) in [
            ("data.row_enc_tokens", self.data.row_enc_tokens.longest(), model.max_enc_len),
            ("data.row_dec_tokens", self.data.row_dec_tokens.longest(), model.max_dec_len),
            ("eval.max_tokens", self.eval.max_tokens, model.max_dec_len),
        ] {
            if tokens > most {
                return Err(format!("{key} is {tokens}, expected at most the {most} positions of the model"));
            }
        }
        let (warmup, steps) = (self.schedule.warmup_steps, self.steps);
        if warmup > steps {
            return Err(format!("schedule.warmup_steps is {warmup}, expected at most steps = {steps}"));
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
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sizes_replace_those_of_the_preset_and_must_fit_each_other() {
        let recipe = Recipe::parse("model = \"mini\"\n[sizes]\nnum_encoder_layers = 6", &[]).unwrap();
        let (mini, config) = (SanConfig::preset("mini").unwrap(), recipe.model_config().unwrap());
        assert_eq!(config, SanConfig { num_encoder_layers: 6, ..mini });
        let error = Recipe::parse("model = \"mini\"", &["sizes.num_heads=5".into()]).unwrap_err();
        assert!(error.contains("192 is not a multiple of num_heads = 5"), "{error}");
    }

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
            "eval.max_tokens=64",
            "schedule.warmup_steps=2",
        ];
        let recipe = Recipe::parse("steps = 5", &overrides.map(str::to_owned)).unwrap();
        assert_eq!((recipe.steps, recipe.optim.muon_lr, recipe.model.as_str()), (7, 0.5, "tiny"));
        assert_eq!(recipe.qat.every_steps, 3);
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
            ("steps = 0", "", "steps is 0, expected a whole number from 1 to 1000000000"),
            ("", "data.rows=0", "with --set: data.rows is 0, expected a whole number from 1 to 65536"),
            ("", "optim.muon_lr=fast", "optim.muon_lr is \"fast\", expected a number from 0.0 to 1e30"),
            ("", "data.lanes=3", "data.lanes is 3, which does not divide data.rows = 8"),
            ("", "steps=20", "schedule.warmup_steps is 50, expected at most steps = 20"),
            ("", "eval.max_tokens=600", "eval.max_tokens is 600, expected at most the 512"),
            ("", "data.row_enc_tokens=[64, 0]", "data.row_enc_tokens is 0, expected"),
            ("[[data.sources]]\npaths = []\nweight = -1", "", "data.sources.weight is -1, expected"),
            ("loss = { structure_weight = 0, name_weight = 0, key_weight = 0, value_weight = 0 }", "", "all 0"),
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

    /// Every key of a serialized recipe that holds a number or null, except within lists of
    /// sections.
    fn number_keys(value: &serde_json::Value, prefix: &str, out: &mut Vec<String>) {
        for (name, value) in value.as_object().unwrap() {
            let key = format!("{prefix}{name}");
            match value {
                serde_json::Value::Object(_) => number_keys(value, &format!("{key}."), out),
                serde_json::Value::Number(_) | serde_json::Value::Null => out.push(key),
                _ => {}
            }
        }
    }

    /// What 0 means where it is allowed.
    const ZERO_MEANS: [(&str, &str); 38] = [
        ("seed", "a seed as good as any"),
        ("dropout", "nothing is dropped"),
        ("max_skipped_steps", "the first step that is not finite ends the run"),
        ("max_backoffs", "the run never goes back"),
        ("data.max_bad_fraction", "no row may be left out"),
        ("data.max_retrieval_pairs", "the retrieval head does not learn"),
        ("data.withheld_fraction", "never"),
        ("data.other_values_fraction", "never"),
        ("data.made_up_fraction", "never"),
        ("data.renamed_fraction", "never"),
        ("data.meaningless_fraction", "never"),
        ("data.reworded_fraction", "never"),
        ("data.distractors_fraction", "never"),
        ("data.joined_fraction", "never"),
        ("data.negated_fraction", "never"),
        ("data.stripped_fraction", "never"),
        ("data.out_of_bounds_fraction", "never"),
        ("data.no_parameters_fraction", "never"),
        ("optim.muon_lr", "what Muon trains stays as it is"),
        ("optim.muon_momentum", "none"),
        ("optim.muon_weight_decay", "none"),
        ("optim.adamw_lr", "what AdamW trains stays as it is"),
        ("optim.adamw_beta1", "no memory of gradients"),
        ("optim.adamw_beta2", "no memory of squares"),
        ("optim.adamw_weight_decay", "none"),
        ("optim.embedding_lr_scale", "the embedding stays as it is"),
        ("schedule.warmup_steps", "the first step has the full rate"),
        ("schedule.decay_ratio", "the rate never falls"),
        ("schedule.final_fraction", "the rate falls to 0"),
        ("loss.structure_weight", "such tokens do not count"),
        ("loss.name_weight", "such tokens do not count"),
        ("loss.key_weight", "such tokens do not count"),
        ("loss.value_weight", "such tokens do not count"),
        ("loss.z_coefficient", "no such loss"),
        ("loss.alignment_weight", "no such loss"),
        ("loss.contrastive_weight", "no such loss"),
        ("qat.every_steps", "only the tail is quantized"),
        ("qat.final_fraction", "no such tail"),
    ];

    #[test]
    fn every_number_of_a_recipe_has_a_range_and_a_wild_value_is_refused_with_its_key() {
        let mut keys = Vec::new();
        number_keys(&serde_json::to_value(Recipe::default()).unwrap(), "", &mut keys);
        assert!(keys.len() > 40, "{keys:?}");
        let mut zero_is_allowed = Vec::new();
        for key in &keys {
            for value in ["0", "-1", "nan", "inf", "-inf", "9223372036854775808", "1e300"] {
                let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
                let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
                let by_file = Recipe::parse(&format!("{header}{name} = {value}"), &[]);
                let by_override = Recipe::parse("", &[format!("{key}={value}")]);
                match (by_file, by_override) {
                    (Ok(_), Ok(_)) if value == "0" => zero_is_allowed.push(key.as_str()),
                    (Err(in_file), Err(in_override)) => {
                        let expected = if value == "9223372036854775808" { name } else { key };
                        assert!(in_file.contains(expected), "{key} = {value} in a file: {in_file}");
                        let names_all =
                            in_override.contains(&format!("{key} is")) && in_override.contains("expected a");
                        assert!(names_all, "--set {key}={value}: {in_override}");
                    }
                    (by_file, by_override) => panic!("{key} = {value}: {by_file:?} and {by_override:?}"),
                }
            }
        }
        let expected: BTreeSet<&str> = ZERO_MEANS.iter().map(|(key, _)| *key).collect();
        assert_eq!(BTreeSet::from_iter(zero_is_allowed), expected);
    }

    #[test]
    fn a_resumed_recipe_is_checked_like_a_file() {
        let mut json = serde_json::to_value(Recipe::default()).unwrap();
        range::check_json(&json, Recipe::KEYS).unwrap();
        json["optim"]["lora_rank"] = u64::MAX.into();
        let error = range::check_json(&json, Recipe::KEYS).unwrap_err();
        assert!(error.starts_with("optim.lora_rank is 1.8446744073709552e19, expected a whole number"), "{error}");
        // Runs of earlier builds have no interval.
        let old: QatConfig = serde_json::from_value(serde_json::json!({"every_steps": null})).unwrap();
        assert_eq!(old.every_steps, 0);
    }

    #[test]
    fn qat_comes_at_its_interval_and_in_the_tail() {
        let qat = QatConfig { every_steps: 10, final_fraction: 0.2, embedding: false };
        let steps: Vec<usize> = (1..=50).filter(|&s| qat.applies(s, 50)).collect();
        assert_eq!(steps, [10, 20, 30, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50]);
        let never = QatConfig { every_steps: 0, final_fraction: 0.0, embedding: false };
        assert!((1..=50).all(|s| !never.applies(s, 50)));
    }
}
