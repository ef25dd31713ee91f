//! Why a tool can never be called: the argument that prevents it, and its keywords.

use needle_data::Tool;
use serde_json::Value;

use super::closing::Answers;
use super::grammar::grammar;
use super::probe;
use super::schema::{Builder, Loss};
use super::string::Strings;

/// Why no answer can call `tool`, with the names of the argument and its keywords; `None` if an
/// answer can.
pub fn refusal(tool: &Tool) -> Option<String> {
    let schema = tool.schema();
    let reason = refused(&schema, &schema, true)?;
    let mut arguments: Vec<(&String, &Value)> =
        schema.get("properties").and_then(Value::as_object).into_iter().flatten().collect();
    // Required arguments first: an optional one prevents calls only if it is too large for any
    // grammar.
    arguments.sort_by_key(|(name, _)| !tool.parameter(name).is_some_and(|parameter| parameter.is_required()));
    let blamed = arguments.into_iter().find_map(|(name, spec)| {
        let reason = refused(spec, &schema, false)?;
        Some(format!("argument {name:?}, {}: {reason}", keywords(spec)))
    });
    let blamed = blamed.unwrap_or_else(|| format!("the arguments together, {}: {reason}", keywords(&schema)));
    Some(format!("tool {:?}, {blamed}", tool.name))
}

/// Why no answer can be a value of `schema`, a part of the document `root`, or the arguments that
/// it declares.
fn refused(schema: &Value, root: &Value, is_arguments: bool) -> Option<String> {
    let mut builder = Builder::new();
    let rule = if is_arguments { builder.arguments(schema) } else { Ok(builder.schema(schema, root)) };
    let (rule, built) = match rule.and_then(|rule| Ok((rule, builder.finish()?))) {
        Ok(built) => built,
        Err(reason) => return Some(reason),
    };
    let answers = Answers::new(built.rules, Strings::new(""), rule);
    if answers.rules().shapes[rule].is_empty() {
        // A broken reference is the more specific reason.
        let lost = built.losses.iter().find(|loss| loss.keyword == "$ref");
        let of_reference = lost.map(|Loss { reason, .. }| format!(" ({reason})")).unwrap_or_default();
        return Some(format!("no value satisfies it{of_reference}"));
    }
    probe::takes(grammar(answers.rules(), rule, "")).err()
}

/// The keywords that constrain a value, for a message.
fn keywords(schema: &Value) -> String {
    let Value::Object(schema) = schema else { return schema.to_string() };
    let all: Vec<&str> =
        schema.keys().map(String::as_str).filter(|keyword| !super::report::is_annotation(keyword)).collect();
    all.join(" with ")
}
