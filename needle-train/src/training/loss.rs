//! The loss that is minimized: `CE + z-loss + weight * alignment + weight * contrastive`.
//!
//! - Cross-entropy: each target is weighted by its class, and the sum is divided by the number of
//!   targets, not by the sum of weights.
//! - z-loss: `coefficient * mean(logsumexp^2)` keeps the logits from drifting (de Brébisson and
//!   Vincent, arXiv:1604.08859); over positions without padding; the original averages over
//!   padding, too.
//! - Alignment: the negative logarithm of the last cross-attention's weight on the token that a
//!   target is copied from ([`needle_data::batching::copies`]), summed over copied targets and
//!   divided by the number of all targets (guided alignment: Chen et al., arXiv:1607.01628).
//! - Contrastive: symmetric cross-entropy over the similarities of queries and tools (CLIP,
//!   arXiv:2103.00020).

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor, TensorData, activation};
use needle_data::batching::copies::copied_from;
use needle_data::text::token_class::NUM_TOKEN_CLASSES;
use needle_data::{Batch, RetrievalBatch};
use needle_model::decoder::{CrossAttention, DecoderMasks};
use needle_model::dropout::Dropout;
use needle_model::{AttentionMask, FusedOps, San};

use crate::recipe::LossConfig;

/// A batch on the device, with the weight of each target.
#[derive(Debug, Clone)]
pub struct DeviceBatch<B: Backend> {
    /// `[rows, enc_len]`.
    pub enc_ids: Tensor<B, 2, Int>,
    /// `[rows, enc_len]`.
    pub enc_segments: Tensor<B, 2, Int>,
    /// `[rows, dec_len]`.
    pub dec_input: Tensor<B, 2, Int>,
    /// `[rows, dec_len]`.
    pub dec_target: Tensor<B, 2, Int>,
    /// `[rows, dec_len]`.
    pub dec_segments: Tensor<B, 2, Int>,
    /// Weight of each target in the cross-entropy, 0 for padding, `[rows, dec_len]`.
    pub target_weights: Tensor<B, 2>,
    /// 1 at positions that count in the z-loss, 0 elsewhere, `[rows, dec_len]`.
    pub z_mask: Tensor<B, 2>,
    /// Divisor of the cross-entropy: the number of targets in the whole batch, of which this may be
    /// a part.
    pub num_targets: usize,
    /// Divisor of the z-loss.
    pub num_z: usize,
    /// Where copied tokens are copied from; `None` without an alignment loss.
    pub alignment: Option<Alignment<B>>,
}

/// What the alignment loss asks for.
#[derive(Debug, Clone)]
pub struct Alignment<B: Backend> {
    /// Position of the encoder that each target is copied from, 0 for those that are not copied,
    /// `[rows, dec_len]`.
    pub origins: Tensor<B, 2, Int>,
    /// Weight of each target in the loss, 0 for those that are not copied, `[rows, dec_len]`.
    pub weights: Tensor<B, 2>,
}

impl<B: Backend> DeviceBatch<B> {
    /// Copies `batch` to `device`; it may be a part of a batch with `num_targets` targets.
    pub fn new(batch: &Batch, num_targets: usize, class_weights: [f32; NUM_TOKEN_CLASSES], device: &B::Device) -> Self {
        let ids = |values: &[i32], len| Tensor::from_data(TensorData::new(values.to_vec(), [batch.rows, len]), device);
        let is_real = |segment: &i32| *segment != 0;
        let per_target = |f: &dyn Fn(usize) -> f32| {
            let real = batch.dec_segments.iter().enumerate();
            let values: Vec<f32> = real.map(|(i, segment)| if is_real(segment) { f(i) } else { 0.0 }).collect();
            Tensor::from_data(TensorData::new(values, [batch.rows, batch.dec_len]), device)
        };
        Self {
            enc_ids: ids(&batch.enc_ids, batch.enc_len),
            enc_segments: ids(&batch.enc_segments, batch.enc_len),
            dec_input: ids(&batch.dec_input, batch.dec_len),
            dec_target: ids(&batch.dec_target, batch.dec_len),
            dec_segments: ids(&batch.dec_segments, batch.dec_len),
            target_weights: per_target(&|i| class_weights[batch.dec_classes[i] as usize]),
            z_mask: per_target(&|_| 1.0),
            num_targets,
            num_z: num_targets,
            alignment: None,
        }
    }

