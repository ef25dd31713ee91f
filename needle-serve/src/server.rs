//! The server: its routes, the checks of every request, startup and shutdown.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::config::ServerConfig;
use crate::error::ServeError;
use crate::models::Loader;
use crate::openai::asked::Limits;
use crate::openai::error::ApiError;
use crate::state::{ServerState, Shared};
use crate::{openai, playground};

/// All routes.
pub fn router(shared: &Shared) -> Router {
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    let mut routes = Router::new().route("/health", get(health)).route("/metrics", get(metrics));
    routes = routes.merge(openai::routes::routes());
    if shared.playground.is_some() {
        routes = routes.merge(playground::routes::routes());
    }
    routes
        .layer(CatchPanicLayer::custom(|_| {
            let message = "the server failed on this request";
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, None, message).into_response()
        }))
        .layer(DefaultBodyLimit::max(shared.limits.body_bytes))
        .layer(from_fn_with_state(shared.clone(), guard))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::CACHE_CONTROL, "no-store"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"))
        .layer(header(header::CONTENT_SECURITY_POLICY, "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"))
        .with_state(shared.clone())
}

/// The middleware of every request: access control, whether the models are loaded, metrics, and the
/// format of errors.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = matched.unwrap_or_else(|| "unmatched".to_owned());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is_api = path.starts_with("/v1/") || path.starts_with("/api/");
    let needs_key = is_api || path == "/metrics";
    let response = match shared.access.check(request.headers(), request.uri(), needs_key) {
        Err(refused) => ApiError::from(refused).into_response(),
        Ok(()) if is_api && !shared.models.is_ready() => loading().into_response(),
        Ok(()) => in_our_form(next.run(request).await, &method, &path, &shared.limits),
    };
    shared.metrics.request(&route, response.status().as_u16(), began.elapsed());
    response
}

fn loading() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, Some("loading"), "the models are being loaded")
}

/// Errors of the framework come as plain text, but a client expects them as JSON.
fn in_our_form(response: Response, method: &Method, path: &str, limits: &Limits) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !(status.is_client_error() || status.is_server_error()) || kind == Some(b"application/json") {
        return response;
    }
    let path: String = path.chars().take(200).collect();
    let message = match status {
        StatusCode::NOT_FOUND => format!("there is no {path}"),
        StatusCode::METHOD_NOT_ALLOWED => format!("{path} does not support {method}"),
        StatusCode::PAYLOAD_TOO_LARGE => format!("the body is longer than {} bytes", limits.body_bytes),
        _ => status.canonical_reason().unwrap_or("error").to_owned(),
    };
    ApiError::new(status, None, message).into_response()
}

async fn health(State(shared): State<Shared>) -> Response {
    match shared.models.is_ready() {
        true => Json(json!({"status": "ok", "models": shared.models.names()})).into_response(),
        false => loading().into_response(),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, shared.metrics.to_text(shared.queue.len())).into_response()
}

/// Serves the checkpoints `models` (a name and a directory each) until `shutdown` completes;
/// requests that have begun are finished.
///
/// The port is open at once, and `/health` returns 503 until all models are loaded. `on_listening`
/// is called with the address.
///
/// # Errors
/// If the configuration cannot be used, the port is taken, or a model cannot be loaded.
pub async fn serve(
    config: ServerConfig,
    models: Vec<(String, PathBuf)>,
    loader: Loader,
    on_listening: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let address = config.address;
    let shared = ServerState::new(config, loader)?;
    let system = |error| ServeError::System { what: format!("listening on {address}"), error };
    let listener = TcpListener::bind(address).await.map_err(system)?;
    on_listening(listener.local_addr().map_err(system)?);
    let loading = tokio::task::spawn_blocking({
        let shared = shared.clone();
        move || load(&shared, &models)
    });
    let server = axum::serve(listener, router(&shared)).with_graceful_shutdown(shutdown);
    let server = async { server.await.map_err(system) };
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => return result,
        loaded = loading => match loaded {
            Ok(result) => result?,
            Err(_) => return Err(ServeError::Config("loading the models failed".into())),
        },
    }
    server.await?;
    if let Some(playground) = &shared.playground {
        playground.stop_all();
    }
    Ok(())
}

fn load(shared: &Shared, models: &[(String, PathBuf)]) -> Result<(), ServeError> {
    for (name, path) in models {
        let model = (shared.loader)(path).map_err(|reason| ServeError::Config(format!("{name}: {reason}")))?;
        shared.models.insert(name.as_str(), model);
    }
    shared.models.set_ready();
    Ok(())
}
