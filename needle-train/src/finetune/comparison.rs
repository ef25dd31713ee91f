//! Compares the base with the tuned model: by metric, by tool, by kind of mistake, and by example.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use needle_data::Example;
use needle_runtime::Prediction;
use serde::Serialize;

use crate::eval::breakdown::{Breakdown, Failure, Group};
use crate::eval::{Evaluation, is_exact};

/// The comparison of base and tuned model, on examples that neither was trained on.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Comparison {
    /// The path of the base; `None` for a model trained from scratch.
    pub base: Option<PathBuf>,
    /// Number of examples in each part.
    pub examples: BTreeMap<String, usize>,
    /// Warnings about the data.
    pub warnings: Vec<String>,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Seconds in all.
    pub seconds: f64,
    /// The base on the test part; `None` from scratch or without a test part.
    pub before: Option<Evaluation>,
    /// The tuned model on the test part; `None` without one.
    pub after: Option<Evaluation>,
    /// By tool: before and after.
    pub by_tool: BTreeMap<String, BeforeAfter<Group>>,
    /// By kind of mistake: before and after.
    pub mistakes: BTreeMap<String, BeforeAfter<usize>>,
    /// Examples answered wrongly before and rightly after.
    pub mended: Vec<Change>,
    /// Examples answered rightly before and wrongly after.
    pub broken: Vec<Change>,
    /// Wrong answers of the tuned model, worst first.
    pub failures: Vec<Failure>,
}

/// One figure, before and after.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct BeforeAfter<T> {
    /// That of the base.
    pub before: Option<T>,
    /// That of the tuned model.
    pub after: T,
}

/// An example that only one of the two models answers rightly.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    query: String,
    expected: Vec<needle_data::Call>,
    before: String,
    after: String,
}

impl Comparison {
    /// Adds the evaluations of both models on `test`.
    pub(super) fn compare(
        &mut self,
        test: &[Example],
        before: Option<(Evaluation, Vec<Prediction>)>,
        (evaluation, after): (Evaluation, Vec<Prediction>),
    ) {
        let broken_down = Breakdown::new(test, &after);
        let old = before.as_ref().map(|(_, predictions)| Breakdown::new(test, predictions));
        for (tool, group) in broken_down.by_tool {
            let before = old.as_ref().and_then(|b| b.by_tool.get(&tool)).copied();
            self.by_tool.insert(tool, BeforeAfter { before, after: group });
        }
        let kinds = broken_down.mistakes.keys().chain(old.iter().flat_map(|b| b.mistakes.keys()));
        for kind in kinds.collect::<BTreeSet<_>>() {
            let count = |b: &Breakdown| b.mistakes.get(kind).copied().unwrap_or(0);
            let after = broken_down.mistakes.get(kind).copied().unwrap_or(0);
            self.mistakes.insert(kind.clone(), BeforeAfter { before: old.as_ref().map(count), after });
        }
        self.failures = broken_down.failures;
        if let Some((evaluation, before)) = before {
            for ((example, was), is) in test.iter().zip(&before).zip(&after) {
                let list = match (is_exact(example, was), is_exact(example, is)) {
                    (false, true) => &mut self.mended,
                    (true, false) => &mut self.broken,
                    _ => continue,
                };
                list.push(Change {
                    query: example.query.clone(),
                    expected: example.answers.clone(),
                    before: was.text.clone(),
                    after: is.text.clone(),
                });
            }
            self.before = Some(evaluation);
        }
        self.after = Some(evaluation);
    }

    /// As a table for a terminal.
    pub fn to_text(&self) -> String {
        let Some(after) = &self.after else { return "not measured: no example was held out".into() };
        let mut lines = vec![format!("{:<26}{:>8}{:>8}", format!("on {} test examples", after.n), "base", "tuned")];
        let cell = |value: Option<f64>| value.map_or_else(|| format!("{:>8}", "-"), |v| format!("{v:>8.3}"));
        let mut row = |name: &str, value: &dyn Fn(&Evaluation) -> Option<f64>| {
            let before = self.before.as_ref().and_then(value);
            lines.push(format!("{name:<26}{}{}", cell(before), cell(value(after))));
        };
        row("exact match", &|e| Some(e.score.exact_match));
        row("call F1", &|e| Some(e.score.call_f1));
        row("name F1", &|e| Some(e.score.name_f1));
        row("value accuracy", &|e| Some(e.score.value_accuracy));
        row("no-tool recall", &|e| Some(e.score.no_tool_recall));
        row("retrieval recall@1", &|e| e.retrieval.map(|r| r.recall_at_1));
        row("calibration error", &|e| e.calibration.as_ref().map(|c| c.expected_calibration_error));
        lines.push(format!("\n{:<26}{:>8}{:>8}{:>6}", "exact match by tool", "base", "tuned", "n"));
        for (tool, both) in &self.by_tool {
            let (before, after) = (cell(both.before.map(|g| g.exact_match)), cell(Some(both.after.exact_match)));
            lines.push(format!("{tool:<26}{before}{after}{:>6}", both.after.n));
        }
        if !self.mistakes.is_empty() {
            lines.push(format!("\n{:<26}{:>8}{:>8}", "mistakes", "base", "tuned"));
            for (kind, both) in &self.mistakes {
                let before = both.before.map_or("-".into(), |n| n.to_string());
                lines.push(format!("{:<26}{before:>8}{:>8}", kind.replace('_', " "), both.after));
            }
        }
        lines.join("\n")
    }
}
