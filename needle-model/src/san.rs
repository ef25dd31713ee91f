//! The model: an encoder, a decoder and a retrieval head, with one embedding shared by encoder,
//! decoder and output.

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, FloatDType, Int, Tensor, TensorData};
use needle_data::random::{Purpose, rng};
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};

use crate::attention::Attention;
use crate::decoder::{CrossAttention, Decoder, DecoderCache, DecoderLayer, DecoderMasks};
use crate::dropout::Dropout;
use crate::encoder::{Encoder, EncoderLayer};
use crate::error::ModelError;
use crate::mask::AttentionMask;
use crate::norm::ZcRmsNorm;
use crate::ops::{FusedOps, float, primitive};
use crate::retrieval::RetrievalHead;
use crate::rope::Rope;
use needle_runtime::config::SanConfig;

/// A Simple Attention Network. The fields' names are those of the published Hugging Face layout.
#[derive(Module, Debug)]
pub struct San<B: Backend> {
    /// `[vocab, d_model]`; tied to the output.
    pub embed_tokens: Embedding<B>,
    /// Reads query and tools.
    pub encoder: Encoder<B>,
    /// Writes the calls.
    pub decoder: Decoder<B>,
    /// Ranks tools; `None` if `contrastive_dim` is.
    pub retrieval_head: Option<RetrievalHead<B>>,
    rope: Rope<B>,
}

/// Draws every initial weight from one random stream.
struct Init<'a, B: Backend> {
    rng: ChaCha8Rng,
    device: &'a B::Device,
}

impl<B: Backend> Init<'_, B> {
    fn normal<const D: usize>(&mut self, shape: [usize; D], std: f32) -> Param<Tensor<B, D>> {
        #[expect(clippy::expect_used, reason = "the standard deviation is finite by construction")]
        let normal = Normal::new(0.0, std).expect("finite");
        self.draw(shape, &normal)
    }

    fn draw<const D: usize>(&mut self, shape: [usize; D], from: &impl Distribution<f32>) -> Param<Tensor<B, D>> {
        let values: Vec<f32> = from.sample_iter(&mut self.rng).take(shape.iter().product()).collect();
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), self.device))
    }

    fn zero(&self) -> Param<Tensor<B, 1>> {
        Param::from_tensor(Tensor::zeros([1], self.device))
    }

    fn attention(&mut self, config: &SanConfig) -> Attention<B> {
        let (d, kv_width) = (config.d_model, config.num_kv_heads * config.head_dim());
        let depth = config.num_encoder_layers + config.num_decoder_layers;
        let mut linear = |shape, std| Linear { weight: self.normal(shape, std), bias: None };
        let [q_proj, k_proj, v_proj] = [d, kv_width, kv_width].map(|out| linear([d, out], STD));
        let out_proj = linear([d, d], STD / ((2 * depth) as f32).sqrt());
        // The gains of query and key multiply each other.
        let gain = (SHARPNESS / (config.head_dim() as f64).sqrt()).sqrt();
        let norm = || ZcRmsNorm::with_gain(gain, config.head_dim(), config.rms_norm_eps, self.device);
        Attention { q_proj, k_proj, v_proj, out_proj, q_norm: norm(), k_norm: norm() }
    }
}

/// Initial standard deviation of embedding, Q, K and V.
const STD: f32 = 0.02;
/// Largest logit of an attention head at initialization: that of a query and an identical key. The
/// original's is sqrt(head_dim), 8 for heads of 64. With that, a head that looks for one token
/// among hundreds attends to all of them; in our runs, the encoder's gates then closed and tools
/// were chosen by chance (docs/LOG.md, "Sharp attention").
const SHARPNESS: f64 = 18.0;
/// Initial temperature of the contrastive loss, as in CLIP. Starting from 1, AdamW needs thousands
/// of steps to reach it.
const TEMPERATURE: f64 = 0.07;

