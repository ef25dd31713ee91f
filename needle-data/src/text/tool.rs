//! Tool definitions, read in four common forms and normalized to one.
//!
//! The model reads the *native* form,
//! `{"name", "description", "parameters": {param: {"type", "description", "required"}}}`. Accepted
//! and normalized to it: JSON Schema under `parameters`, OpenAI
//! `{"type":"function","function":{..}}`, and entries of MCP's `tools/list` (`inputSchema`). A list
//! may also come as `{"tools": [..]}` (MCP's whole answer). A native definition keeps its keys,
//! their order and their values, so that it reaches the model as it was written.
//!
//! What the model reads differs from what its answers must satisfy: [`Tool::schema`] is the
//! complete JSON Schema of the arguments, with what the native form cannot express (`$defs`,
//! `anyOf` beside `properties`, `required` of an object).

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::error::{Problem, ProblemCode};
use crate::text::composed::Composed;
use crate::text::json_schema::{self, Violation};
use crate::text::schema::{Mismatch, ValueType, kind};
use crate::text::{json, schema};

/// One tool: what it is called, what it does, which arguments it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// The name, as the user wrote it.
    pub name: String,
    /// What the tool does; empty if the definition does not say.
    pub description: String,
    /// The arguments, in order of declaration.
    pub parameters: Vec<Parameter>,
    /// False if the definition had no `description` key; [`Tool::to_json`] then writes none.
    has_description: bool,
    /// The arguments' schema as the user wrote it, if it says more than `parameters`.
    schema: Option<Arc<Value>>,
}

/// One argument that a tool takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The argument's name.
    pub name: String,
    /// The native form's object: `type`, `description`, `required`, `enum` and whatever else was
    /// given.
    pub spec: Map<String, Value>,
    /// For an object, the members that it must have. JSON Schema lists them under `required`, the
    /// key that holds a flag in the native form.
    required_members: Vec<String>,
}

impl Parameter {
    /// The parameter that `spec` declares in the native form.
    pub fn new(name: impl Into<String>, spec: Map<String, Value>) -> Self {
        let required_members = schema::required_members(&spec);
        Self { name: name.into(), spec, required_members }
    }

    /// True if a call must have this argument.
    pub fn is_required(&self) -> bool {
        self.spec.get("required").and_then(Value::as_bool).unwrap_or(false)
    }

    /// The first place where `value` differs from the declaration, or `None` if it fits.
    pub fn mismatch(&self, value: &Value) -> Option<Mismatch> {
        schema::mismatch(&self.spec, &self.required_members, value)
    }
}

