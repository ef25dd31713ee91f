//! The page's files and its API.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rust_embed::RustEmbed;
use serde::Deserialize;
use serde_json::{Value, json};

use super::data::{Filter, MAX_FILE_BYTES};
use super::runs::{RunRequest, Status};
use super::workspace::Name;
use super::{Playground, attempt, ship};
use crate::error::ServeError;
use crate::openai::error::ApiError;
use crate::openai::fields;
use crate::state::Shared;

/// The page's own files.
#[derive(RustEmbed)]
#[folder = "page/"]
struct Page;

/// The page's routes.
pub(crate) fn routes() -> Router<Shared> {
    let upload = post(upload).layer(DefaultBodyLimit::max(MAX_FILE_BYTES));
    Router::new()
        .route("/", get(index))
        .route("/page/{file}", get(page_file))
        .route("/api/state", get(state))
        .route("/api/try", post(attempt::attempt))
        .route("/api/tools", post(attempt::check_tools))
        .route("/api/data/{name}", get(data_page))
        .route("/api/data/{name}/upload", upload)
        .route("/api/data/{name}/append", post(append))
        .route("/api/data/{name}/replace", post(replace))
        .route("/api/runs/{name}", get(run))
        .route("/api/runs/{name}/start", post(start))
        .route("/api/runs/{name}/stop", post(stop))
        .route("/api/runs/{name}/resume", post(resume))
        .route("/api/runs/{name}/load", post(load))
        .route("/api/exports", post(export))
        .route("/api/exports/{name}/{file}", get(download))
}

/// The page's part of the state.
fn playground(shared: &Shared) -> Result<&Playground, ApiError> {
    shared.playground.as_ref().ok_or_else(|| ServeError::NotFound("this server has no page".into()).into())
}

/// Runs `work`, which reads or writes files, on a thread where it may block.
async fn blocking<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce(&Playground) -> Result<T, ServeError> + Send + 'static,
) -> Result<T, ApiError> {
    let shared = shared.clone();
    let done = tokio::task::spawn_blocking(move || Ok(work(playground(&shared)?)?));
    done.await.unwrap_or_else(|_| {
        Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, None, "the server failed on this request"))
    })
}

async fn index() -> Response {
    page("index.html")
}

async fn page_file(Path(file): Path<String>) -> Response {
    page(&file)
}

