//! Tiles of positions in shared memory: their sizes, and how the attention kernels load them.
//!
//! A cube works on `own` positions of one head (queries, or keys for the gradients of keys and
//! values) and goes through the other side in tiles of `other` positions. Each 32 of its units (a
//! plane, on CUDA) have 16 of the own positions:
//!
//! ```text
//! scores  [own, other]     =  own tile [own, head_dim]   x  other tile^T   f32, to shared memory
//! weights [own, other]        what a kernel makes of the scores, in the type of the inputs
//! sums    [own, head_dim]  += weights [own, other]       x  other tile     f32, in registers
//! ```
//!
//! The two products ([`super::products`]) run on tensor cores, 16 x 16 x 16 at a time, or as
//! multiply-adds: the same tiles, the same loops around them, on every device that CubeCL compiles
//! for. So a software driver can test all of a kernel but the one instruction.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

/// Units that share 16 own positions.
pub const GROUP: usize = 32;
/// Own positions of a group; rows, columns and depth of a product on tensor cores.
pub const SIDE: usize = 16;
/// Shared memory that a kernel takes at most, even if the device has more: several cubes then fit
/// on one processor.
const MOST_SHARED_BYTES: usize = 48 << 10;
/// Alignment of tiles in bytes; tensor cores load from multiples of 32.
const ALIGNMENT: usize = 128;

/// How products of tiles are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Products {
    /// On tensor cores, from bf16 or f16 to f32.
    TensorCores,
    /// In f32, whatever the type of the tiles.
    MultiplyAdds,
}

/// The sizes of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tiling {
    /// Positions that a cube works on.
    pub own: usize,
    /// Positions of the other side in shared memory at a time.
    pub other: usize,
    /// Elements of a position.
    pub head_dim: usize,
    /// Adjacent elements of one access to memory.
    pub vector: usize,
    /// How products are computed.
    pub products: Products,
}

impl Tiling {
    /// The largest tiling that fits the device of `q [batch, q_len, num_heads, head_dim]`, on
    /// tensor cores if it has them for the type of `q`. `None` if there is none.
    pub fn new<R: CubeRuntime>(q: &CubeTensor<R>) -> Option<Self> {
        let head_dim = q.meta.shape()[3];
        let element = q.dtype.size();
        let properties = q.client.properties();
        let products = match StorageType::from(q.dtype) {
            StorageType::Scalar(ElemType::Float(kind @ (FloatKind::BF16 | FloatKind::F16))) => {
                let side = SIDE as u32;
                let (input, sum) = (ElemType::Float(kind).into(), ElemType::Float(FloatKind::F32).into());
                let product = MmaConfig { a_type: input, b_type: input, cd_type: sum, m: side, n: side, k: side };
                let hardware = &properties.hardware;
                let has_planes = [hardware.plane_size_min, hardware.plane_size_max] == [GROUP as u32; 2];
                // Tiles in vectors of 16 bytes lie as tensor cores load them.
                let reads_16_bytes = q.client.io_optimized_vector_sizes(element).any(|size| size * element == 16);
                // CubeCL lists bf16 for all of CUDA, but it needs compute capability 8.0, as
                // asynchronous copies do.
                let has_type = kind == FloatKind::F16 || properties.features.copy_async;
                let is_supported = has_type && properties.features.matmul.cmma.contains(&product);
                if is_supported && has_planes && reads_16_bytes && head_dim.is_multiple_of(SIDE) {
                    Products::TensorCores
                } else {
                    Products::MultiplyAdds
                }
            }
            _ => Products::MultiplyAdds,
        };
        let vector = if products == Products::TensorCores { 16 / element } else { 4 };
        if !head_dim.is_multiple_of(vector) {
            return None;
        }
        let most_bytes = properties.hardware.max_shared_memory_size.min(MOST_SHARED_BYTES);
        let sizes = [(64, 32), (32, 32), (32, 16), (16, 16)].into_iter();
        let mut tilings = sizes.map(|(own, other)| Self { own, other, head_dim, vector, products });
        tilings.find(|tiling| tiling.shared_bytes(element) <= most_bytes)
    }

    /// Units of a cube.
    pub fn units(self) -> usize {
        self.own / SIDE * GROUP
    }

    /// Vectors of a position.
    pub fn vectors(self) -> usize {
        self.head_dim / self.vector
    }

    /// Vectors from one row of a tile to the next: one more than it has, so that rows begin in
    /// different banks of the shared memory.
    pub fn stride(self) -> usize {
        self.vectors() + 1
    }

    /// Elements from one row of scores to the next.
    pub fn scores_stride(self) -> usize {
        self.other + 4
    }

    /// Elements from one row of weights to the next.
    pub fn weights_stride(self) -> usize {
        self.other + 8
    }

    /// What the kernel that needs most takes, the one for keys and values: two tiles of each side,
    /// scores, weights, and a few numbers for each position.
    fn shared_bytes(self, element: usize) -> usize {
        let tiles = 2 * (self.own + self.other) * self.stride() * self.vector * element;
        let weights = self.own * self.weights_stride() * element;
        let scores = self.own * self.scores_stride() * 4;
        tiles + weights + scores + 4 * (self.own + 3 * self.other + 2 * self.units())
    }
}

/// A tile of `rows` positions.
#[cube]
pub fn tile<E: Float, N: Size>(#[comptime] rows: usize, #[comptime] tiling: Tiling) -> SharedMemory<Vector<E, N>> {
    SharedMemory::new_aligned(comptime!(rows * tiling.stride()), ALIGNMENT)
}

