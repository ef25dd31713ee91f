//! Reads the logs of a run from its directory; of `metrics.jsonl`, only what was appended since the
//! last read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};

use needle_data::{DataError, file};
use serde_json::Value;

use super::CHARTS;
use crate::run::directory::RunDir;

/// The events of a run as a page shows them.
pub(super) struct Record {
    dir: RunDir,
    pub(super) name: String,
    /// Drawn values by event and key, each with its step.
    series: BTreeMap<(String, String), Vec<(f64, f64)>>,
    /// The last validation at each precision.
    pub(super) scores: BTreeMap<String, Value>,
    pub(super) skipped: usize,
    /// Bytes and lines of `metrics.jsonl` that were read.
    read_bytes: u64,
    read_lines: usize,
    /// Seconds of the last step.
    last_seconds: f64,
}

impl Record {
    /// The run in `dir`, before anything is read.
    pub(super) fn new(dir: &RunDir) -> Self {
        let name = dir.path().file_name().unwrap_or(dir.path().as_os_str());
        Self {
            dir: dir.clone(),
            name: name.to_string_lossy().into_owned(),
            series: BTreeMap::new(),
            scores: BTreeMap::new(),
            skipped: 0,
            read_bytes: 0,
            read_lines: 0,
            last_seconds: 0.0,
        }
    }

    /// Reads the lines of `metrics.jsonl` that were appended since the last call. A last line
    /// without a line break is still being written and is left for the next call.
    ///
    /// # Errors
    /// If there are no metrics, or a line is not JSON.
    pub(super) fn refresh(&mut self) -> Result<(), DataError> {
        let path = self.dir.metrics();
        let error = |e| DataError::io(&path, e);
        let mut metrics = File::open(&path).map_err(error)?;
        if metrics.metadata().map_err(error)?.len() < self.read_bytes {
            // The file was rewritten, as a resumed run does.
            *self = Self::new(&self.dir);
        }
        metrics.seek(SeekFrom::Start(self.read_bytes)).map_err(error)?;
        let mut lines = BufReader::new(metrics);
        let mut line = String::new();
        loop {
            line.clear();
            let bytes = lines.read_line(&mut line).map_err(error)?;
            if !line.ends_with('\n') {
                return Ok(());
            }
            self.read_bytes += bytes as u64;
            self.read_lines += 1;
            let event = serde_json::from_str(&line)
                .map_err(|e| DataError::io(format!("{}:{}", path.display(), self.read_lines), e.into()))?;
            self.add(event);
        }
    }

    fn add(&mut self, event: Value) {
        let step = event["step"].as_f64().unwrap_or_default();
        let precision = event["precision"].as_str();
        let kind = event["event"].as_str().unwrap_or_default();
        let kind = precision.map_or(kind.to_owned(), |precision| format!("{kind}.{precision}"));
        match kind.as_str() {
            "skipped" => self.skipped += 1,
            "step" => {
                // Seconds count from the start of each session, so a resumed run's start at 0
                // again.
                let seconds = event["seconds"].as_f64().unwrap_or_default();
                let is_same_session = seconds > self.last_seconds;
                let took = if is_same_session { seconds - self.last_seconds } else { seconds };
                self.last_seconds = seconds;
                let rate = event["tokens"].as_f64().unwrap_or_default() / took.max(1e-9);
                self.draw(&kind, "tokens_per_second", (step, rate));
            }
            _ => {}
        }
        for (key, value) in event.as_object().into_iter().flatten() {
            if let Some(value) = value.as_f64() {
                self.draw(&kind, key, (step, value));
            }
        }
        if precision.is_some() {
            self.scores.insert(kind, event);
        }
    }

    /// Keeps a point of a curve, if a chart has that curve.
    fn draw(&mut self, kind: &str, key: &str, point: (f64, f64)) {
        let mut curves = CHARTS.iter().flat_map(|chart| chart.curves);
        if curves.any(|curve| (curve.event, curve.key) == (kind, key)) {
            self.series.entry((kind.to_owned(), key.to_owned())).or_default().push(point);
        }
    }

    /// The points of a curve by step, if there are any.
    pub(super) fn curve(&self, event: &str, key: &str) -> Option<Vec<(f64, f64)>> {
        let mut points = self.series.get(&(event.to_owned(), key.to_owned()))?.clone();
        // The result is measured last, but may belong to an earlier step.
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Some(points)
    }

    /// Answers of the last validation.
    pub(super) fn predictions(&self) -> Vec<Value> {
        let text = file::read_text(&self.dir.predictions()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The comparison of base and tuned model, if a finetune has finished.
    pub(super) fn comparison(&self) -> Option<Value> {
        let text = file::read_text(&self.dir.comparison()).ok()?;
        serde_json::from_str(&text).ok().filter(|compared: &Value| compared["after"].is_object())
    }

    /// The text of the run's recipe.
    pub(super) fn recipe(&self) -> String {
        file::read_text(&self.dir.recipe()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_appended_is_read_and_a_half_written_line_waits() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path());
        let step = |i: usize| format!("{{\"event\":\"step\",\"step\":{i},\"cross_entropy\":{i}.5}}\n");
        let mut record = Record::new(&run);
        let mut losses = |text: &str| {
            std::fs::write(run.metrics(), text).unwrap();
            record.refresh().unwrap();
            record.curve("step", "cross_entropy").unwrap_or_default()
        };
        let (first, second) = (step(1), step(2));
        assert_eq!(losses(&format!("{first}{}", &second[..9])), [(1.0, 1.5)]);
        // What was read before is not read again, so it may be anything of the same length.
        let blank = " ".repeat(first.len() - 1) + "\n";
        assert_eq!(losses(&format!("{blank}{second}")), [(1.0, 1.5), (2.0, 2.5)]);
        // A file that is shorter was rewritten.
        assert_eq!(losses(&first), [(1.0, 1.5)]);
        assert_eq!(losses(&format!("{first}{}", step(3))), [(1.0, 1.5), (3.0, 3.5)]);
        std::fs::write(run.metrics(), format!("{first}{}nonsense\n", step(3))).unwrap();
        let error = record.refresh().unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl:3"), "{error}");
    }
}
