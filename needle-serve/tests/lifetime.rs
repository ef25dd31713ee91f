//! The queue as a client meets it, clients that leave, and the end of the server.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::StatusCode;
use common::{chat, loader, server, server_with};
use needle_serve::queue::QueueConfig;
use needle_serve::{ServeError, ServerConfig, router, serve};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATH: &str = "/v1/chat/completions";

fn limited(max_waiting: usize, time_limit: Duration) -> ServerConfig {
    let queue = QueueConfig { workers: 1, max_waiting, time_limit };
    ServerConfig { queue, ..ServerConfig::local(0) }
}

/// Waits until `is_so`; a test that waits in vain is ended by its harness.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn more_requests_than_fit_are_refused_with_429() {
    let server = std::sync::Arc::new(server_with(limited(0, Duration::from_secs(60))));
    let slow = tokio::spawn({
        let server = server.clone();
        async move { server.post(PATH, &chat("slow", json!({}))).await }
    });
    until(|| !server.shared.queue.is_empty()).await;
    let (status, answer) = server.post(PATH, &chat("alpha", json!({}))).await;
    assert_eq!((status.as_u16(), &answer["error"]["type"]), (429, &json!("rate_limit_error")));
    slow.abort();
    until(|| server.shared.queue.is_empty()).await;
    assert_eq!(server.post(PATH, &chat("alpha", json!({}))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_takes_too_long_is_ended() {
    let server = server_with(limited(1, Duration::from_millis(50)));
    let (status, answer) = server.post(PATH, &chat("slow", json!({}))).await;
    assert_eq!((status.as_u16(), &answer["error"]["code"]), (503, &json!("time_limit")));
    until(|| server.model.stopped.load(Ordering::SeqCst) == 1).await;
    until(|| server.shared.queue.is_empty()).await;
}

/// The head of a request, and its body.
fn raw(query: &str, stream: bool) -> String {
    let body = chat(query, json!({"stream": stream})).to_string();
    format!("POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_answer_whose_client_has_left_is_stopped() {
    for is_streamed in [false, true] {
        let server = server();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(axum::serve(listener, router(&server.shared)).into_future());
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(raw("slow", is_streamed).as_bytes()).await.unwrap();
        until(|| !server.shared.queue.is_empty()).await;
        drop(client);
        until(|| server.model.stopped.load(Ordering::SeqCst) == 1).await;
        served.abort();
    }
}

#[tokio::test]
async fn a_shutdown_ends_what_has_begun_and_takes_nothing_new() {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, told) = tokio::sync::oneshot::channel();
    let models = vec![("scripted".to_owned(), "somewhere".into())];
    let served =
        tokio::spawn(serve(ServerConfig::local(0), models, loader(), |address| tell.send(address).unwrap(), async {
            stopped.await.unwrap()
        }));
    let address = told.await.unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    // Until the model is loaded.
    let mut answer = String::new();
    while !answer.contains("\"status\":\"ok\"") {
        answer.clear();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        client.read_to_string(&mut answer).await.unwrap();
    }
    client.write_all(raw("alpha", true).as_bytes()).await.unwrap();
    let mut first = [0; 12];
    client.read_exact(&mut first).await.unwrap();
    stop.send(()).unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("[DONE]"), "{rest}");
    served.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_ends_the_server() {
    let models = vec![("a".to_owned(), "broken".into())];
    let forever = std::future::pending();
    let error = serve(ServerConfig::local(0), models, loader(), |_| (), forever).await.unwrap_err();
    assert!(matches!(&error, ServeError::Config(reason) if reason == "a: broken: broken"), "{error}");
}
