//! The Model Context Protocol: tools of other people's servers, imported into a file or ranked and
//! routed before a large model sees them.
//!
//! Definitions of fifty tools cost a large model some 20,000 tokens of context in each turn. A
//! server that stands in front of many offers three tools instead: `find_tools`, `route` and
//! `call_tool`.
//!
//! | file | concept |
//! | --- | --- |
//! | [`config`] | `mcp.json`, as other clients have it |
//! | [`upstream`] | a connection to one server |
//! | [`verdict`] | act, confirm or refuse |
//! | [`router`] | all servers' tools as one catalogue |
//! | [`front`] | the three tools, over stdio and HTTP |

pub mod config;
pub mod front;
pub mod router;
pub mod upstream;
pub mod verdict;
