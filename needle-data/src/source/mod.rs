//! Lines of plain, gzip and zstd files, each with its place, and files written whole or not at all.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{DataError, Place, Problem, ProblemCode};
use crate::example::Example;

/// Opens a file for reading, unpacking by its extension: `.gz`, `.zst`, anything else as it is.
///
/// # Errors
/// If the file cannot be opened.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, DataError> {
    let file = File::open(path).map_err(|e| DataError::io(path, e))?;
    let reader: Box<dyn Read + Send> = match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file).map_err(|e| DataError::io(path, e))?),
        _ => Box::new(file),
    };
    Ok(Box::new(BufReader::with_capacity(1 << 16, reader)))
}

/// The non-blank lines of a file, with their places.
///
/// A line that is not UTF-8 is an item of its own: the caller decides whether that ends the run.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    line: usize,
}

impl Lines {
    /// Opens `path`.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Ok(Self { path: path.to_owned(), reader: open(path)?, line: 0 })
    }
}

impl Iterator for Lines {
    type Item = Result<(Place, Result<String, Problem>), DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut bytes = Vec::new();
            match self.reader.read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(e) => return Some(Err(DataError::io(format!("{}:{}", self.path.display(), self.line + 1), e))),
            }
            self.line += 1;
            // Windows editors put a byte-order mark in front of the file and a carriage return at each line's end.
            let bytes = if self.line == 1 { bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes) } else { &bytes };
            let bytes = bytes.trim_ascii();
            if bytes.is_empty() {
                continue;
            }
            let place = Place { file: self.path.clone(), line: self.line };
            let text = String::from_utf8(bytes.to_vec())
                .map_err(|e| Problem::new("line", ProblemCode::NotJson, format!("not UTF-8: {e}")));
            return Some(Ok((place, text)));
        }
    }
}

/// A row's place, and its example or what is wrong with it.
pub type Row = (Place, Result<Example, Problem>);

/// The examples of a file, good and bad, each with its place.
///
/// # Errors
/// If the file cannot be opened.
pub fn examples(path: &Path) -> Result<impl Iterator<Item = Result<Row, DataError>>, DataError> {
    Ok(Lines::open(path)?.map(|line| {
        let (place, text) = line?;
        Ok((place, text.and_then(|text| Example::parse(&text))))
    }))
}

/// What to do with a row that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// Stop with its place and reason.
    #[default]
    Fail,
    /// Leave it out, and count it under its reason.
    Skip,
}

/// Rows left out, by reason.
pub type Skipped = std::collections::BTreeMap<ProblemCode, usize>;

/// Reads all examples of all files.
///
/// # Errors
/// A file that cannot be read or has no row at all; the first bad row unless `on_bad_row` is [`OnBadRow::Skip`].
pub fn load_examples(paths: &[PathBuf], on_bad_row: OnBadRow) -> Result<(Vec<Example>, Skipped), DataError> {
    let mut loaded = Vec::new();
    let mut skipped = Skipped::new();
    for path in paths {
        let mut rows = 0;
        for row in examples(path)? {
            rows += 1;
            match row? {
                (_, Ok(example)) => loaded.push(example),
                (place, Err(problem)) if on_bad_row == OnBadRow::Fail => return Err(DataError::Row { place, problem }),
                (_, Err(problem)) => *skipped.entry(problem.code).or_default() += 1,
            }
        }
        if rows == 0 {
            return Err(DataError::Empty(path.clone()));
        }
    }
    Ok((loaded, skipped))
}

/// Writes a file whole or not at all: into a temporary file beside it, flushed to disk, then renamed.
///
/// # Errors
/// If the directory cannot be created or the file cannot be written.
pub fn write_atomically(path: &Path, contents: &[u8]) -> Result<(), DataError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(parent)?;
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        // The temporary file is readable by its owner only; the result is an ordinary file.
        #[cfg(unix)]
        std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| DataError::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"query":"q","tools":[{"name":"a"}],"answers":[]}"#;

    fn file(name: &str, contents: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, contents).unwrap();
        (dir, path)
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_gzip_and_zstd_files_read_the_same() {
        let text = format!("\u{feff}{GOOD}\r\n\n{GOOD}");
        for (name, bytes) in [
            ("a.jsonl", text.clone().into_bytes()),
            ("a.jsonl.gz", gzip(&text)),
            ("a.jsonl.zst", zstd::encode_all(text.as_bytes(), 1).unwrap()),
        ] {
            let (_dir, path) = file(name, &bytes);
            let (loaded, skipped) = load_examples(&[path], OnBadRow::Fail).unwrap();
            assert_eq!((loaded.len(), skipped.len()), (2, 0), "{name}");
        }
    }

    #[test]
    fn a_bad_row_stops_with_its_line_or_is_counted() {
        let (_dir, path) = file("a.jsonl", format!("{GOOD}\n\n{{\n{GOOD}\n\"\\\u{1}\"\n").as_bytes());
        let error = load_examples(std::slice::from_ref(&path), OnBadRow::Fail).unwrap_err();
        assert!(error.to_string().contains("a.jsonl:3: line: not JSON"), "{error}");
        let (loaded, skipped) = load_examples(&[path], OnBadRow::Skip).unwrap();
        assert_eq!((loaded.len(), skipped[&ProblemCode::NotJson]), (2, 2));
    }

    #[test]
    fn truncated_missing_and_empty_files_are_errors() {
        let whole = gzip(&GOOD.repeat(50));
        let (_dir, path) = file("a.jsonl.gz", &whole[..whole.len() / 2]);
        assert!(matches!(load_examples(&[path], OnBadRow::Skip), Err(DataError::Io { .. })));
        let (_dir, path) = file("a.jsonl", b"\n\n");
        assert!(matches!(load_examples(&[path], OnBadRow::Skip), Err(DataError::Empty(_))));
        assert!(matches!(load_examples(&["/nowhere/a.jsonl".into()], OnBadRow::Skip), Err(DataError::Io { .. })));
    }

    #[test]
    fn invalid_utf8_is_a_problem_of_its_line() {
        let (_dir, path) = file("a.jsonl", &[GOOD.as_bytes(), b"\n\"\xff\"\n"].concat());
        let error = load_examples(&[path], OnBadRow::Fail).unwrap_err();
        assert!(error.to_string().contains(":2: line: not UTF-8"), "{error}");
    }
}
