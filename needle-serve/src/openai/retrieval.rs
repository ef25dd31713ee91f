//! `POST /v1/embeddings` and `POST /v1/tools/rank`, which use the retrieval head.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::asked::{check_query, read_tools};
use super::error::ApiError;
use super::fields::{self, kind};
use crate::model::ModelError;
use crate::queue::{Interrupted, Queue};
use crate::ranking;
use crate::state::Shared;

/// How many tools `/v1/tools/rank` returns by default.
const DEFAULT_TOP_K: usize = 5;

/// Unit vectors of texts. A tool's vector is that of its compact JSON.
pub(super) async fn embeddings(State(shared): State<Shared>, body: Bytes) -> Result<Json<Value>, ApiError> {
    let object = fields::object(&body)?;
    let (name, model) = shared.models.get(fields::text(&object, "model")?)?;
    let texts = match fields::get(&object, "input") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) => {
            let text = |(i, value): (usize, &Value)| {
                let got = || ApiError::field(format!("input[{i}]"), format!("expected a string, got {}", kind(value)));
                value.as_str().map(str::to_owned).ok_or_else(got)
            };
            list.iter().enumerate().map(text).collect::<Result<Vec<_>, _>>()?
        }
        Some(other) => {
            return Err(ApiError::field("input", format!("expected a string or a list, got {}", kind(other))));
        }
        None => return Err(ApiError::field("input", "missing")),
    };
    if texts.is_empty() || texts.len() > shared.limits.texts {
        let reason = format!("{} texts; from 1 to {} are allowed", texts.len(), shared.limits.texts);
        return Err(ApiError::field("input", reason));
    }
    for text in &texts {
        check_query("input", text, &shared.limits)?;
    }
    let is_base64 = match fields::text(&object, "encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(ApiError::field("encoding_format", "expected \"float\" or \"base64\"")),
    };
    let dimensions = fields::count(&object, "dimensions")?;
    let embedded = run(&shared.queue, move || model.embed(&texts)).await?;
    if let Some((wanted, vector)) = dimensions.zip(embedded.vectors.first()).filter(|(n, v)| *n != v.len()) {
        return Err(ApiError::field("dimensions", format!("{wanted}; the model's vectors have {}", vector.len())));
    }
    let data = embedded.vectors.iter().enumerate().map(|(index, vector)| {
        let embedding: Value = if is_base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            STANDARD.encode(bytes).into()
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let usage = json!({"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens});
    Ok(Json(json!({"object": "list", "data": data.collect::<Vec<_>>(), "model": name, "usage": usage})))
}

/// Ranks tools by how well they fit a query, best first.
pub(super) async fn rank(State(shared): State<Shared>, body: Bytes) -> Result<Json<Value>, ApiError> {
    let object = fields::object(&body)?;
    let (name, model) = shared.models.get(fields::text(&object, "model")?)?;
    let query = fields::text(&object, "query")?.ok_or_else(|| ApiError::field("query", "missing"))?.to_owned();
    check_query("query", &query, &shared.limits)?;
    let tools = match fields::get(&object, "tools") {
        Some(tools) => read_tools(tools, &shared.limits)?,
        None => shared.tools.to_vec(),
    };
    if tools.is_empty() {
        return Err(ApiError::field("tools", "missing"));
    }
    let top_k = fields::count(&object, "top_k")?.unwrap_or(DEFAULT_TOP_K);
    let ranked = run(&shared.queue, move || ranking::rank(&*model, &query, &tools, &ranking::index(&tools))).await?;
    let data: Vec<_> = ranked.into_iter().take(top_k).collect();
    Ok(Json(json!({"object": "list", "data": data, "model": name})))
}

/// Runs `work` as soon as the queue allows.
///
/// # Errors
/// If the queue is full, the time limit is reached, or the model fails.
pub(crate) async fn run<T: Send + 'static>(
    queue: &Queue,
    work: impl FnOnce() -> Result<T, ModelError> + Send + 'static,
) -> Result<T, ApiError> {
    let mut events = queue.submit(|emit| _ = emit(work()))?;
    match events.recv().await {
        Some(result) => Ok(result??),
        None => Err(Interrupted::Panicked.into()),
    }
}