    /// Adds the alignment loss with the given weight; `batch` is the one that this was made of.
    pub fn aligned(self, batch: &Batch, weight: f64) -> Self {
        let origins = if weight > 0.0 { copied_from(batch) } else { Vec::new() };
        if origins.iter().all(Option::is_none) {
            return self;
        }
        let per_target = (weight / self.num_targets.max(1) as f64) as f32;
        let weights: Vec<f32> = origins.iter().map(|origin| if origin.is_some() { per_target } else { 0.0 }).collect();
        let positions: Vec<i32> = origins.iter().map(|origin| origin.map_or(0, |position| position as i32)).collect();
        let (shape, device) = ([batch.rows, batch.dec_len], self.enc_ids.device());
        let alignment = Alignment {
            origins: Tensor::from_data(TensorData::new(positions, shape), &device),
            weights: Tensor::from_data(TensorData::new(weights, shape), &device),
        };
        Self { alignment: Some(alignment), ..self }
    }

    /// The alignment loss of the last cross-attention, weight included: `[1]`; `None` without one.
    pub fn alignment_loss(&self, cross_attention: &CrossAttention<B>) -> Option<Tensor<B, 1>>
    where
        B: FusedOps,
    {
        let Alignment { origins, weights } = self.alignment.clone()?;
        let mask = AttentionMask::packed(self.dec_segments.clone(), self.enc_segments.clone());
        // The logarithm is undefined, but finite, where nothing is copied: the weight is 0 there.
        let log_weights = cross_attention.log_weight_of(origins, mask); // [rows, dec_len]
        let is_not_copied = weights.clone().equal_elem(0.0);
        // Rows first: see `optim::squared_norm`.
        Some((log_weights.mask_fill(is_not_copied, 0.0) * weights).sum_dim(1).sum().neg())
    }
}

impl LossConfig {
    /// Weights in the order of [`needle_data::TokenClass`].
    pub fn class_weights(&self) -> [f32; NUM_TOKEN_CLASSES] {
        [self.structure_weight, self.name_weight, self.key_weight, self.value_weight]
    }
}

/// The losses of one step.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct StepLosses {
    /// Weighted cross-entropy.
    pub cross_entropy: f64,
    /// z-loss.
    pub z: f64,
    /// Alignment loss, weight included; `None` if the recipe has none.
    pub alignment: Option<f64>,
    /// Contrastive loss, in the steps that have one.
    pub contrastive: Option<f64>,
    /// The total, which was minimized.
    pub total: f64,
    /// Whether the forward pass used quantized weights.
    pub quantized: bool,
}

/// The losses of the text, each a scalar `[1]`.
#[derive(Debug, Clone)]
pub struct TextLoss<B: Backend> {
    /// Weighted cross-entropy.
    pub cross_entropy: Tensor<B, 1>,
    /// z-loss, coefficient included.
    pub z: Tensor<B, 1>,
    /// Alignment loss, weight included; `None` without one.
    pub alignment: Option<Tensor<B, 1>>,
}

impl<B: Backend> TextLoss<B> {
    /// The sum.
    pub fn total(self) -> Tensor<B, 1> {
        let sum = self.cross_entropy + self.z;
        match self.alignment {
            Some(alignment) => sum + alignment,
            None => sum,
        }
    }
}

impl<B: AutodiffBackend> TextLoss<B> {
    /// The values alone.
    pub fn inner(&self) -> TextLoss<B::InnerBackend> {
        TextLoss {
            cross_entropy: self.cross_entropy.clone().inner(),
            z: self.z.clone().inner(),
            alignment: self.alignment.clone().map(Tensor::inner),
        }
    }
}

impl<B: Backend> DeviceBatch<B> {
    /// The attention masks of the encoder and of the decoder's two attentions.
    pub fn masks(&self) -> (AttentionMask<B>, DecoderMasks<B>) {
        let (enc, dec) = (&self.enc_segments, &self.dec_segments);
        let masks = DecoderMasks {
            self_attn: AttentionMask::packed(dec.clone(), dec.clone()).causal(),
            cross_attn: AttentionMask::packed(dec.clone(), enc.clone()),
        };
        (AttentionMask::packed(enc.clone(), enc.clone()), masks)
    }
}

