//! From the arguments of a command to the files of its run: plan, run, save.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use needle_data::{DataError, Example, Tool};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::budget::Limits;
use crate::client::{ApiKey, Client, Proxy};
use crate::config::TeacherConfig;
use crate::error::TeacherError;
use crate::invent;
use crate::journal::Journal;
use crate::output::Output;
use crate::plan::Plan;
use crate::rewrite;
use crate::run::{self, Progress};
use crate::summary::Summary;
use crate::task::Task;
use crate::teacher::{StopReason, Teacher};
use crate::tokens::Usage;
use crate::trust::Trust;

/// The endpoint, settings, limits and output of a command.
#[derive(Debug)]
pub struct Session {
    /// Base address, such as `http://localhost:8000/v1`.
    pub endpoint: String,
    /// API key, sent with every request.
    pub key: ApiKey,
    /// Proxy of the requests, unless the endpoint is on this machine.
    pub proxy: Option<Proxy>,
    /// Settings.
    pub config: TeacherConfig,
    /// What all sessions of the run may use together.
    pub limits: Limits,
    /// The file of rows; the other files are written beside it.
    pub out: PathBuf,
    /// Set this to end the run after the requests in flight.
    pub stop: Arc<AtomicBool>,
    /// Plan and estimate only; nothing is sent.
    pub dry_run: bool,
}

/// Tools to invent before the plan is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventing {
    /// Description of their domain.
    pub domain: String,
    /// Number of tools.
    pub count: usize,
}

/// What to make of existing examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrite {
    /// Paraphrases with the same calls.
    Paraphrase,
    /// Near misses without a call.
    Negatives,
}

/// A run that is ready to begin, or the preview of one.
pub struct Planned {
    /// The plan as text.
    pub text: String,
    /// Estimated usage of its first round.
    pub expected: Usage,
    tasks: Vec<Task>,
    trust: Trust,
    config: TeacherConfig,
    output: Output,
    /// `None` with `dry_run`.
    teacher: Option<Teacher>,
}

impl Session {
    /// Plans `count` rows about `tools`, and about tools that are invented first, if `inventing` is
    /// given.
    ///
    /// # Errors
    /// If a setting is invalid, the files of another run are in the way, or no tool can be
    /// invented.
    pub fn generate(
        &self,
        mut tools: Vec<Tool>,
        inventing: Option<&Inventing>,
        count: usize,
    ) -> Result<Planned, TeacherError> {
        let definitions: Vec<Value> = tools.iter().map(Tool::to_json).collect();
        let settings = self.settings(
            "generate",
            &[("tools", fingerprint(&definitions)), ("invented tools", json!(inventing.map(|i| (&i.domain, i.count))))],
        );
        let (output, teacher) = self.open(&settings)?;
        let mut expected = Usage { is_estimated: true, ..Usage::default() };
        if let Some(inventing) = inventing {
            expected.add(&invent::expected_usage(&inventing.domain, inventing.count, &self.config));
            match &teacher {
                Some(teacher) => {
                    tools.extend(self.invent(teacher, inventing, &tools)?);
                    output.save_tools(&tools)?;
                }
                None => tools.extend(invent::stand_ins(inventing.count)),
            }
        }
        let plan = Plan::new(&tools, count, &self.config.plan, self.config.seed)?;
        output.save_plan(&settings, plan.to_json(), self.dry_run)?;
        expected.add(&run::expected_usage(&plan.tasks, &self.config));
        let trust = Trust::new(self.config.trust.clone());
        let (text, tasks, config) = (plan.to_text(), plan.tasks, self.config.clone());
        Ok(Planned { text, expected, tasks, trust, config, output, teacher })
    }

    /// Plans `rows_each` new rows for each example.
    ///
    /// # Errors
    /// If a setting is invalid, the files of another run are in the way, or no example can be
    /// rewritten.
    pub fn rewrite(&self, what: Rewrite, examples: &[Example], rows_each: usize) -> Result<Planned, TeacherError> {
        if rows_each == 0 {
            return Err(TeacherError::config("per_row", "must be at least 1"));
        }
        let (command, tasks) = match what {
            Rewrite::Paraphrase => {
                ("paraphrase", rewrite::paraphrases(examples, rows_each, &self.config.plan, self.config.seed))
            }
            Rewrite::Negatives => {
                ("negatives", rewrite::negatives(examples, rows_each, &self.config.plan, self.config.seed))
            }
        };
        if tasks.is_empty() {
            return Err(TeacherError::config("data", "holds no example with tools (and a call, for negatives)"));
        }
        let lines: Vec<Value> = examples.iter().map(Example::to_json).collect();
        let settings =
            self.settings(command, &[("data", fingerprint(&lines)), ("rows for each example", rows_each.into())]);
        let (output, teacher) = self.open(&settings)?;
        let plan = Plan { tasks };
        output.save_plan(&settings, plan.to_json(), self.dry_run)?;
        let mut trust = Trust::new(self.config.trust.clone());
        for example in examples {
            trust.know(&example.query);
        }
        let expected = run::expected_usage(&plan.tasks, &self.config);
        let (text, tasks, config) = (plan.to_text(), plan.tasks, self.config.clone());
        Ok(Planned { text, expected, tasks, trust, config, output, teacher })
    }

