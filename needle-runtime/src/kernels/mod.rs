//! The engine's kernels for each instruction set. `isa` defines the operations of an instruction
//! set; `product`, `attend`, `math` and `exact` are written once, in terms of these operations.
//! There is one table of functions per instruction set, and opening a model chooses a table.

#![allow(clippy::needless_range_loop, reason = "a row's number indexes several arrays at once, as in the formulas")]
#![allow(clippy::type_complexity, reason = "a table of kernels names the operands of each")]

pub(crate) mod attend;
mod exact;
pub(crate) mod isa;
mod math;
mod product;
mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

pub use attend::{Queries, Scratch};

use crate::activations::Activations;
use crate::file::quantize::GROUP_SIZE;
use crate::file::source::Int4Ref;
use crate::key_value::HeadView;
use crate::pack::{INT4_GROUP_BYTES, INT8_GROUP_BYTES, Int4Matrix, Int8Matrix, LANES, Line, pack_scales};
use crate::pool::Pool;

/// The instruction sets that kernels are compiled for. All of them give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum InstructionSet {
    /// Plain Rust, the reference.
    Scalar,
    /// x86 with AVX2 and F16C.
    Avx2,
    /// x86 with AVX2, F16C and 256-bit dot products (AVX-VNNI).
    AvxVnni,
    /// x86 with AVX-512 and its dot products (VNNI).
    Avx512Vnni,
    /// AArch64 with NEON and its dot products.
    NeonDot,
    /// WebAssembly with SIMD.
    WasmSimd,
}

impl InstructionSet {
    /// The instruction sets of this CPU, slowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "some targets have only one set")]
        let mut sets = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
            let has_avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            sets.extend(has_avx2.then_some(Self::Avx2));
            sets.extend((has_avx2 && is_x86_feature_detected!("avxvnni")).then_some(Self::AvxVnni));
            sets.extend((has_avx2 && has_avx512).then_some(Self::Avx512Vnni));
        }
        #[cfg(target_arch = "aarch64")]
        sets.extend(std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self::NeonDot));
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        sets.push(Self::WasmSimd);
        sets
    }
}

/// Cosines and sines of a position.
pub type Angles<'a> = (&'a [f32], &'a [f32]);

