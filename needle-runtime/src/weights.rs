//! The weights of a model in the layout of the kernels.

use half::bf16;

use crate::config::SanConfig;
use crate::error::RuntimeError;
use crate::file::names::{BlockNames, DECODER_NORM, ENCODER_NORM, HEAD_BIAS, HEAD_HIDDEN, HEAD_PROJECTION};
use crate::file::quantize::GROUP_SIZE;
use crate::file::source::{Int4Ref, Source};
use crate::kernels::Kernels;
use crate::pack::{Int4Matrix, Int8Matrix, LANES};
use crate::pool::Pool;
use crate::rope::Rope;

/// Maximum number of positions for which all sums fit into 32 bits, with at most 255 * 127 per
/// position.
const MAX_POSITIONS: usize = 1 << 16;

/// Maximum number of bytes of keys and values of one sequence: a hundred times those of the
/// published model.
const MAX_CACHE_BYTES: usize = 1 << 30;

/// The sizes that determine all layouts.
#[derive(Debug, Clone, Copy)]
pub struct Dims {
    /// Width of the residual stream.
    pub d_model: usize,
    /// `d_model` padded to a multiple of 32: the stride of rows. Values beyond `d_model` are 0.
    pub row: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Dimension of a head.
    pub head_dim: usize,
    /// `head_dim` padded to a multiple of the lanes.
    pub head_width: usize,
    /// Number of token ids.
    pub vocab: usize,
    /// Added to the mean square in every norm.
    pub epsilon: f32,
}

impl Dims {
    fn new(config: &SanConfig) -> Self {
        Self {
            d_model: config.d_model,
            row: config.d_model.next_multiple_of(GROUP_SIZE),
            heads: config.num_heads,
            kv_heads: config.num_kv_heads,
            head_dim: config.head_dim(),
            head_width: config.head_dim().next_multiple_of(LANES),
            vocab: config.vocab_size,
            epsilon: config.rms_norm_eps,
        }
    }

    /// Number of query heads that share a key/value head.
    pub fn heads_per_kv(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Number of outputs of Q, padded to whole panels.
    pub fn q_width(&self) -> usize {
        (self.heads * self.head_dim).next_multiple_of(LANES)
    }

    /// Number of outputs of K, and of V, padded to whole panels.
    pub fn kv_width(&self) -> usize {
        (self.kv_heads * self.head_dim).next_multiple_of(LANES)
    }
}

/// The norms and the gate of one attention block.
pub struct Block {
    /// `1 + g` of the norm before the attention, `[d_model]`.
    pub norm: Vec<f32>,
    /// `1 + g` of the norm over each query head, `[head_dim]`.
    pub q_norm: Vec<f32>,
    /// `1 + g` of the norm over each key head, `[head_dim]`.
    pub k_norm: Vec<f32>,
    /// The gate, after its sigmoid.
    pub gate: f32,
}

/// Self-attention: Q, K and V in one matrix.
pub struct SelfAttention {
    /// Norms and gate.
    pub block: Block,
    /// Q, then K, then V.
    pub qkv: Int4Matrix,
    /// O.
    pub out: Int4Matrix,
}

/// Cross-attention: Q projects the decoder's rows, K and V project the encoder's.
pub struct CrossAttention {
    /// Norms and gate.
    pub block: Block,
    /// Q.
    pub q: Int4Matrix,
    /// K, then V.
    pub kv: Int4Matrix,
    /// O.
    pub out: Int4Matrix,
}

/// The retrieval head, in f32.
pub struct RetrievalHead {
    /// `[d_model, hidden]`.
    pub hidden: Vec<f32>,
    /// `[hidden]`.
    pub bias: Vec<f32>,
    /// `[hidden, dim]`.
    pub projection: Vec<f32>,
}

/// A model.
pub struct Weights {
    /// Sizes.
    pub dims: Dims,
    /// bf16 bits, `[vocab, d_model]`.
    pub embedding: Vec<u16>,
    /// The embedding in INT8, for logits; `None` in the exact mode.
    pub output: Option<Int8Matrix>,
    /// First to last.
    pub encoder: Vec<SelfAttention>,
    /// `1 + g`.
    pub encoder_norm: Vec<f32>,
    /// Self-attention and cross-attention, first to last.
    pub decoder: Vec<(SelfAttention, CrossAttention)>,
    /// `1 + g`.
    pub decoder_norm: Vec<f32>,
    /// The retrieval head, if the model has one.
    pub retrieval: Option<RetrievalHead>,
    /// Angles of positions.
    pub rope: Rope,
}

impl Weights {
    /// Reads and packs all weights.
    ///
    /// # Errors
    /// If a tensor is missing, has a wrong shape or is not finite, or if the model has too many
    /// positions.
    pub fn load(source: &dyn Source, kernels: &Kernels, pool: &Pool, is_exact: bool) -> Result<Self, RuntimeError> {
        let config = source.config();
        if config.max_len() > MAX_POSITIONS {
            let most = config.max_len();
            return Err(
                source.bad(format!("the model has {most} positions, but the engine supports at most {MAX_POSITIONS}"))
            );
        }
        let dims = Dims::new(config);
        // Keys and values of the prompt and of the answer. A small file can ask for far more memory
        // than its own size.
        let position = 4 * config.num_decoder_layers * dims.kv_heads * dims.head_width * if is_exact { 4 } else { 1 };
        let bytes = position.saturating_mul(config.max_len());
        if bytes > MAX_CACHE_BYTES {
            return Err(source
                .bad(format!("keys and values of {} positions would take {bytes} bytes per query", config.max_len())));
        }
        let loader = Loader { source, kernels, dims };
        let (encoder_layers, decoder_layers) = (config.num_encoder_layers, config.num_decoder_layers);
        // Every attention block is a task. The embedding comes last, because quantizing it uses all
        // threads itself.
        let mut encoder: Vec<_> = (0..encoder_layers).map(|_| None).collect();
        let mut decoder: Vec<_> = (0..decoder_layers).map(|_| (None, None)).collect();
        let mut tasks: Vec<Task<'_>> = Vec::new();
        for (layer, place) in encoder.iter_mut().enumerate() {
            tasks.push(Task::Own(BlockNames::encoder(layer), place));
        }
        for (layer, (own, cross)) in decoder.iter_mut().enumerate() {
            tasks.push(Task::Own(BlockNames::decoder(layer), own));
            tasks.push(Task::Cross(BlockNames::cross(layer), cross));
        }
        pool.each(tasks, |task| match task {
            Task::Own(names, place) => *place = Some(loader.self_attention(&names)),
            Task::Cross(names, place) => *place = Some(loader.cross_attention(&names)),
        });
        let missing = || RuntimeError::Config { field: "layers", reason: "a layer was not loaded".into() };
        let encoder = encoder.into_iter().map(|layer| layer.ok_or_else(missing)?).collect::<Result<_, _>>()?;
        let both = |(own, cross): (Option<_>, Option<_>)| Ok((own.ok_or_else(missing)??, cross.ok_or_else(missing)??));
        let decoder = decoder.into_iter().map(both).collect::<Result<_, RuntimeError>>()?;
        let embedding = source.embedding()?;
        Ok(Self {
            output: (!is_exact).then(|| kernels.quantize_matrix(pool, &embedding, dims.d_model)),
            embedding,
            encoder,
            encoder_norm: loader.gain(ENCODER_NORM, dims.d_model)?,
            decoder,
            decoder_norm: loader.gain(DECODER_NORM, dims.d_model)?,
            retrieval: config.contrastive_dim.map(|dim| loader.retrieval(config, dim)).transpose()?,
            rope: Rope::new(config.rope_theta, dims.head_dim, config.max_len()),
            dims,
        })
    }

