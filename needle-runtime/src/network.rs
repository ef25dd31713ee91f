//! Whatever computes answers: the engine, or burn's model where training wants f32 or a GPU.

use crate::error::RuntimeError;
use crate::generate::{Generated, StepHook};

/// How long texts may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens that the encoder reads.
    pub max_enc_tokens: usize,
    /// Most tokens that the decoder writes.
    pub max_dec_tokens: usize,
}

/// A model that answers.
pub trait Network {
    /// How long prompts and answers may be.
    fn limits(&self) -> Limits;

    /// Decodes an answer to each of `prompts` (encoder ids), of at most `max_tokens` tokens. On equal logits the lowest id wins.
    ///
    /// # Errors
    /// If a prompt cannot be read: too long, empty, or with ids that the model does not have.
    fn generate(
        &self,
        prompts: &[Vec<u32>],
        max_tokens: usize,
        hook: &mut dyn StepHook,
    ) -> Result<Vec<Generated>, RuntimeError>;

    /// Unit vectors of `texts` (ids), by which tools are ranked; `None` without a retrieval head.
    ///
    /// # Errors
    /// As [`Network::generate`].
    fn embed(&self, texts: &[Vec<u32>]) -> Result<Option<Vec<Vec<f32>>>, RuntimeError>;
}
