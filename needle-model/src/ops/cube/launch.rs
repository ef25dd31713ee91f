//! What the launches of the kernels share: grids that every API accepts, the width of an access to
//! memory, and sums over the units of a cube.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Units of a cube that works element by element, and of one that computes one sum.
pub const ELEMENTWISE: usize = 256;
/// Half of [`ELEMENTWISE`].
pub const HALF: usize = ELEMENTWISE / 2;

/// At least `cubes` cubes in x and y, at most 2^15 of them along x: Vulkan and Metal only guarantee
/// 65,535 along each axis.
pub fn plane(cubes: usize) -> CubeCount {
    let cubes = cubes.max(1) as u32;
    let across = cubes.min(1 << 15);
    CubeCount::Static(across, cubes.div_ceil(across), 1)
}

/// Enough cubes for `units` units, one for each `ABSOLUTE_POS`.
pub fn elementwise_cubes(units: usize) -> CubeCount {
    plane(units.div_ceil(ELEMENTWISE))
}

/// The place of this cube in a [`plane`].
#[cube]
pub fn plane_cube() -> usize {
    CUBE_POS_Y as usize * CUBE_COUNT_X as usize + CUBE_POS_X as usize
}

/// Adjacent elements that a unit reads in one access: as many f32 as the device of `like` reads at
/// once, if their number divides each of `lengths`. One access of 8 or 16 bytes for each unit keeps
/// more of the memory's bandwidth busy than one of 2.
pub fn vector_size<R: CubeRuntime>(like: &CubeTensor<R>, lengths: &[usize]) -> usize {
    let mut sizes = like.client.io_optimized_vector_sizes(size_of::<f32>());
    sizes.find(|size| lengths.iter().all(|length| length.is_multiple_of(*size))).unwrap_or(1)
}

/// The matrix with the elements of each row side by side, as kernels read them. The rows may lie at
/// any distance: CUDA aligns those of a parameter.
pub fn rows_without_gaps<R: CubeRuntime>(matrix: CubeTensor<R>) -> CubeTensor<R> {
    if matrix.meta.strides()[1] == 1 { matrix } else { into_contiguous(matrix) }
}

/// The sum of the elements of a vector.
#[cube]
pub fn vector_sum<N: Size>(values: Vector<f32, N>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for k in 0..N::value() {
        sum += values[k];
    }
    sum
}

/// The sum of `value` over the [`ELEMENTWISE`] units of a cube, always in the same order.
#[cube]
pub fn cube_sum(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    let unit = UNIT_POS_X as usize;
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut reach = HALF.runtime();
    while reach > 0 {
        if unit < reach {
            let sum = shared[unit] + shared[unit + reach];
            shared[unit] = sum;
        }
        sync_cube();
        reach /= 2;
    }
    shared[0]
}
