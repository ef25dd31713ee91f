//! `mcp.json`: the servers, in the format of other MCP clients.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::ServeError;

/// The file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct McpConfig {
    /// The servers, by name.
    #[serde(rename = "mcpServers")]
    pub servers: BTreeMap<String, ServerSpec>,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum ServerSpec {
    /// A child process, over stdin and stdout.
    Process {
        /// The program.
        command: String,
        /// Its arguments.
        #[serde(default)]
        args: Vec<String>,
        /// Environment variables, in addition to ours.
        #[serde(default)]
        env: BTreeMap<String, String>,
    },
    /// Streamable HTTP.
    Http {
        /// The address.
        url: String,
        /// Headers of each request, such as `Authorization`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
}

impl ServerSpec {
    /// Reads what a user types: an address, or a command with its arguments.
    ///
    /// # Errors
    /// If `words` is empty.
    pub fn from_words(words: &[String]) -> Result<Self, ServeError> {
        let (command, args) =
            words.split_first().ok_or_else(|| ServeError::Config("expected an address or a command".into()))?;
        if command.starts_with("http://") || command.starts_with("https://") {
            return Ok(Self::Http { url: command.clone(), headers: BTreeMap::new() });
        }
        Ok(Self::Process { command: command.clone(), args: args.to_vec(), env: BTreeMap::new() })
    }
}

impl McpConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read, or names no server.
    pub fn load(path: &Path) -> Result<Self, ServeError> {
        let text = std::fs::read_to_string(path).map_err(|error| ServeError::io(path, error))?;
        let bad = |reason: String| ServeError::Config(format!("{}: {reason}", path.display()));
        let config: Self = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if config.servers.is_empty() {
            return Err(bad("mcpServers names no server".into()));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_other_clients_can_be_read() {
        let text = r#"{"mcpServers": {
            "files": {"type": "stdio", "command": "npx", "args": ["-y", "files"], "env": {"A": "b"}},
            "far": {"url": "https://far.example/mcp", "headers": {"Authorization": "Bearer x"}}}}"#;
        let config: McpConfig = serde_json::from_str(text).unwrap();
        assert!(matches!(&config.servers["files"], ServerSpec::Process { args, .. } if args.len() == 2));
        assert!(matches!(&config.servers["far"], ServerSpec::Http { url, .. } if url.ends_with("/mcp")));
    }

    #[test]
    fn a_file_without_servers_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mcp.json");
        for (text, part) in [("{}", "mcpServers"), (r#"{"mcpServers": {}}"#, "no server"), ("{", "mcp.json")] {
            std::fs::write(&path, text).unwrap();
            let error = McpConfig::load(&path).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(ServerSpec::from_words(&[]).is_err());
    }
}
