//! Rows of activations in the layout of the matrix products: INT8 codes in groups of 32, each with
//! a scale and the offset that its integer sums start from.
//!
//! Four rows form a block. In a block, four codes of one row are followed by four codes of the
//! next, so that a product of many rows reads contiguous memory with one pointer per block.

use crate::file::quantize::GROUP_SIZE;

/// Rows per block.
pub const BLOCK_ROWS: usize = 4;
/// Codes that a dot product takes at once.
pub const FOUR: usize = 4;
/// Bytes of the codes of one group in all rows of a block.
pub const BLOCK_GROUP_BYTES: usize = BLOCK_ROWS * GROUP_SIZE;

/// Quantized rows. The buffers are reused, so they allocate only when they grow.
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
    /// Makes room for `rows` rows of `groups` groups. Returns the codes, scales and offsets for the
    /// caller to write.
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

    /// Number of groups per row.
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

    /// Correction for INT4 codes being stored with 8 added: -8 times the sum of each group's codes,
    /// `[blocks, groups, 4 rows]`.
    pub fn offsets(&self) -> &[i32] {
        &self.offsets
    }
}
