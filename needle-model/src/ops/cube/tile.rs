//! Positions in registers and in shared memory: what the attention kernels are made of.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// Units of a cube: queries, or keys, that it works on.
pub const UNITS: usize = 64;
/// Positions of a tile in shared memory: two of `head_dim` 64 take 8 KB, which every device has.
pub const TILE: usize = 16;
/// Segments of `count` positions from `begin` on, into `tile`: 0 beyond the end, and 1 where all
/// are alike.
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

/// Four neighbours of a head: shared memory gives them in one access.
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

/// Rows `[TILE, head_dim]` of `x [batch, length, heads, head_dim]` from position `begin` on, zeros
/// beyond the end; in fours.
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

/// One row of `x [batch, length, heads, head_dim]` in registers, zeros beyond the end; in fours.
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

/// Zeros in registers, for a row.
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

/// The sum of the four.
#[cube]
pub fn sum_of_four(values: Four) -> f32 {
    values[0] + values[1] + values[2] + values[3]
}

/// Product of a row in registers and row `i` of a tile.
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

/// Smallest and largest segment of a tile, zeros left out; nothing visible where the first is above
/// the second.
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

/// Whether a tile of `count` has any visible segment between `least` and `most`.
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

/// The segments of the tile that begins at `begin` of a row of `length`, and whether any of them is
/// visible: between `least` and `most` where `compares`, always elsewhere. When it begins, all
/// units are done with the tile before; what is loaded after it is there after one more
/// `sync_cube`.
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
