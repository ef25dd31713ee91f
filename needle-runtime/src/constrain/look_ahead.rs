//! The best valid answer instead of the first valid token.
//!
//! Greedy decoding under a grammar goes wrong where the model's own choice is forbidden: having begun an optional argument, it
//! is held to a value that it never meant. So where that happened, the places before it are looked at again: each other token
//! that was allowed there begins another answer, and those whose beginning is still more probable than the whole answer are
//! decoded, all at once. The answer of the highest probability wins. An optional argument for whose value the model has no
//! probability loses to the answer without it.
//!
//! Answers in which nothing was forbidden cost nothing more than before.

use crate::constrain::Constraint;
use crate::generate::{Generated, StepHook};

/// Other tokens remembered at a step.
const ALTERNATIVES: usize = 2;
/// Answers decoded beside the first one.
const MAX_FORKS: usize = 6;

/// A step of an answer.
#[derive(Debug, Clone, Default)]
struct Step {
    /// Log-probability of the token that was taken, among all tokens.
    log_prob: f32,
    /// True if the model would have taken another one, which was forbidden.
    was_forbidden: bool,
    /// The next best tokens that were allowed, with their log-probabilities.
    others: Vec<(u32, f32)>,
}

/// A row that is being decoded.
struct Row {
    constraint: Constraint,
    /// Tokens that it must begin with.
    prefix: Vec<u32>,
    written: Vec<u32>,
    steps: Vec<Step>,
}

/// A hook that constrains rows and remembers what else could have been written.
pub struct LookAhead<'a, H> {
    rows: Vec<Row>,
    inner: &'a mut H,
}

impl<'a, H: StepHook> LookAhead<'a, H> {
    /// One row for each constraint; `inner` sees what greedy decoding would.
    pub fn new(constraints: Vec<Constraint>, inner: &'a mut H) -> Self {
        Self::with_prefixes(constraints.into_iter().map(|constraint| (constraint, Vec::new())).collect(), inner)
    }

    /// Rows that begin with given tokens.
    pub fn with_prefixes(rows: Vec<(Constraint, Vec<u32>)>, inner: &'a mut H) -> Self {
        let row = |(constraint, prefix)| Row { constraint, prefix, written: Vec::new(), steps: Vec::new() };
        Self { rows: rows.into_iter().map(row).collect(), inner }
    }

    /// What went wrong in row `row`: where it was given a beginning, also that no answer within the limit begins so.
    pub fn error(&self, row: usize) -> Option<&str> {
        self.rows[row].constraint.error()
    }

    /// Beginnings of answers that may be better than the one that row `row` got: none where nothing was forbidden in it.
    pub fn forks(&self, row: usize) -> Vec<Vec<u32>> {
        let Row { written, steps, .. } = &self.rows[row];
        let Some(last) = steps.iter().rposition(|step| step.was_forbidden) else { return Vec::new() };
        let total: f32 = steps.iter().map(|step| step.log_prob).sum();
        let mut forks: Vec<(f32, Vec<u32>)> = Vec::new();
        let mut before = 0.0;
        for (i, step) in steps.iter().enumerate().take(last + 1) {
            for &(token, log_prob) in &step.others {
                // What follows only lowers it.
                if before + log_prob > total {
                    forks.push((before + log_prob, [&written[..i], &[token]].concat()));
                }
            }
            before += step.log_prob;
        }
        forks.sort_by(|a, b| b.0.total_cmp(&a.0));
        forks.into_iter().take(MAX_FORKS).map(|(_, fork)| fork).collect()
    }
}

impl<H: StepHook> StepHook for LookAhead<'_, H> {
    fn mask(&mut self, index: usize, logits: &mut [f32]) {
        self.inner.mask(index, logits);
        let row = &mut self.rows[index];
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let log_sum_exp = largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f32>().ln();
        if let Some(&token) = row.prefix.get(row.written.len()) {
            let wanted = logits[token as usize];
            logits.fill(f32::NEG_INFINITY);
            // The best by far, so that the constraint keeps or refuses exactly it.
            logits[token as usize] = if wanted.is_finite() { wanted } else { f32::MIN };
        }
        row.constraint.mask(logits);
        let mut best: Vec<(u32, f32)> = Vec::new();
        for (id, &logit) in logits.iter().enumerate() {
            if logit > f32::MIN && best.last().is_none_or(|(_, least)| best.len() <= ALTERNATIVES || logit > *least) {
                let at = best.partition_point(|(_, other)| *other >= logit);
                best.insert(at, (id as u32, logit));
                best.truncate(ALTERNATIVES + 1);
            }
        }
        let taken = best.first().map_or(f32::NEG_INFINITY, |(_, logit)| *logit);
        let others = best.iter().skip(1).map(|(id, logit)| (*id, logit - log_sum_exp)).collect();
        row.steps.push(Step { log_prob: taken - log_sum_exp, was_forbidden: taken < largest, others });
    }

    fn chosen(&mut self, index: usize, token: u32) {
        let row = &mut self.rows[index];
        row.constraint.advance(token);
        row.written.push(token);
        self.inner.chosen(index, token);
    }
}

/// The log-probability of a whole answer, its end included.
pub fn log_prob(answer: &Generated) -> f32 {
    answer.certainties.iter().map(|certainty| certainty.log_prob).sum()
}
