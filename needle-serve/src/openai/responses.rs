//! `POST /v1/responses` (<https://platform.openai.com/docs/api-reference/responses>). Nothing is
//! stored.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use needle_data::Tool;
use serde_json::{Value, json};

use super::asked::{Asked, Limits, content};
use super::error::ApiError;
use super::fields::{self, Object, kind};
use super::id::{fresh_id, now};
use super::turn::{Frame, Turn, TurnEvent, TurnWriter, WholeCall, nothing, own_key, streamed, whole};
use crate::ask::ask;
use crate::model::Answer;
use crate::state::Shared;

fn read(object: &Object, defaults: &[Tool], limits: &Limits) -> Result<Asked, ApiError> {
    for name in ["previous_response_id", "conversation", "prompt"] {
        if fields::get(object, name).is_some() {
            return Err(ApiError::field(name, "this server stores nothing; send the whole input"));
        }
    }
    if fields::flag(object, "background", false)? {
        return Err(ApiError::field("background", "this server stores nothing; wait for the answer"));
    }
    let max_tokens = fields::count(object, "max_output_tokens")?;
    Asked::read(object, last_query(object)?, max_tokens, defaults, limits)
}

/// The user's last message, or none if the output of a function came after it.
fn last_query(object: &Object) -> Result<Option<String>, ApiError> {
    let items = match fields::get(object, "input") {
        Some(Value::String(text)) => return Ok(Some(text.clone())),
        Some(Value::Array(items)) if !items.is_empty() => items,
        Some(Value::Array(_)) => return Err(ApiError::field("input", "the list is empty")),
        Some(other) => {
            return Err(ApiError::field("input", format!("expected a string or a list, got {}", kind(other))));
        }
        None => return Err(ApiError::field("input", "missing")),
    };
    let mut query = None;
    for (i, item) in items.iter().enumerate() {
        let at = format!("input[{i}]");
        let item = item.as_object().ok_or_else(|| ApiError::field(&at, "expected an object"))?;
        let role = item.get("role").and_then(Value::as_str);
        query = match (item.get("type").and_then(Value::as_str).unwrap_or("message"), role) {
            ("message", Some("user")) => {
                Some(Some(content(item.get("content").unwrap_or(&Value::Null), &format!("{at}.content"))?))
            }
            ("message", Some("system" | "developer")) | ("reasoning", _) => query,
            ("message", Some("assistant")) | ("function_call", _) => None,
            ("function_call_output", _) => Some(None),
            ("message", _) => {
                let expected = "expected user, assistant, system or developer";
                return Err(ApiError::field(format!("{at}.role"), expected));
            }
            _ => return Err(ApiError::field(format!("{at}.type"), "items of this type cannot be read")),
        };
    }
    query.ok_or_else(|| ApiError::field("input", "the last item must be the user's, or the output of a function"))
}

/// Answers a request.
pub(super) async fn responses(State(shared): State<Shared>, body: Bytes) -> Result<Response, ApiError> {
    let object = fields::object(&body)?;
    let asked = read(&object, &shared.tools, &shared.limits)?;
    let is_streamed = fields::flag(&object, "stream", false)?;
    let (name, model) = shared.models.get(asked.model.as_deref())?;
    let question = asked.question()?;
    let events = question.map(|question| ask(&shared.queue, model, question)).transpose()?;
    let turn = Turn::new(&name, shared.metrics.clone());
    let head = Head::new(name, &object);
    if is_streamed {
        let writer = EventWriter { head, sequence: 0, items: Vec::new() };
        return streamed(turn, events, writer).await;
    }
    let (calls, answer) = match events {
        Some(events) => whole(turn, events).await?,
        None => (Vec::new(), nothing()),
    };
    let mut items: Vec<Value> = calls.iter().map(|call| item(call, "completed")).collect();
    if items.is_empty() {
        items.push(message("completed"));
    }
    Ok(Json(head.finished(&items, &answer)).into_response())
}

fn item(call: &WholeCall, status: &str) -> Value {
    json!({
        "type": "function_call", "id": fresh_id("fc_"), "call_id": fresh_id("call_"),
        "name": call.name, "arguments": call.arguments, "status": status,
    })
}

/// The empty message of an answer without calls.
fn message(status: &str) -> Value {
    let content = if status == "completed" { json!([part()]) } else { json!([]) };
    json!({"type": "message", "id": fresh_id("msg_"), "role": "assistant", "status": status, "content": content})
}

fn part() -> Value {
    json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
}

/// The fields that all responses to one request share.
struct Head {
    response: Value,
}