/// The functions of one instruction set.
pub struct Kernels {
    set: InstructionSet,
    product_int4: unsafe fn(&Activations, &Int4Matrix, &mut [f32]),
    product_int8: unsafe fn(&Activations, &Int8Matrix, &mut [f32]),
    pack_int4: unsafe fn(&Int4Ref<'_>, &mut [Line]),
    pack_int8: unsafe fn(&[u16], usize, &mut [Line], &mut [f32]),
    quantize_rows: unsafe fn(&[f32], usize, &mut [i8], &mut [f32], &mut [i32]),
    quantize: unsafe fn(&[f32], &mut [i8]) -> (f32, i32),
    quantize_head: unsafe fn(&[f32], &[f32], f32, Option<Angles<'_>>, &mut [f32], &mut [i8]) -> (f32, i32),
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    rotate: unsafe fn(&mut [f32], &[f32], &[f32]),
    add_scaled: unsafe fn(&mut [f32], &[f32], f32),
    attend: unsafe fn(Queries<'_>, HeadView<'_>, usize, &mut Scratch, &mut [f32]),
    log_sum_exp: unsafe fn(&[f32]) -> f32,
    greatest: unsafe fn(&[f32]) -> f32,
    exact_product: unsafe fn(&[f32], &Int4Matrix, &mut [f32]),
    exact_logits: unsafe fn(&[f32], &[u16], usize, &mut [f32]),
    exact_attend: unsafe fn(&[f32], HeadView<'_>, usize, &mut Vec<f32>, &mut [f32]),
}

/// A table of kernels for the instruction set `$isa`, compiled with `$attribute`.
macro_rules! kernels {
    ($name:ident, $set:expr, $isa:ty $(, #[$attribute:meta])?) => {
        pub(super) static $name: Kernels = {
            kernels!(@function product_int4(x: &Activations, matrix: &Int4Matrix, out: &mut [f32])
                => product::int4::<$isa>(x, matrix, out) $(, #[$attribute])?);
            kernels!(@function product_int8(x: &Activations, matrix: &Int8Matrix, out: &mut [f32])
                => product::int8::<$isa>(x, matrix, out) $(, #[$attribute])?);
            kernels!(@function pack_int4(matrix: &Int4Ref<'_>, lines: &mut [Line])
                => crate::pack::pack_int4_codes(matrix, lines) $(, #[$attribute])?);
            kernels!(@function pack_int8(weights: &[u16], inputs: usize, codes: &mut [Line], scales: &mut [f32])
                => product::pack_int8::<$isa>(weights, inputs, codes, scales) $(, #[$attribute])?);
            kernels!(@function quantize_rows(
                x: &[f32], width: usize, codes: &mut [i8], scales: &mut [f32], offsets: &mut [i32])
                => math::quantize_rows::<$isa>(x, width, codes, scales, offsets) $(, #[$attribute])?);
            kernels!(@function quantize(x: &[f32], codes: &mut [i8]) -> (f32, i32)
                => math::quantize::<$isa>(x, codes) $(, #[$attribute])?);
            kernels!(@function quantize_head(
                from: &[f32], gain: &[f32], epsilon: f32, angles: Option<Angles<'_>>, head: &mut [f32], codes: &mut [i8])
                -> (f32, i32)
                => math::quantize_head::<$isa>(from, gain, epsilon, angles, head, codes) $(, #[$attribute])?);
            kernels!(@function rms_norm(x: &[f32], gain: &[f32], epsilon: f32, out: &mut [f32])
                => math::rms_norm::<$isa>(x, gain, epsilon, out) $(, #[$attribute])?);
            kernels!(@function rotate(x: &mut [f32], cos: &[f32], sin: &[f32])
                => math::rotate(x, cos, sin) $(, #[$attribute])?);
            kernels!(@function add_scaled(x: &mut [f32], branch: &[f32], gate: f32)
                => math::add_scaled(x, branch, gate) $(, #[$attribute])?);
            kernels!(@function attend(
                queries: Queries<'_>, head: HeadView<'_>, len: usize, scratch: &mut Scratch, out: &mut [f32])
                => attend::attend::<$isa>(queries, head, len, scratch, out) $(, #[$attribute])?);
            kernels!(@function log_sum_exp(x: &[f32]) -> f32 => math::log_sum_exp::<$isa>(x) $(, #[$attribute])?);
            kernels!(@function greatest(x: &[f32]) -> f32 => math::greatest::<$isa>(x) $(, #[$attribute])?);
            kernels!(@function exact_product(x: &[f32], matrix: &Int4Matrix, out: &mut [f32])
                => exact::product::<$isa>(x, matrix, out) $(, #[$attribute])?);
            kernels!(@function exact_logits(x: &[f32], embedding: &[u16], width: usize, out: &mut [f32])
                => exact::logits::<$isa>(x, embedding, width, out) $(, #[$attribute])?);
            kernels!(@function exact_attend(
                query: &[f32], head: HeadView<'_>, len: usize, scores: &mut Vec<f32>, out: &mut [f32])
                => exact::attend::<$isa>(query, head, len, scores, out) $(, #[$attribute])?);
            Kernels {
                set: $set,
                product_int4,
                product_int8,
                pack_int4,
                pack_int8,
                quantize_rows,
                quantize,
                quantize_head,
                rms_norm,
                rotate,
                add_scaled,
                attend,
                log_sum_exp,
                greatest,
                exact_product,
                exact_logits,
                exact_attend,
            }
        };
    };
    (@function $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? => $body:expr
        $(, #[$attribute:meta])?) => {
        // SAFETY: `Kernels::of` returns a table only on a CPU that has its instructions.
        $(#[$attribute])?
        #[allow(unused_unsafe, reason = "some bodies are safe")]
        unsafe fn $name($($argument: $type),*) $(-> $result)? {
            unsafe { $body }
        }
    };
}

/// The tables of functions, one per instruction set.
mod tables {
    use super::*;

    kernels!(SCALAR, InstructionSet::Scalar, scalar::Scalar);
    #[cfg(target_arch = "x86_64")]
    kernels!(AVX2, InstructionSet::Avx2, avx2::Avx2<false>, #[target_feature(enable = "avx2,f16c")]);
    #[cfg(target_arch = "x86_64")]
    kernels!(AVX_VNNI, InstructionSet::AvxVnni, avx2::Avx2<true>, #[target_feature(enable = "avx2,f16c,avxvnni")]);
    #[cfg(target_arch = "x86_64")]
    kernels!(
        AVX512_VNNI,
        InstructionSet::Avx512Vnni,
        avx512::Avx512,
        #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
    );
    #[cfg(target_arch = "aarch64")]
    kernels!(NEON_DOT, InstructionSet::NeonDot, neon::NeonDot, #[target_feature(enable = "neon,dotprod")]);
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernels!(WASM_SIMD, InstructionSet::WasmSimd, wasm::WasmSimd);
}

// SAFETY, for every call below: `Kernels::of` returns a table only on a CPU that has its
// instructions, and the functions check the lengths of their arguments.
impl Kernels {
    /// The kernels for `set`; `None` if this CPU does not have it.
    pub fn of(set: InstructionSet) -> Option<&'static Self> {
        InstructionSet::available().contains(&set).then_some(match set {
            InstructionSet::Scalar => &tables::SCALAR,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => &tables::AVX2,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::AvxVnni => &tables::AVX_VNNI,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Vnni => &tables::AVX512_VNNI,
            #[cfg(target_arch = "aarch64")]
            InstructionSet::NeonDot => &tables::NEON_DOT,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            InstructionSet::WasmSimd => &tables::WASM_SIMD,
            // Unreachable: these sets are not available on this target.
            _ => &tables::SCALAR,
        })
    }

    /// The fastest kernels of this CPU.
    pub fn best() -> &'static Self {
        InstructionSet::available().into_iter().rev().find_map(Self::of).unwrap_or(&tables::SCALAR)
    }

    /// The instruction set of these kernels.
    pub fn set(&self) -> InstructionSet {
        self.set
    }

    /// `x W^T`: `out [rows, panels * 16]`.
    pub fn product_int4(&self, x: &Activations, matrix: &Int4Matrix, out: &mut [f32]) {
        unsafe { (self.product_int4)(x, matrix, out) }
    }

    /// `x W^T`: `out [rows, panels * 16]`.
    pub fn product_int8(&self, x: &Activations, matrix: &Int8Matrix, out: &mut [f32]) {
        unsafe { (self.product_int8)(x, matrix, out) }
    }

    /// Packs matrices with the same number of inputs one after the other. Each begins with a new
    /// panel.
    pub fn pack(&self, matrices: &[Int4Ref<'_>]) -> Int4Matrix {
        let groups = matrices.first().map_or(0, |matrix| matrix.inputs.div_ceil(GROUP_SIZE));
        let panels = matrices.iter().map(|matrix| matrix.outputs.div_ceil(LANES)).sum();
        let lines_per_panel = groups * INT4_GROUP_BYTES / Line::BYTES;
        // Codes are stored with 8 added, so padding is 8.
        let mut codes = vec![Line([0x88; Line::BYTES]); panels * lines_per_panel];
        let mut scales = vec![0_u16; panels * groups * LANES];
        let mut first = 0;
        for matrix in matrices {
            let count = matrix.outputs.div_ceil(LANES);
            let codes = &mut codes[first * lines_per_panel..(first + count) * lines_per_panel];
            unsafe { (self.pack_int4)(matrix, codes) };
            pack_scales(matrix, groups, &mut scales[first * groups * LANES..(first + count) * groups * LANES]);
            first += count;
        }
        Int4Matrix { panels, groups, codes, scales }
    }

    /// Quantizes the rows of `weights [outputs, inputs]`, bf16 bits: `scale = max(|w|) / 127`,
    /// `code = round(w / scale)`.
    pub fn quantize_matrix(&self, pool: &Pool, weights: &[u16], inputs: usize) -> Int8Matrix {
        let outputs = weights.len() / inputs;
        let (panels, groups) = (outputs.div_ceil(LANES), inputs.div_ceil(GROUP_SIZE));
        let lines_per_panel = groups * INT8_GROUP_BYTES / Line::BYTES;
        let mut codes = vec![Line([128; Line::BYTES]); panels * lines_per_panel];
        let mut scales = vec![0.0; panels * groups * LANES];
        // One task per thread, each with a contiguous range of panels.
        let stretch = panels.div_ceil(pool.threads()).max(1);
        let tasks: Vec<_> = weights
            .chunks(stretch * LANES * inputs)
            .zip(codes.chunks_mut(stretch * lines_per_panel))
            .zip(scales.chunks_mut(stretch * groups * LANES))
            .collect();
        pool.each(tasks, |((weights, codes), scales)| unsafe { (self.pack_int8)(weights, inputs, codes, scales) });
        Int8Matrix { panels, groups, codes, scales }
    }

    /// Quantizes the rows of `x`; `width` is the length of a row, a multiple of 32.
    pub fn quantize_rows(&self, x: &[f32], width: usize, rows: &mut Activations) {
        let (codes, scales, offsets) = rows.resize(x.len() / width, width / GROUP_SIZE);
        unsafe { (self.quantize_rows)(x, width, codes, scales, offsets) }
    }

    /// Quantizes `x`, whose length is a multiple of 16, to `codes`. Returns the scale and the sum
    /// of the codes.
    pub fn quantize(&self, x: &[f32], codes: &mut [i8]) -> (f32, i32) {
        unsafe { (self.quantize)(x, codes) }
    }

    /// One head: its norm, rotated where there are angles, quantized. `head` is as wide as `codes`;
    /// what is beyond `from` must be 0.
    pub fn quantize_head(
        &self,
        from: &[f32],
        gain: &[f32],
        epsilon: f32,
        angles: Option<Angles<'_>>,
        head: &mut [f32],
        codes: &mut [i8],
    ) -> (f32, i32) {
        unsafe { (self.quantize_head)(from, gain, epsilon, angles, head, codes) }
    }

    /// `gain * x / sqrt(mean(x^2) + epsilon)`.
    pub fn rms_norm(&self, x: &[f32], gain: &[f32], epsilon: f32, out: &mut [f32]) {
        unsafe { (self.rms_norm)(x, gain, epsilon, out) }
    }

    /// Rotates a head by the angles of its position.
    pub fn rotate(&self, x: &mut [f32], cos: &[f32], sin: &[f32]) {
        unsafe { (self.rotate)(x, cos, sin) }
    }

    /// `x += gate * branch`.
    pub fn add_scaled(&self, x: &mut [f32], branch: &[f32], gate: f32) {
        unsafe { (self.add_scaled)(x, branch, gate) }
    }

    /// Attention of `queries` to the first `len` positions of a head: writes `out`,
    /// `[queries, head_width]`.
    pub fn attend(&self, queries: Queries<'_>, head: HeadView<'_>, len: usize, scratch: &mut Scratch, out: &mut [f32]) {
        unsafe { (self.attend)(queries, head, len, scratch, out) }
    }

    /// `ln(sum(e^x))`.
    pub fn log_sum_exp(&self, x: &[f32]) -> f32 {
        unsafe { (self.log_sum_exp)(x) }
    }

    /// The largest value.
    pub fn greatest(&self, x: &[f32]) -> f32 {
        unsafe { (self.greatest)(x) }
    }

    /// [`Kernels::product_int4`] with f32 activations.
    pub fn exact_product(&self, x: &[f32], matrix: &Int4Matrix, out: &mut [f32]) {
        unsafe { (self.exact_product)(x, matrix, out) }
    }

    /// Logits of one row `x`; the embedding is given as bf16 bits.
    pub fn exact_logits(&self, x: &[f32], embedding: &[u16], width: usize, out: &mut [f32]) {
        unsafe { (self.exact_logits)(x, embedding, width, out) }
    }

    /// [`Kernels::attend`] for one query in f32.
    pub fn exact_attend(&self, query: &[f32], head: HeadView<'_>, len: usize, scores: &mut Vec<f32>, out: &mut [f32]) {
        unsafe { (self.exact_attend)(query, head, len, scores, out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::quantize::quantize;
    use crate::key_value::KeyValue;

    /// Numbers from -1 to 1, many of them at the ends, where 16-bit sums would saturate.
    fn extreme(len: usize, seed: usize) -> Vec<f32> {
        let value = |i: usize| match (i * 2_654_435_761 + seed * 40_503) >> 7 & 7 {
            0..=2 => 1.0,
            3..=5 => -1.0,
            rest => (i % 97) as f32 / 97.0 * (rest as f32 - 6.5),
        };
        (0..len).map(value).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|x| x.to_bits()).collect()
    }

    fn sets() -> impl Iterator<Item = &'static Kernels> {
        InstructionSet::available().into_iter().filter_map(Kernels::of)
    }

    #[test]
    fn a_packed_matrix_contains_the_quantized_weights() {
        for (inputs, outputs) in [(64, 32), (48, 24), (20, 5), (512, 16)] {
            let weights: Vec<f32> = (0..inputs * outputs).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01).collect();
            let quantized = quantize(&weights, inputs, outputs);
            let scales: Vec<u8> = quantized.scales.iter().flat_map(|s| s.to_le_bytes()).collect();
            for set in InstructionSet::available() {
                let matrix = || Int4Ref { inputs, outputs, codes: (&quantized.codes).into(), scales: (&scales).into() };
                let packed = Kernels::of(set).unwrap().pack(&[matrix(), matrix()]);
                let second = outputs.next_multiple_of(LANES);
                for (i, weight) in weights.iter().enumerate() {
                    let (output, input) = (i / inputs, i % inputs);
                    let read = packed.weight(output, input);
                    assert_eq!(read, packed.weight(second + output, input));
                    // Half a quantization step, and a little for rounding the scale to f16.
                    assert!(
                        (read - weight).abs() <= 0.51 / 7.0 * 0.51,
                        "{set:?} {output} {input}: {read} for {weight}"
                    );
                }
            }
        }
    }

    #[test]
    fn products_have_the_same_bits_for_every_instruction_set_and_number_of_rows() {
        let (groups, panels) = (3, 2);
        let width = groups * GROUP_SIZE;
        let codes: Vec<Line> = (0..panels * groups * 4)
            .map(|line| {
                Line(std::array::from_fn(|i| [0xFF, 0x00, 0xF0, 0x0F, (i * 37 + line * 11) as u8][(i + line) % 5]))
            })
            .collect();
        let scales: Vec<u16> = (0..panels * groups * LANES).map(|i| [0x0001, 0x3C00, 0x2E66, 0x1234][i % 4]).collect();
        let int4 = Int4Matrix { panels, groups, codes, scales };
        let weights: Vec<u16> = extreme(panels * LANES * width, 5).iter().map(|x| (x.to_bits() >> 16) as u16).collect();
        let x = extreme(13 * width, 1);
        let product = |kernels: &Kernels, rows: std::ops::Range<usize>| {
            let mut activations = Activations::default();
            kernels.quantize_rows(&x[rows.start * width..rows.end * width], width, &mut activations);
            let int8 = kernels.quantize_matrix(&Pool::new(1), &weights, width);
            let mut out = vec![0.0; 2 * rows.len() * panels * LANES];
            let (first, second) = out.split_at_mut(rows.len() * panels * LANES);
            kernels.product_int4(&activations, &int4, first);
            kernels.product_int8(&activations, &int8, second);
            (bits(first), bits(second))
        };
        let expected = product(&tables::SCALAR, 0..13);
        for kernels in sets() {
            assert_eq!(product(kernels, 0..13), expected, "{:?}", kernels.set);
            for row in 0..13 {
                let (int4, int8) = product(kernels, row..row + 1);
                let of_row = row * panels * LANES..(row + 1) * panels * LANES;
                assert_eq!(
                    (&int4[..], &int8[..]),
                    (&expected.0[of_row.clone()], &expected.1[of_row]),
                    "{:?}",
                    kernels.set
                );
            }
        }
    }

    #[test]
    fn attention_has_the_same_bits_for_every_instruction_set_and_is_close_to_its_formula() {
        let width = 32;
        for len in [1, 15, 16, 100] {
            let (queries, keys, values) = (extreme(11 * width, 1), extreme(len * width, 2), extreme(len * width, 3));
            let attend = |kernels: &Kernels| {
                let mut head = KeyValue::new(1, width, len, false);
                let (mut codes, mut value_codes) = (vec![0; width], vec![0; width]);
                for i in 0..len {
                    let (key_scale, _) = kernels.quantize(&keys[i * width..(i + 1) * width], &mut codes);
                    let (value_scale, _) = kernels.quantize(&values[i * width..(i + 1) * width], &mut value_codes);
                    head.set_int8(0, i, (&codes, key_scale), (&value_codes, value_scale));
                }
                let mut codes = vec![0; 11 * width];
                let (scales, sums): (Vec<f32>, Vec<i32>) = queries
                    .chunks_exact(width)
                    .zip(codes.chunks_exact_mut(width))
                    .map(|(x, codes)| kernels.quantize(x, codes))
                    .unzip();
                let queries = Queries { head_width: width, codes: &codes, scales: &scales, sums: &sums };
                let mut out = vec![0.0; 11 * width];
                kernels.attend(queries, head.head(0), len, &mut Scratch::default(), &mut out);
                out
            };
            let expected = attend(&tables::SCALAR);
            for kernels in sets() {
                assert_eq!(bits(&attend(kernels)), bits(&expected), "{:?}, {len} keys", kernels.set);
            }
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            for (query, out) in queries.chunks_exact(width).zip(expected.chunks_exact(width)) {
                let weights: Vec<f64> = keys.chunks_exact(width).map(|key| dot(query, key).exp()).collect();
                for (i, out) in out.iter().enumerate() {
                    let sum: f64 =
                        weights.iter().zip(values.chunks_exact(width)).map(|(w, v)| w * f64::from(v[i])).sum();
                    let formula = sum / weights.iter().sum::<f64>();
                    assert!((f64::from(*out) - formula).abs() < 0.05, "{out} for {formula}");
                }
            }
        }
    }

    #[test]
    fn norms_and_exponentials_have_the_same_bits_for_every_instruction_set() {
        for len in [1, 16, 20, 512, 8191] {
            let x: Vec<f32> = extreme(len, 7).iter().map(|x| x * 9.0).collect();
            let compute = |kernels: &Kernels| {
                let mut out = vec![0.0; len];
                kernels.rms_norm(&x, &extreme(len, 8), 1e-6, &mut out);
                let mut rotated = x.clone();
                kernels.rotate(&mut rotated, &out[..len / 2], &extreme(len / 2, 9));
                kernels.add_scaled(&mut out, &rotated, 0.3);
                out.extend([kernels.log_sum_exp(&x), kernels.greatest(&x)]);
                bits(&out)
            };
            let expected = compute(&tables::SCALAR);
            assert!(sets().all(|kernels| compute(kernels) == expected), "{len} values");
            let exact = x.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
            let ours = f64::from(tables::SCALAR.log_sum_exp(&x));
            assert!((ours - exact).abs() < 1e-5, "{ours} for {exact}");
        }
    }
}
