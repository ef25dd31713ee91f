//! Products of tiles, on tensor cores or as multiply-adds.
//!
//! ```text
//! scores  [own, other]     =  own tile [own, head_dim]  x  other tile^T   to shared memory
//! sums    [own, head_dim]  += weights [own, other]      x  other tile     in registers
//! ```

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::launch::vector_sum;
use super::tile::{GROUP, Products, SIDE, Tiling, score_at, unit_row, weight_at};

/// Without tensor cores, a unit has 4 rows of its group's 16, and every eighth column.
const ROWS: usize = 4;
const LANES: usize = 8;

/// The first of the 16 own positions of this unit's group.
#[cube]
fn group_row() -> usize {
    UNIT_POS_X as usize / GROUP * SIDE
}

/// The first row and the first column of this unit, without tensor cores.
#[cube]
fn unit_patch() -> (usize, usize) {
    let lane = UNIT_POS_X as usize % GROUP;
    (group_row() + lane / LANES * ROWS, lane % LANES)
}

/// The dot products of all own positions with all others. Afterwards, `sync_cube` makes them
/// visible.
#[cube]
pub fn multiply_transposed<E: Float, N: Size>(
    own: &SharedMemory<Vector<E, N>>,
    other: &SharedMemory<Vector<E, N>>,
    scores: &mut SharedMemory<f32>,
    #[comptime] tiling: Tiling,
) {
    let stride = comptime!(tiling.stride());
    if comptime!(tiling.products == Products::TensorCores) {
        let elements = comptime!((tiling.stride() * tiling.vector) as u32);
        let blocks = comptime!(tiling.other / SIDE);
        let mut sums = Sequence::<cmma::Matrix<f32>>::new();
        #[unroll]
        for _ in 0..blocks {
            sums.push(zeros_16());
        }
        #[unroll]
        for depth in 0..comptime!(tiling.head_dim / SIDE) {
            let column = comptime!(depth * SIDE / tiling.vector);
            let begin = group_row() * stride + column;
            let a = cmma::Matrix::<Vector<E, N>>::from_slice(
                cmma::MatrixIdent::A,
                SIDE,
                SIDE,
                SIDE,
                cmma::MatrixLayout::RowMajor,
                &own.slice(begin, begin + comptime!(tiling.vectors())),
                elements,
            );
            #[unroll]
            for block in 0..blocks {
                let begin = comptime!(block * SIDE) * stride + column;
                let b = cmma::Matrix::<Vector<E, N>>::from_slice(
                    cmma::MatrixIdent::B,
                    SIDE,
                    SIDE,
                    SIDE,
                    cmma::MatrixLayout::ColMajor,
                    &other.slice(begin, begin + comptime!(tiling.vectors())),
                    elements,
                );
                let sum = sums.index(block);
                cmma::execute::<Vector<E, N>, Vector<E, N>, f32, f32>(&a, &b, sum, sum);
            }
        }
        #[unroll]
        for block in 0..blocks {
            let begin = score_at(group_row(), comptime!(block * SIDE), tiling);
            let mut patch = scores.slice_mut(begin, begin + SIDE);
            let layout = cmma::MatrixLayout::RowMajor;
            cmma::store(&mut patch, sums.index(block), comptime!(tiling.scores_stride() as u32), layout);
        }
    } else {
        let columns = comptime!(tiling.other / LANES);
        let (first_row, first_column) = unit_patch();
        let mut sums = Array::<f32>::new(comptime!(ROWS * tiling.other / LANES));
        #[unroll]
        for i in 0..comptime!(ROWS * tiling.other / LANES) {
            sums[i] = 0.0f32;
        }
        for depth in 0..comptime!(tiling.vectors()) {
            let mut rows = Array::<Vector<f32, N>>::new(ROWS);
            #[unroll]
            for i in 0..ROWS {
                rows[i] = Vector::cast_from(own[(first_row + i) * stride + depth]);
            }
            #[unroll]
            for j in 0..columns {
                let column = Vector::<f32, N>::cast_from(other[(first_column + j * LANES) * stride + depth]);
                #[unroll]
                for i in 0..ROWS {
                    sums[i * columns + j] += vector_sum(rows[i] * column);
                }
            }
        }
        #[unroll]
        for i in 0..ROWS {
            #[unroll]
            for j in 0..columns {
                scores[score_at(first_row + i, first_column + j * LANES, tiling)] = sums[i * columns + j];
            }
        }
    }
}

/// A block of 16 x 16 zeros to add products to.
#[cube]
fn zeros_16() -> cmma::Matrix<f32> {
    cmma::Matrix::<f32>::from_value(
        cmma::MatrixIdent::Accumulator,
        SIDE,
        SIDE,
        SIDE,
        cmma::MatrixLayout::Undefined,
        0.0f32,
    )
}

/// Sums `[own, head_dim]` in the registers of a cube: of one of the two kinds, as products are
/// computed; the other is empty.
#[derive(CubeType)]
pub struct Sums<N: Size> {
    blocks: Sequence<cmma::Matrix<f32>>,
    patch: Array<Vector<f32, N>>,
}

/// Vectors of a row that a unit has at most, without tensor cores.
const fn patch_columns(tiling: Tiling) -> usize {
    (tiling.head_dim / tiling.vector).div_ceil(LANES)
}

