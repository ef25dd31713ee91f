//! Products of activations with packed matrices. The same functions serve the many rows of a prompt
//! and the few rows of a decoding step.
//!
//! A row's sum over a group of 32 inputs is an exact integer. It is multiplied by the group's two
//! scales and added in f32, group by group. An output therefore does not depend on how many rows
//! are computed together.

use super::isa::{Isa, row_codes};
use crate::activations::{Activations, BLOCK_GROUP_BYTES, BLOCK_ROWS, FOUR};
use crate::file::quantize::GROUP_SIZE;
use crate::pack::{INT4_GROUP_BYTES, INT8_GROUP_BYTES, Int4Matrix, Int8Matrix, LANES, Line};

/// `x W^T`: writes `out [rows, panels * 16]`.
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn int4<I: Isa>(x: &Activations, matrix: &Int4Matrix, out: &mut [f32]) {
    let rows = x.rows();
    assert!(x.groups() == matrix.groups && out.len() >= rows * matrix.panels * LANES, "shapes of a product");
    assert!(matrix.codes.len() * Line::BYTES == matrix.panels * matrix.groups * INT4_GROUP_BYTES, "packed codes");
    assert!(matrix.scales.len() == matrix.panels * matrix.groups * LANES, "packed scales");
    for panel in 0..matrix.panels {
        let mut row = 0;
        // SAFETY: all rows that are passed are rows of `x`, and the buffers have the asserted
        // lengths.
        unsafe {
            if I::PRODUCT_ROWS >= 12 {
                while row + 12 <= rows {
                    int4_rows::<I, 12>(x, row, matrix, panel, out);
                    row += 12;
                }
            }
            while row + 4 <= rows {
                int4_rows::<I, 4>(x, row, matrix, panel, out);
                row += 4;
            }
            if row + 2 <= rows {
                int4_rows::<I, 2>(x, row, matrix, panel, out);
                row += 2;
            }
            if row < rows {
                int4_rows::<I, 1>(x, row, matrix, panel, out);
            }
        }
    }
}

/// Computes one panel for `R` rows from `first` on, which lie in one block or are whole blocks.
#[inline(always)]
unsafe fn int4_rows<I: Isa, const R: usize>(
    x: &Activations,
    first: usize,
    matrix: &Int4Matrix,
    panel: usize,
    out: &mut [f32],
) {
    let groups = matrix.groups;
    // SAFETY: all offsets are within the buffers of `Activations` and those whose lengths `int4`
    // has asserted.
    unsafe {
        let codes = matrix.codes.as_ptr().cast::<u8>().add(panel * groups * INT4_GROUP_BYTES);
        let scales = matrix.scales.as_ptr().add(panel * groups * LANES);
        let rows = Rows::new(x, first);
        let mut sums = [I::splat(0.0); R];
        for group in 0..groups {
            let mut starts = [0; R];
            for r in 0..R {
                starts[r] = rows.offset(group, r);
            }
            let dots =
                I::dot_int4::<R>(codes.add(group * INT4_GROUP_BYTES), rows.codes(group), rows.block_bytes, starts);
            let scale = I::load_f16(scales.add(group * LANES));
            for r in 0..R {
                let of_row = I::splat(rows.scale(group, r));
                sums[r] = I::add(sums[r], I::mul(I::mul(I::to_floats(dots[r]), scale), of_row));
            }
        }
        for r in 0..R {
            I::store(out.as_mut_ptr().add(((first + r) * matrix.panels + panel) * LANES), sums[r]);
        }
    }
}

/// Pointers to the codes, scales and offsets of some rows.
struct Rows {
    codes: *const i8,
    scales: *const f32,
    offsets: *const i32,
    groups: usize,
    /// Distance from the codes of a row to those of the same row in the next block.
    block_bytes: usize,
}

impl Rows {
    /// Rows of `x` from `first` on.
    #[inline(always)]
    unsafe fn new(x: &Activations, first: usize) -> Self {
        let (block, row, groups) = (first / BLOCK_ROWS, first % BLOCK_ROWS, x.groups());
        // SAFETY: `first` is a row of `x`.
        unsafe {
            Self {
                codes: x.codes().as_ptr().add(block * groups * BLOCK_GROUP_BYTES + row * FOUR),
                scales: x.scales().as_ptr().add(block * groups * BLOCK_ROWS + row),
                offsets: x.offsets().as_ptr().add(block * groups * BLOCK_ROWS + row),
                groups,
                block_bytes: groups * BLOCK_GROUP_BYTES,
            }
        }
    }

    #[inline(always)]
    unsafe fn codes(&self, group: usize) -> *const i8 {
        // SAFETY: the caller guarantees a valid group.
        unsafe { self.codes.add(group * BLOCK_GROUP_BYTES) }
    }

