//! Damaged and malicious files: each must give one clear error, or a model that answers, and never
//! a panic.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod models;

use std::path::Path;

use models::{Model, small_tokenizer, smallest};
use needle_runtime::config::SanConfig;
use needle_runtime::engine::{Engine, Options};
use needle_runtime::generate::{NoHook, StepHook};
use needle_runtime::{InstructionSet, RuntimeError};
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// Maximum length of an error message, in bytes.
const LONGEST_MESSAGE: usize = 400;

/// A safetensors file, split into header and data.
#[derive(Clone)]
struct Parts {
    header: Value,
    data: Vec<u8>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
        Self { header, data: bytes[8 + len..].to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        with_header(self.header.to_string().as_bytes(), &self.data)
    }

    fn names(&self) -> Vec<String> {
        let names = self.header.as_object().unwrap().keys();
        names.filter(|name| *name != "__metadata__").cloned().collect()
    }

    fn dtype(&self, name: &str) -> &str {
        self.header[name]["dtype"].as_str().unwrap()
    }

    /// The bytes of tensor `name`.
    fn tensor(&mut self, name: &str) -> &mut [u8] {
        let offsets = &self.header[name]["data_offsets"];
        let [start, end] = [0, 1].map(|i| offsets[i].as_u64().unwrap() as usize);
        &mut self.data[start..end]
    }

    /// The same file without tensor `name`, with consistent offsets.
    fn without(mut self, name: &str) -> Self {
        let removed = self.header.as_object_mut().unwrap().remove(name).unwrap();
        let [start, end] = [0, 1].map(|i| removed["data_offsets"][i].as_u64().unwrap());
        self.data.drain(start as usize..end as usize);
        for (key, tensor) in self.header.as_object_mut().unwrap() {
            if key != "__metadata__" && tensor["data_offsets"][0].as_u64().unwrap() >= end {
                for i in 0..2 {
                    let moved = tensor["data_offsets"][i].as_u64().unwrap() - (end - start);
                    tensor["data_offsets"][i] = moved.into();
                }
            }
        }
        self
    }
}

fn with_header(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// Bytes of a number that is not finite, if `dtype` is a float type.
fn not_finite(dtype: &str) -> Option<&'static [u8]> {
    match dtype {
        "F16" => Some(&[0x00, 0x7C]),
        "BF16" => Some(&[0xC0, 0x7F]),
        "F32" => Some(&[0x00, 0x00, 0x80, 0xFF]),
        _ => None,
    }
}

/// The message of the error that opening gave, which must be one line.
fn refused(what: &str, opened: Result<Engine, RuntimeError>) -> String {
    let message = opened.err().unwrap_or_else(|| panic!("{what}: it was opened")).to_string();
    assert!(message.len() <= LONGEST_MESSAGE && !message.contains('\n'), "{what}: {message}");
    message
}

fn open(weights: Vec<u8>, vocab: &str) -> Result<Engine, RuntimeError> {
    Engine::from_bytes(weights, Some(vocab), &Options { threads: 1, ..Options::default() })
}

