//! What the engine computes, for each instruction set. [`isa`] says what a set has to offer; `product`, `attend`, `math` and
//! `exact` are written once, in those terms; a table of functions, one for each set, is chosen when a model is opened.

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

pub use attend::{Queries, Scratch};

use crate::activations::Activations;
use crate::file::source::Int4Ref;
use crate::key_value::HeadView;
use crate::pack::{Int4Matrix, Int8Matrix, Line};

/// What the kernels are compiled for. All of them give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum InstructionSet {
    /// Plain Rust: the definition.
    Scalar,
    /// x86 with AVX2 and F16C.
    Avx2,
    /// And dot products of 256 bits.
    AvxVnni,
    /// x86 with AVX-512 and its dot products.
    Avx512Vnni,
}

impl InstructionSet {
    /// Those of this CPU, slowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "some targets have one set alone")]
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
        sets
    }
}

/// The functions of one instruction set.
pub struct Kernels {
    set: InstructionSet,
    product_int4: unsafe fn(&Activations, &Int4Matrix, &mut [f32]),
    product_int8: unsafe fn(&Activations, &Int8Matrix, &mut [f32]),
    pack_int4: unsafe fn(&Int4Ref<'_>, &mut [Line]),
    pack_int8: unsafe fn(&[u16], usize, &mut [Line], &mut [f32]),
    quantize_groups: unsafe fn(&[f32], &mut [i8], &mut [f32], &mut [i32]),
    quantize: unsafe fn(&[f32], &mut [i8]) -> (f32, i32),
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
            kernels!(@function quantize_groups(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i32])
                => math::quantize_groups::<$isa>(x, codes, scales, sums) $(, #[$attribute])?);
            kernels!(@function quantize(x: &[f32], codes: &mut [i8]) -> (f32, i32)
                => math::quantize::<$isa>(x, codes) $(, #[$attribute])?);
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
                quantize_groups,
                quantize,
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
        // SAFETY: a table is only given out on a CPU that has the instruction set.
        $(#[$attribute])?
        #[allow(unused_unsafe, reason = "some bodies are safe")]
        unsafe fn $name($($argument: $type),*) $(-> $result)? {
            unsafe { $body }
        }
    };
}

/// The tables, each with the instruction set's own code.
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
}

// SAFETY, for every call below: `Kernels::of` gives a table only on a CPU that has its instructions, and the functions check the
// lengths of what they are given.
impl Kernels {
    /// The kernels for `set`; none if this CPU does not have it.
    pub fn of(set: InstructionSet) -> Option<&'static Self> {
        InstructionSet::available().contains(&set).then(|| match set {
            InstructionSet::Scalar => &tables::SCALAR,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => &tables::AVX2,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::AvxVnni => &tables::AVX_VNNI,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Vnni => &tables::AVX512_VNNI,
            #[cfg(not(target_arch = "x86_64"))]
            _ => &tables::SCALAR,
        })
    }

    /// The fastest kernels of this CPU.
    pub fn best() -> &'static Self {
        InstructionSet::available().into_iter().rev().find_map(Self::of).unwrap_or(&tables::SCALAR)
    }

    /// What they are compiled for.
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

    /// See [`Int4Matrix::pack`].
    pub(crate) fn pack_int4(&self, matrix: &Int4Ref<'_>, lines: &mut [Line]) {
        unsafe { (self.pack_int4)(matrix, lines) }
    }

    /// See [`Int8Matrix::quantize`].
    pub(crate) fn pack_int8(&self, weights: &[u16], inputs: usize, codes: &mut [Line], scales: &mut [f32]) {
        unsafe { (self.pack_int8)(weights, inputs, codes, scales) }
    }

    /// Codes of `x`, whose length is a multiple of 32, with a scale and a sum for each 32.
    pub(crate) fn quantize_groups(&self, x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
        unsafe { (self.quantize_groups)(x, codes, scales, sums) }
    }

    /// Codes of `x`, whose length is a multiple of 16, their scale and their sum.
    pub fn quantize(&self, x: &[f32], codes: &mut [i8]) -> (f32, i32) {
        unsafe { (self.quantize)(x, codes) }
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

    /// Queries over the first `len` positions of a head: `out [queries, head_width]`.
    pub fn attend(&self, queries: Queries<'_>, head: HeadView<'_>, len: usize, scratch: &mut Scratch, out: &mut [f32]) {
        unsafe { (self.attend)(queries, head, len, scratch, out) }
    }

    /// `ln(sum(e^x))`.
    pub fn log_sum_exp(&self, x: &[f32]) -> f32 {
        unsafe { (self.log_sum_exp)(x) }
    }

    /// The greatest value.
    pub fn greatest(&self, x: &[f32]) -> f32 {
        unsafe { (self.greatest)(x) }
    }

    /// [`Kernels::product_int4`] with f32 activations.
    pub fn exact_product(&self, x: &[f32], matrix: &Int4Matrix, out: &mut [f32]) {
        unsafe { (self.exact_product)(x, matrix, out) }
    }

    /// Logits of one row with the embedding, bf16 bits.
    pub fn exact_logits(&self, x: &[f32], embedding: &[u16], width: usize, out: &mut [f32]) {
        unsafe { (self.exact_logits)(x, embedding, width, out) }
    }

    /// [`Kernels::attend`] of one query in f32.
    pub fn exact_attend(&self, query: &[f32], head: HeadView<'_>, len: usize, scores: &mut Vec<f32>, out: &mut [f32]) {
        unsafe { (self.exact_attend)(query, head, len, scores, out) }
    }
}
