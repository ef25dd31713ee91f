//! What is in a file, counted.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::example::Example;
use crate::split::RECOMMENDED_PER_TOOL;

/// Counts over a set of examples.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Examples.
    pub rows: usize,
    /// Examples in which no tool fits.
    pub no_call_rows: usize,
    /// Examples with more than one call.
    pub multi_call_rows: usize,
    /// Calls of each tool.
    pub calls_per_tool: BTreeMap<String, usize>,
    /// Examples by number of offered tools.
    pub rows_by_offered_tools: BTreeMap<usize, usize>,
    /// String arguments.
    pub string_values: usize,
    /// String arguments that occur literally in the query.
    pub verbatim_values: usize,
}

impl Stats {
    /// Counts `examples`.
    pub fn of<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Self {
        let mut stats = Self::default();
        for example in examples {
            stats.rows += 1;
            stats.no_call_rows += usize::from(example.answers.is_empty());
            stats.multi_call_rows += usize::from(example.answers.len() > 1);
            *stats.rows_by_offered_tools.entry(example.tools.len()).or_default() += 1;
            for call in &example.answers {
                *stats.calls_per_tool.entry(call.name.clone()).or_default() += 1;
                for value in call.arguments.values().filter_map(Value::as_str) {
                    stats.string_values += 1;
                    stats.verbatim_values += usize::from(example.query.contains(value));
                }
            }
        }
        stats
    }

    /// The called tools with fewer examples than [`RECOMMENDED_PER_TOOL`].
    pub fn thin_tools(&self) -> impl Iterator<Item = (&str, usize)> {
        self.calls_per_tool.iter().filter(|(_, n)| **n < RECOMMENDED_PER_TOOL).map(|(name, n)| (name.as_str(), *n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_calls_and_copied_values_are_counted() {
        let lines = [
            r#"{"query":"call Bob","tools":[{"name":"call","parameters":{"who":{"type":"string"}}}],"answers":[{"name":"call","arguments":{"who":"Bob"}},{"name":"call","arguments":{"who":"Al"}}]}"#,
            r#"{"query":"hello","tools":[],"answers":[]}"#,
        ];
        let examples: Vec<Example> = lines.iter().map(|l| Example::parse(l).unwrap()).collect();
        let stats = Stats::of(&examples);
        assert_eq!((stats.rows, stats.no_call_rows, stats.multi_call_rows), (2, 1, 1));
        assert_eq!((stats.string_values, stats.verbatim_values), (2, 1));
        assert_eq!(stats.thin_tools().collect::<Vec<_>>(), [("call", 2)]);
    }
}
