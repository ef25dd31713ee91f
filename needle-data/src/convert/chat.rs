//! Converts conversations: the first request, the tools of the system prompt or of the row, and the
//! reply.

use serde_json::{Map, Value};

use super::{bad, call, example, list, python, text};
use crate::error::{Problem, ProblemCode};
use crate::text::json;

/// `{"query", "tools", "answers"}`, the last two as strings of JSON.
pub(super) fn xlam(row: &Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    Ok(example(text(row, "query")?, list(row, "tools")?, list(row, "answers")?))
}

/// `{"messages": [..], "tools": [..]}`.
pub(super) fn openai(row: &Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    let messages = list(row, "messages")?;
    let tools = list(row, "tools").or_else(|problem| match row.get("functions") {
        Some(_) => list(row, "functions"),
        None => Err(problem),
    })?;
    let role = |message: &Value, role: &str| message["role"] == role;
    let user = messages.iter().position(|m| role(m, "user")).ok_or_else(|| bad("messages", "no user message"))?;
    let reply = messages[user..].iter().find(|m| role(m, "assistant"));
    let reply = reply.ok_or_else(|| bad("messages", "no assistant message after the user's"))?;
    let query = match &messages[user]["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => return Err(bad("messages", "the user's message has no text")),
    };
    let functions = match (reply.get("tool_calls"), reply.get("function_call")) {
        (Some(Value::Array(calls)), _) => calls.iter().map(|call| call["function"].clone()).collect(),
        (_, Some(function)) if function.is_object() => vec![function.clone()],
        _ => Vec::new(),
    };
    Ok(example(&query, tools, functions))
}

/// `{"system": "SYSTEM: ..{function}..", "chat": "USER: ..ASSISTANT: <functioncall> {..}"}`.
pub(super) fn glaive(row: &Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    let tools = json_values(text(row, "system")?, '{');
    if tools.is_empty() {
        return Err(bad("system", "offers no functions"));
    }
    let chat = text(row, "chat")?;
    let after_user = chat.split_once("USER:").ok_or_else(|| bad("chat", "no USER turn"))?.1;
    let (query, reply) = after_user.split_once("ASSISTANT:").ok_or_else(|| bad("chat", "no ASSISTANT turn"))?;
    let reply = reply.split("<|endoftext|>").next().unwrap_or_default();
    let answers = match reply.split_once("<functioncall>") {
        None => Vec::new(),
        Some((_, function)) => vec![function_call(function.trim())?],
    };
    Ok(example(query.trim(), tools, answers))
}

/// `{"name": "f", "arguments": '{..}'}`: JSON, except for the single quotes around the arguments.
fn function_call(text: &str) -> Result<Value, Problem> {
    let not_json = |e: serde_json::Error| Problem::new("chat", ProblemCode::NotJson, format!("the function call: {e}"));
    let Some((head, arguments)) = text.split_once("\"arguments\":") else { return json::parse(text).map_err(not_json) };
    let arguments = arguments.trim().strip_suffix('}').unwrap_or(arguments).trim();
    let quoted = arguments.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\''));
    let head = json::parse(&format!("{}}}", head.trim().trim_end_matches(','))).map_err(not_json)?;
    let arguments = match quoted {
        // Inside single quotes, an apostrophe is written `\'`, which is not JSON.
        Some(inner) => json::parse(&inner.replace("\\'", "'")),
        None => json::parse(arguments),
    };
    let name = head["name"].as_str().ok_or_else(|| bad("chat", "the function call has no name"))?;
    match arguments.map_err(not_json)? {
        Value::Object(arguments) => Ok(call(name, arguments)),
        other => Err(bad("chat", format!("the function call's arguments are {other}"))),
    }
}

/// `{"system": "..[{function}, ..]..", "conversations": [{"from", "value"}]}`.
pub(super) fn toolace(row: &Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    let tools = json_values(text(row, "system")?, '[').into_iter().find(|v| v[0]["name"].is_string());
    let Some(Value::Array(tools)) = tools else { return Err(bad("system", "offers no functions")) };
    let turns = list(row, "conversations")?;
    let from = |turn: &Value, who: &str| turn["from"] == who;
    let user = turns.iter().position(|t| from(t, "user") || from(t, "human"));
    let user = user.ok_or_else(|| bad("conversations", "no user turn"))?;
    let reply = turns[user..].iter().find(|t| from(t, "assistant") || from(t, "gpt"));
    let reply = reply.and_then(|turn| turn["value"].as_str()).ok_or_else(|| bad("conversations", "no reply"))?.trim();
    let query = turns[user]["value"].as_str().ok_or_else(|| bad("conversations", "the user says nothing"))?;
    let answers = if reply.starts_with('[') && reply.ends_with(']') {
        python::calls(reply).map_err(|reason| bad("conversations", format!("the calls: {reason}")))?
    } else {
        Vec::new()
    };
    Ok(example(query, tools, answers))
}

/// The JSON values in a text that begin with `open`, outermost ones only.
fn json_values(text: &str, open: char) -> Vec<Value> {
    let mut values = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(open) {
        rest = &rest[at..];
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let used = match stream.next() {
            Some(Ok(value)) => {
                values.push(value);
                stream.byte_offset()
            }
            _ => open.len_utf8(),
        };
        rest = &rest[used..];
    }
    values
}
