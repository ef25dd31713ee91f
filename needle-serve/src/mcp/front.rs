//! The MCP server in front of many others: its three tools, over stdio and HTTP.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, JsonObject, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::config::ServerSpec;
use super::router::Router;
use super::upstream::Upstream;
use crate::error::ServeError;
use crate::openai::error::ApiError;
use crate::security::{Access, ApiKey};

/// How many tools `find_tools` returns by default.
const DEFAULT_K: usize = 5;

/// The router as an MCP server.
#[derive(Clone)]
pub struct Front {
    router: Arc<Router>,
}

impl Front {
    /// An MCP server in front of `router`.
    pub fn new(router: Arc<Router>) -> Self {
        Self { router }
    }

    async fn answer(&self, request: CallToolRequestParams) -> Result<CallToolResult, ServeError> {
        let arguments = request.arguments.unwrap_or_default();
        let text = |name: &str| {
            let missing = || ServeError::Input(format!("{name}: expected a string"));
            arguments.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(missing)
        };
        match request.name.as_ref() {
            "find_tools" => {
                let k = arguments.get("k").and_then(Value::as_u64).map_or(DEFAULT_K, |k| k.min(100) as usize);
                self.router.find_tools(&text("query")?, k).await.map(CallToolResult::structured)
            }
            "route" => self.router.route(&text("query")?).await.map(CallToolResult::structured),
            "call_tool" => {
                let inner = match arguments.get("arguments") {
                    Some(Value::Object(object)) => object.clone(),
                    None | Some(Value::Null) => JsonObject::new(),
                    Some(_) => return Err(ServeError::Input("arguments: expected an object".into())),
                };
                let confirmed = arguments.get("confirmed").and_then(Value::as_bool).unwrap_or(false);
                self.router.call_tool(&text("name")?, inner, confirmed).await
            }
            other => Err(ServeError::NotFound(format!("there is no tool {other:?}"))),
        }
    }
}

/// The three tools.
pub fn tools() -> Vec<Tool> {
    let query = json!({"type": "string", "description": "The request, in one sentence"});
    let k = json!({"type": "integer", "minimum": 1, "maximum": 100, "description": "How many tools; by default 5"});
    let name = json!({"type": "string", "description": "A tool's name, from find_tools or route"});
    let confirmed = json!({"type": "boolean", "description": "Whether the user has agreed to a destructive call"});
    let tool =
        |name: &'static str, description: &'static str, properties: Value, required: Value, is_read_only: bool| {
            let schema = json!({"type": "object", "properties": properties, "required": required});
            let schema = schema.as_object().cloned().unwrap_or_default();
            let hints = ToolAnnotations::from_raw(None, Some(is_read_only), None, None, None);
            Tool::new(name, description, schema).with_annotations(hints)
        };
    vec![
        tool(
            "find_tools",
            "The tools of all servers that fit a request best, with their input schemas and scores.",
            json!({"query": query, "k": k}),
            json!(["query"]),
            true,
        ),
        tool(
            "route",
            "The tool calls that answer a request, with the router's confidence and its verdict: act, confirm or refuse. \
             Nothing is called.",
            json!({"query": query}),
            json!(["query"]),
            true,
        ),
        tool(
            "call_tool",
            "Call a tool that find_tools or route has named.",
            json!({"name": name, "arguments": {"type": "object"}, "confirmed": confirmed}),
            json!(["name"]),
            false,
        ),
    ]
}

impl ServerHandler for Front {
    fn get_info(&self) -> ServerConfig {
        let instructions =
            "Three tools for those of many servers: find_tools searches, route proposes calls, call_tool calls.";
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.server_info = Implementation::new("needle", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(instructions.to_owned());
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult { tools: tools(), ..ListToolsResult::default() })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        // The reason goes to the model as a result; a protocol error would go to its client.
        let failed = |error: ServeError| CallToolResult::error(vec![ContentBlock::text(error.to_string())]);
        Ok(self.answer(request).await.unwrap_or_else(failed).into())
    }
}

/// Serves on stdin and stdout until the client disconnects.
///
/// # Errors
/// If the client does not speak MCP.
pub async fn serve_stdio(router: Arc<Router>) -> Result<(), ServeError> {
    let failed = |reason: String| ServeError::Mcp { server: "stdio".into(), reason };
    let service = Front::new(router).serve(rmcp::transport::stdio()).await.map_err(|e| failed(e.to_string()))?;
    service.waiting().await.map(|_| ()).map_err(|e| failed(e.to_string()))
}

/// Serves at `/mcp` of `address` until `shutdown` completes; `on_listening` is called with the
/// address.
///
/// # Errors
/// If other machines can reach the address and there is no key, or the port is taken.
pub async fn serve_http(
    router: Arc<Router>,
    address: SocketAddr,
    key: Option<ApiKey>,
    on_listening: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let access = Arc::new(Access::new(address.ip(), key)?);
    // Our own middleware checks Host and Origin, because it also knows the key.
    let config = StreamableHttpServerConfig::default().disable_allowed_hosts().with_max_request_body_bytes(1 << 20);
    let front = Front::new(router);
    let service =
        StreamableHttpService::new(move || Ok(front.clone()), Arc::new(LocalSessionManager::default()), config);
    let routes = axum::Router::new().nest_service("/mcp", service).layer(from_fn_with_state(access, guard));
    let system = |error| ServeError::System { what: format!("listening on {address}"), error };
    let listener = TcpListener::bind(address).await.map_err(system)?;
    on_listening(listener.local_addr().map_err(system)?);
    // Not a graceful shutdown: clients' open streams would delay it indefinitely.
    tokio::select! {
        served = axum::serve(listener, routes).into_future() => served.map_err(system),
        () = shutdown => Ok(()),
    }
}

async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match access.check(request.headers(), request.uri(), true) {
        Ok(()) => next.run(request).await,
        Err(refused) => ApiError::from(refused).into_response(),
    }
}

/// The tools of a server in the format of a tools file, and why others cannot be read.
///
/// # Errors
/// If the server does not answer.
pub async fn import(name: &str, spec: &ServerSpec) -> Result<(Vec<Value>, Vec<String>), ServeError> {
    let mut tools = Vec::new();
    let mut problems = Vec::new();
    for tool in Upstream::connect(name, spec).await?.tools().await? {
        let definition = json!({
            "name": tool.name,
            "description": tool.description.unwrap_or_default(),
            "inputSchema": Value::Object((*tool.input_schema).clone()),
        });
        match needle_data::Tool::from_json(&definition, &tool.name) {
            Ok(_) => tools.push(definition),
            Err(problem) => problems.push(problem.to_string()),
        }
    }
    Ok((tools, problems))
}
