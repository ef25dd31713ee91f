//! ONNX graphs for `onnxruntime`, with INT4 weights in one file that the graphs share.
//!
//! | file | inputs | outputs |
//! | --- | --- | --- |
//! | `encoder.onnx` | `input_ids [batch, enc_len]` (0 is padding) | `encoder_hidden_states`, and the decoder's `cross.{i}.key`, `.value` |
//! | `decoder.onnx` | `input_ids [batch, dec_len]`, `encoder_input_ids`, `cross.*`, `past.{i}.key`, `.value` | `logits`, `present.*` |
//! | `retrieval.onnx` | `encoder_hidden_states`, `encoder_input_ids` | `embedding [batch, contrastive_dim]` |
//! | `weights.bin` | | codes and scales |
//!
//! Q, K, V and O are `MatMulNBits` (block 32, symmetric: a code is stored as `code + 8`), the
//! embedding is looked up by `GatherBlockQuantized` and multiplied by `MatMulNBits`, over the same
//! bytes. Both are onnxruntime's own operations. Scales are f16. The rest is opset 17. Keys and
//! values are `[batch, positions, kv_heads, head_dim]`; before the first token, `positions` is 0.

mod graph;
mod proto;

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use prost::Message;

use crate::error::ModelError;
use crate::params::{self, EMBEDDING, ParamInfo, ParamVisitor};
use crate::quant::int4::{Bits, GROUP_SIZE, quantize};
use crate::san::San;
use graph::{CONTRIB, Dim, Graph, Value, Weights, int};
use needle_runtime::config::SanConfig;
use proto::{ModelProto, OperatorSetIdProto, data_type};

/// The encoder's graph.
pub const ENCODER: &str = "encoder.onnx";
/// The decoder's graph.
pub const DECODER: &str = "decoder.onnx";
/// The retrieval head's graph.
pub const RETRIEVAL: &str = "retrieval.onnx";
/// The weights of all graphs.
pub const WEIGHTS: &str = "weights.bin";

const OPSET: i64 = 17;
/// IR version of onnx 1.13, the first whose opset is 17 or 18.
const IR_VERSION: i64 = 8;
/// Added to masked scores; finite, as in training.
const MASKED: f32 = -3.0e38;

/// The files of the artifact, as pairs of name and contents.
///
/// # Errors
/// If `d_model` is not a multiple of the block size.
pub fn artifact<B: Backend>(model: &San<B>, config: &SanConfig) -> Result<Vec<(String, Vec<u8>)>, ModelError> {
    if !config.d_model.is_multiple_of(GROUP_SIZE) {
        let reason = format!("{} is not a multiple of {GROUP_SIZE}, the block of MatMulNBits", config.d_model);
        return Err(ModelError::Config { field: "d_model", reason });
    }
    let mut read = Read(BTreeMap::new());
    params::visit(model, &mut read);
    let mut builder = Builder { config, params: read.0, weights: Weights::default() };
    let mut files = vec![(ENCODER.to_owned(), builder.encoder()), (DECODER.to_owned(), builder.decoder())];
    if config.contrastive_dim.is_some() {
        files.push((RETRIEVAL.to_owned(), builder.retrieval()));
    }
    files.push((WEIGHTS.to_owned(), builder.weights.bytes));
    Ok(files)
}

