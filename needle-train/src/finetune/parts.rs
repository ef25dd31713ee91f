//! One's own examples in three parts, and what to know of them.

use std::collections::BTreeMap;
use std::path::Path;

use needle_data::order::split::{RECOMMENDED_PER_TOOL, Split, split_by_tool};
use needle_data::{DataError, Example, file};

/// Examples in three parts.
pub struct Parts {
    /// Trained on.
    pub train: Vec<Example>,
    /// Chosen on.
    pub validation: Vec<Example>,
    /// Measured on.
    pub test: Vec<Example>,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

impl Parts {
    /// Divides `examples` tool by tool; no query stands in two parts.
    ///
    /// # Errors
    /// If there are fewer than three.
    pub fn new(examples: &[Example], seed: u64) -> Result<Self, DataError> {
        if examples.len() < 3 {
            let found = format!(
                "{} examples; at least 3 are needed, and {RECOMMENDED_PER_TOOL} a tool recommended",
                examples.len()
            );
            return Err(DataError::NoExamples(found));
        }
        let Split { train, validation, test } = split_by_tool(examples, seed);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for tool in examples.iter().flat_map(|e| &e.tools) {
            counts.entry(&tool.name).or_default();
        }
        for example in examples {
            let mut called: Vec<&str> = example.answers.iter().map(|call| call.name.as_str()).collect();
            called.sort_unstable();
            called.dedup();
            called.into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
        }
        let mut warnings: Vec<String> = counts
            .iter()
            .filter(|(_, n)| **n < RECOMMENDED_PER_TOOL)
            .map(|(name, n)| match n {
                0 => format!("{name}: offered but never called; the model cannot learn when to call it"),
                n => format!("{name}: {n} examples, {RECOMMENDED_PER_TOOL} are recommended"),
            })
            .collect();
        let pick = |part: &[usize]| -> Vec<Example> { part.iter().map(|&i| examples[i].clone()).collect() };
        let parts = [pick(&train), pick(&validation), pick(&test)];
        if parts[1].is_empty() || parts[2].is_empty() {
            warnings.push("too few examples of any tool to hold some out: the result is not measured".into());
        }
        if !examples.iter().any(|e| e.answers.is_empty()) {
            warnings.push("no example has the answer []: the model may call a tool for anything it is asked".into());
        }
        let [train, validation, test] = parts;
        Ok(Self { train, validation, test, warnings })
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), DataError> {
        for (name, part) in [("train", &self.train), ("validation", &self.validation), ("test", &self.test)] {
            write_examples(&dir.join(format!("{name}.jsonl")), part)?;
        }
        Ok(())
    }
}

/// Writes examples as JSONL.
pub(super) fn write_examples(path: &Path, examples: &[Example]) -> Result<(), DataError> {
    let lines: String = examples.iter().map(|example| format!("{}\n", example.to_json())).collect();
    file::write_atomically(path, lines.as_bytes())
}
