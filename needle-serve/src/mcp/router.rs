//! The tools of all servers in one catalogue: searched, routed to, called.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures_util::future::try_join_all;
use needle_data::Tool;
use rmcp::model::{CallToolResult, JsonObject};
use serde_json::{Value, json};
use tokio::sync::RwLock;

use super::upstream::Upstream;
use super::verdict::Lines;
use crate::bm25::Bm25;
use crate::error::ServeError;
use crate::model::{Model, ModelError, Question};
use crate::openai::retrieval::run;
use crate::queue::Queue;
use crate::ranking::{self, Ranked, rank};

/// How many tools of the catalogue, the best ranked, the model is offered with a question.
const OFFERED: usize = 10;

/// Searches and calls the tools of several servers.
pub struct Router {
    model: Arc<dyn Model>,
    queue: Queue,
    lines: Lines,
    upstreams: Vec<Upstream>,
    catalogue: RwLock<Arc<Catalogue>>,
}

/// All tools, under unique names.
#[derive(Default)]
struct Catalogue {
    tools: Vec<Tool>,
    origins: Vec<Origin>,
    /// The words of the tools.
    index: Bm25,
}

/// Where a tool comes from.
struct Origin {
    upstream: usize,
    /// Its name there.
    name: String,
    schema: Value,
    is_destructive: bool,
}

impl Router {
    /// A router to `upstreams`, whose tools it loads at once.
    ///
    /// # Errors
    /// If a server does not answer, or none has a tool that can be read.
    pub async fn new(
        model: Arc<dyn Model>,
        queue: Queue,
        lines: Lines,
        upstreams: Vec<Upstream>,
    ) -> Result<Self, ServeError> {
        let router = Self { model, queue, lines, upstreams, catalogue: RwLock::default() };
        router.reload().await?;
        Ok(router)
    }

    async fn reload(&self) -> Result<Arc<Catalogue>, ServeError> {
        let lists = try_join_all(self.upstreams.iter().map(Upstream::tools)).await?;
        let all: Vec<(usize, _)> =
            lists.into_iter().enumerate().flat_map(|(i, tools)| tools.into_iter().map(move |tool| (i, tool))).collect();
        let mut times: HashMap<String, usize> = HashMap::new();
        all.iter().for_each(|(_, tool)| *times.entry(tool.name.to_string()).or_default() += 1);
        let mut catalogue = Catalogue::default();
        for (upstream, tool) in all {
            let name = match times.get(&*tool.name) {
                Some(1) => tool.name.to_string(),
                _ => format!("{}_{}", self.upstreams[upstream].name(), tool.name),
            };
            let schema = Value::Object((*tool.input_schema).clone());
            let definition = json!({"name": name, "description": tool.description, "inputSchema": schema});
            match Tool::from_json(&definition, &name) {
                Ok(read) => {
                    let hints = tool.annotations.as_ref();
                    catalogue.tools.push(read);
                    catalogue.origins.push(Origin {
                        upstream,
                        name: tool.name.to_string(),
                        schema,
                        is_destructive: hints.is_some_and(|hints| hints.destructive_hint == Some(true)),
                    });
                }
                Err(problem) => tracing::warn!("{}: {problem}; skipped", self.upstreams[upstream].name()),
            }
        }
        if catalogue.tools.is_empty() {
            return Err(ServeError::Config("the servers have no tools".into()));
        }
        catalogue.index = ranking::index(&catalogue.tools);
        let catalogue = Arc::new(catalogue);
        *self.catalogue.write().await = catalogue.clone();
        Ok(catalogue)
    }

    /// The current catalogue, which is reloaded if a server's tools have changed.
    async fn catalogue(&self) -> Result<Arc<Catalogue>, ServeError> {
        if self.upstreams.iter().any(Upstream::has_changed) {
            return self.reload().await;
        }
        Ok(self.catalogue.read().await.clone())
    }

    /// All tools, for measurements.
    pub async fn tools(&self) -> Vec<Tool> {
        self.catalogue.read().await.tools.clone()
    }

