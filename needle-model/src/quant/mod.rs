//! INT4: the one function that quantizes, and a model that computes as its quantized form will.

pub mod fake_quant;
pub mod int4;
