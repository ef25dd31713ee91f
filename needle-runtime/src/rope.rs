//! Angles of the rotary position embedding (Su et al., arXiv:2104.09864), computed when a position
//! is first used. Element `i` of the first half of a head is rotated with element `i` of the second
//! half, by the angle `position * theta^(-2i / head_dim)`.

use std::sync::OnceLock;

/// Number of positions whose angles are computed together.
const BLOCK: usize = 64;

/// Cosines and sines by position. They are computed in f64 and by the same library on all systems,
/// so that the f32 values are the same everywhere.
pub struct Rope {
    /// `theta^(-2i / head_dim)`.
    frequencies: Vec<f64>,
    /// For each position of a block: the cosines, then the sines.
    blocks: Vec<OnceLock<Vec<f32>>>,
}

impl Rope {
    /// Angles for `positions` positions and heads of `head_dim` dimensions.
    pub fn new(theta: f32, head_dim: usize, positions: usize) -> Self {
        let frequency = |i: usize| libm::pow(f64::from(theta), -((2 * i) as f64) / head_dim as f64);
        Self {
            frequencies: (0..head_dim / 2).map(frequency).collect(),
            blocks: (0..positions.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Cosines and sines of `position`, each `[head_dim / 2]`.
    ///
    /// # Panics
    /// If the position is beyond the number of positions.
    pub fn angles(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.frequencies.len();
        let block = self.blocks[position / BLOCK].get_or_init(|| {
            let mut block = Vec::with_capacity(BLOCK * 2 * half);
            for position in position / BLOCK * BLOCK..(position / BLOCK + 1) * BLOCK {
                block.extend(self.frequencies.iter().map(|f| libm::cos(position as f64 * f) as f32));
                block.extend(self.frequencies.iter().map(|f| libm::sin(position as f64 * f) as f32));
            }
            block
        });
        let start = position % BLOCK * 2 * half;
        block[start..start + 2 * half].split_at(half)
    }
}
