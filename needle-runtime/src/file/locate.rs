//! Finds the checkpoint that a path refers to: the path itself, or the result of the run in it. If
//! there is none, the error says what the path is instead, and which command accepts that.

use std::path::{Path, PathBuf};

use super::{artifact, checkpoint, config_json};
use crate::error::RuntimeError;

/// Directories of a run that hold its result, in order of preference.
const OF_A_RUN: [&str; 2] = ["best", "last"];
/// The file that identifies an ONNX artifact.
const ONNX_ENCODER: &str = "encoder.onnx";
/// Prefix of the name of a directory that was set aside.
pub const ASIDE: &str = ".needle-aside-";
/// Maximum number of checkpoints or runs that a message suggests.
const SUGGESTIONS: usize = 5;

/// The directory of the checkpoint that `path` refers to.
///
/// # Errors
/// If there is none; the message says what is there instead, and what to do.
pub fn locate(path: &Path) -> Result<PathBuf, RuntimeError> {
    if is_checkpoint(path) {
        return Ok(path.to_owned());
    }
    if let Some(found) = OF_A_RUN.iter().map(|name| path.join(name)).find_map(|dir| present(&dir)) {
        return Ok(found);
    }
    // A file of a checkpoint refers to the whole checkpoint.
    let file = path.file_name().and_then(|name| name.to_str()).filter(|_| path.is_file());
    let dir = path.parent().filter(|dir| is_checkpoint(dir));
    if let (
        Some(dir),
        Some(config_json::CONFIG | checkpoint::WEIGHTS | checkpoint::TOKENIZER | checkpoint::SENTENCEPIECE),
    ) = (dir, file)
    {
        return Ok(dir.to_owned());
    }
    present(path).ok_or_else(|| RuntimeError::bad_file(path, instead(path)))
}

/// `dir`, or the place where a process that was killed while replacing it had set it aside.
fn present(dir: &Path) -> Option<PathBuf> {
    let aside = || aside(dir).filter(|aside| !dir.exists() && is_checkpoint(aside));
    if is_checkpoint(dir) { Some(dir.to_owned()) } else { aside() }
}

/// The place where `target` is set aside while it is replaced, on file systems that cannot exchange
/// two directories atomically.
pub fn aside(target: &Path) -> Option<PathBuf> {
    let name = target.file_name()?.to_string_lossy().into_owned();
    Some(target.with_file_name(format!("{ASIDE}{name}")))
}

fn is_checkpoint(dir: &Path) -> bool {
    // If it is a pipe instead of a file, opening it reports that later.
    dir.join(config_json::CONFIG).exists()
}

/// What `path`, which is not a checkpoint, is instead.
fn instead(path: &Path) -> String {
    let shown = path.display();
    let has = |name: &str| path.join(name).exists();
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if !path.exists() {
        return "not a checkpoint: there is no such directory".into();
    }
    if path.is_file() {
        return match extension {
            "pkl" => format!(
                "a pickle, not a checkpoint; convert it with `needle import {shown} --tokenizer FILE --out DIR`"
            ),
            _ => "not a checkpoint but a file; expected the directory of a checkpoint".into(),
        };
    }
    if has(artifact::WEIGHTS) {
        return format!(
            "a needle-rs artifact, not a checkpoint; pass the checkpoint that it was exported from, or convert it with \
             `needle import {shown} --out DIR`"
        );
    }
    if has(ONNX_ENCODER) {
        return "an ONNX artifact, not a checkpoint; pass the checkpoint that it was exported from".into();
    }
    let names = names(path);
    if names.iter().any(|name| name.ends_with(".packed")) {
        return "packed data, not a checkpoint; train on it with `needle train --data`".into();
    }
    if has("recipe.toml") && has("metrics.jsonl") {
        return "a run that has not saved a checkpoint yet".into();
    }
    let has_checkpoint = |name: &&String| OF_A_RUN.iter().any(|of_run| is_checkpoint(&path.join(name).join(of_run)));
    let is_or_has = |name: &&String| is_checkpoint(&path.join(name)) || has_checkpoint(name);
    let below: Vec<String> =
        names.iter().filter(is_or_has).map(|name| path.join(name).display().to_string()).take(SUGGESTIONS).collect();
    if below.is_empty() {
        return format!("not a checkpoint: there is no {}", config_json::CONFIG);
    }
    format!("not a checkpoint, but it contains {}; pass one of them", below.join(", "))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_near_a_checkpoint_finds_it_and_other_paths_are_explained() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"{}").unwrap();
        };
        for name in [
            "runs/a/best/config.json",
            "runs/a/last/config.json",
            "runs/b/last/config.json",
            "runs/killed/.needle-aside-last/config.json",
            "runs/new/recipe.toml",
            "runs/new/metrics.jsonl",
            "int4/needle.safetensors",
            "onnx/encoder.onnx",
            "packed/00000.packed",
            "original.pkl",
            "runs/a/best/model.safetensors",
            "empty/x",
        ] {
            write(name);
        }
        let located = |name: &str| locate(&root.path().join(name));
        for (name, expected) in [
            ("runs/a", "runs/a/best"),
            ("runs/a/last", "runs/a/last"),
            ("runs/b", "runs/b/last"),
            ("runs/killed", "runs/killed/.needle-aside-last"),
            ("runs/killed/last", "runs/killed/.needle-aside-last"),
            ("runs/a/best/model.safetensors", "runs/a/best"),
        ] {
            assert_eq!(located(name).unwrap(), root.path().join(expected), "{name}");
        }
        for (name, expected) in [
            ("runs", "pass one"),
            ("runs/new", "checkpoint yet"),
            ("int4", "needle import"),
            ("onnx", "exported from"),
            ("packed", "needle train --data"),
            ("original.pkl", "--tokenizer"),
            ("empty", "no config.json"),
            ("empty/x", "expected the directory"),
            ("nowhere", "no such directory"),
        ] {
            let error = located(name).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
