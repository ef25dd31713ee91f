//! What becomes of each keyword of a tool's schema: held by the grammar, checked after the answer,
//! or ignored.

use needle_data::Tool;
use needle_data::text::json_schema::{self, subschemas};
use serde::Serialize;
use serde_json::{Map, Value};

use super::schema::{are_disjoint, step};
use super::string::is_grammatical;

/// What becomes of a keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// No answer can break it.
    Enforced,
    /// An answer can break it, and is then marked as invalid.
    Checked,
    /// It has no effect.
    Ignored,
}

/// One keyword at one place of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where the subschema stands, as a JSON pointer.
    pub path: String,
    /// The keyword.
    pub keyword: String,
    /// What becomes of it.
    pub treatment: Treatment,
    /// Why it is not enforced, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The report of one tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolReport {
    /// The tool's name.
    pub name: String,
    /// Every keyword of its schema that constrains something.
    pub keywords: Vec<Line>,
}

/// The report of each tool.
pub fn reports(tools: &[Tool]) -> Vec<ToolReport> {
    tools.iter().map(|tool| ToolReport { name: tool.name.clone(), keywords: report(&tool.schema()) }).collect()
}

/// What becomes of each keyword in `schema`, in order of appearance. Keywords that constrain
/// nothing (`title`, `default`, ...) are left out.
pub fn report(schema: &Value) -> Vec<Line> {
    let mut lines = Vec::new();
    walk(schema, schema, "", &mut lines);
    lines
}

/// Keywords that say something about a schema and constrain no value.
const ANNOTATIONS: [&str; 17] = [
    "$id",
    "$schema",
    "$anchor",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentEncoding",
    "contentSchema",
];
/// Keywords with subschemas that no grammar holds.
const CHECKED: [&str; 8] =
    ["not", "if", "then", "else", "contains", "propertyNames", "patternProperties", "dependentSchemas"];

fn walk(value: &Value, root: &Value, path: &str, lines: &mut Vec<Line>) {
    let Value::Object(schema) = value else { return };
    for (keyword, argument) in schema.iter().filter(|(keyword, _)| !ANNOTATIONS.contains(&keyword.as_str())) {
        if let Some((treatment, reason)) = treatment(keyword, argument, schema, root) {
            let reason = (!reason.is_empty()).then(|| reason.to_owned());
            lines.push(Line { path: path.to_owned(), keyword: keyword.clone(), treatment, reason });
        }
    }
    // What a keyword that is only checked holds is not enforced either; its own line says so.
    let is_checked = |place: &str| CHECKED.iter().any(|keyword| place[1..].split('/').next() == Some(keyword));
    for (place, inner) in subschemas(schema).into_iter().filter(|(place, _)| !is_checked(place)) {
        walk(inner, root, &format!("{path}{place}"), lines);
    }
}

type Verdict = Option<(Treatment, &'static str)>;

fn treatment(keyword: &str, argument: &Value, schema: &Map<String, Value>, root: &Value) -> Verdict {
    use Treatment::{Checked, Enforced, Ignored};
    let enforced = Some((Enforced, ""));
    let no_grammar = Some((Checked, "no grammar holds it"));
    match keyword {
        "type"
        | "enum"
        | "const"
        | "$ref"
        | "allOf"
        | "anyOf"
        | "properties"
        | "required"
        | "additionalProperties"
        | "items"
        | "prefixItems"
        | "additionalItems"
        | "minItems"
        | "maxItems"
        | "minLength"
        | "maxLength"
        | "minimum"
        | "maximum"
        | "exclusiveMinimum"
        | "exclusiveMaximum"
        | "nullable"
        | "x-from-query" => enforced,
        "oneOf" => match argument.as_array() {
            Some(alternatives) if are_disjoint(alternatives, root) => enforced,
            _ => Some((Checked, "a value may fit several of the alternatives")),
        },
        "multipleOf" if step(schema).is_none() => Some((Checked, "the step is too fine or too large for a grammar")),
        "multipleOf" => enforced,
        "pattern" => match argument.as_str() {
            Some(pattern) if is_grammatical(pattern) => enforced,
            Some(pattern) if json_schema::matches(pattern, "").is_some() => {
                Some((Checked, "no grammar holds look-around or references back"))
            }
            _ => Some((Ignored, "not a regular expression that can be read here")),
        },
        "format" => match argument.as_str().and_then(json_schema::format_pattern) {
            Some(_) => enforced,
            None => Some((Ignored, "the format is not known here")),
        },
        "uniqueItems" => (argument == &Value::Bool(true)).then_some((Checked, "no grammar holds it")),
        "not" | "if" | "contains" | "minContains" | "maxContains" | "patternProperties" | "propertyNames"
        | "minProperties" | "maxProperties" | "dependentRequired" | "dependentSchemas" | "dependencies" => no_grammar,
        // They mean nothing without `if`.
        "then" | "else" => schema.contains_key("if").then_some((Checked, "no grammar holds it")),
        _ => Some((Ignored, "the keyword is not known here")),
    }
}
