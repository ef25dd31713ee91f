//! Dropout by the hash of [`crate::ops::reference::is_kept`], in one pass.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::launch::{ELEMENTWISE, elementwise_cubes};
use crate::ops::reference::keep_threshold;

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
    let out = empty(&x, x.meta.shape().clone(), x.dtype);
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
