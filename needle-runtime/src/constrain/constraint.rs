//! The constraint of one answer while it is written: which tokens can come next.

use std::sync::Arc;

use llguidance::Matcher;
use llguidance::toktrie::{SimpleVob, TokEnv};
use needle_data::Tokenizer;
use needle_data::tokenizer::{EOS_ID, TOOL_CALL_ID};

use super::Compiled;
use super::closing::Answers;
use super::preference::Preference;
use super::probe::first_line;
use crate::error::RuntimeError;
use crate::generate::argmax;

/// The grammar of one answer, and the state of the answer in it.
#[derive(Clone)]
pub struct Constraint {
    matcher: Matcher,
    answers: Arc<Answers>,
    env: TokEnv,
    tokenizer: Arc<Tokenizer>,
    max_tokens: usize,
    /// Number of tokens written, including `<tool_call>`.
    written: usize,
    /// Bytes written after `<tool_call>`.
    text: Vec<u8>,
    /// Tokens that would complete the answer from here.
    plan: Vec<u32>,
    /// The last token that was found to fit, and the plan after it.
    next: Option<(u32, Vec<u32>)>,
    /// Preference among the tools, added to the model's logits.
    preference: Option<Preference>,
    error: Option<String>,
}

impl Constraint {
    /// The constraint of an answer of at most `max_tokens` tokens, before its first token.
    ///
    /// # Errors
    /// If no value satisfies the schema, or no answer fits into the limit.
    pub(super) fn new(
        compiled: Compiled,
        env: TokEnv,
        tokenizer: Arc<Tokenizer>,
        max_tokens: usize,
    ) -> Result<Self, RuntimeError> {
        let Compiled { matcher, answers } = compiled;
        let mut constraint = Self {
            matcher,
            answers,
            env,
            tokenizer,
            max_tokens,
            written: 0,
            text: Vec::new(),
            plan: Vec::new(),
            next: None,
            preference: None,
            error: None,
        };
        let plan = constraint.plan_after(&[]);
        constraint.plan = plan.ok_or_else(|| RuntimeError::Tools("no value satisfies the schema".to_owned()))?;
        // `<tool_call>`, the shortest answer, and the end token.
        let least = constraint.plan.len() + 2;
        if least > max_tokens {
            let reason = format!("an answer needs at least {least} tokens, but the limit is {max_tokens}");
            return Err(RuntimeError::Tools(reason));
        }
        Ok(constraint)
    }

    /// Sets the preference among the tools.
    pub fn preferring(self, preference: Option<Preference>) -> Self {
        Self { preference, ..self }
    }

    /// Sets the logits of tokens that cannot come next to negative infinity. The best remaining
    /// token leaves room for the rest of the answer; the others have not been checked for that.
    pub fn mask(&mut self, logits: &mut [f32]) {
        self.mask_by_grammar(logits);
        if self.error.is_some() || self.written == 0 {
            return;
        }
        if let Some(preference) = &self.preference {
            preference.add(&self.text, |id| self.env.tok_trie().token(id), logits);
        }
        loop {
            let best = argmax(logits);
            if logits[best as usize] == f32::NEG_INFINITY {
                // The plan was found to fit when it was made, but the grammar refuses it.
                self.error = Some("internal error: the grammar refuses the planned end of the answer".to_owned());
                logits[EOS_ID as usize] = 0.0;
                return;
            }
            if best == EOS_ID || self.fits(best) {
                return;
            }
            logits[best as usize] = f32::NEG_INFINITY;
        }
    }

    fn mask_by_grammar(&mut self, logits: &mut [f32]) {
        let allowed = self.allowed();
        for (logits, mut bits) in logits.chunks_mut(32).zip(allowed.as_slice().iter().copied()) {
            for logit in logits {
                if bits & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                } else if logit.is_nan() || *logit == f32::NEG_INFINITY {
                    // Even a model with NaN or infinite logits writes only what is allowed.
                    *logit = f32::MIN;
                }
                bits >>= 1;
            }
        }
        // A model may have more logits than its vocabulary has tokens.
        let covered = (32 * allowed.as_slice().len()).min(logits.len());
        logits[covered..].fill(f32::NEG_INFINITY);
    }

    /// The tokens that the grammar allows next.
    fn allowed(&mut self) -> SimpleVob {
        let mut only = self.env.tok_trie().alloc_token_set();
        if self.written == 0 {
            only.allow_token(TOOL_CALL_ID);
            return only;
        }
        only.allow_token(EOS_ID);
        if self.error.is_some() {
            return only;
        }
        self.matcher.compute_mask_or_eos().unwrap_or_else(|reason| {
            self.error = Some(first_line(reason));
            only
        })
    }

    /// True if the answer can still end within its limit after `token`, which the grammar must
    /// allow.
    pub fn fits(&mut self, token: u32) -> bool {
        let left = self.max_tokens.saturating_sub(self.written + 1);
        let plan = match self.plan.split_first() {
            Some((&first, rest)) if first == token => Some(rest.to_vec()),
            _ => {
                let bytes = self.env.tok_trie().token(token).to_vec();
                self.plan_after(&bytes)
            }
        };
        // One more token is needed for the end.
        let plan = plan.filter(|plan| plan.len() < left);
        self.next = plan.map(|plan| (token, plan));
        self.next.is_some()
    }

    /// Tokens that complete the answer after `bytes`.
    fn plan_after(&self, bytes: &[u8]) -> Option<Vec<u32>> {
        let text = [&self.text, bytes].concat();
        let rest = match text.split_first() {
            Some((b' ', answer)) => self.answers.completion(answer)?,
            None => [b" ".to_vec(), self.answers.completion(b"")?].concat(),
            Some(_) => return None,
        };
        Some(self.env.tok_trie().greedy_tokenize(&rest))
    }

    /// Advances past `token`.
    pub fn advance(&mut self, token: u32) {
        self.written += 1;
        if self.written == 1 {
            return;
        }
        if self.next.as_ref().is_none_or(|(next, _)| *next != token) {
            self.fits(token);
        }
        if let Some((_, plan)) = self.next.take() {
            self.plan = plan;
        }
        self.text.extend_from_slice(self.env.tok_trie().token(token));
        if let Err(reason) = self.matcher.consume_token(token) {
            self.error.get_or_insert_with(|| first_line(reason));
        }
    }

    /// The tokens that probably come next: the bytes that the grammar forces, tokenized as in
    /// training. The model may still split these bytes differently.
    pub fn draft(&mut self) -> Vec<u32> {
        if self.error.is_some() {
            return Vec::new();
        }
        if self.written == 0 {
            return vec![TOOL_CALL_ID];
        }
        let forced = self.matcher.compute_ff_bytes();
        if forced.is_empty() {
            return Vec::new();
        }
        let text = [self.text.as_slice(), &forced].concat();
        // The tokenizer adds the leading space itself. Text that ends inside a character cannot be
        // tokenized.
        let Some(Ok(rest)) = text.strip_prefix(b" ").map(std::str::from_utf8) else { return Vec::new() };
        let ids = self.tokenizer.encode(rest);
        let mut at = 0;
        let written = ids.iter().take_while(|id| {
            let is_written = at < self.text.len();
            at += self.env.tok_trie().token(**id).len() * usize::from(is_written);
            is_written
        });
        let written = written.count();
        // Otherwise the tokens of the whole text do not split where the tokens so far end.
        if at == self.text.len() { ids[written..].to_vec() } else { Vec::new() }
    }

    /// True if an answer can contain a call.
    pub fn can_call(&self) -> bool {
        self.answers.completion(b"[{").is_some()
    }

    /// The error that ended the answer early, if there was one.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}
