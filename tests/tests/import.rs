//! Imports foreign checkpoints: weights and logits equal those of the original, and malicious files
//! are errors.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use burn_flex::Flex;
use needle_model::checkpoint::{Checkpoint, weights_from_bytes, weights_to_bytes};
use needle_model::import::{needle_pkl, pickle};
use needle_model::{San, SanConfig};
use needle_tests::{Golden, fixture, golden_model, max_difference};
use safetensors::tensor::SafeTensors;

/// The suggested tolerance of the golden vectors.
const OUTPUTS: f64 = 2e-5;

fn import(bytes: &[u8]) -> Result<(SanConfig, San<Flex>), String> {
    needle_pkl::read(bytes, Path::new("needle.pkl"), &Default::default()).map_err(|e| e.to_string())
}

fn pkl() -> Vec<u8> {
    std::fs::read(fixture("pickle/needle.pkl")).unwrap()
}

#[test]
fn the_originals_pickle_gives_its_exact_weights_and_its_logits() {
    let (config, model) = import(&pkl()).unwrap();
    assert_eq!(
        (config.d_model, config.num_encoder_layers, config.vocab_size, config.rope_theta),
        (64, 3, 1024, 10_000.0)
    );
    assert_eq!(weights_to_bytes(&model).unwrap(), weights_to_bytes(&golden_model::<Flex>()).unwrap());

    let golden = Golden::open("forward");
    let dir = tempfile::tempdir().unwrap();
    let inputs = dir.path().join("in.safetensors");
    let ids = |name: &str| golden.values(name);
    let entry = |(values, shape): (Vec<f64>, Vec<usize>)| {
        (values.into_iter().flat_map(|x| (x as i32).to_le_bytes()).collect::<Vec<u8>>(), shape)
    };
    let names: Vec<String> = golden.names().into_iter().filter(|name| name.starts_with("padded/")).collect();
    let find = |part: &[&str]| {
        let name = names.iter().find(|name| part.iter().any(|part| name.ends_with(part)));
        name.unwrap_or_else(|| panic!("{part:?} in {names:?}")).clone()
    };
    let (src, tgt) = (
        entry(ids(&find(&["/src", "/enc_ids", "/enc_input"]))),
        entry(ids(&find(&["/tgt", "/dec_ids", "/dec_input", "/tgt_in"]))),
    );
    let view = |(bytes, shape): &(Vec<u8>, Vec<usize>)| {
        safetensors::tensor::TensorView::new(
            safetensors::Dtype::I32,
            shape.clone(),
            Box::leak(bytes.clone().into_boxed_slice()),
        )
        .unwrap()
    };
    std::fs::write(&inputs, safetensors::serialize([("src", view(&src)), ("tgt", view(&tgt))], None).unwrap()).unwrap();
    let inputs = needle_model::golden::read_inputs::<Flex>(&inputs, config.vocab_size, &Default::default()).unwrap();
    let outputs = needle_model::golden::compute(&model, inputs);
    let (expected, _) = golden.values("padded/logits");
    let expected: Vec<f32> = expected.into_iter().map(|x| x as f32).collect();
    let logits: Vec<f32> = outputs.logits.into_data().iter::<f32>().collect();
    assert!(max_difference(&logits, &expected) < OUTPUTS, "{}", max_difference(&logits, &expected));
}

