//! Golden test vectors for authors of other runtimes: what this model computes for given token ids.

use std::path::Path;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use needle_data::file;
use safetensors::tensor::{Dtype, SafeTensors};

use crate::checkpoint::tensor_file::{self, Entry};
use crate::decoder::DecoderMasks;
use crate::dropout::Dropout;
use crate::error::ModelError;
use crate::mask::AttentionMask;
use crate::ops::FusedOps;
use crate::san::San;

/// Token ids that the model reads, each `[batch, len]`.
pub struct Inputs<B: Backend> {
    /// Encoder ids.
    pub src: Tensor<B, 2, Int>,
    /// Decoder input ids.
    pub tgt: Tensor<B, 2, Int>,
    /// Encoder and decoder segments of packed rows; without them, id 0 is padding. The decoder's
    /// self-attention is causal in both cases.
    pub segments: Option<(Tensor<B, 2, Int>, Tensor<B, 2, Int>)>,
}

/// The model's outputs.
pub struct Outputs<B: Backend> {
    /// `[batch, enc_len, d_model]`.
    pub encoder_out: Tensor<B, 3>,
    /// `[batch, dec_len, vocab]`.
    pub logits: Tensor<B, 3>,
    /// Retrieval embedding of `src`, `[batch, contrastive_dim]`; `None` without the retrieval head.
    pub embedding: Option<Tensor<B, 2>>,
}

/// Runs the model on `inputs`.
pub fn compute<B: FusedOps>(model: &San<B>, inputs: Inputs<B>) -> Outputs<B> {
    let none = &mut Dropout::none();
    let Inputs { src, tgt, segments } = inputs;
    let (enc_mask, masks) = match segments {
        Some((enc, dec)) => (
            AttentionMask::packed(enc.clone(), enc.clone()),
            DecoderMasks {
                self_attn: AttentionMask::packed(dec.clone(), dec.clone()).causal(),
                cross_attn: AttentionMask::packed(dec, enc),
            },
        ),
        None => {
            let padding = AttentionMask::padding(src.clone());
            (
                padding.clone(),
                DecoderMasks { self_attn: AttentionMask::padding(tgt.clone()).causal(), cross_attn: padding },
            )
        }
    };
    let encoder_out = model.encode(src.clone(), &enc_mask, none);
    let hidden = model.decode(tgt, &mut model.decoder.cache(&encoder_out), &masks, none);
    Outputs { logits: model.logits(hidden), embedding: model.retrieval_embedding(src, none), encoder_out }
}

/// Reads `src`, `tgt` and, optionally, `enc_segments` and `dec_segments` from a safetensors file of
/// int32 or int64 tensors.
///
/// # Errors
/// If the file is malformed, a tensor is missing or has the wrong shape, or an id is outside the
/// vocabulary.
pub fn read_inputs<B: Backend>(path: &Path, vocab_size: usize, device: &B::Device) -> Result<Inputs<B>, ModelError> {
    let bytes = file::read(path)?;
    let bad = |reason: String| ModelError::bad_file(path, reason);
    let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(format!("not a safetensors file: {e}")))?;
    let read = |name: &str| -> Result<(Vec<i64>, [usize; 2]), ModelError> {
        let view = file.tensor(name).map_err(|e| bad(format!("{name}: {e}")))?;
        let shape: [usize; 2] = view
            .shape()
            .try_into()
            .map_err(|_| bad(format!("{name} has shape {:?}, expected [batch, len]", view.shape())))?;
        let ids: Vec<i64> = match view.dtype() {
            Dtype::I32 => {
                view.data().chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect()
            }
            Dtype::I64 => {
                view.data().chunks_exact(8).map(|b| i64::from_le_bytes(std::array::from_fn(|i| b[i]))).collect()
            }
            other => return Err(bad(format!("{name} is {other:?}, expected I32 or I64"))),
        };
        Ok((ids, shape))
    };
    let tensor = |(ids, shape): (Vec<i64>, [usize; 2])| {
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        Tensor::from_data(TensorData::new(ids, shape), device)
    };
    let (src, tgt) = (read("src")?, read("tgt")?);
    for (name, (ids, shape)) in [("src", &src), ("tgt", &tgt)] {
        if let Some(id) = ids.iter().find(|&&id| id < 0 || id >= vocab_size as i64) {
            return Err(bad(format!("{name} contains id {id}, but the vocabulary ends at {}", vocab_size - 1)));
        }
        if shape[0] != src.1[0] || shape.contains(&0) {
            return Err(bad(format!("{name} has shape {shape:?}, src has {:?}", src.1)));
        }
    }
    let segments = match (file.tensor("enc_segments").is_ok(), file.tensor("dec_segments").is_ok()) {
        (false, false) => None,
        (true, true) => {
            let (enc, dec) = (read("enc_segments")?, read("dec_segments")?);
            if enc.1 != src.1 || dec.1 != tgt.1 {
                return Err(bad("segments must have the shapes of src and tgt".into()));
            }
            Some((tensor(enc), tensor(dec)))
        }
        _ => return Err(bad("expected both enc_segments and dec_segments, or neither".into())),
    };
    Ok(Inputs { src: tensor(src), tgt: tensor(tgt), segments })
}

/// Writes `encoder_out`, `logits` and `embedding` as an f32 safetensors file.
///
/// # Errors
/// If the file cannot be written.
pub fn write_outputs<B: Backend>(path: &Path, outputs: Outputs<B>) -> Result<(), ModelError> {
    let mut entries = vec![Entry::f32("encoder_out", outputs.encoder_out), Entry::f32("logits", outputs.logits)];
    entries.extend(outputs.embedding.map(|embedding| Entry::f32("embedding", embedding)));
    let bytes = tensor_file::to_bytes(&entries, None, &path.to_string_lossy())?;
    needle_data::file::write_atomically(path, &bytes)?;
    Ok(())
}
