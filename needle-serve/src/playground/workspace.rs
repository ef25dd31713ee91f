//! The page's files: one directory with data, runs and exports. Nothing is written outside it.
//!
//! ```text
//! data/NAME.jsonl       examples
//! runs/NAME/            what `needle finetune` writes
//! runs/NAME.json        its settings
//! runs/NAME.log         its output
//! exports/NAME/         what `needle export` writes
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::ServeError;

/// A name of a file or directory in the workspace. It has only letters, digits, `-`, `_` and `.`,
/// and begins with neither `-` nor `.`, so that no name leads out of the workspace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Most characters of a name.
    const MOST: usize = 64;

    /// Reads a name.
    ///
    /// # Errors
    /// If `text` is not a valid name.
    pub fn new(text: &str) -> Result<Self, ServeError> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = !text.is_empty() && text.len() <= Self::MOST && text.chars().all(is_allowed);
        if !is_name || text.starts_with(['.', '-']) || text.ends_with('.') {
            let text: String = text.chars().take(Self::MOST).collect();
            return Err(ServeError::Input(format!(
                "{text:?} cannot be a name here: use up to {} letters, digits, _, - and . (no - or . first, no . last)",
                Self::MOST
            )));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The workspace's directory.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Opens the workspace in `root`, which need not exist.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn open(root: &Path) -> Result<Self, ServeError> {
        for room in ["data", "runs", "exports"] {
            let path = root.join(room);
            std::fs::create_dir_all(&path).map_err(|error| ServeError::io(&path, error))?;
        }
        // Absolute, so that a child process finds it wherever it runs.
        let root = root.canonicalize().map_err(|error| ServeError::io(root, error))?;
        Ok(Self { root })
    }

    /// Its absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a file of examples.
    pub fn data(&self, name: &Name) -> PathBuf {
        self.root.join("data").join(format!("{name}.jsonl"))
    }

    /// The directory of a run.
    pub fn run(&self, name: &Name) -> PathBuf {
        self.root.join("runs").join(name.as_str())
    }

    /// The file with a run's settings.
    pub fn run_request(&self, name: &Name) -> PathBuf {
        self.root.join("runs").join(format!("{name}.json"))
    }

    /// The file with a run's output.
    pub fn run_log(&self, name: &Name) -> PathBuf {
        self.root.join("runs").join(format!("{name}.log"))
    }

    /// The directory of an export.
    pub fn export(&self, name: &Name) -> PathBuf {
        self.root.join("exports").join(name.as_str())
    }

    /// The names of the files of examples.
    pub fn data_names(&self) -> Vec<Name> {
        self.names("data", ".jsonl")
    }

    /// The names of the runs.
    pub fn run_names(&self) -> Vec<Name> {
        self.names("runs", ".json")
    }

    /// The names of the exports.
    pub fn export_names(&self) -> Vec<Name> {
        let is_dir = |name: &Name| self.export(name).is_dir();
        self.names("exports", "").into_iter().filter(is_dir).collect()
    }

    fn names(&self, room: &str, ending: &str) -> Vec<Name> {
        let entries = std::fs::read_dir(self.root.join(room)).into_iter().flatten().flatten();
        let files = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<Name> =
            files.filter_map(|file| file.strip_suffix(ending).and_then(|stem| Name::new(stem).ok())).collect();
        names.sort();
        names
    }
}

/// Reads a small text file.
///
/// # Errors
/// If it does not exist, or cannot be read.
pub fn read(path: &Path, what: &str) -> Result<String, ServeError> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ServeError::NotFound(format!("there is no {what}")),
        _ => ServeError::io(path, error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_out_of_the_workspace() {
        for name in ["mine", "mine-2.v1", "A_b", &"x".repeat(64)] {
            assert_eq!(Name::new(name).unwrap().as_str(), name);
        }
        let long = "x".repeat(65);
        for name in
            ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "-rf", "a b", "a\0", "é", "a.", "C:", long.as_str()]
        {
            assert!(Name::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_workspace_lists_what_a_restart_left_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let name = Name::new("mine").unwrap();
        let workspace = Workspace::open(&dir.path().join("new")).unwrap();
        std::fs::write(workspace.data(&name), "").unwrap();
        std::fs::create_dir(workspace.export(&name)).unwrap();
        std::fs::write(workspace.root().join("data/.hidden.jsonl"), "").unwrap();
        let again = Workspace::open(&dir.path().join("new")).unwrap();
        assert_eq!((again.data_names(), again.export_names()), (vec![name.clone()], vec![name]));
        assert!(again.run_names().is_empty());
    }
}
