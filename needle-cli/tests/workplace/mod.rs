//! A temporary directory with the `needle` command in it.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub const TOOLS: &str = r#"[{"type":"function","function":{"name":"setTimer","description":"Start a countdown","parameters":{"type":"object","properties":{"minutes":{"type":"integer"}},"required":["minutes"]}}},{"name":"stop","inputSchema":{"type":"object","properties":{}}}]"#;

pub const RECIPE: &str = r#"
model = "tiny"
steps = 12
dropout = 0.1
tokenizer = { vocab_size = 500 }
data = { rows = 2, row_enc_tokens = 256, row_dec_tokens = 128, pack_window = 32 }
schedule = { warmup_steps = 12 }
eval = { every_steps = 4, max_examples = 4, max_tokens = 16 }
"#;

pub struct Workplace(pub tempfile::TempDir);

impl Workplace {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.text(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn needle(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_needle"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Starts a command.
    pub fn start_with(&self, args: &[&str], stdin: Stdio, stdout: Stdio) -> std::process::Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_needle"));
        command.args(args).current_dir(self.0.path()).stdin(stdin).stdout(stdout).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs a command that must succeed, and gives its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.needle(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// Runs a command that must fail with exit code 1 (or `code`), and gives its one error line.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.needle(args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        stderr
    }

    /// Generated examples, a recipe, and a model trained on them.
    pub fn with_model() -> Self {
        let place = Self::new();
        let data = place.ok(&["data", "synth", "--count", "60", "--max-tools", "2", "--brief", "--seed", "3"]);
        place.write("data.jsonl", &data);
        place.write("recipe.toml", RECIPE);
        place.ok(&["train", "--config", "recipe.toml", "--data", "data.jsonl", "--out", "run", "-q"]);
        place
    }
}
