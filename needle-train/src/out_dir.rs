//! Where an export or an import may write: into a directory that is empty or does not exist, and,
//! on request, over an earlier result.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use needle_data::tokenizer::hex;
use needle_model::ModelError;
use needle_model::checkpoint::directory::{self, Unfinished};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::TrainError;

/// The file that describes a result and lists the files that belong to it.
pub const MANIFEST: &str = "manifest.json";

/// Files that an artifact may have besides those in its manifest. Those that needle keeps in a
/// checkpoint can be made again.
const BESIDE: [&str; 5] = [MANIFEST, "verify.json", "README.md", "confidence.json", "catalogues"];

/// A directory that a command may write or replace as a whole.
#[derive(Debug)]
pub struct OutDir {
    path: PathBuf,
    source: PathBuf,
    force: bool,
    /// Whether it holds an earlier result.
    replaces: bool,
}

impl OutDir {
    /// The directory `path`, for a result made from `source`. With `force`, an earlier result there
    /// may be replaced.
    ///
    /// # Errors
    /// If it contains anything but an earlier result, or an earlier result and `force` is not set.
    pub fn new(path: &Path, source: &Path, force: bool) -> Result<Self, TrainError> {
        let refuse = |reason: String| TrainError::Run { path: path.to_owned(), reason };
        // Remove a trailing slash: with it, a link would look like the directory that it points to.
        let path: PathBuf = path.components().collect();
        if path.file_name().is_none() {
            return Err(refuse("name a directory that does not exist yet".into()));
        }
        let new = |replaces| Self { path: path.clone(), source: source.to_owned(), force, replaces };
        let data = match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(new(false)),
            Err(error) => return Err(ModelError::io(path, error).into()),
            Ok(data) => data,
        };
        if data.is_symlink() {
            return Err(refuse("is a symbolic link; name the directory itself".into()));
        }
        if !data.is_dir() {
            return Err(refuse("is a file; name a directory that does not exist yet".into()));
        }
        let names = names(&path)?;
        if names.is_empty() {
            return Ok(new(false));
        }
        if let (Ok(source), Ok(path)) = (source.canonicalize(), path.canonicalize())
            && source.starts_with(path)
        {
            return Err(refuse("holds what is being read; name another directory".into()));
        }
        let Some(manifest) = Manifest::read(&path) else {
            let example = names.iter().next().map(String::as_str).unwrap_or_default();
            let reason = format!(
                "holds other files ({example}), not an earlier export or import; name a directory that is empty or does not exist yet"
            );
            return Err(refuse(reason));
        };
        if let Some(other) = names.difference(&manifest.files).find(|name| !BESIDE.contains(&name.as_str())) {
            return Err(refuse(format!(
                "holds {other}, which is not part of the {} there; move it elsewhere",
                manifest.format
            )));
        }
        if !force {
            return Err(refuse(format!("holds an earlier result ({}); --force replaces it", manifest.format)));
        }
        Ok(new(true))
    }

    /// A temporary directory next to the destination, to write the files into. The remains of
    /// killed exports there are removed.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn begin(&self) -> Result<Unfinished, TrainError> {
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        directory::clean_up_abandoned(parent)?;
        Ok(Unfinished::beside(&self.path)?)
    }

    /// Moves `files` to the destination.
    ///
    /// # Errors
    /// If that fails, or if the destination has changed in the meantime.
    pub fn finish(&self, files: Unfinished) -> Result<(), TrainError> {
        // Check again: what has appeared there since must not be replaced unchecked.
        let now = Self::new(&self.path, &self.source, self.force)?;
        Ok(if now.replaces { files.replace(None) } else { files.put() }?)
    }
}

/// The manifest by which a directory is known to be a result of needle.
struct Manifest {
    format: String,
    /// Top-level names of its files.
    files: BTreeSet<String>,
}

impl Manifest {
    fn read(dir: &Path) -> Option<Self> {
        let manifest: Value = serde_json::from_slice(&std::fs::read(dir.join(MANIFEST)).ok()?).ok()?;
        let _version = manifest["needle_version"].as_str()?;
        let files = manifest["files"].as_array()?.iter().filter_map(|file| file["name"].as_str());
        Some(Self {
            format: manifest["format"].as_str()?.to_owned(),
            files: files.map(|name| name.split('/').next().unwrap_or(name).to_owned()).collect(),
        })
    }
}

/// The part of a manifest that describes the directory: format, version, and each file with its
/// size and hash.
pub fn manifest(format: &str, files: &[(String, Vec<u8>)]) -> Value {
    let file = |(name, bytes): &(String, Vec<u8>)| json!({"name": name, "bytes": bytes.len(), "sha256": hex(&Sha256::digest(bytes))});
    json!({
        "format": format,
        "needle_version": env!("CARGO_PKG_VERSION"),
        "files": files.iter().map(file).collect::<Vec<_>>(),
    })
}

fn names(dir: &Path) -> Result<BTreeSet<String>, ModelError> {
    let entries = std::fs::read_dir(dir).map_err(|e| ModelError::io(dir, e))?;
    let names = entries.map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()));
    names.collect::<Result<_, _>>().map_err(|e| ModelError::io(dir, e))
}