/// Damaged versions of a safetensors file, each with a description of the damage.
fn broken_bytes(whole: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let parts = Parts::of(whole);
    let header = parts.header.to_string();
    let deep = "[".repeat(100_000);
    let (first, data) = (&parts.names()[0], &parts.data);
    let with = |key: &str, value: Value| {
        let mut parts = parts.clone();
        parts.header[first][key] = value;
        parts.bytes()
    };
    let mut damages = vec![
        ("no bytes", Vec::new()),
        ("half a length", whole[..7].to_vec()),
        ("a length alone", whole[..8].to_vec()),
        ("a header that is longer than any file", [&u64::MAX.to_le_bytes(), &whole[8..]].concat()),
        ("a header that is longer than this file", [&(whole.len() as u64).to_le_bytes(), &whole[8..]].concat()),
        ("a header of no bytes", with_header(b"", data)),
        ("a header that is not JSON", with_header(b"{\"a\":", data)),
        ("a header that is a list", with_header(b"[]", data)),
        ("a header that is not text", with_header(&[0xFF; 64], data)),
        ("a header without end", with_header(deep.as_bytes(), data)),
        ("a header of zeros", vec![0; whole.len()]),
        ("bytes after the last tensor", [whole, &[0; 3]].concat()),
        ("an offset that is negative", with("data_offsets", json!([-1, 4]))),
        ("offsets in the wrong order", with("data_offsets", json!([8, 4]))),
        ("offsets beyond the file", with("data_offsets", json!([0, 1_u64 << 40]))),
        ("offsets beyond any file", with("data_offsets", json!([u64::MAX - 1, u64::MAX]))),
        ("one offset", with("data_offsets", json!([0]))),
        ("a shape beyond any number", with("shape", json!([u64::MAX, u64::MAX]))),
        ("a shape whose size wraps to that of the data", with("shape", json!([1_u64 << 63, 2, 16]))),
        ("a shape that is negative", with("shape", json!([-1]))),
        ("a shape of no values", with("shape", json!([0]))),
        ("a type that does not exist", with("dtype", json!("F9"))),
        ("a tensor without a type", with_header(header.replacen("\"dtype\"", "\"type\"", 1).as_bytes(), data)),
    ];
    // Every tensor gets the offsets of the first tensor of its size, so that they overlap.
    let mut overlapping = parts.clone();
    let names = parts.names();
    for name in &names {
        let size = |name: &str| {
            parts.header[name]["data_offsets"][1].as_u64().zip(parts.header[name]["data_offsets"][0].as_u64())
        };
        let sized = |name: &str| size(name).map(|(end, start)| end - start);
        let twin = names.iter().find(|other| sized(other) == sized(name)).unwrap();
        overlapping.header[name]["data_offsets"] = parts.header[twin]["data_offsets"].clone();
    }
    damages.push(("tensors that overlap", overlapping.bytes()));
    damages
}

#[test]
fn a_damaged_safetensors_file_gives_a_one_line_error_that_names_it() {
    let (weights, vocab) = Model::tiny(1).artifact();
    open(weights.clone(), &vocab).unwrap();
    for (what, bytes) in broken_bytes(&weights) {
        let message = refused(what, open(bytes, &vocab));
        assert!(message.starts_with("needle.safetensors: "), "{what}: {message}");
    }
    let step = weights.len() / 101;
    for len in (0..weights.len()).step_by(step) {
        refused(&format!("cut to {len} bytes"), open(weights[..len].to_vec(), &vocab));
    }
}

#[test]
fn each_tensor_of_an_artifact_that_is_missing_misshapen_or_not_finite_is_named() {
    let (weights, vocab) = Model::tiny(2).artifact();
    let whole = Parts::of(&weights);
    // Ranking does not need the temperature, and without the last matrix there is no retrieval
    // head.
    let optional = ["log_temp", "contrastive_proj_kernel"];
    for name in whole.names().iter().filter(|name| *name != "log_temp") {
        let names_it = |what: &str, parts: &Parts| {
            let message = refused(&format!("{name} {what}"), open(parts.bytes(), &vocab));
            let weight = name.strip_suffix(".scale").unwrap_or(name);
            assert!(message.contains(weight), "{name} {what}: {message}");
        };
        if !optional.contains(&name.as_str()) {
            names_it("missing", &whole.clone().without(name));
        }
        let mut flat = whole.clone();
        let shape: Vec<u64> = serde_json::from_value(flat.header[name]["shape"].clone()).unwrap();
        flat.header[name]["shape"] = json!([1, shape.iter().product::<u64>(), 1]);
        // Its last dimension defines the length of embeddings.
        if *name != "contrastive_proj_kernel" {
            names_it("of another shape", &flat);
        }
        let mut whole = whole.clone();
        let dtype = whole.dtype(name).to_owned();
        let other = if dtype == "I8" { "F8_E4M3" } else { "I16" };
        if let Some(number) = not_finite(&dtype) {
            let len = whole.tensor(name).len();
            for at in [0, len - number.len()] {
                let mut broken = whole.clone();
                broken.tensor(name)[at..at + number.len()].copy_from_slice(number);
                names_it("not finite", &broken);
            }
        }
        if matches!(dtype.as_str(), "I8" | "F16" | "BF16") {
            whole.header[name]["dtype"] = other.into();
            names_it("of another type", &whole);
        }
    }
}

