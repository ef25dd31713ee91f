//! Buffers of one thread, and the steps that encoder and decoder share: norm, projection, heads,
//! gated residual.
//!
//! Shapes: `rows` is the number of positions, `row` the padded width; a head has `head_dim` values,
//! padded to `head_width`.

use crate::activations::Activations;
use crate::kernels::{Angles, Kernels, Queries, Scratch};
use crate::key_value::{HeadView, KeyValue};
use crate::pack::{Int4Matrix, LANES};
use crate::rope::Rope;
use crate::weights::{Block, Dims};

/// The instruction set and the precision of a computation.
#[derive(Clone, Copy)]
pub struct Mode {
    /// The functions of the instruction set.
    pub kernels: &'static Kernels,
    /// Whether activations, keys and values are f32.
    pub is_exact: bool,
}

/// Rotation of a row's heads: the angles and the row's position; `None` in cross-attention.
pub type Rotation<'a> = Option<(&'a Rope, usize)>;

/// Buffers, which grow with the number of rows and are reused from pass to pass.
pub struct Workspace {
    mode: Mode,
    dims: Dims,
    /// The residual stream, `[rows, row]`.
    pub x: Vec<f32>,
    /// Input of the next projection, `[rows, row]`.
    input: Vec<f32>,
    activations: Activations,
    /// Output of the last projection, `[rows, panels * 16]`.
    projected: Vec<f32>,
    /// One head: its query or key, its value, and the codes of key and value.
    head: Vec<f32>,
    value: Vec<f32>,
    key_codes: Vec<i8>,
    value_codes: Vec<i8>,
    queries: QueryHeads,
    scratch: Scratch,
    scores: Vec<f32>,
    /// Output of attention, `[queries, head_width]`.
    mixed: Vec<f32>,
}

/// Normalized, rotated queries of all rows.
#[derive(Default)]
struct QueryHeads {
    /// `[queries, head_width]`.
    codes: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    /// `[queries, head_width]`, in the exact mode.
    exact: Vec<f32>,
}

/// Key and value of one row of one head.
pub struct HeadRow<'a> {
    /// Index of the head.
    pub head: usize,
    /// The key: codes with their scale, or f32 values in the exact mode.
    pub key: HeadValues<'a>,
    /// The value, likewise.
    pub value: HeadValues<'a>,
}

