//! Tasks made from existing examples: paraphrases with the same calls, and near misses without a
//! call.

use needle_data::Example;
use needle_data::random::{Purpose, rng};
use rand::seq::IndexedRandom;

use crate::kind::Kind;
use crate::plan::PlanConfig;
use crate::task::{Cell, Length, Task};

/// For each example, a task of `rows_each` paraphrases.
pub fn paraphrases(examples: &[Example], rows_each: usize, config: &PlanConfig, seed: u64) -> Vec<Task> {
    tasks(examples.iter(), Kind::Paraphrase, rows_each, config, seed)
}

/// For each example with a call, a task of `rows_each` near misses: requests that are as similar as
/// possible, but fit none of its tools.
pub fn negatives(examples: &[Example], rows_each: usize, config: &PlanConfig, seed: u64) -> Vec<Task> {
    tasks(examples.iter().filter(|e| !e.answers.is_empty()), Kind::NearMiss, rows_each, config, seed)
}

fn tasks<'a>(
    examples: impl Iterator<Item = &'a Example>,
    kind: Kind,
    rows: usize,
    config: &PlanConfig,
    seed: u64,
) -> Vec<Task> {
    // An example without tools has no tool to focus on.
    examples
        .filter(|example| !example.tools.is_empty())
        .enumerate()
        .map(|(number, example)| {
            let mut rng = rng(seed, Purpose::TeacherRewrite, &[number as u64]);
            let called = example.answers.first().map(|call| &call.name);
            let cell = Cell {
                tool: called.unwrap_or(&example.tools[0].name).clone(),
                kind,
                persona: config.personas.choose(&mut rng).cloned().unwrap_or_default(),
                length: *Length::ALL.choose(&mut rng).unwrap_or(&Length::Medium),
                language: "that of the source query".into(),
            };
            Task { number, rows, cell, tools: example.tools.clone(), source: Some(example.clone()) }
        })
        .collect()
}
