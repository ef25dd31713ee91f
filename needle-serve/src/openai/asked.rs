//! What a request of either API asks for: a query, tools, and which calls are allowed.

use needle_data::Tool;
use serde_json::Value;

use super::error::ApiError;
use super::fields::{self, Object, kind};
use crate::model::Question;

/// Size limits of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of a query.
    pub query_bytes: usize,
    /// Tools on offer.
    pub tools: usize,
    /// Bytes of one tool's definition.
    pub tool_bytes: usize,
    /// Texts of one request for embeddings.
    pub texts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes: 2 << 20, query_bytes: 32 << 10, tools: 1024, tool_bytes: 64 << 10, texts: 256 }
    }
}

/// Which calls an answer may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// No call.
    None,
    /// Any calls, or none.
    Auto,
    /// At least one call.
    Required,
    /// At least one call of this tool, and no others.
    Named(String),
}

impl ToolChoice {
    /// Reads `tool_choice`; a tool's name is under `function` (chat completions) or next to `type`
    /// (responses).
    ///
    /// # Errors
    /// If it is not one of the four variants.
    pub fn read(object: &Object) -> Result<Self, ApiError> {
        let bad = |reason: String| ApiError::field("tool_choice", reason);
        let expected = "expected \"none\", \"auto\", \"required\" or a named function";
        match fields::get(object, "tool_choice") {
            None => Ok(Self::Auto),
            Some(Value::String(text)) => match text.as_str() {
                "none" => Ok(Self::None),
                "auto" => Ok(Self::Auto),
                "required" | "any" => Ok(Self::Required),
                _ => Err(bad(format!("{expected}, got another string"))),
            },
            Some(Value::Object(choice)) => {
                if choice.get("type").and_then(Value::as_str) != Some("function") {
                    return Err(bad(format!("{expected}; the type of an object must be \"function\"")));
                }
                let name = choice.get("function").unwrap_or(&Value::Null).get("name").or_else(|| choice.get("name"));
                let name = name.and_then(Value::as_str).ok_or_else(|| bad("the function has no name".into()))?;
                Ok(Self::Named(name.to_owned()))
            }
            Some(other) => Err(bad(format!("{expected}, got {}", kind(other)))),
        }
    }
}

/// A request for calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The name of the model, if the client gives one.
    pub model: Option<String>,
    /// The user's last message; none if a tool's result came after it.
    pub query: Option<String>,
    /// The tools on offer.
    pub tools: Vec<Tool>,
    /// Which calls are allowed.
    pub choice: ToolChoice,
    /// Whether an answer may have several calls.
    pub parallel: bool,
    /// Most tokens of an answer.
    pub max_tokens: Option<usize>,
    /// Answers with a lower confidence are withheld; not a field of OpenAI's.
    pub abstain_below: Option<f64>,
}

impl Asked {
    /// Reads the fields that both APIs have; `defaults` are the tools for a request that has none.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn read(
        object: &Object,
        query: Option<String>,
        max_tokens: Option<usize>,
        defaults: &[Tool],
        limits: &Limits,
    ) -> Result<Self, ApiError> {
        if let Some(query) = &query {
            check_query("messages", query, limits)?;
        }
        let tools = match fields::get(object, "tools") {
            Some(Value::Array(list)) if list.is_empty() => defaults.to_vec(),
            Some(tools @ Value::Array(_)) => read_tools(tools, limits)?,
            Some(other) => return Err(ApiError::field("tools", format!("expected a list, got {}", kind(other)))),
            None => defaults.to_vec(),
        };
        Ok(Self {
            model: fields::text(object, "model")?.map(str::to_owned),
            query,
            tools,
            choice: ToolChoice::read(object)?,
            parallel: fields::flag(object, "parallel_tool_calls", true)?,
            max_tokens,
            abstain_below: fields::fraction(object, "abstain_below")?,
        })
    }

    /// The question for the model; none if there is nothing to ask it.
    ///
    /// # Errors
    /// If there are no tools, or `tool_choice` names one that is not among them.
    pub fn question(&self) -> Result<Option<Question>, ApiError> {
        let mut tools = self.tools.clone();
        if let ToolChoice::Named(name) = &self.choice {
            tools.retain(|tool| tool.name == *name);
            if tools.is_empty() {
                let name = name.chars().take(100).collect::<String>();
                return Err(ApiError::field("tool_choice", format!("{name:?} is not among the tools")));
            }
        }
        let Some(query) = self.query.clone().filter(|_| self.choice != ToolChoice::None) else { return Ok(None) };
        if tools.is_empty() {
            let reason = "missing; this model answers with tool calls and nothing else";
            return Err(ApiError::field("tools", reason));
        }
        let has_to_call = matches!(self.choice, ToolChoice::Required | ToolChoice::Named(_));
        Ok(Some(Question {
            min_calls: usize::from(has_to_call),
            max_calls: (!self.parallel).then_some(1),
            max_tokens: self.max_tokens,
            // A required call is not withheld.
            abstain_below: self.abstain_below.filter(|_| !has_to_call),
            ..Question::new(query, tools)
        }))
    }

    /// Whether the request requires one named tool.
    pub fn is_named(&self) -> bool {
        matches!(self.choice, ToolChoice::Named(_))
    }
}

/// Checks the length of a query.
///
/// # Errors
/// If the query is blank or too long.
pub fn check_query(param: &str, query: &str, limits: &Limits) -> Result<(), ApiError> {
    if query.trim().is_empty() {
        return Err(ApiError::field(param, "the query is empty"));
    }
    if query.len() > limits.query_bytes {
        let reason = format!("the query has {} bytes, but at most {} are allowed", query.len(), limits.query_bytes);
        return Err(ApiError::field(param, reason));
    }
    Ok(())
}

/// Reads a list of tools in any of the four formats.
///
/// # Errors
/// If a field cannot be read, or there are more or longer tools than the limits allow.
pub fn read_tools(value: &Value, limits: &Limits) -> Result<Vec<Tool>, ApiError> {
    let list = value.get("tools").unwrap_or(value).as_array().map_or(&[][..], Vec::as_slice);
    if list.len() > limits.tools {
        return Err(ApiError::field("tools", format!("{} tools; at most {} are allowed", list.len(), limits.tools)));
    }
    for (i, tool) in list.iter().enumerate() {
        let bytes = tool.to_string().len();
        if bytes > limits.tool_bytes {
            let reason = format!("{bytes} bytes; at most {} are allowed", limits.tool_bytes);
            return Err(ApiError::field(format!("tools[{i}]"), reason));
        }
    }
    Ok(Tool::list_from_json(value)?)
}

/// The text of a message, which is a string or a list of text parts.
///
/// # Errors
/// If there are parts of another kind, such as images.
pub fn content(value: &Value, param: &str) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let texts = parts.iter().enumerate().map(|(i, part)| {
                let kind = part.get("type").and_then(Value::as_str);
                let is_text = matches!(kind, Some("text" | "input_text" | "output_text"));
                let text = part.get("text").and_then(Value::as_str).filter(|_| is_text);
                text.ok_or_else(|| ApiError::field(format!("{param}[{i}]"), "only text parts are supported"))
            });
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        Value::Null => Ok(String::new()),
        other => Err(ApiError::field(param, format!("expected a string or a list of parts, got {}", kind(other)))),
    }
}
