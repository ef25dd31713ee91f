//! Warnings about a dataset, to know before training on it. Each warning is one sentence, however
//! many tools it concerns.

use std::collections::BTreeMap;

use crate::order::split::RECOMMENDED_PER_TOOL;
use crate::stats::patterns::{PatternCounts, Patterns};
use crate::text::example::Example;

/// A tool with fewer examples than this gets a warning: of half the recommended number, only five
/// are held out for measuring.
pub const FEW_PER_TOOL: usize = RECOMMENDED_PER_TOOL / 2;
/// Fewer than one example without a call in this many gets a warning.
const NO_CALL_ONE_IN: usize = 20;
/// More examples per sentence pattern than this, on average, indicate templates: human requests
/// have one to three.
const MOST_PER_PATTERN: usize = 5;
/// The patterns of fewer examples than this are not judged.
const FEWEST_FOR_PATTERNS: usize = 50;
/// Maximum number of names that a warning lists.
const MOST_NAMES: usize = 5;

/// Counts from which the warnings are derived.
#[derive(Debug, Clone, Default)]
pub struct Advice {
    examples: usize,
    without_call: usize,
    /// Number of examples that call each offered tool.
    calling: BTreeMap<String, usize>,
    patterns: Patterns,
}

impl Advice {
    /// Counts all of `examples`.
    pub fn of(examples: &[Example]) -> Self {
        let mut advice = Self::default();
        examples.iter().for_each(|example| advice.add(example));
        advice
    }

    /// Counts an example.
    pub fn add(&mut self, example: &Example) {
        self.examples += 1;
        self.without_call += usize::from(example.answers.is_empty());
        for tool in &example.tools {
            let calls = usize::from(example.answers.iter().any(|call| call.name == tool.name));
            match self.calling.get_mut(&tool.name) {
                Some(count) => *count += calls,
                None => _ = self.calling.insert(tool.name.clone(), calls),
            }
        }
        self.patterns.add(example);
    }

    /// The warnings, one sentence each; empty if there are none.
    pub fn warnings(&self) -> Vec<String> {
        if self.examples == 0 {
            return Vec::new();
        }
        [self.never_called(), self.few(), self.without_call(), self.templates()].into_iter().flatten().collect()
    }

    fn never_called(&self) -> Option<String> {
        let never: Vec<&str> = self.calling.iter().filter(|(_, n)| **n == 0).map(|(name, _)| name.as_str()).collect();
        // If no example has a call, another warning covers it.
        (!never.is_empty() && self.without_call < self.examples).then(|| {
            format!(
                "{} of {} tools are offered but never called ({}): the model cannot learn when to call them",
                never.len(),
                self.calling.len(),
                some(never.iter().map(|name| (*name).to_owned()))
            )
        })
    }

    fn few(&self) -> Option<String> {
        let few: Vec<_> = self.calling.iter().filter(|(_, n)| (1..FEW_PER_TOOL).contains(*n)).collect();
        (!few.is_empty()).then(|| {
            format!(
                "{} of {} tools have fewer than {FEW_PER_TOOL} examples ({}); {RECOMMENDED_PER_TOOL} per tool are recommended",
                few.len(),
                self.calling.len(),
                some(few.iter().map(|(name, n)| format!("{name} {n}")))
            )
        })
    }

    fn without_call(&self) -> Option<String> {
        let Self { examples, without_call, .. } = self;
        match *without_call {
            0 => Some("no example has the answer []: the model may call a tool for any request".into()),
            all if all == *examples => Some("every example has the answer []: the model cannot learn to call".into()),
            few if few * NO_CALL_ONE_IN < *examples => Some(format!(
                "only {few} of {examples} examples have the answer []: the model may call a tool for any request; one \
                 example in ten is a good share"
            )),
            _ => None,
        }
    }

