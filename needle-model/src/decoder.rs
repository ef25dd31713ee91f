//! The decoder: causal self-attention, then cross-attention over the encoder's output, each with
//! its own norm and gate.
//!
//! Training and generation share one forward pass: a [`DecoderCache`] keeps the self-attention's
//! keys and values of earlier tokens, and those of the cross-attention, which are computed once.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{FloatDType, Int, Tensor};

use crate::attention::{Attention, KeyValue, gated_residual};
use crate::dropout::Dropout;
use crate::mask::AttentionMask;
use crate::norm::ZcRmsNorm;
use crate::ops::{FusedOps, float, primitive};
use crate::rope::Rope;

/// One layer: self-attention, then cross-attention.
#[derive(Module, Debug)]
pub struct DecoderLayer<B: Backend> {
    /// Norm before the self-attention.
    pub input_layernorm: ZcRmsNorm<B>,
    /// The self-attention.
    pub self_attn: Attention<B>,
    /// Its gate before the sigmoid, `[1]`.
    pub self_attn_gate: Param<Tensor<B, 1>>,
    /// Norm before the cross-attention. It applies to the queries only: the encoder's output has
    /// its own final norm.
    pub encoder_attn_layer_norm: ZcRmsNorm<B>,
    /// The cross-attention, without rotary embedding.
    pub encoder_attn: Attention<B>,
    /// Its gate before the sigmoid, `[1]`.
    pub cross_attn_gate: Param<Tensor<B, 1>>,
}

/// Keys and values of one layer.
#[derive(Debug, Clone)]
pub struct LayerCache<B: Backend> {
    /// Those of the tokens decoded so far; `None` before the first.
    self_attn: Option<KeyValue<B>>,
    /// Those of the encoder's output.
    cross_attn: KeyValue<B>,
}

/// Keys and values of all layers.
#[derive(Debug, Clone)]
pub struct DecoderCache<B: Backend> {
    layers: Vec<LayerCache<B>>,
    len: usize,
}

impl<B: Backend> DecoderCache<B> {
    /// Number of tokens decoded so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Masks of the decoder's two attentions.
#[derive(Debug, Clone)]
pub struct DecoderMasks<B: Backend> {
    /// The mask among the decoder's tokens.
    pub self_attn: AttentionMask<B>,
    /// The mask from the decoder's tokens to the encoder's.
    pub cross_attn: AttentionMask<B>,
}

/// Queries and keys of a layer's cross-attention, from which its weights follow.
#[derive(Debug, Clone)]
pub struct CrossAttention<B: Backend> {
    /// `[batch, dec_len, heads, head_dim]`.
    queries: Tensor<B, 4>,
    /// `[batch, enc_len, kv_heads, head_dim]`.
    keys: Tensor<B, 4>,
}

impl<B: FusedOps> CrossAttention<B> {
    /// Logarithm of the weight that position `origins[b, i]` of the encoder has for token `i` of
    /// the decoder, as the mean over the heads, in f32: `[batch, dec_len]`. It is undefined, but
    /// finite, where `mask` hides the origin from the token.
    pub fn log_weight_of(&self, origins: Tensor<B, 2, Int>, mask: AttentionMask<B>) -> Tensor<B, 2> {
        let [queries, keys] = [&self.queries, &self.keys].map(|x| primitive(x.clone().cast(FloatDType::F32)));
        float(B::attention_log_weight(queries, keys, origins.into_primitive(), mask.into_primitive()))
    }
}

impl<B: FusedOps> DecoderLayer<B> {
    /// Runs this layer alone on whole rows: `x [batch, dec_len, d_model]`,
    /// `memory [batch, enc_len, d_model]` -> `[batch, dec_len, d_model]`, and its cross-attention.
    pub fn forward_alone(
        &self,
        x: Tensor<B, 3>,
        memory: Tensor<B, 3>,
        rope: &Rope<B>,
        masks: &DecoderMasks<B>,
        dropout: &mut Dropout,
    ) -> (Tensor<B, 3>, CrossAttention<B>) {
        let mut cache = LayerCache { self_attn: None, cross_attn: self.encoder_attn.keys_values(memory, None) };
        self.forward(x, &mut cache, (rope, 0), masks, dropout)
    }