impl Tool {
    /// A tool in native form.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: Vec<Parameter>) -> Self {
        let description = description.into();
        Self { name: name.into(), has_description: !description.is_empty(), description, parameters, schema: None }
    }

    /// The parameter called `name`.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|p| p.name == name)
    }

    /// True if both tools have the same description and parameters, whatever their names. Tools
    /// without a description are never the same.
    pub fn is_same_but_for_name(&self, other: &Self) -> bool {
        !self.description.is_empty() && self.description == other.description && self.parameters == other.parameters
    }

    /// The native form, with the tool named `name` (inside the model: its snake_case name).
    pub fn to_json_named(&self, name: &str) -> Value {
        let mut tool = Map::new();
        tool.insert("name".into(), name.into());
        if self.has_description {
            tool.insert("description".into(), self.description.as_str().into());
        }
        let parameters =
            self.parameters.iter().map(|p| (p.name.clone(), Value::Object(p.spec.clone()))).collect::<Map<_, _>>();
        tool.insert("parameters".into(), parameters.into());
        tool.into()
    }

    /// The native form under the tool's own name.
    pub fn to_json(&self) -> Value {
        self.to_json_named(&self.name)
    }

    /// The JSON Schema that the arguments of a call must satisfy: the user's own, or the equivalent
    /// of the native form.
    pub fn schema(&self) -> Value {
        match &self.schema {
            Some(written) => json_schema::normalized(written),
            None => json_schema::normalized(&schema_of(&self.parameters)),
        }
    }

    /// Where `arguments` violate the schema, or `None` if they satisfy it. An undeclared argument
    /// is a violation, too.
    pub fn violation(&self, arguments: &Map<String, Value>) -> Option<Violation> {
        if let Some(name) = arguments.keys().find(|name| self.parameter(name).is_none()) {
            let reason = format!("{:?} takes no such argument", self.name);
            return Some(Violation { path: format!("/{name}"), keyword: "properties".into(), reason });
        }
        let schema = self.schema();
        json_schema::check(&schema, &schema, &Value::Object(arguments.clone())).err()
    }

    /// Reads one definition in any accepted form; `field` is its path, for messages.
    ///
    /// # Errors
    /// A [`Problem`] that names the field and says what was expected.
    pub fn from_json(value: &Value, field: &str) -> Result<Self, Problem> {
        let bad = |at: &str, reason: String| Problem::new(format!("{field}{at}"), ProblemCode::BadTools, reason);
        let object =
            value.as_object().ok_or_else(|| bad("", format!("expected a tool object, got {}", kind(value))))?;
        if let Some(function) = object.get("function").filter(|f| f.is_object()) {
            return Self::from_json(function, &format!("{field}.function"));
        }
        let name = match object.get("name") {
            Some(Value::String(name)) if !name.trim().is_empty() => name.clone(),
            Some(other) => return Err(bad(".name", format!("expected a non-empty string, got {other}"))),
            None => return Err(bad(".name", "missing".into())),
        };
        let description = match object.get("description") {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => return Err(bad(".description", format!("expected a string, got {}", kind(other)))),
        };
        let schema_key = if object.contains_key("inputSchema") { "inputSchema" } else { "parameters" };
        let at = format!(".{schema_key}");
        let mut schema = None;
        let parameters = match object.get(schema_key) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(written)) if schema_key == "inputSchema" || is_json_schema(written) => {
                let parameters =
                    from_json_schema(written).map_err(|(path, reason)| bad(&format!("{at}{path}"), reason))?;
                let written = Value::Object(written.clone());
                schema = (schema_of(&parameters) != written).then(|| Arc::new(written));
                parameters
            }
            Some(Value::Object(native)) => {
                from_native(native).map_err(|(path, reason)| bad(&format!("{at}{path}"), reason))?
            }
            Some(other) => return Err(bad(&at, format!("expected an object, got {}", kind(other)))),
        };
        Ok(Self { name, has_description: object.contains_key("description"), description, parameters, schema })
    }

    /// Reads a list of definitions: a JSON list, an object with `tools`, or a string that holds
    /// either.
    ///
    /// # Errors
    /// A [`Problem`] for the first definition that cannot be read, or for two tools with the same
    /// name.
    pub fn list_from_json(value: &Value) -> Result<Vec<Self>, Problem> {
        let parsed;
        let value = match value {
            Value::String(text) => {
                parsed = json::parse(text)
                    .map_err(|e| Problem::new("tools", ProblemCode::NotJson, format!("not JSON: {e}")))?;
                &parsed
            }
            other => other,
        };
        let list = value.get("tools").unwrap_or(value);
        let list = list.as_array().ok_or_else(|| {
            Problem::new("tools", ProblemCode::BadTools, format!("expected a list of tools, got {}", kind(list)))
        })?;
        let mut tools: Vec<Self> = Vec::with_capacity(list.len());
        for (i, item) in list.iter().enumerate() {
            let tool = Self::from_json(item, &format!("tools[{i}]"))?;
            if tools.iter().any(|t| t.name == tool.name) {
                return Err(Problem::new(
                    format!("tools[{i}].name"),
                    ProblemCode::DuplicateTool,
                    format!("{:?} is offered twice", tool.name),
                ));
            }
            tools.push(tool);
        }
        Ok(tools)
    }
}

/// True for a JSON Schema, false for the native form. A schema has keywords whose values are not
/// objects (`"type": "object"`, `"anyOf": [..]`), or `properties` whose members are schemas. A
/// native form has neither, because all its values are objects (a native parameter called
/// `properties` would have a string under its `type`).
fn is_json_schema(object: &Map<String, Value>) -> bool {
    let says = |keyword: &str, is_so: fn(&Value) -> bool| object.get(keyword).is_some_and(is_so);
    let has_properties = object.get("properties").and_then(Value::as_object).is_some_and(|properties| {
        let is_schema = |spec: &Value| spec.is_object() || spec.is_boolean();
        properties.values().all(is_schema) && !properties.get("type").is_some_and(Value::is_string)
    });
    has_properties
        || ["type", "$ref", "$schema"].iter().any(|keyword| says(keyword, Value::is_string))
        || ["type", "required", "allOf", "anyOf", "oneOf"].iter().any(|keyword| says(keyword, Value::is_array))
        || says("additionalProperties", Value::is_boolean)
}

