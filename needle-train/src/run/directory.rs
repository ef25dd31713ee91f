//! The directory of a run: where its files are, and who may write to it.
//!
//! | name | holds |
//! | --- | --- |
//! | `last/` | the newest checkpoint, with the trainer's state |
//! | `step-N/` | earlier checkpoints, as many as `checkpoint.keep_last` allows |
//! | `best/` | the checkpoint with the best validation result |
//! | `metrics.jsonl` | one object for each step and validation |
//! | `tensorboard/` | the same for TensorBoard |
//! | `predictions.jsonl` | answers to validation examples, and what was wrong with them |
//! | `split/` | a finetune's examples, in three parts |
//! | `report.json` | a finetune's comparison with its base |
//! | `recipe.toml` | the recipe as it was used |
//! | `report.html` | all of this as a page |
//! | `run.lock` | locked while a run writes here |
//!
//! A run claims its directory before it writes: one run at a time, and never over the results of
//! another without `--overwrite`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use needle_model::ModelError;
use needle_model::checkpoint::directory;

use crate::error::TrainError;
use crate::run::lock::{self, RunLock};
use crate::run::state;

/// What to do if the directory already contains a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    /// Return an error.
    #[default]
    Refuse,
    /// Resume it.
    Resume,
    /// Remove it when the new run begins.
    Overwrite,
}

/// A run's directory.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
    claimed: Arc<Mutex<Option<Claimed>>>,
}

/// The state of a directory that a run of this process has claimed.
#[derive(Debug)]
struct Claimed {
    lock: RunLock,
    existing: Existing,
    has_begun: bool,
    is_kept: bool,
    /// Directories that the claim has created, outermost last.
    created: Vec<PathBuf>,
}

/// A run's claim on its directory. If the run fails before its first step, dropping the claim
/// removes what it has written.
#[derive(Debug)]
pub struct Claim(Option<RunDir>);

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(run) = &self.0
            && let Some(claimed) = run.claimed().take()
        {
            run.release(claimed);
        }
    }
}

impl RunDir {
    /// The run in `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), claimed: Arc::default() }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Claims the directory for one run. A claim made while another of the same [`RunDir`] (or a
    /// clone of it) is alive belongs to that one. What a killed run left unfinished is cleaned up;
    /// everything else stays unchanged until [`RunDir::begin`].
    ///
    /// # Errors
    /// If another run holds it, if there is no run to resume, if there is one that may not be
    /// overwritten, or if other files have the names of the run's.
    pub fn claim(&self, existing: Existing) -> Result<Claim, TrainError> {
        if self.claimed().is_some() {
            return Ok(Claim(None));
        }
        let refuse = |reason: &str| TrainError::Run { path: self.path.clone(), reason: reason.to_owned() };
        let can_resume = || self.last().exists() || directory::aside(&self.last()).is_some_and(|aside| aside.exists());
        if existing == Existing::Resume && !can_resume() {
            return Err(refuse("there is no run to resume here (no last/); leave out --resume to start one"));
        }
        if let Some(other) = self.in_the_way()? {
            let reason =
                format!("{other} is in the way and does not belong to a run of needle; name another directory");
            return Err(refuse(&reason));
        }
        let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
        let created: Vec<PathBuf> = self.path.ancestors().take_while(missing).map(Path::to_owned).collect();
        std::fs::create_dir_all(&self.path).map_err(|e| ModelError::io(&self.path, e))?;
        let lock = RunLock::take(&self.path)?;
        directory::clean_up(&self.path)?;
        if existing == Existing::Refuse && self.has_checkpoint()? {
            return Err(refuse("holds a run already; continue it with --resume, or replace it with --overwrite"));
        }
        *self.claimed() = Some(Claimed { lock, existing, has_begun: false, is_kept: false, created });
        Ok(Claim(Some(self.clone())))
    }

