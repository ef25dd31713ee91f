//! Replaces one file of a model directory by arbitrary contents. Opening the directory must give an
//! error, or a model that can be asked.
//!
//! The first byte selects the file; the others are its contents.

#![no_main]

#[path = "../../tests/models/mod.rs"]
mod models;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use models::{Model, smallest};
use needle_runtime::engine::{Engine, Options};
use needle_runtime::generate::NoHook;
use tempfile::TempDir;

static WHOLE: LazyLock<[TempDir; 2]> = LazyLock::new(|| {
    let model = Model::new(smallest(), models::small_tokenizer(), 2);
    let [checkpoint, artifact] = [(), ()].map(|()| tempfile::tempdir().unwrap());
    model.write_checkpoint(checkpoint.path());
    model.write_artifact(artifact.path());
    [checkpoint, artifact]
});
const FILES: [(usize, &str); 5] = [
    (0, "config.json"),
    (0, "model.safetensors"),
    (0, "tokenizer.json"),
    (1, "needle.safetensors"),
    (1, "vocab.txt"),
];

fuzz_target!(|input: &[u8]| {
    let Some((&which, contents)) = input.split_first() else { return };
    let (dir, name) = FILES[usize::from(which) % FILES.len()];
    let dir = WHOLE[dir].path();
    let whole = std::fs::read(dir.join(name)).unwrap();
    std::fs::write(dir.join(name), contents).unwrap();
    let opened = Engine::open_with(dir, &Options { threads: 1, ..Options::default() });
    std::fs::write(dir.join(name), whole).unwrap();
    if let Ok(engine) = opened {
        let _ = engine.generate(&[vec![9, 8, 7]], 4, &mut NoHook);
    }
});