    fn forward(
        &self,
        x: Tensor<B, 3>,
        cache: &mut LayerCache<B>,
        (rope, offset): (&Rope<B>, usize),
        masks: &DecoderMasks<B>,
        dropout: &mut Dropout,
    ) -> (Tensor<B, 3>, CrossAttention<B>) {
        let normed = self.input_layernorm.forward(x.clone());
        let queries = self.self_attn.queries(normed.clone(), Some((rope, offset)));
        let new = self.self_attn.keys_values(normed, Some((rope, offset)));
        let all = match cache.self_attn.take() {
            Some(earlier) => earlier.followed_by(new),
            None => new,
        };
        cache.self_attn = Some(all.clone());
        let attended = self.self_attn.attend(queries, all, masks.self_attn.clone());
        let x = gated_residual(x, dropout.forward(attended), self.self_attn_gate.val());

        let queries = self.encoder_attn.queries(self.encoder_attn_layer_norm.forward(x.clone()), None);
        let cross_attention = CrossAttention { queries: queries.clone(), keys: cache.cross_attn.k.clone() };
        let attended = self.encoder_attn.attend(queries, cache.cross_attn.clone(), masks.cross_attn.clone());
        (gated_residual(x, dropout.forward(attended), self.cross_attn_gate.val()), cross_attention)
    }
}

/// All layers and the final norm.
#[derive(Module, Debug)]
pub struct Decoder<B: Backend> {
    /// The layers, first to last.
    pub layers: Vec<DecoderLayer<B>>,
    /// Norm after the last layer.
    pub norm: ZcRmsNorm<B>,
}

impl<B: FusedOps> Decoder<B> {
    /// An empty cache over `memory [batch, enc_len, d_model]`, the encoder's output.
    pub fn cache(&self, memory: &Tensor<B, 3>) -> DecoderCache<B> {
        let layer = |layer: &DecoderLayer<B>| LayerCache {
            self_attn: None,
            cross_attn: layer.encoder_attn.keys_values(memory.clone(), None),
        };
        DecoderCache { layers: self.layers.iter().map(layer).collect(), len: 0 }
    }

    /// Decodes the tokens `x [batch, dec_len, d_model]` that follow those in `cache` ->
    /// `[batch, dec_len, d_model]`, and the last layer's cross-attention; `None` without
    /// layers.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        cache: &mut DecoderCache<B>,
        rope: &Rope<B>,
        masks: &DecoderMasks<B>,
        dropout: &mut Dropout,
    ) -> (Tensor<B, 3>, Option<CrossAttention<B>>) {
        let [_, dec_len, _] = x.dims();
        let offset = cache.len;
        let (mut x, mut last) = (x, None);
        for (layer, cache) in self.layers.iter().zip(&mut cache.layers) {
            let (next, cross_attention) = layer.forward(x, cache, (rope, offset), masks, dropout);
            (x, last) = (next, Some(cross_attention));
        }
        cache.len += dec_len;
        (self.norm.forward(x), last)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use burn_flex::Flex;

    use super::*;

    #[test]
    fn the_weight_of_an_origin_is_the_mean_over_the_heads_among_visible_tokens() {
        let device = Default::default();
        // Two heads of width 1 that share a key head; the encoder's third token belongs to another
        // example, as does the decoder's second, which is padding.
        let floats = |values: &[f32], shape: [usize; 4]| {
            Tensor::<Flex, 4>::from_data(TensorData::new(values.to_vec(), shape), &device)
        };
        let ids = |values: &[i32]| {
            Tensor::<Flex, 2, Int>::from_data(TensorData::new(values.to_vec(), [1, values.len()]), &device)
        };
        let attention = CrossAttention {
            queries: floats(&[2.0, -1.0, 5.0, 5.0], [1, 2, 2, 1]),
            keys: floats(&[1.0, 3.0, 9.0], [1, 3, 1, 1]),
        };
        for (origin, own, other) in [(0, 1.0_f64, 3.0_f64), (1, 3.0, 1.0)] {
            let mask = AttentionMask::packed(ids(&[1, 0]), ids(&[1, 1, 2]));
            let found: Vec<f64> = attention.log_weight_of(ids(&[origin, 0]), mask).into_data().iter::<f64>().collect();
            let weight = |query: f64| (query * own).exp() / ((query * own).exp() + (query * other).exp());
            let expected = f64::midpoint(weight(2.0), weight(-1.0)).ln();
            assert!((found[0] - expected).abs() < 1e-5, "{found:?} {expected}");
            assert!(found[1].is_finite(), "{found:?}");
        }
    }
}
