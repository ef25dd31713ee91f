//! Searches for the most probable valid answer instead of taking the best valid token at each step.
//!
//! Greedy decoding under a grammar goes wrong where the model's first choice is forbidden: once it
//! has begun an optional argument, it must write some value, even an improbable one. Where that
//! happened, the steps before it are revisited. Each other token that was allowed there is a fork,
//! the beginning of another answer. Forks that are still more probable than the whole greedy answer
//! are decoded together, and the most probable answer wins. An optional argument with an improbable
//! value thus loses to the answer without it.
//!
//! An answer in which nothing was forbidden costs nothing extra.

use crate::constrain::Constraint;
use crate::generate::{Generated, StepHook};

/// Number of alternative tokens kept at each step.
const ALTERNATIVES: usize = 2;
/// Maximum number of forks that are decoded.
const MAX_FORKS: usize = 6;

/// A step of an answer.
#[derive(Debug, Clone, Default)]
struct Step {
    /// Log-probability of the token that was taken, among all tokens.
    log_prob: f32,
    /// True if the model's first choice was forbidden.
    was_forbidden: bool,
    /// The next best allowed tokens, with their log-probabilities.
    others: Vec<(u32, f32)>,
}

/// A row that is being decoded.
struct Row {
    constraint: Constraint,
    /// Tokens that the answer must begin with.
    prefix: Vec<u32>,
    written: Vec<u32>,
    steps: Vec<Step>,
}

/// A hook that constrains rows and records the alternatives at each step.
pub struct LookAhead<'a, H: ?Sized> {
    rows: Vec<Row>,
    inner: &'a mut H,
}

impl<'a, H: StepHook + ?Sized> LookAhead<'a, H> {
    /// One row per constraint; `inner` is called as in greedy decoding.
    pub fn new(constraints: Vec<Constraint>, inner: &'a mut H) -> Self {
        Self::with_prefixes(constraints.into_iter().map(|constraint| (constraint, Vec::new())).collect(), inner)
    }

    /// Rows whose answers begin with the given tokens.
    pub fn with_prefixes(rows: Vec<(Constraint, Vec<u32>)>, inner: &'a mut H) -> Self {
        let row = |(constraint, prefix)| Row { constraint, prefix, written: Vec::new(), steps: Vec::new() };
        Self { rows: rows.into_iter().map(row).collect(), inner }
    }

    /// The error of row `row`, if there was one. For a row with a prefix, this includes that no
    /// answer within the limit begins with that prefix.
    pub fn error(&self, row: usize) -> Option<&str> {
        self.rows[row].constraint.error()
    }