impl<B: Backend> San<B> {
    /// A new model. Equal seeds give equal weights on every device.
    ///
    /// | weight | drawn from |
    /// | --- | --- |
    /// | embedding, Q, K, V | N(0, 0.02) |
    /// | O | N(0, 0.02 / sqrt(2 * (encoder + decoder layers))) |
    /// | gains of the query and key norms | such that a query and an identical key have the logit 18 |
    /// | other norm gains, gates, the head's bias | 0 |
    /// | log_temp | ln 0.07 |
    /// | the head's matrices | U(-1/sqrt(in), 1/sqrt(in)), as PyTorch's Linear |
    ///
    /// # Errors
    /// If the sizes do not fit together.
    pub fn new(config: &SanConfig, seed: u64, device: &B::Device) -> Result<Self, ModelError> {
        config.validate()?;
        let mut init = Init::<B> { rng: rng(seed, Purpose::InitialWeights, &[]), device };
        let d = config.d_model;
        let norm = || ZcRmsNorm::new(d, config.rms_norm_eps, device);
        let embed_tokens = Embedding { weight: init.normal([config.vocab_size, d], STD) };
        let encoder_layers = (0..config.num_encoder_layers)
            .map(|_| EncoderLayer {
                input_layernorm: norm(),
                self_attn: init.attention(config),
                attn_gate: init.zero(),
            })
            .collect();
        let decoder_layers = (0..config.num_decoder_layers)
            .map(|_| DecoderLayer {
                input_layernorm: norm(),
                self_attn: init.attention(config),
                self_attn_gate: init.zero(),
                encoder_attn_layer_norm: norm(),
                encoder_attn: init.attention(config),
                cross_attn_gate: init.zero(),
            })
            .collect();
        let retrieval_head = config.contrastive_dim.map(|dim| {
            let hidden = config.contrastive_hidden();
            let mut matrix = |shape: [usize; 2]| {
                let bound = 1.0 / (shape[0] as f32).sqrt();
                #[expect(clippy::expect_used, reason = "the bound is positive and finite")]
                let uniform = Uniform::new(-bound, bound).expect("a valid range");
                init.draw(shape, &uniform)
            };
            let (first, second) = (matrix([d, hidden]), matrix([hidden, dim]));
            RetrievalHead {
                hidden: Linear { weight: first, bias: Some(Param::from_tensor(Tensor::zeros([hidden], device))) },
                proj: Linear { weight: second, bias: None },
                log_temp: Param::from_tensor(Tensor::full([1], TEMPERATURE.ln(), device)),
            }
        });
        Ok(Self {
            embed_tokens,
            encoder: Encoder { layers: encoder_layers, final_norm: norm() },
            decoder: Decoder { layers: decoder_layers, norm: norm() },
            retrieval_head,
            rope: Rope::new(config, device),
        })
    }

    /// The device of the weights.
    pub fn device(&self) -> B::Device {
        self.embed_tokens.weight.device()
    }

    /// Width of the residual stream.
    pub fn d_model(&self) -> usize {
        self.embed_tokens.weight.dims()[1]
    }
}

impl<B: FusedOps> San<B> {
    /// `E[ids] * sqrt(d_model)`: `[batch, seq] -> [batch, seq, d_model]`.
    pub fn embed(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let [batch, seq] = ids.dims();
        let scale = (self.d_model() as f64).sqrt() as f32;
        let (embedding, ids) = (self.embed_tokens.weight.val(), ids.reshape([batch * seq]));
        let rows = B::embed(primitive(embedding), ids.into_primitive(), scale, self.compute_dtype());
        float::<B, 2>(rows).reshape([batch, seq, self.d_model()])
    }

    /// The type of the activations, which is that of the attention matrices.
    fn compute_dtype(&self) -> DType {
        let first = self.encoder.layers.first().map(|layer| layer.self_attn.q_proj.weight.val().dtype());
        first.unwrap_or(DType::F32)
    }

    /// The encoder's output for `ids [batch, enc_len]`: `[batch, enc_len, d_model]`.
    pub fn encode(&self, ids: Tensor<B, 2, Int>, mask: &AttentionMask<B>, dropout: &mut Dropout) -> Tensor<B, 3> {
        self.encoder.forward(self.embed(ids), &self.rope, mask, dropout)
    }

