//! Exports: `needle export` as a child process, and its files to download.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use super::runs::Commands;
use super::workspace::{Name, Workspace};
use crate::error::ServeError;

/// The export formats that the page offers.
pub const FORMATS: [&str; 3] = ["needle-rs", "onnx", "hf"];

/// Exports a run or a base, and verifies the export.
///
/// # Errors
/// If there is no such model or format, or the command fails.
pub async fn export(
    workspace: &Workspace,
    commands: &Commands,
    model: &str,
    format: &str,
) -> Result<Value, ServeError> {
    if !FORMATS.contains(&format) {
        return Err(ServeError::Input(format!("format: expected one of {}", FORMATS.join(", "))));
    }
    let path = match commands.bases.iter().find(|(base, _)| base == model) {
        Some((_, path)) => path.clone(),
        None => workspace.run(&Name::new(model)?),
    };
    if !path.exists() {
        return Err(ServeError::NotFound(format!("there is no run or base {model}")));
    }
    let name =
        Name::new(&format!("{}-{format}", model.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_")))?;
    let mut command = Command::new(&commands.needle);
    command
        .arg("export")
        .arg(&path)
        .args(["--format", format, "--force", "--json", "--out"])
        .arg(workspace.export(&name));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let what = || format!("starting {}", commands.needle.display());
    let output = command.output().await.map_err(|error| ServeError::System { what: what(), error })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason was given");
        return Err(ServeError::Input(reason.trim_start_matches("error: ").to_owned()));
    }
    show(workspace, &name)
}

/// An export's files, with their sizes, and its `verify.json`.
///
/// # Errors
/// If there is no such export.
pub fn show(workspace: &Workspace, name: &Name) -> Result<Value, ServeError> {
    let dir = workspace.export(name);
    let entries = std::fs::read_dir(&dir).map_err(|_| ServeError::NotFound(format!("there is no export {name}")))?;
    let mut files: Vec<(String, u64)> = entries
        .flatten()
        .filter_map(|entry| {
            let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            let file = entry.file_name().into_string().ok()?;
            Name::new(&file).ok().map(|_| (file, meta.len()))
        })
        .collect();
    files.sort();
    let proof = std::fs::read_to_string(dir.join("verify.json")).ok();
    let proof: Option<Value> = proof.and_then(|text| serde_json::from_str(&text).ok());
    let files: Vec<Value> = files.into_iter().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect();
    Ok(json!({"name": name.as_str(), "files": files, "proof": proof}))
}

/// The path of an export's file.
///
/// # Errors
/// If there is no such file.
pub fn file(workspace: &Workspace, name: &Name, file: &Name) -> Result<PathBuf, ServeError> {
    let path = workspace.export(name).join(file.as_str());
    // A link could lead out of the workspace.
    let is_file = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    is_file.then_some(path).ok_or_else(|| ServeError::NotFound(format!("the export {name} has no file {file}")))
}