    /// Writes `E[id] * sqrt(d_model)` to `row`.
    pub fn embed(&self, id: u32, row: &mut [f32]) {
        let width = self.dims.d_model;
        let scale = (width as f32).sqrt();
        let bits = &self.embedding[id as usize * width..(id as usize + 1) * width];
        for (x, bits) in row.iter_mut().zip(bits) {
            *x = bf16::from_bits(*bits).to_f32() * scale;
        }
    }
}

/// An attention block to load, and where to store it.
enum Task<'a> {
    Own(BlockNames, &'a mut Option<Result<SelfAttention, RuntimeError>>),
    Cross(BlockNames, &'a mut Option<Result<CrossAttention, RuntimeError>>),
}

struct Loader<'a> {
    source: &'a dyn Source,
    kernels: &'a Kernels,
    dims: Dims,
}

impl Loader<'_> {
    fn self_attention(&self, names: &BlockNames) -> Result<SelfAttention, RuntimeError> {
        let [q, k, v, out] = self.projections(names)?;
        Ok(SelfAttention {
            block: self.block(names)?,
            qkv: self.kernels.pack(&[q, k, v]),
            out: self.kernels.pack(&[out]),
        })
    }

    fn cross_attention(&self, names: &BlockNames) -> Result<CrossAttention, RuntimeError> {
        let [q, k, v, out] = self.projections(names)?;
        Ok(CrossAttention {
            block: self.block(names)?,
            q: self.kernels.pack(&[q]),
            kv: self.kernels.pack(&[k, v]),
            out: self.kernels.pack(&[out]),
        })
    }

    fn projections(&self, names: &BlockNames) -> Result<[Int4Ref<'_>; 4], RuntimeError> {
        let (d, kv) = (self.dims.d_model, self.dims.kv_heads * self.dims.head_dim);
        let read = |which, outputs| self.source.projection(&names.projection(which), d, outputs);
        Ok([read("q", d)?, read("k", kv)?, read("v", kv)?, read("out", d)?])
    }

    fn block(&self, names: &BlockNames) -> Result<Block, RuntimeError> {
        let gate = self.source.vector(&names.gate, 1)?;
        Ok(Block {
            norm: self.gain(&names.norm, self.dims.d_model)?,
            q_norm: self.gain(&names.head_norm("q"), self.dims.head_dim)?,
            k_norm: self.gain(&names.head_norm("k"), self.dims.head_dim)?,
            gate: sigmoid(gate[0]),
        })
    }

    /// `1 + g`.
    fn gain(&self, name: &str, len: usize) -> Result<Vec<f32>, RuntimeError> {
        let mut gain = self.source.vector(name, len)?;
        gain.iter_mut().for_each(|gain| *gain += 1.0);
        Ok(gain)
    }

    fn retrieval(&self, config: &SanConfig, dim: usize) -> Result<RetrievalHead, RuntimeError> {
        let hidden = config.contrastive_hidden();
        Ok(RetrievalHead {
            hidden: self.source.dense(HEAD_HIDDEN, config.d_model, hidden)?,
            bias: self.source.vector(HEAD_BIAS, hidden)?,
            projection: self.source.dense(HEAD_PROJECTION, hidden, dim)?,
        })
    }
}

/// `1 / (1 + e^-x)`, with the same bits on all systems.
fn sigmoid(x: f32) -> f32 {
    (1.0 / (1.0 + libm::exp(-f64::from(x)))) as f32
}
