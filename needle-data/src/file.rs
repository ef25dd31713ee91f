//! Files unpacked as they are read, and written whole or not at all.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use crate::error::DataError;

/// Opens a file for reading, unpacking by its extension: `.gz`, `.zst`, anything else as it is.
///
/// # Errors
/// If the file cannot be opened.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, DataError> {
    let file = File::open(path).map_err(|e| DataError::io(path, e))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(DataError::io(path, std::io::Error::other("is a directory, expected a file")));
    }
    let reader: Box<dyn Read + Send> = match packing(path) {
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Packing::Zstd => Box::new(zstd::Decoder::new(file).map_err(|e| DataError::io(path, e))?),
        Packing::None => Box::new(file),
    };
    Ok(Box::new(BufReader::with_capacity(1 << 18, reader)))
}

/// How a file is packed, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    None,
    /// `.gz`.
    Gzip,
    /// `.zst`.
    Zstd,
}

/// How the file called `path` is packed.
pub fn packing(path: &Path) -> Packing {
    match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => Packing::Gzip,
        Some("zst") => Packing::Zstd,
        _ => Packing::None,
    }
}

/// How the names begin of files and directories that are being written; a killed process leaves them.
pub const UNFINISHED: &str = ".needle-writing-";

/// Writes a file whole or not at all: into a temporary file beside it, flushed to disk, then renamed.
///
/// # Errors
/// If the directory cannot be created or the file cannot be written.
pub fn write_atomically(path: &Path, contents: &[u8]) -> Result<(), DataError> {
    write_with(path, |file| file.write_all(contents))
}

/// As [`write_atomically`], with contents that `write` produces.
///
/// # Errors
/// Also those of `write`.
pub fn write_with(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), DataError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
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
    };
    write().map_err(|e| DataError::io(path, e))
}