fn page(file: &str) -> Response {
    let kind = match file.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match Page::get(file) {
        Some(content) => ([(header::CONTENT_TYPE, kind)], content.data.into_owned()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Everything that the page lists: models, data, runs, exports.
async fn state(State(shared): State<Shared>) -> Result<Json<Value>, ApiError> {
    let models = shared.models.names();
    let tools: Vec<Value> = shared.tools.iter().map(needle_data::Tool::to_json).collect();
    let calibrated: Vec<String> = models
        .iter()
        .filter(|name| shared.models.get(Some(name)).is_ok_and(|(_, m)| m.is_calibrated()))
        .cloned()
        .collect();
    let names = blocking(&shared, |page| {
        let text = |names: Vec<Name>| names.iter().map(Name::to_string).collect::<Vec<_>>();
        let runs = page.workspace.run_names();
        let runs: Vec<Value> = runs
            .iter()
            .map(|name| json!({"name": name.as_str(), "status": page.runs.status(&page.workspace, name)}))
            .collect();
        let exports = page.workspace.export_names();
        let exports = exports.iter().filter_map(|name| ship::show(&page.workspace, name).ok());
        Ok(json!({
            "workspace": page.workspace.root(),
            "bases": page.commands.bases.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "data": text(page.workspace.data_names()),
            "runs": runs,
            "exports": exports.collect::<Vec<_>>(),
            "formats": ship::FORMATS,
        }))
    });
    let mut all = names.await?;
    all["models"] = json!(models);
    all["calibrated"] = json!(calibrated);
    all["tools"] = json!(tools);
    Ok(Json(all))
}

#[derive(Deserialize)]
struct DataQuery {
    tool: Option<String>,
    text: Option<String>,
    #[serde(default)]
    problems: bool,
    #[serde(default)]
    offset: usize,
}

/// How many lines the page shows at a time.
const LINES: usize = 50;

async fn data_page(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(query): Query<DataQuery>,
) -> Result<Json<Value>, ApiError> {
    let name = Name::new(&name)?;
    let DataQuery { tool, text, problems, offset } = query;
    let filter = Filter { tool, text, only_problems: problems, offset, limit: LINES };
    blocking(&shared, move |page| page.data.page(&page.workspace, &name, &filter)).await.map(Json)
}

#[derive(Deserialize)]
struct UploadQuery {
    #[serde(default)]
    replace: bool,
}

async fn upload(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(query): Query<UploadQuery>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let name = Name::new(&name)?;
    let text = String::from_utf8(body.to_vec()).map_err(|_| ServeError::Input("expected JSONL in UTF-8".into()))?;
    // Do not store files that are not JSON at all, such as a pickle or an archive.
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if !first.trim_start().starts_with('{') {
        return Err(ServeError::Input("expected a JSON object on each line".into()).into());
    }
    blocking(&shared, move |page| page.data.upload(&page.workspace, &name, &text, query.replace)).await?;
    Ok(Json(json!({})))
}

async fn append(State(shared): State<Shared>, Path(name): Path<String>, body: Bytes) -> Result<Json<Value>, ApiError> {
    let name = Name::new(&name)?;
    let line = Value::from(fields::object(&body)?).to_string();
    blocking(&shared, move |page| page.data.append(&page.workspace, &name, &line)).await?;
    Ok(Json(json!({})))
}

async fn replace(State(shared): State<Shared>, Path(name): Path<String>, body: Bytes) -> Result<Json<Value>, ApiError> {
    let name = Name::new(&name)?;
    let object = fields::object(&body)?;
    let number = fields::count(&object, "line")?.ok_or_else(|| ApiError::field("line", "missing"))?;
    let before = fields::text(&object, "before")?.unwrap_or_default().to_owned();
    let after = fields::text(&object, "after")?.map(str::to_owned);
    let work = move |page: &Playground| page.data.replace(&page.workspace, &name, number, &before, after.as_deref());
    blocking(&shared, work).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct RunQuery {
    #[serde(default)]
    after: usize,
}

async fn run(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(query): Query<RunQuery>,
) -> Result<Json<Value>, ApiError> {
    let name = Name::new(&name)?;
    let work = move |page: &Playground| page.runs.show(&page.workspace, &page.commands, &name, query.after);
    blocking(&shared, work).await.map(Json)
}

async fn start(State(shared): State<Shared>, Path(name): Path<String>, body: Bytes) -> Result<Json<Value>, ApiError> {
    let name = Name::new(&name)?;
    let request: RunRequest = serde_json::from_value(fields::object(&body)?.into())
        .map_err(|error| ServeError::Input(format!("the request: {error}")))?;
    let Playground { workspace, commands, runs, .. } = playground(&shared)?;
    runs.start(workspace, commands, &name, &request)?;
    Ok(Json(json!({})))
}

async fn stop(State(shared): State<Shared>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    playground(&shared)?.runs.stop(&Name::new(&name)?)?;
    Ok(Json(json!({})))
}

async fn resume(State(shared): State<Shared>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let Playground { workspace, commands, runs, .. } = playground(&shared)?;
    runs.resume(workspace, commands, &Name::new(&name)?)?;
    Ok(Json(json!({})))
}

/// Loads a run's result, which is then served under the run's name.
async fn load(State(shared): State<Shared>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let name = Name::new(&name)?;
    let loader = shared.loader.clone();
    let model = blocking(&shared, {
        let name = name.clone();
        move |page| {
            if page.commands.bases.iter().any(|(base, _)| base == name.as_str()) {
                return Err(ServeError::Conflict(format!("the server was started with a model called {name}")));
            }
            match page.runs.status(&page.workspace, &name) {
                Status::Finished | Status::Stopped => loader(&page.workspace.run(&name)).map_err(ServeError::Input),
                _ => Err(ServeError::NotFound(format!("the run {name} has no result"))),
            }
        }
    });
    shared.models.insert(name.as_str(), model.await?);
    Ok(Json(json!({"models": shared.models.names()})))
}

async fn export(State(shared): State<Shared>, body: Bytes) -> Result<Json<Value>, ApiError> {
    let object = fields::object(&body)?;
    let text = |name| fields::text(&object, name).and_then(|t| t.ok_or_else(|| ApiError::field(name, "missing")));
    let Playground { workspace, commands, .. } = playground(&shared)?;
    Ok(Json(ship::export(workspace, commands, text("model")?, text("format")?).await?))
}

async fn download(
    State(shared): State<Shared>,
    Path((name, file)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let (name, file) = (Name::new(&name)?, Name::new(&file)?);
    let attachment = format!("attachment; filename=\"{file}\"");
    let bytes = blocking(&shared, move |page| {
        let path = ship::file(&page.workspace, &name, &file)?;
        std::fs::read(&path).map_err(|error| ServeError::io(path, error))
    });
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_DISPOSITION, attachment)];
    Ok((headers, bytes.await?).into_response())
}
