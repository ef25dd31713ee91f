//! The index of a directory's shards. It is written after the last shard, so a directory without it
//! is incomplete.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::EXTENSION;
use crate::error::DataError;
use crate::file::{self, UNFINISHED};

/// File name of the index.
const INDEX: &str = "index.json";
/// Format version of the index.
const VERSION: u32 = 1;

/// The contents of `index.json`: the shards of a directory.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    pub(super) shards: Vec<IndexEntry>,
}

/// One shard of the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexEntry {
    /// File name in the directory.
    pub(super) file: String,
    /// Length of the file in bytes.
    pub(super) bytes: u64,
    /// Number of rows.
    pub(super) rows: usize,
}

/// Name of the shard with number `index`.
pub(super) fn shard_name(index: usize) -> String {
    format!("{index:05}.{EXTENSION}")
}

fn bad(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Packed { path: path.to_owned(), reason: reason.into() }
}

impl Index {
    pub(super) fn write(dir: &Path, shards: Vec<IndexEntry>) -> Result<(), DataError> {
        let index = Self { version: VERSION, shards };
        #[expect(clippy::expect_used, reason = "numbers and strings can always be written as JSON")]
        let text = serde_json::to_vec_pretty(&index).expect("an index can be written as JSON");
        file::write_atomically(&dir.join(INDEX), &text)
    }

    fn read(dir: &Path) -> Result<Self, DataError> {
        let path = dir.join(INDEX);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(bad(dir, why_there_is_none(dir))),
            Err(error) => return Err(DataError::io(path, error)),
        };
        let index: Self = serde_json::from_slice(&text).map_err(|e| bad(&path, format!("unreadable: {e}")))?;
        match index.version {
            VERSION => Ok(index),
            other => Err(bad(&path, format!("version {other}; this program reads {VERSION}; pack the text again"))),
        }
    }
}

fn why_there_is_none(dir: &Path) -> &'static str {
    match Unfinished::is_locked(dir) {
        None => {
            "no index.json, which `needle data pack` writes after the last shard: some may be missing; pack the text again"
        }
        Some(true) => "`needle data pack` is still writing its shards here; wait until it is done",
        Some(false) => {
            "`needle data pack` was interrupted before it had written all shards; the same command removes what it \
             left behind and packs all of them"
        }
    }
}

/// Checks that each directory of the packed shards among `files` was packed completely and still
/// holds all its shards.
///
/// # Errors
/// If a directory lacks its index or a shard, or a shard does not belong to its directory.
pub(crate) fn check_complete(files: &[PathBuf]) -> Result<(), DataError> {
    let mut by_dir: BTreeMap<&Path, Vec<&Path>> = BTreeMap::new();
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == EXTENSION)) {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        by_dir.entry(dir).or_default().push(path);
    }
    for (dir, paths) in by_dir {
        let index = Index::read(dir)?;
        for IndexEntry { file, bytes, .. } in &index.shards {
            match std::fs::metadata(dir.join(file)).map(|found| found.len()) {
                Ok(length) if length == *bytes => {}
                Ok(length) => {
                    let reason = format!("{file} has {length} bytes, but index.json says {bytes}; pack the text again");
                    return Err(bad(dir, reason));
                }
                Err(_) => return Err(bad(dir, format!("{file} is missing; pack the text again"))),
            }
        }
        for path in paths {
            let name = path.file_name().unwrap_or_default();
            if !index.shards.iter().any(|shard| *shard.file == *name) {
                return Err(bad(
                    path,
                    "not among the shards in the index.json beside it; a packed directory must stay \
                                      as it was written",
                ));
            }
        }
    }
    Ok(())
}

/// Marks a directory whose shards are being written, by a locked file. A killed process leaves the
/// file, unlocked, and its shards behind.
#[derive(Debug)]
pub(super) struct Unfinished {
    path: PathBuf,
    _lock: File,
}

impl Unfinished {
    fn path(dir: &Path) -> PathBuf {
        dir.join(format!("{UNFINISHED}shards"))
    }

    /// Whether a process is writing there; `None` if the directory has no mark.
    fn is_locked(dir: &Path) -> Option<bool> {
        let file = File::open(Self::path(dir)).ok()?;
        Some(matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Creates `dir` if necessary, marks it, and removes what a killed process left in it.
    pub(super) fn begin(dir: &Path) -> Result<Self, DataError> {
        std::fs::create_dir_all(dir).map_err(|e| DataError::io(dir, e))?;
        let path = Self::path(dir);
        let is_our_own = path.exists();
        let has_shards = || bad(dir, "holds packed shards already; name another directory or remove them");
        if dir.join(INDEX).exists() || !is_our_own && !shards_in(dir)?.is_empty() {
            return Err(has_shards());
        }
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = file.map_err(|e| DataError::io(&path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(bad(dir, "another `needle data pack` is writing here")),
            // A file system without locks: another writer cannot be detected, so none is refused.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(DataError::io(path, error)),
        }
        let unfinished = Self { path, _lock: lock };
        // Another process may have finished since the first check.
        if dir.join(INDEX).exists() {
            unfinished.end()?;
            return Err(has_shards());
        }
        unfinished.remove_remains()?;
        Ok(unfinished)
    }

    fn remove_remains(&self) -> Result<(), DataError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let mut remains = shards_in(dir)?;
        let entries = std::fs::read_dir(dir).map_err(|e| DataError::io(dir, e))?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        remains.extend(paths.filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(UNFINISHED) && *path != self.path && path.is_file()
        }));
        remains.iter().try_for_each(|path| std::fs::remove_file(path).map_err(|e| DataError::io(path, e)))
    }

    /// Removes the mark: the directory is complete.
    pub(super) fn end(&self) -> Result<(), DataError> {
        std::fs::remove_file(&self.path).map_err(|e| DataError::io(&self.path, e))
    }

    /// Removes everything that was written, as far as possible.
    pub(super) fn undo(&self) {
        if self.remove_remains().is_ok() && self.end().is_ok() {
            let _ = self.path.parent().map(std::fs::remove_dir);
        }
    }
}

/// Paths of the shards in `dir`, recognized by their names.
fn shards_in(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let entries = std::fs::read_dir(dir).map_err(|e| DataError::io(dir, e))?;
    let is_shard = |path: &PathBuf| {
        let stem = path.file_stem().unwrap_or_default().as_encoded_bytes();
        path.extension().is_some_and(|e| e == EXTENSION) && stem.len() >= 5 && stem.iter().all(u8::is_ascii_digit)
    };
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_shard).collect())
}
