//! Positions in registers and in shared memory: the building blocks of the attention kernels.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// Units per cube; each works on one query or one key.
pub const UNITS: usize = 64;
/// Positions of a tile in shared memory: two of `head_dim` 64 take 8 KB, which every device has.
pub const TILE: usize = 16;

/// Loads the segments of `count` positions from `begin` on into `tile`: 0 beyond the end, and 1
/// everywhere else if there are no segments.
#[cube]
pub fn load_segments<I: Int>(
    segments: &Tensor<I>,
    tile: &mut SharedMemory<i32>,
    batch: usize,
    begin: usize,
    length: usize,
    #[comptime] count: usize,
    #[comptime] has_segments: bool,
) {
    let mut i = UNIT_POS_X as usize;
    while i < count {
        let mut segment = 0i32;
        if begin + i < length {
            if comptime!(has_segments) {
                segment = i32::cast_from(segments[batch * length + begin + i]);
            } else {
                segment = 1i32;
            }
        }
        tile[i] = segment;
        i += comptime!(UNITS);
    }
}

/// Four adjacent elements of a head, which shared memory reads in one access.
pub type Four = Vector<f32, Const<4>>;

/// Four values of `x` from `at` on.
#[cube]
pub fn four<E: Float>(x: &Tensor<E>, at: usize) -> Four {
    let mut values = Four::empty();
    #[unroll]
    for i in 0..4 {
        values[i] = f32::cast_from(x[at + i]);
    }
    values
}

/// Loads rows `[TILE, head_dim]` of `x [batch, length, heads, head_dim]` from position `begin` on,
/// four elements at a time; zeros beyond the end.
#[cube]
pub fn load_rows<E: Float>(
    x: &Tensor<E>,
    tile: &mut SharedMemory<Four>,
    batch: usize,
    begin: usize,
    head: usize,
    #[comptime] head_dim: usize,
) {
    let length = x.shape(1);
    let heads = x.shape(2);
    let fours = comptime!(head_dim / 4);
    let mut i = UNIT_POS_X as usize;
    while i < comptime!(TILE * head_dim / 4) {
        let position = begin + i / fours;
        let mut values = Four::new(0.0f32);
        if position < length {
            values = four::<E>(x, ((batch * length + position) * heads + head) * head_dim + 4 * (i % fours));
        }
        tile[i] = values;
        i += comptime!(UNITS);
    }
}

/// One row of `x [batch, length, heads, head_dim]` in registers, four elements at a time; zeros
/// beyond the end.
#[cube]
pub fn row<E: Float>(
    x: &Tensor<E>,
    batch: usize,
    position: usize,
    head: usize,
    #[comptime] head_dim: usize,
) -> Array<Four> {
    let fours = comptime!(head_dim / 4);
    let mut values = Array::<Four>::new(fours);
    let length = x.shape(1);
    let base = ((batch * length + position) * x.shape(2) + head) * head_dim;
    #[unroll]
    for d in 0..fours {
        values[d] = Four::new(0.0f32);
        if position < length {
            values[d] = four::<E>(x, base + 4 * d);
        }
    }
    values
}

/// A row of zeros in registers.
#[cube]
pub fn zeros(#[comptime] head_dim: usize) -> Array<Four> {
    let fours = comptime!(head_dim / 4);
    let mut values = Array::<Four>::new(fours);
    #[unroll]
    for d in 0..fours {
        values[d] = Four::new(0.0f32);
    }
    values
}

/// `sum += factor * tile[i]`.
#[cube]
pub fn add_row(sum: &mut Array<Four>, factor: f32, tile: &SharedMemory<Four>, i: usize, #[comptime] head_dim: usize) {
    let fours = comptime!(head_dim / 4);
    let factor = Four::new(factor);
    #[unroll]
    for d in 0..fours {
        sum[d] += factor * tile[i * fours + d];
    }
}

/// Writes `sum * factor` to one row of `out`.
#[cube]
pub fn store_row<E: Float>(
    out: &mut Tensor<E>,
    base: usize,
    sum: &Array<Four>,
    factor: f32,
    #[comptime] head_dim: usize,
) {
    let fours = comptime!(head_dim / 4);
    #[unroll]
    for d in 0..fours {
        let values = sum[d];
        #[unroll]
        for i in 0..4 {
            out[base + 4 * d + i] = E::cast_from(values[i] * factor);
        }
    }
}

/// The sum of four elements.
#[cube]
pub fn sum_of_four(values: Four) -> f32 {
    values[0] + values[1] + values[2] + values[3]
}

/// Dot product of a row in registers and row `i` of a tile.
#[cube]
pub fn dot(values: &Array<Four>, tile: &SharedMemory<Four>, i: usize, #[comptime] head_dim: usize) -> f32 {
    let fours = comptime!(head_dim / 4);
    let mut sum = Four::new(0.0f32);
    #[unroll]
    for d in 0..fours {
        sum += values[d] * tile[i * fours + d];
    }
    sum_of_four(sum)
}

/// Smallest and largest segment of a tile, ignoring zeros. If there is none, the first is above the
/// second.
#[cube]
pub fn segment_range(tile: &SharedMemory<i32>, #[comptime] count: usize) -> (i32, i32) {
    let mut least = 2147483647i32;
    let mut most = 0i32;
    for i in 0..count {
        let segment = tile[i];
        if segment != 0 && segment < least {
            least = segment;
        }
        if segment > most {
            most = segment;
        }
    }
    (least, most)
}

/// Whether a tile of `count` positions has a segment from `least` to `most`, other than 0.
#[cube]
fn has_any(tile: &SharedMemory<i32>, least: i32, most: i32, #[comptime] count: usize) -> bool {
    let mut any = false;
    for i in 0..count {
        let segment = tile[i];
        if segment != 0 && segment >= least && segment <= most {
            any = true;
        }
    }
    any
}

/// Loads the segments of the tile that begins at `begin` in a row of `length`. Returns whether any
/// of them can be visible: with `compares`, whether one lies from `least` to `most`; otherwise
/// always true. It starts with a barrier, so that all units are done with the previous tile. What
/// the caller loads next is visible to all units after one more `sync_cube`.
#[cube]
pub fn load_tile_segments<I: Int>(
    segments: &Tensor<I>,
    tile: &mut SharedMemory<i32>,
    batch: usize,
    begin: usize,
    length: usize,
    least: i32,
    most: i32,
    #[comptime] has_segments: bool,
    #[comptime] compares: bool,
) -> bool {
    sync_cube();
    load_segments::<I>(segments, tile, batch, begin, length, TILE, has_segments);
    sync_cube();
    let mut any = true;
    if comptime!(compares) {
        any = has_any(tile, least, most, TILE);
    }
    any
}
