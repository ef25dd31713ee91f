//! Access to the weights of a model, whatever file they come from.

use std::borrow::Cow;

use crate::config::SanConfig;
use crate::error::RuntimeError;

/// An INT4 matrix in the layout of an artifact.
pub struct Int4Ref<'a> {
    /// Number of inputs: the length of a row of weights.
    pub inputs: usize,
    /// Number of outputs: the number of rows of weights.
    pub outputs: usize,
    /// Two codes per byte, `[pairs, outputs]`.
    pub codes: Cow<'a, [u8]>,
    /// f16 bits, little-endian, `[groups, outputs]`.
    pub scales: Cow<'a, [u8]>,
}

/// A source of weights. Tensor names are those of a checkpoint.
pub trait Source: Sync {
    /// Sizes of the model.
    fn config(&self) -> &SanConfig;

    /// An error about this file.
    fn bad(&self, reason: String) -> RuntimeError;

    /// The attention projection `name`.
    ///
    /// # Errors
    /// If it is missing or has another shape.
    fn projection(&self, name: &str, inputs: usize, outputs: usize) -> Result<Int4Ref<'_>, RuntimeError>;

    /// A gain, a gate or a bias of `len` values.
    ///
    /// # Errors
    /// If it is missing, has another shape, or contains a value that is not finite.
    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, RuntimeError>;

    /// A matrix of the retrieval head, `[inputs, outputs]`.
    ///
    /// # Errors
    /// As for [`Source::vector`].
    fn dense(&self, name: &str, inputs: usize, outputs: usize) -> Result<Vec<f32>, RuntimeError>;

    /// The embedding as bf16 bits, `[vocab, d_model]`.
    ///
    /// # Errors
    /// As for [`Source::vector`].
    fn embedding(&self) -> Result<Vec<u16>, RuntimeError>;
}
