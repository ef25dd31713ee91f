//! How each keyword of a tool's schema is treated: enforced by the grammar, checked after decoding,
//! left out, or ignored.

use std::collections::{HashMap, HashSet};

use needle_data::Tool;
use needle_data::text::json_schema::{self, subschemas};
use serde::Serialize;
use serde_json::{Map, Value};

use super::closing::Answers;
use super::disjoint::are_disjoint;
use super::keywords::step;
use super::pattern::obstacle;
use super::refusal::refusal;
use super::schema::Builder;
use super::shape::{RuleId, Rules, Shape};
use super::string::{Strings, is_grammatical};

/// How a keyword is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// No answer can violate it.
    Enforced,
    /// An answer can violate it; the violation is then reported.
    Checked,
    /// No value satisfies the schema of this argument, so no answer has it.
    LeftOut,
    /// It has no effect.
    Ignored,
}

/// One keyword of one subschema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// JSON pointer to the subschema.
    pub path: String,
    /// The keyword.
    pub keyword: String,
    /// How it is treated.
    pub treatment: Treatment,
    /// Why it is not enforced; `None` if it is.
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
    /// Why no answer can call the tool; `None` if one can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The report of each tool.
pub fn reports(tools: &[Tool]) -> Vec<ToolReport> {
    let of =
        |tool: &Tool| ToolReport { name: tool.name.clone(), keywords: report(&tool.schema()), refused: refusal(tool) };
    tools.iter().map(of).collect()
}

