//! `POST /v1/chat/completions` (<https://platform.openai.com/docs/api-reference/chat>).

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Json, http::StatusCode};
use needle_data::Tool;
use serde_json::{Map, Value, json};

use super::asked::{Asked, Limits, content};
use super::error::ApiError;
use super::fields::{self, Object};
use super::id::{fresh_id, now};
use super::turn::{Frame, Turn, TurnEvent, TurnWriter, WholeCall, nothing, own_key, streamed, whole};
use crate::ask::ask;
use crate::model::Answer;
use crate::state::Shared;

/// A request.
#[derive(Debug, Clone, PartialEq)]
struct ChatRequest {
    asked: Asked,
    stream: bool,
    include_usage: bool,
}

impl ChatRequest {
    fn read(object: &Object, defaults: &[Tool], limits: &Limits) -> Result<Self, ApiError> {
        if let Some(n) = fields::count(object, "n")?.filter(|&n| n > 1) {
            return Err(ApiError::field("n", format!("{n} answers; the model gives only one")));
        }
        let max_tokens = match fields::count(object, "max_completion_tokens")? {
            Some(most) => Some(most),
            None => fields::count(object, "max_tokens")?,
        };
        let include_usage = match fields::get(object, "stream_options") {
            None => false,
            Some(Value::Object(options)) => fields::flag(options, "include_usage", false)?,
            Some(_) => return Err(ApiError::field("stream_options", "expected an object")),
        };
        Ok(Self {
            asked: Asked::read(object, last_query(object)?, max_tokens, defaults, limits)?,
            stream: fields::flag(object, "stream", false)?,
            include_usage,
        })
    }
}

/// The user's last message, or none if a tool's result came after it. The model reads one query,
/// not a conversation.
fn last_query(object: &Object) -> Result<Option<String>, ApiError> {
    let messages = match fields::get(object, "messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        Some(Value::Array(_)) => return Err(ApiError::field("messages", "the list is empty")),
        Some(_) => return Err(ApiError::field("messages", "expected a list")),
        None => return Err(ApiError::field("messages", "missing")),
    };
    let mut query = None;
    for (i, message) in messages.iter().enumerate() {
        let at = format!("messages[{i}]");
        let message = message.as_object().ok_or_else(|| ApiError::field(&at, "expected an object"))?;
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        // Messages of other roles are checked, too, but not used.
        let text = content(message.get("content").unwrap_or(&Value::Null), &format!("{at}.content"))?;
        query = match role {
            "user" => Some(Some(text)),
            "tool" | "function" => Some(None),
            "assistant" => None,
            "system" | "developer" => query,
            _ => {
                let expected = "expected user, assistant, tool, system or developer";
                return Err(ApiError::field(format!("{at}.role"), expected));
            }
        };
    }
    query.ok_or_else(|| ApiError::field("messages", "the last one must be of role user or tool"))
}

/// Answers a request.
pub(super) async fn completions(State(shared): State<Shared>, body: Bytes) -> Result<Response, ApiError> {
    let object = fields::object(&body)?;
    let request = ChatRequest::read(&object, &shared.tools, &shared.limits)?;
    let (name, model) = shared.models.get(request.asked.model.as_deref())?;
    let question = request.asked.question()?;
    let events = question.map(|question| ask(&shared.queue, model, question)).transpose()?;
    let turn = Turn::new(&name, shared.metrics.clone());
    let head = Head { id: fresh_id("chatcmpl-"), created: now(), model: name, is_named: request.asked.is_named() };
    if request.stream {
        let writer = ChunkWriter { head, include_usage: request.include_usage, calls: 0 };
        return streamed(turn, events, writer).await;
    }
    let (calls, answer) = match events {
        Some(events) => whole(turn, events).await?,
        None => (Vec::new(), nothing()),
    };
    Ok((StatusCode::OK, Json(head.completion(&calls, &answer))).into_response())
}

/// The fields that all objects of one answer share.
struct Head {
    id: String,
    created: u64,
    model: String,
    /// Whether the request requires one named tool.
    is_named: bool,
}

impl Head {
    fn finish_reason(&self, calls: usize, answer: &Answer) -> &'static str {
        match (answer.is_complete, calls) {
            (false, _) => "length",
            (_, 0) => "stop",
            _ if self.is_named => "stop",
            _ => "tool_calls",
        }
    }

    fn completion(&self, calls: &[WholeCall], answer: &Answer) -> Value {
        let mut message = Map::new();
        message.insert("role".into(), "assistant".into());
        message.insert("content".into(), if calls.is_empty() { "".into() } else { Value::Null });
        message.insert("refusal".into(), Value::Null);
        if !calls.is_empty() {
            let calls = calls.iter().map(|call| {
                let function = json!({"name": call.name, "arguments": call.arguments});
                json!({"id": fresh_id("call_"), "type": "function", "function": function})
            });
            message.insert("tool_calls".into(), calls.collect());
        }
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{
                "index": 0,
                "message": message,
                "logprobs": null,
                "finish_reason": self.finish_reason(calls.len(), answer),
            }],
            "usage": usage(answer),
            "needle": own_key(answer),
        })
    }
}

/// Writes the chunks of a stream.
struct ChunkWriter {
    head: Head,
    include_usage: bool,
    calls: usize,
}

impl ChunkWriter {
    fn chunk(&self, choices: Value) -> Value {
        let Head { id, created, model, .. } = &self.head;
        let mut chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": created, "model": model, "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn delta(&self, delta: &Value) -> Frame {
        let choice = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}]);
        Frame::data(&self.chunk(choice))
    }
}

impl TurnWriter for ChunkWriter {
    fn begin(&mut self) -> Vec<Frame> {
        vec![self.delta(&json!({"role": "assistant"}))]
    }

    fn on(&mut self, event: TurnEvent) -> Vec<Frame> {
        match event {
            TurnEvent::Begin { index, name } => {
                self.calls += 1;
                let function = json!({"name": name, "arguments": ""});
                let call = json!({"index": index, "id": fresh_id("call_"), "type": "function", "function": function});
                vec![self.delta(&json!({"tool_calls": [call]}))]
            }
            TurnEvent::Arguments { index, text } => {
                let call = json!({"index": index, "function": {"arguments": text}});
                vec![self.delta(&json!({"tool_calls": [call]}))]
            }
            TurnEvent::End { .. } => Vec::new(),
            TurnEvent::Finished(answer) => {
                let reason = self.head.finish_reason(self.calls, &answer);
                let choice = json!([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": reason}]);
                let mut last = self.chunk(choice);
                last["needle"] = own_key(&answer);
                let mut frames = vec![Frame::data(&last)];
                if self.include_usage {
                    let mut chunk = self.chunk(json!([]));
                    chunk["usage"] = usage(&answer);
                    frames.push(Frame::data(&chunk));
                }
                frames.push(Frame { event: None, data: "[DONE]".into() });
                frames
            }
            TurnEvent::Failed(error) => vec![Frame::data(&error.body())],
        }
    }
}

fn usage(answer: &Answer) -> Value {
    let (prompt, completion) = (answer.prompt_tokens, answer.completion_tokens);
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}
