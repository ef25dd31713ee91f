//! Statistics of a run: accepted rows, reasons for rejected ones, coverage of the plan, variety and
//! cost.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use serde_json::Value;

use crate::kind::Kind;
use crate::run::Collected;
use crate::task::Task;
use crate::teacher::{StopReason, Teacher};
use crate::tokens::Usage;
use crate::trust::Stage;
use crate::trust::words::words;

/// Number of most frequent values that are shown per argument.
const SHOWN_VALUES: usize = 5;

/// Rows of one kind and tool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coverage {
    /// The kind of their requests.
    pub kind: Kind,
    /// The tool in focus.
    pub tool: String,
    /// Rows planned.
    pub planned: usize,
    /// Rows accepted.
    pub accepted: usize,
}

/// The values of one argument.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ArgumentValues {
    /// Number of calls with this argument.
    pub calls: usize,
    /// Number of distinct values.
    pub distinct: usize,
    /// The most frequent ones.
    pub top: Vec<(String, usize)>,
}

/// Statistics of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Rows that were planned.
    pub planned: usize,
    /// Rows to train on.
    pub accepted: usize,
    /// Rejected rows, and answers without rows.
    pub rejected: usize,
    /// Number of rejections by stage and code.
    pub reasons: BTreeMap<Stage, BTreeMap<String, usize>>,
    /// Rows that reached each stage (for the first stage, answers).
    pub reached: BTreeMap<Stage, usize>,
    /// Requests of this session, retries included.
    pub requests: usize,
    /// Of those, retries after a failure.
    pub retries: usize,
    /// Answers that earlier sessions paid for.
    pub from_journal: usize,
    /// Requests of earlier sessions that were interrupted, and whose answers are lost.
    pub lost_requests: usize,
    /// Tokens and cost of all sessions.
    pub usage: Usage,
    /// Cost divided by accepted rows, if there are prices and rows.
    pub cost_per_row: Option<f64>,
    /// Tokens divided by accepted rows, if there are rows.
    pub tokens_per_row: Option<f64>,
    /// Number of distinct word bigrams divided by that of all bigrams, over the accepted queries
    /// (distinct-2; Li et al. 2016).
    pub distinct_2: f64,
    /// Planned and accepted rows of each kind and tool.
    pub coverage: Vec<Coverage>,
    /// Values of each argument, by `tool.argument`.
    pub values: BTreeMap<String, ArgumentValues>,
    /// Why the run ended early, if it did.
    pub ended: Option<StopReason>,
}

impl Summary {
    /// The statistics of `collected`.
    pub fn new(tasks: &[Task], collected: &Collected, teacher: &Teacher) -> Self {
        let mut reasons: BTreeMap<Stage, BTreeMap<String, usize>> = BTreeMap::new();
        for rejected in &collected.rejected {
            let of_stage = reasons.entry(rejected.rejection.stage).or_default();
            *of_stage.entry(rejected.rejection.code.clone()).or_default() += 1;
        }
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let (usage, accepted) = (teacher.used(), collected.accepted.len());
        let per_row = |whole: f64| (accepted > 0).then(|| whole / accepted as f64);
        let queries = collected.accepted.iter().map(|row| row.example.query.as_str());
        Self {
            planned: tasks.iter().map(|task| task.rows).sum(),
            accepted,
            rejected: collected.rejected.len(),
            reasons,
            reached: collected.reached.clone(),
            requests: count(&teacher.counters.requests),
            retries: count(&teacher.counters.retries),
            from_journal: count(&teacher.counters.from_journal),
            lost_requests: teacher.journal().num_lost(),
            usage,
            cost_per_row: usage.cost.and_then(per_row),
            tokens_per_row: per_row(usage.tokens() as f64),
            distinct_2: distinct_2(queries),
            coverage: coverage(tasks, collected),
            values: values(collected),
            ended: collected.ended.clone(),
        }
    }

    /// The statistics as text.
    pub fn to_text(&self) -> String {
        let mut lines =
            vec![format!("{} of {} planned rows accepted, {} rejected", self.accepted, self.planned, self.rejected)];
        for (stage, codes) in &self.reasons {
            lines.extend(codes.iter().map(|(code, n)| format!("  {n:>7}  {stage}: {code}")));
        }
        let old = match self.from_journal {
            0 => String::new(),
            n => format!("; {n} answers were paid for before"),
        };
        lines.push(format!("{} requests, {} of them repeated{old}", self.requests, self.retries));
        lines.push(format!("{}, distinct-2 {:.3}", cost_text(&self.usage, self.accepted), self.distinct_2));
        lines.join("\n")
    }
}

/// Tokens and cost as text.
pub fn cost_text(usage: &Usage, rows: usize) -> String {
    let about = if usage.is_estimated { "about " } else { "" };
    let tokens = format!("{about}{} tokens in, {} out", usage.input_tokens, usage.output_tokens);
    match usage.cost {
        Some(cost) if rows > 0 => format!("{tokens}, cost {cost:.4} ({:.6} per row)", cost / rows as f64),
        Some(cost) => format!("{tokens}, cost {cost:.4}"),
        None => tokens,
    }
}

/// Number of distinct word bigrams divided by that of all bigrams; 0 if there is none.
fn distinct_2<'a>(queries: impl Iterator<Item = &'a str>) -> f64 {
    let mut different = HashSet::new();
    let mut all = 0_usize;
    for query in queries {
        for pair in words(query).windows(2) {
            all += 1;
            different.insert((pair[0].clone(), pair[1].clone()));
        }
    }
    if all == 0 { 0.0 } else { different.len() as f64 / all as f64 }
}

fn coverage(tasks: &[Task], collected: &Collected) -> Vec<Coverage> {
    let mut cells: BTreeMap<(Kind, &str), (usize, usize)> = BTreeMap::new();
    let cell = |task: usize| (tasks[task].cell.kind, tasks[task].cell.tool.as_str());
    for (i, task) in tasks.iter().enumerate() {
        cells.entry(cell(i)).or_default().0 += task.rows;
    }
    for row in &collected.accepted {
        cells.entry(cell(row.task)).or_default().1 += 1;
    }
    let coverage = |((kind, tool), (planned, accepted)): ((Kind, &str), (usize, usize))| Coverage {
        kind,
        tool: tool.to_owned(),
        planned,
        accepted,
    };
    cells.into_iter().map(coverage).collect()
}

fn values(collected: &Collected) -> BTreeMap<String, ArgumentValues> {
    let mut counts: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for call in collected.accepted.iter().flat_map(|row| &row.example.answers) {
        for (argument, value) in &call.arguments {
            let value = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            *counts.entry(format!("{}.{argument}", call.name)).or_default().entry(value).or_default() += 1;
        }
    }
    let of_argument = |(argument, values): (String, BTreeMap<String, usize>)| {
        let (calls, distinct) = (values.values().sum(), values.len());
        let mut top: Vec<(String, usize)> = values.into_iter().collect();
        top.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        top.truncate(SHOWN_VALUES);
        (argument, ArgumentValues { calls, distinct, top })
    };
    counts.into_iter().map(of_argument).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_2_is_the_share_of_different_word_pairs() {
        let figure = |queries: &[&str]| distinct_2(queries.iter().copied());
        assert_eq!(figure(&["turn on the light", "Turn on the oven!"]), 4.0 / 6.0);
        assert_eq!(figure(&["one", ""]), 0.0);
        assert_eq!(figure(&["a b c"]), 1.0);
    }
}
