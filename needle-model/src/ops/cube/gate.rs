//! The gated residual `x + sigmoid(gate) * branch`, forward and backward, each in one pass over its
//! tensors. Those may be f32 or bf16, the gate of another type than the rest; sums are f32.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::launch::{ELEMENTWISE, cube_sum, elementwise_cubes, vector_size, vector_sum};

/// Most cubes that share the sum of the gate's gradient: enough to fill the largest GPUs, few
/// enough for one cube to add their parts.
const MAX_PARTS: usize = 1024;

/// `1 / (1 + e^-gate)`.
#[cube]
fn sigmoid<G: Float>(gate: &Tensor<G>) -> f32 {
    1.0f32 / (1.0f32 + (-f32::cast_from(gate[0])).exp())
}

/// `x + sigmoid(gate) * branch`.
#[cube(launch)]
fn gate_kernel<E: Float, G: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    branch: &Tensor<Vector<E, N>>,
    gate: &Tensor<G>,
    out: &mut Tensor<Vector<E, N>>,
    #[define(E, G)] _dtypes: [StorageType; 2],
) {
    if ABSOLUTE_POS < out.len() {
        let open = Vector::<f32, N>::new(sigmoid::<G>(gate));
        let branch = Vector::<f32, N>::cast_from(branch[ABSOLUTE_POS]);
        let sum = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]) + open * branch;
        out[ABSOLUTE_POS] = Vector::cast_from(sum);
    }
}

/// `dbranch = sigmoid(gate) * grad`, and the sum of `grad * branch` over the elements of each cube:
/// `parts [cubes]`.
#[cube(launch)]
fn gate_backward_kernel<E: Float, G: Float, N: Size>(
    branch: &Tensor<Vector<E, N>>,
    gate: &Tensor<G>,
    grad: &Tensor<Vector<E, N>>,
    dbranch: &mut Tensor<Vector<E, N>>,
    parts: &mut Tensor<f32>,
    #[define(E, G)] _dtypes: [StorageType; 2],
) {
    let open = Vector::<f32, N>::new(sigmoid::<G>(gate));
    let mut products = Vector::<f32, N>::new(0.0f32);
    let units = CUBE_COUNT_X as usize * comptime!(ELEMENTWISE);
    let mut i = ABSOLUTE_POS;
    while i < dbranch.len() {
        let upstream = Vector::<f32, N>::cast_from(grad[i]);
        products += upstream * Vector::<f32, N>::cast_from(branch[i]);
        dbranch[i] = Vector::cast_from(upstream * open);
        i += units;
    }
    let mut shared = SharedMemory::<f32>::new(ELEMENTWISE);
    let sum = cube_sum(vector_sum::<N>(products), &mut shared);
    if UNIT_POS_X == 0 {
        parts[CUBE_POS_X as usize] = sum;
    }
}

/// `dgate = s (1 - s) * sum(parts)` with `s = sigmoid(gate)`, in one cube.
#[cube(launch)]
fn gate_gradient_kernel<G: Float>(
    gate: &Tensor<G>,
    parts: &Tensor<f32>,
    dgate: &mut Tensor<G>,
    #[define(G)] _dtype: StorageType,
) {
    let mut sum = 0.0f32;
    let mut i = UNIT_POS_X as usize;
    while i < parts.len() {
        sum += parts[i];
        i += comptime!(ELEMENTWISE);
    }
    let mut shared = SharedMemory::<f32>::new(ELEMENTWISE);
    let sum = cube_sum(sum, &mut shared);
    if UNIT_POS_X == 0 {
        let open = sigmoid::<G>(gate);
        dgate[0] = G::cast_from(open * (1.0f32 - open) * sum);
    }
}

/// See [`crate::ops::FusedOps::gated_residual`].
pub fn forward<R: CubeRuntime>(x: CubeTensor<R>, branch: CubeTensor<R>, gate: CubeTensor<R>) -> CubeTensor<R> {
    let x = into_contiguous(x);
    let branch = into_contiguous(cast(branch, x.dtype));
    let out = empty(&x, x.meta.shape().clone(), x.dtype);
    let elements = x.meta.num_elements();
    let size = vector_size(&x, &[elements]);
    let dtypes = [x.dtype.into(), gate.dtype.into()];
    gate_kernel::launch::<R>(
        &x.client.clone(),
        elementwise_cubes(elements / size),
        CubeDim::new_1d(ELEMENTWISE as u32),
        size,
        x.into_tensor_arg(),
        branch.into_tensor_arg(),
        gate.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        dtypes,
    );
    out
}

/// See [`crate::ops::FusedOps::gated_residual_backward`].
pub fn backward<R: CubeRuntime>(
    branch: CubeTensor<R>,
    gate: CubeTensor<R>,
    grad: CubeTensor<R>,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let branch = into_contiguous(branch);
    let grad = into_contiguous(cast(grad, branch.dtype));
    let client = branch.client.clone();
    let elements = branch.meta.num_elements();
    let size = vector_size(&branch, &[elements]);
    let cubes = (elements / size).div_ceil(ELEMENTWISE).clamp(1, MAX_PARTS);
    let dbranch = empty(&branch, branch.meta.shape().clone(), branch.dtype);
    let parts = empty(&branch, Shape::new([cubes]), DType::F32);
    let dgate = empty(&gate, gate.meta.shape().clone(), gate.dtype);
    let dtypes = [branch.dtype.into(), gate.dtype.into()];
    gate_backward_kernel::launch::<R>(
        &client,
        CubeCount::Static(cubes as u32, 1, 1),
        CubeDim::new_1d(ELEMENTWISE as u32),
        size,
        branch.into_tensor_arg(),
        gate.clone().into_tensor_arg(),
        grad.into_tensor_arg(),
        dbranch.clone().into_tensor_arg(),
        parts.clone().into_tensor_arg(),
        dtypes,
    );
    let dtype = gate.dtype.into();
    gate_gradient_kernel::launch::<R>(
        &client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(ELEMENTWISE as u32),
        gate.into_tensor_arg(),
        parts.into_tensor_arg(),
        dgate.clone().into_tensor_arg(),
        dtype,
    );
    (dbranch, dgate)
}
