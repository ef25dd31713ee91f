//! Results broken down by tool, by number of calls, by kind of mistake, and the worst answers.

use std::collections::BTreeMap;
use std::fmt::Write;

use needle_data::{Call, Example};
use needle_runtime::Prediction;
use serde::Serialize;

use super::is_exact;
use super::mistake::{Mistake, mistake};
use super::score::Scorer;

/// The group of examples without a call.
pub const NO_CALL: &str = "(no call)";

/// A model's results by groups of examples.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Breakdown {
    /// By the tool that the first expected call names.
    pub by_tool: BTreeMap<String, Group>,
    /// By the number of expected calls: none, one, several.
    pub by_calls: BTreeMap<String, Group>,
    /// By the number of offered tools.
    pub by_offered_tools: BTreeMap<usize, Group>,
    /// Number of answers with each kind of mistake.
    pub mistakes: BTreeMap<String, usize>,
    /// Every wrong answer, worst first: sorted by the model's confidence, if it has one, and then
    /// by severity.
    pub failures: Vec<Failure>,
}

/// The results on a group of examples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Group {
    /// Number of examples.
    pub n: usize,
    /// Share answered exactly.
    pub exact_match: f64,
    /// F1 of whole calls.
    pub call_f1: f64,
}

/// A wrong answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// What was asked.
    pub query: String,
    /// Names of the offered tools.
    pub tools: Vec<String>,
    /// The right calls.
    pub expected: Vec<Call>,
    /// What the model wrote.
    pub predicted: String,
    /// What is wrong with it.
    pub wrong: String,
    /// The kind of mistake.
    pub kind: String,
    /// The model's confidence.
    pub confidence: Option<f64>,
}

impl Breakdown {
    /// Breaks down `predictions`, the answers to `examples`.
    pub fn new(examples: &[Example], predictions: &[Prediction]) -> Self {
        let mut by_tool: BTreeMap<String, Scorer> = BTreeMap::new();
        let mut by_calls: BTreeMap<String, Scorer> = BTreeMap::new();
        let mut by_offered: BTreeMap<usize, Scorer> = BTreeMap::new();
        let mut mistakes: BTreeMap<String, usize> = BTreeMap::new();
        let mut failures = Vec::new();
        for (example, prediction) in examples.iter().zip(predictions) {
            let calls = prediction.calls.as_deref();
            let tool = example.answers.first().map_or(NO_CALL, |call| &call.name);
            let number = ["none", "one", "several"][example.answers.len().min(2)];
            by_tool.entry(tool.to_owned()).or_default().add(&example.answers, calls);
            by_calls.entry(number.to_owned()).or_default().add(&example.answers, calls);
            by_offered.entry(example.tools.len()).or_default().add(&example.answers, calls);
            if is_exact(example, prediction) {
                continue;
            }
            let Some(mistake) = mistake(&example.answers, calls) else { continue };
            *mistakes.entry(mistake.kind().to_owned()).or_default() += 1;
            failures.push((severity(&mistake), prediction.confidence, example, prediction, mistake));
        }
        failures.sort_by(|a, b| b.1.unwrap_or(0.0).total_cmp(&a.1.unwrap_or(0.0)).then(b.0.cmp(&a.0)));
        let failures = failures.into_iter().map(|(_, confidence, example, prediction, mistake)| Failure {
            query: example.query.clone(),
            tools: example.tools.iter().map(|tool| tool.name.clone()).collect(),
            expected: example.answers.clone(),
            predicted: prediction.text.clone(),
            wrong: mistake.to_string(),
            kind: mistake.kind().to_owned(),
            confidence,
        });
        fn group<K: Ord>(scorers: BTreeMap<K, Scorer>) -> BTreeMap<K, Group> {
            scorers.into_iter().map(|(key, scorer)| (key, Group::of(&scorer))).collect()
        }
        Self {
            by_tool: group(by_tool),
            by_calls: group(by_calls),
            by_offered_tools: group(by_offered),
            mistakes,
            failures: failures.collect(),
        }
    }

    /// As text for a terminal, with the `worst` answers.
    pub fn to_text(&self, worst: usize) -> String {
        let mut out = String::new();
        let mut groups = |title: &str, groups: Vec<(String, Group)>| {
            let width = groups.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(22);
            let _ = writeln!(out, "\n{title:<width$}{:>6}{:>8}{:>9}", "n", "exact", "call F1");
            for (name, group) in groups {
                let _ = writeln!(out, "{name:<width$}{:>6}{:>8.3}{:>9.3}", group.n, group.exact_match, group.call_f1);
            }
        };
        groups("by tools on offer", self.by_offered_tools.iter().map(|(n, g)| (n.to_string(), *g)).collect());
        groups("by calls", self.by_calls.iter().map(|(n, g)| (n.clone(), *g)).collect());
        let mut tools: Vec<(String, Group)> = self.by_tool.iter().map(|(n, g)| (n.clone(), *g)).collect();
        tools.sort_by(|a, b| a.1.exact_match.total_cmp(&b.1.exact_match));
        groups("by tool, worst first", tools);
        if !self.mistakes.is_empty() {
            let mut kinds: Vec<(&String, &usize)> = self.mistakes.iter().collect();
            kinds.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
            let _ = writeln!(out, "\nmistakes");
            for (kind, n) in kinds {
                let _ = writeln!(out, "{:<22}{n:>6}", kind.replace('_', " "));
            }
        }
        if !self.failures.is_empty() {
            let (shown, all) = (self.failures.len().min(worst), self.failures.len());
            let _ = match all - shown {
                0 => writeln!(out, "\nwrong answers, worst first ({all})"),
                _ => writeln!(out, "\nthe {shown} worst of {all} wrong answers (--json has all)"),
            };
            for failure in self.failures.iter().take(worst) {
                let sure = failure.confidence.map_or(String::new(), |c| format!(" (confidence {c:.2})"));
                let _ = writeln!(out, "  {}{sure}\n    {}", failure.query, failure.wrong);
            }
        }
        out
    }
}

impl Group {
    fn of(scorer: &Scorer) -> Self {
        let score = scorer.score();
        Self { n: scorer.examples(), exact_match: score.exact_match, call_f1: score.call_f1 }
    }
}

/// A call where none is right is worse than the wrong tool, the wrong tool is worse than a wrong
/// value, and a wrong value is worse than no call.
fn severity(mistake: &Mistake) -> usize {
    match mistake {
        Mistake::CalledSomething { .. } => 6,
        Mistake::WrongTool { .. } => 5,
        Mistake::NumberOfCalls { .. } => 4,
        Mistake::WrongValue { .. } => 3,
        Mistake::ExtraArgument { .. } | Mistake::MissingArgument { .. } => 2,
        Mistake::NotCalls => 1,
        Mistake::CalledNothing => 0,
    }
}
