//! Rows of activations as products take them: INT8 in groups of 32, each with a scale and the
//! offset at which its sums begin.
//!
//! Four rows are a block, in which each four codes of one row stand beside those of the next: a
//! product of many rows then reads one stretch of memory, with one pointer a block.

use crate::file::quantize::GROUP_SIZE;

/// Rows of one block.
pub const BLOCK_ROWS: usize = 4;
/// Codes that a dot product takes at once.
pub const FOUR: usize = 4;
/// Bytes of a block's group of codes.
pub const BLOCK_GROUP_BYTES: usize = BLOCK_ROWS * GROUP_SIZE;

/// Quantized rows. Kept and filled again, so that it allocates only when it grows.
#[derive(Debug, Default)]
pub struct Activations {
    rows: usize,
    groups: usize,
    /// -127 to 127, `[blocks, groups, 8, 4 rows, 4]`.
    codes: Vec<i8>,
    /// `[blocks, groups, 4 rows]`.
    scales: Vec<f32>,
    /// -8 times the sum of each group's codes, `[blocks, groups, 4 rows]`.
    offsets: Vec<i32>,
}

impl Activations {
    /// Makes room for `rows` rows of `groups` groups, whose codes, scales and offsets are then to
    /// be written.
    pub fn resize(&mut self, rows: usize, groups: usize) -> (&mut [i8], &mut [f32], &mut [i32]) {
        (self.rows, self.groups) = (rows, groups);
        let places = rows.div_ceil(BLOCK_ROWS) * groups * BLOCK_ROWS;
        self.codes.resize(places * GROUP_SIZE, 0);
        self.scales.resize(places, 0.0);
        self.offsets.resize(places, 0);
        (&mut self.codes, &mut self.scales, &mut self.offsets)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// `[blocks, groups, 8, 4 rows, 4]`.
    pub fn codes(&self) -> &[i8] {
        &self.codes
    }

    /// `[blocks, groups, 4 rows]`.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// What takes the offset of INT4 codes out of a sum: -8 times the sum of each group's codes,
    /// `[blocks, groups, 4 rows]`.
    pub fn offsets(&self) -> &[i32] {
        &self.offsets
    }
}
