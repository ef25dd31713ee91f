//! New rows from existing ones without a teacher: other values, typing errors, masked tool names,
//! withheld tools.
//!
//! These are changes like those that training draws anew in each epoch (`needle_data::augment`),
//! but as rows that can be read, mixed and stored.

mod typos;

use std::collections::HashSet;

use needle_data::Example;
use needle_data::augment::{OtherValues, ValuePool, with_other_values, without_called_tools};
use needle_data::random::{Purpose, rng};
use needle_data::text::tool::Tool;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::error::TeacherError;

pub use typos::with_typos;

/// Share of mistyped words in a query with typing errors.
const MISTYPED_WORDS: f64 = 0.2;

/// Which changes to make. Shares refer to the new rows and are independent of each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Changes {
    /// Maximum number of rows made from each example; unchanged and duplicate rows are dropped.
    pub copies: usize,
    /// Share of values that are replaced: texts by a value of the same argument in another example,
    /// numbers by others of the same size, the minutes of times in words.
    pub other_values: f64,
    /// Of those texts, the share that is replaced by nonsense words.
    pub made_up: f64,
    /// Share of rows whose query has typing errors.
    pub typos: f64,
    /// Share of rows whose tools get meaningless names, so that the model has to read descriptions.
    pub masked_names: f64,
    /// Share of rows that offer only the tools that were not called, so that the right answer is no
    /// call.
    pub withheld: f64,
}

impl Default for Changes {
    fn default() -> Self {
        Self { copies: 2, other_values: 0.5, made_up: 0.25, typos: 0.25, masked_names: 0.15, withheld: 0.1 }
    }
}

impl Changes {
    /// # Errors
    /// If a number is out of range.
    pub fn validate(&self) -> Result<(), TeacherError> {
        for (field, share) in [
            ("other_values", self.other_values),
            ("made_up", self.made_up),
            ("typos", self.typos),
            ("masked_names", self.masked_names),
            ("withheld", self.withheld),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(TeacherError::config(field, "expected a share between 0 and 1"));
            }
        }
        Ok(())
    }
}

/// Changed copies of `examples`, none of them equal to an example or to each other. Equal seeds
/// give equal rows.
///
/// # Errors
/// If a setting is invalid.
pub fn augment(examples: &[Example], changes: &Changes, seed: u64) -> Result<Vec<Example>, TeacherError> {
    changes.validate()?;
    let pool = ValuePool::new(examples.iter());
    let mut seen: HashSet<String> = examples.iter().map(|example| example.to_json().to_string()).collect();
    let mut rows = Vec::new();
    for (i, example) in examples.iter().enumerate() {
        for copy in 0..changes.copies {
            let mut rng = rng(seed, Purpose::OfflineChange, &[i as u64, copy as u64]);
            let row = changed(example, &pool, changes, &mut rng);
            // A pool can hold a value that this example's tools do not allow.
            if row.validate().is_ok() && seen.insert(row.to_json().to_string()) {
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

fn changed(example: &Example, pool: &ValuePool, changes: &Changes, rng: &mut ChaCha8Rng) -> Example {
    let how = OtherValues { fraction: changes.other_values, made_up_fraction: changes.made_up };
    let mut row = with_other_values(example, pool, how, rng);
    if rng.random_bool(changes.typos) {
        row = with_typos(&row, MISTYPED_WORDS, rng);
    }
    if rng.random_bool(changes.withheld) {
        row = without_called_tools(&row).unwrap_or(row);
    }
    if rng.random_bool(changes.masked_names) {
        row = with_masked_names(row, rng);
    }
    row
}

/// `example` with tools named `tool_` and four random hexadecimal digits. Tools without a
/// description keep their names, because nothing else distinguishes them.
fn with_masked_names(mut example: Example, rng: &mut ChaCha8Rng) -> Example {
    let mut taken: HashSet<String> = example.tools.iter().map(|tool| tool.name.clone()).collect();
    let is_described = |tool: &&mut Tool| !tool.description.trim().is_empty();
    for tool in example.tools.iter_mut().filter(is_described) {
        let name = loop {
            let name = format!("tool_{:04x}", rng.random_range(0..0x1_0000_u32));
            if taken.insert(name.clone()) {
                break name;
            }
        };
        for call in example.answers.iter_mut().filter(|call| call.name == tool.name) {
            call.name.clone_from(&name);
        }
        tool.name = name;
    }
    example
}

#[cfg(test)]
mod tests {
    use super::*;
    use needle_data::synth::{Generator, SynthConfig};

    fn examples() -> Vec<Example> {
        let config =
            SynthConfig { rename: false, categories: vec!["timers".into(), "messaging".into()], ..Default::default() };
        Generator::new(config).unwrap().take(300).collect()
    }

    #[test]
    fn every_row_is_valid_new_and_drawn_from_the_seed() {
        let examples = examples();
        let rows = augment(&examples, &Changes::default(), 1).unwrap();
        assert!(rows.len() > 300, "{}", rows.len());
        let mut all: HashSet<String> = examples.iter().map(|e| e.to_json().to_string()).collect();
        for row in &rows {
            row.validate().unwrap();
            assert!(all.insert(row.to_json().to_string()));
        }
        assert_eq!(rows, augment(&examples, &Changes::default(), 1).unwrap());
        assert_ne!(rows, augment(&examples, &Changes::default(), 2).unwrap());
    }

    #[test]
    fn each_change_does_what_it_says_and_nothing_else() {
        let examples = examples();
        let none = Changes { copies: 1, other_values: 0.0, made_up: 0.0, typos: 0.0, masked_names: 0.0, withheld: 0.0 };
        assert!(augment(&examples, &none, 0).unwrap().is_empty());

        let masked = augment(&examples, &Changes { masked_names: 1.0, ..none }, 0).unwrap();
        assert_eq!(masked.len(), examples.len());
        for (row, example) in masked.iter().zip(&examples) {
            assert!(row.tools.iter().all(|tool| tool.name.starts_with("tool_")));
            assert_eq!((&row.query, row.answers.len()), (&example.query, example.answers.len()));
        }
        for row in augment(&examples, &Changes { withheld: 1.0, ..none }, 0).unwrap() {
            assert!(row.answers.is_empty() && !row.tools.is_empty());
        }
        let swapped = augment(&examples, &Changes { other_values: 1.0, ..none }, 0).unwrap();
        let is_like =
            |row: &Example, e: &Example| e.tools == row.tools && e.query != row.query && e.answers != row.answers;
        assert!(!swapped.is_empty());
        assert!(swapped.iter().all(|row| examples.iter().any(|example| is_like(row, example))));
        let typed = augment(&examples, &Changes { typos: 1.0, ..none }, 0).unwrap();
        assert!(typed.iter().all(|row| examples.iter().any(|example| example.answers == row.answers)));
    }

    #[test]
    fn shares_beyond_one_are_refused_by_name() {
        let error = augment(&[], &Changes { typos: 1.5, ..Changes::default() }, 0).unwrap_err();
        assert!(error.to_string().starts_with("typos"));
    }
}
