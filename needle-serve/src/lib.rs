//! A model behind HTTP: the part of OpenAI's API that it can serve, a page to try and to finetune it, and MCP.
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | [`error`] | what can go wrong |
//! | [`model`] | what the server asks of a model |
//! | [`scripted`] | a model that answers by script, for tests |
//! | [`bm25`] | how much the rare words of a query are those of a document |
//! | [`ranking`] | tools by vectors and by words; recall |
//! | [`queue`] | few answers at a time, few waiting, none for long |
//! | [`ask`] | a question's way through queue and model |
//! | [`security`] | the key, `Host` and `Origin` |
//! | [`metrics`] | counts for Prometheus |
//! | [`openai::error`] | errors in the form of OpenAI's API |
//! | [`openai::fields`] | fields of a request, read with errors that name them |
//! | [`models`] | the loaded models, by name |
//! | [`openai::asked`] | a query, tools, and which calls the client will have |
//! | [`openai::split`] | an answer's JSON, as it comes, taken apart into calls |
//! | [`openai::turn`] | an answer, whole or as a stream |
//! | [`openai::chat`] | chat completions |
//! | [`openai::responses`] | responses |
//! | [`openai::retrieval`] | embeddings and ranking |
//! | [`playground`] | the page |
//! | [`server`] | routes, what every request goes through, beginning and end |
//! | [`needle`] | the real model |
//! | [`mcp`] | other servers' tools: imported, ranked, routed, called |

pub mod ask;
pub mod bm25;
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

pub use error::ServeError;
pub use model::{Answer, Model, ModelError, Question};
pub use server::{PlaygroundConfig, ServerConfig, ServerState, router, serve};
