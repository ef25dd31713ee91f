//! Acceptance suites: test cases for a user's own tools, which a model must pass before it ships.
//!
//! A suite is one JSON file: the tools, and cases that each belong to a category of the user's
//! choosing. A model passes if it answers enough cases exactly and no critical case wrongly;
//! critical cases are, for example, requests that must never lead to a call.
//!
//! ```json
//! {
//!   "name": "front desk",
//!   "tools": [{"name": "book_room", "parameters": {"nights": {"type": "integer", "required": true}}}],
//!   "least_exact": 0.9,
//!   "critical": ["missing", "negation"],
//!   "cases": [
//!     {"category": "plain", "query": "a room for two nights", "answers": [{"name": "book_room", "arguments": {"nights": 2}}]},
//!     {"category": "missing", "query": "I need a room", "answers": []},
//!     {"category": "plain", "query": "three nights, please", "answers": [{"name": "book_room", "arguments": {"nights": 3}}],
//!      "critical": true}
//!   ]
//! }
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use needle_data::{Call, Example, file};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::mistake::mistake;
use super::score::same_calls;
use crate::error::TrainError;

/// A suite as written in its file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    tools: Value,
    #[serde(default = "least_exact")]
    least_exact: f64,
    #[serde(default)]
    critical: Vec<String>,
    cases: Vec<WrittenCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCase {
    category: String,
    query: String,
    answers: Value,
    #[serde(default)]
    critical: bool,
}

/// The default of `least_exact`.
fn least_exact() -> f64 {
    0.9
}

/// Cases that a model must pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// The suite's name.
    pub name: String,
    /// The required share of exact answers, from 0 to 1.
    pub least_exact: f64,
    /// The cases, in the order of the file.
    pub cases: Vec<Case>,
}

/// A request with its right answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its category, of the user's choosing.
    pub category: String,
    /// Whether a wrong answer fails the suite.
    pub is_critical: bool,
    /// Query, tools and answer.
    pub example: Example,
}

/// The result of a suite. The keys of its JSON form are a contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The suite's name.
    pub suite: String,
    /// Whether enough answers are exact and no critical one is wrong.
    pub passed: bool,
    /// Share of exact answers.
    pub exact_match: f64,
    /// The required share of exact answers.
    pub least_exact: f64,
    /// The results by category.
    pub categories: BTreeMap<String, Tally>,
    /// Every wrong answer, in the order of the file.
    pub failures: Vec<CaseFailure>,
}

/// The results of one category.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Number of cases.
    pub n: usize,
    /// Number of cases answered exactly.
    pub exact: usize,
    /// Number of critical cases answered wrongly.
    pub critical_failures: usize,
}

/// A case that was answered wrongly.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseFailure {
    /// Its category.
    pub category: String,
    /// Whether it fails the suite by itself.
    pub is_critical: bool,
    /// What was asked.
    pub query: String,
    /// The right calls.
    pub expected: Vec<Call>,
    /// The model's calls; `None` if its answer was not a list of calls.
    pub predicted: Option<Vec<Call>>,
    /// What is wrong, in words.
    pub wrong: String,
}

impl Suite {
    /// Reads a suite.
    ///
    /// # Errors
    /// If the file cannot be read, or a case does not fit the tools; the message names the case,
    /// counted from 1.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let text = file::read_text(path)?;
        Self::parse(&text).map_err(|reason| TrainError::Run { path: path.to_owned(), reason })
    }

    /// As [`Suite::load`], from text.
    ///
    /// # Errors
    /// If the text is not a valid suite; the message names the case and the field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Written { name, tools, least_exact, critical, cases } =
            serde_json::from_str(text).map_err(|e| format!("not a suite: {e}"))?;
        if !(0.0..=1.0).contains(&least_exact) {
            return Err(format!("least_exact is {least_exact}, expected between 0 and 1"));
        }
        if cases.is_empty() {
            return Err("no cases: nothing would be tested".into());
        }
        if let Some(unknown) = critical.iter().find(|name| cases.iter().all(|case| case.category != **name)) {
            return Err(format!("critical names the category {unknown:?}, which no case has"));
        }
        let read = |(i, case): (usize, WrittenCase)| {
            let line = json!({"query": case.query, "tools": tools, "answers": case.answers}).to_string();
            let example =
                Example::parse(&line).map_err(|problem| format!("case {} ({:?}): {problem}", i + 1, case.query))?;
            let is_critical = case.critical || critical.contains(&case.category);
            Ok(Case { category: case.category, is_critical, example })
        };
        let cases = cases.into_iter().enumerate().map(read).collect::<Result<_, String>>()?;
        Ok(Self { name, least_exact, cases })
    }

    /// The requests with their tools and answers.
    pub fn examples(&self) -> Vec<Example> {
        self.cases.iter().map(|case| case.example.clone()).collect()
    }

    /// Judges the answers to all cases, in their order; `None` stands for an answer that is not a
    /// list of calls.
    pub fn judge(&self, answers: &[Option<Vec<Call>>]) -> Verdict {
        let (mut categories, mut failures) = (BTreeMap::<String, Tally>::new(), Vec::new());
        for (case, answer) in self.cases.iter().zip(answers) {
            let expected = &case.example.answers;
            let is_exact = answer.as_deref().is_some_and(|calls| same_calls(expected, calls));
            let tally = categories.entry(case.category.clone()).or_default();
            tally.n += 1;
            tally.exact += usize::from(is_exact);
            tally.critical_failures += usize::from(!is_exact && case.is_critical);
            if !is_exact {
                let wrong =
                    mistake(expected, answer.as_deref()).map_or_else(String::new, |mistake| mistake.to_string());
                failures.push(CaseFailure {
                    category: case.category.clone(),
                    is_critical: case.is_critical,
                    query: case.example.query.clone(),
                    expected: expected.clone(),
                    predicted: answer.clone(),
                    wrong,
                });
            }
        }
        let exact = categories.values().map(|tally| tally.exact).sum::<usize>();
        let exact_match = exact as f64 / self.cases.len() as f64;
        let passed = exact_match >= self.least_exact && categories.values().all(|tally| tally.critical_failures == 0);
        let (suite, least_exact) = (self.name.clone(), self.least_exact);
        Verdict { suite, passed, exact_match, least_exact, categories, failures }
    }
}

