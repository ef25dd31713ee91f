//! Lookups of embedding rows, and their gradient: the sum of the upstream rows of each id.
//!
//! The sums must not depend on which cube is first, and a frequent id must not keep one cube busy
//! alone. So rows are sorted by id first, in a counting sort that keeps their order, and summed in
//! two levels:
//!
//! ```text
//! rank      of each row among the rows of its block that have its id; how many rows of each block have an id
//! scan      over the blocks, for each id: how many earlier blocks' rows have it
//! scan      over the ids: where its sorted rows start, and its pieces of at most PIECE rows
//! place     order[start of the id + rows of earlier blocks + rank] = row
//! pieces    the sum over each piece
//! ids       the sum over the pieces of each id
//! ```
//!
//! No atomics: equal inputs give equal bits. Upstream rows may be f32 or bf16; sums are f32.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::empty;
use super::launch::{ELEMENTWISE, elementwise_cubes, plane, plane_cube, rows_without_gaps, vector_size};

/// Rows that one cube ranks. The counts of all blocks take `4 vocab / BLOCK` bytes a row: 32 with
/// 8192 ids.
const BLOCK: usize = 1024;
/// Rows that one cube sums. Half of 131,072 rows with one id give 512 pieces.
const PIECE: usize = 128;
/// Units of a cube that sums a piece, each some columns of it.
const COLUMNS: usize = 64;
/// The id of places beyond the last row.
const NO_ID: u32 = u32::MAX;

/// `scale * embedding[id]` for each id.
#[cube(launch)]
fn embedding_kernel<W: Float, E: Float, I: Int, N: Size>(
    embedding: &Tensor<Vector<W, N>>,
    ids: &Tensor<I>,
    out: &mut Tensor<Vector<E, N>>,
    scale: f32,
    #[define(W, E, I)] _dtypes: [StorageType; 3],
) {
    if ABSOLUTE_POS < out.len() {
        let size = out.vector_size();
        let width = out.shape(1) / size;
        let id = usize::cast_from(ids[ABSOLUTE_POS / width]);
        let at = id * (embedding.stride(0) / size) + ABSOLUTE_POS % width;
        let values = Vector::<f32, N>::cast_from(embedding[at]);
        out[ABSOLUTE_POS] = Vector::cast_from(values * Vector::<f32, N>::new(scale));
    }
}

/// The number of earlier rows of the same block that have the same id, `ranks [rows]`, and the
/// number of rows of each block that have an id, `counts [blocks * vocab]`, which are 0 before.
#[cube(launch)]
fn ids_rank_kernel<I: Int>(
    ids: &Tensor<I>,
    ranks: &mut Tensor<u32>,
    counts: &mut Tensor<u32>,
    vocab: u32,
    #[define(I)] _dtype: StorageType,
) {
    let block = plane_cube();
    let begin = block * comptime!(BLOCK);
    let mut block_ids = SharedMemory::<u32>::new(BLOCK);
    let mut i = UNIT_POS_X as usize;
    while i < comptime!(BLOCK) {
        let mut id = NO_ID.runtime();
        if begin + i < ids.len() {
            id = u32::cast_from(ids[begin + i]);
        }
        block_ids[i] = id;
        i += comptime!(ELEMENTWISE);
    }
    sync_cube();
    let mut i = UNIT_POS_X as usize;
    while i < comptime!(BLOCK) {
        let id = block_ids[i];
        let mut earlier = 0u32;
        let mut is_last = true;
        for j in 0..BLOCK {
            if block_ids[j] == id && j < i {
                earlier += 1u32;
            }
            if block_ids[j] == id && j > i {
                is_last = false;
            }
        }
        if begin + i < ids.len() {
            ranks[begin + i] = earlier;
            // The last row with an id knows how many there are.
            if is_last {
                counts[block * vocab as usize + id as usize] = earlier + 1u32;
            }
        }
        i += comptime!(ELEMENTWISE);
    }
}

/// Replaces the counts of each block by those of all earlier blocks, and stores the sum over all
/// blocks, `totals [vocab]`.
#[cube(launch)]
fn ids_scan_blocks_kernel(counts: &mut Tensor<u32>, totals: &mut Tensor<u32>) {
    let id = ABSOLUTE_POS;
    let vocab = totals.len();
    if id < vocab {
        let mut earlier = 0u32;
        let mut at = id;
        while at < counts.len() {
            let count = counts[at];
            counts[at] = earlier;
            earlier += count;
            at += vocab;
        }
        totals[id] = earlier;
    }
}