#[test]
fn every_pickle_protocol_array_order_and_numpy_version_gives_the_same_arrays() {
    let expected = std::fs::read(fixture("pickle/expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(fixture("pickle")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with('p') || !name.ends_with(".pkl") {
            continue;
        }
        files += 1;
        let leaves = pickle::leaves(&std::fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let found: BTreeMap<&str, &pickle::Array> =
            leaves.arrays.iter().map(|(key, array)| (key.strip_prefix("params/").unwrap(), array)).collect();
        assert_eq!(found.len(), expected.names().len(), "{name}");
        for key in expected.names() {
            let view = expected.tensor(key).unwrap();
            let values = needle_model::checkpoint::tensor_file::f32_values(&view).unwrap();
            let array = found[key.trim_start_matches("params/")];
            assert_eq!((&array.values, array.shape.as_slice()), (&values, view.shape()), "{name}: {key}");
        }
    }
    assert_eq!(files, 16);
}

#[test]
fn a_truncated_or_changed_pickle_never_causes_a_panic() {
    let whole = pkl();
    for percent in 0..100 {
        let cut = &whole[..whole.len() * percent / 100];
        assert!(import(cut).is_err(), "{percent} %");
    }
    // In a small pickle, every byte is changed in a few ways.
    let small = std::fs::read(fixture("pickle/p4_corder_numpy2.pkl")).unwrap();
    for at in 0..small.len() {
        for change in [0x01, 0x80, 0xFF] {
            let mut changed = small.clone();
            changed[at] ^= change;
            let _ = pickle::leaves(&changed);
        }
    }
}

#[test]
fn a_model_of_another_kind_is_refused_with_a_reason() {
    // The value of the key is NEWTRUE in the pickle; NEWFALSE means that the model has feed-forward
    // layers.
    let mut bytes = pkl();
    let key = b"no_feedforward";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    let value = (at..at + 4).find(|&i| bytes[i] == 0x88).unwrap();
    bytes[value] = 0x89;
    assert!(import(&bytes).unwrap_err().contains("feed-forward"));
    // A renamed array is both missing and unexpected.
    let mut bytes = pkl();
    let at = bytes.windows(8).position(|window| window == b"log_temp").unwrap();
    bytes[at] = b'X';
    let error = import(&bytes).unwrap_err();
    assert!(error.contains("missing tensors") && error.contains("Xog_temp"), "{error}");
}

#[test]
fn malicious_safetensors_are_errors_and_allocate_no_memory() {
    let config = needle_tests::golden_config();
    let load = |bytes: &[u8]| {
        weights_from_bytes::<Flex>(&config, bytes, Path::new("model.safetensors"), &Default::default())
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let file = |header: &str, length: u64| [&length.to_le_bytes(), header.as_bytes()].concat();
    let header = r#"{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}}"#;
    for bytes in [
        file(header, header.len() as u64),
        file("{}", 1 << 60),
        file(
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}    123456"#,
            107,
        ),
        file("", 0),
        Vec::new(),
    ] {
        assert!(load(&bytes).contains("model.safetensors"));
    }
    // A configuration that needs a petabyte.
    let huge = SanConfig {
        vocab_size: 1 << 20,
        d_model: 1 << 20,
        num_encoder_layers: 1 << 20,
        num_decoder_layers: 1 << 20,
        ..config.clone()
    };
    let whole = weights_to_bytes(&golden_model::<Flex>()).unwrap();
    let error = weights_from_bytes::<Flex>(&huge, &whole, Path::new("m"), &Default::default()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("the configuration needs"), "{error}");
    for percent in 0..100 {
        load(&whole[..whole.len() * percent / 100]);
    }
}

#[test]
fn a_nan_weight_is_refused_by_name() {
    let mut bytes = pkl();
    // The float16 of log_temp: its two bytes follow the array's header, a SHORT_BINBYTES of two.
    let at = bytes.windows(8).position(|window| window == b"log_temp").unwrap();
    let data = (at..at + 80).find(|&i| bytes[i..i + 2] == [b'C', 2]).unwrap() + 2;
    bytes[data..data + 2].copy_from_slice(&[0x00, 0x7E]);
    let error = import(&bytes).unwrap_err();
    assert!(error.contains("log_temp") && error.contains("NaN"), "{error}");
}

#[test]
fn checkpoints_and_int4_artifacts_survive_a_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = needle_data::Tokenizer::import_sentencepiece(fixture("tokenizer/needle.model")).unwrap();
    let (config, model) = import(&pkl()).unwrap();
    // To disk and back: a checkpoint is the Hugging Face layout.
    let checkpoint = Checkpoint { config: config.clone(), model, tokenizer };
    checkpoint.save(dir.path().join("a").as_path(), &BTreeMap::new()).unwrap();
    let back = Checkpoint::<Flex>::load(&dir.path().join("a"), &Default::default()).unwrap();
    assert_eq!(weights_to_bytes(&back.model).unwrap(), weights_to_bytes(&checkpoint.model).unwrap());
    // Through INT4 and back: quantizing the dequantized weights gives the same codes.
    let artifact = |checkpoint: &Checkpoint<Flex>| {
        needle_model::export::needle_rs::artifact(&checkpoint.model, &checkpoint.config, &checkpoint.tokenizer).unwrap()
    };
    let write = |files: Vec<(String, Vec<u8>)>, name: &str| {
        needle_model::checkpoint::directory::write(&dir.path().join(name), files, None).unwrap();
        dir.path().join(name)
    };
    let first = write(artifact(&back), "int4");
    let (config, model, tokenizer) =
        needle_model::import::needle_rs::read::<Flex>(&first, &Default::default()).unwrap();
    let second = artifact(&Checkpoint { config, model, tokenizer });
    let read = |bytes: &[u8]| -> BTreeMap<String, Vec<u8>> {
        let file = SafeTensors::deserialize(bytes).unwrap();
        file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
    };
    let before = read(&std::fs::read(first.join("needle.safetensors")).unwrap());
    let after = read(&second[0].1);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, bytes) in &before {
        assert!(bytes == &after[name], "{name}");
    }
    assert_eq!(second[1].1, std::fs::read(first.join("vocab.txt")).unwrap());
}
