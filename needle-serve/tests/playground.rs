//! The page's API: data, finetunes by a scripted command, exports, and the walls of the workspace.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::http::StatusCode;
use common::{TestServer, server_with};
use needle_serve::{PlaygroundConfig, ServerConfig};
use serde_json::{Value, json};

/// Plays `needle`: a finetune writes a metric, waits to be stopped where its data is called `long`,
/// and reports; an export writes a file.
const NEEDLE: &str = r#"#!/bin/sh
command=$1; shift
data=$1; force=""
while [ $# -gt 0 ]; do
  case $1 in --out) out=$2;; --resume) resume=yes;; esac
  shift
done
mkdir -p "$out"
if [ "$command" = export ]; then
  echo weights > "$out/needle.safetensors"
  echo '{"tensors": 3}' > "$out/verify.json"
  exit 0
fi
mkdir -p "$out/last"
echo '{"event":"step","step":1,"cross_entropy":2.5}' >> "$out/metrics.jsonl"
case $data in
  *broken*) rm -r "$out"; echo "error: nothing to learn from" >&2; exit 1;;
  *long*) [ "$resume" ] || { trap 'echo saved; exit 0' TERM; while :; do sleep 0.05; done; };;
esac
mkdir -p "$out/best"
echo '{"before": {"exact_match": 0.1}, "after": {"exact_match": 0.9, "n": 3}}' > "$out/report.json"
"#;

const EXAMPLE: &str =
    r#"{"query":"go","tools":[{"name":"a","parameters":{}}],"answers":[{"name":"a","arguments":{}}]}"#;

fn server(dir: &Path) -> TestServer {
    let needle = dir.join("needle");
    std::fs::write(&needle, NEEDLE).unwrap();
    std::fs::set_permissions(&needle, std::fs::Permissions::from_mode(0o755)).unwrap();
    let bases = vec![("base".to_owned(), dir.to_owned())];
    let playground = Some(PlaygroundConfig { workspace: dir.join("workspace"), needle, bases });
    server_with(ServerConfig { playground, ..ServerConfig::local(0) })
}

async fn upload(server: &TestServer, name: &str, text: &str) -> StatusCode {
    server.post_text(&format!("/api/data/{name}/upload"), text.to_owned()).await.0
}