/// Where the sorted rows of each id start, and the first of its pieces; the last of each is their
/// number: `starts` and `first_pieces [vocab + 1]`. In one cube, each unit for adjacent ids.
#[cube(launch)]
fn ids_scan_kernel(totals: &Tensor<u32>, starts: &mut Tensor<u32>, first_pieces: &mut Tensor<u32>) {
    let unit = UNIT_POS_X as usize;
    let vocab = totals.len();
    let share = (vocab + comptime!(ELEMENTWISE - 1)) / comptime!(ELEMENTWISE);
    let begin = (unit * share).min(vocab);
    let end = (begin + share).min(vocab);
    let mut rows = 0u32;
    let mut pieces = 0u32;
    for id in begin..end {
        rows += totals[id];
        pieces += (totals[id] + comptime!(PIECE as u32 - 1)) / comptime!(PIECE as u32);
    }
    let mut unit_rows = SharedMemory::<u32>::new(ELEMENTWISE);
    let mut unit_pieces = SharedMemory::<u32>::new(ELEMENTWISE);
    unit_rows[unit] = rows;
    unit_pieces[unit] = pieces;
    sync_cube();
    let mut row = 0u32;
    let mut piece = 0u32;
    for other in 0..unit {
        row += unit_rows[other];
        piece += unit_pieces[other];
    }
    for id in begin..end {
        starts[id] = row;
        first_pieces[id] = piece;
        row += totals[id];
        piece += (totals[id] + comptime!(PIECE as u32 - 1)) / comptime!(PIECE as u32);
    }
    if unit == comptime!(ELEMENTWISE - 1) {
        starts[vocab] = row;
        first_pieces[vocab] = piece;
    }
}

/// The rows sorted by id, those of one id in their order: `order [rows]`.
#[cube(launch)]
fn ids_place_kernel<I: Int>(
    ids: &Tensor<I>,
    ranks: &Tensor<u32>,
    counts: &Tensor<u32>,
    starts: &Tensor<u32>,
    order: &mut Tensor<u32>,
    vocab: u32,
    #[define(I)] _dtype: StorageType,
) {
    let row = ABSOLUTE_POS;
    if row < order.len() {
        let id = usize::cast_from(ids[row]);
        let block = row / comptime!(BLOCK);
        let place = starts[id] + counts[block * vocab as usize + id] + ranks[row];
        order[place as usize] = row as u32;
    }
}

/// The sum of the upstream rows of each piece: `parts [pieces, width]`.
#[cube(launch)]
fn embedding_pieces_kernel<E: Float, N: Size>(
    grad: &Tensor<Vector<E, N>>,
    order: &Tensor<u32>,
    starts: &Tensor<u32>,
    first_pieces: &Tensor<u32>,
    parts: &mut Tensor<Vector<f32, N>>,
    vocab: u32,
    #[define(E)] _dtype: StorageType,
) {
    let piece = plane_cube() as u32;
    // There may be more cubes than pieces: only the device knows how many there are.
    if piece < first_pieces[vocab as usize] {
        // Always first_pieces[id] <= piece < first_pieces[beyond].
        let mut id = 0u32.runtime();
        let mut beyond = vocab;
        while beyond - id > 1 {
            let middle = (id + beyond) / 2;
            if first_pieces[middle as usize] <= piece {
                id = middle;
            } else {
                beyond = middle;
            }
        }
        let id = id as usize;
        let begin = starts[id] + (piece - first_pieces[id]) * comptime!(PIECE as u32);
        let end = (begin + comptime!(PIECE as u32)).min(starts[id + 1]);
        let width = grad.shape(1) / grad.vector_size();
        let mut column = UNIT_POS_X as usize;
        while column < width {
            let mut sum = Vector::<f32, N>::new(0.0f32);
            for i in begin..end {
                sum += Vector::<f32, N>::cast_from(grad[order[i as usize] as usize * width + column]);
            }
            parts[piece as usize * width + column] = sum;
            column += comptime!(COLUMNS);
        }
    }
}

/// `scale` times the sum of the pieces of each id, 0 without pieces: `out [vocab, width]`.
#[cube(launch)]
fn embedding_ids_kernel<W: Float, N: Size>(
    parts: &Tensor<Vector<f32, N>>,
    first_pieces: &Tensor<u32>,
    out: &mut Tensor<Vector<W, N>>,
    scale: f32,
    #[define(W)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < out.len() {
        let width = out.shape(1) / out.vector_size();
        let id = ABSOLUTE_POS / width;
        let column = ABSOLUTE_POS % width;
        let mut sum = Vector::<f32, N>::new(0.0f32);
        for piece in first_pieces[id]..first_pieces[id + 1] {
            sum += parts[piece as usize * width + column];
        }
        out[ABSOLUTE_POS] = Vector::cast_from(sum * Vector::<f32, N>::new(scale));
    }
}

