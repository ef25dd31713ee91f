//! Replaces `constrain` if that feature is off: answers are free, and asking for constrained ones
//! is an error.

#[path = "constrain/asked.rs"]
mod asked;
#[path = "constrain/constrained.rs"]
mod constrained;
#[path = "constrain/copying.rs"]
pub mod copying;
#[path = "constrain/grounding.rs"]
pub mod grounding;
#[path = "constrain/preference.rs"]
pub mod preference;
#[path = "constrain/search.rs"]
pub mod search;

use needle_data::Tokenizer;

use crate::error::RuntimeError;

pub use asked::Asked;
pub use constrained::Constrained;

/// Stands in for the compiler of constraints.
pub struct Constrainer(());

impl Constrainer {
    /// Does nothing.
    ///
    /// # Errors
    /// Never.
    pub fn new(_: &Tokenizer) -> Result<Self, RuntimeError> {
        Ok(Self(()))
    }

    /// Always fails, because there are no constraints.
    ///
    /// # Errors
    /// Always.
    pub fn compile(&self, _: &Asked<'_>) -> Result<Constraint, RuntimeError> {
        let reason = "this build has no constraints: it was compiled without the feature `constrain`";
        Err(RuntimeError::Config { field: "constrained", reason: reason.to_owned() })
    }
}

/// A type without values, because there are no constraints.
#[derive(Clone)]
pub enum Constraint {}

impl Constraint {
    /// Never called.
    #[must_use]
    pub fn preferring(self, _: Option<preference::Preference>) -> Self {
        match self {}
    }

    /// Never called.
    pub fn mask(&mut self, _: &mut [f32]) {
        match *self {}
    }

    /// Never called.
    pub fn fits(&mut self, _: u32) -> bool {
        match *self {}
    }

    /// Never called.
    pub fn draft(&mut self) -> Vec<u32> {
        match *self {}
    }

    /// Never called.
    pub fn advance(&mut self, _: u32) {
        match *self {}
    }

    /// Never called.
    pub fn error(&self) -> Option<&str> {
        match *self {}
    }
}
