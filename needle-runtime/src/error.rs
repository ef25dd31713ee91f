//! Why a question cannot be answered.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The offered tools cannot be turned into a grammar.
    #[error("tools: {0}")]
    Tools(String),
}