/// A constant of a graph.
pub struct Constant {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Its type, as ONNX numbers them.
    pub data_type: i32,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// The constants of the graph in `bytes`; `weights` are the contents of the weights file.
///
/// # Errors
/// If `bytes` are not a graph, or a constant lies beyond the end of `weights`.
pub fn weights_of(bytes: &[u8], weights: &[u8]) -> Result<Vec<Constant>, ModelError> {
    let bad = |reason: String| ModelError::bad_file("graph", reason);
    let model = ModelProto::decode(bytes).map_err(|e| bad(e.to_string()))?;
    let of = |constant: proto::TensorProto| {
        let number = |key: &str| constant.external_data.iter().find(|e| e.key == key)?.value.parse::<usize>().ok();
        let part =
            |(offset, length): (usize, usize)| weights.get(offset..offset.checked_add(length)?).map(<[u8]>::to_vec);
        let bytes = constant.raw_data.clone().or_else(|| number("offset").zip(number("length")).and_then(part));
        let bytes = bytes.ok_or_else(|| bad(format!("{} lies beyond the end of {WEIGHTS}", constant.name)))?;
        Ok(Constant { name: constant.name, shape: constant.dims, data_type: constant.data_type, bytes })
    };
    model.graph.unwrap_or_default().initializer.into_iter().map(of).collect()
}

/// A parameter as the graphs store it.
enum Param {
    /// Packed codes `[out, in / 32, 16]` and scales `[out, in / 32]`, f16.
    Int4 { codes: Vec<u8>, scales: Vec<u8>, inputs: usize, outputs: usize },
    /// Not quantized.
    F32 { shape: Vec<usize>, values: Vec<f32> },
}

struct Read(BTreeMap<String, Param>);

impl<B: Backend> ParamVisitor<B> for Read {
    fn visit<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) {
        let shape = info.shape.clone();
        let param = if info.is_attention_matrix() {
            int4(tensor.reshape([shape[0], shape[1]]))
        } else if info.name == EMBEDDING {
            // Groups lie along d_model: a lookup reads whole rows, and logits are sums over
            // d_model.
            int4(tensor.reshape([shape[0], shape[1]]).transpose())
        } else {
            Param::F32 { shape, values: tensor.into_data().iter::<f32>().collect() }
        };
        self.0.insert(info.name, param);
    }
}

/// Quantizes `weight [in, out]` as training does, and packs the codes.
fn int4<B: Backend>(weight: Tensor<B, 2>) -> Param {
    let [inputs, outputs] = weight.dims();
    let quantized = quantize(weight, Bits::Int4).with_f16_scales();
    let values = |t: Tensor<B, 2>| -> Vec<f32> { t.transpose().into_data().iter::<f32>().collect() };
    let (codes, scales) = (values(quantized.codes), values(quantized.scales)); // [out, in], [out, in / 32]
    let nibble = |code: f32| (code as i8 + 8) as u8;
    let scales = scales.into_iter().flat_map(|scale| half::f16::from_f32(scale).to_le_bytes()).collect();
    let codes = codes.chunks_exact(2).map(|pair| nibble(pair[0]) | nibble(pair[1]) << 4).collect();
    Param::Int4 { codes, scales, inputs, outputs }
}

struct Builder<'a> {
    config: &'a SanConfig,
    params: BTreeMap<String, Param>,
    weights: Weights,
}

fn model(graph: Graph, doc: &str) -> Vec<u8> {
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
    ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![opset("", OPSET), opset(CONTRIB, 1)],
        producer_name: "needle".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: doc.into(),
        graph: Some(graph.finish()),
    }
    .encode_to_vec()
}

const IDS: [Dim; 2] = [Dim::Free("batch"), Dim::Free("enc_len")];

