//! A model behind HTTP: the part of OpenAI's API that it can serve, a page to try and to finetune
//! it, and MCP.
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | [`error`] | what can go wrong |
//! | [`model`] | what the server asks of a model |
//! | [`needle`] | the real model |
//! | [`scripted`] | a model that answers by script, for tests |
//! | [`bm25`] | how much the rare words of a query are those of a document |
//! | [`ranking`] | tools by vectors and by words; recall |
//! | [`queue`] | few answers at a time, few waiting, none for long |
//! | [`ask`] | a question's way through queue and model |
//! | [`security`] | the key, `Host` and `Origin` |
//! | [`metrics`] | counts for Prometheus |
//! | [`openai::error`], [`openai::fields`] | errors in the form of OpenAI's API; fields of a request |
//! | [`models`] | the loaded models, by name |
//! | [`openai::asked`] | a query, tools, and which calls the client will have |
//! | [`openai::split`], [`openai::turn`] | an answer taken apart into calls, whole or as a stream |
//! | [`config`] | what a server is run with |
//! | [`playground`] | the page's workspace: data, runs, exports |
//! | [`state`] | what all requests share |
//! | [`openai::chat`], [`openai::responses`], [`openai::retrieval`] | routes of the API |
//! | [`mcp`] | other servers' tools: imported, ranked, routed, called |
//! | [`server`] | all routes, what every request goes through, beginning and end |

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