    /// The decoder's output for `ids [batch, dec_len]`, which follow those in `cache` ->
    /// `[batch, dec_len, d_model]`.
    pub fn decode(
        &self,
        ids: Tensor<B, 2, Int>,
        cache: &mut DecoderCache<B>,
        masks: &DecoderMasks<B>,
        dropout: &mut Dropout,
    ) -> Tensor<B, 3> {
        self.decoder.forward(self.embed(ids), cache, &self.rope, masks, dropout).0
    }

    /// As [`Self::decode`], on whole rows over `memory [batch, enc_len, d_model]`, and the last
    /// layer's cross-attention; `None` without layers.
    pub fn decode_with_attention(
        &self,
        ids: Tensor<B, 2, Int>,
        memory: &Tensor<B, 3>,
        masks: &DecoderMasks<B>,
        dropout: &mut Dropout,
    ) -> (Tensor<B, 3>, Option<CrossAttention<B>>) {
        let cache = &mut self.decoder.cache(memory);
        self.decoder.forward(self.embed(ids), cache, &self.rope, masks, dropout)
    }

    /// Runs one layer of the encoder alone:
    /// `[batch, enc_len, d_model] -> [batch, enc_len, d_model]`.
    pub fn encoder_layer(
        &self,
        index: usize,
        x: Tensor<B, 3>,
        mask: &AttentionMask<B>,
        dropout: &mut Dropout,
    ) -> Tensor<B, 3> {
        self.encoder.layers[index].forward(x, &self.rope, mask, dropout)
    }

    /// Runs one layer of the decoder alone: `x [batch, dec_len, d_model]`,
    /// `memory [batch, enc_len, d_model]` -> `[batch, dec_len, d_model]`, and its cross-attention.
    pub fn decoder_layer(
        &self,
        index: usize,
        x: Tensor<B, 3>,
        memory: Tensor<B, 3>,
        masks: &DecoderMasks<B>,
        dropout: &mut Dropout,
    ) -> (Tensor<B, 3>, CrossAttention<B>) {
        self.decoder.layers[index].forward_alone(x, memory, &self.rope, masks, dropout)
    }

    /// Logits over the vocabulary, unscaled: `hidden [batch, seq, d_model] -> [batch, seq, vocab]`.
    pub fn logits(&self, hidden: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, seq, d_model] = hidden.dims();
        let embedding = self.embed_tokens.weight.val().cast(hidden.dtype()); // [vocab, d_model]
        let [vocab, _] = embedding.dims();
        hidden.reshape([batch * seq, d_model]).matmul(embedding.transpose()).reshape([batch, seq, vocab])
    }

    /// Negative log-likelihood and log-sum-exp of each position, without keeping the logits:
    /// `hidden [batch, seq, d_model]`, `targets [batch, seq]` -> two of `[batch, seq]`.
    pub fn cross_entropy(&self, hidden: Tensor<B, 3>, targets: Tensor<B, 2, Int>) -> [Tensor<B, 2>; 2] {
        let [batch, seq, d_model] = hidden.dims();
        let rows = hidden.reshape([batch * seq, d_model]);
        let targets = targets.reshape([batch * seq]);
        let embedding = self.embed_tokens.weight.val().cast(rows.dtype());
        let both = B::tied_cross_entropy(primitive(rows), primitive(embedding), targets.into_primitive());
        let both = float::<B, 2>(both); // [rows, 2]
        [0, 1].map(|column| both.clone().narrow(1, column, 1).reshape([batch, seq]))
    }

    /// Unit vectors `[batch, contrastive_dim]` of texts `ids [batch, seq]` padded with 0; `None`
    /// without a retrieval head.
    pub fn retrieval_embedding(&self, ids: Tensor<B, 2, Int>, dropout: &mut Dropout) -> Option<Tensor<B, 2>> {
        let head = self.retrieval_head.as_ref()?;
        let memory = self.encode(ids.clone(), &AttentionMask::padding(ids.clone()), dropout);
        Some(head.forward(memory.cast(FloatDType::F32), ids))
    }
}
