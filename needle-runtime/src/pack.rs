//! Matrices in the layout of the kernels, which is the same for all instruction sets.
//!
//! Outputs are in panels of 16 and inputs in groups of 32, both padded with zeros. One group of a
//! panel's INT8 codes is eight lines of 64 bytes, each with four inputs of each of the 16 outputs:
//! byte `4 output + input`. INT4 codes need half as many lines: the low nibbles of line `l`
//! correspond to INT8 line `2l`, the high ones to line `2l + 1`.
//!
//! Codes are stored unsigned, as `code + 8` and `code + 128`, because the dot products of x86 need
//! one unsigned operand. With activations `a`, sums start at `-8 sum(a)` or `-128 sum(a)`, which
//! cancels the offset exactly.

use crate::file::quantize::{GROUP_SIZE, group_size};
use crate::file::source::Int4Ref;

/// Outputs per panel, which are the lanes of every kernel.
pub const LANES: usize = 16;
/// Bytes of one group of a panel's INT4 codes.
pub const INT4_GROUP_BYTES: usize = LANES * GROUP_SIZE / 2;
/// Bytes of one group of a panel's INT8 codes.
pub const INT8_GROUP_BYTES: usize = LANES * GROUP_SIZE;

/// One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

impl Line {
    /// Bytes of a line.
    pub const BYTES: usize = 64;
}

/// An INT4 matrix.
pub struct Int4Matrix {
    /// Panels of 16 outputs.
    pub panels: usize,
    /// Groups of 32 inputs.
    pub groups: usize,
    /// `[panels, groups, 4]`.
    pub codes: Vec<Line>,
    /// f16 bits, `[panels, groups, 16]`.
    pub scales: Vec<u16>,
}

impl Int4Matrix {
    /// The dequantized weight.
    #[cfg(test)]
    pub(crate) fn weight(&self, output: usize, input: usize) -> f32 {
        let (panel, group) = (output / LANES, input / GROUP_SIZE);
        let (line, within) = (input % GROUP_SIZE / 8, input % 8);
        let byte = self.codes[(panel * self.groups + group) * 4 + line].0[4 * (output % LANES) + within % 4];
        let code = if within < 4 { byte & 15 } else { byte >> 4 };
        let scale = self.scales[(panel * self.groups + group) * LANES + output % LANES];
        (f32::from(code) - 8.0) * half::f16::from_bits(scale).to_f32()
    }
}

/// Packs the codes of `matrix` into panels, `[panels, groups, 4]` lines. This is the body of a
/// kernel, which is compiled for each instruction set.
#[inline(always)]
pub(crate) fn pack_int4_codes(matrix: &Int4Ref<'_>, lines: &mut [Line]) {
    let groups = matrix.inputs.div_ceil(GROUP_SIZE);
    let rows = matrix.codes.len() / matrix.outputs;
    let row = |pair: usize| &matrix.codes[pair * matrix.outputs..(pair + 1) * matrix.outputs];
    for (index, line) in lines.iter_mut().enumerate() {
        let (panel, first_pair) = (index / (4 * groups), index % (4 * groups) * 4);
        let columns = panel * LANES..((panel + 1) * LANES).min(matrix.outputs);
        let mut pairs = [[0_u8; LANES]; 4];
        for (i, pairs) in pairs.iter_mut().enumerate().take(rows.saturating_sub(first_pair)) {
            let from = &row(first_pair + i)[columns.clone()];
            match <&[u8; LANES]>::try_from(from) {
                Ok(whole) => *pairs = *whole,
                Err(_) => pairs[..from.len()].copy_from_slice(from),
            }
        }
        let mut words = [0_u32; LANES];
        for (column, word) in words.iter_mut().enumerate() {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| u32::from(pairs[i][column]));
            let low = a & 0x0F | (a & 0xF0) << 4 | (b & 0x0F) << 16 | (b & 0xF0) << 20;
            let high = c & 0x0F | (c & 0xF0) << 4 | (d & 0x0F) << 16 | (d & 0xF0) << 20;
            // Flipping the sign bit of a nibble adds 8.
            *word = (low | high << 4) ^ 0x8888_8888;
        }
        for (bytes, word) in line.0.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// Packs scales from `[groups, outputs]`, as bytes, to `[panels, groups, 16]`.
pub(crate) fn pack_scales(matrix: &Int4Ref<'_>, groups: usize, scales: &mut [u16]) {
    debug_assert_eq!(groups, matrix.inputs.div_ceil(group_size(matrix.inputs)));
    for (index, scales) in scales.chunks_exact_mut(LANES).enumerate() {
        let (panel, group) = (index / groups, index % groups);
        let columns = panel * LANES..((panel + 1) * LANES).min(matrix.outputs);
        let row = &matrix.scales[group * matrix.outputs * 2..(group + 1) * matrix.outputs * 2];
        for (scale, bytes) in scales.iter_mut().zip(row[columns.start * 2..columns.end * 2].chunks_exact(2)) {
            *scale = u16::from_le_bytes([bytes[0], bytes[1]]);
        }
    }
}

/// An INT8 matrix.
pub struct Int8Matrix {
    /// Panels of 16 outputs.
    pub panels: usize,
    /// Groups of 32 inputs.
    pub groups: usize,
    /// `[panels, groups, 8]`.
    pub codes: Vec<Line>,
    /// `[panels, groups, 16]`.
    pub scales: Vec<f32>,
}