#[test]
fn impossible_sizes_of_an_artifact_are_refused_before_memory_is_allocated() {
    let (weights, vocab) = Model::tiny(3).artifact();
    let whole = Parts::of(&weights);
    let sizes = [
        "d_model",
        "num_heads",
        "num_kv_heads",
        "num_encoder_layers",
        "num_decoder_layers",
        "vocab_size",
        "max_enc_len",
        "max_dec_len",
    ];
    let absurd =
        ["", "0", "-1", "1e3", "64.0", "NaN", "9999999", "1048576", "18446744073709551615", "18446744073709551616"];
    for size in sizes {
        let mut missing = whole.clone();
        missing.header["__metadata__"].as_object_mut().unwrap().remove(size);
        assert!(refused(size, open(missing.bytes(), &vocab)).contains(size));
        for value in absurd {
            let mut parts = whole.clone();
            parts.header["__metadata__"][size] = value.into();
            refused(&format!("{size} = {value:?}"), open(parts.bytes(), &vocab));
        }
    }
    for theta in ["", "0", "-1", "inf", "NaN", "1e99"] {
        let mut parts = whole.clone();
        parts.header["__metadata__"]["rope_theta"] = theta.into();
        assert!(refused(theta, open(parts.bytes(), &vocab)).contains("rope_theta"));
    }
    let mut without = whole.clone();
    without.header.as_object_mut().unwrap().remove("__metadata__");
    refused("no sizes", open(without.bytes(), &vocab));
}

#[test]
fn a_vocabulary_that_does_not_fit_the_model_is_refused() {
    let (weights, vocab) = Model::tiny(4).artifact();
    let lines: Vec<&str> = vocab.lines().collect();
    let with = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines.join("\n")
    };
    let long = "x".repeat(600);
    for (what, text, reason) in [
        ("no pieces", String::new(), "0 pieces"),
        ("a piece too few", lines[1..].join("\n"), "pieces"),
        ("a piece too many", format!("{vocab}zzz\t0\n"), "pieces"),
        ("another first piece", with(0, "<unk>"), "<pad>"),
        ("a special piece elsewhere", with(4, "<tools>\t0"), "<tool_call>"),
        ("another byte", with(6, "<0x01>\t0"), "<0x00>"),
        ("a piece of nothing", with(270, ""), "is empty"),
        ("a piece there twice", with(270, lines[271]), "twice"),
        ("a piece without end", with(270, &long), "600 bytes"),
        ("no space", vocab.replace('▁', "_"), "space"),
    ] {
        let message = refused(what, open(weights.clone(), &text));
        assert!(message.starts_with("vocab.txt: ") && message.contains(reason), "{what}: {message}");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("needle.safetensors"), weights).unwrap();
    assert!(refused("no vocabulary", Engine::open(dir.path())).contains("vocab.txt"));
    std::fs::write(dir.path().join("vocab.txt"), [0xFF, 0xFE, 0x00]).unwrap();
    assert!(refused("no text", Engine::open(dir.path())).contains("vocab.txt"));
    std::fs::remove_file(dir.path().join("vocab.txt")).unwrap();
    std::fs::create_dir(dir.path().join("vocab.txt")).unwrap();
    assert!(refused("a directory", Engine::open(dir.path())).contains("directory"));
}