/// Cross-entropy, z-loss and alignment loss of the answers in `batch`.
pub fn text_loss<B: FusedOps>(
    model: &San<B>,
    batch: DeviceBatch<B>,
    z_coefficient: f64,
    dropout: &mut Dropout,
) -> TextLoss<B> {
    let (hidden, attention) = decoder_output(model, &batch, dropout);
    let alignment = attention.and_then(|attention| batch.alignment_loss(&attention));
    TextLoss { alignment, ..output_loss(model, hidden, batch, z_coefficient) }
}

/// The decoder's output at each position of the answers in `batch`, `[rows, dec_len, d_model]`, and
/// the last layer's cross-attention; `None` without layers.
pub fn decoder_output<B: FusedOps>(
    model: &San<B>,
    batch: &DeviceBatch<B>,
    dropout: &mut Dropout,
) -> (Tensor<B, 3>, Option<CrossAttention<B>>) {
    let (enc_mask, masks) = batch.masks();
    let memory = model.encode(batch.enc_ids.clone(), &enc_mask, dropout); // [rows, enc_len, d_model]
    model.decode_with_attention(batch.dec_input.clone(), &memory, &masks, dropout)
}

/// The losses of the decoder's output `hidden [rows, dec_len, d_model]`, without alignment.
pub fn output_loss<B: FusedOps>(
    model: &San<B>,
    hidden: Tensor<B, 3>,
    batch: DeviceBatch<B>,
    z_coefficient: f64,
) -> TextLoss<B> {
    let [nll, log_sum_exp] = model.cross_entropy(hidden, batch.dec_target); // [rows, dec_len] each
    let counts = (batch.num_targets, batch.num_z);
    weighted(nll, log_sum_exp, batch.target_weights, batch.z_mask, counts, z_coefficient)
}

/// The losses of [`text_loss`] from per-position values, weights and masks, all `[rows, dec_len]`,
/// and the divisor of each sum.
pub fn weighted<B: Backend>(
    nll: Tensor<B, 2>,
    log_sum_exp: Tensor<B, 2>,
    target_weights: Tensor<B, 2>,
    z_mask: Tensor<B, 2>,
    (num_targets, num_z): (usize, usize),
    z_coefficient: f64,
) -> TextLoss<B> {
    let cross_entropy = (nll * target_weights).sum() / num_targets.max(1) as f64;
    let z = (log_sum_exp.clone() * log_sum_exp * z_mask).sum() * (z_coefficient / num_z.max(1) as f64);
    TextLoss { cross_entropy, z, alignment: None }
}

/// Bound on the absolute logarithm of the temperature: temperatures from 0.01 to 100.
const MAX_LOG_TEMP: f64 = 4.605_170_185_988_092;

/// Embeddings of the queries and tools of `pairs`, each `[pairs, dim]`; `None` without a retrieval
/// head.
pub fn pair_embeddings<B: FusedOps>(
    model: &San<B>,
    pairs: &RetrievalBatch,
    dropout: &mut Dropout,
) -> Option<[Tensor<B, 2>; 2]> {
    let device = model.device();
    let ids = |values: &[i32], len| Tensor::from_data(TensorData::new(values.to_vec(), [pairs.pairs, len]), &device);
    let queries = model.retrieval_embedding(ids(&pairs.query_ids, pairs.query_len), dropout)?; // [pairs, dim]
    let tools = model.retrieval_embedding(ids(&pairs.tool_ids, pairs.tool_len), dropout)?; // [pairs, dim]
    Some([queries, tools])
}

/// The symmetric contrastive loss of CLIP for `queries [pairs, dim]` and `tools [pairs, dim]`,
/// where equal rows belong together.
pub fn clip_loss<B: Backend>(queries: Tensor<B, 2>, tools: Tensor<B, 2>, log_temp: Tensor<B, 1>) -> Tensor<B, 1> {
    let [pairs, _] = queries.dims();
    let temperature = log_temp.clamp(-MAX_LOG_TEMP, MAX_LOG_TEMP).exp();
    let logits = queries.matmul(tools.transpose()) / temperature.unsqueeze(); // [pairs, pairs]
    let diagonal = Tensor::<B, 2>::eye(pairs, &logits.device());
    let right = |logits: Tensor<B, 2>| (activation::log_softmax(logits, 1) * diagonal.clone()).sum();
    (right(logits.clone()) + right(logits.transpose())) * (-0.5 / pairs as f64)
}