/// Shared memory for scores `[own, other]`.
#[cube]
pub fn scores_tile(#[comptime] tiling: Tiling) -> SharedMemory<f32> {
    SharedMemory::new_aligned(comptime!(tiling.own * tiling.scores_stride()), ALIGNMENT)
}

/// Shared memory for weights `[own, other]`.
#[cube]
pub fn weights_tile<E: Float>(#[comptime] tiling: Tiling) -> SharedMemory<E> {
    SharedMemory::new_aligned(comptime!(tiling.own * tiling.weights_stride()), ALIGNMENT)
}

/// The own position that this unit has when a kernel turns scores into weights: two units for each.
#[cube]
pub fn unit_row() -> usize {
    UNIT_POS_X as usize / 2
}

/// The `i`-th of the `other / 2` columns that this unit has of its row.
#[cube]
pub fn unit_column(#[comptime] i: usize) -> usize {
    comptime!(2 * i) + UNIT_POS_X as usize % 2
}

/// Where the score of a row and a column lies.
#[cube]
pub fn score_at(row: usize, column: usize, #[comptime] tiling: Tiling) -> usize {
    row * comptime!(tiling.scores_stride()) + column
}

/// Where the weight of a row and a column lies.
#[cube]
pub fn weight_at(row: usize, column: usize, #[comptime] tiling: Tiling) -> usize {
    row * comptime!(tiling.weights_stride()) + column
}

/// Loads `rows` positions of `x [batch, length, heads, head_dim]` from position `begin` on; zeros
/// beyond the end.
#[cube]
pub fn load_tile<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    tile: &mut SharedMemory<Vector<E, N>>,
    batch: usize,
    begin: usize,
    head: usize,
    #[comptime] rows: usize,
    #[comptime] tiling: Tiling,
) {
    let length = x.shape(1);
    let heads = x.shape(2);
    let vectors = comptime!(tiling.vectors());
    let mut i = UNIT_POS_X as usize;
    while i < comptime!(rows * tiling.vectors()) {
        let position = begin + i / vectors;
        let column = i % vectors;
        let mut values = Vector::<E, N>::cast_from(Vector::<f32, N>::new(0.0f32));
        if position < length {
            values = x[((batch * length + position) * heads + head) * vectors + column];
        }
        tile[i / vectors * comptime!(tiling.stride()) + column] = values;
        i += comptime!(tiling.units());
    }
}

/// Loads one number for each of `rows` positions of a head, `x [batch, heads, length]`, from
/// position `begin` on; 0 beyond the end.
#[cube]
pub fn load_numbers(
    x: &Tensor<f32>,
    tile: &mut SharedMemory<f32>,
    batch: usize,
    begin: usize,
    head: usize,
    #[comptime] rows: usize,
    #[comptime] tiling: Tiling,
) {
    let length = x.shape(2);
    let mut i = UNIT_POS_X as usize;
    while i < rows {
        let mut value = 0.0f32;
        if begin + i < length {
            value = x[(batch * x.shape(1) + head) * length + begin + i];
        }
        tile[i] = value;
        i += comptime!(tiling.units());
    }
}

/// Loads the segments of `rows` positions from `begin` on: 0 beyond the end, and 1 everywhere else
/// if there are no segments.
#[cube]
pub fn load_segments<I: Int>(
    segments: &Tensor<I>,
    tile: &mut SharedMemory<i32>,
    batch: usize,
    begin: usize,
    length: usize,
    #[comptime] rows: usize,
    #[comptime] has_segments: bool,
    #[comptime] tiling: Tiling,
) {
    let mut i = UNIT_POS_X as usize;
    while i < rows {
        let mut segment = 0i32;
        if begin + i < length {
            if comptime!(has_segments) {
                segment = i32::cast_from(segments[batch * length + begin + i]);
            } else {
                segment = 1i32;
            }
        }
        tile[i] = segment;
        i += comptime!(tiling.units());
    }
}

/// Of the positions from `begin` to `end`, those from the first to the last that have one of the
/// segments of the cube's own positions. Packed rows have the positions of a segment side by side,
/// so that few others lie between.
#[cube]
pub fn same_segments<I: Int>(
    own_segments: &SharedMemory<i32>,
    segments: &Tensor<I>,
    batch: usize,
    length: usize,
    begin: usize,
    end: usize,
    #[comptime] tiling: Tiling,
) -> (usize, usize) {
    // The smallest and the largest of the own segments, other than padding.
    let mut least = 2147483647i32;
    let mut most = 0i32;
    for i in 0..comptime!(tiling.own) {
        let segment = own_segments[i];
        if segment != 0 && segment < least {
            least = segment;
        }
        if segment > most {
            most = segment;
        }
    }
    let mut first = end as u32;
    let mut last = begin as u32;
    let mut i = begin + UNIT_POS_X as usize;
    while i < end {
        let segment = i32::cast_from(segments[batch * length + i]);
        if segment >= least && segment <= most {
            if (i as u32) < first {
                first = i as u32;
            }
            last = i as u32 + 1;
        }
        i += comptime!(tiling.units());
    }
    let mut firsts = SharedMemory::<u32>::new(comptime!(tiling.units()));
    let mut lasts = SharedMemory::<u32>::new(comptime!(tiling.units()));
    firsts[UNIT_POS_X as usize] = first;
    lasts[UNIT_POS_X as usize] = last;
    sync_cube();
    for i in 0..comptime!(tiling.units()) {
        if firsts[i] < first {
            first = firsts[i];
        }
        if lasts[i] > last {
            last = lasts[i];
        }
    }
    (first as usize, last as usize)
}
