//! The result of decoding, and the hook for constraints and streaming. Each network implements
//! decoding itself: the engine here, and burn's model where training needs f32 or a GPU.

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The model chose the end token.
    Eos,
    /// The answer reached the length limit, or a hook stopped it.
    Length,
}

/// One decoded answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The tokens, from `<tool_call>` on, without the end token.
    pub ids: Vec<u32>,
    /// The certainty of each token, followed by that of the end token if the model chose it.
    pub certainties: Vec<Certainty>,
    /// Why decoding ended.
    pub stop: Stop,
}

/// How certain a model is of a token that it chose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Certainty {
    /// The token's log-probability among all tokens, including those that a constraint forbids.
    pub log_prob: f32,
    /// Its logit minus that of the next best allowed token; at most [`MAX_MARGIN`], which is also
    /// the value if there is no other allowed token.
    pub margin: f32,
}

impl Certainty {
    /// The certainty of a forced token, for which no logits are computed.
    pub const FORCED: Self = Self { log_prob: 0.0, margin: MAX_MARGIN };
}

/// The token with the largest logit; among equals the lowest id, as in the original.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// Margins are capped at this value, beyond which a choice is certain.
pub const MAX_MARGIN: f32 = 20.0;

/// Is called before and after each token of a row is chosen. Constraints and streaming are
/// implemented as hooks.
pub trait StepHook {
    /// May forbid tokens by setting their logits to negative infinity. `row` is the row's index in
    /// the batch.
    fn mask(&mut self, row: usize, logits: &mut [f32]) {
        let _ = (row, logits);
    }

    /// Tokens that row `row` must continue with, in order; mostly none. They are fed in one pass
    /// together with the token before them, and no logits are computed for them.
    /// [`StepHook::chosen`] is called for each of them. Then this method is called again, until it
    /// returns nothing. A network need not call it, so [`StepHook::mask`] must allow only these
    /// tokens, too.
    fn forced(&mut self, row: usize) -> Vec<u32> {
        let _ = row;
        Vec::new()
    }

    /// Receives the certainty of the token that [`StepHook::chosen`] receives next.
    fn certain(&mut self, row: usize, certainty: Certainty) {
        let _ = (row, certainty);
    }

    /// Returning true ends the answer of row `row` after the token that was just chosen, as if it
    /// had reached the length limit. A network need not call it.
    fn is_stopped(&mut self, row: usize) -> bool {
        let _ = row;
        false
    }

    /// Tokens that row `row` will probably continue with, in order; mostly none (speculative
    /// decoding). A network may feed them in one pass together with the token before them. It then
    /// calls [`StepHook::mask`] and [`StepHook::chosen`] for each of them as if it had been fed
    /// alone, and drops the tokens after the first wrong one. The answer is the same with and
    /// without drafts.
    fn draft(&mut self, row: usize) -> Vec<u32> {
        let _ = row;
        Vec::new()
    }

    /// Receives the token that was chosen for row `row`.
    fn chosen(&mut self, row: usize, token: u32) {
        let _ = (row, token);
    }
}

/// A hook that does nothing: no constraint, no streaming.
pub struct NoHook;

impl StepHook for NoHook {}
