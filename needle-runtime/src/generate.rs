//! What decoding gives, and the hook that constraints and streaming go into. Whoever computes the
//! logits decodes: the engine here, or burn's model where training wants f32 or a GPU.

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The model ended it.
    Eos,
    /// It reached the length limit.
    Length,
}

/// One decoded answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The tokens, `<tool_call>` first, without the end.
    pub ids: Vec<u32>,
    /// How sure the model was of each token, and last of the end if it ended.
    pub certainties: Vec<Certainty>,
    /// Why it ended.
    pub stop: Stop,
}

/// How sure a model is of a token that it chose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Certainty {
    /// The token's log-probability among all tokens, those included that a constraint forbids.
    pub log_prob: f32,
    /// Its logit less that of the best other token that was allowed; at most [`MAX_MARGIN`], also
    /// where there was no other.
    pub margin: f32,
}

impl Certainty {
    /// Of a token that nothing could have stood in place of: no logits were computed.
    pub const FORCED: Self = Self { log_prob: 0.0, margin: MAX_MARGIN };
}

/// The token of the highest logit; on equal ones the lowest id, as in the original.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// Beyond it the choice is certain.
pub const MAX_MARGIN: f32 = 20.0;

/// Sees every step of a row before and after its token is chosen: the place where constraints and
/// streaming go in.
pub trait StepHook {
    /// May forbid tokens by setting their logits to negative infinity. `row` is the row's index in
    /// the batch.
    fn mask(&mut self, row: usize, logits: &mut [f32]) {
        let _ = (row, logits);
    }

    /// Tokens of row `row` that are determined before any logits are known, in order; mostly none.
    /// They are fed in one pass with the token before them, without logits of their own. Each of
    /// them, too, is told to [`StepHook::chosen`], and then the row is asked again, until nothing
    /// is determined. A network may ask for them or not: [`StepHook::mask`] must allow nothing
    /// else.
    fn forced(&mut self, row: usize) -> Vec<u32> {
        let _ = row;
        Vec::new()
    }

    /// Told how sure the model is of the token that [`StepHook::chosen`] is told next.
    fn certain(&mut self, row: usize, certainty: Certainty) {
        let _ = (row, certainty);
    }

    /// True ends the answer of row `row` after the token that was just chosen, as if it had reached
    /// the length limit. A network may ask or not.
    fn is_stopped(&mut self, row: usize) -> bool {
        let _ = row;
        false
    }

    /// Tokens that row `row` will probably go on with, in order; mostly none. A network may feed
    /// them in one pass with the token before them, and then goes through [`StepHook::mask`] and
    /// [`StepHook::chosen`] with each of them as if it had come alone: those after the first wrong
    /// one are dropped, so that the answer is the same with them and without.
    fn draft(&mut self, row: usize) -> Vec<u32> {
        let _ = row;
        Vec::new()
    }

    /// Told the token that row `row` got.
    fn chosen(&mut self, row: usize, token: u32) {
        let _ = (row, token);
    }
}

/// No constraint, no streaming.
pub struct NoHook;

impl StepHook for NoHook {}
