//! The settings of a run: one typed TOML file. Unknown keys are errors; each default is defined
//! beside its type.

use std::path::Path;

use needle_data::DataError;
use serde::{Deserialize, Serialize};

use crate::client::ClientConfig;
use crate::error::TeacherError;
use crate::plan::PlanConfig;
use crate::tokens::Price;
use crate::trust::TrustConfig;

/// Everything that a run depends on, except the endpoint, the tools and the limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TeacherConfig {
    /// Seed of the plan.
    pub seed: u64,
    /// Maximum number of times that a task is asked: each round asks again for rejected rows.
    pub rounds: usize,
    /// The model that writes.
    pub teacher: ModelConfig,
    /// The model that judges rows; no judge if it has no name.
    pub judge: JudgeConfig,
    /// How requests are sent to the endpoint.
    pub client: ClientConfig,
    /// What is asked for.
    pub plan: PlanConfig,
    /// Which rows are kept.
    pub trust: TrustConfig,
}

impl Default for TeacherConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            rounds: 3,
            teacher: ModelConfig::default(),
            judge: JudgeConfig::default(),
            client: ClientConfig::default(),
            plan: PlanConfig::default(),
            trust: TrustConfig::default(),
        }
    }
}

/// A model and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Its name at the endpoint.
    pub model: String,
    /// Price per million tokens; without it, no cost is reported or limited.
    pub price: Option<Price>,
    /// Sampling temperature; the endpoint's default, if not given.
    pub temperature: Option<f64>,
    /// Maximum number of tokens of an answer, reasoning included.
    pub max_answer_tokens: u64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self { model: String::new(), price: None, temperature: None, max_answer_tokens: 4096 }
    }
}

/// The model that judges rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeConfig {
    /// Its name at the endpoint.
    pub model: Option<String>,
    /// Price per million tokens; the teacher's price, if not given.
    pub price: Option<Price>,
    /// Number of opinions per row, of which more than half must accept it.
    pub votes: usize,
    /// Maximum number of tokens of an opinion, reasoning included.
    pub max_answer_tokens: u64,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        Self { model: None, price: None, votes: 1, max_answer_tokens: 1024 }
    }
}

impl TeacherConfig {
    /// Reads a file of settings; `None` gives the defaults.
    ///
    /// # Errors
    /// If it cannot be read, or has an unknown key; the message names file and line.
    pub fn load(path: Option<&Path>) -> Result<Self, TeacherError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let io = |error| DataError::io(path, error);
        let text = std::fs::read_to_string(path).map_err(io)?;
        Ok(toml::from_str(&text).map_err(|error| io(std::io::Error::other(error.to_string())))?)
    }

    /// # Errors
    /// If a value is invalid.
    pub fn validate(&self) -> Result<(), TeacherError> {
        let check = |is_right: bool, field, reason: &str| {
            is_right.then_some(()).ok_or_else(|| TeacherError::config(field, reason))
        };
        let is_price = |price: &Option<Price>| {
            price.is_none_or(|p| [p.input, p.output].iter().all(|x| x.is_finite() && *x >= 0.0))
        };
        check(!self.teacher.model.trim().is_empty(), "model", "expected the name of a model")?;
        check((1..=20).contains(&self.rounds), "rounds", "expected 1 to 20")?;
        check((1..=15).contains(&self.judge.votes), "judge.votes", "expected 1 to 15")?;
        check(is_price(&self.teacher.price), "teacher.price", "expected numbers of at least 0")?;
        check(is_price(&self.judge.price), "judge.price", "expected numbers of at least 0")?;
        check(self.teacher.max_answer_tokens > 0, "teacher.max_answer_tokens", "must be at least 1")?;
        check(self.judge.max_answer_tokens > 0, "judge.max_answer_tokens", "must be at least 1")?;
        self.client.validate()?;
        self.trust.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;

    #[test]
    fn a_file_sets_what_it_names_and_a_misspelt_key_is_shown_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("teacher.toml");
        std::fs::write(&path, "rounds = 2\n[plan.kinds]\nindirect = 0.5\n[teacher.price]\ninput = 1.5\noutput = 6\n")
            .unwrap();
        let config = TeacherConfig::load(Some(&path)).unwrap();
        assert_eq!((config.rounds, config.plan.kinds[&Kind::Indirect]), (2, 0.5));
        assert_eq!(config.teacher.price, Some(Price { input: 1.5, output: 6.0 }));
        std::fs::write(&path, "rounds = 2\nconcurency = 3\n").unwrap();
        let error = TeacherConfig::load(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("teacher.toml") && error.contains("line 2") && error.contains("concurency"), "{error}");
    }

    #[test]
    fn a_run_needs_a_model_and_numbers_that_make_sense() {
        let error = |change: fn(&mut TeacherConfig)| {
            let mut config = TeacherConfig::default();
            config.teacher.model = "m".into();
            config.validate().unwrap();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(error(|c| c.teacher.model = " ".into()).starts_with("model"));
        assert!(error(|c| c.rounds = 0).starts_with("rounds"));
        assert!(error(|c| c.judge.votes = 0).starts_with("judge.votes"));
        assert!(error(|c| c.trust.near_duplicate = 1.5).starts_with("trust.near_duplicate"));
        assert!(error(|c| c.teacher.price = Some(Price { input: -1.0, output: 0.0 })).starts_with("teacher.price"));
    }
}
