//! Lines of a text file, with a position from which reading can resume.

use std::io::{BufRead, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{Content, MAX_ROW_BYTES, Position, Row};
use crate::error::{DataError, Place};
use crate::file::{self, Compression, compression};

/// The non-blank lines of a file. Windows line endings and a byte-order mark are removed.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    /// Lines read, and bytes of the decompressed file.
    position: Position,
    has_rows: bool,
}

impl Lines {
    /// Opens `path` at `position`: by seeking in an uncompressed file, by reading up to there in a
    /// compressed one.
    ///
    /// # Errors
    /// If the file cannot be opened, or ends before `position`.
    pub fn open(path: &Path, position: Position) -> Result<Self, DataError> {
        let ends = || {
            let reason = format!("ends before byte {}, where reading should resume", position.byte);
            DataError::io(path, std::io::Error::other(reason))
        };
        let reader: Box<dyn BufRead + Send> = if position.byte > 0 && compression(path) == Compression::None {
            let mut file = file::open_regular(path)?;
            if file.seek(SeekFrom::End(0)).map_err(|e| DataError::io(path, e))? < position.byte {
                return Err(ends());
            }
            file.seek(SeekFrom::Start(position.byte)).map_err(|e| DataError::io(path, e))?;
            Box::new(std::io::BufReader::with_capacity(1 << 18, file))
        } else {
            let mut reader = file::open(path)?;
            let skipped = std::io::copy(&mut reader.by_ref().take(position.byte), &mut std::io::sink());
            if skipped.map_err(|e| DataError::io(path, e))? < position.byte {
                return Err(ends());
            }
            reader
        };
        Ok(Self { path: path.to_owned(), reader, position, has_rows: position.row > 0 })
    }

    /// Where the next line starts.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next line that is not blank.
    ///
    /// # Errors
    /// If the file cannot be read further, for example because it is truncated or damaged, or has
    /// no row at all.
    pub fn next_row(&mut self) -> Result<Option<Row>, DataError> {
        loop {
            let line = self.position.row + 1;
            let fail = |path: &Path, e| DataError::io(format!("{}:{line}", path.display()), e);
            let mut bytes = Vec::new();
            let mut length = 0;
            // Like `read_until`, but a line that is too long is not kept in memory.
            loop {
                let available = self.reader.fill_buf().map_err(|e| fail(&self.path, e))?;
                let end = memchr::memchr(b'\n', available);
                let part = &available[..end.unwrap_or(available.len())];
                if length + part.len() <= MAX_ROW_BYTES {
                    bytes.extend_from_slice(part);
                } else {
                    bytes = Vec::new();
                }
                length += part.len();
                let (used, done) = (part.len() + usize::from(end.is_some()), end.is_some() || available.is_empty());
                self.reader.consume(used);
                self.position.byte += used as u64;
                if done {
                    if length == 0 && end.is_none() {
                        return if self.has_rows { Ok(None) } else { Err(DataError::Empty(self.path.clone())) };
                    }
                    break;
                }
            }
            self.position.row = line;
            let place = || Place { file: self.path.clone(), line: line as usize };
            if length > MAX_ROW_BYTES {
                self.has_rows = true;
                return Ok(Some(Row { place: place(), content: Content::TooLong(length) }));
            }
            if line == 1 && bytes.starts_with(b"\xEF\xBB\xBF") {
                bytes.drain(..3);
            }
            let trimmed = bytes.trim_ascii();
            if trimmed.is_empty() {
                continue;
            }
            if trimmed.len() != bytes.len() {
                bytes = trimmed.to_vec();
            }
            bytes.shrink_to_fit();
            self.has_rows = true;
            return Ok(Some(Row { place: place(), content: Content::Line(bytes) }));
        }
    }
}
