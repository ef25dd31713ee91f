//! Answers beside the greedy one: the beginnings of other answers that are nearly as probable.
//!
//! Greedy decoding takes the best token at each step and cannot take it back. While it decodes, the
//! next best tokens of each step are recorded. Each of them is a fork, the beginning of another
//! answer. The most probable forks are then decoded together, and the best of all these answers is
//! chosen ([`crate::answer::evidence`]). A fork's probability bounds that of its answers, so an
//! answer of which the model is certain has no forks and costs nothing extra.

use needle_data::tokenizer::EOS_ID;

use crate::constrain::Constraint;
use crate::generate::{Certainty, Generated, MAX_MARGIN, StepHook};

/// Number of alternative tokens kept at each step.
const ALTERNATIVES: usize = 3;
/// Forks are decoded if they are at least `exp(-SLACK)` times as probable as the whole answer that
/// they fork off. With a larger value, more answers are decoded, but hardly better ones are found:
/// docs/LOG.md, "The best of several answers".
pub const SLACK: f32 = 4.0;

/// The best answer is searched for further improvements this many times: a wrong answer often has
/// more than one mistake.
pub const ROUNDS: usize = 3;

/// The beginning of another answer, or all of it.
#[derive(Debug, Clone)]
pub struct Fork {
    /// Its tokens, from `<tool_call>` on.
    tokens: Vec<u32>,
    /// The certainties of the first tokens. The model computes those of the others.
    certainties: Vec<Certainty>,
}

impl Fork {
    /// A whole answer, of which no certainties are known.
    pub fn of_answer(tokens: Vec<u32>) -> Self {
        Self { tokens, certainties: Vec::new() }
    }

    /// True if an answer of these tokens begins like this.
    pub fn begins(&self, answer: &[u32]) -> bool {
        answer.starts_with(&self.tokens)
    }
}

/// A step of an answer.
#[derive(Debug, Clone, Default)]
struct Step {
    /// The logit of the token that was taken.
    logit: f32,
    /// The next best allowed tokens, with their logits.
    others: Vec<(u32, f32)>,
}

/// A row that is being decoded.
struct Row {
    constraint: Constraint,
    /// Tokens that the answer must begin with.
    start: Vec<u32>,
    /// Number of tokens of the start whose certainties are known.
    known: usize,
    written: Vec<u32>,
    /// The steps after the known tokens.
    steps: Vec<Step>,
    /// True if the constraint forbids a token of the start.
    is_refused: bool,
}

/// A hook that constrains rows and records the alternatives at each step.
pub struct Search<'a, H: ?Sized> {
    rows: Vec<Row>,
    inner: &'a mut H,
}

impl<'a, H: StepHook + ?Sized> Search<'a, H> {
    /// One row per constraint; `inner` is called as in greedy decoding.
    pub fn new(constraints: Vec<Constraint>, inner: &'a mut H) -> Self {
        let rows = constraints.into_iter().map(|constraint| Row::new(constraint, Vec::new(), 0)).collect();
        Self { rows, inner }
    }

    /// Rows that complete `forks` under `constraint`.
    pub fn from_forks(constraint: &Constraint, forks: &[Fork], inner: &'a mut H) -> Self {
        let row = |fork: &Fork| Row::new(constraint.clone(), fork.tokens.clone(), fork.certainties.len());
        Self { rows: forks.iter().map(row).collect(), inner }
    }

    /// The error of row `row`, if there was one. For a fork, this includes that no answer within
    /// the limit begins with it.
    pub fn error(&self, row: usize) -> Option<&str> {
        let row = &self.rows[row];
        row.constraint.error().or(row.is_refused.then_some("no answer begins like this"))
    }

    /// The answer that row `row` decoded from `fork`, with the certainties of the fork's tokens.
    pub fn complete(&self, row: usize, fork: Fork, mut answer: Generated) -> Generated {
        let known = fork.certainties.len().min(answer.certainties.len());
        answer.certainties.splice(..known, fork.certainties);
        // Only this token was left at each step, so that its margin looked certain.
        let chosen = fork.tokens.len().min(answer.certainties.len());
        for (certainty, step) in answer.certainties[known..chosen.max(known)].iter_mut().zip(&self.rows[row].steps) {
            let next = step.others.first().map_or(f32::NEG_INFINITY, |(_, logit)| *logit);
            certainty.margin = (step.logit - next).min(MAX_MARGIN);
        }
        answer
    }

