//! The `manifest.json` of an artifact: the hashes of its files at the time of export.

use std::path::{Path, PathBuf};

use needle_data::file;
use needle_data::tokenizer::hex;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::ModelError;

/// Name of the file in an artifact.
pub const FILE: &str = "manifest.json";

/// The hashes of the files of an artifact.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    #[serde(skip)]
    dir: PathBuf,
    files: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    sha256: String,
}

impl Manifest {
    /// The manifest of the artifact in `dir`, if it has one.
    ///
    /// # Errors
    /// If it has one that cannot be read.
    pub fn load(dir: &Path) -> Result<Option<Self>, ModelError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = file::read_text(&path)?;
        let read: Self = serde_json::from_str(&text).map_err(|e| ModelError::bad_file(&path, e.to_string()))?;
        Ok(Some(Self { dir: dir.to_owned(), ..read }))
    }

    /// Checks that `bytes` are what the file `name` held when the artifact was exported.
    ///
    /// # Errors
    /// If the hashes differ, or the manifest does not list the file.
    pub fn check(&self, name: &str, bytes: &[u8]) -> Result<(), ModelError> {
        let bad = |reason: String| Err(ModelError::bad_file(self.dir.join(name), reason));
        let Some(listed) = self.files.iter().find(|listed| listed.name == name) else {
            return bad(format!("{FILE} does not list it, so it was not exported with the other files"));
        };
        let found = hex(&Sha256::digest(bytes));
        if found == listed.sha256 {
            return Ok(());
        }
        bad(format!(
            "it is not the file that was exported: its SHA-256 is {}.., {FILE} has {}..; it was changed, damaged, or taken from another \
             model",
            start(&found),
            start(&listed.sha256)
        ))
    }
}

/// Enough of a hash to compare by eye.
fn start(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