async fn json_of(server: &TestServer, path: &str) -> Value {
    let (status, text) = server.get(path).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The run, once it has the status.
async fn run_at(server: &TestServer, name: &str, status: &str) -> Value {
    loop {
        let run = json_of(server, &format!("/api/runs/{name}")).await;
        if run["status"] == status && (status != "running" || run["next"] == 1) {
            return run;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_page_and_its_files_come_without_a_net() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let (status, page) = server.get("/").await;
    assert_eq!(status, StatusCode::OK);
    for file in ["main.js", "style.css", "icon.svg", "api.js", "dom.js", "try.js", "data.js", "finetune.js", "ship.js"]
    {
        let (status, text) = server.get(&format!("/page/{file}")).await;
        assert_eq!(status, StatusCode::OK, "{file}");
        let linked = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!linked.contains("http://") && !linked.contains("https://"), "{file}");
    }
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("onclick"));
    assert_eq!(server.get("/page/nothing.js").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn tokens_come_with_their_probability_and_tools_with_their_errors() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let tools = r#"[{"name": "alpha", "parameters": {"text": {"type": "string"}}}]"#;
    let body = json!({"model": "scripted", "query": "alpha é", "tools": tools});
    let events = server.stream("/api/try", &body).await;
    let (last, pieces) = events.split_last().unwrap();
    let pieces: Vec<Value> = pieces.iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    let text: String = pieces.iter().map(|piece| piece["text"].as_str().unwrap()).collect();
    assert_eq!(text, r#"[{"name":"alpha","arguments":{"text":"alpha é"}}]"#);
    assert_eq!(pieces[0]["probability"], 0.5);
    let done: Value = serde_json::from_str(&last.1).unwrap();
    assert_eq!(
        (last.0.as_deref(), &done["calls"][0]["name"], &done["confidence"]),
        (Some("done"), &json!("alpha"), &json!(0.9))
    );
    for (text, part) in [("[{", "line 1 column"), (r#"[{"name": 7}]"#, "tools[0].name"), ("3", "expected a list")] {
        let (status, answer) = server.post("/api/tools", &json!({"text": text})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer["error"]["message"].as_str().unwrap().contains(part), "{answer}");
        assert!(answer["error"]["param"].as_str().unwrap().starts_with("tools"));
    }
}

#[tokio::test]
async fn data_is_uploaded_corrected_and_still_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = server(dir.path());
    assert_eq!(upload(&first, "mine", EXAMPLE).await, StatusCode::OK);
    assert_eq!(upload(&first, "mine", EXAMPLE).await, StatusCode::CONFLICT);
    let example: Value = serde_json::from_str(EXAMPLE).unwrap();
    assert_eq!(first.post("/api/data/mine/append", &example).await.0, StatusCode::OK);
    drop(first);
    let again = server(dir.path());
    assert_eq!(json_of(&again, "/api/state").await["data"], json!(["mine"]));
    assert_eq!(json_of(&again, "/api/data/mine?tool=a").await["matching"], 2);
}

#[tokio::test]
async fn a_finetune_shows_its_metrics_and_its_comparison_and_can_be_tried() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    upload(&server, "mine", EXAMPLE).await;
    let request = json!({"data": "mine", "base": "base", "max_minutes": 2.5});
    assert_eq!(server.post("/api/runs/one/start", &request).await.0, StatusCode::OK);
    let run = run_at(&server, "one", "finished").await;
    assert_eq!(run["metrics"][0]["cross_entropy"], 2.5);
    assert_eq!(run["report"]["after"]["exact_match"], 0.9);
    assert!(run["command"].as_str().unwrap().contains("--max-minutes 2.5"), "{run}");
    assert_eq!(json_of(&server, "/api/runs/one?after=1").await["metrics"], json!([]));
    assert_eq!(server.post("/api/runs/one/start", &request).await.0, StatusCode::CONFLICT);
    let (_, loaded) = server.post("/api/runs/one/load", &json!({})).await;
    assert_eq!(loaded["models"], json!(["one", "scripted"]));
}

#[tokio::test]
async fn a_finetune_is_stopped_and_goes_on_and_runs_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    upload(&server, "long", EXAMPLE).await;
    let request = json!({"data": "long", "base": "none", "model": "tiny"});
    server.post("/api/runs/one/start", &request).await;
    run_at(&server, "one", "running").await;
    let (status, answer) = server.post("/api/runs/two/start", &request).await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    assert_eq!(server.post("/api/runs/one/stop", &json!({})).await.0, StatusCode::OK);
    let run = run_at(&server, "one", "stopped").await;
    assert!(run["log"].as_str().unwrap().contains("saved"));
    server.post("/api/runs/one/resume", &json!({})).await;
    run_at(&server, "one", "finished").await;
}

#[tokio::test]
async fn a_finetune_that_fails_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    upload(&server, "broken", EXAMPLE).await;
    server.post("/api/runs/one/start", &json!({"data": "broken", "base": "base"})).await;
    let run = run_at(&server, "one", "failed").await;
    assert!(run["log"].as_str().unwrap().contains("nothing to learn from"));
    for (request, status) in [
        (json!({"data": "missing", "base": "base"}), 404),
        (json!({"data": "broken", "base": "missing"}), 404),
        (json!({"data": "broken", "base": "base", "max_minutes": -1}), 400),
        (json!({"data": "../broken", "base": "base"}), 400),
        (json!({"base": "base"}), 400),
    ] {
        assert_eq!(server.post("/api/runs/two/start", &request).await.0.as_u16(), status, "{request}");
    }
    // The next attempt may have the same name, a result keeps it.
    upload(&server, "whole", EXAMPLE).await;
    let whole = json!({"data": "whole", "base": "base"});
    assert_eq!(server.post("/api/runs/one/start", &whole).await.0, StatusCode::OK);
    run_at(&server, "one", "finished").await;
    assert_eq!(server.post("/api/runs/one/start", &whole).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn an_export_is_listed_with_its_proof_and_downloaded() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let (status, made) = server.post("/api/exports", &json!({"model": "base", "format": "needle-rs"})).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    assert_eq!((&made["name"], &made["proof"]["tensors"]), (&json!("base-needle-rs"), &json!(3)));
    let (_, file) = server.get("/api/exports/base-needle-rs/needle.safetensors").await;
    assert_eq!(file, "weights\n");
    assert_eq!(
        server.post("/api/exports", &json!({"model": "base", "format": "exe"})).await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn nothing_outside_of_the_workspace_is_read_or_written() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let secret = dir.path().join("secret.jsonl");
    std::fs::write(&secret, EXAMPLE).unwrap();
    std::fs::create_dir_all(dir.path().join("workspace/exports/mine")).unwrap();
    std::os::unix::fs::symlink(&secret, dir.path().join("workspace/exports/mine/link")).unwrap();
    for path in [
        "/api/data/..%2F..%2Fsecret",
        "/api/data/%2e%2e",
        "/api/exports/..%2F../secret.jsonl",
        "/api/exports/mine/..%2F..%2F..%2Fsecret.jsonl",
        "/api/exports/mine/link",
        "/api/runs/..%2Fx",
        "/page/..%2FCargo.toml",
        "/page/%2Fetc%2Fpasswd",
    ] {
        let (status, text) = server.get(path).await;
        assert!(status.is_client_error(), "{path}: {status} {text}");
    }
    assert_eq!(upload(&server, "..%2Fescaped", EXAMPLE).await, StatusCode::BAD_REQUEST);
    assert!(!dir.path().join("escaped.jsonl").exists() && !dir.path().join("workspace/escaped.jsonl").exists());
}

#[tokio::test]
async fn a_pickle_or_an_archive_is_not_taken_as_data() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    for bytes in [&b"\x80\x04\x95\x10\x00"[..], b"PK\x03\x04\x14\x00", b"cos\nsystem\n(S'true'\ntR.", b""] {
        let (status, text) = server.post_text("/api/data/evil/upload", bytes.to_vec()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    }
    assert!(!dir.path().join("workspace/data/evil.jsonl").exists());
}
