//! One exchange with an OpenAI-compatible endpoint: sends a question, and returns an answer or the
//! kind of failure.
//!
//! HTTP is blocking (`ureq`); concurrent requests are threads that share a client. The client finds
//! out once what an endpoint supports and remembers it (see `Dialect`): not all endpoints support
//! JSON schemas, and newer ones expect the limit of an answer under another name.

pub(crate) mod retry;
mod secret;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::TeacherError;
use crate::schema::AnswerSchema;

pub use secret::ApiKey;
pub use ureq::Proxy;

/// An answer of more bytes than this is a failure.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
/// Maximum number of bytes of an endpoint's error message that are shown.
const MAX_MESSAGE_BYTES: usize = 400;

/// How requests are sent to the endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// Maximum number of concurrent requests.
    pub concurrency: usize,
    /// Maximum time from the beginning of a request to the end of its answer.
    pub timeout_seconds: f64,
    /// Maximum number of retries after temporary failures.
    pub max_retries: u32,
    /// The first wait between two attempts; it doubles each time.
    pub first_retry_seconds: f64,
    /// Maximum number of requests per minute; no limit, if not given.
    pub requests_per_minute: Option<f64>,
    /// Maximum number of tokens per minute, as estimated before a request is sent; no limit, if not
    /// given.
    pub tokens_per_minute: Option<f64>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            concurrency: 8,
            timeout_seconds: 120.0,
            max_retries: 6,
            first_retry_seconds: 1.0,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }
}

impl ClientConfig {
    /// # Errors
    /// If a number is out of range.
    pub fn validate(&self) -> Result<(), TeacherError> {
        let positive = |field, value: f64| {
            let is_right = value.is_finite() && value > 0.0;
            is_right.then_some(()).ok_or_else(|| TeacherError::config(field, "must be a number above 0"))
        };
        positive("client.concurrency", self.concurrency as f64)?;
        positive("client.timeout_seconds", self.timeout_seconds)?;
        positive("client.first_retry_seconds", self.first_retry_seconds)?;
        positive("client.requests_per_minute", self.requests_per_minute.unwrap_or(1.0))?;
        positive("client.tokens_per_minute", self.tokens_per_minute.unwrap_or(1.0))
    }
}

/// A question to a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The model's name.
    pub model: String,
    /// The rules.
    pub system: String,
    /// The task.
    pub user: String,
    /// The form of the answer.
    pub schema: AnswerSchema,
    /// Maximum number of tokens of the answer.
    pub max_answer_tokens: u64,
    /// Sampling temperature; the endpoint's default, if not given.
    pub temperature: Option<f64>,
}

/// A model's reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The model's text.
    pub content: String,
    /// Tokens of the prompt, as the endpoint counted them.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer, as the endpoint counted them.
    pub output_tokens: Option<u64>,
    /// True if the answer was cut off at `max_answer_tokens`.
    pub is_cut: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The same request may succeed later.
    Temporary {
        /// What happened.
        reason: String,
        /// The wait that the endpoint asked for.
        retry_after: Option<Duration>,
        /// Whether the endpoint may have computed an answer, and charge for it.
        may_be_charged: bool,
    },
    /// This request is refused; others may succeed.
    Refused(String),
    /// No request can succeed.
    Fatal(String),
}

impl Failure {
    /// What happened.
    pub fn reason(&self) -> &str {
        match self {
            Self::Temporary { reason, .. } | Self::Refused(reason) | Self::Fatal(reason) => reason,
        }
    }
}

/// The variant of the API that an endpoint supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dialect {
    has_schemas: bool,
    limit_key: &'static str,
}

impl Dialect {
    /// The next variant to try after a refusal, which need not say what is not supported.
    fn without_what_is_refused(self, text: &str) -> Option<Self> {
        if self.limit_key == "max_tokens" && text.contains("max_completion_tokens") {
            return Some(Self { limit_key: "max_completion_tokens", ..self });
        }
        self.has_schemas.then_some(Self { has_schemas: false, ..self })
    }
}

/// A client of one endpoint, shared between threads.
pub struct Client {
    agent: ureq::Agent,
    url: String,
    shown: String,
    key: ApiKey,
    dialect: Mutex<Dialect>,
}