/// See [`crate::ops::FusedOps::embed`].
pub fn lookup<R: CubeRuntime>(embedding: CubeTensor<R>, ids: CubeTensor<R>, scale: f32, dtype: DType) -> CubeTensor<R> {
    let embedding = rows_without_gaps(embedding);
    let ids = into_contiguous(ids);
    let width = embedding.meta.shape()[1];
    let out = empty(&embedding, Shape::new([ids.meta.num_elements(), width]), dtype);
    let size = vector_size(&embedding, &[width, embedding.meta.strides()[0]]);
    let dtypes = [embedding.dtype.into(), dtype.into(), ids.dtype.into()];
    embedding_kernel::launch::<R>(
        &embedding.client.clone(),
        elementwise_cubes(out.meta.num_elements() / size),
        CubeDim::new_1d(ELEMENTWISE as u32),
        size,
        embedding.into_tensor_arg(),
        ids.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        scale,
        dtypes,
    );
    out
}

/// Rows sorted by id, and the pieces in which the rows of each id are summed.
struct Sorted<R: CubeRuntime> {
    /// `[rows]`.
    order: CubeTensor<R>,
    /// `[vocab + 1]`.
    starts: CubeTensor<R>,
    /// `[vocab + 1]`.
    first_pieces: CubeTensor<R>,
}

impl<R: CubeRuntime> Sorted<R> {
    /// Sorts `ids [rows]`, each below `vocab`.
    fn new(ids: &CubeTensor<R>, vocab: usize) -> Self {
        let client = &ids.client;
        let rows = ids.meta.num_elements();
        let blocks = rows.div_ceil(BLOCK);
        let integers = |count: usize| empty(ids, Shape::new([count]), DType::U32);
        let counts = zeros_client(client.clone(), ids.device.clone(), Shape::new([blocks * vocab]), DType::U32);
        let (ranks, totals) = (integers(rows), integers(vocab));
        let (order, starts, first_pieces) = (integers(rows), integers(vocab + 1), integers(vocab + 1));
        ids_rank_kernel::launch::<R>(
            client,
            plane(blocks),
            CubeDim::new_1d(ELEMENTWISE as u32),
            ids.clone().into_tensor_arg(),
            ranks.clone().into_tensor_arg(),
            counts.clone().into_tensor_arg(),
            vocab as u32,
            ids.dtype.into(),
        );
        ids_scan_blocks_kernel::launch::<R>(
            client,
            elementwise_cubes(vocab),
            CubeDim::new_1d(ELEMENTWISE as u32),
            counts.clone().into_tensor_arg(),
            totals.clone().into_tensor_arg(),
        );
        ids_scan_kernel::launch::<R>(
            client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(ELEMENTWISE as u32),
            totals.into_tensor_arg(),
            starts.clone().into_tensor_arg(),
            first_pieces.clone().into_tensor_arg(),
        );
        ids_place_kernel::launch::<R>(
            client,
            elementwise_cubes(rows),
            CubeDim::new_1d(ELEMENTWISE as u32),
            ids.clone().into_tensor_arg(),
            ranks.into_tensor_arg(),
            counts.into_tensor_arg(),
            starts.clone().into_tensor_arg(),
            order.clone().into_tensor_arg(),
            vocab as u32,
            ids.dtype.into(),
        );
        Self { order, starts, first_pieces }
    }
}

/// See [`crate::ops::FusedOps::embed_backward`].
pub fn lookup_backward<R: CubeRuntime>(
    embedding: &CubeTensor<R>,
    ids: CubeTensor<R>,
    grad: CubeTensor<R>,
    scale: f32,
) -> CubeTensor<R> {
    let (ids, grad) = (into_contiguous(ids), into_contiguous(grad));
    let [vocab, width] = [embedding.meta.shape()[0], embedding.meta.shape()[1]];
    let sorted = Sorted::new(&ids, vocab);
    let client = grad.client.clone();
    let rows = ids.meta.num_elements();
    // Each id that occurs has at most one piece that is not full.
    let most_pieces = rows / PIECE + rows.min(vocab);
    let parts = empty(&grad, Shape::new([most_pieces, width]), DType::F32);
    let out = empty(&grad, Shape::new([vocab, width]), embedding.dtype);
    let size = vector_size(&grad, &[width]);
    let dtype = grad.dtype.into();
    embedding_pieces_kernel::launch::<R>(
        &client,
        plane(most_pieces),
        CubeDim::new_1d(COLUMNS as u32),
        size,
        grad.into_tensor_arg(),
        sorted.order.into_tensor_arg(),
        sorted.starts.into_tensor_arg(),
        sorted.first_pieces.clone().into_tensor_arg(),
        parts.clone().into_tensor_arg(),
        vocab as u32,
        dtype,
    );
    embedding_ids_kernel::launch::<R>(
        &client,
        elementwise_cubes(vocab * width / size),
        CubeDim::new_1d(ELEMENTWISE as u32),
        size,
        parts.into_tensor_arg(),
        sorted.first_pieces.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        scale,
        embedding.dtype.into(),
    );
    out
}
