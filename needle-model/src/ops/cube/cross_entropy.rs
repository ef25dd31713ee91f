//! Cross-entropy of logits that a matrix product has written: one cube reads a row once for the
//! losses, and replaces the row by its gradient in place.
//!
//! ```text
//! losses     lse = m + ln(sum_j exp(x_j - m)),   m = max_j x_j so far;   nll = lse - x_target
//! gradient   dx_j = exp(x_j - lse) (dnll + dlse) - [j = target] dnll
//! ```
//!
//! Logits may be f32 or bf16; maxima, sums and losses are f32. The backward pass recomputes the
//! log-sum-exp: a row that a cube has just read is still in a cache.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{ELEMENTWISE, HALF, plane, plane_cube, rows_without_gaps, vector_size};

/// Most rows whose logits are held at a time: products of 16,384 rows fill a large GPU. With 8192
/// ids, their logits take 268 MB in bf16.
const MAX_ROWS: usize = 1 << 14;
/// Initial value of a running maximum, below every logit.
const LOWEST: f32 = -1e30;

/// The log-sum-exp of a row of `length` vectors that begins at `base`, for every unit of the cube.
/// A NaN among the logits gives NaN.
#[cube]
fn row_log_sum_exp<E: Float, N: Size>(logits: &Tensor<Vector<E, N>>, base: usize, length: usize) -> f32 {
    let unit = UNIT_POS_X as usize;
    let mut max = LOWEST.runtime();
    let mut sum = 0.0f32;
    let mut i = unit;
    while i < length {
        let values = Vector::<f32, N>::cast_from(logits[base + i]);
        let mut next = max;
        #[unroll]
        for k in 0..N::value() {
            if values[k] > next {
                next = values[k];
            }
        }
        sum *= (max - next).exp();
        #[unroll]
        for k in 0..N::value() {
            sum += (values[k] - next).exp();
        }
        max = next;
        i += comptime!(ELEMENTWISE);
    }
    let mut maxima = SharedMemory::<f32>::new(ELEMENTWISE);
    let mut sums = SharedMemory::<f32>::new(ELEMENTWISE);
    maxima[unit] = max;
    sums[unit] = sum;
    sync_cube();
    let mut reach = HALF.runtime();
    while reach > 0 {
        if unit < reach {
            let own = maxima[unit];
            let other = maxima[unit + reach];
            let mut most = own;
            if other > most {
                most = other;
            }
            let sum = sums[unit] * (own - most).exp() + sums[unit + reach] * (other - most).exp();
            sums[unit] = sum;
            maxima[unit] = most;
        }
        sync_cube();
        reach /= 2;
    }
    maxima[0] + sums[0].ln()
}

/// Negative log-likelihood and log-sum-exp of each row of `logits [rows, vocab]`, which are the
/// rows of `targets` and `losses [.., 2]` from `first` on.
#[cube(launch)]
fn losses_kernel<E: Float, I: Int, N: Size>(
    logits: &Tensor<Vector<E, N>>,
    targets: &Tensor<I>,
    losses: &mut Tensor<f32>,
    first: u32,
    #[define(E, I)] _dtypes: [StorageType; 2],
) {
    let row = plane_cube();
    let exists = row < logits.shape(0);
    let size = logits.vector_size();
    let base = row * (logits.stride(0) / size);
    let mut length = 0usize.runtime();
    if exists {
        length = logits.shape(1) / size;
    }
    let log_sum_exp = row_log_sum_exp::<E, N>(logits, base, length);
    if exists && UNIT_POS_X == 0 {
        let at = first as usize + row;
        let target = usize::cast_from(targets[at]);
        let values = Vector::<f32, N>::cast_from(logits[base + target / size]);
        let mut logit = 0.0f32;
        #[unroll]
        for k in 0..N::value() {
            if target % size == k {
                logit = values[k];
            }
        }
        losses[2 * at] = log_sum_exp - logit;
        losses[2 * at + 1] = log_sum_exp;
    }
}