impl Verdict {
    /// As text for a terminal.
    pub fn to_text(&self) -> String {
        let result = if self.passed { "passed" } else { "FAILED" };
        let mut out = format!(
            "{}: {result}, {:.3} exact, at least {:.3} required\n{:<20}{:>6}{:>8}{:>10}",
            self.suite, self.exact_match, self.least_exact, "category", "n", "exact", "critical"
        );
        for (name, Tally { n, exact, critical_failures }) in &self.categories {
            let _ = write!(out, "\n{name:<20}{n:>6}{:>8.3}{critical_failures:>10}", *exact as f64 / *n as f64);
        }
        for failure in &self.failures {
            let critical = if failure.is_critical { ", critical" } else { "" };
            let _ = write!(out, "\n\n({}{critical}) {}\n  {}", failure.category, failure.query, failure.wrong);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: &str = r#"{"name": "desk", "least_exact": 0.6, "critical": ["missing"],
        "tools": [{"name": "book", "parameters": {"nights": {"type": "integer", "required": true}}}],
        "cases": [
            {"category": "plain", "query": "two nights", "answers": [{"name": "book", "arguments": {"nights": 2}}]},
            {"category": "plain", "query": "three nights", "answers": [{"name": "book", "arguments": {"nights": 3}}]},
            {"category": "missing", "query": "a room", "answers": []}]}"#;

    fn book(nights: u64) -> Option<Vec<Call>> {
        let call = json!({"name": "book", "arguments": {"nights": nights}});
        Some(vec![Call::from_json(&call, "call").unwrap()])
    }

    #[test]
    fn a_suite_passes_where_enough_is_exact_and_nothing_critical_is_wrong() {
        let suite = Suite::parse(SUITE).unwrap();
        let verdict = suite.judge(&[book(2), book(4), Some(Vec::new())]);
        assert!(verdict.passed, "{verdict:?}");
        assert_eq!(verdict.categories["plain"], Tally { n: 2, exact: 1, critical_failures: 0 });
        assert_eq!(verdict.failures.len(), 1);
        assert!(!suite.judge(&[book(1), book(4), Some(Vec::new())]).passed, "one of three is not enough");
    }

    #[test]
    fn one_critical_failure_fails_a_suite_however_much_is_exact() {
        let suite = Suite::parse(SUITE).unwrap();
        for answer in [book(1), None] {
            let verdict = suite.judge(&[book(2), book(3), answer]);
            assert!(!verdict.passed && verdict.exact_match > 0.6, "{verdict:?}");
            assert!(verdict.to_text().contains("(missing, critical) a room"), "{}", verdict.to_text());
        }
    }

    #[test]
    fn a_suite_that_is_wrong_is_refused_with_the_case_and_the_field() {
        for (change, with, expected) in [
            ("\"nights\": 3", "\"nights\": \"three\"", "case 2 (\"three nights\")"),
            ("\"name\": \"book\", \"arguments\": {\"nights\": 2}", "\"name\": \"cook\"", "case 1"),
            ("[\"missing\"]", "[\"refusals\"]", "refusals"),
            ("0.6", "60", "least_exact is 60"),
            ("\"cases\"", "\"case\"", "unknown field `case`"),
        ] {
            let error = Suite::parse(&SUITE.replace(change, with)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(Suite::parse(r#"{"name": "x", "tools": [], "cases": []}"#).unwrap_err().contains("no cases"));
    }
}
