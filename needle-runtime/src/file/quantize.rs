//! Quantizes trained weights to the INT4 codes and scales of an artifact.
//!
//! Groups of 32 along the input dimension: `scale = max(|w|) / 7` (at least 1e-8),
//! `code = clamp(round_half_even(w / scale), -8, 7)`; then the scale is rounded to f16 to keep the
//! file small. `needle-model` quantizes burn's tensors by the same formula, so that the model that
//! was evaluated is the model that runs; a test compares the two bit by bit.

use half::f16;

/// Weights of one group.
pub const GROUP_SIZE: usize = 32;
/// Smallest scale, which keeps the scale of a group of zeros positive.
pub const MIN_SCALE: f32 = 1e-8;
/// The INT4 code of the weight with the largest magnitude in a group.
const LARGEST: f32 = 7.0;

/// Number of weights per group of a matrix with `inputs` inputs.
pub fn group_size(inputs: usize) -> usize {
    GROUP_SIZE.min(inputs)
}

/// An INT4 matrix in the layout of an artifact.
pub struct Int4 {
    /// Number of pairs of inputs.
    pub pairs: usize,
    /// Two codes per byte, input `2p` in the low and `2p + 1` in the high nibble,
    /// `[pairs, outputs]`.
    pub codes: Vec<u8>,
    /// f16 bits, `[groups, outputs]`.
    pub scales: Vec<u16>,
}

/// Quantizes `weights`, `[outputs, inputs]`.
pub fn quantize(weights: &[f32], inputs: usize, outputs: usize) -> Int4 {
    let group = group_size(inputs);
    let groups = inputs.div_ceil(group);
    let pairs = (groups * group).div_ceil(2);
    let mut codes = vec![0_u8; pairs * outputs];
    let mut scales = vec![0_u16; groups * outputs];
    for (output, row) in weights.chunks_exact(inputs).enumerate() {
        for (index, values) in row.chunks(group).enumerate() {
            let largest = values.iter().fold(0.0_f32, |largest, w| largest.max(w.abs()));
            let scale = (largest / LARGEST).max(MIN_SCALE);
            scales[index * outputs + output] = f16_bits(scale);
            for (i, weight) in values.iter().enumerate() {
                let code = (weight / scale).round_ties_even().clamp(-LARGEST - 1.0, LARGEST) as i8;
                let input = index * group + i;
                codes[input / 2 * outputs + output] |= (code as u8 & 0x0F) << (4 * (input % 2));
            }
        }
    }
    Int4 { pairs, codes, scales }
}

/// Saturates instead of overflowing to infinity: huge weights are broken, but must stay finite.
fn f16_bits(scale: f32) -> u16 {
    f16::from_f32(scale).min(f16::MAX).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_even_code_and_two_codes_share_a_byte() {
        let quantized = quantize(&[7.0, 0.5, 1.5, -2.5, -3.5, -7.0], 6, 1);
        // 7, 0, 2, -2, -4, -7, low nibble first.
        assert_eq!(quantized.codes, [0x07, 0xE2, 0x9C]);
        assert_eq!(quantized.scales, [f16::from_f32(1.0).to_bits()]);
    }

    #[test]
    fn a_short_group_has_a_scale_of_its_own() {
        let mut weights = vec![0.0; 33];
        weights[32] = 14.0;
        let quantized = quantize(&weights, 33, 1);
        assert_eq!(quantized.scales, [f16::from_f32(MIN_SCALE).to_bits(), f16::from_f32(2.0).to_bits()]);
        assert_eq!(quantized.codes[16], 7);
    }
}