    /// The `most` most probable forks off `answer`, which is that of row `row`, after its known
    /// tokens. Their log-probability is less than `slack` below that of the answer.
    pub fn forks(&self, row: usize, answer: &Generated, most: usize, slack: f32) -> Vec<Fork> {
        let &Row { known, ref steps, .. } = &self.rows[row];
        let total = log_prob(answer);
        let mut forks: Vec<(f32, usize, u32, Certainty)> = Vec::new();
        let mut before: f32 = answer.certainties.iter().take(known).map(|certainty| certainty.log_prob).sum();
        for (i, certainty) in answer.certainties.iter().enumerate().skip(known) {
            let Some(step) = steps.get(i - known) else { break };
            for &(token, logit) in &step.others {
                let margin = logit - step.logit;
                let log_prob = certainty.log_prob + margin;
                // The tokens after the fork can only lower the probability.
                if before + log_prob > total - slack {
                    forks.push((before + log_prob, i, token, Certainty { log_prob, margin }));
                }
            }
            before += certainty.log_prob;
        }
        forks.sort_by(|a, b| b.0.total_cmp(&a.0));
        forks.truncate(most);
        let fork = |(_, at, token, certainty): (f32, usize, u32, Certainty)| Fork {
            tokens: [&answer.ids[..at], &[token]].concat(),
            certainties: [&answer.certainties[..at], &[certainty]].concat(),
        };
        forks.into_iter().map(fork).collect()
    }
}

impl Row {
    fn new(constraint: Constraint, start: Vec<u32>, known: usize) -> Self {
        Self { constraint, start, known, written: Vec::new(), steps: Vec::new(), is_refused: false }
    }

    /// Leaves only the next token of the start.
    fn mask_known(&mut self, token: u32, logits: &mut [f32]) {
        let wanted = logits[token as usize];
        logits.fill(f32::NEG_INFINITY);
        // The only finite logit, so that the constraint keeps or refuses exactly this token.
        logits[token as usize] = if wanted.is_finite() { wanted } else { f32::MIN };
        self.constraint.mask(logits);
        if logits[token as usize] == f32::NEG_INFINITY {
            self.refuse(logits);
        }
    }

    /// Ends the answer, because it cannot begin as it should.
    fn refuse(&mut self, logits: &mut [f32]) {
        self.is_refused = true;
        logits.fill(f32::NEG_INFINITY);
        logits[EOS_ID as usize] = 0.0;
    }

    fn mask(&mut self, logits: &mut [f32]) {
        let wanted = self.start.get(self.written.len()).copied().filter(|_| !self.is_refused);
        if let Some(token) = wanted.filter(|_| self.written.len() < self.known) {
            return self.mask_known(token, logits);
        }
        self.constraint.mask(logits);
        let Some(token) = wanted else {
            self.steps.push(Step::of(logits, None));
            return;
        };
        if logits[token as usize] == f32::NEG_INFINITY || !self.constraint.fits(token) {
            return self.refuse(logits);
        }
        self.steps.push(Step::of(logits, Some(token)));
        let logit = logits[token as usize];
        logits.fill(f32::NEG_INFINITY);
        logits[token as usize] = logit;
    }
}

impl<H: StepHook + ?Sized> StepHook for Search<'_, H> {
    fn mask(&mut self, index: usize, logits: &mut [f32]) {
        self.inner.mask(index, logits);
        self.rows[index].mask(logits);
    }

    fn forced(&mut self, index: usize) -> Vec<u32> {
        let row = &self.rows[index];
        row.start[..row.known].get(row.written.len()..).unwrap_or_default().to_vec()
    }

    fn draft(&mut self, index: usize) -> Vec<u32> {
        let row = &mut self.rows[index];
        match row.start.get(row.written.len()..) {
            Some(rest) if !rest.is_empty() => rest.to_vec(),
            _ => row.constraint.draft(),
        }
    }

    fn certain(&mut self, index: usize, certainty: Certainty) {
        self.inner.certain(index, certainty);
    }

    fn is_stopped(&mut self, index: usize) -> bool {
        self.rows[index].is_refused || self.inner.is_stopped(index)
    }

    fn chosen(&mut self, index: usize, token: u32) {
        let row = &mut self.rows[index];
        row.constraint.advance(token);
        row.written.push(token);
        self.inner.chosen(index, token);
    }
}

impl Step {
    /// The best allowed tokens other than `taken`, or than the best one; among equals, those with
    /// the lowest ids.
    fn of(logits: &[f32], taken: Option<u32>) -> Self {
        let mut best: Vec<(u32, f32)> = Vec::with_capacity(ALTERNATIVES + 2);
        let mut least = f32::MIN;
        for (id, &logit) in logits.iter().enumerate() {
            if logit > least && taken != Some(id as u32) {
                let at = best.partition_point(|(_, other)| *other >= logit);
                best.insert(at, (id as u32, logit));
                if best.len() > ALTERNATIVES + 1 {
                    best.truncate(ALTERNATIVES + 1);
                    least = best[ALTERNATIVES].1;
                }
            }
        }
        let mut best = best.into_iter();
        let logit = match taken {
            Some(token) => logits[token as usize],
            None => best.next().map_or(f32::NEG_INFINITY, |(_, logit)| logit),
        };
        Self { logit, others: best.take(ALTERNATIVES).collect() }
    }
}

/// The log-probability of a whole answer, including the end token.
pub fn log_prob(answer: &Generated) -> f32 {
    answer.certainties.iter().map(|certainty| certainty.log_prob).sum()
}