/// Sums of nothing.
#[cube]
pub fn zero_sums<N: Size>(#[comptime] tiling: Tiling) -> Sums<N> {
    let mut blocks = Sequence::<cmma::Matrix<f32>>::new();
    let mut patch = Array::<Vector<f32, N>>::new(comptime!(ROWS * patch_columns(tiling)));
    if comptime!(tiling.products == Products::TensorCores) {
        #[unroll]
        for _ in 0..comptime!(tiling.head_dim / SIDE) {
            blocks.push(zeros_16());
        }
    } else {
        #[unroll]
        for i in 0..comptime!(ROWS * patch_columns(tiling)) {
            patch[i] = Vector::new(0.0f32);
        }
    }
    Sums::<N> { blocks, patch }
}

/// Adds for each own position the sum of the other positions, each times its weight.
#[cube]
pub fn add_weighted<E: Float, N: Size>(
    sums: &mut Sums<N>,
    weights: &SharedMemory<E>,
    other: &SharedMemory<Vector<E, N>>,
    #[comptime] tiling: Tiling,
) {
    let stride = comptime!(tiling.stride());
    if comptime!(tiling.products == Products::TensorCores) {
        #[unroll]
        for depth in 0..comptime!(tiling.other / SIDE) {
            let begin = weight_at(group_row(), comptime!(depth * SIDE), tiling);
            let a = cmma::Matrix::<E>::from_slice(
                cmma::MatrixIdent::A,
                SIDE,
                SIDE,
                SIDE,
                cmma::MatrixLayout::RowMajor,
                &weights.slice(begin, begin + SIDE),
                comptime!(tiling.weights_stride() as u32),
            );
            #[unroll]
            for block in 0..comptime!(tiling.head_dim / SIDE) {
                let begin = comptime!(depth * SIDE) * stride + comptime!(block * SIDE / tiling.vector);
                let b = cmma::Matrix::<Vector<E, N>>::from_slice(
                    cmma::MatrixIdent::B,
                    SIDE,
                    SIDE,
                    SIDE,
                    cmma::MatrixLayout::RowMajor,
                    &other.slice(begin, begin + comptime!(tiling.vectors())),
                    comptime!((tiling.stride() * tiling.vector) as u32),
                );
                let sum = sums.blocks.index(block);
                cmma::execute::<E, Vector<E, N>, f32, f32>(&a, &b, sum, sum);
            }
        }
    } else {
        let columns = comptime!(patch_columns(tiling));
        let (first_row, first_column) = unit_patch();
        for j in 0..comptime!(tiling.other) {
            let mut factors = Array::<f32>::new(ROWS);
            #[unroll]
            for i in 0..ROWS {
                factors[i] = f32::cast_from(weights[weight_at(first_row + i, j, tiling)]);
            }
            #[unroll]
            for k in 0..columns {
                let column = first_column + k * LANES;
                if column < comptime!(tiling.vectors()) {
                    let values = Vector::<f32, N>::cast_from(other[j * stride + column]);
                    #[unroll]
                    for i in 0..ROWS {
                        sums.patch[i * columns + k] += Vector::new(factors[i]) * values;
                    }
                }
            }
        }
    }
}

/// Writes the sums to the positions of `out [batch, length, heads, head_dim]` from `begin` on that
/// exist. `scores` is overwritten.
#[cube]
pub fn store_sums<E: Float, N: Size>(
    sums: &Sums<N>,
    out: &mut Tensor<Vector<E, N>>,
    scores: &mut SharedMemory<f32>,
    batch: usize,
    begin: usize,
    head: usize,
    #[comptime] tiling: Tiling,
) {
    let length = out.shape(1);
    let heads = out.shape(2);
    let vectors = comptime!(tiling.vectors());
    if comptime!(tiling.products == Products::TensorCores) {
        // Which unit has which element of a block is not defined: shared memory sorts them.
        let row = unit_row();
        let half = UNIT_POS_X as usize % 2;
        let position = begin + row;
        #[unroll]
        for block in 0..comptime!(tiling.head_dim / SIDE) {
            sync_cube();
            let first = score_at(group_row(), 0usize, tiling);
            let mut patch = scores.slice_mut(first, first + SIDE);
            let layout = cmma::MatrixLayout::RowMajor;
            cmma::store(&mut patch, sums.blocks.index(block), comptime!(tiling.scores_stride() as u32), layout);
            sync_cube();
            if position < length {
                // Two vectors of 8 elements are a row of a block.
                let mut values = Vector::<f32, N>::empty();
                #[unroll]
                for i in 0..comptime!(tiling.vector) {
                    values[i] = scores[score_at(row, half * comptime!(tiling.vector) + i, tiling)];
                }
                let column = comptime!(block * SIDE / tiling.vector) + half;
                out[((batch * length + position) * heads + head) * vectors + column] = Vector::cast_from(values);
            }
        }
    } else {
        let columns = comptime!(patch_columns(tiling));
        let (first_row, first_column) = unit_patch();
        #[unroll]
        for i in 0..ROWS {
            let position = begin + first_row + i;
            #[unroll]
            for k in 0..columns {
                let column = first_column + k * LANES;
                if position < length && column < vectors {
                    let at = ((batch * length + position) * heads + head) * vectors + column;
                    out[at] = Vector::cast_from(sums.patch[i * columns + k]);
                }
            }
        }
    }
}
