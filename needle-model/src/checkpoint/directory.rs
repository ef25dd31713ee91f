//! Atomic writes of directories: all files are written, or none.
//!
//! A new directory is written next to its destination, flushed to disk, and renamed in one step. If
//! it replaces another directory, the two are exchanged (`RENAME_EXCHANGE`), so that a complete
//! directory exists at the destination at every moment, even if the process is killed.
//!
//! Some file systems (NFS) cannot exchange two directories. There, the old directory is first set
//! aside under another name, and the new one then takes its place. A process that is killed in
//! between leaves the old directory complete under that name; [`recover`] puts it back, and nothing
//! deletes it before the new one is in place.
//!
//! A writer locks its unfinished directory, so that the remains of a killed process can be
//! distinguished from work in progress.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use needle_data::file::UNFINISHED;
use needle_runtime::file::locate::ASIDE;
pub use needle_runtime::file::locate::aside;
use tempfile::TempDir;

use crate::error::ModelError;

/// Writes the files of `dir`, all or none. The previous directory is moved to `keep`, or deleted if
/// `keep` is `None`.
///
/// # Errors
/// If something cannot be written; the previous directory is then intact.
pub fn write(
    dir: &Path,
    contents: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<[u8]>)>,
    keep: Option<&Path>,
) -> Result<(), ModelError> {
    let new = Unfinished::beside(dir)?;
    for (name, bytes) in contents {
        new.add(name.as_ref(), bytes.as_ref())?;
    }
    new.replace(keep)
}

/// The files of `dir` and of the folders in it, by name.
///
/// # Errors
/// If one cannot be read.
pub fn read(dir: &Path) -> Result<Vec<(String, Vec<u8>)>, ModelError> {
    let mut files = Vec::new();
    for (name, path) in entries(dir)? {
        if path.is_dir() {
            files.extend(read(&path)?.into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            files.push((name, std::fs::read(&path).map_err(|e| ModelError::io(&path, e))?));
        }
    }
    Ok(files)
}

/// A directory that is being written next to its destination. It is deleted when dropped, unless it
/// has been put in place.
#[derive(Debug)]
pub struct Unfinished {
    target: PathBuf,
    dir: TempDir,
    _lock: Option<File>,
}

impl Unfinished {
    /// An empty directory beside `target`, on the same file system.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn beside(target: &Path) -> Result<Self, ModelError> {
        let parent = parent(target);
        let create = || -> io::Result<Self> {
            std::fs::create_dir_all(parent)?;
            loop {
                let dir = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(parent)?;
                let lock = match lock(dir.path()) {
                    Lock::Held(lock) => Some(lock),
                    Lock::Unsupported => None,
                    Lock::Taken => continue,
                };
                // Another process that cleans up may have removed it as abandoned before it was
                // locked.
                if dir.path().exists() {
                    return Ok(Self { target: target.to_owned(), dir, _lock: lock });
                }
            }
        };
        create().map_err(|e| ModelError::io(target, e))
    }

    /// Where it is being written.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file; `name` may contain folders.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&self, name: &str, bytes: &[u8]) -> Result<(), ModelError> {
        let write = || -> io::Result<()> {
            let path = self.path().join(name);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|e| ModelError::io(self.target.join(name), e))
    }

    /// Renames it to its destination, which must be empty or not exist.
    ///
    /// # Errors
    /// If the destination exists and is not an empty directory, or the rename fails.
    pub fn put(self) -> Result<(), ModelError> {
        let Self { target, dir, _lock } = self;
        let put = || -> io::Result<()> {
            make_durable(dir.path())?;
            // The operating system refuses to rename onto a file, a link or a directory that is not
            // empty.
            std::fs::rename(dir.path(), &target)?;
            let _ = dir.keep();
            sync_names(parent(&target))
        };
        put().map_err(|e| ModelError::io(&target, e))
    }

    /// Renames it to its destination. A directory that is already there is moved to `keep`, or
    /// deleted if `keep` is `None`.
    ///
    /// # Errors
    /// If it cannot be renamed; the previous directory is then intact.
    pub fn replace(self, keep: Option<&Path>) -> Result<(), ModelError> {
        self.replace_with(keep, exchange)
    }

    fn replace_with(
        self,
        keep: Option<&Path>,
        exchange: impl Fn(&Path, &Path) -> io::Result<bool>,
    ) -> Result<(), ModelError> {
        let target = self.target.clone();
        let error = |e| ModelError::io(&target, e);
        recover(&target)?;
        if !target.exists() {
            return self.put();
        }
        let replace = || -> io::Result<()> {
            make_durable(self.path())?;
            // After the exchange, the old directory has the name of an unfinished one. The lock
            // keeps other processes from removing it.
            let _old = lock(&target);
            if !exchange(self.path(), &target)? {
                replace_by_setting_aside(self.path(), &target, &mut |from, to| std::fs::rename(from, to))?;
            }
            // The unfinished directory's path now holds the previous contents.
            if let Some(keep) = keep {
                if keep.exists() {
                    std::fs::remove_dir_all(keep)?;
                }
                std::fs::rename(self.path(), keep)?;
            }
            // The renames are durable only once the parent directory is synced. Only then may the
            // old directory be deleted.
            sync_names(parent(&target))
        };
        replace().map_err(error)
    }
}

