//! The list of a directory's shards, written after the last of them: shards without it are the
//! beginning of something that did not come to its end.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::EXTENSION;
use crate::error::DataError;
use crate::file::{self, UNFINISHED};

/// Name of the list.
const INDEX: &str = "index.json";
/// Version of the list.
const VERSION: u32 = 1;

/// The shards of a directory.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    pub(super) shards: Vec<IndexEntry>,
}

/// A shard of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexEntry {
    /// Its name in the directory.
    pub(super) file: String,
    /// Its length.
    pub(super) bytes: u64,
    /// Its rows.
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
        #[expect(clippy::expect_used, reason = "numbers and strings")]
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
            other => Err(bad(&path, format!("version {other}; this program reads {VERSION}; pack the text anew"))),
        }
    }
}

fn why_there_is_none(dir: &Path) -> &'static str {
    match Unfinished::is_locked(dir) {
        None => {
            "no index.json, which `needle data pack` writes after the last shard: some may be missing; pack the text anew"
        }
        Some(true) => "`needle data pack` is still writing its shards here; wait until it has ended",
        Some(false) => {
            "`needle data pack` was ended before it had written all shards; the same command again removes what it \
             left and packs them all"
        }
    }
}

/// Checks that the directories of the packed shards among `files` were packed to their end and
/// still hold all that was packed.
///
/// # Errors
/// What a directory lacks, or a shard that does not belong to its directory.
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
                    let reason = format!("{file} has {length} bytes, index.json says {bytes}; pack the text anew");
                    return Err(bad(dir, reason));
                }
                Err(_) => return Err(bad(dir, format!("{file} is missing; pack the text anew"))),
            }
        }
        for path in paths {
            let name = path.file_name().unwrap_or_default();
            if !index.shards.iter().any(|shard| *shard.file == *name) {
                return Err(bad(
                    path,
                    "not among the shards that index.json beside it names; each packed directory is \
                                      read as it was written",
                ));
            }
        }
    }
    Ok(())
}

/// The mark of a directory whose shards are being written: a locked file. A killed process leaves
/// it, unlocked, and its shards.
#[derive(Debug)]
pub(super) struct Unfinished {
    path: PathBuf,
    _lock: File,
}

impl Unfinished {
    fn path(dir: &Path) -> PathBuf {
        dir.join(format!("{UNFINISHED}shards"))
    }

    /// Whether a process is writing there; none where the directory has no mark.
    fn is_locked(dir: &Path) -> Option<bool> {
        let file = File::open(Self::path(dir)).ok()?;
        Some(matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Marks `dir`, which is made if it is not there, after removing what a killed process left in
    /// it.
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
            // A file system without locks: then nobody can be told apart, and nobody is kept out.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(DataError::io(path, error)),
        }
        let unfinished = Self { path, _lock: lock };
        // Another process may have come to its end since the first look.
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

    /// Takes the mark off: everything is there.
    pub(super) fn end(&self) -> Result<(), DataError> {
        std::fs::remove_file(&self.path).map_err(|e| DataError::io(&self.path, e))
    }

    /// Takes everything away again, as far as it can be.
    pub(super) fn undo(&self) {
        if self.remove_remains().is_ok() && self.end().is_ok() {
            let _ = self.path.parent().map(std::fs::remove_dir);
        }
    }
}

/// The shards in `dir`, by their names.
fn shards_in(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let entries = std::fs::read_dir(dir).map_err(|e| DataError::io(dir, e))?;
    let is_shard = |path: &PathBuf| {
        let stem = path.file_stem().unwrap_or_default().as_encoded_bytes();
        path.extension().is_some_and(|e| e == EXTENSION) && stem.len() >= 5 && stem.iter().all(u8::is_ascii_digit)
    };
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_shard).collect())
}
