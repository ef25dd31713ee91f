//! `include/needle.h` equals what cbindgen generates from the code.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

#[test]
fn the_committed_header_declares_what_the_code_defines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut generated = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/lib.rs"))
        .generate()
        .unwrap()
        .write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();
    let committed = std::fs::read_to_string(root.join("include/needle.h")).unwrap_or_default();
    if generated != committed {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("needle.h");
        std::fs::write(&new, generated).unwrap();
        panic!("include/needle.h is out of date: copy {} over it", new.display());
    }
}
