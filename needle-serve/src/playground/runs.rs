//! Finetunes: `needle finetune` as a child process, whose progress is read from its files.
//!
//! A user could start the same process from a terminal, so what the page shows can be repeated
//! there, and a restarted server finds its runs by their files.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use needle_data::file;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::process::Command;

use super::workspace::{Name, Workspace, read};
use crate::error::ServeError;

/// The settings of a run, which are stored next to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRequest {
    /// The examples, by their name.
    pub data: String,
    /// A base of the server, a finished run, or `none` for a new model.
    pub base: String,
    /// Preset of a new model's sizes.
    pub model: Option<String>,
    /// Time budget to plan for, in minutes.
    pub max_minutes: Option<f64>,
    /// Whether to skip rows that cannot be used.
    #[serde(default)]
    pub skip_invalid: bool,
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is running.
    Running,
    /// It was told to stop, and is saving.
    Stopping,
    /// It was stopped before its last step, and can be resumed.
    Stopped,
    /// It is complete and has a result.
    Finished,
    /// It failed before it saved a checkpoint.
    Failed,
}

/// The child processes.
#[derive(Debug, Default, Clone)]
pub struct Runs {
    /// The process id of each run, and whether it was told to stop.
    running: Arc<Mutex<BTreeMap<Name, (u32, bool)>>>,
}

/// The server's settings that runs need.
#[derive(Debug, Clone)]
pub struct Commands {
    /// The `needle` command.
    pub needle: PathBuf,
    /// Bases by name.
    pub bases: Vec<(String, PathBuf)>,
}

impl Commands {
    /// The arguments of `needle` for a run, started in the workspace: its own paths are relative.
    ///
    /// # Errors
    /// If the request names data or a base that does not exist.
    pub fn finetune(
        &self,
        workspace: &Workspace,
        name: &Name,
        request: &RunRequest,
        resume: bool,
    ) -> Result<Vec<String>, ServeError> {
        let text = |path: &Path| path.strip_prefix(workspace.root()).unwrap_or(path).to_string_lossy().into_owned();
        let data = workspace.data(&Name::new(&request.data)?);
        if !data.exists() {
            return Err(ServeError::NotFound(format!("there is no data {}", request.data)));
        }
        let mut arguments = vec!["finetune".to_owned(), text(&data), "--base".to_owned()];
        match self.bases.iter().find(|(base, _)| *base == request.base) {
            Some((_, path)) => arguments.push(text(path)),
            None if request.base == "none" => {
                let model = Name::new(request.model.as_deref().unwrap_or("tiny"))?;
                arguments.extend(["none".to_owned(), "--model".to_owned(), model.to_string()]);
            }
            None => {
                let base = workspace.run(&Name::new(&request.base)?);
                if !base.join("best").exists() {
                    return Err(ServeError::NotFound(format!("there is no base {}", request.base)));
                }
                arguments.push(text(&base));
            }
        }
        arguments.extend(["--out".to_owned(), text(&workspace.run(name))]);
        if let Some(minutes) = request.max_minutes {
            if !(minutes > 0.0 && minutes <= 24.0 * 60.0) {
                return Err(ServeError::Input("max_minutes: expected a number above 0, at most 1440 (a day)".into()));
            }
            arguments.extend(["--max-minutes".to_owned(), minutes.to_string()]);
        }
        arguments.extend(request.skip_invalid.then(|| "--skip-invalid".to_owned()));
        arguments.extend(resume.then(|| "--resume".to_owned()));
        Ok(arguments)
    }
}

impl Runs {
    /// Starts a run, and watches it in a task. It may have the name of a run that failed, which has
    /// saved nothing.
    ///
    /// # Errors
    /// If there is a run of this name, another one is running, or the process cannot be started.
    pub fn start(
        &self,
        workspace: &Workspace,
        commands: &Commands,
        name: &Name,
        request: &RunRequest,
    ) -> Result<(), ServeError> {
        let dir = workspace.run(name);
        let exists = workspace.run_request(name).exists() || dir.exists();
        if exists && (self.status(workspace, name) != Status::Failed || dir.join("best").exists()) {
            return Err(ServeError::Conflict(format!("there is a run called {name} already")));
        }
        let arguments = commands.finetune(workspace, name, request, false)?;
        self.ensure_none_runs()?;
        if dir.exists() {
            std::fs::remove_dir_all(&dir).map_err(|error| ServeError::io(&dir, error))?;
        }
        let json = serde_json::to_vec_pretty(request).map_err(|error| ServeError::Input(error.to_string()))?;
        let path = workspace.run_request(name);
        file::write_atomically(&path, &json).map_err(|error| ServeError::Config(error.to_string()))?;
        self.spawn(workspace, commands, name, &arguments)
    }