impl Client {
    /// A client of `endpoint`, a base address such as `http://localhost:8000/v1`.
    ///
    /// Requests to loopback addresses bypass the proxy.
    ///
    /// # Errors
    /// If the address or a setting is invalid.
    pub fn new(endpoint: &str, key: ApiKey, proxy: Option<Proxy>, config: &ClientConfig) -> Result<Self, TeacherError> {
        config.validate()?;
        let (url, host) = completions_url(endpoint)?;
        let is_loopback = host == "localhost" || host == "[::1]" || host.starts_with("127.");
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs_f64(config.timeout_seconds)))
            .max_idle_connections_per_host(config.concurrency)
            .proxy(proxy.filter(|_| !is_loopback))
            .user_agent(concat!("needle/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let dialect = Mutex::new(Dialect { has_schemas: true, limit_key: "max_tokens" });
        let shown = match url.split_once('@') {
            Some((before, after)) => format!("{}{after}", &before[..before.find("//").map_or(0, |i| i + 2)]),
            None => url.clone(),
        };
        Ok(Self { agent, url, shown, key, dialect })
    }

    /// The address, without the user name and password that it may contain.
    pub fn endpoint(&self) -> &str {
        &self.shown
    }

    /// Sends one question. By `id`, the endpoint recognizes a repeated request.
    ///
    /// # Errors
    /// The kind of failure.
    pub fn ask(&self, question: &Question, id: &str) -> Result<Reply, Failure> {
        let mut dialect = *self.dialect.lock().unwrap_or_else(PoisonError::into_inner);
        let mut refusal = String::new();
        loop {
            let (status, retry_after, text) = self.post(&body(question, dialect), id)?;
            match status {
                200..=299 => {
                    self.remember(dialect, &refusal);
                    return reply(&text);
                }
                400 | 422 => match dialect.without_what_is_refused(&text) {
                    Some(other) => (dialect, refusal) = (other, message(&text)),
                    None => return Err(self.refusal(status, retry_after, &text)),
                },
                _ => return Err(self.refusal(status, retry_after, &text)),
            }
        }
    }

    fn post(&self, body: &Value, id: &str) -> Result<(u16, Option<Duration>, String), Failure> {
        let mut request =
            self.agent.post(&self.url).header("content-type", "application/json").header("idempotency-key", id);
        if let Some(value) = self.key.header() {
            request = request.header("authorization", value);
        }
        let mut response = request.send(body.to_string()).map_err(|error| broken(&error))?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = retry::retry_after(header, SystemTime::now());
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).lossy_utf8(true).read_to_string();
        let text = text.map_err(|error| Failure::Temporary {
            reason: format!("the answer was cut off: {error}"),
            retry_after: None,
            may_be_charged: (200..300).contains(&status),
        })?;
        Ok((status, retry_after, self.key.hide(text)))
    }

    /// Remembers a variant that has worked after the previous one was refused.
    fn remember(&self, worked: Dialect, refusal: &str) {
        let mut dialect = self.dialect.lock().unwrap_or_else(PoisonError::into_inner);
        if *dialect != worked && !refusal.is_empty() {
            let form = if worked.has_schemas { "a JSON schema" } else { "the schema in the prompt" };
            tracing::warn!("{}: asking with {form} and {} from now on ({refusal})", self.shown, worked.limit_key);
            *dialect = worked;
        }
    }

    fn refusal(&self, status: u16, retry_after: Option<Duration>, text: &str) -> Failure {
        let reason = format!("HTTP {status}: {}", message(text));
        match status {
            _ if retry::is_temporary(status) => Failure::Temporary { reason, retry_after, may_be_charged: false },
            401 | 403 => {
                Failure::Fatal(format!("{reason}; check the key in the environment variable that --api-key-env names"))
            }
            404 => Failure::Fatal(format!(
                "{reason}; expected --endpoint as a base address such as http://localhost:8000/v1, and a model that it serves"
            )),
            300..=399 => Failure::Fatal(format!("{reason}; the endpoint has moved: give --endpoint its new address")),
            _ => Failure::Refused(reason),
        }
    }
}

