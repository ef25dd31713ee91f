//! Allows one run at a time in a directory, by a file lock that the operating system releases when
//! the process ends, even if it is killed.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use needle_model::ModelError;

use crate::error::TrainError;

/// Name of the file that is locked. It stays after the lock is released, and marks the directory as
/// a run's.
pub const FILE: &str = "run.lock";

/// The lock of a run's directory, held until it is dropped.
#[derive(Debug)]
pub struct RunLock {
    path: PathBuf,
    _file: File,
}

impl RunLock {
    /// Locks the directory `dir`, which exists.
    ///
    /// # Errors
    /// If another process (or another run of this one) holds the lock, or the file cannot be
    /// written.
    pub fn take(dir: &Path) -> Result<Self, TrainError> {
        let path = dir.join(FILE);
        let error = |e| ModelError::io(&path, e);
        loop {
            let mut file =
                File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(error)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let _ = file.read_to_string(&mut holder);
                    let reason = format!(
                        "another run is writing here ({}); wait until it ends, or choose another --out",
                        holder.trim()
                    );
                    return Err(TrainError::Run { path: dir.to_owned(), reason });
                }
                Err(TryLockError::Error(error)) => tracing::warn!(
                    "{}: this file system does not support locks ({error}); make sure that no second run writes here",
                    dir.display()
                ),
            }
            // A run that left nothing behind may have removed the file after we opened it and
            // before we locked it.
            if !is_same(&file, &path) {
                continue;
            }
            let holder = format!("process {}\n", std::process::id());
            file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(error)?;
            file.write_all(holder.as_bytes()).map_err(error)?;
            return Ok(Self { path, _file: file });
        }
    }

    /// Removes the file and releases the lock, in this order.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether `file` is still the file at `path`.
fn is_same(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |data: std::io::Result<std::fs::Metadata>| data.ok().map(|data| (data.dev(), data.ino()));
        let here = id(file.metadata());
        here.is_some() && here == id(path.metadata())
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_told_who_holds_the_directory_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunLock::take(dir.path()).unwrap();
        let error = RunLock::take(dir.path()).unwrap_err().to_string();
        let process = format!("process {}", std::process::id());
        assert!(error.contains("another run is writing here") && error.contains(&process), "{error}");
        drop(first);
        RunLock::take(dir.path()).unwrap().remove();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
