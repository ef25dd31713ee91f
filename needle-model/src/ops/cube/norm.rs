//! ZCRMSNorm, forward and backward, each in one pass over its tensors: a row stays in the registers
//! of its units between the sums over it and the result.
//!
//! ```text
//! forward      r = 1 / sqrt(mean(x^2) + epsilon),   y = x r (1 + g)
//! backward     h = dy (1 + g),   dx = r (h - x r^2 mean(h x)),   dg = sum of dy x r over the rows
//! ```
//!
//! Inputs may be f32 or bf16, the gain of another type than the rest; statistics and sums are f32.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::launch::{plane, plane_cube, vector_size, vector_sum};

/// Units that share a row.
const LANES: usize = 32;
/// Rows that a cube works on at a time.
const ROWS: usize = 8;
/// Units of a cube.
const UNITS: usize = LANES * ROWS;
/// Cubes of a backward pass, at most. Each sums the gradient of the gain over rows of its own, so
/// there should be few, but enough to fill the largest GPUs.
const MAX_PARTS: usize = 1024;

/// The sum over the lanes of each row of a cube.
#[cube]
fn row_sum<M: Size>(value: Vector<f32, M>, shared: &mut SharedMemory<Vector<f32, M>>) -> Vector<f32, M> {
    let base = UNIT_POS_Y as usize * comptime!(LANES);
    sync_cube();
    shared[base + UNIT_POS_X as usize] = value;
    sync_cube();
    let mut sum = Vector::<f32, M>::new(0.0f32);
    #[unroll]
    for lane in 0..LANES {
        sum += shared[base + lane];
    }
    sum
}

/// This lane's part of row `row` of `x`, each [`LANES`]th of `width` vectors; zeros unless
/// `exists`.
#[cube]
fn load<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    row: usize,
    exists: bool,
    #[comptime] width: usize,
) -> Array<Vector<f32, N>> {
    let count = comptime!(width.div_ceil(LANES));
    let mut values = Array::<Vector<f32, N>>::new(count);
    #[unroll]
    for k in 0..count {
        let column = UNIT_POS_X as usize + k * LANES;
        values[k] = Vector::<f32, N>::new(0.0f32);
        if exists && column < width {
            values[k] = Vector::<f32, N>::cast_from(x[row * width + column]);
        }
    }
    values
}

/// `x [rows, width]` normalized, `width` in vectors; one row for each value of `UNIT_POS_Y`.
#[cube(launch)]
fn norm_kernel<E: Float, G: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    gain: &Tensor<Vector<G, N>>,
    out: &mut Tensor<Vector<E, N>>,
    epsilon: f32,
    #[comptime] width: usize,
    #[define(E, G)] _dtypes: [StorageType; 2],
) {
    let row = plane_cube() * comptime!(ROWS) + UNIT_POS_Y as usize;
    let exists = row < x.shape(0);
    let count = comptime!(width.div_ceil(LANES));
    let values = load::<E, N>(x, row, exists, width);
    let gains = load::<G, N>(gain, 0usize, true, width);
    let mut squares = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for k in 0..count {
        squares += values[k] * values[k];
    }
    let mut shared = SharedMemory::<Vector<f32, Const<1>>>::new(UNITS);
    let sum = row_sum::<Const<1>>(Vector::new(vector_sum::<N>(squares)), &mut shared);
    let mean = vector_sum::<Const<1>>(sum) / f32::cast_from(x.shape(1));
    let inverse = Vector::<f32, N>::new(1.0f32 / (mean + epsilon).sqrt());
    let one = Vector::<f32, N>::new(1.0f32);
    #[unroll]
    for k in 0..count {
        let column = UNIT_POS_X as usize + k * LANES;
        if exists && column < width {
            out[row * width + column] = Vector::cast_from(values[k] * inverse * (one + gains[k]));
        }
    }
}

