//! Reads and writes safetensors files.

use std::collections::HashMap;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use needle_runtime::file::tensors;
pub use needle_runtime::file::tensors::finite;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value};

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
/// If the length of an entry does not fit its shape, or two entries share a name.
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
    sorted_metadata(safetensors::serialize(views, metadata).map_err(bad)?).map_err(|e| ModelError::bad_file(file, e))
}

/// Sorts the keys of the metadata in `file`. `safetensors` writes them in the order of a hash map,
/// which differs from process to process, but equal tensors must give equal bytes.
fn sorted_metadata(mut file: Vec<u8>) -> Result<Vec<u8>, String> {
    const KEY: &str = "__metadata__";
    let length = file.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)) as usize;
    let header = file.get_mut(8..8 + length).ok_or("its header is cut short")?;
    let mut parsed: Map<String, Value> = serde_json::from_slice(header).map_err(|e| e.to_string())?;
    if let Some(Value::Object(metadata)) = parsed.get_mut(KEY) {
        metadata.sort_keys();
        let sorted = serde_json::to_vec(&parsed).map_err(|e| e.to_string())?;
        // Spaces pad the header to its old length.
        header.fill(b' ');
        header.get_mut(..sorted.len()).ok_or("its header does not fit any more")?.copy_from_slice(&sorted);
    }
    Ok(file)
}

/// The values of a float tensor of any width, as f32.
///
/// # Errors
/// If its type is not a float.
pub fn f32_values(view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    tensors::f32_values(view.dtype(), view.data())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tensors_and_metadata_give_the_same_bytes_whatever_the_order_of_a_hash_map() {
        let entry = |name: &str| Entry { name: name.into(), dtype: Dtype::U8, shape: vec![3], bytes: vec![1, 2, 3] };
        let entries = [entry("a"), entry("b")];
        // A hash map of its own for each file, as each process has.
        let file = || {
            let metadata = (0..9).map(|i| (format!("key {i}"), format!("{i} \"é\" \u{7f}"))).collect();
            to_bytes(&entries, Some(metadata), "file").unwrap()
        };
        let first = file();
        assert!((0..8).all(|_| file() == first));
        let read = safetensors::SafeTensors::deserialize(&first).unwrap();
        assert_eq!(read.tensor("b").unwrap().data(), [1, 2, 3]);
        let (_, header) = safetensors::SafeTensors::read_metadata(&first).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["key 7"], "7 \"é\" \u{7f}");
    }
}