    /// Resumes a run that was stopped.
    ///
    /// # Errors
    /// If there is no run of this name, one is running, or the process cannot be started.
    pub fn resume(&self, workspace: &Workspace, commands: &Commands, name: &Name) -> Result<(), ServeError> {
        let request = request(workspace, name)?;
        let has_begun = workspace.run(name).join("last").exists();
        let arguments = commands.finetune(workspace, name, &request, has_begun)?;
        self.ensure_none_runs()?;
        self.spawn(workspace, commands, name, &arguments)
    }

    fn ensure_none_runs(&self) -> Result<(), ServeError> {
        match self.running().keys().next() {
            Some(name) => Err(ServeError::Conflict(format!("{name} is running; stop it, or wait for it"))),
            None => Ok(()),
        }
    }

    fn spawn(
        &self,
        workspace: &Workspace,
        commands: &Commands,
        name: &Name,
        arguments: &[String],
    ) -> Result<(), ServeError> {
        let log = workspace.run_log(name);
        let file = File::create(&log).map_err(|error| ServeError::io(&log, error))?;
        let also = file.try_clone().map_err(|error| ServeError::io(&log, error))?;
        let what = || format!("starting {}", commands.needle.display());
        let mut command = Command::new(&commands.needle);
        command.args(arguments).stdin(Stdio::null()).stdout(file).stderr(also).current_dir(workspace.root());
        // Ctrl-C in the terminal must reach the server alone: it tells its runs to save, once.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| ServeError::System { what: what(), error })?;
        self.running().insert(name.clone(), (child.id().unwrap_or(0), false));
        let (running, name) = (self.running.clone(), name.clone());
        tokio::spawn(async move {
            let status = child.wait().await;
            tracing::info!("the finetune {name} has ended: {status:?}");
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        });
        Ok(())
    }

    /// Tells a run to save and stop.
    ///
    /// # Errors
    /// If it is not running.
    pub fn stop(&self, name: &Name) -> Result<(), ServeError> {
        let mut running = self.running();
        let (id, is_stopping) =
            running.get_mut(name).ok_or_else(|| ServeError::Conflict(format!("{name} is not running")))?;
        *is_stopping = true;
        terminate(*id);
        Ok(())
    }

    /// Tells all runs to save and stop.
    pub fn stop_all(&self) {
        self.running().values_mut().for_each(|(id, is_stopping)| {
            *is_stopping = true;
            terminate(*id);
        });
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, (u32, bool)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of a run.
    pub fn status(&self, workspace: &Workspace, name: &Name) -> Status {
        let dir = workspace.run(name);
        match self.running().get(name) {
            Some((_, true)) => Status::Stopping,
            Some((_, false)) => Status::Running,
            None if dir.join("report.json").exists() => Status::Finished,
            None if dir.join("last").exists() => Status::Stopped,
            None => Status::Failed,
        }
    }

    /// Everything that the page shows of a run, with the metrics after the first `after` lines.
    ///
    /// # Errors
    /// If there is no such run.
    pub fn show(
        &self,
        workspace: &Workspace,
        commands: &Commands,
        name: &Name,
        after: usize,
    ) -> Result<Value, ServeError> {
        let request = request(workspace, name)?;
        let dir = workspace.run(name);
        let metrics = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
        // The last line may be incomplete.
        let whole = metrics.rfind('\n').map_or("", |end| &metrics[..end]);
        let lines: Vec<Value> = whole.lines().skip(after).filter_map(|line| serde_json::from_str(line).ok()).collect();
        let log = std::fs::read_to_string(workspace.run_log(name)).unwrap_or_default();
        let report = std::fs::read_to_string(dir.join("report.json")).ok();
        let report: Option<Value> = report.and_then(|text| serde_json::from_str(&text).ok());
        let command = commands.finetune(workspace, name, &request, false).unwrap_or_default();
        Ok(json!({
            "name": name.as_str(),
            "status": self.status(workspace, name),
            "request": request,
            "command": format!("needle {}", command.join(" ")),
            "metrics": lines,
            "next": after.max(whole.lines().count()),
            "log": tail(&log),
            "report": report,
        }))
    }
}

fn request(workspace: &Workspace, name: &Name) -> Result<RunRequest, ServeError> {
    let path = workspace.run_request(name);
    let text = read(&path, &format!("run {name}"))?;
    serde_json::from_str(&text).map_err(|error| ServeError::Config(format!("{}: {error}", path.display())))
}

/// The last lines of a run's log, without what its progress bar has overwritten.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(|line| line.rsplit('\r').next().unwrap_or(line)).collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

#[cfg(unix)]
fn terminate(id: u32) {
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // An error only means that it has ended already.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
}

#[cfg(not(unix))]
fn terminate(_: u32) {}
