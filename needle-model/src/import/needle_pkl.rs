//! The original's `needle.pkl`:
//! `{"params": nested dictionaries of float16 arrays, "config": dictionary}`.
//!
//! Layers are stacked on a leading axis, kernels are `[in, out]` as in our memory
//! (needle/model/architecture.py, flax). The configuration holds only the keys that its writer set;
//! for the others, the original's defaults apply.

use std::path::Path;

use burn::tensor::backend::Backend;

use super::pickle::{self, Array, Leaves, Scalar};
use super::{Tensors, assemble, is_feed_forward};
use crate::error::ModelError;
use crate::params::{self, EMBEDDING};
use crate::san::San;
use needle_runtime::config::SanConfig;

/// Reads a model from the bytes of a `needle.pkl`; `path` is its name for messages.
///
/// # Errors
/// If the file is not such a pickle, its tensors are not those of its configuration, or it has
/// feed-forward layers.
pub fn read<B: Backend>(bytes: &[u8], path: &Path, device: &B::Device) -> Result<(SanConfig, San<B>), ModelError> {
    let bad = |reason: String| ModelError::bad_file(path, reason);
    let mut leaves = pickle::leaves(bytes).map_err(bad)?;
    let config = config(&leaves).map_err(bad)?;
    config.validate().map_err(|e| bad(e.to_string()))?;
    // Before allocating memory, reject sizes that need far more values than the file holds.
    let held: usize = leaves.arrays.values().map(|array| array.values.len()).sum();
    if config.num_params_with_head() > 2 * held + 1024 {
        return Err(bad(format!(
            "the configuration needs {} parameters, but the file holds only {held} values",
            config.num_params_with_head()
        )));
    }
    let model = San::<B>::new(&config, 0, device)?;
    let mut tensors = Tensors::new();
    let mut used = std::collections::HashSet::new();
    for info in params::list(&model) {
        let (name, layer) = original_name(&info.name);
        let Some(array) = leaves.arrays.get(&format!("params/{name}")) else { continue };
        used.insert(format!("params/{name}"));
        tensors.insert(info.name.clone(), slice(array, layer, &info.shape).map_err(|r| bad(format!("{name}: {r}")))?);
    }
    leaves.arrays.retain(|name, _| name.starts_with("params/") && !used.contains(name));
    if let Some(name) = leaves.arrays.keys().find(|name| is_feed_forward(name)) {
        return Err(bad(format!("{name}: it has feed-forward layers; a Simple Attention Network has none")));
    }
    for (name, array) in leaves.arrays {
        tensors.insert(name, (array.shape, array.values));
    }
    Ok((config.clone(), assemble(&config, tensors, path, device)?))
}

fn config(leaves: &Leaves) -> Result<SanConfig, String> {
    let of = |key: &str| leaves.scalars.get(&format!("config/{key}"));
    let number = |key: &str, default: usize| match of(key) {
        None | Some(Scalar::None) => Ok(default),
        Some(Scalar::Int(value)) => usize::try_from(*value).map_err(|_| format!("config/{key} is {value}")),
        Some(other) => Err(format!("config/{key} is {other:?}, expected a whole number")),
    };
    if of("no_feedforward") == Some(&Scalar::Bool(false)) {
        return Err(
            "config/no_feedforward is False: it has feed-forward layers; a Simple Attention Network has none".into()
        );
    }
    if leaves.arrays.is_empty() {
        return Err("no arrays under params".into());
    }
    let published = SanConfig::preset("needle-26m").map_err(|e| e.to_string())?;
    let rope_theta = match of("rope_theta") {
        None | Some(Scalar::None) => published.rope_theta,
        Some(Scalar::Float(value)) => *value as f32,
        Some(Scalar::Int(value)) => *value as f32,
        Some(other) => return Err(format!("config/rope_theta is {other:?}, expected a number")),
    };
    let has_head = leaves.arrays.contains_key("params/contrastive_proj/kernel");
    let contrastive_dim = number("contrastive_dim", 128)?;
    Ok(SanConfig {
        vocab_size: number("vocab_size", published.vocab_size)?,
        d_model: number("d_model", published.d_model)?,
        num_heads: number("num_heads", published.num_heads)?,
        num_kv_heads: number("num_kv_heads", published.num_kv_heads)?,
        num_encoder_layers: number("num_encoder_layers", published.num_encoder_layers)?,
        num_decoder_layers: number("num_decoder_layers", published.num_decoder_layers)?,
        rope_theta,
        contrastive_dim: has_head.then_some(contrastive_dim),
        ..published
    })
}

/// One layer of a stacked array, or the whole array if `layer` is `None`; a scalar gets the shape
/// `[1]`.
fn slice(array: &Array, layer: Option<usize>, shape: &[usize]) -> Result<(Vec<usize>, Vec<f32>), String> {
    let Some(layer) = layer else {
        let own = if array.shape.is_empty() { vec![1] } else { array.shape.clone() };
        return Ok((own, array.values.clone()));
    };
    let Some((layers, rest)) = array.shape.split_first().filter(|(layers, _)| layer < **layers) else {
        return Err(format!("an array of shape {:?} has no layer {layer}", array.shape));
    };
    let size = array.values.len() / layers;
    let own = if rest.is_empty() { vec![1] } else { rest.to_vec() };
    // A gate may be [layers] or [layers, 1].
    let own = if own.iter().product::<usize>() == 1 && shape == [1] { vec![1] } else { own };
    Ok((own, array.values[layer * size..(layer + 1) * size].to_vec()))
}

/// Where the original keeps a parameter of ours: the path in its tree, and the layer in a stacked
/// array.
pub fn original_name(name: &str) -> (String, Option<usize>) {
    let fixed = match name {
        EMBEDDING => "embedding/embedding",
        "model.encoder.final_norm.weight" => "encoder/final_norm/scale",
        "model.decoder.norm.weight" => "decoder/ZCRMSNorm_0/scale",
        "retrieval_head.hidden.weight" => "contrastive_hidden/kernel",
        "retrieval_head.hidden.bias" => "contrastive_hidden/bias",
        "retrieval_head.proj.weight" => "contrastive_proj/kernel",
        "retrieval_head.log_temp" => "log_temp",
        _ => {
            let rest = name.strip_prefix("model.").unwrap_or(name);
            let (side, rest) = rest.split_once(".layers.").unwrap_or((rest, ""));
            let (layer, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let block = if side == "encoder" { "EncoderBlock_0" } else { "DecoderBlock_0" };
            let rest = rest
                .replace("encoder_attn_layer_norm.weight", "ZCRMSNorm_1/scale")
                .replace("input_layernorm.weight", "ZCRMSNorm_0/scale")
                .replace("encoder_attn.", "cross_attn.")
                .replace("_norm.weight", "_norm/scale")
                .replace("_proj.weight", "_proj/kernel")
                .replace('.', "/");
            return (format!("{side}/layers/{block}/{rest}"), layer.parse().ok());
        }
    };
    (fixed.to_owned(), None)
}
