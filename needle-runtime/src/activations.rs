//! Rows of activations as products take them: INT8 in groups of 32, each with a scale and the sum of its codes.

use crate::file::quantize::GROUP_SIZE;
use crate::kernels::Kernels;

/// Quantized rows. Kept and filled again, so that it allocates only when it grows.
#[derive(Debug, Default)]
pub struct Activations {
    rows: usize,
    groups: usize,
    /// `[rows, groups * 32]`, -127 to 127.
    codes: Vec<i8>,
    /// `[rows, groups]`.
    scales: Vec<f32>,
    /// `[rows, groups]`.
    sums: Vec<i32>,
}

impl Activations {
    /// Makes room for `rows` rows of `groups` groups. What they hold is unspecified.
    pub fn resize(&mut self, rows: usize, groups: usize) {
        (self.rows, self.groups) = (rows, groups);
        self.codes.resize(rows * groups * GROUP_SIZE, 0);
        self.scales.resize(rows * groups, 0.0);
        self.sums.resize(rows * groups, 0);
    }

    /// The rows of `x`, each of a multiple of 32 values.
    pub fn quantize(&mut self, kernels: &Kernels, x: &[f32], width: usize) {
        self.resize(x.len() / width, width / GROUP_SIZE);
        kernels.quantize_groups(x, &mut self.codes, &mut self.scales, &mut self.sums);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// `[rows, groups * 32]`.
    pub fn codes(&self) -> &[i8] {
        &self.codes
    }

    /// `[rows, groups]`.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Sums of each group's codes, `[rows, groups]`.
    pub fn sums(&self) -> &[i32] {
        &self.sums
    }
}
