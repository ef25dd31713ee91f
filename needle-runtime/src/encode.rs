//! The encoder: turns a prompt into the memory, and the memory into the keys and values that the
//! decoder attends to.
//!
//! Each thread processes a contiguous range of rows. In each layer it first computes their queries,
//! keys and values. When all threads have done so, it attends to the keys of all rows. The results
//! do not depend on how the rows are divided.

use crate::key_value::KeyValue;
use crate::pack::LANES;
use crate::pool::Pool;
use crate::weights::{CrossAttention, Dims, SelfAttention, Weights};
use crate::workspace::{HeadRow, HeadValues, Mode, Order, Workspace};

/// Minimum number of rows per thread.
const MIN_ROWS: usize = 16;

/// The rows of one thread.
struct Part {
    /// Index of the first row.
    first: usize,
    workspace: Workspace,
    /// Keys and values of all rows, one head at a time, for this thread's own queries.
    all: KeyValue,
}

/// Keys and values of one thread's rows, for all threads to read.
#[derive(Default)]
struct Rows {
    /// Codes of the keys and of the values, `[rows, kv_heads, head_width]` each.
    codes: [Vec<i8>; 2],
    /// Scales of the keys and of the values, `[rows, kv_heads]` each.
    scales: [Vec<f32>; 2],
    /// Keys and values in the exact mode, `[rows, kv_heads, head_width]` each.
    exact: [Vec<f32>; 2],
    rows: usize,
}

impl Rows {
    fn resize(&mut self, rows: usize, mode: Mode, dims: Dims) {
        let heads = rows * dims.kv_heads;
        let (int8, exact) = if mode.is_exact { (0, heads) } else { (heads, 0) };
        for which in 0..2 {
            self.codes[which].resize(int8 * dims.head_width, 0);
            self.scales[which].resize(int8, 0.0);
            self.exact[which].resize(exact * dims.head_width, 0.0);
        }
        self.rows = rows;
    }

    fn set(&mut self, row: usize, head: &HeadRow<'_>, dims: Dims) {
        let place = row * dims.kv_heads + head.head;
        for (which, values) in [head.key, head.value].into_iter().enumerate() {
            let to = place * dims.head_width..(place + 1) * dims.head_width;
            match values {
                HeadValues::Int8(codes, scale) => {
                    self.codes[which][to].copy_from_slice(codes);
                    self.scales[which][place] = scale;
                }
                HeadValues::Exact(values) => self.exact[which][to].copy_from_slice(values),
            }
        }
    }

    fn head(&self, row: usize, head: usize, mode: Mode, dims: Dims) -> [HeadValues<'_>; 2] {
        let place = row * dims.kv_heads + head;
        let from = place * dims.head_width..(place + 1) * dims.head_width;
        [0, 1].map(|which| {
            if mode.is_exact {
                HeadValues::Exact(&self.exact[which][from.clone()])
            } else {
                HeadValues::Int8(&self.codes[which][from.clone()], self.scales[which][place])
            }
        })
    }
}

/// Buffers of the encoder, reused from prompt to prompt.
pub struct PromptEncoder {
    mode: Mode,
    parts: Vec<Part>,
    rows: Vec<Rows>,
    /// The normalized output of the encoder, `[prompt, row]`.
    memory: Vec<f32>,
}

impl PromptEncoder {
    /// Empty buffers.
    pub fn new(mode: Mode) -> Self {
        Self { mode, parts: Vec::new(), rows: Vec::new(), memory: Vec::new() }
    }

