//! The decoder: causal self-attention, then cross-attention over the encoder's output, each with
//! its own norm and gate.
//!
//! Training and generation share one forward pass: a [`DecoderCache`] keeps the self-attention's
//! keys and values of earlier tokens, and those of the cross-attention, which are computed once.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::attention::{Attention, KeyValue, gated_residual};
use crate::dropout::Dropout;
use crate::mask::AttentionMask;
use crate::norm::ZcRmsNorm;
use crate::ops::FusedOps;
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

impl<B: FusedOps> DecoderLayer<B> {
    /// Runs this layer alone on whole rows: `x [batch, dec_len, d_model]`,
    /// `memory [batch, enc_len, d_model]` -> `[batch, dec_len, d_model]`.
    pub fn forward_alone(
        &self,
        x: Tensor<B, 3>,
        memory: Tensor<B, 3>,
        rope: &Rope<B>,
        masks: &DecoderMasks<B>,
        dropout: &mut Dropout,
    ) -> Tensor<B, 3> {
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
    ) -> Tensor<B, 3> {
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
        let attended = self.encoder_attn.attend(queries, cache.cross_attn.clone(), masks.cross_attn.clone());
        gated_residual(x, dropout.forward(attended), self.cross_attn_gate.val())
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
    /// `[batch, dec_len, d_model]`.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        cache: &mut DecoderCache<B>,
        rope: &Rope<B>,
        masks: &DecoderMasks<B>,
        dropout: &mut Dropout,
    ) -> Tensor<B, 3> {
        let [_, dec_len, _] = x.dims();
        let offset = cache.len;
        let mut x = x;
        for (layer, cache) in self.layers.iter().zip(&mut cache.layers) {
            x = layer.forward(x, cache, (rope, offset), masks, dropout);
        }
        cache.len += dec_len;
        self.norm.forward(x)
    }
}
