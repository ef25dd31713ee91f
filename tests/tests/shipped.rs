//! The model that ships in `models/needle-mini`: small, and the same in both of its forms.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use needle_runtime::{Needle, tools_from_json};
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn shipped() -> PathBuf {
    repository().join("models/needle-mini")
}

#[test]
fn the_checkpoint_and_the_int4_artifact_give_the_same_answers() {
    let suite = std::fs::read_to_string(repository().join("configs/examples/suites/pet_hotel.json")).unwrap();
    let suite: Value = serde_json::from_str(&suite).unwrap();
    let tools = tools_from_json(&suite["tools"].to_string()).unwrap();
    let checkpoint = Needle::load(shipped()).unwrap();
    let artifact = Needle::load(shipped().join("int4")).unwrap();
    let mut calls = 0;
    for case in suite["cases"].as_array().unwrap() {
        let query = case["query"].as_str().unwrap();
        let [ours, theirs] = [&checkpoint, &artifact].map(|needle| needle.call(query, &tools).unwrap());
        assert_eq!((&ours.calls, ours.is_complete), (&theirs.calls, theirs.is_complete), "{query}");
        calls += ours.calls.len();
    }
    assert!(calls > 0, "a model that refuses everything would be the same in every form");
}

#[test]
fn both_forms_together_take_at_most_twelve_mebibytes() {
    let size = |dir: &Path| -> u64 {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        // Examples to finetune with are data, as those of `written/` are.
        let forms = entries.filter(|entry| entry.file_name() != needle_train::finetune::MIXTURE);
        forms.map(|entry| entry.metadata().unwrap()).filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
    };
    let bytes = size(&shipped()) + size(&shipped().join("int4"));
    assert!(bytes <= 12 << 20, "{bytes} bytes");
}
