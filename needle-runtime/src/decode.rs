//! The decoder: the next tokens of several sequences in one pass.
//!
//! A pass may contain several tokens of one sequence, if they are known before their logits (forced
//! or drafted tokens). The keys and values of all of them are written first. Then each token
//! attends to itself and to the tokens before it, as if it had been fed alone.

use std::sync::Arc;

use crate::activations::Activations;
use crate::key_value::KeyValue;
use crate::pack::LANES;
use crate::weights::{CrossAttention, Dims, SelfAttention, Weights};
use crate::workspace::{Mode, Order, Workspace};

/// Keys and values of one sequence, for all layers.
pub struct Cache {
    /// Self-attention: keys and values of the tokens so far.
    own: Vec<KeyValue>,
    /// Cross-attention: keys and values of the prompt, one per layer. Several answers to a prompt
    /// share them.
    cross: Arc<Vec<KeyValue>>,
    /// Number of tokens so far.
    len: usize,
    /// Number of tokens of the prompt.
    prompt_len: usize,
}

impl Cache {
    /// A cache with room for an answer of `max_tokens` tokens to a prompt of `prompt_len` tokens,
    /// of which `cross` has the keys and values.
    pub fn new(weights: &Weights, mode: Mode, cross: Arc<Vec<KeyValue>>, prompt_len: usize, max_tokens: usize) -> Self {
        Self { own: key_values(weights, mode, max_tokens), cross, len: 0, prompt_len }
    }

    /// Drops the last `count` tokens.
    pub fn forget(&mut self, count: usize) {
        self.len -= count;
    }
}

/// Room for the keys and values of `positions` tokens, one for each layer of the decoder.
pub fn key_values(weights: &Weights, mode: Mode, positions: usize) -> Vec<KeyValue> {
    let Dims { kv_heads, head_width, .. } = weights.dims;
    let layer = |_| KeyValue::new(kv_heads, head_width, positions, mode.is_exact);
    (0..weights.decoder.len()).map(layer).collect()
}

/// A sequence: the tokens to feed next, and the cache of the tokens before them.
pub struct Sequence {
    /// The tokens of the next pass, at least one.
    pub tokens: Vec<u32>,
    /// The cache, which a pass extends by `tokens`.
    pub cache: Cache,
}

/// Buffers of the decoder.
pub struct Decoder {
    mode: Mode,
    workspace: Workspace,
    /// Rows whose logits are needed, `[rows, row]`.
    last: Vec<f32>,
    activations: Activations,
}

impl Decoder {
    /// Empty buffers.
    pub fn new(weights: &Weights, mode: Mode) -> Self {
        let workspace = Workspace::new(mode, weights.dims);
        Self { mode, workspace, last: Vec::new(), activations: Activations::default() }
    }

    /// Feeds each sequence its tokens. Afterwards the workspace's input holds the normalized output
    /// of all rows.
    pub fn pass(&mut self, weights: &Weights, sequences: &mut [Sequence]) {
        let dims = weights.dims;
        let workspace = &mut self.workspace;
        workspace.resize(sequences.iter().map(|next| next.tokens.len()).sum());
        let tokens = sequences.iter().flat_map(|next| &next.tokens);
        for (id, x) in tokens.zip(workspace.x.chunks_exact_mut(dims.row)) {
            weights.embed(*id, x);
        }
        for (layer, (own, cross)) in weights.decoder.iter().enumerate() {
            self_attention(workspace, weights, own, layer, sequences);
            cross_attention(workspace, dims, cross, layer, sequences);
        }
        for next in sequences {
            next.cache.len += next.tokens.len();
        }
        workspace.norm(&weights.decoder_norm);
    }

    /// Width of a row of logits, including padding.
    pub fn logits_width(&self, weights: &Weights) -> usize {
        weights.dims.vocab.next_multiple_of(LANES)
    }

    /// Logits of the rows `wanted` of the last pass, `[wanted, logits_width]`.
    pub fn logits(&mut self, weights: &Weights, wanted: &[usize], logits: &mut Vec<f32>) {
        let (row, width) = (weights.dims.row, self.logits_width(weights));
        logits.resize(wanted.len() * width, 0.0);
        self.last.clear();
        for at in wanted {
            self.last.extend_from_slice(&self.workspace.input()[at * row..(at + 1) * row]);
        }
        match &weights.output {
            Some(output) => {
                self.mode.kernels.quantize_rows(&self.last, row, &mut self.activations);
                self.mode.kernels.product_int8(&self.activations, output, logits);
            }
            None => {
                let d_model = weights.dims.d_model;
                for (x, logits) in self.last.chunks_exact(row).zip(logits.chunks_exact_mut(width)) {
                    self.mode.kernels.exact_logits(&x[..d_model], &weights.embedding, d_model, logits);
                }
            }
        }
    }
}

fn self_attention(
    workspace: &mut Workspace,
    weights: &Weights,
    own: &SelfAttention,
    layer: usize,
    sequences: &mut [Sequence],
) {
    let dims = weights.dims;
    let width = own.qkv.panels * LANES;
    workspace.norm(&own.block.norm);
    workspace.project(&own.qkv);
    let mut row = 0;
    for next in sequences.iter_mut() {
        let cache = &mut next.cache.own[layer];
        for i in 0..next.tokens.len() {
            let position = next.cache.len + i;
            let rotation = Some((&weights.rope, position));
            workspace.set_queries(&own.block, row, width, rotation, Order::ByRow);
            let start = dims.q_width();
            workspace.keys_values(&own.block, row, width, start, rotation, |head| cache.set(position, &head));
            row += 1;
        }
    }
    let mut row = 0;
    for next in sequences.iter() {
        for i in 0..next.tokens.len() {
            attend_row(workspace, dims, row, &next.cache.own[layer], next.cache.len + i + 1);
            row += 1;
        }
    }
    workspace.project_residual(&own.out, own.block.gate);
}

fn cross_attention(
    workspace: &mut Workspace,
    dims: Dims,
    cross: &CrossAttention,
    layer: usize,
    sequences: &[Sequence],
) {
    workspace.norm(&cross.block.norm);
    workspace.project(&cross.q);
    let mut row = 0;
    for next in sequences {
        for _ in &next.tokens {
            workspace.set_queries(&cross.block, row, cross.q.panels * LANES, None, Order::ByRow);
            attend_row(workspace, dims, row, &next.cache.cross[layer], next.cache.prompt_len);
            row += 1;
        }
    }
    workspace.project_residual(&cross.out, cross.block.gate);
}

/// Attention of all heads of one row to the first `len` positions of `cache`.
fn attend_row(workspace: &mut Workspace, dims: Dims, row: usize, cache: &KeyValue, len: usize) {
    let group = dims.heads_per_kv();
    for kv_head in 0..dims.kv_heads {
        workspace.attend(row * dims.heads + kv_head * group, group, cache.head(kv_head), len, |input, query, read| {
            let at = row * dims.row + query % dims.heads * dims.head_dim;
            input[at..at + dims.head_dim].copy_from_slice(read);
        });
    }
}
