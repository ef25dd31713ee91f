//! The page's own route to a model: the answer's tokens while it is decoded, each with the model's
//! probability.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use axum::{Json, http::StatusCode};
use futures_util::{StreamExt, stream};
use needle_data::Tool;
use serde_json::{Value, json};

use crate::ask::{Step, ask};
use crate::model::{Answer, Question};
use crate::openai::asked::{Limits, check_query, read_tools};
use crate::openai::error::ApiError;
use crate::openai::fields;
use crate::openai::turn::{Frame, own_key, sse};
use crate::state::Shared;

/// `POST /api/tools`: checks that a text is a list of tools.
pub(super) async fn check_tools(State(shared): State<Shared>, body: Bytes) -> Result<Json<Value>, ApiError> {
    let object = fields::object(&body)?;
    let text = fields::text(&object, "text")?.unwrap_or_default();
    let tools = tools(text, &shared.limits)?;
    Ok(Json(json!({"tools": tools.iter().map(Tool::to_json).collect::<Vec<_>>()})))
}

/// `POST /api/try`: asks a model, and streams `piece` events, then one `done` or `error`.
pub(super) async fn attempt(State(shared): State<Shared>, body: Bytes) -> Result<Response, ApiError> {
    let object = fields::object(&body)?;
    let (name, model) = shared.models.get(fields::text(&object, "model")?)?;
    let query = fields::text(&object, "query")?.unwrap_or_default().to_owned();
    check_query("query", &query, &shared.limits)?;
    let tools = tools(fields::text(&object, "tools")?.unwrap_or_default(), &shared.limits)?;
    if tools.is_empty() {
        return Err(ApiError::field("tools", "the list is empty"));
    }
    let min_calls = usize::from(fields::flag(&object, "has_to_call", false)?);
    let abstain_below = fields::fraction(&object, "abstain_below")?.filter(|least| *least > 0.0 && min_calls == 0);
    let question = Question { min_calls, abstain_below, ..Question::new(query, tools) };
    let mut events = ask(&shared.queue, model, question)?;
    let metrics = shared.metrics.clone();
    let mut text = Text::default();
    let steps = stream::poll_fn(move |context| events.poll_recv(context));
    Ok(sse(steps.map(move |step| match step {
        Ok(Step::Piece { bytes, probability }) => {
            frame("piece", &json!({"text": text.push(&bytes), "probability": probability}))
        }
        Ok(Step::Done(Ok(answer))) => {
            let outcome = if answer.calls.is_empty() { "nothing" } else { "calls" };
            metrics.answer(&name, outcome, answer.prompt_tokens, answer.completion_tokens);
            frame("done", &done(&answer))
        }
        Ok(Step::Done(Err(error))) => frame("error", &ApiError::from(error).body()),
        Err(interrupted) => frame("error", &ApiError::from(interrupted).body()),
    })))
}

fn frame(event: &'static str, data: &Value) -> Frame {
    Frame { event: Some(event), data: data.to_string() }
}

fn done(answer: &Answer) -> Value {
    let mut done = own_key(answer);
    done["calls"] = json!(answer.calls);
    done["prompt_tokens"] = answer.prompt_tokens.into();
    done["completion_tokens"] = answer.completion_tokens.into();
    done
}

/// Reads the tools in the editor's text.
fn tools(text: &str, limits: &Limits) -> Result<Vec<Tool>, ApiError> {
    let value: Value = needle_data::text::json::parse(text).map_err(|error| {
        let mut bad = ApiError::field("tools", format!("not JSON: {error}"));
        bad.status = StatusCode::BAD_REQUEST;
        bad
    })?;
    read_tools(&value, limits)
}

/// Turns bytes into text, and holds back a character until it is complete.
#[derive(Default)]
struct Text {
    held_back: Vec<u8>,
}

impl Text {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.held_back.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.held_back) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => self.held_back.len(),
        };
        let rest = self.held_back.split_off(whole);
        let whole = std::mem::replace(&mut self.held_back, rest);
        String::from_utf8_lossy(&whole).into_owned()
    }
}
