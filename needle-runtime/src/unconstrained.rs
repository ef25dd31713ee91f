//! What stands in for `constrain` where that feature is off: answers are free, and asking for
//! others is an error.

#[path = "constrain/asked.rs"]
mod asked;
#[path = "constrain/constrained.rs"]
mod constrained;
#[path = "constrain/copying.rs"]
pub mod copying;
#[path = "constrain/grounding.rs"]
pub mod grounding;
#[path = "constrain/look_ahead.rs"]
pub mod look_ahead;
#[path = "constrain/preference.rs"]
pub mod preference;

use needle_data::Tokenizer;

use crate::error::RuntimeError;

pub use asked::Asked;
pub use constrained::Constrained;

/// Compiles nothing.
pub struct Constrainer(());

impl Constrainer {
    /// For texts of a tokenizer.
    ///
    /// # Errors
    /// Never.
    pub fn new(_: &Tokenizer) -> Result<Self, RuntimeError> {
        Ok(Self(()))
    }

    /// No constraint.
    ///
    /// # Errors
    /// Always.
    pub fn compile(&self, _: &Asked<'_>) -> Result<Constraint, RuntimeError> {
        let reason = "this build has no constraints: it was made without the feature `constrain`";
        Err(RuntimeError::Config { field: "constrained", reason: reason.to_owned() })
    }
}

/// There is none.
#[derive(Clone)]
pub enum Constraint {}

impl Constraint {
    /// Is never called.
    #[must_use]
    pub fn preferring(self, _: Option<preference::Preference>) -> Self {
        match self {}
    }

    /// Is never called.
    pub fn mask(&mut self, _: &mut [f32]) {
        match *self {}
    }

    /// Is never called.
    pub fn draft(&mut self) -> Vec<u32> {
        match *self {}
    }

    /// Is never called.
    pub fn advance(&mut self, _: u32) {
        match *self {}
    }

    /// Is never called.
    pub fn error(&self) -> Option<&str> {
        match *self {}
    }
}
