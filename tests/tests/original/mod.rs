//! The original's forward pass where it differs from ours. In the original, padding queries, for
//! which all keys are masked, attend to all keys equally, and the z-loss counts them. Ours give 0
//! and are not counted.

use burn::tensor::activation::sigmoid;
use burn::tensor::{Int, Tensor};
use needle_model::attention::{Attention, Rotation};
use needle_model::rope::Rope;
use needle_model::{AttentionMask, FusedOps, San};
use needle_train::training::loss::{DeviceBatch, TextLoss, output_loss};

use needle_tests::golden_config;

/// Cross-entropy and z-loss of the golden model for packed rows, as in the original.
pub fn text_loss<B: FusedOps>(model: &San<B>, batch: DeviceBatch<B>, z_coefficient: f64) -> TextLoss<B> {
    let rope = Rope::new(&golden_config(), &model.device());
    let rotation = Some((&rope, 0));
    let (enc_mask, masks) = batch.masks();
    let (enc_segments, dec_segments) = (batch.enc_segments.clone(), batch.dec_segments.clone());
    let mut x = model.embed(batch.enc_ids.clone()); // [rows, enc_len, d_model]
    for layer in &model.encoder.layers {
        let normed = layer.input_layernorm.forward(x.clone());
        let inputs = [normed.clone(), normed];
        let attended = attend(&layer.self_attn, inputs, rotation, enc_mask.clone(), enc_segments.clone());
        x = x + attended * open(layer.attn_gate.val());
    }
    let memory = model.encoder.final_norm.forward(x);
    let mut x = model.embed(batch.dec_input.clone()); // [rows, dec_len, d_model]
    for layer in &model.decoder.layers {
        let normed = layer.input_layernorm.forward(x.clone());
        let inputs = [normed.clone(), normed];
        let mask = masks.self_attn.clone();
        let attended = attend(&layer.self_attn, inputs, rotation, mask, dec_segments.clone());
        x = x + attended * open(layer.self_attn_gate.val());
        let inputs = [layer.encoder_attn_layer_norm.forward(x.clone()), memory.clone()];
        let mask = masks.cross_attn.clone();
        let attended = attend(&layer.encoder_attn, inputs, None, mask, dec_segments.clone());
        x = x + attended * open(layer.cross_attn_gate.val());
    }
    output_loss(model, model.decoder.norm.forward(x), batch, z_coefficient)
}

/// The value of a gate after its sigmoid, as a factor for `[rows, seq, d_model]`.
fn open<B: FusedOps>(gate: Tensor<B, 1>) -> Tensor<B, 3> {
    sigmoid(gate).reshape([1, 1, 1])
}

/// Our attention from `queries` to `keys`, each `[rows, seq, d_model]`, but with the mean of all
/// values for queries of segment 0.
fn attend<B: FusedOps>(
    attention: &Attention<B>,
    [queries, keys]: [Tensor<B, 3>; 2],
    rotation: Rotation<'_, B>,
    mask: AttentionMask<B>,
    segments: Tensor<B, 2, Int>,
) -> Tensor<B, 3> {
    let queries = attention.queries(queries, rotation);
    let keys_values = attention.keys_values(keys, rotation);
    let [rows, q_len, heads, head_dim] = queries.dims();
    let kv_heads = keys_values.v.dims()[2];
    let mean = keys_values.v.clone().mean_dim(1); // [rows, 1, kv_heads, head_dim]
    let mean = mean
        .reshape([rows, 1, kv_heads, 1, head_dim])
        .expand([rows, q_len, kv_heads, heads / kv_heads, head_dim])
        .reshape([rows, q_len, heads * head_dim]);
    let is_blind = segments.equal_elem(0).float().unsqueeze_dim::<3>(2); // [rows, q_len, 1]
    let blind = (mean * is_blind).reshape([rows * q_len, heads * head_dim]);
    let blind = blind.matmul(attention.out_proj.weight.val()); // [rows * q_len, d_model]
    let attended = attention.attend(queries, keys_values, mask);
    let shape = attended.dims();
    attended + blind.reshape(shape)
}