/// `dx`, and the gradient of the gain summed over the `block` rows of each cube,
/// `parts [cubes, width]`.
#[cube(launch)]
fn norm_backward_kernel<E: Float, G: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    gain: &Tensor<Vector<G, N>>,
    grad: &Tensor<Vector<E, N>>,
    dx: &mut Tensor<Vector<E, N>>,
    parts: &mut Tensor<Vector<f32, N>>,
    epsilon: f32,
    block: u32,
    #[comptime] width: usize,
    #[define(E, G)] _dtypes: [StorageType; 2],
) {
    let part = CUBE_POS_X as usize;
    let begin = part * block as usize;
    let end = (begin + block as usize).min(x.shape(0));
    let length = f32::cast_from(x.shape(1));
    let count = comptime!(width.div_ceil(LANES));
    let gains = load::<G, N>(gain, 0usize, true, width);
    let one = Vector::<f32, N>::new(1.0f32);
    let mut dgain = Array::<Vector<f32, N>>::new(count);
    #[unroll]
    for k in 0..count {
        dgain[k] = Vector::<f32, N>::new(0.0f32);
    }
    let mut shared = SharedMemory::<Vector<f32, Const<2>>>::new(UNITS);
    let mut first = begin;
    while first < end {
        let row = first + UNIT_POS_Y as usize;
        let exists = row < end;
        let values = load::<E, N>(x, row, exists, width);
        let upstream = load::<E, N>(grad, row, exists, width);
        let mut squares = Vector::<f32, N>::new(0.0f32);
        let mut products = Vector::<f32, N>::new(0.0f32);
        #[unroll]
        for k in 0..count {
            squares += values[k] * values[k];
            products += upstream[k] * (one + gains[k]) * values[k];
        }
        let mut own = Vector::<f32, Const<2>>::empty();
        own[0] = vector_sum::<N>(squares);
        own[1] = vector_sum::<N>(products);
        let sums = row_sum::<Const<2>>(own, &mut shared);
        let inverse = 1.0f32 / (sums[0] / length + epsilon).sqrt();
        let projection = Vector::<f32, N>::new(inverse * inverse * (sums[1] / length));
        let inverse = Vector::<f32, N>::new(inverse);
        #[unroll]
        for k in 0..count {
            let column = UNIT_POS_X as usize + k * LANES;
            if exists && column < width {
                let scaled = upstream[k] * (one + gains[k]);
                dgain[k] += upstream[k] * values[k] * inverse;
                dx[row * width + column] = Vector::cast_from(inverse * (scaled - values[k] * projection));
            }
        }
        first += comptime!(ROWS);
    }
    // The sum over the rows that the cube worked on at the same time.
    let mut columns = SharedMemory::<Vector<f32, N>>::new(UNITS);
    #[unroll]
    for k in 0..count {
        let column = UNIT_POS_X as usize + k * LANES;
        sync_cube();
        columns[UNIT_POS_Y as usize * comptime!(LANES) + UNIT_POS_X as usize] = dgain[k];
        sync_cube();
        if UNIT_POS_Y == 0 && column < width {
            let mut sum = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for y in 0..ROWS {
                sum += columns[y * LANES + UNIT_POS_X as usize];
            }
            parts[part * width + column] = sum;
        }
    }
}

/// A vector size with which all lanes of a row have elements, if there are enough.
fn row_vector_size<R: CubeRuntime>(x: &CubeTensor<R>) -> usize {
    let width = x.meta.shape()[1];
    vector_size(x, &[if width.is_multiple_of(LANES) { width / LANES } else { 1 }])
}

/// See [`crate::ops::FusedOps::zc_rms_norm`].
pub fn forward<R: CubeRuntime>(x: CubeTensor<R>, gain: CubeTensor<R>, epsilon: f32) -> CubeTensor<R> {
    let (x, gain) = (into_contiguous(x), into_contiguous(gain));
    let [rows, width] = [x.meta.shape()[0], x.meta.shape()[1]];
    let out = empty(&x, x.meta.shape().clone(), x.dtype);
    let size = row_vector_size(&x);
    let dtypes = [x.dtype.into(), gain.dtype.into()];
    norm_kernel::launch::<R>(
        &x.client.clone(),
        plane(rows.div_ceil(ROWS)),
        CubeDim::new_2d(LANES as u32, ROWS as u32),
        size,
        x.into_tensor_arg(),
        gain.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        epsilon,
        width / size,
        dtypes,
    );
    out
}

/// `dx`, and `[parts, width]` in f32 whose sum over parts is the gradient of the gain.
pub fn backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    gain: CubeTensor<R>,
    grad: CubeTensor<R>,
    epsilon: f32,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let (x, gain) = (into_contiguous(x), into_contiguous(gain));
    let grad = into_contiguous(cast(grad, x.dtype));
    let [rows, width] = [x.meta.shape()[0], x.meta.shape()[1]];
    let block = rows.div_ceil(MAX_PARTS).next_multiple_of(ROWS);
    let cubes = rows.div_ceil(block).max(1);
    let dx = empty(&x, x.meta.shape().clone(), x.dtype);
    let parts = empty(&x, Shape::new([cubes, width]), DType::F32);
    let size = row_vector_size(&x);
    let dtypes = [x.dtype.into(), gain.dtype.into()];
    norm_backward_kernel::launch::<R>(
        &x.client.clone(),
        CubeCount::Static(cubes as u32, 1, 1),
        CubeDim::new_2d(LANES as u32, ROWS as u32),
        size,
        x.into_tensor_arg(),
        gain.into_tensor_arg(),
        grad.into_tensor_arg(),
        dx.clone().into_tensor_arg(),
        parts.clone().into_tensor_arg(),
        epsilon,
        block as u32,
        width / size,
        dtypes,
    );
    (dx, parts)
}
