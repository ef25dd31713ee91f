//! Exports deployable artifacts: the runtime's files, a manifest, a README on how to run it, and a
//! verification against the model.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::ElementConversion;
use needle_data::Encoder;
use needle_data::synth::{Generator, SynthConfig};
use needle_data::tokenizer::hex;
use needle_model::checkpoint::{self, Checkpoint};
use needle_model::export::hf::{self, Float};
use needle_model::export::verify::{Verified, verify};
use needle_model::export::{needle_rs, onnx};
use needle_model::quant::fake_quant::{Precision, at_precision, round_to_bf16};
use needle_model::quant::int4::GROUP_SIZE;
use needle_model::{ModelError, San, import};
use needle_runtime::answer::needle::limits;
use needle_runtime::confidence::{self, Confidence};
use safetensors::tensor::SafeTensors;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::device::Inference;
use crate::error::TrainError;
use crate::out_dir;
use crate::out_dir::{MANIFEST, OutDir};
use crate::run::state;

/// Number of prompts on which an artifact is verified.
const VERIFIED_PROMPTS: usize = 64;

/// The format of an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// INT4 safetensors and `vocab.txt`, for `needle-infer` and `needle-rs` 0.3.
    NeedleRs,
    /// INT4 graphs, for `onnxruntime`.
    Onnx,
    /// A Hugging Face directory.
    Hf(Float),
}

impl Format {
    /// The name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::NeedleRs => "needle-rs",
            Self::Onnx => "onnx",
            Self::Hf(_) => "hf",
        }
    }

    /// The precision at which the trained model computes what the artifact computes.
    pub fn precision(self) -> Precision {
        match self {
            Self::NeedleRs => Precision::Int4,
            Self::Onnx => Precision::Int4Embedding,
            Self::Hf(_) => Precision::F32,
        }
    }

    fn how_to_run(self) -> &'static str {
        match self {
            Self::NeedleRs => {
                "Runs in the `needle-infer` crate and the `needle-rs` Python package, version 0.3:\n\n```python\nfrom needle_rs import \
                 NeedleEngine\nmodel = NeedleEngine.load(\"needle.safetensors\", \"vocab.txt\")\nprint(model.run(\"ten minute timer\", \
                 '[{\"name\":\"set_timer\",\"description\":\"Start a countdown\",\"parameters\":{\"minutes\":{\"type\":\"integer\",\
                 \"required\":true}}}]'))\n```\n"
            }
            Self::Onnx => {
                "Runs in `onnxruntime` 1.20 or later, on CPU. `scripts/onnx_generate.py` of Needle in Rust is 60 lines that load it and \
                 answer a query:\n\n```console\n$ python onnx_generate.py . \"ten minute timer\" tools.json\n```\n\n`tokenizer.model` is \
                 for `sentencepiece`.\n"
            }
            Self::Hf(_) => {
                "A checkpoint in the layout of the published model: `needle run` opens it as it is, and so does `transformers` with the \
                 Needle class of the `cactus-compute` package.\n\n```console\n$ needle run . --query \"ten minute timer\" --tools \
                 tools.json\n```\n"
            }
        }
    }
}

/// What was written.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// The files and their sizes in bytes.
    pub files: BTreeMap<String, usize>,
    /// The result of the verification, if it was requested.
    pub verified: Option<Verified>,
}

/// Writes the checkpoint in `source` as an artifact in `out`, and verifies it if `is_verified`.
///
/// # Errors
/// If the checkpoint cannot be read or the artifact written, or if the artifact does not compute
/// what the model computes; `out` is then unchanged.
pub fn export(source: &Path, format: Format, out: &OutDir, is_verified: bool) -> Result<Exported, TrainError> {
    let checkpoint = Checkpoint::<Inference>::load(source, &Default::default())?;
    let mut files = match format {
        Format::NeedleRs => needle_rs::artifact(&checkpoint.model, &checkpoint.config, &checkpoint.tokenizer)?,
        Format::Onnx => {
            let mut files = onnx::artifact(&checkpoint.model, &checkpoint.config)?;
            files.push((checkpoint::files::SENTENCEPIECE.to_owned(), checkpoint.tokenizer.to_sentencepiece()));
            files
        }
        Format::Hf(float) => hf::artifact(&checkpoint, float)?,
    };
    let mut readme = readme(source, &checkpoint, format);
    if let Some(confidence) = Confidence::load(source)? {
        files.push((confidence::FILE.to_owned(), pretty(&confidence)?));
        readme.push_str(&format!("\n{}\n", confidence.about_file()));
    }
    let manifest = manifest(source, &checkpoint, format, &files)?;
    files.push((MANIFEST.to_owned(), pretty(&manifest)?));
    files.push(("README.md".to_owned(), readme.into_bytes()));
    let mut sizes = BTreeMap::new();
    // Written next to its destination first, so that an artifact that fails verification never gets
    // there.
    let artifact = out.begin()?;
    let mut add = |name: &str, bytes: &[u8]| {
        sizes.insert(name.to_owned(), bytes.len());
        artifact.add(name, bytes)
    };
    for (name, bytes) in &files {
        add(name, bytes)?;
    }
    let verified = is_verified.then(|| prove(&checkpoint, format, artifact.path())).transpose()?;
    if let Some(verified) = &verified {
        add("verify.json", &pretty(verified)?)?;
    }
    out.finish(artifact)?;
    Ok(Exported { files: sizes, verified })
}

