//! Hashes of a run's inputs: a run resumes only with the same data, validation examples and base.
//!
//! A position in the data ([`needle_data::order::stream::Cursor`]) holds only names and lengths,
//! which do not show that a user has edited a file between two sessions of a run.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use needle_data::order::stream::Sources;
use needle_data::source::Shard;
use needle_data::text::record::Record;
use needle_data::tokenizer::hex;
use needle_data::{DataError, Example};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::TrainError;

/// Data of more bytes than this are compared by samples of each file, because reading all of them
/// would keep a cluster waiting.
const READ_WHOLE_BYTES: u64 = 1 << 30;
/// Length of a sample: one is taken at the beginning, one in the middle and one at the end.
const SAMPLE_BYTES: u64 = 1 << 16;

/// The inputs of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// Name and hash of each file of the data, in order.
    data: Vec<(String, String)>,
    /// Hash of the validation rows.
    validation: String,
    /// Hash of the weights with which the run started; `None` if they were new.
    base: Option<String>,
}

/// The checkpoint with which a run starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// None: new weights.
    None,
    /// A checkpoint whose weights have this hash.
    Checkpoint(String),
    /// Unknown: the user resumes a run without naming its base.
    NotNamed,
}

impl Inputs {
    /// Hashes what a run is about to read.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn new(data: &Sources, validation: &[Record], base: &Base) -> Result<Self, DataError> {
        let base = match base {
            Base::Checkpoint(hash) => Some(hash.clone()),
            Base::None | Base::NotNamed => None,
        };
        Ok(Self { data: data_hashes(data)?, validation: rows_hash(validation), base })
    }

    /// How these inputs, of a resumed run, differ from those with which it started (`begun`), and
    /// what to do about it.
    pub fn difference(&self, begun: &Self, base: &Base) -> Option<String> {
        if *base != Base::NotNamed && self.base != begun.base {
            let it_was = if begun.base.is_some() { "another checkpoint" } else { "new weights" };
            return Some(format!(
                "the run started from {it_was}, not from this --base; leave --base out, or start a new run with another --out"
            ));
        }
        if self.validation != begun.validation {
            return Some(
                "the validation examples are not those of the run, so its results would not be comparable; use the --val that \
                 the run started with"
                    .into(),
            );
        }
        let changed = self.data.iter().zip(&begun.data).find(|(now, then)| now.1 != then.1);
        let name = match changed {
            Some(((name, _), _)) => name,
            None if self.data.len() == begun.data.len() => return None,
            None => "the list of files",
        };
        Some(format!(
            "the data are not those of the run: {name} has changed since it started; restore it, or start a new run from \
             the checkpoint with --base"
        ))
    }
}

fn data_hashes(data: &Sources) -> Result<Vec<(String, String)>, DataError> {
    let mut all_bytes = 0;
    for shard in data.shards() {
        if let Shard::File(path) = shard {
            all_bytes += std::fs::metadata(path).map_err(|e| DataError::io(path, e))?.len();
        }
    }
    let hash = |shard: &Shard| match shard {
        Shard::File(path) => {
            let hash = if all_bytes > READ_WHOLE_BYTES { sampled_hash(path) } else { file_hash(path) }?;
            Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), hash))
        }
        Shard::Memory(examples) => Ok(("a row".to_owned(), hash_of(examples.iter().map(example_text)))),
    };
    data.shards().map(hash).collect()
}

fn rows_hash(rows: &[Record]) -> String {
    hash_of(rows.iter().map(|row| match row {
        Record::ToolCall(example) => example_text(example),
        Record::Question { query, seed_text, answer } => format!("{:?}", (query, seed_text, answer)),
        Record::Text(text) => format!("{text:?}"),
    }))
}

fn example_text(example: &Example) -> String {
    example.to_json().to_string()
}

fn hash_of(lines: impl Iterator<Item = String>) -> String {
    let mut hash = Sha256::new();
    lines.for_each(|line| hash.update(line + "\n"));
    short(hash)
}

/// Hash of all bytes of a file.
///
/// # Errors
/// If it cannot be read.
pub fn file_hash(path: &Path) -> Result<String, DataError> {
    let read = || -> std::io::Result<String> {
        let (mut file, mut hash) = (File::open(path)?, Sha256::new());
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(short(hash)),
                length => hash.update(&buffer[..length]),
            }
        }
    };
    read().map_err(|e| DataError::io(path, e))
}

/// Hash of a file's length, and of its beginning, middle and end.
fn sampled_hash(path: &Path) -> Result<String, DataError> {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut hash = Sha256::new();
        hash.update(length.to_le_bytes());
        let last = length.saturating_sub(SAMPLE_BYTES);
        for start in [0, last / 2, last] {
            file.seek(SeekFrom::Start(start))?;
            let mut sample = Vec::new();
            (&mut file).take(SAMPLE_BYTES).read_to_end(&mut sample)?;
            hash.update(&sample);
        }
        Ok(short(hash))
    };
    read().map_err(|e| DataError::io(path, e))
}

fn short(hash: Sha256) -> String {
    hex(&hash.finalize()[..16])
}

/// Checks that a resumed run has the inputs with which it started.
///
/// # Errors
/// If they differ; the message says what has changed and what to do.
pub fn ensure_same(now: &Inputs, begun: &Inputs, base: &Base, run: &Path) -> Result<(), TrainError> {
    match now.difference(begun, base) {
        Some(reason) => Err(TrainError::Run { path: run.to_owned(), reason }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_files_differ_where_their_beginning_middle_or_end_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard");
        let whole = vec![7u8; 1 << 20];
        let hash = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            sampled_hash(&path).unwrap()
        };
        let first = hash(&whole);
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut edited = whole.clone();
            edited[at] = 8;
            assert_ne!(hash(&edited), first, "byte {at}");
        }
        assert_ne!(hash(&whole[1..]), first);
        assert_eq!(hash(&whole), first);
        hash(&[]);
    }
}