    fn templates(&self) -> Option<String> {
        let PatternCounts { examples, patterns, commonest: (commonest, times) } = self.patterns.count();
        (examples >= FEWEST_FOR_PATTERNS && examples > MOST_PER_PATTERN * patterns).then(|| {
            format!(
                "{examples} examples have only {patterns} sentence patterns ({times} times {commonest:?}): the model learns these \
                 sentences, and held-out examples of the same patterns cannot show how it does on others; write more ways \
                 to ask"
            )
        })
    }
}

/// The first few of a list, and how many more there are.
fn some(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let mut text = names.take(MOST_NAMES).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `calls` examples of each tool and `others` without a call, each in words of its own.
    fn warnings(calls: &[usize], others: usize) -> Vec<String> {
        let tools: Vec<_> = (0..calls.len()).map(|t| json!({"name": format!("t{t}")})).collect();
        let example = |query: String, answers| {
            Example::parse(&json!({"query": query, "tools": tools, "answers": answers}).to_string()).unwrap()
        };
        let word = |n: usize| -> String {
            (0..4).map(|i| char::from(b'a' + (n.wrapping_mul(7919) >> (4 * i)) as u8 % 26)).collect()
        };
        let words = |n: usize| [word(n), word(n + 31), word(2 * n + 77), word(3 * n + 5)].join(" ");
        let called = calls.iter().enumerate().flat_map(|(t, &n)| (0..n).map(move |i| (t, i)));
        let mut examples: Vec<Example> =
            called.map(|(t, i)| example(words(t * 1000 + i), json!([{"name": format!("t{t}")}]))).collect();
        examples.extend((0..others).map(|i| example(words(100_000 + i), json!([]))));
        Advice::of(&examples).warnings()
    }

    #[test]
    fn the_shipped_example_gives_no_cause_for_a_warning() {
        let text = include_str!("../../../configs/examples/smart_home.jsonl");
        let examples: Vec<Example> = text.lines().map(|line| Example::parse(line).unwrap()).collect();
        assert_eq!(Advice::of(&examples).warnings(), [""; 0]);
    }

    #[test]
    fn each_matter_is_said_once_and_only_where_there_is_one() {
        assert_eq!(warnings(&[100, 108], 20), [""; 0]);
        let many = warnings(&[12, 12, 12, 12, 12, 12, 0, 0, 200], 3);
        assert_eq!(many.len(), 3, "{many:?}");
        assert!(many[0].contains("2 of 9 tools are offered but never called (t6, t7)"), "{many:?}");
        assert!(
            many[1].contains("6 of 9 tools have fewer than 60 examples (t0 12, t1 12, t2 12, t3 12, t4 12 and 1 more)")
        );
        assert!(many[2].contains("only 3 of 275 examples have the answer []"), "{many:?}");
        assert!(warnings(&[100], 0)[0].contains("no example has the answer []"));
        assert_eq!(warnings(&[0], 30).len(), 1);
        assert_eq!(Advice::default().warnings(), [""; 0]);
    }

    #[test]
    fn five_hundred_rows_of_twenty_templates_are_called_that() {
        let places = ["Rome", "Oslo", "New York", "Åre", "Bonn"];
        let row = |i: usize| {
            let (template, place) = (i % 20, places[i / 20 % 5]);
            let verb = ["show", "find", "check", "tell", "get"][template % 5];
            let noun = ["rain", "snow", "wind", "heat"][template / 5];
            let query = format!("{verb} me {noun}{} in {place} for {} days", "y".repeat(template), i % 9 + 1);
            let tool = json!({"name": "f", "parameters": {"place": {"type": "string"}}});
            let call = json!({"name": "f", "arguments": {"place": place}});
            let answers = if i.is_multiple_of(10) { json!([]) } else { json!([call]) };
            Example::parse(&json!({"query": query, "tools": [tool], "answers": answers}).to_string()).unwrap()
        };
        let said = Advice::of(&(0..496).map(row).collect::<Vec<_>>()).warnings();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("496 examples have only") && said[0].contains("sentence patterns"), "{said:?}");
    }
}
