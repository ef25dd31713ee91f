//! The weights of an ONNX artifact of ours, dequantized, to compare with the exported model.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::backend::Backend;
use needle_data::file;

use super::{Tensors, assemble};
use crate::error::ModelError;
use crate::export::onnx::{DECODER, ENCODER, RETRIEVAL, WEIGHTS, weights_of};
use crate::params::{self, EMBEDDING};
use crate::quant::int4::GROUP_SIZE;
use crate::san::San;
use needle_runtime::config::SanConfig;

/// Reads the artifact in `dir`, of a model of `config`. The temperature is not in the artifact,
/// since only training needs it; `log_temp` supplies it.
///
/// # Errors
/// If a file is missing or malformed, or its constants are not those of the model.
pub fn read<B: Backend>(
    dir: &Path,
    config: &SanConfig,
    log_temp: f32,
    device: &B::Device,
) -> Result<San<B>, ModelError> {
    let read = |name: &str| file::read(&dir.join(name));
    let weights = read(WEIGHTS)?;
    let mut constants: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for name in [ENCODER, DECODER, RETRIEVAL] {
        if name == RETRIEVAL && config.contrastive_dim.is_none() {
            continue;
        }
        let in_file = |e: ModelError| ModelError::bad_file(dir.join(name), e.to_string());
        let found = weights_of(&read(name)?, &weights).map_err(in_file)?;
        constants.extend(found.into_iter().map(|constant| (constant.name, constant.bytes)));
    }
    let bad = |reason: String| ModelError::bad_file(dir, reason);
    let bytes_of = |name: &str| constants.get(name).ok_or_else(|| bad(format!("the graphs have no {name}")));
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let mut tensors = Tensors::new();
    for info in params::list(&San::<B>::new(config, 0, device)?) {
        let is_int4 = info.is_attention_matrix() || info.name == EMBEDDING;
        let values = if info.name == "retrieval_head.log_temp" {
            vec![log_temp]
        } else if is_int4 {
            let stored = if info.name == EMBEDDING { format!("{EMBEDDING}.rows") } else { info.name.clone() };
            let codes = bytes_of(&stored)?;
            let scales = if info.name == EMBEDDING {
                format!("{EMBEDDING}.scales.rows")
            } else {
                format!("{}.scales", info.name)
            };
            let scales = bytes_of(&scales)?;
            let scales: Vec<f32> =
                scales.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
            // [out, in], and the embedding [vocab, d_model] as it is.
            let inputs = if info.name == EMBEDDING { info.shape[1] } else { info.shape[0] };
            let outputs = if info.name == EMBEDDING { info.shape[0] } else { info.shape[1] };
            if codes.len() * 2 != inputs * outputs || scales.len() * GROUP_SIZE != inputs * outputs {
                return Err(bad(format!(
                    "{} has {} bytes of codes and {} scales",
                    info.name,
                    codes.len(),
                    scales.len()
                )));
            }
            let value = |i: usize| {
                let nibble = if i.is_multiple_of(2) { codes[i / 2] & 0x0F } else { codes[i / 2] >> 4 };
                (f32::from(nibble) - 8.0) * scales[i / GROUP_SIZE]
            };
            if info.name == EMBEDDING {
                (0..inputs * outputs).map(value).collect()
            } else {
                (0..inputs * outputs).map(|i| value(i % outputs * inputs + i / outputs)).collect()
            }
        } else {
            floats(bytes_of(&info.name)?)
        };
        tensors.insert(info.name.clone(), (info.shape.clone(), values));
    }
    assemble(config, tensors, dir, device)
}
