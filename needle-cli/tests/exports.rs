//! What goes out and what comes in, as a user meets it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod workplace;

use std::collections::BTreeMap;
use std::process::Stdio;

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
        place.ok(&["export", "run/last", "--format", format, "--out", format, "--no-verify", "--force"]);
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

/// All files of a directory, by name.
fn files(place: &Workplace, dir: &str) -> BTreeMap<String, Vec<u8>> {
    needle_model::checkpoint::directory::read(&place.path(dir)).unwrap().into_iter().collect()
}

#[test]
fn exports_and_imports_replace_nothing_but_their_own_earlier_results_and_those_only_by_force() {
    let place = Workplace::with_model();
    let export =
        |out: &str| ["export", "run/best", "--format", "needle-rs", "--no-verify", "--out", out].map(str::to_owned);
    let import = |out: &str| ["import", "hf", "--out", out].map(str::to_owned);
    place.ok(&["export", "run/best", "--format", "hf", "--dtype", "f32", "--no-verify", "--out", "hf"]);
    std::fs::create_dir_all(place.path("university")).unwrap();
    place.write("university/thesis.txt", "years of work");
    place.write("manifest.json", r#"{"name": "somebody else's", "files": []}"#);
    std::fs::create_dir_all(place.path("website")).unwrap();
    std::fs::rename(place.path("manifest.json"), place.path("website/manifest.json")).unwrap();
    place.write("file", "text");
    std::fs::create_dir(place.path("empty")).unwrap();
    std::os::unix::fs::symlink("empty", place.path("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", place.path("dangling")).unwrap();
    let refused = |command: &[String], expected: &str| {
        let args: Vec<&str> = command.iter().map(String::as_str).collect();
        for force in [&[][..], &["--force"]] {
            let error = place.fails(1, &[&args[..], force].concat());
            assert!(error.contains(expected), "{command:?}: {error}");
        }
    };
    let before = (files(&place, "run"), files(&place, "university"), files(&place, "hf"));
    for (out, expected) in [
        ("university", "thesis.txt"),
        ("university/", "thesis.txt"),
        ("website", "manifest.json"),
        ("run", "holds"),
        ("run/best", "holds what is being read"),
        ("file", "is a file"),
        ("link", "symbolic link"),
        ("link/", "symbolic link"),
        ("dangling", "symbolic link"),
        (".", "name a directory"),
    ] {
        refused(&export(out), expected);
    }
    for (out, expected) in [("university", "thesis.txt"), ("run/best", "holds"), ("hf", "holds what is being read")] {
        refused(&import(out), expected);
    }
    assert!(before == (files(&place, "run"), files(&place, "university"), files(&place, "hf")));
    assert_eq!(std::fs::read(place.path("file")).unwrap(), b"text");

    let run = |command: &[String], more: &[&str]| {
        let args: Vec<&str> = command.iter().map(String::as_str).chain(more.iter().copied()).collect();
        place.needle(&args)
    };
    for out in ["new", "empty"] {
        assert!(run(&export(out), &[]).status.success());
        assert!(place.fails(1, &["import", "hf", "--out", out]).contains("--force"), "{out}");
        assert!(run(&import(out), &["--force"]).status.success());
        assert!(!place.path(out).join("vocab.txt").exists() && place.path(out).join("tokenizer.json").exists());
    }
    // What somebody has put beside the artifact is not part of it.
    place.write("new/notes.txt", "mine");
    refused(&export("new"), "notes.txt");
}

#[test]
fn two_exports_of_one_checkpoint_are_the_same_bytes() {
    let place = Workplace::with_model();
    for format in ["needle-rs", "onnx", "hf"] {
        for out in ["a", "b"] {
            place.ok(&["export", "run/last", "--format", format, "--no-verify", "--force", "--out", out]);
        }
        let (a, b) = (files(&place, "a"), files(&place, "b"));
        for (name, bytes) in &a {
            assert!(bytes == &b[name], "{format}: {name}");
        }
        assert_eq!(a.len(), b.len());
    }
}

#[test]
fn what_a_killed_export_leaves_is_cleaned_up_by_the_next_one_and_what_another_is_writing_is_not() {
    let place = Workplace::with_model();
    let unfinished = || -> Vec<String> {
        let entries = std::fs::read_dir(place.path("dist")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".needle-writing-")).collect()
    };
    let start = || {
        let args = ["export", "run/last", "--format", "onnx", "--out", "dist/killed"];
        let mut child = place.start_with(&args, Stdio::null(), Stdio::null());
        let count = unfinished().len();
        // It is written long before it is verified.
        while unfinished().len() == count {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was seen");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child
    };
    let export =
        || place.ok(&["export", "run/last", "--format", "hf", "--no-verify", "--force", "--out", "dist/whole"]);
    let mut child = start();
    export();
    assert_eq!(unfinished().len(), 1, "the one in progress");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(unfinished().len(), 1, "the killed one");
    export();
    assert!(unfinished().is_empty() && !place.path("dist/killed").exists());
}
