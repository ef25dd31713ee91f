//! The part of OpenAI's API that a model which only calls tools can serve.

pub mod asked;
pub mod chat;
pub mod error;
pub mod fields;
pub mod responses;
pub mod retrieval;
pub mod split;
pub mod turn;

use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::server::Shared;
use error::ApiError;

/// The routes under `/v1`.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/embeddings", post(retrieval::embeddings))
        .route("/v1/tools/rank", post(retrieval::rank))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
}

async fn models(State(shared): State<Shared>) -> Json<Value> {
    let data: Vec<Value> = shared.models.names().into_iter().map(model_object).collect();
    Json(json!({"object": "list", "data": data}))
}

async fn model(State(shared): State<Shared>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    shared.models.get(Some(&name)).map(|(name, _)| Json(model_object(name)))
}

fn model_object(name: String) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "needle"})
}

/// A new id that begins with `prefix`.
fn fresh_id(prefix: &str) -> String {
    // Every hasher of the standard library is seeded anew, at random.
    format!("{prefix}{:016x}{:08x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1) as u32)
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
