//! One line of a dataset: a query, the tools on offer, and the calls that answer it.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Problem, ProblemCode};
use crate::text::json;
use crate::text::schema::kind;
use crate::text::tool::Tool;

/// One tool call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Call {
    /// The called tool.
    pub name: String,
    /// Its arguments, in order.
    pub arguments: Map<String, Value>,
}

impl Call {
    /// Reads `{"name": .., "arguments": {..}}`; `arguments` may be left out, or be a string that
    /// holds an object.
    ///
    /// # Errors
    /// A [`Problem`] under `field`.
    pub fn from_json(value: &Value, field: &str) -> Result<Self, Problem> {
        let bad = |at: &str, reason: String| Problem::new(format!("{field}{at}"), ProblemCode::BadField, reason);
        let object =
            value.as_object().ok_or_else(|| bad("", format!("expected a call object, got {}", kind(value))))?;
        let name = match object.get("name") {
            Some(Value::String(name)) if !name.is_empty() => name.clone(),
            Some(other) => return Err(bad(".name", format!("expected a non-empty string, got {other}"))),
            None => return Err(bad(".name", "missing".into())),
        };
        let arguments = match object.get("arguments") {
            Some(Value::Object(arguments)) => arguments.clone(),
            Some(Value::String(text)) => json::parse(text)
                .map_err(|e| e.to_string())
                .and_then(|value| match value {
                    Value::Object(arguments) => Ok(arguments),
                    other => Err(format!("got {}", kind(&other))),
                })
                .map_err(|e| bad(".arguments", format!("a string that does not hold a JSON object: {e}")))?,
            None | Some(Value::Null) => {
                // A call may omit `arguments`, but a misspelled key must not silently drop them.
                if let Some(other) =
                    object.keys().find(|key| !["name", "arguments", "id", "type"].contains(&key.as_str()))
                {
                    return Err(bad(
                        &format!(".{other}"),
                        "unknown key in a call without arguments; expected arguments".into(),
                    ));
                }
                Map::new()
            }
            Some(other) => return Err(bad(".arguments", format!("expected an object, got {}", kind(other)))),
        };
        Ok(Self { name, arguments })
    }
}

/// A validated line: every call is one that the offered tools allow.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The user's request.
    pub query: String,
    /// The tools on offer.
    pub tools: Vec<Tool>,
    /// The right calls; empty if no tool fits.
    pub answers: Vec<Call>,
}

impl Example {
    /// Parses and validates one JSONL line.
    ///
    /// # Errors
    /// The first problem of the line.
    pub fn parse(line: &str) -> Result<Self, Problem> {
        let value =
            json::parse(line).map_err(|e| Problem::new("line", ProblemCode::NotJson, format!("not JSON: {e}")))?;
        let object = value.as_object().ok_or_else(|| {
            Problem::new("line", ProblemCode::BadField, format!("expected an object, got {}", kind(&value)))
        })?;
        Self::from_object(object)
    }

    /// Reads and validates an object with `query`, `tools` and `answers`.
    ///
    /// # Errors
    /// The first problem.
    pub fn from_object(object: &Map<String, Value>) -> Result<Self, Problem> {
        let query = match object.get("query") {
            Some(Value::String(query)) if !query.trim().is_empty() => query.clone(),
            Some(Value::String(_)) => return Err(Problem::new("query", ProblemCode::EmptyQuery, "empty")),
            Some(other) => {
                return Err(Problem::new(
                    "query",
                    ProblemCode::BadField,
                    format!("expected a string, got {}", kind(other)),
                ));
            }
            None => return Err(Problem::new("query", ProblemCode::EmptyQuery, "missing")),
        };
        let tools = Tool::list_from_json(object.get("tools").ok_or_else(|| {
            Problem::new("tools", ProblemCode::BadTools, "missing; expected a list of tool definitions")
        })?)?;
        let example = Self { query, tools, answers: parse_answers(object.get("answers"))? };
        example.validate()?;
        Ok(example)
    }

    /// Checks every call against the offered tools.
    ///
    /// # Errors
    /// The first call that names a tool or an argument that is not offered, lacks a required one,
    /// or has a value that does not fit its declaration.
    pub fn validate(&self) -> Result<(), Problem> {
        for (i, call) in self.answers.iter().enumerate() {
            let Some(tool) = self.tools.iter().find(|t| t.name == call.name) else {
                let offered: Vec<&str> = self.tools.iter().map(|t| t.name.as_str()).collect();
                return Err(Problem::new(
                    format!("answers[{i}].name"),
                    ProblemCode::UnknownTool,
                    format!("{:?} is not offered; the tools are [{}]", call.name, offered.join(", ")),
                ));
            };
            check_arguments(tool, call, &format!("answers[{i}].arguments"))?;
        }
        Ok(())
    }

    /// The JSONL line of this example, with `tools` and `answers` as JSON.
    pub fn to_json(&self) -> Value {
        serde_json::json!({
            "query": self.query,
            "tools": self.tools.iter().map(Tool::to_json).collect::<Vec<_>>(),
            "answers": self.answers,
        })
    }
}

