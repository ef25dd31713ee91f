//! Grouped-query attention that never holds `[batch, num_heads, q_len, k_len]`, forward and
//! backward.
//!
//! FlashAttention's recurrences (Dao et al., arXiv:2205.14135; Rabe and Staats, arXiv:2112.05682):
//! a cube works on some queries (or, for the gradients of keys and values, some keys) of one head
//! and reads the other side in tiles through shared memory. Products of tiles run on tensor cores
//! where the device has them ([`super::products`]). Of packed rows, only the tiles from the first
//! to the last position of the cube's own segments are read.
//!
//! ```text
//! forward      lse_i = log sum_j exp(s_ij),   s_ij = q_i k_j / sqrt(head_dim)
//!              p_ij = exp(s_ij - lse_i),   o_i = sum_j p_ij v_j
//! backward     ds_ij = p_ij (do_i v_j - do_i o_i) / sqrt(head_dim)
//!              dq_i = sum_j ds_ij k_j,   dk_j = sum_i ds_ij q_i,   dv_j = sum_i p_ij do_i
//! ```
//!
//! The forward pass goes through the keys twice: first for the log-sum-exp `lse` of each query,
//! then for the result. The weights are final then, so that sums never have to be rescaled, which
//! tensor cores could not do in place. The forward pass keeps nothing but its result; the backward
//! pass computes `lse` again. Inputs may be f32 or bf16; scores and sums are f32, and weights are
//! rounded to the type of the inputs, as FlashAttention does.

mod kernels;

use burn::tensor::Shape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::tile::Tiling;

/// Which pairs of query and key are visible, in addition to the bounds checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Query and key must be of the same segment.
    pub query_segments: bool,
    /// The key must have a segment, which padding lacks.
    pub key_segments: bool,
    /// The key must not be later than the query.
    pub causal: bool,
}

/// Everything that the kernels read, contiguous.
struct Inputs<R: CubeRuntime> {
    q: CubeTensor<R>,
    k: CubeTensor<R>,
    v: CubeTensor<R>,
    q_segments: CubeTensor<R>,
    k_segments: CubeTensor<R>,
    rules: Rules,
    tiling: Tiling,
    dtypes: [StorageType; 2],
}

impl<R: CubeRuntime> Inputs<R> {
    fn new(
        tiling: Tiling,
        [q, k, v]: [CubeTensor<R>; 3],
        q_segments: Option<CubeTensor<R>>,
        k_segments: Option<CubeTensor<R>>,
        causal: bool,
    ) -> Self {
        let rules = Rules {
            query_segments: q_segments.is_some() && k_segments.is_some(),
            key_segments: k_segments.is_some(),
            causal,
        };
        let [q, k, v] = [q, k, v].map(into_contiguous);
        // A kernel takes the same arguments under all rules; a placeholder stands for segments that
        // it does not read.
        let nothing = || empty(&q, Shape::new([1, 1]), burn::tensor::DType::I32);
        let [q_segments, k_segments] =
            [q_segments, k_segments].map(|segments| segments.map_or_else(nothing, into_contiguous));
        let dtypes = [q.dtype.into(), k_segments.dtype.into()];
        Self { q, k, v, q_segments, k_segments, rules, tiling, dtypes }
    }

    fn like(&self, tensor: &CubeTensor<R>) -> CubeTensor<R> {
        empty(tensor, tensor.meta.shape().clone(), tensor.dtype)
    }

