//! Expands paths, directories and globs to files.

use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::packed;

/// Extensions of the files that a directory is searched for.
const EXTENSIONS: [&str; 7] = ["jsonl", "jsonl.gz", "jsonl.zst", "ndjson", "json.gz", "parquet", packed::EXTENSION];

/// The files that `patterns` name: files, directories (searched recursively for JSONL, parquet and
/// packed shards) and globs; sorted within each.
///
/// # Errors
/// If a pattern names nothing, a file is named twice or is empty, or a directory of packed shards
/// is incomplete.
pub fn expand<P: AsRef<Path>>(patterns: &[P]) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for pattern in patterns {
        let pattern = pattern.as_ref();
        let nothing = |reason: &str| DataError::io(pattern, std::io::Error::new(std::io::ErrorKind::NotFound, reason));
        let before = files.len();
        if pattern.is_dir() {
            search(pattern, &mut files)?;
            if files.len() == before {
                return Err(nothing(&format!("holds no file that ends in {}", EXTENSIONS.join(", "))));
            }
        } else if pattern.exists() {
            files.push(pattern.to_owned());
        } else {
            let text = pattern.to_string_lossy();
            let found = glob::glob(&text).map_err(|e| nothing(&format!("not a path and not a glob: {e}")))?;
            for path in found {
                let path = path.map_err(|e| DataError::io(e.path().to_owned(), e.into()))?;
                if path.is_file() {
                    files.push(path);
                }
            }
            if files.len() == before {
                return Err(nothing(if text.contains(['*', '?', '[']) { "matches no file" } else { "no such file" }));
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    for file in &files {
        if std::fs::metadata(file).map_err(|e| DataError::io(file, e))?.len() == 0 {
            return Err(DataError::Empty(file.clone()));
        }
        if !seen.insert(file.canonicalize().map_err(|e| DataError::io(file, e))?) {
            return Err(DataError::io(file, std::io::Error::other("named twice: its rows would count double")));
        }
    }
    packed::check_complete(&files)?;
    Ok(files)
}

fn search(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let entries = std::fs::read_dir(dir).map_err(|e| DataError::io(dir, e))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(|e| DataError::io(dir, e))?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            search(&path, files)?;
        } else if EXTENSIONS.iter().any(|e| name.strip_suffix(e).is_some_and(|stem| stem.ends_with('.'))) {
            files.push(path);
        }
    }
    Ok(())
}
