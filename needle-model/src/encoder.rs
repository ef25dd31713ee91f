//! The encoder: layers of gated self-attention and a final norm.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::attention::{Attention, gated_residual};
use crate::dropout::Dropout;
use crate::mask::AttentionMask;
use crate::norm::ZcRmsNorm;
use crate::ops::FusedOps;
use crate::rope::Rope;

/// `x + sigmoid(gate) * dropout(self_attn(norm(x)))`.
#[derive(Module, Debug)]
pub struct EncoderLayer<B: Backend> {
    /// Norm before the attention.
    pub input_layernorm: ZcRmsNorm<B>,
    /// The self-attention.
    pub self_attn: Attention<B>,
    /// The gate before its sigmoid, `[1]`; initially 0, so that half of the branch is added.
    pub attn_gate: Param<Tensor<B, 1>>,
}

impl<B: FusedOps> EncoderLayer<B> {
    /// `[batch, enc_len, d_model] -> [batch, enc_len, d_model]`.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        rope: &Rope<B>,
        mask: &AttentionMask<B>,
        dropout: &mut Dropout,
    ) -> Tensor<B, 3> {
        let normed = self.input_layernorm.forward(x.clone());
        let queries = self.self_attn.queries(normed.clone(), Some((rope, 0)));
        let keys_values = self.self_attn.keys_values(normed, Some((rope, 0)));
        let attended = self.self_attn.attend(queries, keys_values, mask.clone());
        gated_residual(x, dropout.forward(attended), self.attn_gate.val())
    }
}

/// All layers and the final norm.
#[derive(Module, Debug)]
pub struct Encoder<B: Backend> {
    /// The layers, first to last.
    pub layers: Vec<EncoderLayer<B>>,
    /// Norm after the last layer.
    pub final_norm: ZcRmsNorm<B>,
}

impl<B: FusedOps> Encoder<B> {
    /// `[batch, enc_len, d_model] -> [batch, enc_len, d_model]`.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        rope: &Rope<B>,
        mask: &AttentionMask<B>,
        dropout: &mut Dropout,
    ) -> Tensor<B, 3> {
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(x, rope, mask, dropout));
        self.final_norm.forward(x)
    }
}
