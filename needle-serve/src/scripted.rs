//! A model that follows a script, so that tests of the server are exact and need no weights.
//!
//! The query determines the answer: `nothing` calls nothing, `slow` waits between pieces until it
//! is stopped, `fail` fails in mid-answer, `panic` panics, and every other query calls each offered
//! tool whose name it contains.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use needle_data::{Call, Tool};
use serde_json::{Map, Value, json};

use crate::model::{Answer, Embedded, Model, ModelError, OnPiece, Piece, Question};

/// Length of the scripted vectors.
const DIM: usize = 16;

/// The scripted model.
#[derive(Debug)]
pub struct Scripted {
    /// Bytes per piece.
    pub piece_bytes: usize,
    /// The confidence of every answer.
    pub confidence: Option<f64>,
    /// Number of answers that were stopped before their end.
    pub stopped: AtomicUsize,
}

impl Default for Scripted {
    fn default() -> Self {
        Self { piece_bytes: 5, confidence: Some(0.9), stopped: AtomicUsize::new(0) }
    }
}

impl Scripted {
    /// The text that answers `question`.
    pub fn text(question: &Question) -> String {
        let max_calls = question.max_calls.unwrap_or(usize::MAX);
        let named = question.tools.iter().filter(|tool| question.query.contains(&tool.name));
        let mut calls: Vec<&Tool> = named.take(max_calls).collect();
        if calls.len() < question.min_calls {
            calls = question.tools.iter().take(question.min_calls).collect();
        }
        let calls: Vec<Value> = calls
            .into_iter()
            .map(|tool| {
                let arguments = tool.parameters.iter().map(|p| (p.name.clone(), question.query.as_str().into()));
                json!({"name": tool.name, "arguments": arguments.collect::<Map<_, _>>()})
            })
            .collect();
        Value::from(calls).to_string()
    }
}

impl Model for Scripted {
    fn answer(&self, question: &Question, on_piece: &mut OnPiece<'_>) -> Result<Answer, ModelError> {
        let query = question.query.as_str();
        assert!(query != "panic", "the script says so");
        if query == "slow" {
            // Bounded, so that a test that forgets to stop it still ends.
            for _ in 0..2000 {
                if on_piece(Piece { bytes: b"", probability: None }).is_break() {
                    self.stopped.fetch_add(1, Ordering::SeqCst);
                    return Ok(Answer::default());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let abstained = question.abstain_below.zip(self.confidence).is_some_and(|(least, sure)| sure < least);
        let text = if abstained || query == "nothing" && question.min_calls == 0 {
            "[]".to_owned()
        } else {
            Self::text(question)
        };
        let mut completion_tokens = 0;
        for bytes in text.as_bytes().chunks(self.piece_bytes) {
            completion_tokens += 1;
            if on_piece(Piece { bytes, probability: Some(0.5) }) == ControlFlow::Break(()) {
                self.stopped.fetch_add(1, Ordering::SeqCst);
                break;
            }
            if query == "fail" {
                return Err(ModelError::Failed("the script says so".into()));
            }
        }
        let calls: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
        Ok(Answer {
            calls: calls.iter().filter_map(|call| Call::from_json(call, "call").ok()).collect(),
            confidence: self.confidence,
            abstained,
            is_complete: true,
            prompt_tokens: query.len(),
            completion_tokens,
            ..Answer::default()
        })
    }

    fn is_calibrated(&self) -> bool {
        self.confidence.is_some()
    }

    fn similarities(&self, query: &str, tools: &[Tool]) -> Result<Vec<f32>, ModelError> {
        let query = vector(query);
        let cosine = |tool: &Tool| vector(&tool.name).iter().zip(&query).map(|(a, b)| a * b).sum();
        Ok(tools.iter().map(cosine).collect())
    }

    fn embed(&self, texts: &[String]) -> Result<Embedded, ModelError> {
        let tokens = texts.iter().map(String::len).sum();
        Ok(Embedded { vectors: texts.iter().map(|text| vector(text)).collect(), tokens })
    }
}

/// A unit vector that only equal texts share.
fn vector(text: &str) -> Vec<f32> {
    let value = |i: usize| {
        let mut hasher = DefaultHasher::new();
        (text, i).hash(&mut hasher);
        (hasher.finish() % 2001) as f32 / 1000.0 - 1.0
    };
    let values: Vec<f32> = (0..DIM).map(value).collect();
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
    values.into_iter().map(|v| v / norm).collect()
}
