//! The Model Context Protocol: the tools of other servers, imported into a file, or ranked and
//! routed to before a large model sees them.
//!
//! Definitions of fifty tools cost a large model some 20,000 tokens of context in each turn. One
//! server in front of many offers three tools instead: `find_tools`, `route` and `call_tool`.
//!
//! | file | concept |
//! | --- | --- |
//! | [`config`] | `mcp.json`, in the format of other clients |
//! | [`upstream`] | a connection to one server |
//! | [`verdict`] | act, confirm or refuse |
//! | [`router`] | all servers' tools in one catalogue |
//! | [`front`] | the MCP server with the three tools, over stdio and HTTP |

pub mod config;
pub mod front;
pub mod router;
pub mod upstream;
pub mod verdict;