#[test]
fn each_damage_of_a_checkpoint_gives_a_one_line_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::tiny(5);
    model.write_checkpoint(dir.path());
    Engine::open(dir.path()).unwrap();
    let files = model.checkpoint();
    let whole = |name: &str| files.iter().find(|(file, _)| *file == name).unwrap().1.clone();
    // Replaces the contents of one file, opens the checkpoint, and restores the file.
    let refuse = |name: &str, what: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let message = refused(what, Engine::open(dir.path()));
        assert!(message.contains(name), "{what}: {message}");
        std::fs::write(&path, whole(name)).unwrap();
        message
    };
    for (what, bytes) in broken_bytes(&whole("model.safetensors")) {
        refuse("model.safetensors", what, &bytes);
    }
    let weights = Parts::of(&whole("model.safetensors"));
    for name in weights.names() {
        assert!(refuse("model.safetensors", "missing", &weights.clone().without(&name).bytes()).contains(&name));
        let mut renamed = weights.clone();
        let tensor = renamed.header.as_object_mut().unwrap().remove(&name).unwrap();
        renamed.header[format!("{name}.old")] = tensor;
        assert!(refuse("model.safetensors", "renamed", &renamed.bytes()).contains(&name));
        // Ranking does not need the temperature and does not read it.
        if name == "retrieval_head.log_temp" {
            continue;
        }
        let mut broken = weights.clone();
        broken.tensor(&name)[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(refuse("model.safetensors", "not finite", &broken.bytes()).contains(&name));
        let mut integers = weights.clone();
        integers.header[&name]["dtype"] = "I32".into();
        assert!(refuse("model.safetensors", "integers", &integers.bytes()).contains(&name));
    }
    let mut unexpected = weights.clone();
    for i in 0..5_000 {
        unexpected.header[format!("adapter.{i}")] = json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]});
    }
    let message = refuse("model.safetensors", "many unexpected tensors", &unexpected.bytes());
    assert!(message.contains("adapter.0") && message.contains("4997 more"), "{message}");

    let config: Value = serde_json::from_slice(&whole("config.json")).unwrap();
    for (key, value) in config.as_object().unwrap() {
        let is_size = value.is_number();
        for absurd in
            [json!(null), json!("x"), json!([]), json!(-1), json!(0), json!(1 << 20), json!(u64::MAX), json!(1e99)]
        {
            // Values that are valid, or keys that may be missing.
            let is_harmless = absurd == *value
                || key == "contrastive_dim" && absurd.is_null()
                || key == "rms_norm_eps" && absurd.as_f64().is_some_and(|x| x > 0.0 && x < 1e38)
                || key == "rope_theta" && absurd.as_f64().is_some_and(|x| x > 0.0 && x < 1e38);
            if is_harmless {
                continue;
            }
            let mut changed = config.clone();
            changed[key] = absurd.clone();
            let path = dir.path().join("config.json");
            std::fs::write(&path, changed.to_string()).unwrap();
            refused(&format!("{key} = {absurd}"), Engine::open(dir.path()));
        }
        if is_size && key != "contrastive_dim" {
            let mut missing = config.clone();
            missing.as_object_mut().unwrap().remove(key);
            assert!(refuse("config.json", key, missing.to_string().as_bytes()).contains(key.as_str()));
        }
    }
    let deep = "[".repeat(100_000);
    for bytes in [&b""[..], b"{", b"[]", b"null", b"\xFF", deep.as_bytes(), b"{\"model_type\":\"llama\"}"] {
        refuse("config.json", "another file", bytes);
    }
    let tokenizer: Value = serde_json::from_slice(&whole("tokenizer.json")).unwrap();
    for (pointer, value) in [
        ("/model/vocab/<pad>", json!(7)),
        ("/model/vocab/<pad>", json!(1_u64 << 40)),
        ("/model/vocab/<pad>", json!(-1)),
        ("/model/vocab", json!({})),
        ("/model/type", json!("Unigram")),
        ("/normalizer", json!(null)),
    ] {
        let mut changed = tokenizer.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        refuse("tokenizer.json", pointer, changed.to_string().as_bytes());
    }
    for bytes in [&b""[..], b"{}", b"\xFF", deep.as_bytes()] {
        refuse("tokenizer.json", "another file", bytes);
    }
}

#[test]
fn a_model_that_needs_absurd_amounts_of_memory_is_refused_before_it_is_allocated() {
    // Small files that need much memory: more positions than any model has, and a deep decoder with
    // long answers.
    let tiny = SanConfig::preset("tiny").unwrap();
    for (config, reason) in [
        (SanConfig { max_dec_len: (1 << 16) + 1, ..tiny.clone() }, "65537 positions"),
        (SanConfig { max_dec_len: 1 << 16, num_decoder_layers: 200, ..tiny.clone() }, "1677721600 bytes"),
        (SanConfig { max_enc_len: 1 << 20, ..tiny }, "1048576 positions"),
    ] {
        let (weights, vocab) = Model::new(config, small_tokenizer(), 6).artifact();
        let message = refused(reason, open(weights, &vocab));
        assert!(message.contains(reason), "{message}");
    }
}

/// Forbids the end token.
struct Endless;

