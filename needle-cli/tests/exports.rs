//! What goes out and what comes in, as a user meets it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod workplace;

use serde_json::Value;
use sha2::{Digest, Sha256};
use workplace::Workplace;

fn read(place: &Workplace, name: &str) -> Vec<u8> {
    std::fs::read(place.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn json(place: &Workplace, name: &str) -> Value {
    serde_json::from_slice(&read(place, name)).unwrap()
}

#[test]
fn every_format_comes_with_a_manifest_that_holds_and_a_proof() {
    let place = Workplace::with_model();
    for (format, files) in [
        ("needle-rs", ["needle.safetensors", "vocab.txt"].as_slice()),
        ("onnx", &["encoder.onnx", "decoder.onnx", "retrieval.onnx", "weights.bin", "tokenizer.model"]),
        ("hf", &["config.json", "model.safetensors", "tokenizer.json", "tokenizer.model"]),
    ] {
        let exported = place.json(&["export", "run/last", "--format", format, "--out", format, "--json"]);
        assert_eq!(exported["verified"]["inputs"], 64, "{exported}");
        let manifest = json(&place, &format!("{format}/manifest.json"));
        assert_eq!((&manifest["format"], &manifest["recipe"]["model"]), (&format.into(), &"tiny".into()));
        let listed: Vec<&str> =
            manifest["files"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
        assert!(files.iter().all(|file| listed.contains(file)), "{listed:?}");
        for file in manifest["files"].as_array().unwrap() {
            let bytes = read(&place, &format!("{format}/{}", file["name"].as_str().unwrap()));
            let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(
                (file["bytes"].as_u64(), file["sha256"].as_str()),
                (Some(bytes.len() as u64), Some(hash.as_str()))
            );
        }
        assert!(manifest["tensors"].as_array().unwrap().len() > 40);
        let verified = json(&place, &format!("{format}/verify.json"));
        assert_eq!(
            (verified["max_weight_difference"].as_f64(), verified["same_tokens"].as_u64()),
            (Some(0.0), Some(64))
        );
        let page = String::from_utf8(read(&place, &format!("{format}/README.md"))).unwrap();
        assert!(page.contains("ten minute timer"), "{page}");
        // Once more, into the same place, without the proof.
        place.ok(&["export", "run/last", "--format", format, "--out", format, "--no-verify"]);
        assert!(!place.path(&format!("{format}/verify.json")).exists());
    }
}

#[test]
fn what_was_exported_comes_back_as_a_checkpoint_that_answers_alike() {
    let place = Workplace::with_model();
    let answer = |checkpoint: &str, precision: &str| {
        let args = [
            "run",
            checkpoint,
            "--query",
            "ten minutes",
            "--tools",
            workplace::TOOLS,
            "--precision",
            precision,
            "--json",
        ];
        place.json(&args)["token_ids"].clone()
    };
    place.ok(&["export", "run/last", "--format", "hf", "--dtype", "f32", "--out", "hf"]);
    place.ok(&["import", "hf", "--out", "back"]);
    assert_eq!(read(&place, "back/model.safetensors"), read(&place, "run/last/model.safetensors"));
    // A directory of other people has SentencePiece's tokenizer alone.
    std::fs::remove_file(place.path("hf/tokenizer.json")).unwrap();
    place.ok(&["import", "hf", "--out", "again"]);
    assert_eq!(read(&place, "again/tokenizer.json"), read(&place, "run/last/tokenizer.json"));

    place.ok(&["export", "run/last", "--format", "needle-rs", "--out", "int4"]);
    place.ok(&["import", "int4", "--out", "dequantized"]);
    assert_eq!(answer("dequantized", "f32"), answer("run/last", "int4"));
    assert_eq!(answer("dequantized", "int4"), answer("run/last", "int4"));
}

#[test]
fn the_originals_pickle_comes_in_with_its_tokenizer_and_hostile_ones_do_not() {
    let place = Workplace::new();
    let fixture = |name: &str| format!("{}/../tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let (pickle, tokenizer) = (fixture("pickle/needle.pkl"), fixture("tokenizer/needle.model"));
    place.ok(&["import", &pickle, "--tokenizer", &tokenizer, "--out", "original"]);
    assert!(place.ok(&["info", "original"]).contains("parameters"));
    place.ok(&["export", "original", "--format", "onnx", "--out", "onnx"]);

    let error = place.fails(1, &["import", &pickle, "--out", "x"]);
    assert!(error.contains("--tokenizer"), "{error}");
    // What pickle.dumps gives for an object that calls os.system("touch here").
    let system = b"\x80\x04\x95\x25\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x0atouch here\x94\x85\x94R\x94.";
    std::fs::write(place.path("evil.pkl"), system).unwrap();
    let error = place.fails(1, &["import", "evil.pkl", "--tokenizer", &tokenizer, "--out", "x"]);
    assert!(error.contains("evil.pkl") && error.contains("posix.system"), "{error}");
    assert!(!place.path("here").exists() && !place.path("x").exists());
    let error = place.fails(1, &["import", "nowhere", "--out", "x"]);
    assert!(error.contains("nowhere"), "{error}");
}
