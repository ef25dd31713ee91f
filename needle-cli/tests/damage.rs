//! Damaged and hostile checkpoints and artifacts: one sentence that names the file, and exit 1.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod workplace;

use safetensors::SafeTensors;
use workplace::{TOOLS, Workplace};

/// Overwrites the first value of the first tensor in a safetensors file of f32.
fn put(place: &Workplace, file: &str, value: f32) {
    let mut bytes = std::fs::read(place.path(file)).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert!(SafeTensors::deserialize(&bytes).is_ok());
    bytes[8 + header..8 + header + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(place.path(file), bytes).unwrap();
}

#[test]
fn a_checkpoint_with_a_weight_that_is_no_number_is_refused_by_every_command() {
    let place = Workplace::with_model();
    put(&place, "run/last/model.safetensors", f32::NAN);
    for command in [
        &["run", "run/last", "--query", "ten minutes", "--tools", TOOLS][..],
        &["eval", "run/last", "data.jsonl"],
        &["eval", "run/best", "data.jsonl", "--compare", "run/last", "--limit", "1"],
        &["finetune", "data.jsonl", "--base", "run/last", "--out", "tuned"],
        &["export", "run/last", "--format", "needle-rs", "--out", "artifact"],
        &["import", "run/last", "--out", "imported"],
        &["retrieve", "run/last", "--query", "ten minutes", "--tools", TOOLS],
        &["info", "run/last"],
    ] {
        let error = place.fails(1, command);
        assert!(error.contains("run/last/model.safetensors: ") && error.contains("holds NaN"), "{command:?}: {error}");
        assert!(error.contains("use an earlier checkpoint"), "{command:?}: {error}");
    }
    assert!(!place.path("artifact").exists() && !place.path("imported").exists());
}

#[test]
fn info_reads_the_weights_and_the_state_and_does_not_take_an_empty_file_for_a_model() {
    let place = Workplace::with_model();
    for (file, expected) in [
        ("model.safetensors", "not a safetensors file"),
        ("tokenizer.json", "tokenizer.json"),
        ("trainer/state.json", "trainer/state.json: "),
        ("trainer/optimizer.safetensors", "trainer/optimizer.safetensors: not a safetensors file"),
    ] {
        let path = place.path("run/last").join(file);
        let whole = std::fs::read(&path).unwrap();
        for length in [0, whole.len() / 2] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = place.fails(1, &["info", "run/last"]);
            assert!(error.contains(expected), "{file} of {length} bytes: {error}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    put(&place, "run/last/trainer/optimizer.safetensors", f32::INFINITY);
    assert!(place.fails(1, &["info", "run/last"]).contains("optimizer.safetensors: "));
    std::fs::remove_dir_all(place.path("run/last/trainer")).unwrap();
    assert!(place.ok(&["info", "run/last"]).contains("no trainer/state.json"));
}

#[test]
fn an_artifact_with_the_vocabulary_of_another_model_is_not_imported() {
    let place = Workplace::with_model();
    place.ok(&["export", "run/last", "--format", "needle-rs", "--no-verify", "--out", "int4"]);
    let vocab = std::fs::read_to_string(place.path("int4/vocab.txt")).unwrap();
    // As many pieces, of which the last two have changed places.
    let mut lines: Vec<&str> = vocab.lines().collect();
    let last = lines.len() - 1;
    lines.swap(last, last - 1);
    place.write("int4/vocab.txt", &(lines.join("\n") + "\n"));
    let error = place.fails(1, &["import", "int4", "--out", "back"]);
    assert!(
        error.contains("int4/vocab.txt: it is not the file that was exported") && !place.path("back").exists(),
        "{error}"
    );
    place.write("int4/vocab.txt", &vocab);
    place.ok(&["import", "int4", "--out", "back"]);

    place.ok(&["export", "run/last", "--format", "hf", "--dtype", "f32", "--no-verify", "--out", "hf"]);
    put(&place, "hf/model.safetensors", 0.25);
    let error = place.fails(1, &["import", "hf", "--out", "again"]);
    assert!(error.contains("hf/model.safetensors: it is not the file that was exported"), "{error}");

    // Others export without a manifest: nothing can be checked, and that is said.
    std::fs::remove_file(place.path("int4/manifest.json")).unwrap();
    let output = place.needle(&["import", "int4", "--out", "unchecked"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("no manifest.json"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_checkpoint_made_of_devices_and_pipes_is_refused_at_once() {
    let place = Workplace::with_model();
    std::fs::remove_file(place.path("run/last/model.safetensors")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place.path("run/last/model.safetensors")).unwrap();
    for command in
        [&["info", "run/last"][..], &["eval", "run/last", "data.jsonl"], &["import", "run/last", "--out", "x"]]
    {
        let error = place.fails(1, command);
        assert!(error.contains("model.safetensors: is a device, expected a regular file"), "{command:?}: {error}");
    }
    std::fs::remove_file(place.path("run/best/config.json")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(place.path("run/best/config.json")).status().unwrap().success());
    let error = place.fails(1, &["info", "run/best"]);
    assert!(error.contains("config.json: is a pipe, expected a regular file"), "{error}");
}

#[test]
fn a_state_without_counts_of_steps_is_not_resumed() {
    let place = Workplace::with_model();
    let path = place.path("run/last/trainer/optimizer.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let old = file.tensors().into_iter().filter(|(name, _)| !name.ends_with(".steps"));
    std::fs::write(&path, safetensors::serialize(old, None).unwrap()).unwrap();
    let error =
        place.fails(1, &["train", "--config", "recipe.toml", "--data", "data.jsonl", "--out", "run", "--resume"]);
    assert!(error.contains("no count of its steps") && error.contains("--base"), "{error}");
}
