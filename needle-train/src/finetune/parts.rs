//! Splits the user's examples into three parts, and warns about them.

use std::path::Path;

use needle_data::order::split::{RECOMMENDED_PER_TOOL, Split, split_by_tool};
use needle_data::stats::advice::Advice;
use needle_data::{DataError, Example, Place, file};

use crate::error::TrainError;

/// The user's examples in three parts.
pub struct Parts {
    /// Examples to train on.
    pub train: Vec<Example>,
    /// Examples on which checkpoints are chosen.
    pub validation: Vec<Example>,
    /// Examples on which base and result are measured.
    pub test: Vec<Example>,
    /// Warnings about the examples.
    pub warnings: Vec<String>,
    /// File and line of the examples of each part, in the same order.
    places: [Vec<Place>; 3],
}

impl Parts {
    /// Splits `placed` examples tool by tool; no query is in two parts.
    ///
    /// # Errors
    /// If there are fewer than three.
    pub fn new(placed: Vec<(Place, Example)>, seed: u64) -> Result<Self, DataError> {
        let (places, examples): (Vec<Place>, Vec<Example>) = placed.into_iter().unzip();
        if examples.len() < 3 {
            let found = format!(
                "{} examples; at least 3 are needed, and {RECOMMENDED_PER_TOOL} per tool recommended",
                examples.len()
            );
            return Err(DataError::NoExamples(found));
        }
        let Split { train, validation, test } = split_by_tool(&examples, seed);
        let mut warnings = Advice::of(&examples).warnings();
        let pick = |part: &[usize]| -> Vec<Example> { part.iter().map(|&i| examples[i].clone()).collect() };
        let parts = [pick(&train), pick(&validation), pick(&test)];
        let place = |part: Vec<usize>| -> Vec<Place> { part.into_iter().map(|i| places[i].clone()).collect() };
        let places = [train, validation, test].map(place);
        if parts[1].is_empty() || parts[2].is_empty() {
            warnings.push("too few examples of any tool to hold some out: the result is not measured".into());
        }
        let [train, validation, test] = parts;
        Ok(Self { train, validation, test, warnings, places })
    }

    /// All examples of all parts, with their files and lines.
    pub(super) fn placed(&self) -> impl Iterator<Item = (&Place, &Example)> {
        let examples = [&self.train, &self.validation, &self.test].into_iter().flatten();
        self.places.iter().flatten().zip(examples)
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), DataError> {
        self.files().into_iter().try_for_each(|(name, part)| write_examples(&dir.join(name), part))
    }

    /// Checks that the parts are those that the run wrote to `dir` when it started.
    ///
    /// # Errors
    /// If they differ.
    pub(super) fn ensure_written(&self, dir: &Path) -> Result<(), TrainError> {
        for (name, part) in self.files() {
            let path = dir.join(name);
            let begun = std::fs::read(&path).map_err(|e| DataError::io(&path, e))?;
            if begun != to_lines(part).as_bytes() {
                let reason = "the examples differ from those with which the run started, which are in its split/; restore them, or \
                              start a new run with another --out";
                return Err(TrainError::Run { path, reason: reason.into() });
            }
        }
        Ok(())
    }

    fn files(&self) -> [(&'static str, &[Example]); 3] {
        [("train.jsonl", &self.train), ("validation.jsonl", &self.validation), ("test.jsonl", &self.test)]
    }
}

/// Writes examples as JSONL.
pub(super) fn write_examples(path: &Path, examples: &[Example]) -> Result<(), DataError> {
    file::write_atomically(path, to_lines(examples).as_bytes())
}

fn to_lines(examples: &[Example]) -> String {
    examples.iter().map(|example| format!("{}\n", example.to_json())).collect()
}
