//! Deployable artifacts, one module per format. All get their codes and scales from
//! [`crate::quant::int4`].

pub mod hf;
pub mod needle_rs;
pub mod onnx;
pub mod verify;