impl Builder<'_> {
    fn key_value(&self, positions: &'static str) -> [Dim; 4] {
        let config = self.config;
        [Dim::Free("batch"), Dim::Free(positions), Dim::Is(config.num_kv_heads), Dim::Is(config.head_dim())]
    }

    fn hidden(&self, positions: &'static str) -> [Dim; 3] {
        [Dim::Free("batch"), Dim::Free(positions), Dim::Is(self.config.d_model)]
    }

    fn encoder(&mut self) -> Vec<u8> {
        let mut g = Graph::new("needle_encoder");
        let ids = g.input("input_ids", data_type::INT64, &IDS);
        let mask = padding(&mut g, &ids); // [batch, 1, 1, enc_len]
        let zero = g.int64(0);
        let length = g.length(&ids, 1);
        let rotation = self.rotation(&mut g, &zero, &length);
        let mut x = self.embed(&mut g, &ids);
        for i in 0..self.config.num_encoder_layers {
            let at = format!("model.encoder.layers.{i}");
            let normed = self.norm(&mut g, &x, &format!("{at}.input_layernorm"));
            let queries = self.queries(&mut g, &normed, &format!("{at}.self_attn"), Some(&rotation));
            let (keys, values) = self.keys_values(&mut g, &normed, &format!("{at}.self_attn"), Some(&rotation));
            let attended = self.attend(&mut g, &queries, &keys, &values, &mask, &format!("{at}.self_attn"));
            x = self.gated(&mut g, &x, &attended, &format!("{at}.attn_gate"));
        }
        let memory = self.norm(&mut g, &x, "model.encoder.final_norm");
        g.output(&memory, "encoder_hidden_states", &self.hidden("enc_len"));
        for i in 0..self.config.num_decoder_layers {
            let at = format!("model.decoder.layers.{i}.encoder_attn");
            let (keys, values) = self.keys_values(&mut g, &memory, &at, None);
            g.output(&keys, &format!("cross.{i}.key"), &self.key_value("enc_len"));
            g.output(&values, &format!("cross.{i}.value"), &self.key_value("enc_len"));
        }
        model(g, "Reads query and tools; also makes the keys and values that the decoder attends to.")
    }

    fn decoder(&mut self) -> Vec<u8> {
        let mut g = Graph::new("needle_decoder");
        let ids = g.input("input_ids", data_type::INT64, &[Dim::Free("batch"), Dim::Free("dec_len")]);
        let enc_ids = g.input("encoder_input_ids", data_type::INT64, &IDS);
        let layers = self.config.num_decoder_layers;
        let mut given = |kind: &str, positions| -> Vec<[Value; 2]> {
            let dims = self.key_value(positions);
            let mut of = |i: usize, part: &str| g.input(&format!("{kind}.{i}.{part}"), data_type::FLOAT, &dims);
            (0..layers).map(|i| [of(i, "key"), of(i, "value")]).collect()
        };
        let cross = given("cross", "enc_len");
        let past = given("past", "past_len");
        let cross_mask = padding(&mut g, &enc_ids); // [batch, 1, 1, enc_len]
        let before = g.length(&past[0][0], 1);
        let new = g.length(&ids, 1);
        let after = g.add(&before, &new);
        let rotation = self.rotation(&mut g, &before, &after);
        let causal = causal(&mut g, &before, &after); // [dec_len, past_len + dec_len]
        let mut x = self.embed(&mut g, &ids);
        let mut present = Vec::new();
        for (i, (cross, past)) in cross.iter().zip(&past).enumerate() {
            let at = format!("model.decoder.layers.{i}");
            let normed = self.norm(&mut g, &x, &format!("{at}.input_layernorm"));
            let queries = self.queries(&mut g, &normed, &format!("{at}.self_attn"), Some(&rotation));
            let (keys, values) = self.keys_values(&mut g, &normed, &format!("{at}.self_attn"), Some(&rotation));
            let keys = g.concat(&[&past[0], &keys], 1);
            let values = g.concat(&[&past[1], &values], 1);
            let attended = self.attend(&mut g, &queries, &keys, &values, &causal, &format!("{at}.self_attn"));
            x = self.gated(&mut g, &x, &attended, &format!("{at}.self_attn_gate"));
            present.push([keys, values]);

            let normed = self.norm(&mut g, &x, &format!("{at}.encoder_attn_layer_norm"));
            let queries = self.queries(&mut g, &normed, &format!("{at}.encoder_attn"), None);
            let attended =
                self.attend(&mut g, &queries, &cross[0], &cross[1], &cross_mask, &format!("{at}.encoder_attn"));
            x = self.gated(&mut g, &x, &attended, &format!("{at}.cross_attn_gate"));
        }
        let hidden = self.norm(&mut g, &x, "model.decoder.norm");
        let logits = self.linear(&mut g, &hidden, EMBEDDING);
        let dims = [Dim::Free("batch"), Dim::Free("dec_len"), Dim::Is(self.config.vocab_size)];
        g.output(&logits, "logits", &dims);
        for (i, [keys, values]) in present.iter().enumerate() {
            g.output(keys, &format!("present.{i}.key"), &self.key_value("total_len"));
            g.output(values, &format!("present.{i}.value"), &self.key_value("total_len"));
        }
        model(g, "Writes the answer: from the end token on, one token or several at a time.")
    }

    fn retrieval(&mut self) -> Vec<u8> {
        let mut g = Graph::new("needle_retrieval");
        let memory = g.input("encoder_hidden_states", data_type::FLOAT, &self.hidden("enc_len"));
        let ids = g.input("encoder_input_ids", data_type::INT64, &IDS);
        let is_real = is_real(&mut g, &ids);
        let real = g.cast(&is_real, data_type::FLOAT);
        let real = g.unsqueeze(&real, &[-1]); // [batch, enc_len, 1]
        let kept = g.mul(&memory, &real);
        let (sum, count) = (g.sum(&kept, 1), g.sum(&real, 1)); // [batch, 1, d_model], [batch, 1, 1]
        let one = g.float(1.0);
        let count = g.op("Max", &[&count, &one], vec![]);
        let mean = g.op("Div", &[&sum, &count], vec![]);
        let mean = g.reshape(&mean, &[0, self.config.d_model as i64]); // [batch, d_model]
        let hidden = self.plain(&mut g, "retrieval_head.hidden.weight");
        let bias = self.plain(&mut g, "retrieval_head.hidden.bias");
        let hidden = g.matmul(&mean, &hidden);
        let hidden = g.add(&hidden, &bias);
        let hidden = g.op("Relu", &[&hidden], vec![]);
        let proj = self.plain(&mut g, "retrieval_head.proj.weight");
        let projected = g.matmul(&hidden, &proj);
        let squares = g.mul(&projected, &projected);
        let length = g.sum(&squares, -1);
        let epsilon = g.float(1e-12);
        let length = g.add(&length, &epsilon);
        let length = g.op("Sqrt", &[&length], vec![]);
        let unit = g.op("Div", &[&projected, &length], vec![]);
        let dim = self.config.contrastive_dim.unwrap_or_default();
        g.output(&unit, "embedding", &[Dim::Free("batch"), Dim::Is(dim)]);
        model(g, "The unit vector of a text that the encoder has read.")
    }

    /// `E[ids] * sqrt(d_model)`.
    fn embed(&mut self, g: &mut Graph, ids: &str) -> Value {
        let Some(Param::Int4 { codes, scales, inputs, outputs }) = self.params.get(EMBEDDING) else {
            return ids.to_owned();
        };
        let (d_model, vocab, blocks) = (*inputs, *outputs, inputs / GROUP_SIZE);
        let rows = format!("{EMBEDDING}.rows");
        let codes =
            g.weight(&mut self.weights, WEIGHTS, (&rows, EMBEDDING), data_type::UINT8, &[vocab, d_model / 2], codes);
        let stored = format!("{EMBEDDING}.scales");
        let name = format!("{stored}.rows");
        let scales =
            g.weight(&mut self.weights, WEIGHTS, (&name, &stored), data_type::FLOAT16, &[vocab, blocks], scales);
        // Cast to f32 once, when the graph is loaded: the operations need scales of the same type
        // as their other input.
        let scales = g.cast(&scales, data_type::FLOAT);
        let attributes =
            vec![int("gather_axis", 0), int("quantize_axis", 1), int("block_size", GROUP_SIZE), int("bits", 4)];
        let rows = g.op_of(CONTRIB, "GatherBlockQuantized", &[&codes, ids, &scales], attributes);
        let root = g.float((d_model as f32).sqrt());
        g.mul(&rows, &root)
    }

    /// `x [.., in] -> [.., out]` by the INT4 matrix `name`.
    fn linear(&mut self, g: &mut Graph, x: &str, name: &str) -> Value {
        let Some(Param::Int4 { codes, scales, inputs, outputs }) = self.params.get(name) else { return x.to_owned() };
        let blocks = inputs / GROUP_SIZE;
        let dims = [*outputs, blocks, GROUP_SIZE / 2];
        let codes = g.weight(&mut self.weights, WEIGHTS, (name, name), data_type::UINT8, &dims, codes);
        let stored = format!("{name}.scales");
        let dims = [outputs * blocks];
        let scales = g.weight(&mut self.weights, WEIGHTS, (&stored, &stored), data_type::FLOAT16, &dims, scales);
        let scales = g.cast(&scales, data_type::FLOAT);
        let attributes = vec![int("K", *inputs), int("N", *outputs), int("bits", 4), int("block_size", GROUP_SIZE)];
        g.op_of(CONTRIB, "MatMulNBits", &[x, &codes, &scales], attributes)
    }

    fn plain(&self, g: &mut Graph, name: &str) -> Value {
        match self.params.get(name) {
            Some(Param::F32 { shape, values }) => g.floats(name, shape, values),
            _ => String::new(),
        }
    }

    /// `(1 + g) * x / sqrt(mean(x^2) + eps)` over the last dimension.
    fn norm(&self, g: &mut Graph, x: &str, name: &str) -> Value {
        let squares = g.mul(x, x);
        let mean = g.mean_last(&squares);
        let epsilon = g.float(self.config.rms_norm_eps);
        let shifted = g.add(&mean, &epsilon);
        let root = g.op("Sqrt", &[&shifted], vec![]);
        let normed = g.op("Div", &[x, &root], vec![]);
        let weight = self.plain(g, &format!("{name}.weight"));
        let one = g.float(1.0);
        let gain = g.add(&weight, &one);
        g.mul(&normed, &gain)
    }

    /// `[batch, seq, d_model] -> [batch, seq, heads, head_dim]`, normalized and, with `rotation`,
    /// rotated.
    fn queries(&mut self, g: &mut Graph, x: &str, at: &str, rotation: Option<&[Value; 2]>) -> Value {
        let projected = self.linear(g, x, &format!("{at}.q_proj.weight"));
        let heads = g.reshape(&projected, &[0, 0, self.config.num_heads as i64, self.config.head_dim() as i64]);
        let normed = self.norm(g, &heads, &format!("{at}.q_norm"));
        self.rotated(g, normed, rotation)
    }

    /// `[batch, seq, d_model] ->` keys and values `[batch, seq, kv_heads, head_dim]`.
    fn keys_values(&mut self, g: &mut Graph, x: &str, at: &str, rotation: Option<&[Value; 2]>) -> (Value, Value) {
        let shape = [0, 0, self.config.num_kv_heads as i64, self.config.head_dim() as i64];
        let keys = self.linear(g, x, &format!("{at}.k_proj.weight"));
        let keys = g.reshape(&keys, &shape);
        let keys = self.norm(g, &keys, &format!("{at}.k_norm"));
        let keys = self.rotated(g, keys, rotation);
        let values = self.linear(g, x, &format!("{at}.v_proj.weight"));
        (keys, g.reshape(&values, &shape))
    }

    /// Cosines and sines of positions `from..to`, `[positions, 1, head_dim / 2]` each.
    fn rotation(&self, g: &mut Graph, from: &str, to: &str) -> [Value; 2] {
        let one = g.int64(1);
        let positions = g.op("Range", &[from, to, &one], vec![]);
        let positions = g.cast(&positions, data_type::FLOAT);
        let positions = g.unsqueeze(&positions, &[-1]); // [positions, 1]
        let (half, width) = (self.config.head_dim() / 2, self.config.head_dim() as f64);
        let theta = f64::from(self.config.rope_theta);
        let frequencies: Vec<f32> = (0..half).map(|i| theta.powf(-((2 * i) as f64) / width) as f32).collect();
        let frequencies = g.floats("rope_frequencies", &[1, half], &frequencies);
        let angles = g.mul(&positions, &frequencies); // [positions, head_dim / 2]
        let angles = g.unsqueeze(&angles, &[1]);
        ["Cos", "Sin"].map(|op| g.op(op, &[&angles], vec![]))
    }

    /// Rotates the first half of each head with the second: `[x1 cos - x2 sin, x2 cos + x1 sin]`.
    fn rotated(&self, g: &mut Graph, x: Value, rotation: Option<&[Value; 2]>) -> Value {
        let Some([cos, sin]) = rotation else { return x };
        let half = (self.config.head_dim() / 2) as i64;
        let (first, second) = (g.slice(&x, 3, 0, half), g.slice(&x, 3, half, 2 * half));
        let (a, b) = (g.mul(&first, cos), g.mul(&second, sin));
        let new_first = g.op("Sub", &[&a, &b], vec![]);
        let (a, b) = (g.mul(&second, cos), g.mul(&first, sin));
        let new_second = g.add(&a, &b);
        g.concat(&[&new_first, &new_second], 3)
    }

    /// Grouped-query attention and the output projection; `mask` is added to the scores
    /// `[batch, heads, q_len, k_len]`.
    fn attend(&mut self, g: &mut Graph, queries: &str, keys: &str, values: &str, mask: &str, at: &str) -> Value {
        let (heads, kv_heads, width) = (self.config.num_heads, self.config.num_kv_heads, self.config.head_dim());
        let repeat = (heads / kv_heads) as i64;
        let (kv, width_i) = (kv_heads as i64, width as i64);
        let scale = g.float(1.0 / (width as f32).sqrt());
        let queries = g.mul(queries, &scale);
        // Query head h reads key/value head h / repeat: [batch, q_len, kv, repeat, width] ->
        // [batch, kv, repeat, q_len, width].
        let queries = g.reshape(&queries, &[0, 0, kv, repeat, width_i]);
        let queries = g.transpose(&queries, &[0, 2, 3, 1, 4]);
        let keys = g.transpose(keys, &[0, 2, 3, 1]); // [batch, kv, width, k_len]
        let keys = g.unsqueeze(&keys, &[2]);
        let scores = g.matmul(&queries, &keys); // [batch, kv, repeat, q_len, k_len]
        let mask = g.unsqueeze(mask, &[1]); // [.., 1, q_len or 1, k_len]
        let scores = g.add(&scores, &mask);
        let weights = g.softmax(&scores);
        let values = g.transpose(values, &[0, 2, 1, 3]); // [batch, kv, k_len, width]
        let values = g.unsqueeze(&values, &[2]);
        let mixed = g.matmul(&weights, &values); // [batch, kv, repeat, q_len, width]
        let mixed = g.transpose(&mixed, &[0, 3, 1, 2, 4]);
        let mixed = g.reshape(&mixed, &[0, 0, (heads * width) as i64]);
        self.linear(g, &mixed, &format!("{at}.out_proj.weight"))
    }

    /// `x + sigmoid(gate) * branch`.
    fn gated(&self, g: &mut Graph, x: &str, branch: &str, gate: &str) -> Value {
        let gate = self.plain(g, gate);
        let open = g.op("Sigmoid", &[&gate], vec![]);
        let branch = g.mul(branch, &open);
        g.add(x, &branch)
    }
}