/// Values of one head.
#[derive(Clone, Copy)]
pub enum HeadValues<'a> {
    /// Codes, `[head_width]`, and their scale.
    Int8(&'a [i8], f32),
    /// `[head_width]`.
    Exact(&'a [f32]),
}

/// Order of the queries in the buffers.
#[derive(Clone, Copy)]
pub enum Order {
    /// `[rows, heads]`: each row attends to keys of its own.
    ByRow,
    /// `[heads, rows]`: all rows attend to the same keys.
    ByHead,
}

impl Workspace {
    /// Empty buffers.
    pub fn new(mode: Mode, dims: Dims) -> Self {
        Self {
            mode,
            dims,
            x: Vec::new(),
            input: Vec::new(),
            activations: Activations::default(),
            projected: Vec::new(),
            head: vec![0.0; dims.head_width],
            value: vec![0.0; dims.head_width],
            key_codes: vec![0; dims.head_width],
            value_codes: vec![0; dims.head_width],
            queries: QueryHeads::default(),
            scratch: Scratch::default(),
            scores: Vec::new(),
            mixed: Vec::new(),
        }
    }

    /// Makes room for `rows` rows. The contents of `x` are unspecified, except that its padding
    /// is 0.
    pub fn resize(&mut self, rows: usize) {
        let (dims, queries) = (self.dims, rows * self.dims.heads);
        self.x.resize(rows * dims.row, 0.0);
        self.input.resize(rows * dims.row, 0.0);
        self.mixed.resize(queries * dims.head_width, 0.0);
        self.queries.scales.resize(queries, 0.0);
        self.queries.sums.resize(queries, 0);
        if self.mode.is_exact {
            self.queries.exact.resize(queries * dims.head_width, 0.0);
        } else {
            self.queries.codes.resize(queries * dims.head_width, 0);
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.x.len() / self.dims.row
    }

    /// Writes the norm of `x` to the input.
    pub fn norm(&mut self, gain: &[f32]) {
        let (row, width) = (self.dims.row, self.dims.d_model);
        for (x, input) in self.x.chunks_exact(row).zip(self.input.chunks_exact_mut(row)) {
            self.mode.kernels.rms_norm(&x[..width], gain, self.dims.epsilon, &mut input[..width]);
        }
        self.quantize_input();
    }

    /// The current input, `[rows, row]`.
    pub fn input(&self) -> &[f32] {
        &self.input
    }

    /// Sets the input to `rows`, `[rows, row]`.
    pub fn set_input(&mut self, rows: &[f32]) {
        self.input.resize(rows.len(), 0.0);
        self.input.copy_from_slice(rows);
        self.quantize_input();
    }

    fn quantize_input(&mut self) {
        if !self.mode.is_exact {
            self.mode.kernels.quantize_rows(&self.input, self.dims.row, &mut self.activations);
        }
    }

    /// Multiplies the input by `matrix`; the output is `[rows, panels * 16]`.
    pub fn project(&mut self, matrix: &Int4Matrix) {
        let rows = self.input.len() / self.dims.row;
        self.projected.resize(rows * matrix.panels * LANES, 0.0);
        if self.mode.is_exact {
            self.mode.kernels.exact_product(&self.input, matrix, &mut self.projected);
        } else {
            self.mode.kernels.product_int4(&self.activations, matrix, &mut self.projected);
        }
    }

    /// Computes the queries of row `row` from the last projection, whose rows have `width` values
    /// and begin with the queries.
    pub fn set_queries(&mut self, block: &Block, row: usize, width: usize, rotation: Rotation<'_>, order: Order) {
        let Dims { head_dim, head_width, heads, .. } = self.dims;
        let rows = self.rows();
        let root = 1.0 / (head_dim as f32).sqrt();
        let angles = rotation.map(|(rope, position)| rope.angles(position));
        for head in 0..heads {
            let place = match order {
                Order::ByRow => row * heads + head,
                Order::ByHead => head * rows + row,
            };
            let from = &self.projected[row * width + head * head_dim..][..head_dim];
            let to = place * head_width..(place + 1) * head_width;
            if self.mode.is_exact {
                normalize_head(self.mode.kernels, from, &block.q_norm, self.dims.epsilon, angles, &mut self.head);
                for (to, x) in self.queries.exact[to].iter_mut().zip(&self.head) {
                    *to = x * root;
                }
            } else {
                let codes = &mut self.queries.codes[to];
                let (scale, sum) = self.mode.kernels.quantize_head(
                    from,
                    &block.q_norm,
                    self.dims.epsilon,
                    angles,
                    &mut self.head,
                    codes,
                );
                (self.queries.scales[place], self.queries.sums[place]) = (scale * root, sum);
            }
        }
    }

    /// Computes the keys and values of row `row` from the last projection, whose rows have `width`
    /// values with the keys at `start`. Passes each head to `set`.
    pub fn keys_values(
        &mut self,
        block: &Block,
        row: usize,
        width: usize,
        start: usize,
        rotation: Rotation<'_>,
        mut set: impl FnMut(HeadRow<'_>),
    ) {
        let Dims { head_dim, kv_heads, .. } = self.dims;
        let kernels = self.mode.kernels;
        let angles = rotation.map(|(rope, position)| rope.angles(position));
        for head in 0..kv_heads {
            let at = row * width + start + head * head_dim;
            let from = &self.projected[at..at + head_dim];
            let at = at + self.dims.kv_width();
            self.value[..head_dim].copy_from_slice(&self.projected[at..at + head_dim]);
            let (key, value) = if self.mode.is_exact {
                normalize_head(kernels, from, &block.k_norm, self.dims.epsilon, angles, &mut self.head);
                (HeadValues::Exact(&self.head), HeadValues::Exact(&self.value))
            } else {
                let epsilon = self.dims.epsilon;
                let (key_scale, _) =
                    kernels.quantize_head(from, &block.k_norm, epsilon, angles, &mut self.head, &mut self.key_codes);
                let (value_scale, _) = kernels.quantize(&self.value, &mut self.value_codes);
                (HeadValues::Int8(&self.key_codes, key_scale), HeadValues::Int8(&self.value_codes, value_scale))
            };
            set(HeadRow { head, key, value });
        }
    }

    /// Attention of the queries `first..first + count`, which share a key/value head, to the first
    /// `len` positions of `head`. Calls `set` for each query with the input, the index of the
    /// query, and its output.
    pub fn attend(
        &mut self,
        first: usize,
        count: usize,
        head: HeadView<'_>,
        len: usize,
        mut set: impl FnMut(&mut [f32], usize, &[f32]),
    ) {
        let width = self.dims.head_width;
        let range = first * width..(first + count) * width;
        let out = &mut self.mixed[range.clone()];
        if self.mode.is_exact {
            let queries = self.queries.exact[range].chunks_exact(width);
            for (query, out) in queries.zip(out.chunks_exact_mut(width)) {
                self.mode.kernels.exact_attend(query, head, len, &mut self.scores, out);
            }
        } else {
            let queries = Queries {
                head_width: width,
                codes: &self.queries.codes[range],
                scales: &self.queries.scales[first..first + count],
                sums: &self.queries.sums[first..first + count],
            };
            self.mode.kernels.attend(queries, head, len, &mut self.scratch, out);
        }
        for (query, read) in out.chunks_exact(width).enumerate() {
            set(&mut self.input, first + query, &read[..self.dims.head_dim]);
        }
    }

    /// Projects the input with `matrix` and adds the result, times `gate`, to the residual stream.
    pub fn project_residual(&mut self, matrix: &Int4Matrix, gate: f32) {
        self.quantize_input();
        self.project(matrix);
        let width = matrix.panels * LANES;
        let rows = self.x.chunks_exact_mut(self.dims.row).zip(self.projected.chunks_exact(width));
        for (x, branch) in rows {
            self.mode.kernels.add_scaled(&mut x[..self.dims.d_model], &branch[..self.dims.d_model], gate);
        }
    }
}

/// Normalizes and rotates one head; writes it to `out [head_width]`, whose padding stays 0.
fn normalize_head(
    kernels: &Kernels,
    from: &[f32],
    gain: &[f32],
    epsilon: f32,
    angles: Option<Angles<'_>>,
    out: &mut [f32],
) {
    let out = &mut out[..from.len()];
    kernels.rms_norm(from, gain, epsilon, out);
    if let Some((cos, sin)) = angles {
        kernels.rotate(out, cos, sin);
    }
}

impl KeyValue {
    /// Sets key and value of one head at `position`.
    pub fn set(&mut self, position: usize, row: &HeadRow<'_>) {
        match (row.key, row.value) {
            (HeadValues::Int8(key, key_scale), HeadValues::Int8(value, value_scale)) => {
                self.set_int8(row.head, position, (key, key_scale), (value, value_scale));
            }
            (HeadValues::Exact(key), HeadValues::Exact(value)) => self.set_exact(row.head, position, key, value),
            _ => unreachable!("key and value come from one mode"),
        }
    }
}
