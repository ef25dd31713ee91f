//! `/v1/chat/completions`: the contract that OpenAI's clients rely on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use axum::http::StatusCode;
use common::{TestServer, chat, server, tools};
use proptest::prelude::*;
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";

async fn ask(query: &str, more: Value) -> Value {
    let (status, answer) = server().post(PATH, &chat(query, more)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

/// Status and error of a request that fails.
async fn refused(body: &Value) -> (u16, Value) {
    let (status, answer) = server().post(PATH, body).await;
    let error = answer["error"].clone();
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
    assert_eq!(error.as_object().unwrap().keys().collect::<Vec<_>>(), ["message", "type", "param", "code"]);
    (status.as_u16(), error)
}

#[tokio::test]
async fn an_answer_has_calls_with_arguments_as_text_and_no_content() {
    let answer = ask("alpha and beta", json!({})).await;
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("scripted")));
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    for (call, name) in calls.iter().zip(["alpha", "beta"]) {
        assert!(call["id"].as_str().unwrap().starts_with("call_"));
        assert_eq!(call["type"], "function");
        let function = json!({"name": name, "arguments": "{\"text\":\"alpha and beta\"}"});
        assert_eq!(call["function"], function);
    }
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    let usage = &answer["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    assert_eq!(answer["needle"]["confidence"], 0.9);
}

#[tokio::test]
async fn where_no_tool_fits_there_is_no_key_of_calls() {
    let answer = ask("nothing", json!({})).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "stop");
    assert!(choice["message"].get("tool_calls").is_none());
    assert_eq!(choice["message"]["content"], "");
}

#[tokio::test]
async fn a_withheld_answer_says_so() {
    let answer = ask("alpha", json!({"abstain_below": 0.95})).await;
    assert_eq!(answer["needle"]["abstained"], true);
    assert!(answer["choices"][0]["message"].get("tool_calls").is_none());
}

#[tokio::test]
async fn the_choice_of_tools_is_kept() {
    let names = |answer: &Value| -> Vec<String> {
        let calls = answer["choices"][0]["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
        calls.iter().map(|call| call["function"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let answer = ask("nothing", json!({"tool_choice": "required"})).await;
    assert_eq!((names(&answer), &answer["choices"][0]["finish_reason"]), (vec!["alpha".into()], &json!("tool_calls")));
    let named = json!({"type": "function", "function": {"name": "beta"}});
    let answer = ask("nothing", json!({"tool_choice": named})).await;
    assert_eq!((names(&answer), &answer["choices"][0]["finish_reason"]), (vec!["beta".into()], &json!("stop")));
    let answer = ask("alpha and beta", json!({"tool_choice": "none"})).await;
    assert_eq!((names(&answer), &answer["choices"][0]["finish_reason"]), (vec![], &json!("stop")));
    let answer = ask("alpha and beta", json!({"parallel_tool_calls": false})).await;
    assert_eq!(names(&answer), ["alpha"]);
    let answer = ask("hello", json!({"tool_choice": "none", "tools": null})).await;
    assert_eq!(names(&answer), Vec::<String>::new());
}

#[tokio::test]
async fn the_last_message_of_the_user_is_the_query_and_a_result_ends_the_loop() {
    let parts = json!([{"role": "user", "content": "beta"}, {"role": "assistant", "content": null},
        {"role": "user", "content": [{"type": "text", "text": "al"}, {"type": "text", "text": "alpha"}]}]);
    let answer = ask("", json!({"messages": parts})).await;
    let arguments = &answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"];
    assert_eq!(arguments, "{\"text\":\"al\\nalpha\"}");
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "alpha", "arguments": "{}"}});
    let messages = json!([{"role": "user", "content": "alpha"}, {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "done"}]);
    let answer = ask("", json!({"messages": messages})).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn sampling_fields_are_accepted_and_ignored() {
    let more = json!({"temperature": 0.7, "top_p": 0.1, "seed": 7, "n": 1, "presence_penalty": 1, "stop": ["x"], "user": "u",
        "logit_bias": {}, "store": true, "metadata": {"a": "b"}, "max_tokens": 100, "max_completion_tokens": 100});
    let answer = ask("alpha", more).await;
    assert_eq!(answer["choices"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_that_cannot_be_used_names_its_field() {
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    let broken =
        json!([{"type": "function", "function": {"name": "a", "parameters": {"type": "object", "properties": 3}}}]);
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]);
    for (more, param) in [
        (json!({"n": 2}), "n"),
        (json!({"tool_choice": {}}), "tool_choice"),
        (json!({"tool_choice": named("gamma")}), "tool_choice"),
        (json!({"tool_choice": "sometimes"}), "tool_choice"),
        (json!({"tool_choice": "required", "tools": []}), "tools"),
        (json!({"tools": null}), "tools"),
        (json!({"tools": {"a": 1}}), "tools"),
        (json!({"tools": broken}), "tools[0].function.parameters.properties"),
        (json!({"tools": tools(&["a", "a"])}), "tools[1].name"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "alpha"}), "messages"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "assistant", "content": "x"}]}), "messages"),
        (json!({"messages": [{"role": "user", "content": "  "}]}), "messages"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content"),
        (json!({"messages": image}), "messages[0].content[0]"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"abstain_below": 2}), "abstain_below"),
        (json!({"parallel_tool_calls": 1}), "parallel_tool_calls"),
    ] {
        let (status, error) = refused(&chat("alpha", more.clone())).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{more} {error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let (status, error) = refused(&chat("alpha", json!({"model": "gpt-4"}))).await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
    assert!(error["message"].as_str().unwrap().contains("scripted"));
}

/// Arguments by call, and the finish reasons, of a stream's chunks; checks the order of what comes.
fn read_stream(events: &[(Option<String>, String)]) -> (Vec<(String, String)>, Vec<String>) {
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(last.1, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant"}));
    let mut calls: Vec<(String, String)> = Vec::new();
    let mut reasons = Vec::new();
    for chunk in &chunks[1..] {
        assert_eq!((&chunk["id"], &chunk["object"]), (&chunks[0]["id"], &json!("chat.completion.chunk")));
        let Some(choice) = chunk["choices"].get(0) else { continue };
        assert!(choice["delta"].get("content").is_none());
        if let Some(reason) = choice["finish_reason"].as_str() {
            assert_eq!(choice["delta"], json!({}));
            reasons.push(reason.to_owned());
        }
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            assert!(reasons.is_empty());
            let index = call["index"].as_u64().unwrap() as usize;
            if let Some(id) = call["id"].as_str() {
                assert!(id.starts_with("call_"));
                assert_eq!((index, &call["type"]), (calls.len(), &json!("function")));
                assert_eq!(call["function"]["arguments"], "");
                calls.push((call["function"]["name"].as_str().unwrap().to_owned(), String::new()));
            } else {
                assert_eq!((index, call.get("type")), (calls.len() - 1, None));
                assert_eq!(call["function"].as_object().unwrap().keys().collect::<Vec<_>>(), ["arguments"]);
                calls.last_mut().unwrap().1.push_str(call["function"]["arguments"].as_str().unwrap());
            }
        }
    }
    (calls, reasons)
}

#[tokio::test]
async fn a_stream_comes_in_the_order_that_clients_expect() {
    let events = server().stream(PATH, &chat("alpha and beta", json!({"stream": true}))).await;
    let (calls, reasons) = read_stream(&events);
    let arguments = "{\"text\":\"alpha and beta\"}".to_owned();
    assert_eq!(calls, [("alpha".to_owned(), arguments.clone()), ("beta".to_owned(), arguments)]);
    assert_eq!(reasons, ["tool_calls"]);
    assert!(events.len() > 8, "the arguments come in pieces");
    assert!(!events.iter().any(|(_, data)| data.contains("usage")));
}

#[tokio::test]
async fn usage_is_streamed_where_it_was_asked_for() {
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = server().stream(PATH, &chat("alpha", more)).await;
    let usage: Value = serde_json::from_str(&events[events.len() - 2].1).unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["total_tokens"].as_u64().unwrap() > 0);
    let first: Value = serde_json::from_str(&events[0].1).unwrap();
    assert_eq!(first["usage"], Value::Null);
    read_stream(&events);
}

