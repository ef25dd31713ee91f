//! Random models, written to files without burn, for tests, fuzzing, the scripts of the bindings,
//! and benchmarks.
//!
//! Each weight is a hash of the seed and its index, so that a model is the same on every machine.
//! The embeddings of `</s>` and `<pad>` are zero, so that free answers continue until they reach a
//! limit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "shared test code, of which each user needs only a part"
)]

use std::collections::{HashMap, HashSet};
use std::path::Path;

use half::bf16;
use needle_data::Tokenizer;
use needle_runtime::config::SanConfig;
use needle_runtime::file::names::{
    BlockNames, DECODER_NORM, EMBEDDING, ENCODER_NORM, HEAD_BIAS, HEAD_HIDDEN, HEAD_PROJECTION, LOG_TEMP, artifact_name,
};
use needle_runtime::file::quantize::quantize;
use needle_runtime::file::{artifact, checkpoint, config_json};
use safetensors::tensor::{Dtype, TensorView};

/// The kind of a parameter.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Embedding,
    Projection,
    Dense,
    Vector,
}

/// A parameter, `[outputs, inputs]`; a vector is `[1, len]`.
struct Parameter {
    name: String,
    kind: Kind,
    outputs: usize,
    inputs: usize,
    values: Vec<f32>,
}

/// A model and its tokenizer.
pub struct Model {
    /// Sizes of the model.
    pub config: SanConfig,
    /// Tokenizer of the model.
    pub tokenizer: Tokenizer,
    parameters: Vec<Parameter>,
}

