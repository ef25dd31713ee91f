//! INT4 safetensors and `vocab.txt`, as the third-party runtime `needle-infer` 0.3 reads them.
//!
//! The runtime's source is the specification. Q, K, V and O are called `wq`, `wk`, `wv` and `wo`.
//! They hold two codes per byte, input row `2p` in the low and `2p + 1` in the high nibble, as
//! `[pairs, out]`, padded to whole groups, with `.scale [groups, out]` in f16. The embedding is
//! bf16, everything else f32; scalars are written as `[1]`, since the runtime cannot parse `[]`.
//! The sizes are in `__metadata__`. Each line of `vocab.txt` is a piece, a tab and its merge score;
//! the line number is the id.

use std::collections::HashMap;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use half::{bf16, f16};
use needle_data::Tokenizer;
use needle_data::tokenizer::word_vectors::WordVectors;
use safetensors::tensor::Dtype;

use crate::checkpoint::tensor_file::{self, Entry};
use crate::error::ModelError;
use crate::params::{self, EMBEDDING, ParamInfo, ParamVisitor};
use crate::quant::int4::{Bits, group_size, quantize};
use crate::san::San;
use needle_runtime::config::SanConfig;

pub use needle_runtime::file::artifact::{VOCAB, WEIGHTS};
pub(crate) use needle_runtime::file::names::artifact_name;

/// The files of the artifact, as pairs of name and contents.
///
/// # Errors
/// If a piece of the tokenizer contains a line break or a tab, which `vocab.txt` cannot represent.
pub fn artifact<B: Backend>(
    model: &San<B>,
    config: &SanConfig,
    tokenizer: &Tokenizer,
) -> Result<Vec<(String, Vec<u8>)>, ModelError> {
    let mut entries = Entries(Vec::new());
    params::visit(model, &mut entries);
    // Only our own runtime reads these; see `needle_data::similarity`.
    let vectors = tokenizer.word_vectors().into_iter().flat_map(WordVectors::tensors);
    entries.0.extend(vectors.map(|(name, dtype, shape, bytes)| Entry { name: name.to_owned(), dtype, shape, bytes }));
    let weights = tensor_file::to_bytes(&entries.0, Some(metadata(config)), WEIGHTS)?;
    Ok(vec![(WEIGHTS.to_owned(), weights), (VOCAB.to_owned(), vocab(tokenizer)?.into_bytes())])
}

fn metadata(config: &SanConfig) -> HashMap<String, String> {
    [
        ("d_model", config.d_model.to_string()),
        ("num_heads", config.num_heads.to_string()),
        ("num_kv_heads", config.num_kv_heads.to_string()),
        ("num_encoder_layers", config.num_encoder_layers.to_string()),
        ("num_decoder_layers", config.num_decoder_layers.to_string()),
        ("vocab_size", config.vocab_size.to_string()),
        ("max_enc_len", config.max_enc_len.to_string()),
        ("max_dec_len", config.max_dec_len.to_string()),
        ("rope_theta", format!("{:?}", config.rope_theta)),
        ("no_feedforward", "True".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn vocab(tokenizer: &Tokenizer) -> Result<String, ModelError> {
    let mut text = String::new();
    for id in 0..tokenizer.vocab_size() as u32 {
        let piece = tokenizer.piece(id).unwrap_or_default();
        // The runtime cuts a line at its first tab.
        if piece.contains(['\n', '\r', '\t']) {
            let reason = format!(
                "the piece {piece:?} (id {id}) contains a tab or line break, which {VOCAB} cannot represent; train the tokenizer on text without it"
            );
            return Err(ModelError::bad_file(VOCAB, reason));
        }
        text.push_str(&format!("{piece}\t{}\n", tokenizer.score(id)));
    }
    Ok(text)
}

struct Entries(Vec<Entry>);

impl<B: Backend> ParamVisitor<B> for Entries {
    fn visit<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) {
        let name = artifact_name(&info.name);
        if info.is_attention_matrix() {
            let [inputs, outputs] = [info.shape[0], info.shape[1]];
            let quantized = quantize(tensor.reshape([inputs, outputs]), Bits::Int4).with_f16_scales();
            let [groups, _] = quantized.scales.dims();
            let codes: Vec<f32> = quantized.codes.into_data().iter::<f32>().collect();
            let pairs = groups * group_size(inputs) / 2;
            self.0.push(Entry {
                name: name.clone(),
                dtype: Dtype::I8,
                shape: vec![pairs, outputs],
                bytes: pack(&codes, pairs, outputs),
            });
            let scales = quantized.scales.into_data();
            let scales = scales.iter::<f32>().flat_map(|scale| f16::from_f32(scale).to_le_bytes()).collect();
            self.0.push(Entry {
                name: format!("{name}.scale"),
                dtype: Dtype::F16,
                shape: vec![groups, outputs],
                bytes: scales,
            });
            return;
        }
        let values = tensor.into_data();
        let (dtype, bytes) = if info.name == EMBEDDING {
            (Dtype::BF16, values.iter::<f32>().flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect())
        } else {
            (Dtype::F32, values.iter::<f32>().flat_map(f32::to_le_bytes).collect())
        };
        self.0.push(Entry { name, dtype, shape: info.shape, bytes });
    }
}

/// Packs two codes per byte, `[pairs, out]`; rows beyond the input are 0.
fn pack(codes: &[f32], pairs: usize, outputs: usize) -> Vec<u8> {
    let nibble = |row: usize, column: usize| codes.get(row * outputs + column).map_or(0, |&c| c as i8 as u8 & 0x0F);
    let mut bytes = Vec::with_capacity(pairs * outputs);
    for pair in 0..pairs {
        bytes.extend((0..outputs).map(|column| nibble(2 * pair, column) | nibble(2 * pair + 1, column) << 4));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn parameters_have_the_names_that_the_runtime_looks_for() {
        let config = SanConfig::preset("tiny").unwrap();
        let model = San::<Flex>::new(&config, 0, &Default::default()).unwrap();
        let names: Vec<String> = params::list(&model).iter().map(|p| artifact_name(&p.name)).collect();
        for name in [
            "embedding",
            "encoder.0.norm",
            "encoder.1.self_attn.wo",
            "encoder.0.self_attn.q_norm",
            "encoder.0.self_attn_gate",
            "decoder.0.self_attn_norm",
            "decoder.0.self_attn_gate",
            "decoder.1.cross_attn_norm",
            "decoder.1.cross_attn.wk",
            "decoder.1.cross_attn.k_norm",
            "decoder.1.cross_attn_gate",
            "decoder_final_norm",
        ] {
            assert!(names.iter().any(|n| n == name), "{name} is not among {names:#?}");
        }
    }

    #[test]
    fn two_codes_share_a_byte_low_nibble_first() {
        assert_eq!(pack(&[7.0, -8.0, -1.0, 1.0, 3.0, 2.0], 2, 2), [0xF7, 0x18, 0x03, 0x02]);
    }
}
