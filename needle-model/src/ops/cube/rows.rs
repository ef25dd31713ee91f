//! Kernels that work row by row or element by element: norm, dropout. Each makes
//! one pass over memory where the composed operations make several. Inputs may be f32 or bf16;
//! statistics are f32.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::launch::{ELEMENTWISE, elementwise_cubes, plane, plane_cube};
use crate::ops::reference::keep_threshold;

/// Units that share a row.
const LANES: usize = 32;
/// Rows per cube.
const ROWS: usize = 8;
/// Rows over which one cube sums the gradient of the gain.
const BLOCK: usize = 128;

/// The sum over the lanes of each row of a cube.
#[cube]
fn row_sum(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    let base = UNIT_POS_Y as usize * comptime!(LANES);
    sync_cube();
    shared[base + UNIT_POS_X as usize] = value;
    sync_cube();
    let mut sum = 0.0f32;
    #[unroll]
    for lane in 0..LANES {
        sum += shared[base + lane];
    }
    sum
}

/// The row of a unit of [`row_cubes`].
#[cube]
fn cube_row() -> usize {
    plane_cube() * comptime!(ROWS) + UNIT_POS_Y as usize
}

/// `(1 + gain) * x / sqrt(mean(x^2) + epsilon)`, one row `[width]` for each value of `UNIT_POS_Y`.
#[cube(launch)]
fn norm_kernel<E: Float>(
    x: &Tensor<E>,
    gain: &Tensor<E>,
    out: &mut Tensor<E>,
    epsilon: f32,
    #[comptime] width: usize,
    #[define(E)] _dtype: StorageType,
) {
    let row = cube_row();
    let exists = row < x.shape(0);
    let lane = UNIT_POS_X as usize;
    let mut shared = SharedMemory::<f32>::new(comptime!(ROWS * LANES));
    let mut squares = 0.0f32;
    let mut i = lane;
    while exists && i < width {
        let value = f32::cast_from(x[row * width + i]);
        squares += value * value;
        i += comptime!(LANES);
    }
    let mean = row_sum(squares, &mut shared) / comptime!(width as f32);
    let inverse = 1.0f32 / (mean + epsilon).sqrt();
    let mut i = lane;
    while exists && i < width {
        let value = f32::cast_from(x[row * width + i]);
        out[row * width + i] = E::cast_from(value * inverse * (1.0f32 + f32::cast_from(gain[i])));
        i += comptime!(LANES);
    }
}

/// With `r = 1 / rms(x)` and `h = grad * (1 + gain)`: `dx = r * (h - x * r^2 * mean(h * x))`; also
/// stores `r [rows]`.
#[cube(launch)]
fn norm_backward_kernel<E: Float>(
    x: &Tensor<E>,
    gain: &Tensor<E>,
    grad: &Tensor<E>,
    dx: &mut Tensor<E>,
    inverses: &mut Tensor<f32>,
    epsilon: f32,
    #[comptime] width: usize,
    #[define(E)] _dtype: StorageType,
) {
    let row = cube_row();
    let exists = row < x.shape(0);
    let lane = UNIT_POS_X as usize;
    let mut shared = SharedMemory::<f32>::new(comptime!(ROWS * LANES));
    let mut squares = 0.0f32;
    let mut products = 0.0f32;
    let mut i = lane;
    while exists && i < width {
        let value = f32::cast_from(x[row * width + i]);
        let scaled = f32::cast_from(grad[row * width + i]) * (1.0f32 + f32::cast_from(gain[i]));
        squares += value * value;
        products += scaled * value;
        i += comptime!(LANES);
    }
    let mean = row_sum(squares, &mut shared) / comptime!(width as f32);
    let projection = row_sum(products, &mut shared) / comptime!(width as f32);
    let inverse = 1.0f32 / (mean + epsilon).sqrt();
    if exists && lane == 0 {
        inverses[row] = inverse;
    }
    let mut i = lane;
    while exists && i < width {
        let value = f32::cast_from(x[row * width + i]);
        let scaled = f32::cast_from(grad[row * width + i]) * (1.0f32 + f32::cast_from(gain[i]));
        dx[row * width + i] = E::cast_from(inverse * (scaled - value * inverse * inverse * projection));
        i += comptime!(LANES);
    }
}

/// `sum(grad * x * r)` over the rows of a block: `parts [blocks, width]`.
#[cube(launch)]
fn gain_kernel<E: Float>(
    x: &Tensor<E>,
    grad: &Tensor<E>,
    inverses: &Tensor<f32>,
    parts: &mut Tensor<f32>,
    #[comptime] width: usize,
    #[define(E)] _dtype: StorageType,
) {
    let column = CUBE_POS_Y as usize * comptime!(LANES) + UNIT_POS_X as usize;
    let begin = CUBE_POS_X as usize * comptime!(BLOCK);
    let end = (begin + comptime!(BLOCK)).min(x.shape(0));
    if column < width {
        let mut sum = 0.0f32;
        for row in begin..end {
            let at = row * width + column;
            sum += f32::cast_from(grad[at]) * f32::cast_from(x[at]) * inverses[row];
        }
        parts[CUBE_POS_X as usize * width + column] = sum;
    }
}