    #[inline(always)]
    unsafe fn scale(&self, group: usize, row: usize) -> f32 {
        // SAFETY: the caller guarantees a valid group and row.
        unsafe { *self.scales.add((row / BLOCK_ROWS * self.groups + group) * BLOCK_ROWS + row % BLOCK_ROWS) }
    }

    #[inline(always)]
    unsafe fn offset(&self, group: usize, row: usize) -> i32 {
        // SAFETY: the caller guarantees a valid group and row.
        unsafe { *self.offsets.add((row / BLOCK_ROWS * self.groups + group) * BLOCK_ROWS + row % BLOCK_ROWS) }
    }
}

/// Like [`int4`], with an INT8 matrix.
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn int8<I: Isa>(x: &Activations, matrix: &Int8Matrix, out: &mut [f32]) {
    let rows = x.rows();
    assert!(x.groups() == matrix.groups && out.len() >= rows * matrix.panels * LANES, "shapes of a product");
    assert!(matrix.codes.len() * Line::BYTES == matrix.panels * matrix.groups * INT8_GROUP_BYTES, "packed codes");
    assert!(matrix.scales.len() == matrix.panels * matrix.groups * LANES, "packed scales");
    for panel in 0..matrix.panels {
        let mut row = 0;
        // SAFETY: as in `int4`.
        unsafe {
            if I::ATTEND_ROWS >= 8 {
                while row + 8 <= rows {
                    int8_rows::<I, 8>(x, row, matrix, panel, out);
                    row += 8;
                }
            }
            while row + 4 <= rows {
                int8_rows::<I, 4>(x, row, matrix, panel, out);
                row += 4;
            }
            while row < rows {
                int8_rows::<I, 1>(x, row, matrix, panel, out);
                row += 1;
            }
        }
    }
}

/// Like [`int4_rows`].
#[inline(always)]
unsafe fn int8_rows<I: Isa, const R: usize>(
    x: &Activations,
    first: usize,
    matrix: &Int8Matrix,
    panel: usize,
    out: &mut [f32],
) {
    let groups = matrix.groups;
    // SAFETY: all offsets are within the buffers of `Activations` and those whose lengths `int8`
    // has asserted.
    unsafe {
        let codes = matrix.codes.as_ptr().cast::<u8>().add(panel * groups * INT8_GROUP_BYTES);
        let scales = matrix.scales.as_ptr().add(panel * groups * LANES);
        let rows = Rows::new(x, first);
        let mut sums = [I::splat(0.0); R];
        for group in 0..groups {
            let mut dots = [I::begin(0); R];
            for r in 0..R {
                dots[r] = I::begin(rows.offset(group, r).wrapping_mul(16));
            }
            for line in 0..INT8_GROUP_BYTES / Line::BYTES {
                let codes = codes.add(group * INT8_GROUP_BYTES + line * Line::BYTES);
                for r in 0..R {
                    dots[r] = I::dot_int8(dots[r], codes, row_codes(rows.codes(group), rows.block_bytes, line, r));
                }
            }
            let scale = I::load(scales.add(group * LANES));
            for r in 0..R {
                let of_row = I::splat(rows.scale(group, r));
                sums[r] = I::add(sums[r], I::mul(I::mul(I::to_floats(I::finish(dots[r])), scale), of_row));
            }
        }
        for r in 0..R {
            I::store(out.as_mut_ptr().add(((first + r) * matrix.panels + panel) * LANES), sums[r]);
        }
    }
}

/// Quantizes `weights [outputs, inputs]`, bf16 bits, to the layout of [`Int8Matrix`].
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn pack_int8<I: Isa>(weights: &[u16], inputs: usize, codes: &mut [Line], scales: &mut [f32]) {
    let groups = inputs.div_ceil(GROUP_SIZE);
    for (output, row) in weights.chunks_exact(inputs).enumerate() {
        let (panel, lane) = (output / LANES, output % LANES);
        for (group, weights) in row.chunks(GROUP_SIZE).enumerate() {
            let mut bits = [0_u16; GROUP_SIZE];
            bits[..weights.len()].copy_from_slice(weights);
            let mut values = [0.0_f32; GROUP_SIZE];
            let mut group_codes = [0_i8; GROUP_SIZE];
            // SAFETY: two blocks of 16 within 32 values.
            let (scale, _) = unsafe {
                I::store(values.as_mut_ptr(), I::load_bf16(bits.as_ptr()));
                I::store(values.as_mut_ptr().add(LANES), I::load_bf16(bits.as_ptr().add(LANES)));
                super::math::quantize::<I>(&values, &mut group_codes)
            };
            let place = panel * groups + group;
            scales[place * LANES + lane] = scale;
            let lines = &mut codes[place * 8..place * 8 + 8];
            for (line, four) in lines.iter_mut().zip(group_codes.chunks_exact(4)) {
                for (byte, code) in line.0[4 * lane..4 * lane + 4].iter_mut().zip(four) {
                    *byte = (*code as u8) ^ 0x80;
                }
            }
        }
    }
}
