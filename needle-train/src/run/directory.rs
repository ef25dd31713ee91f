//! Where a run puts what it makes.
//!
//! | name | holds |
//! | --- | --- |
//! | `last/` | the newest checkpoint, with the trainer's state |
//! | `step-N/` | those before it, as many as `checkpoint.keep_last` says |
//! | `best/` | the checkpoint with the best validation result |
//! | `metrics.jsonl` | one object for each step and validation |
//! | `tensorboard/` | the same for TensorBoard |
//! | `predictions.jsonl` | answers to validation examples, and what was wrong with them |
//! | `split/` | a finetune's examples, in three parts |
//! | `report.json` | a finetune's comparison with its base |
//! | `recipe.toml` | the recipe as it was used |
//! | `report.html` | all of it to look at |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use needle_model::ModelError;
use needle_model::checkpoint::directory;

/// A run's directory.
#[derive(Debug, Clone)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// The run in `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The newest checkpoint.
    pub fn last(&self) -> PathBuf {
        self.0.join("last")
    }

    /// The checkpoint with the best validation result.
    pub fn best(&self) -> PathBuf {
        self.0.join("best")
    }

    /// One JSON object for each event.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// Event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.0.join("tensorboard")
    }

    /// Answers to validation examples.
    pub fn predictions(&self) -> PathBuf {
        self.0.join("predictions.jsonl")
    }

    /// The recipe as it was used.
    pub fn recipe(&self) -> PathBuf {
        self.0.join("recipe.toml")
    }

    /// A finetune's comparison with its base.
    pub fn comparison(&self) -> PathBuf {
        self.0.join("report.json")
    }

    /// The page to look at.
    pub fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// The best checkpoint, or the last where no validation chose one.
    pub fn result(&self) -> PathBuf {
        if self.best().exists() { self.best() } else { self.last() }
    }

    /// Puts a checkpoint into `last/`. The one before it, of `previous_step`, stays as `step-N/` if more than one are kept.
    ///
    /// # Errors
    /// If it cannot be written; then the one before is still in `last/`.
    pub fn save_last(
        &self,
        files: BTreeMap<String, Vec<u8>>,
        previous_step: Option<usize>,
        keep_last: usize,
    ) -> Result<(), ModelError> {
        let keep = previous_step.filter(|_| keep_last > 1).map(|step| self.0.join(format!("step-{step:08}")));
        directory::write(&self.last(), files, keep.as_deref())?;
        let mut older = self.older().map_err(|e| ModelError::io(&self.0, e))?;
        let too_many = older.len().saturating_sub(keep_last.saturating_sub(1));
        for path in older.drain(..too_many) {
            std::fs::remove_dir_all(&path).map_err(|e| ModelError::io(&path, e))?;
        }
        Ok(())
    }

    /// The `step-N/` checkpoints, oldest first.
    fn older(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.strip_prefix("step-").is_some_and(|n| n.parse::<usize>().is_ok()) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
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
            run.save_last(files, step.checked_sub(10).filter(|s| *s > 0), keep_last).unwrap();
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