/// The address to post to, and its host.
fn completions_url(endpoint: &str) -> Result<(String, String), TeacherError> {
    let bad = |reason: &str| {
        TeacherError::config("endpoint", format!("{reason}; expected a base address such as http://localhost:8000/v1"))
    };
    let base = endpoint.trim().trim_end_matches('/');
    let rest = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://"));
    let rest = rest.ok_or_else(|| bad("does not begin with http:// or https://"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host_and_port.rfind(']') {
        Some(end) => &host_and_port[..=end],
        None => host_and_port.split(':').next().unwrap_or_default(),
    };
    if host.is_empty() || base.contains(char::is_whitespace) {
        return Err(bad("has no host"));
    }
    let url = if base.ends_with("/chat/completions") { base.to_owned() } else { format!("{base}/chat/completions") };
    Ok((url, host.to_ascii_lowercase()))
}

fn body(question: &Question, dialect: Dialect) -> Value {
    let schema = &question.schema;
    let mut system = question.system.clone();
    if !dialect.has_schemas {
        system.push_str(&format!(
            "\n\nAnswer with one JSON object of this JSON schema, and nothing else:\n{}",
            schema.schema
        ));
    }
    let mut body = json!({
        "model": question.model,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": question.user}],
    });
    body[dialect.limit_key] = question.max_answer_tokens.into();
    if let Some(temperature) = question.temperature {
        body["temperature"] = temperature.into();
    }
    if dialect.has_schemas {
        body["response_format"] = schema.response_format();
    }
    body
}

fn reply(text: &str) -> Result<Reply, Failure> {
    let unreadable = |reason: String| Failure::Temporary { reason, retry_after: None, may_be_charged: true };
    let value: Value = serde_json::from_str(text).map_err(|e| unreadable(format!("the answer is not JSON: {e}")))?;
    let choice = &value["choices"][0];
    if !choice["message"].is_object() {
        return Err(unreadable(format!("the answer has no choices[0].message: {}", message(text))));
    }
    Ok(Reply {
        content: choice["message"]["content"].as_str().unwrap_or_default().to_owned(),
        input_tokens: value["usage"]["prompt_tokens"].as_u64(),
        output_tokens: value["usage"]["completion_tokens"].as_u64(),
        is_cut: choice["finish_reason"] == "length",
    })
}

/// Classifies a failure below HTTP.
fn broken(error: &ureq::Error) -> Failure {
    let reason = match error {
        ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl | ureq::Error::Http(_) => {
            return Failure::Fatal(error.to_string());
        }
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        other => other.to_string(),
    };
    let is_unsent = matches!(error, ureq::Error::HostNotFound | ureq::Error::ConnectionFailed)
        || matches!(error, ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused);
    Failure::Temporary { reason, retry_after: None, may_be_charged: !is_unsent }
}

/// The endpoint's error message: `error.message` if there is one, else the beginning of the text.
fn message(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let said = [&value["error"]["message"], &value["error"], &value["message"], &value["detail"]];
    let said = said.into_iter().find_map(Value::as_str).unwrap_or(text).trim();
    let end = (0..=MAX_MESSAGE_BYTES.min(said.len())).rev().find(|&i| said.is_char_boundary(i)).unwrap_or(0);
    // The text is untrusted: control characters must not reach the terminal.
    said[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_base_address() {
        let url = |endpoint: &str| completions_url(endpoint).map(|(url, _)| url);
        assert_eq!(url("http://localhost:8000/v1").unwrap(), "http://localhost:8000/v1/chat/completions");
        assert_eq!(url("http://localhost:8000/v1/ ").unwrap(), "http://localhost:8000/v1/chat/completions");
        assert_eq!(url("https://a.example/v1/chat/completions").unwrap(), "https://a.example/v1/chat/completions");
        assert_eq!(completions_url("http://u:p@[::1]:80/v1").unwrap().1, "[::1]");
        for bad in ["localhost:8000", "ftp://a/v1", "http://", "http:///v1", "http://a b/v1", ""] {
            assert!(url(bad).unwrap_err().to_string().contains("base address"), "{bad}");
        }
    }

    #[test]
    fn credentials_in_an_address_are_not_shown() {
        let client =
            Client::new("http://user:secret@a.example/v1", ApiKey::none(), None, &ClientConfig::default()).unwrap();
        assert_eq!(client.endpoint(), "http://a.example/v1/chat/completions");
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        for (config, field) in [
            (ClientConfig { concurrency: 0, ..Default::default() }, "client.concurrency"),
            (ClientConfig { timeout_seconds: f64::NAN, ..Default::default() }, "client.timeout_seconds"),
            (ClientConfig { requests_per_minute: Some(0.0), ..Default::default() }, "client.requests_per_minute"),
        ] {
            assert!(config.validate().unwrap_err().to_string().starts_with(field));
        }
    }

    #[test]
    fn an_endpoints_message_is_short_and_holds_no_control_characters() {
        assert_eq!(message(r#"{"error":{"message":"no \u001b[31msuch model"}}"#), "no  [31msuch model");
        assert_eq!(message(r#"{"detail":"bad"}"#), "bad");
        assert_eq!(message(&"ü".repeat(1000)).len(), MAX_MESSAGE_BYTES);
    }
}