#[cube]
fn mix(x: u32) -> u32 {
    let mut x = x;
    x ^= x >> 16u32;
    x *= 2146121005u32;
    x ^= x >> 15u32;
    x *= 2221713035u32;
    x ^ (x >> 16u32)
}

/// `x * scale` where the hash of seed and index is below `threshold`, else 0:
/// [`crate::ops::reference::is_kept`].
#[cube(launch)]
fn dropout_kernel<E: Float>(
    x: &Tensor<E>,
    out: &mut Tensor<E>,
    seed_low: u32,
    seed_high: u32,
    threshold: u32,
    scale: f32,
    #[define(E)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < out.len() {
        let hash = mix(mix(ABSOLUTE_POS as u32 ^ seed_low) + seed_high);
        let mut value = 0.0f32;
        if hash < threshold {
            value = f32::cast_from(x[ABSOLUTE_POS]) * scale;
        }
        out[ABSOLUTE_POS] = E::cast_from(value);
    }
}

/// See [`crate::ops::FusedOps::dropout`].
pub fn dropout<R: CubeRuntime>(x: CubeTensor<R>, keep: f32, seed: u64) -> CubeTensor<R> {
    let x = into_contiguous(x);
    let out = empty_like(&x);
    dropout_kernel::launch::<R>(
        &x.client,
        elementwise_cubes(x.meta.num_elements()),
        CubeDim::new_1d(ELEMENTWISE as u32),
        x.clone().into_tensor_arg(),
        out.clone().into_tensor_arg(),
        seed as u32,
        (seed >> 32) as u32,
        keep_threshold(keep),
        1.0 / keep,
        x.dtype.into(),
    );
    out
}

fn empty_like<R: CubeRuntime>(x: &CubeTensor<R>) -> CubeTensor<R> {
    empty(x, x.meta.shape().clone(), x.dtype)
}

/// Enough cubes for `rows` rows, see [`cube_row`].
fn row_cubes(rows: usize) -> CubeCount {
    plane(rows.div_ceil(ROWS))
}

/// See [`crate::ops::FusedOps::zc_rms_norm`].
pub fn norm<R: CubeRuntime>(x: CubeTensor<R>, gain: CubeTensor<R>, epsilon: f32) -> CubeTensor<R> {
    let (x, gain) = (into_contiguous(x), gain);
    let gain = into_contiguous(cast(gain, x.dtype));
    let [rows, width] = [x.meta.shape()[0], x.meta.shape()[1]];
    let out = empty_like(&x);
    norm_kernel::launch::<R>(
        &x.client,
        row_cubes(rows),
        CubeDim::new_2d(LANES as u32, ROWS as u32),
        x.clone().into_tensor_arg(),
        gain.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        epsilon,
        width,
        x.dtype.into(),
    );
    out
}

/// `dx`, and `[blocks, width]` whose sum over blocks is the gradient of the gain.
pub fn norm_backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    gain: CubeTensor<R>,
    grad: CubeTensor<R>,
    epsilon: f32,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let (x, gain, grad) = (into_contiguous(x), gain, grad);
    let [gain, grad] = [gain, grad].map(|tensor| into_contiguous(cast(tensor, x.dtype)));
    let [rows, width] = [x.meta.shape()[0], x.meta.shape()[1]];
    let dx = empty_like(&x);
    let inverses = empty(&x, Shape::new([rows]), DType::F32);
    norm_backward_kernel::launch::<R>(
        &x.client,
        row_cubes(rows),
        CubeDim::new_2d(LANES as u32, ROWS as u32),
        x.clone().into_tensor_arg(),
        gain.into_tensor_arg(),
        grad.clone().into_tensor_arg(),
        dx.clone().into_tensor_arg(),
        inverses.clone().into_tensor_arg(),
        epsilon,
        width,
        x.dtype.into(),
    );
    let blocks = rows.div_ceil(BLOCK);
    let parts = empty(&x, Shape::new([blocks, width]), DType::F32);
    gain_kernel::launch::<R>(
        &x.client,
        CubeCount::Static(blocks as u32, width.div_ceil(LANES) as u32, 1),
        CubeDim::new_1d(LANES as u32),
        x.clone().into_tensor_arg(),
        grad.into_tensor_arg(),
        inverses.into_tensor_arg(),
        parts.clone().into_tensor_arg(),
        width,
        x.dtype.into(),
    );
    (dx, parts)
}
