//! Tensors as a safetensors file, and back.

use std::collections::HashMap;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::ModelError;

/// One tensor as bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name in the file.
    pub name: String,
    /// Its type in the file.
    pub dtype: Dtype,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// Its values, little-endian.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// `tensor` in f32.
    pub fn f32<B: Backend, const D: usize>(name: impl Into<String>, tensor: Tensor<B, D>) -> Self {
        let shape = tensor.dims().to_vec();
        let bytes = tensor.into_data().convert::<f32>().iter::<f32>().flat_map(f32::to_le_bytes).collect();
        Self { name: name.into(), dtype: Dtype::F32, shape, bytes }
    }
}

/// The bytes of a safetensors file; `file` is its name for messages.
///
/// # Errors
/// If an entry has another length than its shape says, or two have one name.
pub fn to_bytes(
    entries: &[Entry],
    metadata: Option<HashMap<String, String>>,
    file: &str,
) -> Result<Vec<u8>, ModelError> {
    let bad = |e: safetensors::SafeTensorError| ModelError::bad_file(file, e.to_string());
    let views = entries
        .iter()
        .map(|e| Ok((e.name.as_str(), TensorView::new(e.dtype, e.shape.clone(), &e.bytes).map_err(bad)?)))
        .collect::<Result<Vec<_>, ModelError>>()?;
    safetensors::serialize(views, metadata).map_err(bad)
}

/// The values of a float tensor of any width.
///
/// # Errors
/// If its type is not a float.
pub fn f32_values(view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    let data = view.data();
    Ok(match view.dtype() {
        Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::F64 => data.chunks_exact(8).map(|b| f64::from_le_bytes(std::array::from_fn(|i| b[i])) as f32).collect(),
        Dtype::F16 => data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::BF16 => data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        other => return Err(format!("expected floats, got {other:?}")),
    })
}
