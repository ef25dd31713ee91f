//! TensorBoard's event files: scalars by step.
//!
//! A file is a sequence of records (`tensorflow/core/lib/io/record_writer.h`): length u64, masked
//! CRC-32C of the length, data, masked CRC-32C of the data; the data are `Event` messages
//! (`tensorflow/core/util/event.proto`).

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// Writes one event file.
pub struct EventFile(io::BufWriter<File>);

impl EventFile {
    /// Begins a file in `dir` under the name that TensorBoard looks for. A resumed run begins
    /// another file. TensorBoard reads the files of a directory as one run, in which a later file
    /// replaces earlier ones from its first step on.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        // The number orders files that begin within the same second.
        let name = |n: u32| dir.join(format!("events.out.tfevents.{:.0}.needle.{n}", now()));
        let path = (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
        let mut file = Self(io::BufWriter::new(File::create(path)?));
        file.write(&Event { wall_time: now(), file_version: Some("brain.Event:2".into()), ..Event::default() })?;
        Ok(file)
    }

    /// Adds scalars of one step.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn add(&mut self, step: usize, scalars: &[(&str, f64)]) -> io::Result<()> {
        let value = scalars.iter().map(|(tag, v)| Value { tag: (*tag).into(), simple_value: *v as f32 }).collect();
        self.write(&Event { wall_time: now(), step: step as i64, summary: Some(Summary { value }), file_version: None })
    }

    /// Flushes the buffer to the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        self.0.write_all(&length)?;
        self.0.write_all(&masked_crc(&length).to_le_bytes())?;
        self.0.write_all(&data)?;
        self.0.write_all(&masked_crc(&data).to_le_bytes())
    }
}

/// TensorFlow masks checksums, because a CRC of data that contain CRCs is weak.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_length_checksums_and_events() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(dir.path()).unwrap();
        file.add(7, &[("loss", 0.5), ("lr", 1e-3)]).unwrap();
        file.flush().unwrap();
        EventFile::create(dir.path()).unwrap();
        let mut paths: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        assert_eq!(paths.len(), 2, "a second file has a name of its own");
        let mut bytes = std::fs::read(&paths[0]).unwrap();
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let crc = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            assert_eq!(crc(8), masked_crc(&bytes[..8]));
            assert_eq!(crc(12 + length), masked_crc(&bytes[12..12 + length]));
            events.push(Event::decode(&bytes[12..12 + length]).unwrap());
            bytes.drain(..16 + length);
        }
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!((events[1].step, events[1].summary.as_ref().unwrap().value[0].simple_value), (7, 0.5));
    }
}