    /// Removes what an earlier run has left, before a new run writes its first file. A run that is
    /// resumed, or has already begun, keeps its files.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn begin(&self) -> Result<(), TrainError> {
        let mut claimed = self.claimed();
        if let Some(claimed) = claimed.as_mut()
            && !std::mem::replace(&mut claimed.has_begun, true)
            && claimed.existing != Existing::Resume
        {
            for path in self.own_files()? {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Keeps the files when the claim is dropped, even if the run has taken no step: it has ended
    /// without an error.
    pub fn keep(&self) {
        if let Some(claimed) = self.claimed().as_mut() {
            claimed.is_kept = true;
        }
    }

    /// Checks that overwriting the run does not remove `input`.
    ///
    /// # Errors
    /// If `input` is a part of the run that [`Existing::Overwrite`] is about to remove.
    pub fn ensure_outlived_by(&self, input: &Path) -> Result<(), TrainError> {
        let Ok(input) = input.canonicalize() else { return Ok(()) };
        let mut own = self.own_files()?.into_iter().filter_map(|path| path.canonicalize().ok());
        if own.any(|path| input.starts_with(path)) {
            let reason = format!("--overwrite would remove {}, which the new run needs", input.display());
            return Err(TrainError::Run { path: self.path.clone(), reason });
        }
        Ok(())
    }

    fn claimed(&self) -> MutexGuard<'_, Option<Claimed>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, claimed: Claimed) {
        if claimed.has_begun && claimed.existing != Existing::Resume && !claimed.is_kept && !self.has_learned() {
            // What cannot be removed now is removed when the next run begins.
            self.own_files().into_iter().flatten().for_each(|path| _ = remove(&path));
        }
        if self.own_files().is_ok_and(|files| files.is_empty()) {
            claimed.lock.remove();
        }
        // Directories into which others have written stay, because they are not empty.
        claimed.created.iter().for_each(|dir| _ = std::fs::remove_dir(dir));
    }

    /// Whether there is a checkpoint after at least one step, or a batch that was not finite, to
    /// inspect.
    fn has_learned(&self) -> bool {
        let is_trained = |path: &PathBuf| state::progress(path).map_or(path.exists(), |progress| progress.step > 0);
        let is_batch = |path: &PathBuf| is_named(path, "not_finite");
        [self.last(), self.best()].iter().any(is_trained) || self.entries().is_ok_and(|all| all.iter().any(is_batch))
    }

    /// A file with a name that a run uses, in a directory that is not a run's.
    fn in_the_way(&self) -> Result<Option<String>, ModelError> {
        let is_run = self.path.join(lock::FILE).exists()
            || [self.last(), self.best()].iter().any(|checkpoint| checkpoint.join(state::STATE).exists());
        let first = if is_run { None } else { self.own_files()?.into_iter().next() };
        Ok(first.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())))
    }

    fn has_checkpoint(&self) -> Result<bool, ModelError> {
        Ok(self.last().exists() || self.best().exists() || !self.older()?.is_empty())
    }

    /// All existing files with names that a run uses, except for the lock.
    fn own_files(&self) -> Result<Vec<PathBuf>, ModelError> {
        let fixed = [
            self.last(),
            self.best(),
            self.metrics(),
            self.tensorboard(),
            self.predictions(),
            self.split(),
            self.comparison(),
            self.recipe(),
            self.report(),
        ];
        let mut own: Vec<PathBuf> = fixed.into_iter().filter(|path| path.exists()).collect();
        own.extend(self.entries()?.into_iter().filter(|path| is_named(path, "not_finite")));
        own.extend(self.older()?);
        Ok(own)
    }

    fn entries(&self) -> Result<Vec<PathBuf>, ModelError> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| ModelError::io(&self.path, e))?,
        };
        let paths = entries.map(|entry| entry.map(|e| e.path()));
        paths.collect::<Result<_, _>>().map_err(|e| ModelError::io(&self.path, e))
    }

    /// The newest checkpoint.
    pub fn last(&self) -> PathBuf {
        self.path.join("last")
    }

    /// The checkpoint with the best validation result.
    pub fn best(&self) -> PathBuf {
        self.path.join("best")
    }

    /// One JSON object for each event.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// Answers to validation examples.
    pub fn predictions(&self) -> PathBuf {
        self.path.join("predictions.jsonl")
    }

    /// A finetune's examples, in three parts.
    pub fn split(&self) -> PathBuf {
        self.path.join("split")
    }

    /// The recipe as it was used.
    pub fn recipe(&self) -> PathBuf {
        self.path.join("recipe.toml")
    }

    /// A finetune's comparison with its base.
    pub fn comparison(&self) -> PathBuf {
        self.path.join("report.json")
    }

    /// The report, an HTML page.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The best checkpoint, or the last if no validation chose one.
    pub fn result(&self) -> PathBuf {
        if self.best().exists() { self.best() } else { self.last() }
    }

    /// Writes a checkpoint to `last/`. The previous one, of `previous_step`, is kept as `step-N/`
    /// if `keep_last` is more than 1.
    ///
    /// # Errors
    /// If it cannot be written; the previous one is then still in `last/`.
    pub fn save_last(
        &self,
        files: &BTreeMap<String, Vec<u8>>,
        previous_step: Option<usize>,
        keep_last: usize,
    ) -> Result<(), ModelError> {
        let keep = previous_step.filter(|_| keep_last > 1).map(|step| self.path.join(format!("step-{step:08}")));
        directory::write(&self.last(), files, keep.as_deref())?;
        let mut older = self.older()?;
        let too_many = older.len().saturating_sub(keep_last.saturating_sub(1));
        older.drain(..too_many).try_for_each(|path| remove(&path))
    }

    /// The `step-N/` checkpoints, oldest first.
    fn older(&self) -> Result<Vec<PathBuf>, ModelError> {
        let is_step = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix("step-").is_some_and(|n| n.parse::<usize>().is_ok())
        };
        let mut found: Vec<PathBuf> = self.entries()?.into_iter().filter(is_step).collect();
        found.sort();
        Ok(found)
    }
}

fn is_named(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

fn remove(path: &Path) -> Result<(), ModelError> {
    let is_dir = path.symlink_metadata().is_ok_and(|data| data.is_dir());
    let removed = if is_dir { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.map_err(|e| ModelError::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_checkpoints_are_kept_as_were_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path());
        let save = |step: usize, keep_last| {
            let files = BTreeMap::from([("step".to_owned(), step.to_string().into_bytes())]);
            run.save_last(&files, step.checked_sub(10).filter(|s| *s > 0), keep_last).unwrap();
        };
        let kept = || {
            let mut names: Vec<String> = std::fs::read_dir(dir.path())
                .unwrap()
                .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        (1..=5).for_each(|i| save(10 * i, 3));
        assert_eq!(kept(), ["last", "step-00000030", "step-00000040"]);
        assert_eq!(std::fs::read(run.last().join("step")).unwrap(), b"50");
        assert_eq!(std::fs::read(dir.path().join("step-00000040/step")).unwrap(), b"40");
        save(60, 1);
        assert_eq!(kept(), ["last"]);
    }
}
