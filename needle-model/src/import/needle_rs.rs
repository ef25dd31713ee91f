//! A `needle-rs` artifact, dequantized: each weight is `code * scale`, so that quantizing again
//! gives the same codes.
//!
//! The inverse of [`crate::export::needle_rs`], which documents the layout.

use std::path::Path;

use burn::tensor::backend::Backend;
use needle_data::{Tokenizer, file};
use safetensors::tensor::{Dtype, SafeTensors};

use super::manifest::Manifest;
use super::{Tensors, assemble};
use crate::checkpoint::tensor_file::f32_values;
use crate::error::ModelError;
use crate::export::needle_rs::{VOCAB, WEIGHTS, artifact_name};
use crate::params;
use crate::quant::int4::group_size;
use crate::san::San;
use needle_runtime::config::SanConfig;
use needle_runtime::file::artifact::Artifact;
use needle_runtime::file::source::Source;
use needle_runtime::file::tensors::TensorFile;

/// Reads the artifact in `dir`.
///
/// # Errors
/// If a file is missing, malformed or not the one that the artifact's manifest lists, or if the
/// tensors do not fit the sizes.
pub fn read<B: Backend>(dir: &Path, device: &B::Device) -> Result<(SanConfig, San<B>, Tokenizer), ModelError> {
    let (weights, vocab) = (dir.join(WEIGHTS), dir.join(VOCAB));
    let (bytes, text) = (file::read(&weights)?, file::read_text(&vocab)?);
    if let Some(manifest) = Manifest::load(dir)? {
        manifest.check(WEIGHTS, &bytes)?;
        manifest.check(VOCAB, text.as_bytes())?;
    }
    from_bytes(&bytes, &text, dir, device)
}

/// As [`read`], from the contents of the two files; `dir` is for messages.
///
/// # Errors
/// If they are malformed, or the tensors do not fit the sizes.
pub fn from_bytes<B: Backend>(
    bytes: &[u8],
    vocab: &str,
    dir: &Path,
    device: &B::Device,
) -> Result<(SanConfig, San<B>, Tokenizer), ModelError> {
    let path = dir.join(WEIGHTS);
    let bad = |reason: String| ModelError::bad_file(&path, reason);
    let file = SafeTensors::deserialize(bytes).map_err(|e| bad(format!("not a safetensors file: {e}")))?;
    let artifact = Artifact::new(TensorFile::from_bytes(&path, bytes.to_vec())?)?;
    let tokenizer = artifact.tokenizer(vocab, &dir.join(VOCAB))?;
    let config = artifact.config().clone();
    let mut tensors = Tensors::new();
    for info in params::list(&San::<B>::new(&config, 0, device)?) {
        let name = artifact_name(&info.name);
        let Ok(view) = file.tensor(&name) else { continue };
        let values = if info.is_attention_matrix() {
            let scales = file.tensor(&format!("{name}.scale")).map_err(|_| bad(format!("{name}.scale is missing")))?;
            let scales = f32_values(&scales).map_err(&bad)?;
            let [inputs, outputs] = [info.shape[0], info.shape[1]];
            let groups = inputs.div_ceil(group_size(inputs));
            let pairs = groups * group_size(inputs) / 2;
            if view.dtype() != Dtype::I8 || view.data().len() != pairs * outputs || scales.len() != groups * outputs {
                return Err(bad(format!(
                    "{name}: expected {pairs} x {outputs} pairs of codes and {groups} x {outputs} scales"
                )));
            }
            dequantize(view.data(), &scales, inputs, outputs)
        } else {
            f32_values(&view).map_err(|reason| bad(format!("{name}: {reason}")))?
        };
        if values.len() != info.shape.iter().product::<usize>() {
            return Err(bad(format!("{name} has {} values, expected shape {:?}", values.len(), info.shape)));
        }
        tensors.insert(info.name.clone(), (info.shape.clone(), values));
    }
    let model = assemble(&config, tensors, &path, device)?;
    Ok((config, model, tokenizer))
}

/// `[in, out]` from pairs of codes `[in / 2, out]`, low nibble first.
fn dequantize(pairs: &[u8], scales: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let group = group_size(inputs);
    let code = |row: usize, column: usize| {
        let byte = pairs[row / 2 * outputs + column];
        let nibble = if row.is_multiple_of(2) { byte & 0x0F } else { byte >> 4 };
        // Four bits of two's complement.
        f32::from((nibble << 4) as i8 >> 4)
    };
    let value = |i: usize| {
        let (row, column) = (i / outputs, i % outputs);
        code(row, column) * scales[row / group * outputs + column]
    };
    (0..inputs * outputs).map(value).collect()
}
