//! Attention of a few queries to the keys and values of one head: `softmax(q k^T) v`.
//!
//! Scores are exact integer products of INT8 codes, scaled. Probabilities are multiplied by the
//! scales of the values and rounded to 12 bits, so that the sum over the values is exact, too. The
//! 12 bits are split into two digits of 6 bits, small enough that no instruction set's dot product
//! saturates. A query's result therefore depends only on the query, its keys and its values.

use std::f32::consts::LOG2_E;

use super::isa::Isa;
use super::math::exp2;
use crate::key_value::HeadView;
use crate::pack::{LANES, Line};

/// The largest probability as an integer of 12 bits.
const LARGEST: f32 = 4_095.0;
/// Place value of the first digit.
const BASE: f32 = 64.0;

/// Quantized queries of one head.
#[derive(Debug, Clone, Copy)]
pub struct Queries<'a> {
    /// Dimension of a head, padded to a multiple of the lanes.
    pub head_width: usize,
    /// `[queries, head_width]`.
    pub codes: &'a [i8],
    /// Scale of each query, divided by the root of the head's dimension.
    pub scales: &'a [f32],
    /// Sum of the codes of each query.
    pub sums: &'a [i32],
}

/// Buffers, reused from call to call.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Scores, then exponentials, `[queries, keys]`.
    scores: Vec<f32>,
    /// First digits, then second digits, `[queries, keys]`.
    digits: Vec<i8>,
}

/// Maximum number of queries that are processed together.
const MAX_ROWS: usize = 8;

/// Attention of `queries` to the first `len` positions of `head`: writes `out`,
/// `[queries, head_width]`.
///
/// # Safety
/// As for all functions of [`Isa`].
#[inline(always)]
pub(super) unsafe fn attend<I: Isa>(
    queries: Queries<'_>,
    head: HeadView<'_>,
    len: usize,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let rows = queries.scales.len();
    let width = queries.head_width;
    let padded = len.next_multiple_of(LANES);
    let HeadView::Int8 { keys, values, key_scales, value_scales } = head else {
        unreachable!("quantized queries meet quantized keys")
    };
    let capacity = key_scales.len();
    assert!(len > 0 && padded <= capacity && capacity.is_multiple_of(LANES), "{len} of {capacity} positions");
    assert!(width.is_multiple_of(LANES) && keys.len() * Line::BYTES == capacity * width, "keys of a head");
    assert!(values.len() == keys.len() && value_scales.len() == capacity, "values of a head");
    assert!(queries.codes.len() == rows * width && queries.sums.len() == rows, "queries");
    assert!(out.len() == rows * width, "output of attention");
    scratch.scores.resize(MAX_ROWS * padded, 0.0);
    scratch.digits.resize(2 * MAX_ROWS * padded, 0);
    let block = Block { queries, keys, values, key_scales, value_scales, len, padded };
    let mut row = 0;
    // SAFETY: all rows that are passed are below the number of queries; the lengths are asserted
    // above.
    unsafe {
        if I::ATTEND_ROWS >= 8 {
            while row + 8 <= rows {
                block.rows::<I, 8>(row, scratch, out);
                row += 8;
            }
        }
        while row + 4 <= rows {
            block.rows::<I, 4>(row, scratch, out);
            row += 4;
        }
        if row + 2 <= rows {
            block.rows::<I, 2>(row, scratch, out);
            row += 2;
        }
        if row < rows {
            block.rows::<I, 1>(row, scratch, out);
        }
    }
}

/// The operands of one call, whose lengths have been checked.
struct Block<'a> {
    queries: Queries<'a>,
    keys: &'a [Line],
    values: &'a [Line],
    key_scales: &'a [f32],
    value_scales: &'a [f32],
    len: usize,
    /// `len`, padded to a multiple of the lanes.
    padded: usize,
}

/// The factor for one query's sum over the values, and the sums of its digits.
#[derive(Clone, Copy, Default)]
struct Weights {
    scale: f32,
    first: i32,
    second: i32,
}