fn is_real(g: &mut Graph, ids: &str) -> Value {
    let zero = g.int64(0);
    let is_padding = g.op("Equal", &[ids, &zero], vec![]);
    g.op("Not", &[&is_padding], vec![])
}

/// 0 for real keys and [`MASKED`] for padding: `[batch, len] -> [batch, 1, 1, len]`.
fn padding(g: &mut Graph, ids: &str) -> Value {
    let is_real = is_real(g, ids);
    let (none, masked) = (g.float(0.0), g.float(MASKED));
    let mask = g.op("Where", &[&is_real, &none, &masked], vec![]);
    g.unsqueeze(&mask, &[1, 2])
}

/// 0 where key `j` is not after query `before + i`: `[1, 1, after - before, after]`.
fn causal(g: &mut Graph, before: &str, after: &str) -> Value {
    let (zero, one) = (g.int64(0), g.int64(1));
    let keys = g.op("Range", &[&zero, after, &one], vec![]);
    let queries = g.op("Range", &[before, after, &one], vec![]);
    let queries = g.unsqueeze(&queries, &[1]);
    let is_seen = g.op("LessOrEqual", &[&keys, &queries], vec![]); // [dec_len, total_len]
    let (none, masked) = (g.float(0.0), g.float(MASKED));
    let mask = g.op("Where", &[&is_seen, &none, &masked], vec![]);
    g.unsqueeze(&mask, &[0, 1])
}
