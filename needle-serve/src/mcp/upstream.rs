//! A connection to one MCP server.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderName, HeaderValue};
use futures_util::future::try_join_all;
use rmcp::model::{CallToolRequestParams, CallToolResult, JsonObject, Tool};
use rmcp::service::{ClientInitializeError, NotificationContext, RunningService};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError,
};
use rmcp::transport::{IntoTransport, StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use tokio::process::Command;

use super::config::ServerSpec;
use crate::error::ServeError;

/// A connection to one MCP server.
pub struct Upstream {
    name: String,
    service: RunningService<RoleClient, Watcher>,
    has_changed: Arc<AtomicBool>,
}

/// Remembers that the server has announced a change of its list of tools.
struct Watcher(Arc<AtomicBool>);

impl ClientHandler for Watcher {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.store(true, Ordering::Release);
    }
}

impl Upstream {
    /// Connects to all `servers` at the same time, and returns them in their order.
    ///
    /// # Errors
    /// If one of them cannot be started or reached.
    pub async fn connect_all(servers: &BTreeMap<String, ServerSpec>) -> Result<Vec<Self>, ServeError> {
        try_join_all(servers.iter().map(|(name, spec)| Self::connect(name, spec))).await
    }

    /// Connects to the server called `name`.
    ///
    /// # Errors
    /// If it cannot be started or reached.
    pub async fn connect(name: &str, spec: &ServerSpec) -> Result<Self, ServeError> {
        let failed = |reason: String| ServeError::Mcp { server: name.to_owned(), reason };
        match spec {
            ServerSpec::Process { command, args, env } => {
                let mut process = Command::new(command);
                // Some servers go on when their stdin is closed.
                process.args(args).envs(env).kill_on_drop(true);
                let child = TokioChildProcess::new(process).map_err(|error| failed(format!("{command}: {error}")))?;
                Self::over(name, child).await
            }
            ServerSpec::Http { url, headers } => {
                // The HTTP client finds its cryptography in the process's default. An error means
                // that there is one already.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let header = |(name, value): (&String, &String)| -> Result<(HeaderName, HeaderValue), ServeError> {
                    let bad = |reason: String| failed(format!("the header {name}: {reason}"));
                    let key: HeaderName = name.parse().map_err(|_| bad("not a name".into()))?;
                    let value: HeaderValue = value.parse().map_err(|_| bad("not a value".into()))?;
                    Ok((key, value))
                };
                let headers = headers.iter().map(header).collect::<Result<HashMap<_, _>, ServeError>>()?;
                let config = StreamableHttpClientTransportConfig::with_uri(url.as_str()).custom_headers(headers);
                let transport = StreamableHttpClientTransport::from_config(config);
                let reason = why_unreachable(&transport);
                Self::serve(name, transport, |error| format!("{url}: {}", reason(&error))).await
            }
        }
    }

    /// Connects over `transport`.
    ///
    /// # Errors
    /// If the other side does not speak MCP.
    pub async fn over<E, A>(name: &str, transport: impl IntoTransport<RoleClient, E, A>) -> Result<Self, ServeError>
    where
        E: Error + Send + Sync + 'static,
    {
        Self::serve(name, transport, |error| error.to_string()).await
    }

    async fn serve<E, A>(
        name: &str,
        transport: impl IntoTransport<RoleClient, E, A>,
        reason: impl FnOnce(ClientInitializeError) -> String,
    ) -> Result<Self, ServeError>
    where
        E: Error + Send + Sync + 'static,
    {
        let has_changed = Arc::new(AtomicBool::new(false));
        let service = Watcher(has_changed.clone()).serve(transport).await;
        let service = service.map_err(|error| ServeError::Mcp { server: name.to_owned(), reason: reason(error) })?;
        Ok(Self { name: name.to_owned(), service, has_changed })
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the tools have changed since they were last listed.
    pub fn has_changed(&self) -> bool {
        self.has_changed.load(Ordering::Acquire)
    }

    /// Lists all of the server's tools.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn tools(&self) -> Result<Vec<Tool>, ServeError> {
        self.has_changed.store(false, Ordering::Release);
        self.service.list_all_tools().await.map_err(|error| self.failed(&error))
    }

    /// Calls a tool.
    ///
    /// # Errors
    /// If the server does not answer; a failure that the tool itself reports is a result.
    pub async fn call(&self, tool: &str, arguments: JsonObject) -> Result<CallToolResult, ServeError> {
        let mut request = CallToolRequestParams::new(tool.to_owned());
        request.arguments = Some(arguments);
        self.service.call_tool(request).await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> ServeError {
        ServeError::Mcp { server: self.name.clone(), reason: error.to_string() }
    }
}

/// Says why a server could not be reached over a transport of this type: the deepest cause
/// ("connection refused", "invalid peer certificate"). The errors above it only name types of the
/// transport.
fn why_unreachable<C: StreamableHttpClient>(
    _: &StreamableHttpClientTransport<C>,
) -> impl Fn(&ClientInitializeError) -> String + use<C> {
    |error| {
        let ClientInitializeError::TransportError { error: transport, .. } = error else { return error.to_string() };
        match transport.error.downcast_ref::<StreamableHttpError<C::Error>>() {
            Some(StreamableHttpError::Client(client)) => {
                let mut cause: &dyn Error = client;
                while let Some(deeper) = cause.source() {
                    cause = deeper;
                }
                cause.to_string()
            }
            _ => transport.error.to_string(),
        }
    }
}
