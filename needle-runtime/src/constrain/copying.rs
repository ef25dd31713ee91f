//! Which string values must be copied from the query: those of all parameters, of none, or of the
//! parameters that were always copied in training.

use std::collections::BTreeMap;
use std::path::Path;

use needle_data::{Example, file};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::grounding::Query;
use crate::error::RuntimeError;

/// Which strings must be copied from the query, as a user sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValuesPolicy {
    /// Only strings of parameters with `"x-from-query": true`.
    #[default]
    Free,
    /// Strings of all parameters.
    Copied,
    /// Strings of parameters whose values were always copied in training.
    Auto,
}

/// Which strings of an answer must be copied from the query. Those of a parameter with
/// `"x-from-query": true` always must.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Values {
    /// Only strings of parameters with `"x-from-query": true`.
    #[default]
    Free,
    /// All strings without an `enum`, a `format` or a `pattern`.
    Copied,
    /// Strings of parameters whose values were always copied in training, according to these
    /// statistics.
    Auto(CopyStatistics),
}

/// Minimum number of training values of a parameter before it can count as copied.
const LEAST_VALUES: u64 = 20;
/// Minimum fraction of copied values of a parameter that counts as copied.
const COPIED_FRACTION: f64 = 0.99;

/// How often the values of each parameter occur in the query, counted over training examples. Saved
/// in a checkpoint as [`Self::FILE`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyStatistics {
    /// Counts by tool and parameter.
    pub tools: BTreeMap<String, BTreeMap<String, CopyCount>>,
}

/// The counts of one parameter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyCount {
    /// Number of strings.
    pub values: u64,
    /// Number of strings that are a run of words of the query, character by character.
    pub copied: u64,
}

impl CopyStatistics {
    /// The file's name in a checkpoint.
    pub const FILE: &str = "copying.json";

    /// Counts the strings in the answers of `examples`.
    pub fn count<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Self {
        let mut statistics = Self::default();
        for example in examples {
            let query = Query::new(&example.query);
            for call in &example.answers {
                let counts = statistics.tools.entry(call.name.clone()).or_default();
                for (argument, value) in &call.arguments {
                    let texts: Vec<&str> = match value {
                        Value::String(text) => vec![text],
                        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
                        _ => continue,
                    };
                    let count = counts.entry(argument.clone()).or_default();
                    count.values += texts.len() as u64;
                    count.copied += texts.iter().filter(|text| query.has_run(text)).count() as u64;
                }
            }
        }
        statistics
    }

    /// Loads the statistics of the checkpoint `dir`; empty if it has none.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn load(dir: &Path) -> Result<Self, RuntimeError> {
        let path = dir.join(Self::FILE);
        let bad = |reason: String| RuntimeError::bad_file(&path, reason);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|e| bad(e.to_string())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(bad(e.to_string())),
        }
    }

    /// Saves the statistics in the checkpoint `dir`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), RuntimeError> {
        let path = dir.join(Self::FILE);
        let bad = |reason: String| RuntimeError::bad_file(&path, reason);
        let text = serde_json::to_string_pretty(self).map_err(|e| bad(e.to_string()))?;
        file::write_atomically(&path, text.as_bytes()).map_err(|e| bad(e.to_string()))
    }

    /// True if the parameter's values were (almost) always copied from the query in training.
    pub fn is_copied(&self, tool: &str, parameter: &str) -> bool {
        let count = self.tools.get(tool).and_then(|counts| counts.get(parameter)).copied().unwrap_or_default();
        count.values >= LEAST_VALUES && count.copied as f64 >= COPIED_FRACTION * count.values as f64
    }
}

impl Values {
    /// The strings that `policy` selects for a model with these statistics.
    pub fn new(policy: ValuesPolicy, statistics: &CopyStatistics) -> Self {
        match policy {
            ValuesPolicy::Free => Self::Free,
            ValuesPolicy::Copied => Self::Copied,
            ValuesPolicy::Auto => Self::Auto(statistics.clone()),
        }
    }

    /// True if strings of this parameter must be copied from the query.
    pub fn holds(&self, tool: &str, parameter: &str) -> bool {
        match self {
            Self::Free => false,
            Self::Copied => true,
            Self::Auto(statistics) => statistics.is_copied(tool, parameter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_must_be_copied_if_it_always_was_in_training() {
        let tools = r#"[{"name":"book","parameters":{"city":{"type":"string"},"mood":{"type":"string"},"tags":{"type":"array"}}}]"#;
        let example = |i: usize| {
            let mood = if i.is_multiple_of(2) { "keen" } else { "glad" };
            let answer =
                format!(r#"[{{"name":"book","arguments":{{"city":"New York","mood":"{mood}","tags":["new","x"]}}}}]"#);
            let line = format!(r#"{{"query":"a keen trip to New York","tools":{tools},"answers":{answer}}}"#);
            Example::parse(&line).unwrap()
        };
        let few: Vec<Example> = (0..19).map(example).collect();
        assert!(!CopyStatistics::count(&few).is_copied("book", "city"));
        let many: Vec<Example> = (0..20).map(example).collect();
        let statistics = CopyStatistics::count(&many);
        assert!(statistics.is_copied("book", "city"));
        assert!(!statistics.is_copied("book", "mood") && !statistics.is_copied("book", "tags"));
        assert!(!statistics.is_copied("other", "city"));
        assert_eq!(statistics.tools["book"]["tags"], CopyCount { values: 40, copied: 0 });
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(CopyStatistics::load(dir.path()).unwrap(), CopyStatistics::default());
        statistics.save(dir.path()).unwrap();
        assert_eq!(CopyStatistics::load(dir.path()).unwrap(), statistics);
        std::fs::write(dir.path().join(CopyStatistics::FILE), "{\"tools\": 3}").unwrap();
        assert!(CopyStatistics::load(dir.path()).unwrap_err().to_string().contains("copying.json"));
    }
}
