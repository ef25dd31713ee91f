//! Tiles of positions in shared memory, and products of them: the building blocks of the attention
//! kernels.
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
//! The two products run on tensor cores, 16 x 16 x 16 at a time, or as multiply-adds: the same
//! tiles, the same loops around them, on every device that CubeCL compiles for. So a software
//! driver can test all of a kernel but the one instruction.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

use super::launch::vector_sum;

/// Units that share 16 own positions.
const GROUP: usize = 32;
/// Own positions of a group; rows, columns and depth of a product on tensor cores.
const SIDE: usize = 16;
/// Without tensor cores, a unit has 4 rows of the group's 16, and every eighth column.
const ROWS: usize = 4;
const LANES: usize = 8;
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
                let is_supported = properties.features.matmul.cmma.contains(&product);
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
    fn vectors(self) -> usize {
        self.head_dim / self.vector
    }

    /// Vectors from one row of a tile to the next: one more than it has, so that rows begin in
    /// different banks of the shared memory.
    fn stride(self) -> usize {
        self.vectors() + 1
    }

    /// Elements from one row of scores to the next.
    fn scores_stride(self) -> usize {
        self.other + 4
    }

    /// Elements from one row of weights to the next.
    fn weights_stride(self) -> usize {
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

/// The first of the 16 own positions of this unit's group.
#[cube]
fn group_row() -> usize {
    UNIT_POS_X as usize / GROUP * SIDE
}

/// The first row and the first column of this unit, without tensor cores.
#[cube]
fn unit_patch() -> (usize, usize) {
    let lane = UNIT_POS_X as usize % GROUP;
    (group_row() + lane / LANES * ROWS, lane % LANES)
}

/// The dot products of all own positions with all others. Afterwards, `sync_cube` makes them
/// visible.
#[cube]
pub fn multiply_transposed<E: Float, N: Size>(
    own: &SharedMemory<Vector<E, N>>,
    other: &SharedMemory<Vector<E, N>>,
    scores: &mut SharedMemory<f32>,
    #[comptime] tiling: Tiling,
) {
    let stride = comptime!(tiling.stride());
    if comptime!(tiling.products == Products::TensorCores) {
        let elements = comptime!((tiling.stride() * tiling.vector) as u32);
        let blocks = comptime!(tiling.other / SIDE);
        let mut sums = Sequence::<cmma::Matrix<f32>>::new();
        #[unroll]
        for _ in 0..blocks {
            sums.push(zeros_16());
        }
        #[unroll]
        for depth in 0..comptime!(tiling.head_dim / SIDE) {
            let column = comptime!(depth * SIDE / tiling.vector);
            let begin = group_row() * stride + column;
            let a = cmma::Matrix::<Vector<E, N>>::from_slice(
                cmma::MatrixIdent::A,
                SIDE,
                SIDE,
                SIDE,
                cmma::MatrixLayout::RowMajor,
                &own.slice(begin, begin + comptime!(tiling.vectors())),
                elements,
            );
            #[unroll]
            for block in 0..blocks {
                let begin = comptime!(block * SIDE) * stride + column;
                let b = cmma::Matrix::<Vector<E, N>>::from_slice(
                    cmma::MatrixIdent::B,
                    SIDE,
                    SIDE,
                    SIDE,
                    cmma::MatrixLayout::ColMajor,
                    &other.slice(begin, begin + comptime!(tiling.vectors())),
                    elements,
                );
                let sum = sums.index(block);
                cmma::execute::<Vector<E, N>, Vector<E, N>, f32, f32>(&a, &b, sum, sum);
            }
        }
        #[unroll]
        for block in 0..blocks {
            let begin = score_at(group_row(), comptime!(block * SIDE), tiling);
            let mut patch = scores.slice_mut(begin, begin + SIDE);
            let layout = cmma::MatrixLayout::RowMajor;
            cmma::store(&mut patch, sums.index(block), comptime!(tiling.scores_stride() as u32), layout);
        }
    } else {
        let columns = comptime!(tiling.other / LANES);
        let (first_row, first_column) = unit_patch();
        let mut sums = Array::<f32>::new(comptime!(ROWS * tiling.other / LANES));
        #[unroll]
        for i in 0..comptime!(ROWS * tiling.other / LANES) {
            sums[i] = 0.0f32;
        }
        for depth in 0..comptime!(tiling.vectors()) {
            let mut rows = Array::<Vector<f32, N>>::new(ROWS);
            #[unroll]
            for i in 0..ROWS {
                rows[i] = Vector::cast_from(own[(first_row + i) * stride + depth]);
            }
            #[unroll]
            for j in 0..columns {
                let column = Vector::<f32, N>::cast_from(other[(first_column + j * LANES) * stride + depth]);
                #[unroll]
                for i in 0..ROWS {
                    sums[i * columns + j] += vector_sum(rows[i] * column);
                }
            }
        }
        #[unroll]
        for i in 0..ROWS {
            #[unroll]
            for j in 0..columns {
                scores[score_at(first_row + i, first_column + j * LANES, tiling)] = sums[i * columns + j];
            }
        }
    }
}

/// A block of 16 x 16 zeros to add products to.
#[cube]
fn zeros_16() -> cmma::Matrix<f32> {
    cmma::Matrix::<f32>::from_value(
        cmma::MatrixIdent::Accumulator,
        SIDE,
        SIDE,
        SIDE,
        cmma::MatrixLayout::Undefined,
        0.0f32,
    )
}

/// Sums `[own, head_dim]` in the registers of a cube: of one of the two kinds, as products are
/// computed; the other is empty.
#[derive(CubeType)]
pub struct Sums<N: Size> {
    blocks: Sequence<cmma::Matrix<f32>>,
    patch: Array<Vector<f32, N>>,
}

/// Vectors of a row that a unit has at most, without tensor cores.
const fn patch_columns(tiling: Tiling) -> usize {
    (tiling.head_dim / tiling.vector).div_ceil(LANES)
}

/// Sums of nothing.
#[cube]
pub fn zero_sums<N: Size>(#[comptime] tiling: Tiling) -> Sums<N> {
    let mut blocks = Sequence::<cmma::Matrix<f32>>::new();
    let mut patch = Array::<Vector<f32, N>>::new(comptime!(ROWS * patch_columns(tiling)));
    if comptime!(tiling.products == Products::TensorCores) {
        #[unroll]
        for _ in 0..comptime!(tiling.head_dim / SIDE) {
            blocks.push(zeros_16());
        }
    } else {
        #[unroll]
        for i in 0..comptime!(ROWS * patch_columns(tiling)) {
            patch[i] = Vector::new(0.0f32);
        }
    }
    Sums::<N> { blocks, patch }
}

/// Adds for each own position the sum of the other positions, each times its weight.
#[cube]
pub fn add_weighted<E: Float, N: Size>(
    sums: &mut Sums<N>,
    weights: &SharedMemory<E>,
    other: &SharedMemory<Vector<E, N>>,
    #[comptime] tiling: Tiling,
) {
    let stride = comptime!(tiling.stride());
    if comptime!(tiling.products == Products::TensorCores) {
        #[unroll]
        for depth in 0..comptime!(tiling.other / SIDE) {
            let begin = weight_at(group_row(), comptime!(depth * SIDE), tiling);
            let a = cmma::Matrix::<E>::from_slice(
                cmma::MatrixIdent::A,
                SIDE,
                SIDE,
                SIDE,
                cmma::MatrixLayout::RowMajor,
                &weights.slice(begin, begin + SIDE),
                comptime!(tiling.weights_stride() as u32),
            );
            #[unroll]
            for block in 0..comptime!(tiling.head_dim / SIDE) {
                let begin = comptime!(depth * SIDE) * stride + comptime!(block * SIDE / tiling.vector);
                let b = cmma::Matrix::<Vector<E, N>>::from_slice(
                    cmma::MatrixIdent::B,
                    SIDE,
                    SIDE,
                    SIDE,
                    cmma::MatrixLayout::RowMajor,
                    &other.slice(begin, begin + comptime!(tiling.vectors())),
                    comptime!((tiling.stride() * tiling.vector) as u32),
                );
                let sum = sums.blocks.index(block);
                cmma::execute::<E, Vector<E, N>, f32, f32>(&a, &b, sum, sum);
            }
        }
    } else {
        let columns = comptime!(patch_columns(tiling));
        let (first_row, first_column) = unit_patch();
        for j in 0..comptime!(tiling.other) {
            let mut factors = Array::<f32>::new(ROWS);
            #[unroll]
            for i in 0..ROWS {
                factors[i] = f32::cast_from(weights[weight_at(first_row + i, j, tiling)]);
            }
            #[unroll]
            for k in 0..columns {
                let column = first_column + k * LANES;
                if column < comptime!(tiling.vectors()) {
                    let values = Vector::<f32, N>::cast_from(other[j * stride + column]);
                    #[unroll]
                    for i in 0..ROWS {
                        sums.patch[i * columns + k] += Vector::new(factors[i]) * values;
                    }
                }
            }
        }
    }
}

/// Writes the sums to the positions of `out [batch, length, heads, head_dim]` from `begin` on that
/// exist. `scores` is overwritten.
#[cube]
pub fn store_sums<E: Float, N: Size>(
    sums: &Sums<N>,
    out: &mut Tensor<Vector<E, N>>,
    scores: &mut SharedMemory<f32>,
    batch: usize,
    begin: usize,
    head: usize,
    #[comptime] tiling: Tiling,
) {
    let length = out.shape(1);
    let heads = out.shape(2);
    let vectors = comptime!(tiling.vectors());
    if comptime!(tiling.products == Products::TensorCores) {
        // Which unit has which element of a block is not defined: shared memory sorts them.
        let row = unit_row();
        let half = UNIT_POS_X as usize % 2;
        let position = begin + row;
        #[unroll]
        for block in 0..comptime!(tiling.head_dim / SIDE) {
            sync_cube();
            let first = score_at(group_row(), 0usize, tiling);
            let mut patch = scores.slice_mut(first, first + SIDE);
            let layout = cmma::MatrixLayout::RowMajor;
            cmma::store(&mut patch, sums.blocks.index(block), comptime!(tiling.scores_stride() as u32), layout);
            sync_cube();
            if position < length {
                // Two vectors of 8 elements are a row of a block.
                let mut values = Vector::<f32, N>::empty();
                #[unroll]
                for i in 0..comptime!(tiling.vector) {
                    values[i] = scores[score_at(row, half * comptime!(tiling.vector) + i, tiling)];
                }
                let column = comptime!(block * SIDE / tiling.vector) + half;
                out[((batch * length + position) * heads + head) * vectors + column] = Vector::cast_from(values);
            }
        }
    } else {
        let columns = comptime!(patch_columns(tiling));
        let (first_row, first_column) = unit_patch();
        #[unroll]
        for i in 0..ROWS {
            let position = begin + first_row + i;
            #[unroll]
            for k in 0..columns {
                let column = first_column + k * LANES;
                if position < length && column < vectors {
                    let at = ((batch * length + position) * heads + head) * vectors + column;
                    out[at] = Vector::cast_from(sums.patch[i * columns + k]);
                }
            }
        }
    }
}
