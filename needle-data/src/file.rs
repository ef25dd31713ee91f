//! Opens regular files, decompresses files while they are read, and writes files atomically.

use std::fs::{File, FileType, Metadata};
#[cfg(feature = "training")]
use std::io::{BufRead, BufReader};
use std::io::{Read, Write};
use std::path::Path;

use crate::error::DataError;

/// Opens a regular file for reading; everything that is read from disk goes through this function.
/// Other kinds of files are refused: opening a pipe without a writer blocks forever, and a device
/// such as `/dev/zero` never ends.
///
/// # Errors
/// If it cannot be opened, or is a directory, a pipe, a socket or a device.
pub fn open_regular(path: &Path) -> Result<File, DataError> {
    let check = |metadata: std::io::Result<Metadata>| match metadata.map(|metadata| other_kind(metadata.file_type())) {
        Ok(None) => Ok(()),
        Ok(Some(kind)) => Err(std::io::Error::other(format!("is {kind}, expected a regular file"))),
        Err(error) => Err(error),
    };
    let open = || {
        // Check before opening, because opening alone may block, and again afterwards, in case the
        // file was replaced in between.
        check(std::fs::metadata(path))?;
        let file = File::open(path)?;
        check(file.metadata())?;
        Ok(file)
    };
    open().map_err(|e| DataError::io(path, e))
}

/// Name of the kind of file, for a message; `None` for a regular file.
fn other_kind(kind: FileType) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
    }
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a directory"),
        () => Some("a special file"),
    }
}

/// The contents of a file.
///
/// # Errors
/// As [`open_regular`], or if it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let mut file = open_regular(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| DataError::io(path, e))?;
    Ok(bytes)
}

/// The contents of a text file.
///
/// # Errors
/// As [`read`], or if it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, DataError> {
    let mut text = String::new();
    open_regular(path)?.read_to_string(&mut text).map_err(|e| DataError::io(path, e))?;
    Ok(text)
}

/// Opens a file for reading and decompresses it according to its extension, `.gz` or `.zst`; any
/// other file is read as it is.
///
/// # Errors
/// As [`open_regular`].
#[cfg(feature = "training")]
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, DataError> {
    let file = open_regular(path)?;
    let reader: Box<dyn Read + Send> = match compression(path) {
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Compression::Zstd => Box::new(zstd::Decoder::new(file).map_err(|e| DataError::io(path, e))?),
        Compression::None => Box::new(file),
    };
    Ok(Box::new(BufReader::with_capacity(1 << 18, reader)))
}

/// Compression of a file, according to its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed.
    None,
    /// `.gz`.
    Gzip,
    /// `.zst`.
    Zstd,
}

/// Compression of the file at `path`.
pub fn compression(path: &Path) -> Compression {
    match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => Compression::Gzip,
        Some("zst") => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Prefix of the names of files and directories that are being written; a killed process leaves
/// them behind.
pub const UNFINISHED: &str = ".needle-writing-";

/// Writes a file atomically: a temporary file beside it is written, flushed to disk and renamed.
///
/// # Errors
/// If the directory cannot be created or the file cannot be written.
pub fn write_atomically(path: &Path, contents: &[u8]) -> Result<(), DataError> {
    write_with(path, |file| file.write_all(contents))
}

/// Like [`write_atomically`], with contents that `write` produces.
///
/// # Errors
/// Also those of `write`.
pub fn write_with(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), DataError> {
    write_whole(path, write).map_err(|e| DataError::io(path, e))
}

#[cfg(target_family = "wasm")]
fn write_whole(_: &Path, _: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_family = "wasm"))]
fn write_whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(parent)?;
    let mut buffered = std::io::BufWriter::with_capacity(1 << 20, file);
    write(&mut buffered)?;
    let file = buffered.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    // The temporary file is readable by its owner only; the result is an ordinary file.
    #[cfg(unix)]
    std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn pipes_devices_sockets_and_directories_are_refused_without_waiting_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        for (name, kind) in
            [("pipe", "a pipe"), ("socket", "a socket"), ("folder", "a directory"), ("zero", "a device")]
        {
            let expected = format!("{}: is {kind}, expected a regular file", at(name).display());
            assert_eq!(open_regular(&at(name)).unwrap_err().to_string(), expected);
            assert_eq!(open(&at(name)).map(|_| ()).unwrap_err().to_string(), expected);
            assert_eq!(read(&at(name)).unwrap_err().to_string(), expected);
            assert_eq!(read_text(&at(name)).unwrap_err().to_string(), expected);
        }
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        assert_eq!(read_text(&at("link")).unwrap(), "text", "a link to a regular file is one");
    }
}
