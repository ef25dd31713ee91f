//! JSON schemas of the teacher's answers, made from the offered tools.
//!
//! They keep to the subset that endpoints accept with `"strict": true`: every object is closed,
//! every property is required, optional ones are nullable, and there are no keywords beyond type,
//! enum, items, properties and description. A definition that the subset cannot express (an object
//! without properties, for example) makes the schema a loose one, which endpoints take as guidance.

use needle_data::Tool;
use needle_data::text::tool::Parameter;
use serde_json::{Map, Value, json};

/// A schema, and whether an endpoint can enforce it.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerSchema {
    /// Its name, for the request.
    pub name: &'static str,
    /// The schema.
    pub schema: Value,
    /// Whether it keeps to the strict subset.
    pub is_strict: bool,
}

impl AnswerSchema {
    /// The member `response_format` of a request.
    pub fn response_format(&self) -> Value {
        let (name, strict, schema) = (self.name, self.is_strict, &self.schema);
        json!({"type": "json_schema", "json_schema": {"name": name, "strict": strict, "schema": schema}})
    }
}

/// `{"rows": [{"query", "answers": [one of the tools' calls]}]}`.
pub fn rows(tools: &[Tool]) -> AnswerSchema {
    let mut is_strict = true;
    let calls: Vec<Value> = tools
        .iter()
        .map(|tool| {
            let mut arguments = Map::new();
            for declared in &tool.parameters {
                arguments.insert(declared.name.clone(), parameter(declared, &mut is_strict));
            }
            closed([("name", json!({"type": "string", "enum": [tool.name]})), ("arguments", object(arguments))])
        })
        .collect();
    let answers = json!({"type": "array", "items": {"anyOf": calls}});
    AnswerSchema { name: "rows", schema: list("rows", [("query", string()), ("answers", answers)]), is_strict }
}

/// `{"rows": [{"query"}]}`.
pub fn queries() -> AnswerSchema {
    AnswerSchema { name: "queries", schema: list("rows", [("query", string())]), is_strict: true }
}

/// `{"tools": [{"name", "description", "parameters": [..]}]}`; parameters are a list, because the
/// keys of strict objects are fixed.
pub fn tools() -> AnswerSchema {
    let types = json!({"type": "string", "enum": ["string", "integer", "number", "boolean", "array"]});
    let choices = json!({"type": ["array", "null"], "items": string()});
    let parameter = closed([
        ("name", string()),
        ("type", types),
        ("description", string()),
        ("required", json!({"type": "boolean"})),
        ("enum", choices),
    ]);
    let parameters = json!({"type": "array", "items": parameter});
    let schema = list("tools", [("name", string()), ("description", string()), ("parameters", parameters)]);
    AnswerSchema { name: "tools", schema, is_strict: true }
}

/// `{"is_right", "reason"}`.
pub fn verdict() -> AnswerSchema {
    let schema = closed([("reason", string()), ("is_right", json!({"type": "boolean"}))]);
    AnswerSchema { name: "verdict", schema, is_strict: true }
}

fn string() -> Value {
    json!({"type": "string"})
}

fn list<const N: usize>(key: &str, members: [(&str, Value); N]) -> Value {
    closed([(key, json!({"type": "array", "items": closed(members)}))])
}

/// An object with exactly these properties.
fn closed<const N: usize>(properties: [(&str, Value); N]) -> Value {
    object(properties.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect())
}

fn object(properties: Map<String, Value>) -> Value {
    let required: Vec<&String> = properties.keys().collect();
    json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
}

/// The schema of one parameter: nullable if it is optional.
fn parameter(parameter: &Parameter, is_strict: &mut bool) -> Value {
    let mut schema = value(&parameter.spec, is_strict);
    if !parameter.is_required()
        && let Some(types) = schema.get_mut("type")
    {
        let mut nullable: Vec<Value> = match types.take() {
            Value::Array(types) => types,
            one => vec![one],
        };
        if !nullable.contains(&"null".into()) {
            nullable.push("null".into());
        }
        *types = nullable.into();
        if let Some(Value::Array(choices)) = schema.get_mut("enum") {
            choices.push(Value::Null);
        }
    }
    schema
}

