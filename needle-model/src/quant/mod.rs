//! INT4: quantization, and models that compute what their quantized form will compute.

pub mod fake_quant;
pub mod int4;
