//! Into how many parts the gradient of a weight is split.
//!
//! `x^T grad` sums over all rows, 131,072 at a time, into a matrix of 512 x 512: 16 tiles, for
//! which a GPU of 132 processors has 116 too many. The rows are therefore divided into parts whose
//! products are computed side by side, as one batched product, and then added in f32 (split-K).

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

/// Rows and columns of the result that one cube computes, about.
const TILE: usize = 128;
/// A part has at least as many rows: shorter ones would not pay for the sum over the parts.
const LEAST_ROWS: usize = 1024;
/// Processors that a device is assumed to have if it does not tell.
const PROCESSORS: usize = 64;

/// The number of parts for `x [rows, in]` and `grad [rows, out]`: a power of two that divides the
/// rows, as few as give each processor a tile.
pub fn parts<R: CubeRuntime>(x: &CubeTensor<R>, grad: &CubeTensor<R>) -> usize {
    let [rows, inputs, outputs] = [x.meta.shape()[0], x.meta.shape()[1], grad.meta.shape()[1]];
    let processors = x.client.properties().hardware.num_streaming_multiprocessors;
    let processors = processors.map_or(PROCESSORS, |count| count as usize);
    let tiles = inputs.div_ceil(TILE) * outputs.div_ceil(TILE);
    let mut parts = 1;
    while parts * tiles < processors && rows.is_multiple_of(2 * parts) && rows / (2 * parts) >= LEAST_ROWS {
        parts *= 2;
    }
    parts
}