/// Replaces `logits [rows, vocab]` by their gradient, given the gradient `grad [.., 2]` of the
/// losses, whose rows begin at `first`, as those of `targets`. A unit writes only what it alone has
/// read.
#[cube(launch)]
fn logits_gradient_kernel<E: Float, I: Int, N: Size>(
    logits: &mut Tensor<Vector<E, N>>,
    targets: &Tensor<I>,
    grad: &Tensor<f32>,
    first: u32,
    #[define(E, I)] _dtypes: [StorageType; 2],
) {
    let row = plane_cube();
    let exists = row < logits.shape(0);
    let size = logits.vector_size();
    let base = row * (logits.stride(0) / size);
    let mut length = 0usize.runtime();
    let mut target = 0usize.runtime();
    let mut of_nll = 0.0f32;
    let mut of_both = 0.0f32;
    if exists {
        let at = first as usize + row;
        length = logits.shape(1) / size;
        target = usize::cast_from(targets[at]);
        of_nll = grad[2 * at];
        of_both = of_nll + grad[2 * at + 1];
    }
    let log_sum_exp = row_log_sum_exp::<E, N>(logits, base, length);
    let mut i = UNIT_POS_X as usize;
    while i < length {
        let values = Vector::<f32, N>::cast_from(logits[base + i]);
        let mut slopes = Vector::<f32, N>::empty();
        #[unroll]
        for k in 0..N::value() {
            let mut slope = (values[k] - log_sum_exp).exp() * of_both;
            if i * size + k == target {
                slope -= of_nll;
            }
            slopes[k] = slope;
        }
        logits[base + i] = Vector::cast_from(slopes);
        i += comptime!(ELEMENTWISE);
    }
}

/// Start and length of each chunk of `rows` rows whose logits are held at a time, for
/// `embedding [vocab, d_model]`. A device may limit how long a buffer can be.
pub fn chunks<R: CubeRuntime>(embedding: &CubeTensor<R>, rows: usize) -> impl Iterator<Item = (usize, usize)> + use<R> {
    let row_bytes = embedding.meta.shape()[0] * embedding.dtype.size();
    let largest = embedding.client.properties().memory.max_page_size / 2;
    let length = (largest as usize / row_bytes.max(1)).clamp(1, MAX_ROWS);
    (0..rows).step_by(length).map(move |begin| (begin, length.min(rows - begin)))
}

/// Vectors divide the rows and the distance from one to the next.
fn row_vector_size<R: CubeRuntime>(logits: &CubeTensor<R>) -> usize {
    vector_size(logits, &[logits.meta.shape()[1], logits.meta.strides()[0]])
}

/// Writes the losses of `logits [rows, vocab]` to the rows of `losses [.., 2]` from `first` on;
/// `targets` has as many rows as `losses`, both contiguous.
pub fn losses<R: CubeRuntime>(logits: CubeTensor<R>, targets: &CubeTensor<R>, losses: &CubeTensor<R>, first: usize) {
    let logits = rows_without_gaps(logits);
    let dtypes = [logits.dtype.into(), targets.dtype.into()];
    losses_kernel::launch::<R>(
        &logits.client.clone(),
        plane(logits.meta.shape()[0]),
        CubeDim::new_1d(ELEMENTWISE as u32),
        row_vector_size(&logits),
        logits.into_tensor_arg(),
        targets.clone().into_tensor_arg(),
        losses.clone().into_tensor_arg(),
        first as u32,
        dtypes,
    );
}

/// The gradient of `logits [rows, vocab]`, in their place, for the rows from `first` on of
/// `targets` and `grad [.., 2]` (f32), both contiguous.
pub fn gradient<R: CubeRuntime>(
    logits: CubeTensor<R>,
    targets: &CubeTensor<R>,
    grad: &CubeTensor<R>,
    first: usize,
) -> CubeTensor<R> {
    let logits = rows_without_gaps(logits);
    logits_gradient_kernel::launch::<R>(
        &logits.client,
        plane(logits.meta.shape()[0]),
        CubeDim::new_1d(ELEMENTWISE as u32),
        row_vector_size(&logits),
        logits.clone().into_tensor_arg(),
        targets.clone().into_tensor_arg(),
        grad.clone().into_tensor_arg(),
        first as u32,
        [logits.dtype.into(), targets.dtype.into()],
    );
    logits
}