impl Head {
    fn new(model: String, request: &Object) -> Self {
        let echo = |name: &str, otherwise: Value| fields::get(request, name).cloned().unwrap_or(otherwise);
        Self {
            response: json!({
                "id": fresh_id("resp_"),
                "object": "response",
                "created_at": now(),
                "status": "in_progress",
                "error": null,
                "incomplete_details": null,
                "instructions": echo("instructions", Value::Null),
                "max_output_tokens": echo("max_output_tokens", Value::Null),
                "metadata": echo("metadata", json!({})),
                "model": model,
                "output": [],
                "parallel_tool_calls": echo("parallel_tool_calls", true.into()),
                "previous_response_id": null,
                "reasoning": {"effort": null, "summary": null},
                "store": false,
                "temperature": echo("temperature", json!(1.0)),
                "text": {"format": {"type": "text"}},
                "tool_choice": echo("tool_choice", "auto".into()),
                "tools": echo("tools", json!([])),
                "top_p": echo("top_p", json!(1.0)),
                "truncation": "disabled",
                "usage": null,
                "user": echo("user", Value::Null),
            }),
        }
    }

    fn finished(&self, items: &[Value], answer: &Answer) -> Value {
        let mut response = self.response.clone();
        response["output"] = items.into();
        if answer.is_complete {
            response["status"] = "completed".into();
        } else {
            response["status"] = "incomplete".into();
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        let (read, written) = (answer.prompt_tokens, answer.completion_tokens);
        response["usage"] = json!({
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        });
        response["needle"] = own_key(answer);
        response
    }
}

/// Writes the events of a stream.
struct EventWriter {
    head: Head,
    sequence: u64,
    /// The output so far.
    items: Vec<Value>,
}

impl EventWriter {
    fn frame(&mut self, name: &'static str, mut data: Value) -> Frame {
        data["type"] = name.into();
        data["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        Frame { event: Some(name), data: data.to_string() }
    }

    /// The events of an empty message, for an answer without calls.
    fn message(&mut self) -> Vec<Frame> {
        let mut item = message("in_progress");
        let id = item["id"].clone();
        let place = |more: Value| {
            let mut all = json!({"item_id": id, "output_index": 0, "content_index": 0});
            for (key, value) in more.as_object().into_iter().flatten() {
                all[key] = value.clone();
            }
            all
        };
        let begin = self.frame("response.output_item.added", json!({"output_index": 0, "item": item}));
        item["status"] = "completed".into();
        item["content"] = json!([part()]);
        let frames = vec![
            begin,
            self.frame("response.content_part.added", place(json!({"part": part()}))),
            self.frame("response.output_text.done", place(json!({"text": "", "logprobs": []}))),
            self.frame("response.content_part.done", place(json!({"part": part()}))),
            self.frame("response.output_item.done", json!({"output_index": 0, "item": item})),
        ];
        self.items.push(item);
        frames
    }
}

impl TurnWriter for EventWriter {
    fn begin(&mut self) -> Vec<Frame> {
        ["response.created", "response.in_progress"]
            .map(|name| self.frame(name, json!({"response": self.head.response})))
            .into()
    }

    fn on(&mut self, event: TurnEvent) -> Vec<Frame> {
        match event {
            TurnEvent::Begin { index, name } => {
                let item = item(&WholeCall { name, arguments: String::new() }, "in_progress");
                self.items.push(item.clone());
                vec![self.frame("response.output_item.added", json!({"output_index": index, "item": item}))]
            }
            TurnEvent::Arguments { index, text } => {
                let Some(item) = self.items.get_mut(index) else { return Vec::new() };
                let arguments = format!("{}{text}", item["arguments"].as_str().unwrap_or_default());
                item["arguments"] = arguments.into();
                let data = json!({"item_id": item["id"], "output_index": index, "delta": text});
                vec![self.frame("response.function_call_arguments.delta", data)]
            }
            TurnEvent::End { index } => {
                let Some(item) = self.items.get_mut(index) else { return Vec::new() };
                item["status"] = "completed".into();
                let item = item.clone();
                let done = json!({
                    "item_id": item["id"], "output_index": index, "name": item["name"], "arguments": item["arguments"],
                });
                vec![
                    self.frame("response.function_call_arguments.done", done),
                    self.frame("response.output_item.done", json!({"output_index": index, "item": item})),
                ]
            }
            TurnEvent::Finished(answer) => {
                let mut frames = if self.items.is_empty() { self.message() } else { Vec::new() };
                let name = if answer.is_complete { "response.completed" } else { "response.incomplete" };
                let response = self.head.finished(&self.items, &answer);
                frames.push(self.frame(name, json!({"response": response})));
                frames
            }
            TurnEvent::Failed(error) => {
                let data = json!({"code": error.code, "message": error.message, "param": error.param});
                vec![self.frame("error", data)]
            }
        }
    }
}
