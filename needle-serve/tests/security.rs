//! Who is served, and what a request may hold.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use common::{chat, server, server_with, text, tools};
use needle_serve::security::ApiKey;
use needle_serve::{ServerConfig, ServerState};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const KEY: &str = "a-key-of-this-test";

fn open_to_others() -> ServerConfig {
    let key = Some(ApiKey::new(KEY).unwrap());
    ServerConfig { address: "0.0.0.0:0".parse().unwrap(), key, ..ServerConfig::local(0) }
}

#[tokio::test]
async fn a_server_for_others_demands_its_key_everywhere_but_for_health() {
    let without = ServerConfig { address: "0.0.0.0:0".parse().unwrap(), ..ServerConfig::local(0) };
    assert!(ServerState::new(without, common::loader()).is_err());
    let server = server_with(open_to_others());
    for path in ["/v1/models", "/metrics", "/v1/nothing"] {
        let (status, body) = server.get(path).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(body.contains("authentication_error") && !body.contains(KEY));
        let request =
            Request::get(path).header(header::HOST, "x").header(header::AUTHORIZATION, format!("Bearer {KEY}"));
        let (status, _) = text(server.send(request.body(Body::empty()).unwrap()).await).await;
        assert_ne!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(server.get("/health").await.0, StatusCode::OK);
}

#[tokio::test]
async fn requests_of_other_sites_pages_are_refused() {
    let server = server();
    for (host, origin, status) in [
        ("localhost", None, 200),
        ("localhost:80", Some("http://localhost:80"), 200),
        ("localhost", Some("https://evil.example"), 403),
        ("localhost", Some("null"), 403),
        ("evil.example", None, 403),
        ("evil.example", Some("http://evil.example"), 403),
    ] {
        let mut request = Request::get("/v1/models").header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        let response = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status().as_u16(), status, "{host} {origin:?}");
        assert!(response.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN).is_none());
    }
}

#[tokio::test]
async fn responses_tell_the_browser_to_be_careful() {
    let request = Request::get("/health").header(header::HOST, "localhost").body(Body::empty()).unwrap();
    let response = server().send(request).await;
    assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert!(response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("frame-ancestors 'none'"));
}

#[tokio::test]
async fn bodies_queries_and_tools_have_limits() {
    let server = server();
    let limits = server.shared.limits;
    let path = "/v1/chat/completions";
    let (status, body) = server.post_text(path, "x".repeat(limits.body_bytes + 1)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(body.contains("invalid_request_error"));
    let names: Vec<String> = (0..=limits.tools).map(|i| format!("tool{i}")).collect();
    let many = tools(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let long = json!([{"name": "a", "description": "x".repeat(limits.tool_bytes)}]);
    for (request, param) in [
        (chat(&"x".repeat(limits.query_bytes + 1), json!({})), "messages"),
        (chat("alpha", json!({"tools": many})), "tools"),
        (chat("alpha", json!({"tools": long})), "tools[0]"),
    ] {
        let (status, answer) = server.post(path, &request).await;
        assert_eq!((status.as_u16(), &answer["error"]["param"]), (400, &json!(param)));
    }
    let (status, answer) = server.post_text(path, "[".repeat(100_000)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer.contains("recursion"), "{answer}");
}

/// Valid requests, broken in one of many ways.
fn broken(random: &mut rand::rngs::StdRng) -> (&'static str, Vec<u8>) {
    let paths = ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/tools/rank"];
    let path = *paths.choose(random).unwrap();
    let mut request = chat("alpha", json!({"input": "alpha", "query": "alpha", "stream": random.random_bool(0.3)}));
    let odd = [
        Value::Null,
        json!(-1),
        json!(1e300),
        json!(""),
        json!([]),
        json!({}),
        json!([[[]]]),
        json!({"type": {}}),
        json!("\u{0}"),
        json!(true),
        json!(18446744073709551615_u64),
        json!([null]),
        json!([{"name": null}]),
        json!({"function": 7}),
        json!([{"role": "user", "content": {"text": 1}}]),
        json!([{"type": "function", "function": {"name": "a", "parameters":
        {"type": "object", "properties": {"x": {"$ref": "#/nowhere"}}, "required": ["y"]}}}]),
        json!("😀é\\\""),
    ];
    for _ in 0..random.random_range(1..4) {
        let keys = [
            "model",
            "messages",
            "tools",
            "tool_choice",
            "stream",
            "stream_options",
            "n",
            "max_tokens",
            "input",
            "query",
            "top_k",
            "parallel_tool_calls",
            "abstain_below",
            "encoding_format",
            "dimensions",
            "max_output_tokens",
        ];
        let key = *keys.choose(random).unwrap();
        let value = odd.choose(random).unwrap().clone();
        match random.random_range(0..3) {
            0 => request[key] = value,
            1 => request["tools"][0]["function"]["parameters"] = value,
            _ => request["messages"] = json!([{"role": "user", "content": "x", key: value.clone()}, value]),
        }
        if !request["tools"].is_array() || !request["tools"][0].is_object() {
            break;
        }
    }
    let mut bytes = request.to_string().into_bytes();
    for _ in 0..random.random_range(0..3) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..3) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes[at] = random.random(),
            _ => bytes.insert(at, *b"{}[]\",:0\\\xff".choose(random).unwrap()),
        }
    }
    (path, bytes)
}

#[tokio::test]
async fn thousands_of_malformed_requests_make_no_server_error() {
    let server = server();
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let mut refused = 0;
    for _ in 0..10_000 {
        let (path, bytes) = broken(&mut random);
        let (status, body) = server.post_text(path, bytes.clone()).await;
        let shown = String::from_utf8_lossy(&bytes);
        assert!(!status.is_server_error(), "{status} {body}\n{path} {shown}");
        if status.is_client_error() {
            refused += 1;
            let body: Value = serde_json::from_str(&body).unwrap();
            assert!(body["error"]["message"].is_string(), "{shown}");
        }
    }
    assert!(refused > 5000, "{refused}");
}
