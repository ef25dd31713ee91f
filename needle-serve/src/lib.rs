//! Serves a model over HTTP: the part of OpenAI's API that it can support, a page to try and
//! finetune it, and MCP.
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | [`error`] | what can go wrong |
//! | [`model`] | the interface of a model |
//! | [`needle`] | the real model |
//! | [`scripted`] | a model that follows a script, for tests |
//! | [`bm25`] | scores of documents by the words of a query |
//! | [`ranking`] | tools ranked by vectors and words; recall |
//! | [`queue`] | limits on requests that are computed and that wait |
//! | [`ask`] | a question through queue and model |
//! | [`security`] | the API key, `Host` and `Origin` |
//! | [`metrics`] | counts for Prometheus |
//! | [`openai::error`], [`openai::fields`] | errors in the form of OpenAI's API; fields of a request |
//! | [`models`] | the loaded models, by name |
//! | [`openai::asked`] | what both APIs ask: a query, tools, and which calls are allowed |
//! | [`openai::split`], [`openai::turn`] | an answer split into calls, whole or as a stream |
//! | [`config`] | the configuration of a server |
//! | [`playground`] | the page's workspace: data, runs, exports |
//! | [`state`] | what all requests share |
//! | [`openai::chat`], [`openai::responses`], [`openai::retrieval`] | routes of the API |
//! | [`mcp`] | other servers' tools: imported, ranked, routed to, called |
//! | [`server`] | all routes, checks of every request, startup and shutdown |

pub mod ask;
pub mod bm25;
pub mod config;
pub mod error;
pub mod mcp;
pub mod metrics;
pub mod model;
pub mod models;
pub mod needle;
pub mod openai;
pub mod playground;
pub mod queue;
pub mod ranking;
pub mod scripted;
pub mod security;
pub mod server;
pub mod state;

pub use config::{PlaygroundConfig, ServerConfig};
pub use error::ServeError;
pub use model::{Answer, Model, ModelError, Question};
pub use server::{router, serve};
pub use state::ServerState;