    async fn ranked(&self, catalogue: &Arc<Catalogue>, query: &str) -> Result<Vec<Ranked>, ServeError> {
        let (model, catalogue, query) = (self.model.clone(), catalogue.clone(), query.to_owned());
        let ranked = run(&self.queue, move || rank(&*model, &query, &catalogue.tools, &catalogue.index)).await;
        ranked.map_err(|error| ServeError::Input(error.message))
    }

    /// The definitions and scores of the `k` tools that fit `query` best.
    ///
    /// # Errors
    /// If the model fails.
    pub async fn find_tools(&self, query: &str, k: usize) -> Result<Value, ServeError> {
        let catalogue = self.catalogue().await?;
        let ranked = self.ranked(&catalogue, query).await?;
        let tools: Vec<Value> = ranked
            .iter()
            .take(k)
            .map(|ranked| {
                let (tool, origin) = (&catalogue.tools[ranked.index], &catalogue.origins[ranked.index]);
                json!({
                    "name": tool.name,
                    "server": self.upstreams[origin.upstream].name(),
                    "description": tool.description,
                    "inputSchema": origin.schema,
                    "destructive": origin.is_destructive,
                    "score": ranked.score,
                })
            })
            .collect();
        Ok(json!({"tools": tools, "of": catalogue.tools.len()}))
    }

    /// The calls that answer `query`, with a verdict on whether to make them; nothing is called.
    ///
    /// # Errors
    /// If the model fails.
    pub async fn route(&self, query: &str) -> Result<Value, ServeError> {
        let catalogue = self.catalogue().await?;
        let ranked = self.ranked(&catalogue, query).await?;
        let offered = ranked.iter().take(OFFERED).map(|ranked| catalogue.tools[ranked.index].clone()).collect();
        let (model, question) = (self.model.clone(), Question::new(query, offered));
        let answer = run(&self.queue, move || {
            let answer = model.answer(&question, &mut |_| ControlFlow::Continue(()))?;
            if answer.is_complete { Ok(answer) } else { Err(ModelError::Question("the answer is not complete".into())) }
        });
        let answer = answer.await.map_err(|error| ServeError::Input(error.message))?;
        let mut calls = Vec::new();
        let mut is_destructive = false;
        for call in &answer.calls {
            let origin = catalogue.tools.iter().position(|tool| tool.name == call.name).map(|i| &catalogue.origins[i]);
            let origin = origin.ok_or_else(|| ServeError::Input(format!("{:?} is not offered", call.name)))?;
            is_destructive |= origin.is_destructive;
            calls.push(json!({
                "name": call.name,
                "arguments": call.arguments,
                "server": self.upstreams[origin.upstream].name(),
                "destructive": origin.is_destructive,
            }));
        }
        let (verdict, reason) = self.lines.verdict(calls.len(), answer.confidence, is_destructive);
        Ok(json!({"calls": calls, "confidence": answer.confidence, "verdict": verdict, "reason": reason}))
    }

    /// Forwards a call to the tool's server.
    ///
    /// # Errors
    /// If there is no such tool, the arguments break its schema, it is marked as destructive and
    /// the call is not `confirmed`, or its server does not answer.
    pub async fn call_tool(
        &self,
        name: &str,
        arguments: JsonObject,
        confirmed: bool,
    ) -> Result<CallToolResult, ServeError> {
        let catalogue = self.catalogue().await?;
        let unknown = || ServeError::NotFound(format!("there is no tool {name:?}; ask find_tools"));
        let index = catalogue.tools.iter().position(|tool| tool.name == name).ok_or_else(unknown)?;
        let origin = &catalogue.origins[index];
        if let Some(violation) = catalogue.tools[index].violation(&arguments) {
            return Err(ServeError::Input(format!("{name}: arguments{}: {}", violation.path, violation.reason)));
        }
        if origin.is_destructive && !confirmed {
            let reason = "its server marks it as destructive; ask the user, and call again with \"confirmed\": true";
            return Err(ServeError::Input(format!("{name}: {reason}")));
        }
        self.upstreams[origin.upstream].call(&origin.name, arguments).await
    }
}
