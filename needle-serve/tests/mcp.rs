//! Two MCP servers behind one: found, routed to, called.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use needle_serve::mcp::config::ServerSpec;
use needle_serve::mcp::front::{Front, serve_http};
use needle_serve::mcp::router::Router;
use needle_serve::mcp::upstream::Upstream;
use needle_serve::mcp::verdict::Lines;
use needle_serve::queue::{Queue, QueueConfig};
use needle_serve::scripted::Scripted;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{Peer, RequestContext};
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};

/// A server with tools of these names, which answer with their name; those that begin with `delete`
/// say that they destroy.
#[derive(Clone)]
struct Other {
    names: Arc<std::sync::Mutex<Vec<String>>>,
    calls: Arc<AtomicUsize>,
}

impl Other {
    fn new(names: &[&str]) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Self { names: Arc::new(std::sync::Mutex::new(names)), calls: Arc::default() }
    }

    /// Connects to it; the second half tells the client of changes.
    async fn upstream(&self, name: &str) -> (Upstream, Peer<RoleServer>) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(self.clone().serve(theirs));
        let upstream = Upstream::over(name, ours).await.unwrap();
        let server = server.await.unwrap().unwrap();
        let peer = server.peer().clone();
        tokio::spawn(server.waiting());
        (upstream, peer)
    }
}

impl ServerHandler for Other {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]});
        let schema = schema.as_object().unwrap();
        let tool = |name: &String| {
            let hints = ToolAnnotations::from_raw(None, None, Some(name.starts_with("delete")), None, None);
            Tool::new(name.clone(), format!("{name} a thing"), schema.clone()).with_annotations(hints)
        };
        let tools = self.names.lock().unwrap().iter().map(tool).collect();
        Ok(ListToolsResult { tools, ..ListToolsResult::default() })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Ok(CallToolResult::success(vec![ContentBlock::text(format!("did {}", request.name))]).into())
    }
}

async fn router(others: &[(&str, &Other)]) -> (Router, Vec<Peer<RoleServer>>) {
    let (mut upstreams, mut peers) = (Vec::new(), Vec::new());
    for (name, other) in others {
        let (upstream, peer) = other.upstream(name).await;
        upstreams.push(upstream);
        peers.push(peer);
    }
    let queue = Queue::new(QueueConfig::default());
    let router = Router::new(Arc::new(Scripted::default()), queue, Lines::default(), upstreams).await.unwrap();
    (router, peers)
}

#[tokio::test]
async fn the_tools_of_all_servers_are_found_and_routed_to_and_nothing_is_called_by_it() {
    let (files, mail) = (Other::new(&["open_file", "delete_file", "search"]), Other::new(&["send_mail", "search"]));
    let (router, _peers) = router(&[("files", &files), ("mail", &mail)]).await;
    let found = router.find_tools("please send_mail", 2).await.unwrap();
    assert_eq!((&found["of"], found["tools"].as_array().unwrap().len()), (&json!(5), 2));
    assert_eq!((&found["tools"][0]["name"], &found["tools"][0]["server"]), (&json!("send_mail"), &json!("mail")));
    assert_eq!(found["tools"][0]["inputSchema"]["required"], json!(["text"]));
    for (query, name, verdict) in [
        ("open_file now", "open_file", "act"),
        ("delete_file now", "delete_file", "confirm"),
        ("mail_search", "mail_search", "act"),
    ] {
        let routed = router.route(query).await.unwrap();
        assert_eq!((&routed["calls"][0]["name"], &routed["verdict"]), (&json!(name), &json!(verdict)), "{routed}");
        assert_eq!(routed["calls"][0]["arguments"], json!({"text": query}));
    }
    assert_eq!(router.route("nothing").await.unwrap()["verdict"], "refuse");
    assert_eq!(files.calls.load(Ordering::SeqCst) + mail.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn calls_are_checked_confirmed_and_passed_on() {
    let (files, mail) = (Other::new(&["delete_file", "search"]), Other::new(&["search"]));
    let (router, _peers) = router(&[("files", &files), ("mail", &mail)]).await;
    let arguments = |value: Value| value.as_object().cloned().unwrap();
    let good = || arguments(json!({"text": "x"}));
    let done = router.call_tool("mail_search", good(), false).await.unwrap();
    assert!(serde_json::to_string(&done).unwrap().contains("did search"));
    assert_eq!(mail.calls.load(Ordering::SeqCst), 1);
    for (name, arguments, part) in [
        ("search", good(), "no tool"),
        ("mail_search", arguments(json!({})), "text"),
        ("mail_search", arguments(json!({"text": "x", "more": 1})), "more"),
        ("delete_file", good(), "destructive"),
    ] {
        let error = router.call_tool(name, arguments, false).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(files.calls.load(Ordering::SeqCst), 0);
    router.call_tool("delete_file", good(), true).await.unwrap();
    assert_eq!(files.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_list_that_has_changed_is_read_again() {
    let files = Other::new(&["open_file"]);
    let (router, peers) = router(&[("files", &files)]).await;
    files.names.lock().unwrap().push("close_file".to_owned());
    assert_eq!(router.find_tools("close_file", 1).await.unwrap()["of"], 1);
    peers[0].notify_tool_list_changed().await.unwrap();
    while router.find_tools("close_file", 1).await.unwrap()["of"] != 2 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn clients_reach_the_three_tools_over_http_and_foreign_pages_do_not() {
    let files = Other::new(&["open_file"]);
    let (router, _peers) = router(&[("files", &files)]).await;
    let (tell, told) = tokio::sync::oneshot::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(serve_http(
        Arc::new(router),
        "127.0.0.1:0".parse().unwrap(),
        None,
        |address| tell.send(address).unwrap(),
        async { _ = stopped.await },
    ));
    let address = told.await.unwrap();
    let spec = ServerSpec::from_words(&[format!("http://{address}/mcp")]).unwrap();
    let client = Upstream::connect("needle", &spec).await.unwrap();
    let names: Vec<String> = client.tools().await.unwrap().iter().map(|tool| tool.name.to_string()).collect();
    assert_eq!(names, ["find_tools", "route", "call_tool"]);
    let arguments = json!({"query": "open_file"}).as_object().cloned().unwrap();
    let routed = client.call("route", arguments).await.unwrap();
    assert_eq!(routed.structured_content.unwrap()["verdict"], "act");
    let failed = client.call("call_tool", json!({"name": "nothing"}).as_object().cloned().unwrap()).await.unwrap();
    assert_eq!(failed.is_error, Some(true));
    let foreign = ServerSpec::Http {
        url: format!("http://{address}/mcp"),
        headers: [("Origin".to_owned(), "https://evil.example".to_owned())].into(),
    };
    assert!(Upstream::connect("needle", &foreign).await.is_err());
    // This server speaks no TLS. `scripts/check_mcp.py` connects to one that does.
    let encrypted = ServerSpec::from_words(&[format!("https://{address}/mcp")]).unwrap();
    assert!(Upstream::connect("needle", &encrypted).await.is_err());
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
    let _ = Front::new;
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_an_error_with_its_address_and_the_cause() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    drop(listener);
    let spec = ServerSpec::Http { url: url.clone(), headers: [].into() };
    let error = Upstream::connect("near", &spec).await.err().unwrap().to_string();
    assert!(error.starts_with(&format!("near: {url}: Connection refused")), "{error}");
}
