//! The half-split rotation of heads, forward and inverse, in one kernel. Heads may be f32 or bf16;
//! the tables are f32 and read where they are, from any first position.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::launch::{ELEMENTWISE, elementwise_cubes, rows_without_gaps, vector_size};

/// `(a cos - b sin, b cos + a sin)` of the halves `a` and `b` of each head, which have `half`
/// vectors each, with the opposite sine if `inverse`. One vector of each half for each unit.
#[cube(launch)]
fn rotate_kernel<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    cos: &Tensor<Vector<f32, N>>,
    sin: &Tensor<Vector<f32, N>>,
    out: &mut Tensor<Vector<E, N>>,
    first: u32,
    #[comptime] half: usize,
    #[comptime] inverse: bool,
    #[define(E)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < out.len() / 2 {
        let head = ABSOLUTE_POS / half;
        let d = ABSOLUTE_POS % half;
        let position = first as usize + head / x.shape(2) % x.shape(1);
        let size = x.vector_size();
        let c = cos[position * (cos.stride(0) / size) + d];
        let mut s = sin[position * (sin.stride(0) / size) + d];
        if comptime!(inverse) {
            s = Vector::<f32, N>::new(0.0f32) - s;
        }
        let at = head * comptime!(2 * half) + d;
        let a = Vector::<f32, N>::cast_from(x[at]);
        let b = Vector::<f32, N>::cast_from(x[at + half]);
        out[at] = Vector::cast_from(a * c - b * s);
        out[at + half] = Vector::cast_from(b * c + a * s);
    }
}

/// See [`crate::ops::FusedOps::rope`]; with `inverse`, see
/// [`crate::ops::FusedOps::rope_backward`].
pub fn rotate<R: CubeRuntime>(
    x: CubeTensor<R>,
    cos: CubeTensor<R>,
    sin: CubeTensor<R>,
    first: usize,
    inverse: bool,
) -> CubeTensor<R> {
    let x = into_contiguous(x);
    let [cos, sin] = [cos, sin].map(|table| rows_without_gaps(cast(table, DType::F32)));
    let half = x.meta.shape()[3] / 2;
    let out = empty(&x, x.meta.shape().clone(), x.dtype);
    let strides = [&cos, &sin].map(|table| table.meta.strides()[0]);
    let size = vector_size(&x, &[half, strides[0], strides[1]]);
    let dtype = x.dtype.into();
    rotate_kernel::launch::<R>(
        &x.client.clone(),
        elementwise_cubes(x.meta.num_elements() / 2 / size),
        CubeDim::new_1d(ELEMENTWISE as u32),
        size,
        x.into_tensor_arg(),
        cos.into_tensor_arg(),
        sin.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        first as u32,
        half / size,
        inverse,
        dtype,
    );
    out
}