fn value(spec: &Map<String, Value>, is_strict: &mut bool) -> Value {
    let mut schema = Map::new();
    match spec.get("type") {
        Some(Value::String(name)) => _ = schema.insert("type".into(), type_name(name, is_strict)),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str).map(|name| type_name(name, is_strict));
            schema.insert("type".into(), names.collect());
        }
        _ => *is_strict = false,
    }
    for key in ["description", "enum"] {
        if let Some(kept) = spec.get(key) {
            schema.insert(key.into(), kept.clone());
        }
    }
    let is = |name: &str| {
        schema.get("type").is_some_and(|t| t == name || t.as_array().is_some_and(|t| t.contains(&name.into())))
    };
    let (is_array, is_object) = (is("array"), is("object"));
    if is_array {
        match spec.get("items") {
            Some(Value::Object(items)) => _ = schema.insert("items".into(), value(items, is_strict)),
            _ => *is_strict = false,
        }
    }
    if is_object {
        match spec.get("properties") {
            Some(Value::Object(properties)) => nested(properties, &mut schema, is_strict),
            _ => *is_strict = false,
        }
    }
    schema.into()
}

/// The properties of a nested object; all of them are required, as in every strict schema.
fn nested(properties: &Map<String, Value>, schema: &mut Map<String, Value>, is_strict: &mut bool) {
    let mut inner = Map::new();
    for (name, spec) in properties {
        match spec {
            Value::Object(spec) => _ = inner.insert(name.clone(), value(spec, is_strict)),
            _ => *is_strict = false,
        }
    }
    schema.extend(object(inner).as_object().cloned().unwrap_or_default());
}

/// JSON Schema's name of a type.
fn type_name(name: &str, is_strict: &mut bool) -> Value {
    match name.to_ascii_lowercase().as_str() {
        "string" | "str" => "string",
        "integer" | "int" => "integer",
        "number" | "float" | "double" => "number",
        "boolean" | "bool" => "boolean",
        "array" | "list" => "array",
        "object" | "dict" => "object",
        "null" => "null",
        _ => {
            *is_strict = false;
            "string"
        }
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools_of(value: &Value) -> Vec<Tool> {
        Tool::list_from_json(value).unwrap()
    }

    /// Checks the rules of the strict subset, at every depth.
    fn assert_strict(schema: &Value) {
        let Value::Object(object) = schema else { return };
        for key in object.keys() {
            let known =
                ["type", "enum", "items", "properties", "required", "additionalProperties", "description", "anyOf"];
            assert!(known.contains(&key.as_str()), "{key}: {schema}");
        }
        if let Some(Value::Object(properties)) = object.get("properties") {
            let names: Vec<Value> = properties.keys().map(|name| name.as_str().into()).collect();
            assert_eq!(object["required"], Value::from(names), "{schema}");
            assert_eq!(object["additionalProperties"], false, "{schema}");
            properties.values().for_each(assert_strict);
        }
        object.get("items").into_iter().for_each(assert_strict);
        object.get("anyOf").and_then(Value::as_array).into_iter().flatten().for_each(assert_strict);
    }

    #[test]
    fn every_call_is_one_of_the_tools_and_what_is_optional_may_be_null() {
        let schema = rows(&tools_of(&json!([
            {"name": "play", "parameters": {"song": {"type": "str", "required": true}, "volume": {"type": "integer", "minimum": 0},
                "mode": {"type": "string", "enum": ["loud", "soft"]}, "tags": {"type": "array", "items": {"type": "string"}}}},
            {"name": "stop"},
        ])));
        assert!(schema.is_strict);
        assert_strict(&schema.schema);
        let calls = &schema.schema["properties"]["rows"]["items"]["properties"]["answers"]["items"]["anyOf"];
        let arguments = &calls[0]["properties"]["arguments"]["properties"];
        assert_eq!(calls[0]["properties"]["name"]["enum"], json!(["play"]));
        assert_eq!(arguments["song"], json!({"type": "string"}));
        assert_eq!(arguments["volume"], json!({"type": ["integer", "null"]}));
        assert_eq!(arguments["mode"]["enum"], json!(["loud", "soft", null]));
        for other in [queries(), tools(), verdict()] {
            assert!(other.is_strict);
            assert_strict(&other.schema);
        }
    }

    #[test]
    fn what_the_strict_subset_cannot_say_makes_the_schema_a_loose_one() {
        for parameters in [
            json!({"anything": {"required": true}}),
            json!({"map": {"type": "object", "required": true}}),
            json!({"list": {"type": "array", "required": true}}),
        ] {
            let schema = rows(&tools_of(&json!([{"name": "f", "parameters": parameters}])));
            assert!(!schema.is_strict, "{}", schema.schema);
        }
    }
}
