//! The files of a run. Beside the rows `mine.jsonl` are the plan `mine.plan.json`, the journal
//! `mine.journal`, the rejected rows `mine.rejected.jsonl`, the report `mine.report.html` and, if
//! tools were invented, the list of all tools `mine.tools.json`.

use std::path::{Path, PathBuf};

use needle_data::{DataError, Tool, file};
use serde_json::{Map, Value, json};

use crate::error::TeacherError;
use crate::journal::Journal;
use crate::report;
use crate::run::{Collected, row_json};
use crate::summary::Summary;
use crate::task::Task;

/// The paths that a run writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    rows: PathBuf,
    stem: PathBuf,
}

impl Output {
    /// The files of `out`, a name that ends in `.jsonl`.
    ///
    /// # Errors
    /// If it does not end in `.jsonl`.
    pub fn new(out: &Path) -> Result<Self, TeacherError> {
        let is_named = out.extension().is_some_and(|e| e == "jsonl") && out.file_stem().is_some();
        is_named.then(|| Self { rows: out.to_owned(), stem: out.with_extension("") }).ok_or_else(|| {
            TeacherError::config("out", format!("{}: expected a name that ends in .jsonl", out.display()))
        })
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.stem.clone().into_os_string();
        name.push(ending);
        name.into()
    }

    /// The rows to train on.
    pub fn rows(&self) -> &Path {
        &self.rows
    }

    /// The plan and the settings that it was made with.
    pub fn plan(&self) -> PathBuf {
        self.beside(".plan.json")
    }

    /// The record of requests and answers.
    pub fn journal(&self) -> PathBuf {
        self.beside(".journal")
    }

    /// The rejected rows, with their reasons.
    pub fn rejected(&self) -> PathBuf {
        self.beside(".rejected.jsonl")
    }

    /// The report page.
    pub fn report(&self) -> PathBuf {
        self.beside(".report.html")
    }

    /// The given and the invented tools.
    pub fn tools(&self) -> PathBuf {
        self.beside(".tools.json")
    }

    /// Opens the journal of this run, to resume the run or to begin it.
    ///
    /// # Errors
    /// If the rows exist without a journal, or the journal belongs to a run with other `settings`.
    pub fn begin(&self, settings: &Map<String, Value>) -> Result<Journal, TeacherError> {
        let other = |path: PathBuf, reason: String| TeacherError::OtherRun { path, reason };
        if self.rows.exists() && !self.journal().exists() {
            let reason = format!("exists, and {} does not: choose another --out", self.journal().display());
            return Err(other(self.rows.clone(), reason));
        }
        if let Some(parent) = self.rows.parent() {
            std::fs::create_dir_all(parent).map_err(|e| DataError::io(parent, e))?;
        }
        let journal = Journal::open(&self.journal())?;
        if journal.num_answers() > 0 {
            let path = self.plan();
            let text = std::fs::read_to_string(&path).map_err(|e| DataError::io(&path, e))?;
            let saved: Value = serde_json::from_str(&text).map_err(|e| DataError::io(&path, e.into()))?;
            let differ: Vec<&str> = settings
                .iter()
                .filter(|(key, value)| saved["settings"][*key] != **value)
                .map(|(key, _)| key.as_str())
                .collect();
            if !differ.is_empty() {
                let reason = format!(
                    "holds a run with another {}; give the same to resume it, or another --out",
                    differ.join(", another ")
                );
                return Err(other(path, reason));
            }
        }
        Ok(journal)
    }

    /// Saves the plan, except if it is only a preview (`--dry-run`) and a run has already begun.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save_plan(&self, settings: &Map<String, Value>, tasks: Value, is_preview: bool) -> Result<(), TeacherError> {
        if is_preview && self.journal().exists() {
            return Ok(());
        }
        let plan = json!({"settings": settings, "tasks": tasks}).to_string() + "\n";
        Ok(file::write_atomically(&self.plan(), plan.as_bytes())?)
    }

    /// Saves all tools of a run with invented tools.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn save_tools(&self, tools: &[Tool]) -> Result<(), TeacherError> {
        let tools: Vec<Value> = tools.iter().map(Tool::to_json).collect();
        let text = serde_json::to_string_pretty(&tools).map_err(|e| DataError::io(self.tools(), e.into()))? + "\n";
        Ok(file::write_atomically(&self.tools(), text.as_bytes())?)
    }

    /// Writes the accepted rows, the rejected rows and the report, each of them atomically.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn save(&self, tasks: &[Task], collected: &Collected, summary: &Summary) -> Result<(), TeacherError> {
        file::write_with(&self.rows, |out| {
            for row in &collected.accepted {
                writeln!(out, "{}", row_json(&tasks[row.task], &row.example))?;
            }
            Ok(())
        })?;
        file::write_with(&self.rejected(), |out| {
            for rejected in &collected.rejected {
                let (task, why) = (&tasks[rejected.task], &rejected.rejection);
                let line = json!({
                    "stage": why.stage, "code": why.code, "reason": why.reason, "task": task.number, "cell": task.cell,
                    "row": rejected.row,
                });
                writeln!(out, "{line}")?;
            }
            Ok(())
        })?;
        let title = self.rows.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(file::write_atomically(&self.report(), report::page(&title, tasks, collected, summary).as_bytes())?)
    }
}