/// Checks the arguments of one call against its tool; `field` is their path, for messages.
///
/// # Errors
/// The first argument that is undeclared, does not fit its declaration, or is required but missing.
pub fn check_arguments(tool: &Tool, call: &Call, field: &str) -> Result<(), Problem> {
    for (name, value) in &call.arguments {
        let at = format!("{field}.{name}");
        let Some(parameter) = tool.parameter(name) else {
            let known: Vec<&str> = tool.parameters.iter().map(|p| p.name.as_str()).collect();
            let reason = format!("{:?} takes no such argument; it takes [{}]", tool.name, known.join(", "));
            return Err(Problem::new(at, ProblemCode::UnknownArgument, reason));
        };
        if let Some(mismatch) = parameter.mismatch(value) {
            return Err(Problem::new(format!("{at}{}", mismatch.at), ProblemCode::WrongType, mismatch.reason));
        }
    }
    match tool.parameters.iter().find(|p| p.is_required() && !call.arguments.contains_key(&p.name)) {
        Some(missing) => Err(Problem::new(
            format!("{field}.{}", missing.name),
            ProblemCode::MissingArgument,
            format!("required by {:?} but missing", tool.name),
        )),
        None => Ok(()),
    }
}

/// Reads a list of calls given as JSON or as a string that holds JSON.
///
/// # Errors
/// A [`Problem`] that names the call and the key.
pub fn parse_answers(value: Option<&Value>) -> Result<Vec<Call>, Problem> {
    let parsed;
    let value = match value {
        None => {
            return Err(Problem::new(
                "answers",
                ProblemCode::BadField,
                "missing; expected a list of calls, [] where no tool fits",
            ));
        }
        Some(Value::String(text)) => {
            parsed = json::parse(text)
                .map_err(|e| Problem::new("answers", ProblemCode::NotJson, format!("not JSON: {e}")))?;
            &parsed
        }
        Some(other) => other,
    };
    let list = value.as_array().ok_or_else(|| {
        Problem::new("answers", ProblemCode::BadField, format!("expected a list of calls, got {}", kind(value)))
    })?;
    list.iter().enumerate().map(|(i, call)| Call::from_json(call, &format!("answers[{i}]"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOLS: &str = r#"[{"name":"set_timer","description":"d","parameters":{"minutes":{"type":"integer","required":true},"label":{"type":"string"}}}]"#;

    fn line(query: &str, tools: &str, answers: &str) -> String {
        format!(r#"{{"query":{query},"tools":{tools},"answers":{answers}}}"#)
    }

    #[test]
    fn json_and_json_encoded_strings_read_the_same() {
        let answers = r#"[{"name":"set_timer","arguments":{"minutes":5}}]"#;
        let plain = Example::parse(&line("\"5 min\"", TOOLS, answers)).unwrap();
        let encode = |text: &str| serde_json::to_string(text).unwrap();
        assert_eq!(plain, Example::parse(&line("\"5 min\"", &encode(TOOLS), &encode(answers))).unwrap());
        assert_eq!(plain.answers[0].arguments["minutes"], 5);
    }

    #[test]
    fn each_kind_of_bad_line_is_named() {
        use ProblemCode::*;
        let call = |arguments: &str| format!(r#"[{{"name":"set_timer","arguments":{arguments}}}]"#);
        for (text, field, code) in [
            ("{".to_owned(), "line", NotJson),
            ("[]".to_owned(), "line", BadField),
            (r#"{"tools":[],"answers":[]}"#.to_owned(), "query", EmptyQuery),
            (line("\"  \"", TOOLS, "[]"), "query", EmptyQuery),
            (line("3", TOOLS, "[]"), "query", BadField),
            (line("\"q\"", "{}", "[]"), "tools", BadTools),
            (line("\"q\"", "\"nope\"", "[]"), "tools", NotJson),
            (line("\"q\"", TOOLS, "\"nope\""), "answers", NotJson),
            (line("\"q\"", TOOLS, "{}"), "answers", BadField),
            (line("\"q\"", TOOLS, r#"[{"name":"other"}]"#), "answers[0].name", UnknownTool),
            (line("\"q\"", TOOLS, r#"[{"name":"set_timer","args":{}}]"#), "answers[0].args", BadField),
            (line("\"q\"", TOOLS, &call(r#"{"minutes":1,"x":2}"#)), "answers[0].arguments.x", UnknownArgument),
            (line("\"q\"", TOOLS, &call("{}")), "answers[0].arguments.minutes", MissingArgument),
            (line("\"q\"", TOOLS, &call(r#"{"minutes":"5"}"#)), "answers[0].arguments.minutes", WrongType),
        ] {
            let problem = Example::parse(&text).unwrap_err();
            assert_eq!((problem.field.as_str(), problem.code), (field, code), "{text}");
        }
    }

    #[test]
    fn an_example_survives_the_round_trip_through_json() {
        let example = Example::parse(&line("\"é ▁ \\u0000\"", TOOLS, "[]")).unwrap();
        assert_eq!(Example::parse(&example.to_json().to_string()).unwrap(), example);
    }
}
