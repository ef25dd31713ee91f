//! Directories written whole or not at all.
//!
//! A new directory is written beside its place, flushed to disk, and put there in one step. Where it replaces another, the two
//! change places (`RENAME_EXCHANGE`), so that at every moment one whole directory stands there, whenever a process is killed.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use needle_data::file::UNFINISHED;

use crate::error::ModelError;

/// Writes the files of `dir`, all or none. What was there before goes to `keep`, or away.
///
/// # Errors
/// If something cannot be written; what was there before is then still there.
pub fn write(
    dir: &Path,
    contents: impl IntoIterator<Item = (String, Vec<u8>)>,
    keep: Option<&Path>,
) -> Result<(), ModelError> {
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(parent)?;
        // Taken away again, should anything fail from here on.
        let new = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(parent)?;
        for (name, bytes) in contents {
            let path = new.path().join(name);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut file = File::create(&path)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
        }
        #[cfg(unix)]
        std::fs::set_permissions(new.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        if !dir.exists() {
            std::fs::rename(new.keep(), dir)?;
        } else {
            exchange(new.path(), dir)?;
            // `new` now holds what was there before.
            if let Some(keep) = keep {
                if keep.exists() {
                    std::fs::remove_dir_all(keep)?;
                }
                std::fs::rename(new.keep(), keep)?;
            }
        }
        // The rename itself is on disk only when the directory that holds the names is.
        if cfg!(unix) { File::open(parent)?.sync_all() } else { Ok(()) }
    };
    write().map_err(|e| ModelError::io(dir, e))
}

/// Removes what a killed process left half written in `parent`.
///
/// # Errors
/// If it cannot be removed.
pub fn clean_up(parent: &Path) -> Result<(), ModelError> {
    let clean = || -> io::Result<()> {
        for entry in std::fs::read_dir(parent)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    if !parent.exists() {
        return Ok(());
    }
    clean().map_err(|e| ModelError::io(parent, e))
}

/// Two directories change places.
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
            // Some file systems cannot.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            other => return other.map_err(Into::into),
        }
    }
    // In three steps: killed between them, the directory stands under another name beside its place.
    let aside = a.with_extension("aside");
    std::fs::rename(b, &aside)?;
    if let Err(error) = std::fs::rename(a, b) {
        std::fs::rename(&aside, b)?;
        return Err(error);
    }
    std::fs::rename(&aside, a)
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
}