    /// The settings that identify a run: if one of them differs, the answers in the journal belong
    /// to other questions.
    fn settings(&self, command: &str, more: &[(&str, Value)]) -> Map<String, Value> {
        let config = &self.config;
        let own = [
            ("command", json!(command)),
            ("seed", json!(config.seed)),
            ("model", json!(config.teacher.model)),
            ("temperature", json!(config.teacher.temperature)),
            ("plan section", json!(config.plan)),
        ];
        own.into_iter().chain(more.iter().cloned()).map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn open(&self, settings: &Map<String, Value>) -> Result<(Output, Option<Teacher>), TeacherError> {
        self.config.validate()?;
        let is_limit = |limit: f64| limit.is_finite() && limit > 0.0;
        if self.limits.cost.is_some_and(|limit| !is_limit(limit)) || self.limits.tokens == Some(0) {
            return Err(TeacherError::config("max_cost or max_tokens", "must be above 0"));
        }
        if self.limits.cost.is_some() && self.config.teacher.price.is_none() {
            let reason = "cannot be enforced without prices; give --input-price and --output-price, per million tokens";
            return Err(TeacherError::config("max_cost", reason));
        }
        let output = Output::new(&self.out)?;
        let client = Client::new(&self.endpoint, self.key.clone(), self.proxy.clone(), &self.config.client)?;
        if self.dry_run {
            return Ok((output, None));
        }
        let journal: Journal = output.begin(settings)?;
        if journal.num_answers() > 0 {
            let (answers, lost) = (journal.num_answers(), journal.num_lost());
            tracing::info!(
                "{}: resuming with {answers} answers; {lost} requests were interrupted",
                output.journal().display()
            );
        }
        let (config, stop) = (self.config.client.clone(), self.stop.clone());
        Ok((output, Some(Teacher::new(client, config, journal, self.limits, stop, self.config.seed))))
    }

    fn invent(&self, teacher: &Teacher, inventing: &Inventing, have: &[Tool]) -> Result<Vec<Tool>, TeacherError> {
        let invented = invent::invent(teacher, &self.config, &inventing.domain, inventing.count, have);
        for (definition, reason) in &invented.rejected {
            tracing::warn!("rejected an invented tool: {reason}: {definition}");
        }
        if let Some(StopReason::Error(reason)) = teacher.ended() {
            return Err(TeacherError::config("invent", reason));
        }
        if invented.tools.len() < inventing.count {
            tracing::warn!("only {} of {} tools were invented", invented.tools.len(), inventing.count);
        }
        Ok(invented.tools)
    }
}

impl Planned {
    /// Number of rows to ask for.
    pub fn num_rows(&self) -> usize {
        self.tasks.iter().map(|task| task.rows).sum()
    }

    /// The files that the run writes.
    pub const fn output(&self) -> &Output {
        &self.output
    }

    /// Asks, checks and saves. Whatever ends the run, its accepted rows are saved. `None` for a dry
    /// run.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn run(self, progress: &mut dyn FnMut(Progress)) -> Result<Option<Summary>, TeacherError> {
        let Some(teacher) = &self.teacher else { return Ok(None) };
        let collected = run::run(teacher, &self.tasks, self.trust, &self.config, progress)?;
        let summary = Summary::new(&self.tasks, &collected, teacher);
        self.output.save(&self.tasks, &collected, &summary)?;
        Ok(Some(summary))
    }
}

/// A hash that identifies a list.
fn fingerprint(list: &[Value]) -> Value {
    let mut hash = Sha256::new();
    for value in list {
        hash.update(value.to_string());
        hash.update([0]);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect::<String>().into()
}

/// Writes rows that were made offline.
///
/// # Errors
/// If the file cannot be written.
pub fn write_rows(out: &std::path::Path, rows: &[Example]) -> Result<(), DataError> {
    needle_data::file::write_with(out, |file| rows.iter().try_for_each(|row| writeln!(file, "{}", row.to_json())))
}