impl StepHook for Endless {
    fn mask(&mut self, _: usize, logits: &mut [f32]) {
        logits[1] = f32::NEG_INFINITY;
    }
}

#[test]
fn models_with_the_most_extreme_finite_weights_run_on_every_instruction_set() {
    let (weights, vocab) = Model::tiny(7).artifact();
    let whole = Parts::of(&weights);
    let extremes: [(&str, &[u8]); 7] = [
        ("F16", &[0xFF, 0x7B]),
        ("F16", &[0x01, 0x00]),
        ("BF16", &[0x7F, 0x7F]),
        ("BF16", &[0x7F, 0xFF]),
        ("F32", &[0xFF, 0xFF, 0x7F, 0x7F]),
        ("F32", &[0xFF, 0xFF, 0x7F, 0xFF]),
        ("I8", &[0x80]),
    ];
    for (dtype, value) in extremes {
        let mut parts = whole.clone();
        for name in whole.names().iter().filter(|name| whole.dtype(name) == dtype) {
            parts.tensor(name).chunks_exact_mut(value.len()).for_each(|place| place.copy_from_slice(value));
        }
        for set in InstructionSet::available() {
            for exact in [false, true] {
                let options = Options { threads: 1, exact, instructions: Some(set) };
                let engine = Engine::from_bytes(parts.bytes(), Some(&vocab), &options).unwrap();
                let prompts = [vec![9, 8, 7], (6..80).collect()];
                let answers = engine.generate(&prompts, 5, &mut Endless).unwrap();
                // Weights that overflow leave no meaningful logits, but the tokens must still be in
                // the vocabulary.
                let ids = || answers.iter().flat_map(|answer| &answer.ids);
                let vocab_size = engine.config().vocab_size;
                assert!(ids().all(|id| (*id as usize) < vocab_size), "{dtype} {value:?} {set:?}");
                assert!(matches!(dtype, "BF16" | "F32") || ids().count() == 10, "{dtype} {value:?} {set:?}");
                engine.embed(&prompts).unwrap().unwrap();
            }
        }
    }
}

#[test]
fn artifacts_with_random_changes_are_refused_or_answer() {
    let (weights, vocab) = Model::new(smallest(), small_tokenizer(), 10).artifact();
    let mut random = rand::rngs::ChaCha8Rng::seed_from_u64(1);
    let header_len = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize + 8;
    let mut opened = 0;
    for round in 0..600 {
        let mut changed = weights.clone();
        for _ in 0..random.random_range(1..4) {
            // Half of the rounds change only the header, a twentieth of the file, where most damage
            // is possible.
            let end = if round % 2 == 0 { header_len } else { changed.len() };
            changed[random.random_range(0..end)] = random.random();
        }
        let Ok(engine) = open(changed, &vocab) else { continue };
        let prompts = [vec![9, 8, 7], (6..40).collect()];
        if let Ok(answers) = engine.generate(&prompts, 4, &mut NoHook) {
            assert_eq!(answers.len(), 2);
        }
        opened += 1;
    }
    assert!((100..500).contains(&opened), "{opened} of 600 were opened");
}

#[test]
fn an_embedding_beyond_the_range_of_bf16_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::tiny(8);
    model.write_checkpoint(dir.path());
    let path = dir.path().join("model.safetensors");
    let mut parts = Parts::of(&std::fs::read(&path).unwrap());
    parts.tensor("model.embed_tokens.weight")[..4].copy_from_slice(&f32::MAX.to_le_bytes());
    std::fs::write(&path, parts.bytes()).unwrap();
    assert!(refused("f32::MAX", Engine::open(dir.path())).contains("model.embed_tokens.weight"));
}

#[test]
fn an_artifact_and_a_checkpoint_of_the_same_model_give_the_same_answers() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::tiny(9);
    let [artifact, checkpoint] = ["artifact", "checkpoint"].map(|name| dir.path().join(name));
    model.write_artifact(&artifact);
    model.write_checkpoint(&checkpoint);
    let answer = |path: &Path| Engine::open(path).unwrap().generate(&[vec![9, 8, 7]], 20, &mut NoHook).unwrap();
    assert_eq!(answer(&artifact)[0], answer(&checkpoint)[0]);
    assert_eq!(answer(&artifact)[0].ids.len(), 20);
}
