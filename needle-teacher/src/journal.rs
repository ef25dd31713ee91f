//! The append-only record of requests and answers, so that a killed run resumes without paying
//! twice.
//!
//! It holds one JSON object per line. An answer is on disk before it is used. A request that is in
//! flight when the process is killed has a `sent` line and no outcome; its answer is lost, so it is
//! sent again with the same `Idempotency-Key`.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use needle_data::DataError;
use serde::{Deserialize, Serialize};

use crate::error::TeacherError;
use crate::tokens::Usage;

/// An answer that was paid for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The model's text.
    pub content: String,
    /// True if it was cut off at the maximum length.
    pub is_cut: bool,
    /// What it cost.
    pub usage: Usage,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A request was sent.
    Sent {
        /// Key of the request.
        key: String,
    },
    /// Its answer has arrived.
    Answered {
        /// Key of the request.
        key: String,
        /// The answer.
        answer: Answer,
    },
    /// It ended without an answer.
    Failed {
        /// Key of the request.
        key: String,
        /// What happened.
        reason: String,
        /// What it may have cost nevertheless.
        usage: Usage,
    },
}

/// What earlier sessions have left in a journal.
#[derive(Debug, Default)]
struct Past {
    answers: HashMap<String, Arc<Answer>>,
    used: Usage,
    lost: usize,
}

/// The journal of a run, open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Mutex<File>,
    past: Past,
}

impl Journal {
    /// Opens the journal at `path`, or creates it. A last line that is incomplete, because the
    /// process was killed, is dropped.
    ///
    /// # Errors
    /// If it cannot be read or written, is in use by another process, or has a line that is not a
    /// journal entry.
    pub fn open(path: &Path) -> Result<Self, TeacherError> {
        let io = |error| TeacherError::Data(DataError::io(path, error));
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io(std::io::Error::other("another process is writing to this journal")),
            TryLockError::Error(error) => io(error),
        })?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(io)?;
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        let past = read(&text[..whole], path)?;
        file.set_len(whole as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), past })
    }

    /// The answer to the request `key`, if an earlier session has paid for it.
    pub fn answer(&self, key: &str) -> Option<Arc<Answer>> {
        self.past.answers.get(key).cloned()
    }

    /// Number of answers from earlier sessions.
    pub fn num_answers(&self) -> usize {
        self.past.answers.len()
    }

    /// Number of requests that were in flight when the process of an earlier session ended.
    pub fn num_lost(&self) -> usize {
        self.past.lost
    }

    /// Usage of earlier sessions.
    pub fn used(&self) -> Usage {
        self.past.used
    }

    /// Appends a line. Unless it is a `sent` line, it is on disk when this returns.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, event: &Event) -> Result<(), TeacherError> {
        let io = |error| TeacherError::Data(DataError::io(&self.path, error));
        let mut line = serde_json::to_vec(event).map_err(|e| io(e.into()))?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).map_err(io)?;
        // Losing a `sent` line costs nothing; losing an answer does.
        if matches!(event, Event::Sent { .. }) { Ok(()) } else { file.sync_data().map_err(io) }
    }
}

fn read(text: &[u8], path: &Path) -> Result<Past, TeacherError> {
    let mut past = Past::default();
    let mut under_way = HashSet::new();
    for (line, number) in text.split(|&b| b == b'\n').zip(1..).filter(|(line, _)| !line.is_empty()) {
        let event = serde_json::from_slice(line).map_err(|error| TeacherError::Journal {
            path: path.to_owned(),
            line: number,
            reason: format!("not a journal entry ({error}); move the file away to start again"),
        })?;
        match event {
            Event::Sent { key } => _ = under_way.insert(key),
            Event::Answered { key, answer } => {
                under_way.remove(&key);
                past.used.add(&answer.usage);
                past.answers.insert(key, Arc::new(answer));
            }
            Event::Failed { key, usage, .. } => {
                under_way.remove(&key);
                past.used.add(&usage);
            }
        }
    }
    past.lost = under_way.len();
    Ok(past)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(content: &str) -> Answer {
        let usage = Usage { input_tokens: 3, output_tokens: 4, cost: Some(0.5), is_estimated: false };
        Answer { content: content.into(), is_cut: false, usage }
    }

    fn answered(key: &str) -> Event {
        Event::Answered { key: key.into(), answer: answer("line\nbreak \u{2028} ü") }
    }

    #[test]
    fn what_was_written_is_there_again_and_costs_are_summed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let journal = Journal::open(&path).unwrap();
        for key in ["a", "b", "c"] {
            journal.write(&Event::Sent { key: key.into() }).unwrap();
        }
        journal.write(&answered("a")).unwrap();
        let usage = Usage { input_tokens: 10, ..Usage::default() };
        journal.write(&Event::Failed { key: "b".into(), reason: "no".into(), usage }).unwrap();
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert_eq!(*journal.answer("a").unwrap(), answer("line\nbreak \u{2028} ü"));
        assert!(journal.answer("b").is_none() && journal.answer("c").is_none());
        assert_eq!((journal.num_answers(), journal.num_lost()), (1, 1));
        assert_eq!((journal.used().tokens(), journal.used().cost), (17, Some(0.5)));
    }

    #[test]
    fn a_line_that_a_kill_cut_off_is_dropped_and_the_next_one_stands_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        Journal::open(&path).unwrap().write(&answered("a")).unwrap();
        let mut text = std::fs::read(&path).unwrap();
        let one = text.len();
        text.extend_from_slice(br#"{"event":"answered","key":"b","ans"#);
        std::fs::write(&path, &text).unwrap();
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.num_answers(), 1);
        journal.write(&answered("c")).unwrap();
        drop(journal);
        assert_eq!(std::fs::read(&path).unwrap().len(), 2 * one);
        assert_eq!(Journal::open(&path).unwrap().num_answers(), 2);
    }

    #[test]
    fn another_writer_and_another_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let journal = Journal::open(&path).unwrap();
        assert!(Journal::open(&path).unwrap_err().to_string().contains("another process"));
        drop(journal);
        std::fs::write(&path, "{\"event\":\"sent\",\"key\":\"a\"}\n{\"query\":\"mine\"}\n").unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(error.contains(":2: not a journal entry"), "{error}");
        assert!(std::fs::read_to_string(&path).unwrap().contains("mine"), "nothing was changed");
    }
}