    /// `[batch, num_heads, q_len]`.
    fn per_query(&self) -> CubeTensor<R> {
        let shape = self.q.meta.shape();
        let shape = Shape::new([shape[0], shape[2], shape[1]]);
        empty(&self.q, shape, burn::tensor::DType::F32)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.tiling.head_dim as f32).sqrt()
    }

    /// One cube for every `own` positions of each head of each row of
    /// `x [batch, length, heads, head_dim]`.
    fn cubes(&self, x: &CubeTensor<R>) -> CubeCount {
        let shape = x.meta.shape();
        CubeCount::Static(shape[1].div_ceil(self.tiling.own) as u32, shape[2] as u32, shape[0] as u32)
    }

    fn cube_dim(&self) -> CubeDim {
        CubeDim::new_1d(self.tiling.units() as u32)
    }

    /// Writes the attention's result to `out`, if there is one, and returns the log-sum-exp of each
    /// query.
    fn forward(&self, out: Option<&CubeTensor<R>>) -> CubeTensor<R> {
        let lse = self.per_query();
        kernels::forward_kernel::launch::<R>(
            &self.q.client,
            self.cubes(&self.q),
            self.cube_dim(),
            self.tiling.vector,
            self.q.clone().into_tensor_arg(),
            self.k.clone().into_tensor_arg(),
            self.v.clone().into_tensor_arg(),
            self.q_segments.clone().into_tensor_arg(),
            self.k_segments.clone().into_tensor_arg(),
            // A placeholder if there is no `out`: the kernel then does not write to it.
            out.unwrap_or(&self.q).clone().into_tensor_arg(),
            lse.clone().into_tensor_arg(),
            self.scale(),
            out.is_some(),
            self.rules,
            self.tiling,
            self.dtypes,
        );
        lse
    }
}

/// See [`crate::ops::FusedOps::grouped_query_attention`].
pub fn forward<R: CubeRuntime>(
    tiling: Tiling,
    qkv: [CubeTensor<R>; 3],
    q_segments: Option<CubeTensor<R>>,
    k_segments: Option<CubeTensor<R>>,
    causal: bool,
) -> CubeTensor<R> {
    let inputs = Inputs::new(tiling, qkv, q_segments, k_segments, causal);
    let out = inputs.like(&inputs.q);
    inputs.forward(Some(&out));
    out
}

/// See [`crate::ops::FusedOps::grouped_query_attention_backward`].
pub fn backward<R: CubeRuntime>(
    tiling: Tiling,
    qkv: [CubeTensor<R>; 3],
    q_segments: Option<CubeTensor<R>>,
    k_segments: Option<CubeTensor<R>>,
    causal: bool,
    [out, grad]: [CubeTensor<R>; 2],
) -> [CubeTensor<R>; 3] {
    let inputs = Inputs::new(tiling, qkv, q_segments, k_segments, causal);
    let [out, grad] = [out, grad].map(into_contiguous);
    let lse = inputs.forward(None);
    let (delta, dq) = (inputs.per_query(), inputs.like(&inputs.q));
    kernels::queries_kernel::launch::<R>(
        &inputs.q.client,
        inputs.cubes(&inputs.q),
        inputs.cube_dim(),
        tiling.vector,
        inputs.q.clone().into_tensor_arg(),
        inputs.k.clone().into_tensor_arg(),
        inputs.v.clone().into_tensor_arg(),
        inputs.q_segments.clone().into_tensor_arg(),
        inputs.k_segments.clone().into_tensor_arg(),
        out.into_tensor_arg(),
        grad.clone().into_tensor_arg(),
        lse.clone().into_tensor_arg(),
        delta.clone().into_tensor_arg(),
        dq.clone().into_tensor_arg(),
        inputs.scale(),
        inputs.rules,
        tiling,
        inputs.dtypes,
    );
    let (dk, dv) = (inputs.like(&inputs.k), inputs.like(&inputs.v));
    kernels::keys_kernel::launch::<R>(
        &inputs.q.client,
        inputs.cubes(&inputs.k),
        inputs.cube_dim(),
        tiling.vector,
        inputs.q.clone().into_tensor_arg(),
        inputs.k.clone().into_tensor_arg(),
        inputs.v.clone().into_tensor_arg(),
        inputs.q_segments.clone().into_tensor_arg(),
        inputs.k_segments.clone().into_tensor_arg(),
        grad.into_tensor_arg(),
        lse.into_tensor_arg(),
        delta.into_tensor_arg(),
        dk.clone().into_tensor_arg(),
        dv.clone().into_tensor_arg(),
        inputs.scale(),
        inputs.rules,
        tiling,
        inputs.dtypes,
    );
    [dq, dk, dv]
}