#[cfg(test)]
mod tests {
    use needle_data::tokenizer::{TOOL_CALL_ID, TokenizerConfig};
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
        fn decode<H: StepHook>(&self, tokenizer: &Tokenizer, rows: usize, hook: &mut Search<'_, H>) -> Vec<Generated> {
            let one = |row: usize, hook: &mut Search<'_, H>| {
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

    /// The constraint of an answer that may read, with the tokenizer.
    fn read_constraint() -> (Tokenizer, Constraint) {
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
        (tokenizer, constraint)
    }

    /// The greedy answer, and the answers that fork off it.
    fn answers(wishes: &Wishes<'_>) -> (Tokenizer, Generated, Vec<Generated>) {
        let (tokenizer, constraint) = read_constraint();
        let mut none = NoHook;
        let mut first = Search::new(vec![constraint.clone()], &mut none);
        let greedy = wishes.decode(&tokenizer, 1, &mut first).remove(0);
        assert_eq!(first.error(0), None);
        let forks = first.forks(0, &greedy, 6, SLACK);
        let mut none = NoHook;
        let mut again = Search::from_forks(&constraint, &forks, &mut none);
        let others = wishes.decode(&tokenizer, forks.len(), &mut again);
        let both = forks.into_iter().zip(others).enumerate();
        let sound = both.filter(|(i, _)| again.error(*i).is_none());
        let others = sound.map(|(i, (fork, answer))| again.complete(i, fork, answer)).collect();
        (tokenizer, greedy, others)
    }

    /// The greedy answer, and the most probable of it and its forks.
    fn texts(wishes: &Wishes<'_>) -> (String, String) {
        let (tokenizer, greedy, others) = answers(wishes);
        let all = others.into_iter().chain([greedy.clone()]);
        let best = all.max_by(|a, b| log_prob(a).total_cmp(&log_prob(b))).unwrap();
        (tokenizer.decode(&greedy.ids), tokenizer.decode(&best.ids))
    }

    #[test]
    fn an_optional_argument_for_which_the_model_has_no_value_is_left_out() {
        let wishes = Wishes(&[
            (r#" [{"name":"read","arguments":{"limit":{}}}]"#, 12.0),
            (r#" [{"name":"read","arguments":{}}]"#, 9.0),
        ]);
        let (greedy, best) = texts(&wishes);
        assert!(greedy.contains("limit"), "{greedy}");
        assert_eq!(best, r#"[{"name":"read","arguments":{}}]"#);
    }

    #[test]
    fn nearly_as_probable_answers_are_decoded_and_others_are_not() {
        let wanted = r#" [{"name":"read","arguments":{"limit":5}}]"#;
        let (tokenizer, greedy, others) = answers(&Wishes(&[(wanted, 12.0), (" []", 11.5)]));
        assert_eq!(tokenizer.decode(&greedy.ids), wanted.trim());
        let others: Vec<String> = others.iter().map(|other| tokenizer.decode(&other.ids)).collect();
        assert!(others.contains(&"[]".to_owned()), "{others:?}");
        let (_, _, none) = answers(&Wishes(&[(wanted, 15.0), (" []", 5.0)]));
        assert!(none.is_empty(), "{none:?}");
    }

    #[test]
    fn a_whole_answer_gets_the_probability_that_the_model_gives_it_and_forks_of_its_own() {
        let wanted = r#" [{"name":"read","arguments":{"limit":5}}]"#;
        let wishes = Wishes(&[(wanted, 12.0), (" []", 11.0)]);
        let (tokenizer, constraint) = read_constraint();
        let answer = |text: &str| Fork::of_answer([&[TOOL_CALL_ID], tokenizer.encode(text).as_slice()].concat());
        let forks = [answer("[]"), answer(wanted.trim()), answer(r#"[{"name":"write","arguments":{}}]"#)];
        let mut none = NoHook;
        let mut search = Search::from_forks(&constraint, &forks, &mut none);
        let decoded = wishes.decode(&tokenizer, 3, &mut search);
        assert_eq!(search.error(0), None);
        assert!(search.error(2).is_some(), "there is no tool of this name");
        let [refused, called] = [0, 1].map(|i| search.complete(i, forks[i].clone(), decoded[i].clone()));
        assert_eq!(tokenizer.decode(&refused.ids), "[]");
        assert!((log_prob(&called) - log_prob(&refused) - 1.0).abs() < 0.1, "their logits differ by 1");
        let least = refused.certainties.iter().map(|certainty| certainty.margin).fold(f32::INFINITY, f32::min);
        assert!((least + 1.0).abs() < 0.1, "the model prefers the call: {:?}", refused.certainties);
        let others = search.forks(0, &refused, 6, SLACK);
        assert!(!others.is_empty(), "the call is more probable than the refusal");
    }

    #[test]
    fn the_log_probability_of_a_fork_is_that_of_all_its_tokens() {
        let (_, greedy, others) = answers(&Wishes(&[(" []", 12.0), (r#" [{"name":"read","arguments":{}}]"#, 11.9)]));
        for other in others {
            assert_eq!(other.certainties.len(), other.ids.len() + usize::from(other.stop == Stop::Eos));
            let differs = greedy.ids.iter().zip(&other.ids).position(|(a, b)| a != b).unwrap();
            assert_eq!(other.certainties[..differs], greedy.certainties[..differs]);
            assert!(other.certainties[differs].log_prob < greedy.certainties[differs].log_prob);
        }
    }
}
