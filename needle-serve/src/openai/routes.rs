//! The routes under `/v1`.

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::error::ApiError;
use super::{chat, responses, retrieval};
use crate::state::Shared;

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