/// How each keyword in `schema` is treated, in order of appearance. Leaves out keywords that
/// constrain nothing (`title`, `default`, ...) and definitions without a reference to them.
pub fn report(schema: &Value) -> Vec<Line> {
    let mut walk = Walk { root: schema, held: Held::of(schema), seen: HashSet::new(), lines: Vec::new() };
    walk.schema(schema, "");
    let mut lines = walk.lines;
    let checked = lines.iter().filter(|(_, line)| line.treatment == Treatment::Checked);
    let broken: HashSet<*const Value> = checked.map(|(value, _)| std::ptr::from_ref(*value)).collect();
    for (value, line) in &mut lines {
        let is_enforced = line.treatment == Treatment::Enforced;
        let alternatives = value.get(&line.keyword).and_then(Value::as_array);
        if is_enforced
            && matches!(line.keyword.as_str(), "anyOf" | "oneOf")
            && alternatives.into_iter().flatten().any(|one| reaches(one, schema, &broken))
        {
            line.treatment = Treatment::Checked;
            line.reason = Some("an alternative has a keyword that is only checked".to_owned());
        }
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Keywords that describe a schema without constraining a value.
const ANNOTATIONS: [&str; 28] = [
    "$id",
    "$schema",
    "$anchor",
    "$dynamicAnchor",
    "$comment",
    "$defs",
    "$vocabulary",
    "definitions",
    "id",
    "title",
    "description",
    "markdownDescription",
    "default",
    "examples",
    "example",
    "deprecated",
    "deprecationMessage",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentEncoding",
    "contentSchema",
    "discriminator",
    "xml",
    "externalDocs",
    "enumNames",
    "enumDescriptions",
    "errorMessage",
];

/// True if `keyword` constrains no value: one of `ANNOTATIONS`, or an extension.
pub fn is_annotation(keyword: &str) -> bool {
    ANNOTATIONS.contains(&keyword) || keyword.starts_with("x-") && keyword != "x-from-query"
}

/// Keywords with subschemas that a grammar cannot express.
const CHECKED: [&str; 8] =
    ["not", "if", "then", "else", "contains", "propertyNames", "patternProperties", "dependentSchemas"];

/// What the grammar of a schema does not enforce.
#[derive(Default)]
struct Held {
    /// The keywords of each subschema that it does not enforce, and why.
    losses: HashMap<*const Value, Vec<(&'static str, String)>>,
    left_out: HashSet<*const Value>,
}

impl Held {
    fn of(schema: &Value) -> Self {
        let mut builder = Builder::new();
        let start = builder.schema(schema, schema);
        // A schema that is too complex has no grammar; its tool is refused for that.
        let Ok(built) = builder.finish() else { return Self::default() };
        let reachable = reachable(&built.rules, start);
        let mut losses: HashMap<_, Vec<_>> = HashMap::new();
        for loss in built.losses {
            losses.entry(loss.schema).or_default().push((loss.keyword, loss.reason));
        }
        let answers = Answers::new(built.rules, Strings::new(""), start);
        let left_out = answers.left_out().iter().filter(|rule| reachable.contains(rule));
        let left_out = left_out.flat_map(|&rule| &built.schemas[rule]).copied().collect();
        Self { losses, left_out }
    }
}

/// The rules that can be reached from rule `start`.
fn reachable(rules: &Rules, start: RuleId) -> HashSet<RuleId> {
    let mut found = HashSet::from([start]);
    let mut queue = vec![start];
    while let Some(rule) = queue.pop() {
        for shape in &rules.shapes[rule] {
            let parts: Vec<RuleId> = match shape {
                Shape::Array(array) => array.prefix.iter().copied().chain(array.items).collect(),
                Shape::Object(object) => {
                    object.members.iter().map(|member| member.value).chain(object.others()).collect()
                }
                _ => Vec::new(),
            };
            queue.extend(parts.into_iter().filter(|&part| found.insert(part)));
        }
    }
    found
}

/// Walks through the subschemas that the grammar enforces.
struct Walk<'a> {
    root: &'a Value,
    held: Held,
    seen: HashSet<*const Value>,
    /// The lines of the report, each with its subschema.
    lines: Vec<(&'a Value, Line)>,
}

impl<'a> Walk<'a> {
    fn schema(&mut self, value: &'a Value, path: &str) {
        if !self.seen.insert(std::ptr::from_ref(value)) {
            return;
        }
        if self.held.left_out.contains(&std::ptr::from_ref(value)) {
            let reason = "no value satisfies it, so no answer has this argument";
            self.line(value, path, "properties", Treatment::LeftOut, reason);
        }
        let Value::Object(schema) = value else { return };
        let losses = self.held.losses.remove(&std::ptr::from_ref(value)).unwrap_or_default();
        for (keyword, argument) in schema.iter().filter(|(keyword, _)| !is_annotation(keyword)) {
            if let Some((_, reason)) = losses.iter().find(|(lost, _)| lost == keyword) {
                self.line(value, path, keyword, Treatment::Checked, reason);
            } else if let Some((treatment, reason)) = treatment(keyword, argument, schema, self.root) {
                self.line(value, path, keyword, treatment, reason);
            }
        }
        let lost: Vec<&str> = losses.iter().map(|(keyword, _)| *keyword).collect();
        for (path, inner) in inner(value, path, self.root, &lost) {
            self.schema(inner, &path);
        }
    }

    fn line(&mut self, value: &'a Value, path: &str, keyword: &str, treatment: Treatment, reason: &str) {
        let reason = (!reason.is_empty()).then(|| reason.to_owned());
        self.lines.push((value, Line { path: path.to_owned(), keyword: keyword.to_owned(), treatment, reason }));
    }
}

/// The subschemas of `value` that a grammar can enforce, including the target of its reference,
/// with their paths; without those of the keywords in `lost`.
fn inner<'a>(value: &'a Value, path: &str, root: &'a Value, lost: &[&str]) -> Vec<(String, &'a Value)> {
    let Value::Object(schema) = value else { return Vec::new() };
    // Subschemas of a keyword that is only checked are not enforced either; the keyword's own line
    // says so.
    let is_held = |place: &str| {
        let keyword = place[1..].split('/').next().unwrap_or_default();
        !CHECKED.contains(&keyword) && !lost.contains(&keyword) && !is_annotation(keyword)
    };
    let parts = subschemas(schema).into_iter().filter(|(place, _)| is_held(place));
    let mut all: Vec<(String, &Value)> = parts.map(|(place, part)| (format!("{path}{place}"), part)).collect();
    if !lost.contains(&"$ref")
        && let Some(reference) = schema.get("$ref").and_then(Value::as_str)
        && let Some(target) = json_schema::resolve(root, reference)
    {
        all.push((reference.trim_start_matches('#').to_owned(), target));
    }
    all
}

/// True if `value` is one of `broken` or contains or references one.
fn reaches(value: &Value, root: &Value, broken: &HashSet<*const Value>) -> bool {
    let mut seen = HashSet::new();
    let mut queue = vec![value];
    while let Some(value) = queue.pop() {
        if seen.insert(std::ptr::from_ref(value)) {
            if broken.contains(&std::ptr::from_ref(value)) {
                return true;
            }
            queue.extend(inner(value, "", root, &[]).into_iter().map(|(_, part)| part));
        }
    }
    false
}

type Verdict = Option<(Treatment, &'static str)>;

fn treatment(keyword: &str, argument: &Value, schema: &Map<String, Value>, root: &Value) -> Verdict {
    use Treatment::{Checked, Enforced, Ignored};
    let enforced = Some((Enforced, ""));
    let no_grammar = Some((Checked, "a grammar cannot express it"));
    if !is_readable(keyword, argument) {
        return Some((Ignored, "the keyword does not allow this value"));
    }
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
            _ => Some((Checked, "a value may match several of the alternatives")),
        },
        "multipleOf" if step(schema).is_none() => Some((Checked, "the step is too fine or too large for a grammar")),
        "multipleOf" => enforced,
        "pattern" => match argument.as_str() {
            Some(pattern) if is_grammatical(pattern) => enforced,
            Some(pattern) if json_schema::matches(pattern, "").is_some() => Some((Checked, obstacle(pattern))),
            _ => Some((Ignored, "the regular expression cannot be parsed")),
        },
        "format" => match argument.as_str().and_then(json_schema::format_pattern) {
            Some(_) => enforced,
            None => Some((Ignored, "the format is unknown")),
        },
        "uniqueItems" => (argument == &Value::Bool(true)).then_some((Checked, "a grammar cannot express it")),
        "not" | "if" | "contains" | "minContains" | "maxContains" | "patternProperties" | "propertyNames"
        | "minProperties" | "maxProperties" | "dependentRequired" | "dependentSchemas" | "dependencies" => no_grammar,
        // They have no meaning without `if`.
        "then" | "else" => schema.contains_key("if").then_some((Checked, "a grammar cannot express it")),
        _ => Some((Ignored, "the keyword is unknown")),
    }
}

/// True if `argument` is a valid value of `keyword`.
fn is_readable(keyword: &str, argument: &Value) -> bool {
    let is_number = |least: f64| argument.as_f64().is_some_and(|number| number >= least);
    match keyword {
        "multipleOf" => argument.as_f64().is_some_and(|step| step > 0.0),
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" | "minContains"
        | "maxContains" => is_number(0.0),
        "minimum" | "maximum" => argument.is_number(),
        "exclusiveMinimum" | "exclusiveMaximum" => argument.is_number() || argument.is_boolean(),
        "$ref" | "pattern" | "format" => argument.is_string(),
        "type" => argument.is_string() || argument.is_array(),
        "uniqueItems" | "nullable" => argument.is_boolean(),
        "enum" | "required" | "allOf" | "anyOf" | "oneOf" | "prefixItems" => argument.is_array(),
        "properties" | "patternProperties" | "dependentRequired" | "dependentSchemas" | "dependencies" => {
            argument.is_object()
        }
        _ => true,
    }
}
