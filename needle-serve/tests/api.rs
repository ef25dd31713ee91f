//! The other routes under `/v1`, `/health` and `/metrics`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use axum::http::StatusCode;
use common::{loader, server, tools};
use needle_serve::{ServerConfig, ServerState, router};
use serde_json::{Value, json};

const RESPONSES: &str = "/v1/responses";

fn request(query: &str, more: Value) -> Value {
    let tool = |name: &str| {
        let parameters = json!({"type": "object", "properties": {"text": {"type": "string"}}});
        json!({"type": "function", "name": name, "description": "It does.", "parameters": parameters, "strict": true})
    };
    let mut request = json!({"model": "scripted", "input": query, "tools": [tool("alpha"), tool("beta")]});
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

#[tokio::test]
async fn a_response_has_an_item_for_each_call() {
    let (status, answer) = server().post(RESPONSES, &request("alpha and beta", json!({}))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(answer["id"].as_str().unwrap().starts_with("resp_"));
    assert_eq!((&answer["object"], &answer["status"]), (&json!("response"), &json!("completed")));
    let items = answer["output"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(items[1]["type"], "function_call");
    assert_eq!((&items[1]["name"], &items[1]["arguments"]), (&json!("beta"), &json!("{\"text\":\"alpha and beta\"}")));
    assert!(items[1]["call_id"].as_str().unwrap().starts_with("call_"));
    assert!(answer["usage"]["input_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_response_without_calls_is_an_empty_message() {
    let items = json!([{"role": "user", "content": [{"type": "input_text", "text": "alpha"}]},
        {"type": "function_call", "call_id": "call_1", "name": "alpha", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "done"}]);
    for more in [json!({"input": "nothing"}), json!({"input": items}), json!({"tool_choice": "none"})] {
        let (_, answer) = server().post(RESPONSES, &request("alpha", more)).await;
        assert_eq!(answer["output"].as_array().unwrap().len(), 1);
        assert_eq!(answer["output"][0]["type"], "message");
        assert_eq!(answer["output"][0]["content"][0]["text"], "");
    }
}

#[tokio::test]
async fn the_events_of_a_response_have_its_own_names_and_count_up() {
    let events = server().stream(RESPONSES, &request("alpha", json!({"stream": true}))).await;
    let data: Vec<Value> = events.iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    for (i, ((name, _), data)) in events.iter().zip(&data).enumerate() {
        assert_eq!(name.as_deref(), data["type"].as_str());
        assert_eq!(data["sequence_number"], i);
    }
    let mut names: Vec<&str> = data.iter().map(|data| data["type"].as_str().unwrap()).collect();
    names.dedup();
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let deltas: String = data.iter().filter_map(|data| data["delta"].as_str()).collect();
    let last = &data.last().unwrap()["response"];
    assert_eq!(last["output"][0]["arguments"], deltas);
    assert_eq!(last["output"][0]["id"], data[2]["item"]["id"]);
    let events = server().stream(RESPONSES, &request("nothing", json!({"stream": true}))).await;
    assert!(events.iter().any(|(name, _)| name.as_deref() == Some("response.output_text.done")));
}

#[tokio::test]
async fn responses_that_would_need_storage_are_refused() {
    for (more, param) in [
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"background": true}), "background"),
        (json!({"input": []}), "input"),
        (json!({"input": null}), "input"),
        (json!({"input": [{"type": "item_reference", "id": "x"}]}), "input[0].type"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].name"),
        (json!({"tool_choice": {"type": "function", "name": "gamma"}}), "tool_choice"),
    ] {
        let (status, answer) = server().post(RESPONSES, &request("alpha", more)).await;
        assert_eq!((status.as_u16(), &answer["error"]["param"]), (400, &json!(param)), "{answer}");
    }
}

#[tokio::test]
async fn models_are_listed_and_found_by_name() {
    let server = server();
    let (_, list) = server.get("/v1/models").await;
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["data"][0]["id"], "scripted");
    assert_eq!(server.get("/v1/models/scripted").await.0, StatusCode::OK);
    assert_eq!(server.get("/v1/models/other").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn embeddings_come_as_numbers_or_as_base64() {
    let server = server();
    let (_, plain) = server.post("/v1/embeddings", &json!({"model": "scripted", "input": ["a", "b"]})).await;
    assert_eq!(plain["data"][1]["index"], 1);
    let numbers: Vec<f64> =
        plain["data"][0]["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert!((numbers.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-3);
    let body = json!({"model": "scripted", "input": "a", "encoding_format": "base64"});
    let (_, packed) = server.post("/v1/embeddings", &body).await;
    assert_eq!(packed["data"][0]["embedding"].as_str().unwrap().len(), 4 * (numbers.len() * 4).div_ceil(3));
    for (body, param) in [
        (json!({"input": []}), "input"),
        (json!({"input": [1, 2]}), "input[0]"),
        (json!({"input": "a", "dimensions": 3}), "dimensions"),
        (json!({"input": "a", "encoding_format": "x"}), "encoding_format"),
    ] {
        let (status, answer) = server.post("/v1/embeddings", &body).await;
        assert_eq!((status.as_u16(), &answer["error"]["param"]), (400, &json!(param)), "{answer}");
    }
}

#[tokio::test]
async fn tools_are_ranked_best_first() {
    let body = json!({"query": "calibrate", "tools": tools(&["frobnicate", "calibrate", "idle"]), "top_k": 2});
    let (status, answer) = server().post("/v1/tools/rank", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let data = answer["data"].as_array().unwrap();
    assert_eq!((data.len(), &data[0]["name"], &data[0]["index"]), (2, &json!("calibrate"), &json!(1)));
    assert!(data[0]["score"].as_f64() > data[1]["score"].as_f64());
}

#[tokio::test]
async fn health_and_answers_wait_for_the_models() {
    let shared = ServerState::new(ServerConfig::local(0), loader()).unwrap();
    let server = common::TestServer { shared, model: Default::default() };
    assert_eq!(server.get("/health").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.get("/v1/models").await.0, StatusCode::SERVICE_UNAVAILABLE);
    server.shared.models.set_ready();
    assert_eq!(server.get("/health").await.0, StatusCode::OK);
    let _ = router(&server.shared);
}

#[tokio::test]
async fn requests_and_answers_are_counted() {
    let server = server();
    server.post("/v1/chat/completions", &common::chat("alpha", json!({}))).await;
    server.get("/nowhere").await;
    let (status, text) = server.get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    for line in [
        "needle_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1",
        "needle_requests_total{route=\"unmatched\",status=\"404\"} 1",
        "needle_answers_total{model=\"scripted\",outcome=\"calls\"} 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_errors_in_the_same_form() {
    let server = server();
    for (path, status) in [("/v1/nothing", 404), ("/v1/chat/completions", 405), ("/v1/models/%ff", 400)] {
        let (got, text) = server.get(path).await;
        assert_eq!(got.as_u16(), status);
        let body: Value = serde_json::from_str(&text).unwrap();
        assert!(body["error"]["message"].is_string());
    }
}
