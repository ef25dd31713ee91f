//! The hook that applies each row's constraint during decoding.

use super::Constraint;
use crate::generate::{Certainty, StepHook};

/// A hook that constrains each row of a batch and passes the chosen tokens to `inner`.
pub struct Constrained<'a, H: ?Sized> {
    /// One constraint per row.
    pub rows: Vec<Constraint>,
    /// Called after the constraint for each token.
    pub inner: &'a mut H,
}

impl<H: StepHook + ?Sized> StepHook for Constrained<'_, H> {
    fn mask(&mut self, row: usize, logits: &mut [f32]) {
        self.inner.mask(row, logits);
        self.rows[row].mask(logits);
    }

    fn draft(&mut self, row: usize) -> Vec<u32> {
        self.rows[row].draft()
    }

    fn chosen(&mut self, row: usize, token: u32) {
        self.rows[row].advance(token);
        self.inner.chosen(row, token);
    }

    fn certain(&mut self, row: usize, certainty: Certainty) {
        self.inner.certain(row, certainty);
    }

    fn is_stopped(&mut self, row: usize) -> bool {
        self.inner.is_stopped(row)
    }
}