fn pretty(value: &impl Serialize) -> Result<Vec<u8>, TrainError> {
    Ok(serde_json::to_vec_pretty(value).map_err(|e| ModelError::bad_file(MANIFEST, e.to_string()))?)
}

/// Reads the artifact in `dir` back and compares it with the trained model.
fn prove(checkpoint: &Checkpoint<Inference>, format: Format, dir: &Path) -> Result<Verified, TrainError> {
    let ours = at_precision(checkpoint.model.clone(), format.precision());
    let read: San<Inference> = match format {
        Format::NeedleRs => import::needle_rs::read(dir, &Default::default())?.1,
        Format::Onnx => {
            let log_temp =
                checkpoint.model.retrieval_head.as_ref().map(|head| head.log_temp.val().into_scalar().elem::<f32>());
            import::onnx::read(dir, &checkpoint.config, log_temp.unwrap_or(0.0), &Default::default())?
        }
        Format::Hf(_) => Checkpoint::<Inference>::load(dir, &Default::default())?.model,
    };
    let ours = match format {
        Format::Hf(Float::Bf16) => round_to_bf16(ours, |_| true),
        _ => ours,
    };
    let encoder = Encoder::new(&checkpoint.tokenizer, limits(&checkpoint.config))?;
    let examples = Generator::new(SynthConfig::default())?.take(VERIFIED_PROMPTS);
    let prompts: Vec<Vec<u32>> = examples.map(|example| encoder.prompt(&example.query, &example.tools).0).collect();
    Ok(verify(&ours, &read, &prompts)?)
}

fn manifest(
    source: &Path,
    checkpoint: &Checkpoint<Inference>,
    format: Format,
    files: &[(String, Vec<u8>)],
) -> Result<Value, TrainError> {
    let sha256 = |bytes: &[u8]| hex(&Sha256::digest(bytes));
    let mut tensors = Vec::new();
    for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        let file = SafeTensors::deserialize(bytes).map_err(|e| ModelError::bad_file(name, e.to_string()))?;
        for (tensor, view) in file.tensors() {
            let dtype = format!("{:?}", view.dtype());
            tensors.push(json!({"file": name, "name": tensor, "dtype": dtype, "shape": view.shape(), "sha256": sha256(view.data())}));
        }
    }
    let weights = files.iter().find(|(name, _)| name == onnx::WEIGHTS).map(|(_, bytes)| bytes.as_slice());
    for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".onnx")) {
        for constant in onnx::weights_of(bytes, weights.unwrap_or_default())? {
            let onnx::Constant { name: tensor, shape, data_type, bytes } = constant;
            tensors.push(
                json!({"file": name, "name": tensor, "onnx_type": data_type, "shape": shape, "sha256": sha256(&bytes)}),
            );
        }
    }
    tensors.sort_by_key(|tensor| tensor["name"].to_string());
    let config = &checkpoint.config;
    let (bits, embedding) = match format {
        Format::NeedleRs => (json!(4), "bf16"),
        Format::Onnx => (json!(4), "int4"),
        Format::Hf(Float::Bf16) => (json!(16), "bf16"),
        Format::Hf(Float::F32) => (json!(32), "f32"),
    };
    // The trainer's state, if the checkpoint has one.
    let state: Option<Value> =
        std::fs::read(source.join(state::STATE)).ok().and_then(|b| serde_json::from_slice(&b).ok());
    let of_state = |key: &str| state.as_ref().map_or(Value::Null, |state| state[key].clone());
    let mut manifest = out_dir::manifest(format.name(), files);
    let more = json!({
        "bits": bits,
        "group_size": (bits == 4).then_some(GROUP_SIZE),
        "embedding": embedding,
        "model": {
            "task": "single-shot tool calling: (query, tools) to a JSON list of calls",
            "architecture": "Simple Attention Network: encoder-decoder, attention and gates, no feed-forward layers",
            "parameters": config.num_params_with_head(),
            "vocab_size": config.vocab_size,
            "d_model": config.d_model,
            "num_heads": config.num_heads,
            "num_kv_heads": config.num_kv_heads,
            "num_encoder_layers": config.num_encoder_layers,
            "num_decoder_layers": config.num_decoder_layers,
            "max_enc_len": config.max_enc_len,
            "max_dec_len": config.max_dec_len,
            "contrastive_dim": config.contrastive_dim,
        },
        "tokenizer_sha256": checkpoint.tokenizer.sha256(),
        "tensors": tensors,
        "recipe": of_state("recipe"),
        "metrics": {"steps": of_state("step"), "best_validation": of_state("early_stopping")["best"]["score"]},
    });
    if let (Value::Object(manifest), Value::Object(more)) = (&mut manifest, more) {
        manifest.extend(more);
    }
    Ok(manifest)
}

fn readme(source: &Path, checkpoint: &Checkpoint<Inference>, format: Format) -> String {
    let name = source.file_name().unwrap_or(source.as_os_str()).to_string_lossy();
    format!(
        "# {name} ({})\n\nA Simple Attention Network of {} parameters that turns a query and a list of tools into a JSON tool call, exported by \
         needle {}.\n\n{}\n`manifest.json` has sizes, hashes, recipe and metrics; `verify.json` has the result of the comparison with the \
         trained model before the export.\n",
        format.name(),
        checkpoint.config.num_params_with_head(),
        env!("CARGO_PKG_VERSION"),
        format.how_to_run()
    )
}
