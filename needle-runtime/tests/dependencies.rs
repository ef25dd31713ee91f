//! Answering depends neither on burn nor on the dependencies of the command line.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;

#[test]
fn the_runtime_does_not_depend_on_the_trainer_or_the_command_line() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-p", "needle-runtime", "-e", "normal", "--prefix", "none"])
        .args(["--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"needle-runtime") && names.contains(&"llguidance"), "{tree}");
    for name in names {
        let is_unwanted = name.starts_with("burn") || name.starts_with("clap") || name.starts_with("indicatif");
        assert!(!is_unwanted, "{name}\n{tree}");
    }
}