    /// Encodes `prompt`; returns the normalized output, `[prompt, row]`.
    pub fn encode(&mut self, weights: &Weights, pool: &Pool, prompt: &[u32]) -> &[f32] {
        let (mode, dims) = (self.mode, weights.dims);
        let stretch = prompt.len().div_ceil(pool.threads()).max(MIN_ROWS);
        let count = prompt.len().div_ceil(stretch);
        while self.parts.len() < count {
            let all = KeyValue::new(1, dims.head_width, prompt.len(), mode.is_exact);
            self.parts.push(Part { first: 0, workspace: Workspace::new(mode, dims), all });
            self.rows.push(Rows::default());
        }
        let (parts, all_rows) = (&mut self.parts[..count], &mut self.rows[..count]);
        for (index, ids) in prompt.chunks(stretch).enumerate() {
            let part = &mut parts[index];
            part.first = index * stretch;
            part.all.clear(prompt.len());
            part.workspace.resize(ids.len());
            for (id, x) in ids.iter().zip(part.workspace.x.chunks_exact_mut(dims.row)) {
                weights.embed(*id, x);
            }
            all_rows[index].resize(ids.len(), mode, dims);
        }
        for layer in &weights.encoder {
            let work: Vec<_> = parts.iter_mut().zip(&mut *all_rows).collect();
            pool.each(work, |(part, rows)| project(part, rows, layer, weights));
            pool.each(parts.iter_mut().collect(), |part| attend(part, all_rows, layer, mode, dims));
        }
        self.memory.resize(prompt.len() * dims.row, 0.0);
        for (part, memory) in parts.iter_mut().zip(self.memory.chunks_mut(stretch * dims.row)) {
            part.workspace.norm(&weights.encoder_norm);
            memory.copy_from_slice(part.workspace.input());
        }
        &self.memory
    }

    /// Encodes `prompt` and writes the keys and values that each decoder layer attends to.
    pub fn read(&mut self, weights: &Weights, pool: &Pool, prompt: &[u32], caches: &mut [KeyValue]) {
        self.encode(weights, pool, prompt);
        // Each thread processes a contiguous range of layers, so that it quantizes the memory only
        // once.
        let stretch = weights.decoder.len().div_ceil(pool.threads());
        while self.parts.len() < weights.decoder.len().div_ceil(stretch) {
            let all = KeyValue::new(1, weights.dims.head_width, 0, self.mode.is_exact);
            self.parts.push(Part { first: 0, workspace: Workspace::new(self.mode, weights.dims), all });
            self.rows.push(Rows::default());
        }
        let memory = &self.memory;
        let layers = weights.decoder.chunks(stretch).zip(caches.chunks_mut(stretch));
        let work: Vec<_> = layers.zip(&mut self.parts).collect();
        pool.each(work, |((layers, caches), part)| {
            cross_keys_values(&mut part.workspace, weights.dims, memory, layers, caches);
        });
    }
}

/// Computes queries, keys and values of a thread's rows.
fn project(part: &mut Part, rows: &mut Rows, layer: &SelfAttention, weights: &Weights) {
    let (workspace, dims) = (&mut part.workspace, weights.dims);
    let width = layer.qkv.panels * LANES;
    workspace.norm(&layer.block.norm);
    workspace.project(&layer.qkv);
    for row in 0..rows.rows {
        let rotation = Some((&weights.rope, part.first + row));
        workspace.set_queries(&layer.block, row, width, rotation, Order::ByHead);
        workspace.keys_values(&layer.block, row, width, dims.q_width(), rotation, |head| rows.set(row, &head, dims));
    }
}

/// Attention of a thread's rows to all rows, added to the residual stream.
fn attend(part: &mut Part, rows: &[Rows], layer: &SelfAttention, mode: Mode, dims: Dims) {
    let own = part.workspace.rows();
    let group = dims.heads_per_kv();
    for kv_head in 0..dims.kv_heads {
        let mut len = 0;
        for rows in rows {
            for row in 0..rows.rows {
                let [key, value] = rows.head(row, kv_head, mode, dims);
                part.all.set(len, &HeadRow { head: 0, key, value });
                len += 1;
            }
        }
        part.workspace.attend(kv_head * group * own, group * own, part.all.head(0), len, |input, query, read| {
            let (head, row) = (query / own, query % own);
            let at = row * dims.row + head * dims.head_dim;
            input[at..at + dims.head_dim].copy_from_slice(read);
        });
    }
    part.workspace.project_residual(&layer.out, layer.block.gate);
}

/// Computes the keys and values of `memory`, `[prompt, row]`, for some decoder layers.
fn cross_keys_values(
    workspace: &mut Workspace,
    dims: Dims,
    memory: &[f32],
    layers: &[(SelfAttention, CrossAttention)],
    caches: &mut [KeyValue],
) {
    let rows = memory.len() / dims.row;
    workspace.set_input(memory);
    for ((_, layer), cache) in layers.iter().zip(caches) {
        workspace.project(&layer.kv);
        cache.clear(rows);
        for row in 0..rows {
            workspace.keys_values(&layer.block, row, layer.kv.panels * LANES, 0, None, |head| cache.set(row, &head));
        }
    }
}
