//! Matrices as the kernels read them: one layout for all instruction sets.
//!
//! Outputs stand in panels of 16, inputs in groups of 32; what is missing is filled with zeros. A
//! panel's group of INT8 codes is eight lines of 64 bytes, each with four inputs of each of the 16
//! outputs: byte `4 output + input`. INT4 codes are half as many lines: the low nibbles of line `l`
//! are INT8 line `2l`, the high ones line `2l + 1`.
//!
//! Codes are stored without sign, `code + 8` and `code + 128`: the operand that the dot products of
//! x86 want unsigned. With activations `a`, sums begin at `-8 sum(a)` or `-128 sum(a)`, which takes
//! the offset out again, exactly.

use crate::file::quantize::{GROUP_SIZE, group_size};
use crate::file::source::Int4Ref;

/// Outputs of one panel: the lanes of every kernel.
pub const LANES: usize = 16;
/// Bytes of a panel's group of INT4 codes.
pub const INT4_GROUP_BYTES: usize = LANES * GROUP_SIZE / 2;
/// Bytes of a panel's group of INT8 codes.
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
    /// What one weight stands for.
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

/// The codes of `matrix` in panels, `[panels, groups, 4]` lines: the body of a kernel, compiled for
/// each instruction set.
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
            // The sign bit of four bits flipped adds 8.
            *word = (low | high << 4) ^ 0x8888_8888;
        }
        for (bytes, word) in line.0.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// `[groups, outputs]` as bytes to `[panels, groups, 16]`.
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

/// An INT8 matrix with groups of 32 along the inputs.
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