#[tokio::test]
async fn streams_of_nothing_and_of_a_named_tool_stop() {
    for (query, more) in [
        ("nothing", json!({"stream": true})),
        ("alpha", json!({"stream": true, "tool_choice": "none"})),
        ("alpha", json!({"stream": true, "tool_choice": {"type": "function", "function": {"name": "alpha"}}})),
    ] {
        let (_, reasons) = read_stream(&server().stream(PATH, &chat(query, more)).await);
        assert_eq!(reasons, ["stop"]);
    }
}

#[tokio::test]
async fn an_error_has_a_status_before_the_stream_and_a_place_in_it_afterwards() {
    let events = server().stream(PATH, &chat("fail", json!({"stream": true, "tool_choice": "required"}))).await;
    let last: Value = serde_json::from_str(&events.last().unwrap().1).unwrap();
    assert_eq!(last["error"]["message"], "the script says so");
    let (status, answer) = server().post(PATH, &chat("panic", json!({"stream": true}))).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer["error"]["type"], "server_error");
}

#[tokio::test]
async fn a_server_with_tools_of_its_own_needs_none_in_the_request() {
    let mut config = needle_serve::ServerConfig::local(0);
    config.tools = needle_data::Tool::list_from_json(&tools(&["alpha"])).unwrap();
    let server: TestServer = common::server_with(config);
    let (_, answer) = server.post(PATH, &chat("alpha", json!({"tools": null}))).await;
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "alpha");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn streamed_pieces_together_are_the_unstreamed_answer(query in "(alpha|beta|nothing| |\"|\\\\|é|😀|\\{|\\}|\\[|x){1,12}") {
        prop_assume!(!query.trim().is_empty());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let answer = ask(&query, json!({})).await;
            let calls = answer["choices"][0]["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let function = |call: &Value| (text(&call["function"]["name"]), text(&call["function"]["arguments"]));
            let whole: Vec<(String, String)> = calls.iter().map(function).collect();
            let events = server().stream(PATH, &chat(&query, json!({"stream": true}))).await;
            assert_eq!(read_stream(&events).0, whole);
        });
    }
}
