//! One turn: an answer's steps as events of calls, and the stream that a client reads.

use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Value, json};

use super::error::ApiError;
use super::split::{CallEvent, CallSplitter};
use crate::ask::Step;
use crate::metrics::Metrics;
use crate::model::Answer;
use crate::queue::{Events, Interrupted};

/// An event for the client. The last one is [`Self::Finished`] or [`Self::Failed`].
#[derive(Debug, Clone, PartialEq)]
pub enum TurnEvent {
    /// The `index`-th call begins.
    Begin {
        /// From 0.
        index: usize,
        /// The tool's name.
        name: String,
    },
    /// More text of the arguments of the `index`-th call.
    Arguments {
        /// From 0.
        index: usize,
        /// The next characters of its JSON.
        text: String,
    },
    /// The `index`-th call is complete.
    End {
        /// From 0.
        index: usize,
    },
    /// The answer has ended.
    Finished(Answer),
    /// There is no answer, or it broke off.
    Failed(ApiError),
}

/// Turns steps into events.
pub struct Turn {
    splitter: CallSplitter,
    calls: usize,
    /// The model's name, for the metrics.
    model: String,
    metrics: Arc<Metrics>,
}

impl Turn {
    /// A turn of `model`, whose answer is counted in `metrics`.
    pub fn new(model: impl Into<String>, metrics: Arc<Metrics>) -> Self {
        Self { splitter: CallSplitter::default(), calls: 0, model: model.into(), metrics }
    }

    /// The events of the next step.
    pub fn on(&mut self, step: Result<Step, Interrupted>) -> Vec<TurnEvent> {
        match step {
            Ok(Step::Piece { bytes, .. }) => {
                let events = self.splitter.push(&bytes);
                events.into_iter().map(|event| self.number(event)).collect()
            }
            Ok(Step::Done(Ok(answer))) => {
                let outcome = match (answer.is_complete, answer.abstained, self.calls) {
                    (false, ..) => "incomplete",
                    (_, true, _) => "abstained",
                    (.., 0) => "nothing",
                    _ => "calls",
                };
                self.metrics.answer(&self.model, outcome, answer.prompt_tokens, answer.completion_tokens);
                vec![TurnEvent::Finished(answer)]
            }
            Ok(Step::Done(Err(error))) => vec![TurnEvent::Failed(error.into())],
            Err(interrupted) => vec![TurnEvent::Failed(interrupted.into())],
        }
    }

    fn number(&mut self, event: CallEvent) -> TurnEvent {
        match event {
            CallEvent::Begin { name } => {
                self.calls += 1;
                TurnEvent::Begin { index: self.calls - 1, name }
            }
            CallEvent::Arguments(text) => TurnEvent::Arguments { index: self.calls.saturating_sub(1), text },
            CallEvent::End => TurnEvent::End { index: self.calls.saturating_sub(1) },
        }
    }
}

/// A call of an answer that is not streamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeCall {
    /// The tool's name.
    pub name: String,
    /// The arguments' JSON, as the model wrote it.
    pub arguments: String,
}

/// Waits for the whole answer. Dropping the future stops the model.
///
/// # Errors
/// Why there is no answer.
pub async fn whole(mut turn: Turn, mut events: Events<Step>) -> Result<(Vec<WholeCall>, Answer), ApiError> {
    let mut calls: Vec<WholeCall> = Vec::new();
    while let Some(step) = events.recv().await {
        for event in turn.on(step) {
            match event {
                TurnEvent::Begin { name, .. } => calls.push(WholeCall { name, arguments: String::new() }),
                TurnEvent::Arguments { text, .. } => {
                    if let Some(call) = calls.last_mut() {
                        call.arguments.push_str(&text);
                    }
                }
                TurnEvent::End { .. } => {}
                TurnEvent::Finished(answer) => return Ok((calls, answer)),
                TurnEvent::Failed(error) => return Err(error),
            }
        }
    }
    Err(Interrupted::Panicked.into())
}

/// Writes the stream of one of the APIs.
pub trait TurnWriter: Send + 'static {
    /// The first frames.
    fn begin(&mut self) -> Vec<Frame>;

    /// The frames of an event.
    fn on(&mut self, event: TurnEvent) -> Vec<Frame>;
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The `event` field, where the API has one.
    pub event: Option<&'static str>,
    /// The data.
    pub data: String,
}

impl Frame {
    /// Data without a name.
    pub fn data(data: &Value) -> Self {
        Self { event: None, data: data.to_string() }
    }

    fn into_event(self) -> Result<Event, Infallible> {
        let event = Event::default().data(self.data);
        Ok(match self.event {
            Some(name) => event.event(name),
            None => event,
        })
    }
}

/// Streams a turn. The response's status and headers wait for the first step, so that a failure at
/// the start has its own status.
///
/// # Errors
/// If the answer failed before it began.
pub async fn streamed(
    mut turn: Turn,
    events: Option<Events<Step>>,
    mut writer: impl TurnWriter,
) -> Result<Response, ApiError> {
    let Some(mut events) = events else {
        let mut frames = writer.begin();
        frames.extend(writer.on(TurnEvent::Finished(nothing())));
        return Ok(sse(stream::iter(frames)));
    };
    let first = match events.recv().await {
        Some(Ok(Step::Done(Err(error)))) => return Err(error.into()),
        Some(Err(interrupted)) => return Err(interrupted.into()),
        None => return Err(Interrupted::Panicked.into()),
        Some(step) => step,
    };
    let begin = writer.begin();
    let rest = stream::poll_fn(move |context| events.poll_recv(context));
    let steps = stream::once(std::future::ready(first)).chain(rest);
    let frames = steps.flat_map(move |step| {
        let frames: Vec<Frame> = turn.on(step).into_iter().flat_map(|event| writer.on(event)).collect();
        stream::iter(frames)
    });
    Ok(sse(stream::iter(begin).chain(frames)))
}

/// Frames as server-sent events.
pub fn sse(frames: impl Stream<Item = Frame> + Send + 'static) -> Response {
    Sse::new(frames.map(Frame::into_event)).keep_alive(KeepAlive::default()).into_response()
}

/// The answer to a request for which the model was not asked.
pub fn nothing() -> Answer {
    Answer { is_complete: true, ..Answer::default() }
}

/// The response's `needle` object: facts for which OpenAI's API has no field.
pub fn own_key(answer: &Answer) -> Value {
    json!({
        "confidence": answer.confidence,
        "abstained": answer.abstained,
        "complete": answer.is_complete,
        "violations": answer.violations,
        "cut": answer.cut,
        "picked": answer.picked,
        "seconds": answer.seconds,
    })
}