/// A tensor of a file.
struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A pseudo-random 32-bit number for each index.
fn hash(seed: u32, index: usize) -> u32 {
    let mut x = (index as u32).wrapping_mul(0x9E37_79B9) ^ seed.wrapping_mul(0x85EB_CA6B);
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

/// Words that are frequent in requests, tools and answers, and pieces of JSON.
const WORDS: &str = r#"▁set ▁a ▁timer ▁for ▁ten ▁minutes ▁switch ▁the ▁lamp ▁on ▁please ▁what ▁says ▁Set ▁[{ {"name":" }}]
    ","arguments":{" },{" true false "type":"integer" "type":"string" "description":" parameters required set_ message reminder
    song route list heating camera alarm text count Start minutes timer"#;

/// A tokenizer with about 500 ids.
pub fn small_tokenizer() -> Tokenizer {
    tokenizer(0)
}

/// A tokenizer of words with their prefixes and characters, filled up with invented words to
/// `vocab_size` ids; 0 adds none.
pub fn tokenizer(vocab_size: usize) -> Tokenizer {
    let specials = ["<pad>", "</s>", "<s>", "<unk>", "<tool_call>", "<tools>"].map(str::to_owned);
    let mut pieces: Vec<String> =
        specials.into_iter().chain((0..=255_u8).map(|byte| format!("<0x{byte:02X}>"))).collect();
    let mut known: HashSet<String> = pieces.iter().cloned().collect();
    let mut add = |piece: String| {
        if known.insert(piece.clone()) {
            pieces.push(piece);
        }
        pieces.len()
    };
    // Adds each prefix of a word: the previous prefix and one more character.
    let mut add_word = |word: &str| {
        word.char_indices().skip(1).map(|(at, c)| add(word[..at + c.len_utf8()].to_owned())).last().unwrap_or_default()
    };
    WORDS.split_whitespace().for_each(|word| _ = add_word(word));
    let characters: Vec<char> = WORDS.chars().chain('!'..='~').filter(|c| !c.is_whitespace()).collect();
    let room = vocab_size.saturating_sub(characters.iter().collect::<HashSet<_>>().len());
    let syllable = |i: usize| [b"bdfgklmnprst"[i % 12], b"aeiou"[i / 12 % 5]].map(char::from);
    let mut invented = (0..).map(|i: usize| {
        let word = [hash(11, i), hash(12, i), hash(13, i)].map(|at| syllable(at as usize % 60));
        std::iter::once('▁').chain(word.into_iter().flatten()).collect::<String>()
    });
    while vocab_size > 0 && add_word(&invented.next().unwrap()) < room {}
    characters.into_iter().for_each(|c| _ = add(c.to_string()));
    if vocab_size > 0 {
        // Only some prefixes of the last invented word may fit.
        let over = pieces.len().saturating_sub(vocab_size);
        let characters = pieces.iter().rposition(|piece| piece.chars().count() > 1).unwrap() + 1;
        pieces.drain(characters - over..characters);
    }
    Tokenizer::from_piece_list(pieces).unwrap()
}

/// Sizes of a model of a few kilobytes, for fuzzing.
pub fn smallest() -> SanConfig {
    let tiny = SanConfig::preset("tiny").unwrap();
    SanConfig {
        d_model: 16,
        num_heads: 2,
        num_kv_heads: 1,
        num_encoder_layers: 1,
        num_decoder_layers: 1,
        contrastive_dim: Some(4),
        max_enc_len: 64,
        max_dec_len: 64,
        ..tiny
    }
}

impl Model {
    /// A model with the sizes of the preset `tiny` and [`small_tokenizer`].
    pub fn tiny(seed: u32) -> Self {
        Self::new(SanConfig::preset("tiny").unwrap(), small_tokenizer(), seed)
    }

    /// A model with these sizes, but with the vocabulary size of `tokenizer`.
    pub fn new(config: SanConfig, tokenizer: Tokenizer, seed: u32) -> Self {
        Self::with(config, tokenizer, seed, |value| value)
    }

    /// Like [`Model::new`]; `change` maps random numbers from -1 to 1 to weights, before they are
    /// scaled.
    pub fn with(config: SanConfig, tokenizer: Tokenizer, seed: u32, change: fn(f32) -> f32) -> Self {
        let config = SanConfig { vocab_size: tokenizer.vocab_size(), ..config };
        let mut model = Self { config: config.clone(), tokenizer, parameters: Vec::new() };
        let d = config.d_model;
        let mut add = |name: &str, kind, outputs: usize, inputs: usize, scale: f32| {
            let seed = name.bytes().fold(seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
            let value = |i| change(hash(seed, i) as f32 / 2f32.powi(31) - 1.0) * scale;
            let mut values: Vec<f32> = (0..outputs * inputs).map(value).collect();
            if kind == Kind::Embedding {
                values[..2 * inputs].fill(0.0);
            }
            model.parameters.push(Parameter { name: name.to_owned(), kind, outputs, inputs, values });
        };
        add(EMBEDDING, Kind::Embedding, config.vocab_size, d, 0.1);
        let encoder = (0..config.num_encoder_layers).map(BlockNames::encoder);
        let decoder =
            (0..config.num_decoder_layers).flat_map(|layer| [BlockNames::decoder(layer), BlockNames::cross(layer)]);
        for block in encoder.chain(decoder) {
            let kv = config.num_kv_heads * config.head_dim();
            for (which, outputs) in [("q", d), ("k", kv), ("v", kv), ("out", d)] {
                add(&block.projection(which), Kind::Projection, outputs, d, 2.0 / (d as f32).sqrt());
            }
            for which in ["q", "k"] {
                add(&block.head_norm(which), Kind::Vector, 1, config.head_dim(), 0.5);
            }
            add(&block.norm, Kind::Vector, 1, d, 0.5);
            add(&block.gate, Kind::Vector, 1, 1, 1.0);
        }
        add(ENCODER_NORM, Kind::Vector, 1, d, 0.5);
        add(DECODER_NORM, Kind::Vector, 1, d, 0.5);
        if let Some(dim) = config.contrastive_dim {
            let hidden = config.contrastive_hidden();
            add(HEAD_HIDDEN, Kind::Dense, hidden, d, 0.3);
            add(HEAD_BIAS, Kind::Vector, 1, hidden, 0.1);
            add(HEAD_PROJECTION, Kind::Dense, dim, hidden, 0.3);
            add(LOG_TEMP, Kind::Vector, 1, 1, 1.0);
        }
        model
    }

    /// The contents of `needle.safetensors` and of `vocab.txt`.
    pub fn artifact(&self) -> (Vec<u8>, String) {
        let mut entries = Vec::new();
        for parameter in &self.parameters {
            let Parameter { kind, outputs, inputs, values, .. } = parameter;
            let name = artifact_name(&parameter.name);
            let mut push = |name: String, dtype, shape: Vec<usize>, bytes| {
                entries.push(Entry { name, dtype, shape, bytes });
            };
            match kind {
                Kind::Projection => {
                    let int4 = quantize(values, *inputs, *outputs);
                    let scales: Vec<u8> = int4.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
                    push(format!("{name}.scale"), Dtype::F16, vec![int4.scales.len() / outputs, *outputs], scales);
                    push(name, Dtype::I8, vec![int4.pairs, *outputs], int4.codes);
                }
                Kind::Embedding => {
                    let bytes = values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect();
                    push(name, Dtype::BF16, vec![*outputs, *inputs], bytes);
                }
                Kind::Dense => {
                    let transposed = (0..*inputs).flat_map(|i| values.iter().skip(i).step_by(*inputs));
                    push(name, Dtype::F32, vec![*inputs, *outputs], transposed.flat_map(|x| x.to_le_bytes()).collect());
                }
                Kind::Vector => push(name, Dtype::F32, vec![*inputs], f32_bytes(values)),
            }
        }
        let config = &self.config;
        let metadata = [
            ("d_model", config.d_model),
            ("num_heads", config.num_heads),
            ("num_kv_heads", config.num_kv_heads),
            ("num_encoder_layers", config.num_encoder_layers),
            ("num_decoder_layers", config.num_decoder_layers),
            ("vocab_size", config.vocab_size),
            ("max_enc_len", config.max_enc_len),
            ("max_dec_len", config.max_dec_len),
        ];
        let mut metadata: HashMap<String, String> =
            metadata.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect();
        metadata.insert("rope_theta".to_owned(), format!("{:?}", config.rope_theta));
        metadata.insert("no_feedforward".to_owned(), "True".to_owned());
        let ids = 0..self.tokenizer.vocab_size() as u32;
        let line = |id| format!("{}\t{}\n", self.tokenizer.piece(id).unwrap(), self.tokenizer.score(id));
        (safetensors(&entries, Some(metadata)), ids.map(line).collect())
    }

    /// The files of a training checkpoint, by name.
    pub fn checkpoint(&self) -> Vec<(&'static str, Vec<u8>)> {
        let entry = |parameter: &Parameter| Entry {
            name: parameter.name.clone(),
            dtype: Dtype::F32,
            shape: if parameter.kind == Kind::Vector {
                vec![parameter.inputs]
            } else {
                vec![parameter.outputs, parameter.inputs]
            },
            bytes: f32_bytes(&parameter.values),
        };
        let entries: Vec<Entry> = self.parameters.iter().map(entry).collect();
        vec![
            (config_json::CONFIG, config_json::to_json(&self.config).unwrap()),
            (checkpoint::WEIGHTS, safetensors(&entries, None)),
            (checkpoint::TOKENIZER, self.tokenizer.to_json().into_bytes()),
        ]
    }

    /// Writes the files of the artifact to `dir`.
    pub fn write_artifact(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        let (weights, vocab) = self.artifact();
        std::fs::write(dir.join(artifact::WEIGHTS), weights).unwrap();
        std::fs::write(dir.join(artifact::VOCAB), vocab).unwrap();
    }

    /// Writes the files of the checkpoint to `dir`.
    pub fn write_checkpoint(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        for (name, bytes) in self.checkpoint() {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn safetensors(entries: &[Entry], metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let views = entries
        .iter()
        .map(|Entry { name, dtype, shape, bytes }| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, metadata).unwrap()
}
