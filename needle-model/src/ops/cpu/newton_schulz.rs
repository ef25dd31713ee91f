//! Newton-Schulz iterations on many matrices, one matrix per thread.
//!
//! `X X^T` and its square are symmetric, so only the blocks on and above the diagonal are computed:
//! 10 of 16 for a side of 512. A matrix and its intermediate results stay in one core's cache (1 MB
//! each at 512 x 512).

use rayon::prelude::*;

use super::gemm::{Parallelism, View, product};

/// Side of a block: small enough to skip nearly half of the square, large enough for the product to
/// run at full speed.
const BLOCK: usize = 256;

/// Side of the tiles that are mirrored across the diagonal; divides [`BLOCK`].
const TILE: usize = 16;

/// See [`crate::ops::reference::newton_schulz`]; `x [batch, rows, columns]`.
pub(super) fn newton_schulz(
    x: &[f32],
    [rows, columns]: [usize; 2],
    (a, b, c): (f32, f32, f32),
    epsilon: f32,
    steps: usize,
) -> Vec<f32> {
    let mut out = x.to_vec();
    if rows == 0 || columns == 0 {
        return out;
    }
    out.par_chunks_mut(rows * columns).for_each(|x| {
        let norm = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
        let scale = 1.0 / (norm + epsilon);
        x.iter_mut().for_each(|v| *v *= scale);
        let side = rows.min(columns);
        let (mut gram, mut polynomial) = (vec![0.0; side * side], vec![0.0; side * side]);
        let mut before = vec![0.0; x.len()];
        for _ in 0..steps {
            let view = View::new(x, columns);
            // The smaller of X X^T and X^T X.
            let (left, inner) = if rows <= columns { (view, columns) } else { (view.transposed(), rows) };
            symmetric_product(&mut gram, left, side, inner);
            symmetric_product(&mut polynomial, View::new(&gram, side), side, side);
            polynomial.iter_mut().zip(&gram).for_each(|(p, g)| *p = b * g + c * *p);
            before.copy_from_slice(x);
            let (before, polynomial) = (View::new(&before, columns), View::new(&polynomial, side));
            let (first, second) = if rows <= columns { (polynomial, before) } else { (before, polynomial) };
            // SAFETY: `x` has `rows` rows of `columns`, and nothing else borrows it here.
            unsafe {
                product([rows, columns, side], x.as_mut_ptr(), columns, a, 1.0, first, second, Parallelism::None);
            }
        }
    });
    out
}

/// `out = m m^T`, where `m [side, inner]`, by the blocks on and above the diagonal. (For a
/// symmetric `m` that is its square.)
fn symmetric_product(out: &mut [f32], m: View<'_>, side: usize, inner: usize) {
    for top in (0..side).step_by(BLOCK) {
        let height = BLOCK.min(side - top);
        // One product for the block on the diagonal and all to its right.
        let width = side - top;
        // SAFETY: the block lies inside `out [side, side]`.
        unsafe {
            let block = out.as_mut_ptr().add(top * side + top);
            let (first, second) = (m.rows_from(top), m.rows_from(top).transposed());
            product([height, width, inner], block, side, 0.0, 1.0, first, second, Parallelism::None);
        }
    }
    // Mirrors the blocks above the diagonal to those below it, tile by tile, so that source and
    // destination stay in cache.
    for top in (0..side).step_by(TILE) {
        for left in (0..top / BLOCK * BLOCK).step_by(TILE) {
            for row in top..side.min(top + TILE) {
                for column in left..left + TILE {
                    out[row * side + column] = out[column * side + row];
                }
            }
        }
    }
}