    /// Prefixes of answers that may be more probable than the answer of row `row`; empty if nothing
    /// was forbidden in it.
    pub fn forks(&self, row: usize) -> Vec<Vec<u32>> {
        let Row { written, steps, .. } = &self.rows[row];
        let Some(last) = steps.iter().rposition(|step| step.was_forbidden) else { return Vec::new() };
        let total: f32 = steps.iter().map(|step| step.log_prob).sum();
        let mut forks: Vec<(f32, Vec<u32>)> = Vec::new();
        let mut before = 0.0;
        for (i, step) in steps.iter().enumerate().take(last + 1) {
            for &(token, log_prob) in &step.others {
                // The tokens after the fork can only lower the probability.
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

impl<H: StepHook + ?Sized> StepHook for LookAhead<'_, H> {
    fn mask(&mut self, index: usize, logits: &mut [f32]) {
        self.inner.mask(index, logits);
        let row = &mut self.rows[index];
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let log_sum_exp = largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f32>().ln();
        if let Some(&token) = row.prefix.get(row.written.len()) {
            let wanted = logits[token as usize];
            logits.fill(f32::NEG_INFINITY);
            // The only finite logit, so that the constraint keeps or refuses exactly this token.
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

/// The log-probability of a whole answer, including the end token.
pub fn log_prob(answer: &Generated) -> f32 {
    answer.certainties.iter().map(|certainty| certainty.log_prob).sum()
}

#[cfg(test)]
mod tests {
    use needle_data::tokenizer::{EOS_ID, TOOL_CALL_ID, TokenizerConfig};
    use needle_data::{Tokenizer, Tool};
    use serde_json::json;

    use super::*;
    use crate::constrain::copying::Values;
    use crate::constrain::{Asked, Constrainer};
    use crate::generate::{Certainty, NoHook, Stop};

    const MAX_TOKENS: usize = 60;

    /// A fake model that prefers each of these texts with this logit.
    struct Wishes<'a>(&'a [(&'a str, f32)]);

    impl Wishes<'_> {
        fn logits(&self, tokenizer: &Tokenizer, ids: &[u32]) -> Vec<f32> {
            let Some(written) = ids.get(1..) else {
                let begins = |id| if id == TOOL_CALL_ID { 9.0 } else { 0.0 };
                return (0..tokenizer.vocab_size() as u32).map(begins).collect();
            };
            // Like a trained model, it writes a text in the tokens that the tokenizer splits it
            // into.
            let next = |text: &str| match tokenizer.encode(text).strip_prefix(written) {
                Some([]) => Some(EOS_ID),
                Some([next, ..]) => Some(*next),
                None => None,
            };
            let nexts: Vec<(Option<u32>, f32)> = self.0.iter().map(|(text, weight)| (next(text), *weight)).collect();
            let weight = |id| {
                let wanted = nexts.iter().filter(|(next, _)| *next == Some(id));
                wanted.map(|(_, weight)| *weight).fold(0.0, f32::max)
            };
            (0..tokenizer.vocab_size() as u32).map(weight).collect()
        }

        /// Decodes each row of `hook`, one after the other.
        fn decode<H: StepHook>(
            &self,
            tokenizer: &Tokenizer,
            rows: usize,
            hook: &mut LookAhead<'_, H>,
        ) -> Vec<Generated> {
            let one = |row: usize, hook: &mut LookAhead<'_, H>| {
                let mut answer = Generated { ids: Vec::new(), certainties: Vec::new(), stop: Stop::Length };
                for _ in 0..MAX_TOKENS {
                    let mut logits = self.logits(tokenizer, &answer.ids);
                    let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
                    hook.mask(row, &mut logits);
                    let best =
                        (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap();
                    answer.certainties.push(Certainty { log_prob: logits[best] - sum.ln(), margin: 0.0 });
                    if best as u32 == EOS_ID {
                        answer.stop = Stop::Eos;
                        break;
                    }
                    answer.ids.push(best as u32);
                    hook.chosen(row, best as u32);
                }
                answer
            };
            (0..rows).map(|row| one(row, hook)).collect()
        }
    }

    /// The greedy answer, and the best of it and its forks.
    fn answers(wishes: &Wishes<'_>) -> (String, String) {
        let config = TokenizerConfig { vocab_size: 330, isolate_spaces: true, join_structure: true };
        let text = r#"[{"name":"read","arguments":{"limit":5}}] {}"#;
        let tokenizer = Tokenizer::train(&config, [text; 3].iter()).unwrap();
        let tools = json!([{"name": "read", "parameters": {"limit": {"type": "integer"}}}]);
        let tools = Tool::list_from_json(&tools).unwrap();
        let asked = Asked {
            query: "read",
            tools: &tools,
            values: &Values::Free,
            min_calls: 0,
            max_calls: 1,
            max_tokens: MAX_TOKENS,
        };
        let constraint = Constrainer::new(&tokenizer).unwrap().compile(&asked).unwrap();
        let mut none = NoHook;
        let mut first = LookAhead::new(vec![constraint.clone()], &mut none);
        let greedy = wishes.decode(&tokenizer, 1, &mut first).remove(0);
        assert_eq!(first.error(0), None);
        let forks: Vec<_> = first.forks(0).into_iter().map(|fork| (constraint.clone(), fork)).collect();
        let (count, mut none) = (forks.len(), NoHook);
        let mut again = LookAhead::with_prefixes(forks, &mut none);
        let others = wishes.decode(&tokenizer, count, &mut again);
        let sound = others.into_iter().enumerate().filter(|(i, _)| again.error(*i).is_none()).map(|(_, answer)| answer);
        let all = std::iter::once(greedy.clone()).chain(sound);
        let best = all.max_by(|a, b| log_prob(a).total_cmp(&log_prob(b))).unwrap();
        (tokenizer.decode(&greedy.ids), tokenizer.decode(&best.ids))
    }

    #[test]
    fn an_optional_argument_for_which_the_model_has_no_value_is_left_out() {
        let wishes = Wishes(&[
            (r#" [{"name":"read","arguments":{"limit":{}}}]"#, 12.0),
            (r#" [{"name":"read","arguments":{}}]"#, 9.0),
        ]);
        let (greedy, best) = answers(&wishes);
        assert!(greedy.contains("limit"), "{greedy}");
        assert_eq!(best, r#"[{"name":"read","arguments":{}}]"#);
    }

    #[test]
    fn an_answer_in_which_nothing_was_forbidden_is_kept() {
        let wanted = r#"[{"name":"read","arguments":{"limit":5}}]"#;
        let with_space = format!(" {wanted}");
        let wishes = Wishes(&[(with_space.as_str(), 12.0), (" []", 11.9)]);
        assert_eq!(answers(&wishes), (wanted.to_owned(), wanted.to_owned()));
    }
}
