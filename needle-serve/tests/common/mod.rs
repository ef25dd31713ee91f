//! A server in this process, with a model that answers by script.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use needle_serve::models::Loader;
use needle_serve::scripted::Scripted;
use needle_serve::state::Shared;
use needle_serve::{ServerConfig, ServerState, router};
use serde_json::{Value, json};
use tower::ServiceExt;

pub struct TestServer {
    pub shared: Shared,
    pub model: Arc<Scripted>,
}

pub fn loader() -> Loader {
    Arc::new(|path| match path.to_string_lossy().contains("broken") {
        true => Err(format!("{}: broken", path.display())),
        false => Ok(Arc::new(Scripted::default())),
    })
}

pub fn server() -> TestServer {
    server_with(ServerConfig::local(0))
}

pub fn server_with(config: ServerConfig) -> TestServer {
    let shared = ServerState::new(config, loader()).unwrap();
    let model = Arc::new(Scripted::default());
    shared.models.insert("scripted", model.clone());
    shared.models.set_ready();
    TestServer { shared, model }
}

impl TestServer {
    pub async fn send(&self, request: Request<Body>) -> Response<Body> {
        router(&self.shared).oneshot(request).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header(header::HOST, "localhost").body(Body::empty()).unwrap();
        text(self.send(request).await).await
    }

    pub async fn post_text(&self, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
        let request = Request::post(path).header(header::HOST, "localhost").body(body.into()).unwrap();
        text(self.send(request).await).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let (status, text) = self.post_text(path, body.to_string()).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// The data of a stream, each with the name of its event.
    pub async fn stream(&self, path: &str, body: &Value) -> Vec<(Option<String>, String)> {
        let (status, text) = self.post_text(path, body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        events(&text)
    }
}

pub async fn text(response: Response<Body>) -> (StatusCode, String) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

pub fn events(text: &str) -> Vec<(Option<String>, String)> {
    text.split("\n\n")
        .filter(|block| !block.is_empty() && !block.starts_with(':'))
        .map(|block| {
            let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            (line("event: "), line("data: ").unwrap())
        })
        .collect()
}

/// Tools with these names, in OpenAI's form, each with one argument.
pub fn tools(names: &[&str]) -> Value {
    let tool = |name: &&str| {
        let parameters = json!({"type": "object", "properties": {"text": {"type": "string"}}});
        json!({"type": "function", "function": {"name": name, "description": "It does.", "parameters": parameters}})
    };
    names.iter().map(tool).collect()
}

/// A chat request.
pub fn chat(query: &str, more: Value) -> Value {
    let mut request = json!({
        "model": "scripted",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": query}],
        "tools": tools(&["alpha", "beta"]),
    });
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}