/// The JSON Schema that is equivalent to a native form.
fn schema_of(parameters: &[Parameter]) -> Value {
    let properties: Map<String, Value> = parameters
        .iter()
        .map(|parameter| {
            let mut spec = parameter.spec.clone();
            // `required` is a flag here, but a list of an object's members in JSON Schema.
            spec.shift_remove("required");
            if !parameter.required_members.is_empty() {
                spec.insert("required".into(), parameter.required_members.as_slice().into());
            }
            (parameter.name.clone(), spec.into())
        })
        .collect();
    let required: Vec<&str> = parameters.iter().filter(|p| p.is_required()).map(|p| p.name.as_str()).collect();
    match required.is_empty() {
        true => json!({"type": "object", "properties": properties}),
        false => json!({"type": "object", "properties": properties, "required": required}),
    }
}

type AtReason = (String, String);

fn from_json_schema(schema: &Map<String, Value>) -> Result<Vec<Parameter>, AtReason> {
    let expected = |at: &str, what: &str, got: &Value| Err((at.to_owned(), format!("expected {what}, got {got}")));
    let is_object = |name: &Value| name.as_str().and_then(ValueType::named) == Some(ValueType::Object);
    match schema.get("type") {
        None | Some(Value::Null) => {}
        Some(Value::Array(names)) if names.iter().any(is_object) => {}
        Some(name) if is_object(name) => {}
        Some(other) => return expected(".type", "\"object\"", other),
    }
    match schema.get("required") {
        None | Some(Value::Null) => {}
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {}
        Some(other) => return expected(".required", "a list of names", other),
    }
    match schema.get("properties") {
        None | Some(Value::Object(_) | Value::Null) => {}
        Some(other) => return expected(".properties", "an object", other),
    }
    let root = Value::Object(schema.clone());
    let Composed { mut properties, required } = Composed::of(&root);
    // An argument whose schema is `false` can never be given, so it is dropped. A required name
    // without a declaration becomes an argument of any type.
    properties.retain(|_, spec| *spec != Value::Bool(false));
    for name in &required {
        if !has_false(schema, name) {
            properties.entry(name.as_str()).or_insert_with(|| Map::new().into());
        }
    }
    for spec in properties.values_mut().filter(|spec| **spec == Value::Bool(true)) {
        *spec = Map::new().into();
    }
    let mut parameters = from_native(&properties).map_err(|(path, reason)| (format!(".properties{path}"), reason))?;
    for parameter in &mut parameters {
        // A flag beside the type is the spelling of the first drafts; a list names the required
        // members of a nested object.
        let is_required = parameter.is_required() || required.contains(&parameter.name);
        parameter.spec.shift_remove("required");
        parameter.spec.insert("required".into(), is_required.into());
    }
    Ok(parameters)
}

/// True if `schema` itself declares the argument `name` as `false`, which no value satisfies.
fn has_false(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get("properties").and_then(|properties| properties.get(name)) == Some(&Value::Bool(false))
}