/// Restores the directory `target` that a killed process had set aside, or deletes the one set
/// aside if a new one is already in place.
///
/// # Errors
/// If it cannot be renamed or removed.
pub fn recover(target: &Path) -> Result<(), ModelError> {
    let Some(aside) = aside(target).filter(|aside| aside.exists()) else { return Ok(()) };
    let recovered = if target.exists() { std::fs::remove_dir_all(&aside) } else { std::fs::rename(&aside, target) };
    recovered.map_err(|e| ModelError::io(target, e))
}

/// Removes what killed processes left unfinished in `dir`, and restores what they had set aside.
/// Use it only on a directory in which nobody else writes.
///
/// # Errors
/// If it cannot be removed or renamed.
pub fn clean_up(dir: &Path) -> Result<(), ModelError> {
    for (name, path) in entries(dir)? {
        if let Some(target) = name.strip_prefix(ASIDE) {
            recover(&dir.join(target))?;
        } else if name.starts_with(UNFINISHED) && !(path.is_dir() && matches!(lock(&path), Lock::Taken)) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes the unfinished directories in `dir` whose writers are known to be gone. It is safe in a
/// directory in which others write. On file systems without locks, it removes nothing.
///
/// # Errors
/// If one cannot be removed.
pub fn clean_up_abandoned(dir: &Path) -> Result<(), ModelError> {
    for (name, path) in entries(dir)? {
        if name.starts_with(UNFINISHED)
            && path.is_dir()
            && let Lock::Held(_lock) = lock(&path)
        {
            remove(&path)?;
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, ModelError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ModelError::io(dir, error)),
    };
    let named = entries.map(|entry| entry.map(|e| (e.file_name().to_string_lossy().into_owned(), e.path())));
    named.collect::<io::Result<_>>().map_err(|e| ModelError::io(dir, e))
}

fn remove(path: &Path) -> Result<(), ModelError> {
    // Of a link to a directory, only the link is removed.
    let removed = match path.symlink_metadata() {
        Ok(data) if data.is_dir() => std::fs::remove_dir_all(path),
        _ => std::fs::remove_file(path),
    };
    match removed {
        // Another process has already removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|e| ModelError::io(path, e)),
    }
}

enum Lock {
    Held(File),
    Taken,
    Unsupported,
}

/// Locks a directory. The lock is released when the process ends, even if it is killed.
fn lock(dir: &Path) -> Lock {
    let Ok(file) = File::open(dir) else { return Lock::Unsupported };
    match file.try_lock() {
        Ok(()) => Lock::Held(file),
        Err(TryLockError::WouldBlock) => Lock::Taken,
        // NFS, for example, cannot lock directories.
        Err(TryLockError::Error(_)) => Lock::Unsupported,
    }
}

fn parent(target: &Path) -> &Path {
    target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a new directory readable like any other, and flushes the names in it to disk.
fn make_durable(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_durable(&entry.path())?;
        }
    }
    sync_names(dir)
}

fn sync_names(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Exchanges two directories; `false` if the file system cannot.
fn exchange(a: &Path, b: &Path) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    {
        let _ = (a, b);
        Ok(false)
    }
}

/// Exchanges two directories in three renames. [`recover`] repairs what a process killed between
/// them leaves.
fn replace_by_setting_aside(
    new: &Path,
    target: &Path,
    rename: &mut dyn FnMut(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let aside = aside(target).ok_or_else(|| io::Error::other("the path does not end in a name"))?;
    rename(target, &aside)?;
    if let Err(error) = rename(new, target) {
        rename(&aside, target)?;
        return Err(error);
    }
    // Only once the new directory is durably in place may the old one get the name of an unfinished
    // one, which may be cleaned up.
    sync_names(parent(target))?;
    rename(&aside, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str) -> [(String, Vec<u8>); 2] {
        [("a".into(), text.into()), ("sub/b".into(), text.into())]
    }

    #[test]
    fn a_directory_is_replaced_whole_and_the_old_one_kept_on_request() {
        let root = tempfile::tempdir().unwrap();
        let (dir, old) = (root.path().join("x"), root.path().join("old"));
        write(&dir, contents("1"), Some(&old)).unwrap();
        assert!(!old.exists());
        write(&dir, contents("2"), Some(&old)).unwrap();
        write(&dir, contents("3"), None).unwrap();
        assert_eq!(std::fs::read(dir.join("sub/b")).unwrap(), b"3");
        assert_eq!(std::fs::read(old.join("sub/b")).unwrap(), b"1");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("x");
        write(&dir, contents("1"), None).unwrap();
        // A name that is a folder already cannot be written as a file.
        let impossible = [("sub/b".to_owned(), vec![1]), ("sub".to_owned(), vec![2])];
        assert!(write(&dir, impossible, None).is_err());
        assert_eq!(std::fs::read(dir.join("a")).unwrap(), b"1");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        let file = root.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = write(&file.join("x"), contents("1"), None).unwrap_err().to_string();
        assert!(error.contains("file"), "{error}");
    }

    #[test]
    fn leftovers_of_a_killed_process_are_removed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join(".needle-writing-abc/sub")).unwrap();
        std::fs::write(root.path().join(".needle-writing-def"), b"").unwrap();
        std::fs::create_dir(root.path().join("last")).unwrap();
        clean_up(root.path()).unwrap();
        assert!(root.path().join("last").exists());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        clean_up(&root.path().join("nowhere")).unwrap();
    }

    /// Calls `replace` so that the process seems to be killed at its `kill_at`-th rename.
    fn killed_at(kill_at: usize, new: &Path, target: &Path) {
        let mut renames = 0;
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            replace_by_setting_aside(new, target, &mut |from, to| {
                renames += 1;
                assert!(renames < kill_at, "killed");
                std::fs::rename(from, to)
            })
        }));
        assert!(killed.is_err());
    }

    #[test]
    fn without_an_exchange_of_names_a_kill_at_any_moment_leaves_the_old_or_the_new_directory_whole() {
        for (kill_at, expected) in [(1, "1"), (2, "1"), (3, "2")] {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().join("last");
            write(&dir, contents("1"), None).unwrap();
            let new = root.path().join(".needle-writing-new");
            write(&new, contents("2"), None).unwrap();
            killed_at(kill_at, &new, &dir);
            // What the next process does before anything else.
            clean_up(root.path()).unwrap();
            for name in ["a", "sub/b"] {
                assert_eq!(std::fs::read_to_string(dir.join(name)).unwrap(), expected, "killed at rename {kill_at}");
            }
            assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing else is left");
        }
    }

    #[test]
    fn without_an_exchange_of_names_directories_are_replaced_kept_and_left_alone_on_failure_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let (dir, old) = (root.path().join("x"), root.path().join("old"));
        let write = |text: &str, keep: Option<&Path>| {
            let new = Unfinished::beside(&dir).unwrap();
            contents(text).iter().for_each(|(name, bytes)| new.add(name, bytes).unwrap());
            new.replace_with(keep, |_, _| Ok(false))
        };
        write("1", Some(&old)).unwrap();
        write("2", Some(&old)).unwrap();
        write("3", None).unwrap();
        assert_eq!(std::fs::read(dir.join("sub/b")).unwrap(), b"3");
        assert_eq!(std::fs::read(old.join("sub/b")).unwrap(), b"1");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2, "nothing else is left");
        // A save that finds the remains of a killed one begins by putting them back.
        std::fs::rename(&dir, aside(&dir).unwrap()).unwrap();
        write("4", Some(&old)).unwrap();
        assert_eq!(std::fs::read(old.join("sub/b")).unwrap(), b"3");
    }

    #[test]
    fn only_what_nobody_is_writing_any_more_is_cleaned_up() {
        let root = tempfile::tempdir().unwrap();
        let in_progress = Unfinished::beside(&root.path().join("x")).unwrap();
        let abandoned = root.path().join(".needle-writing-abandoned");
        std::fs::create_dir(&abandoned).unwrap();
        // Plain files may belong to any process: their writers hold no lock.
        std::fs::write(root.path().join(".needle-writing-file"), b"").unwrap();
        clean_up_abandoned(root.path()).unwrap();
        assert!(in_progress.path().exists() && !abandoned.exists());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2);
        clean_up(root.path()).unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        in_progress.put().unwrap();
        assert!(root.path().join("x").is_dir());
    }

    #[test]
    fn what_is_put_takes_the_place_of_nothing_or_of_an_empty_directory_only() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let new = Unfinished::beside(&root.path().join(name)).unwrap();
            new.add("a", b"new").unwrap();
            new.put()
        };
        std::fs::create_dir(root.path().join("empty")).unwrap();
        std::fs::write(root.path().join("file"), b"old").unwrap();
        std::fs::create_dir(root.path().join("full")).unwrap();
        std::fs::write(root.path().join("full/thesis"), b"old").unwrap();
        put("new").unwrap();
        put("empty").unwrap();
        put("file").unwrap_err();
        put("full").unwrap_err();
        assert_eq!(std::fs::read(root.path().join("file")).unwrap(), b"old");
        assert_eq!(std::fs::read(root.path().join("full/thesis")).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 4, "and nothing is left beside it");
    }
}