impl Block<'_> {
    #[inline(always)]
    unsafe fn rows<I: Isa, const R: usize>(&self, first: usize, scratch: &mut Scratch, out: &mut [f32]) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            self.scores::<I, R>(first, &mut scratch.scores);
            let mut weights = [Weights::default(); R];
            for r in 0..R {
                let scores = &mut scratch.scores[r * self.padded..(r + 1) * self.padded];
                let (one, two) = scratch.digits.split_at_mut(MAX_ROWS * self.padded);
                let range = r * self.padded..(r + 1) * self.padded;
                let scale = self.queries.scales[first + r];
                weights[r] = self.softmax::<I>(scores, scale, &mut one[range.clone()], &mut two[range]);
            }
            let mut from = 0;
            while I::MIX_ROWS >= 4 && from + 4 <= R {
                self.mix::<I, 4>(&weights, from, first, &scratch.digits, out);
                from += 4;
            }
            while I::MIX_ROWS >= 2 && from + 2 <= R {
                self.mix::<I, 2>(&weights, from, first, &scratch.digits, out);
                from += 2;
            }
            while from < R {
                self.mix::<I, 1>(&weights, from, first, &scratch.digits, out);
                from += 1;
            }
        }
    }

    /// Writes `scores`, `[R, padded]`, before they are multiplied by the scales of the queries;
    /// negative infinity beyond `len`.
    #[inline(always)]
    unsafe fn scores<I: Isa, const R: usize>(&self, first: usize, scores: &mut [f32]) {
        let width = self.queries.head_width;
        // SAFETY: panels below `padded`, which is within the capacity, and rows below the number of
        // queries.
        unsafe {
            let queries = self.queries.codes.as_ptr().add(first * width);
            for panel in 0..self.padded / LANES {
                let lines = self.keys.as_ptr().add(panel * (width / 4)).cast::<u8>();
                let mut sums = [I::begin(0); R];
                for r in 0..R {
                    sums[r] = I::begin(self.queries.sums[first + r].wrapping_mul(-128));
                }
                for line in 0..width / 4 {
                    for r in 0..R {
                        let query = queries.add(r * width + 4 * line);
                        sums[r] = I::dot_int8(sums[r], lines.add(line * Line::BYTES), query);
                    }
                }
                let of_keys = I::load(self.key_scales.as_ptr().add(panel * LANES));
                for r in 0..R {
                    let score = I::mul(I::to_floats(I::finish(sums[r])), of_keys);
                    I::store(scores.as_mut_ptr().add(r * self.padded + panel * LANES), score);
                }
            }
        }
        for r in 0..R {
            scores[r * self.padded + self.len..(r + 1) * self.padded].fill(f32::NEG_INFINITY);
        }
    }

    /// Turns one row of scores into the digits of its probabilities, each multiplied by the scale
    /// of its value.
    #[inline(always)]
    unsafe fn softmax<I: Isa>(&self, scores: &mut [f32], scale: f32, first: &mut [i8], second: &mut [i8]) -> Weights {
        // SAFETY: blocks of 16 below `padded`, which is the length of all slices.
        unsafe {
            let mut largest = I::load(scores.as_ptr());
            for i in (LANES..self.padded).step_by(LANES) {
                largest = I::max(I::load(scores.as_ptr().add(i)), largest);
            }
            // `e^(scale (score - greatest))` as a power of two: one multiplication covers the
            // query's scale and the change of base.
            let (shift, scale) = (I::splat(I::reduce_max(largest)), I::splat(scale * LOG2_E));
            let (mut total, mut largest) = (I::splat(0.0), I::splat(0.0));
            for i in (0..self.padded).step_by(LANES) {
                let e = exp2::<I>(I::mul(I::sub(I::load(scores.as_ptr().add(i)), shift), scale));
                total = I::add(total, e);
                let weighted = I::mul(e, I::load(self.value_scales.as_ptr().add(i)));
                largest = I::max(weighted, largest);
                I::store(scores.as_mut_ptr().add(i), weighted);
            }
            let (largest, total) = (I::reduce_max(largest), I::reduce_add(total));
            // If all values are zero, so are their scales.
            let (scale, inverse) = if largest > 1e-30 { (largest / LARGEST, LARGEST / largest) } else { (0.0, 0.0) };
            let inverse = I::splat(inverse);
            let (mut first_sum, mut second_sum) = (I::zero_ints(), I::zero_ints());
            for i in (0..self.padded).step_by(LANES) {
                let whole = I::round(I::mul(I::load(scores.as_ptr().add(i)), inverse));
                let (one, two) = I::digits(whole);
                first_sum = I::add_ints(first_sum, one);
                second_sum = I::add_ints(second_sum, two);
                I::store_i8(first.as_mut_ptr().add(i), one);
                I::store_i8(second.as_mut_ptr().add(i), two);
            }
            let (first, second) = (I::reduce_add_ints(first_sum), I::reduce_add_ints(second_sum));
            Weights { scale: scale / total, first, second }
        }
    }

    /// Sums over the values for `R` rows of a block, from row `from` on, where `first` is the
    /// block's first row: writes `out`, `[queries, head_width]`.
    #[inline(always)]
    unsafe fn mix<I: Isa, const R: usize>(
        &self,
        weights: &[Weights],
        from: usize,
        first: usize,
        digits: &[i8],
        out: &mut [f32],
    ) {
        let width = self.queries.head_width;
        let (weights, first) = (&weights[from..from + R], first + from);
        // SAFETY: lines below `padded / 4` of each panel of dimensions, and rows below the number
        // of queries.
        unsafe {
            let ones = digits.as_ptr().add(from * self.padded);
            let twos = ones.add(MAX_ROWS * self.padded);
            for panel in 0..width / LANES {
                let lines = self.values.as_ptr().add(panel * (self.key_scales.len() / 4)).cast::<u8>();
                let (mut high, mut low) = ([I::begin_digits(0); R], [I::begin_digits(0); R]);
                for r in 0..R {
                    high[r] = I::begin_digits(weights[r].first.wrapping_mul(-128));
                    low[r] = I::begin_digits(weights[r].second.wrapping_mul(-128));
                }
                for line in 0..self.padded / 4 {
                    let codes = lines.add(line * Line::BYTES);
                    for r in 0..R {
                        high[r] = I::dot_digits(high[r], codes, ones.add(r * self.padded + 4 * line));
                        low[r] = I::dot_digits(low[r], codes, twos.add(r * self.padded + 4 * line));
                    }
                }
                for r in 0..R {
                    let high = I::mul(I::to_floats(I::finish(high[r])), I::splat(BASE));
                    let sum = I::add(high, I::to_floats(I::finish(low[r])));
                    let place = out.as_mut_ptr().add((first + r) * width + panel * LANES);
                    I::store(place, I::mul(sum, I::splat(weights[r].scale)));
                }
            }
        }
    }
}