fn from_native(object: &Map<String, Value>) -> Result<Vec<Parameter>, AtReason> {
    object
        .iter()
        .map(|(name, spec)| match spec {
            Value::Object(spec) => match schema::check(spec) {
                Ok(()) => Ok(Parameter::new(name.clone(), spec.clone())),
                Err(Mismatch { at, reason }) => Err((format!(".{name}{at}"), reason)),
            },
            other => Err((
                format!(".{name}"),
                format!("expected an object such as {{\"type\":\"string\"}}, got {}", kind(other)),
            )),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn weather() -> Tool {
        Tool::from_json(
            &json!({"name": "get_weather", "description": "Weather", "parameters": {
                "city": {"type": "string", "description": "Where", "required": true},
                "days": {"type": "integer", "description": "How many", "required": false}}}),
            "tools[0]",
        )
        .unwrap()
    }

    #[test]
    fn all_forms_become_the_native_one() {
        let schema = json!({"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "Where"}, "days": {"type": "integer", "description": "How many"}}});
        let forms = [
            json!({"name": "get_weather", "description": "Weather", "parameters": schema}),
            json!({"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": schema}}),
            json!({"name": "get_weather", "description": "Weather", "inputSchema": schema}),
        ];
        for form in forms {
            assert_eq!(Tool::from_json(&form, "tools[0]").unwrap(), weather(), "{form}");
        }
        assert_eq!(Tool::list_from_json(&json!({"tools": [weather().to_json()]})).unwrap(), [weather()]);
        assert_eq!(Tool::list_from_json(&json!([weather().to_json()]).to_string().into()).unwrap(), [weather()]);
    }

    #[test]
    fn a_native_definition_keeps_its_keys_and_order() {
        let native =
            json!({"name": "b", "description": "", "parameters": {"z": {"required": false, "type": "str"}, "a": {}}});
        assert_eq!(Tool::from_json(&native, "t").unwrap().to_json().to_string(), native.to_string());
    }

    #[test]
    fn what_the_native_form_has_no_place_for_stays_in_the_schema() {
        let schema = json!({"type": "object", "required": ["who"], "properties": {
            "who": {"$ref": "#/$defs/person"}, "tags": {"type": "array", "uniqueItems": true}},
            "$defs": {"person": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string"}, "friend": {"$ref": "#/$defs/person"}}}}});
        let tool = Tool::from_json(&json!({"name": "greet", "parameters": schema}), "t").unwrap();
        assert_eq!(tool.schema(), schema);
        assert_eq!(tool.to_json()["parameters"]["who"], json!({"$ref": "#/$defs/person", "required": true}));
        let broken_by = |arguments: Value| tool.violation(arguments.as_object().unwrap()).map(|v| (v.path, v.keyword));
        let broken = |path: &str, keyword: &str| Some((path.to_owned(), keyword.to_owned()));
        assert_eq!(broken_by(json!({"who": {"name": "Ada", "friend": {"name": "Alan"}}})), None);
        assert_eq!(broken_by(json!({"who": {"name": "Ada", "friend": {}}})), broken("/who/friend", "required"));
        assert_eq!(broken_by(json!({"tags": []})), broken("", "required"));
        assert_eq!(broken_by(json!({"who": {"name": "Ada"}, "tags": [1, 1.0]})), broken("/tags", "uniqueItems"));
        assert_eq!(broken_by(json!({"whom": 1})), broken("/whom", "properties"));
    }

    #[test]
    fn the_model_reads_the_arguments_of_a_schema_that_is_composed_of_others() {
        let tool = json!({"name": "a", "parameters": {"type": "object",
            "properties": {"id": {"type": "string"}},
            "allOf": [{"$ref": "#/$defs/base"}, {"required": ["id"]}],
            "anyOf": [{"properties": {"by": {"type": "string"}}, "required": ["by"]}, {"required": ["id"]}],
            "$defs": {"base": {"properties": {"name": {"type": "string"}}, "required": ["name"], "allOf": [{"$ref": "#/$defs/base"}]}}}});
        let tool = Tool::from_json(&tool, "t").unwrap();
        let read: Vec<(&str, bool)> = tool.parameters.iter().map(|p| (p.name.as_str(), p.is_required())).collect();
        assert_eq!(read, [("id", true), ("name", true), ("by", false)]);
    }

    /// Names of the arguments that the model reads; required ones are in capitals.
    fn read(tool: &Value) -> Vec<String> {
        let tool = Tool::from_json(tool, "t").unwrap_or_else(|problem| panic!("{problem:?}: {tool}"));
        let name = |p: &Parameter| if p.is_required() { p.name.to_uppercase() } else { p.name.clone() };
        tool.parameters.iter().map(name).collect()
    }

    #[test]
    fn legal_input_schemas_that_were_refused_are_read() {
        let a = json!({"type": "object", "required": ["x", "y"], "properties": {"x": {"type": "string"}, "y": {}}});
        let b = json!({"type": "object", "required": ["x"], "properties": {"x": {"type": "integer"}, "z": {}}});
        for (schema, expected) in [
            (json!({"$ref": "#/definitions/A", "definitions": {"A": a}}), vec!["X", "Y"]),
            (json!({"$ref": "#/$defs/A", "$defs": {"A": a}}), vec!["X", "Y"]),
            (json!({"oneOf": [a, b]}), vec!["X", "y", "z"]),
            (json!({"anyOf": [{"$ref": "#/$defs/A"}, b], "$defs": {"A": a}}), vec!["X", "y", "z"]),
            (json!({"allOf": [a, b]}), vec!["X", "Y", "z"]),
            (json!({"additionalProperties": false}), vec![]),
            (json!({"type": "object", "properties": {"yes": true, "no": false}}), vec!["yes"]),
            (json!({"type": ["object"], "properties": {"x": {"maxLength": 10.0}}}), vec!["x"]),
            (json!({"type": "object", "properties": {"x": {}}, "required": ["x", "w"]}), vec!["X", "W"]),
        ] {
            assert_eq!(read(&json!({"name": "a", "inputSchema": schema})), expected, "{schema}");
            assert_eq!(read(&json!({"function": {"name": "a", "parameters": schema}})), expected, "{schema}");
        }
        assert_eq!(read(&json!({"name": "a", "inputSchema": {}})), Vec::<String>::new());
    }

    #[test]
    fn references_that_double_at_each_level_are_read_once() {
        let mut definitions = Map::new();
        for i in 0..40 {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
            definitions.insert(format!("d{i}"), json!({"allOf": [next, next]}));
        }
        definitions.insert("d40".into(), json!({"properties": {"x": {"type": "string"}}, "required": ["x"]}));
        let schema = json!({"$ref": "#/$defs/d0", "$defs": definitions});
        assert_eq!(read(&json!({"name": "a", "inputSchema": schema})), ["X"]);
        let tool = Tool::from_json(&json!({"name": "a", "inputSchema": schema}), "t").unwrap();
        assert_eq!(tool.violation(json!({"x": "y"}).as_object().unwrap()), None);
        assert_eq!(tool.violation(json!({"x": 3}).as_object().unwrap()).unwrap().keyword, "type");
    }

    #[test]
    fn a_schema_is_in_the_words_of_json_schema_whoever_wrote_it() {
        let tool = json!({"name": "a", "parameters": {
            "who": {"type": "str, optional", "enum": null, "required": true}, "any": {"type": "Any"},
            "to": {"type": "Dict[str, int]", "properties": {"street": {"type": "str", "required": true}, "no": {"type": "int"}}},
            "all": {"type": "List[dict]", "items": {"properties": {"x": {"type": ["int", "none"], "required": true}}}}}});
        let expected = json!({"type": "object", "required": ["who"], "properties": {
            "who": {"type": "string"}, "any": {},
            "to": {"type": "object", "properties": {"street": {"type": "string"}, "no": {"type": "integer"}}, "required": ["street"]},
            "all": {"type": "array", "items": {"properties": {"x": {"type": ["integer", "null"]}}, "required": ["x"]}}}});
        assert_eq!(Tool::from_json(&tool, "t").unwrap().schema(), expected);
    }

    #[test]
    fn a_native_form_has_the_schema_that_it_stands_for() {
        let expected = json!({"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "Where"}, "days": {"type": "integer", "description": "How many"}}});
        assert_eq!(weather().schema(), expected);
    }

    #[test]
    fn unreadable_definitions_name_the_field() {
        for (value, field) in [
            (json!([{"description": "no name"}]), "tools[0].name"),
            (json!([{"name": " "}]), "tools[0].name"),
            (json!([{"name": "a"}, {"name": "a"}]), "tools[1].name"),
            (json!([{"name": "a", "parameters": {"city": "string"}}]), "tools[0].parameters.city"),
            (json!([{"name": "a", "parameters": []}]), "tools[0].parameters"),
            (
                json!([{"name": "a", "parameters": {"type": "nonsense", "properties": {"x": {}}}}]),
                "tools[0].parameters.type",
            ),
            (
                json!([{"name": "a", "inputSchema": {"type": "object", "required": [1]}}]),
                "tools[0].inputSchema.required",
            ),
            (json!([{"name": "a", "parameters": {"x": {"required": "true"}}}]), "tools[0].parameters.x.required"),
            (json!([{"name": "a", "parameters": {"x": {"enum": "x"}}}]), "tools[0].parameters.x.enum"),
            (json!([{"name": "a", "parameters": {"x": {"type": "nonsense"}}}]), "tools[0].parameters.x.type"),
            (
                json!([{"function": {"name": "a", "parameters": {"properties": {"x": {"items": {"type": "date"}}}}}}]),
                "tools[0].function.parameters.properties.x.items.type",
            ),
            (json!({"name": "a"}), "tools"),
            (json!("not json"), "tools"),
        ] {
            assert_eq!(Tool::list_from_json(&value).unwrap_err().field, field, "{value}");
        }
    }

    #[test]
    fn what_a_schema_says_of_members_and_of_flags_is_kept_and_checked() {
        let tool = Tool::from_json(
            &json!({"name": "a", "parameters": {"type": "object", "required": ["to"], "properties": {
                "to": {"type": "object", "properties": {"street": {"type": "string"}}, "required": ["street"]},
                "how": {"type": "string", "required": true},
                "when": {"type": "string"}}}}),
            "tools[0]",
        )
        .unwrap();
        let is_required: Vec<bool> = tool.parameters.iter().map(Parameter::is_required).collect();
        assert_eq!(is_required, [true, true, false]);
        let mismatch = tool.parameter("to").unwrap().mismatch(&json!({"city": "Rome"})).unwrap();
        assert_eq!((mismatch.at.as_str(), mismatch.reason.as_str()), (".street", "required but missing"));
        assert!(tool.parameter("to").unwrap().mismatch(&json!({"street": "Main"})).is_none());
    }
}
