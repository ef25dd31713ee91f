//! Tool definitions in the four forms that people have them in, normalized to one.
//!
//! The model reads the *native* form, `{"name", "description", "parameters": {param: {"type", "description", "required"}}}`.
//! Accepted and normalized to it: JSON Schema under `parameters`, OpenAI `{"type":"function","function":{..}}`, and
//! entries of MCP's `tools/list` (`inputSchema`). A list may also come as `{"tools": [..]}` (MCP's whole answer).
//! A native definition keeps its keys, their order and their values, so that it reaches the model as it was written.

use serde_json::{Map, Value};

use crate::error::{Problem, ProblemCode};
use crate::text::json;

/// One tool: what it is called, what it does, which arguments it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// The name, as the user wrote it.
    pub name: String,
    /// What the tool does, empty where it was not said.
    pub description: String,
    /// The arguments, in order of declaration.
    pub parameters: Vec<Parameter>,
    /// False where the definition had no `description` key: it then stays without one.
    has_description: bool,
}

/// One argument that a tool takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The argument's name.
    pub name: String,
    /// The native form's object: `type`, `description`, `required`, `enum` and whatever else was given.
    pub spec: Map<String, Value>,
}

impl Parameter {
    /// True where a call must have this argument.
    pub fn is_required(&self) -> bool {
        self.spec.get("required").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Why `value` is not what the declaration asks for, or `None` where it fits.
    ///
    /// Type names of JSON Schema and of Python (`str`, `int`, `float`, `bool`, `list`, `dict`) are known; others fit anything.
    pub fn mismatch(&self, value: &Value) -> Option<String> {
        if let Some(Value::Array(allowed)) = self.spec.get("enum")
            && !allowed.contains(value)
        {
            let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
            return Some(format!("{value} is not one of {}", allowed.join(", ")));
        }
        let types: Vec<&str> = match self.spec.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => return None,
        };
        if types.is_empty() || types.iter().any(|t| is_of_type(value, t)) {
            return None;
        }
        Some(format!("expected {}, got {value}", types.join(" or ")))
    }
}

fn is_of_type(value: &Value, type_name: &str) -> bool {
    match type_name.to_ascii_lowercase().as_str() {
        "string" | "str" => value.is_string(),
        "integer" | "int" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|x| x.fract() == 0.0),
        "number" | "float" | "double" => value.is_number(),
        "boolean" | "bool" => value.is_boolean(),
        "array" | "list" => value.is_array(),
        "object" | "dict" => value.is_object(),
        "null" => value.is_null(),
        _ => true,
    }
}

impl Tool {
    /// A tool in native form.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: Vec<Parameter>) -> Self {
        let description = description.into();
        Self { name: name.into(), has_description: !description.is_empty(), description, parameters }
    }

    /// The parameter called `name`.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|p| p.name == name)
    }

    /// True if the two do the same and take the same, whatever they are called; tools that say nothing of themselves are
    /// told apart by name.
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

    /// Reads one definition in any accepted form; `field` is where it stands, for messages.
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
        let parameters = match object.get(schema_key) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(schema)) if is_json_schema(schema) => {
                from_json_schema(schema).map_err(|(path, reason)| bad(&format!("{at}{path}"), reason))?
            }
            Some(Value::Object(native)) => {
                from_native(native).map_err(|(path, reason)| bad(&format!("{at}{path}"), reason))?
            }
            Some(other) => return Err(bad(&at, format!("expected an object, got {}", kind(other)))),
        };
        Ok(Self { name, has_description: object.contains_key("description"), description, parameters })
    }

    /// Reads a list of definitions: a JSON list, an object with `tools`, or a string that holds either.
    ///
    /// # Errors
    /// A [`Problem`] for the first definition that cannot be read, or for two tools of one name.
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

/// A schema says `"type": "object"`, or has `properties` whose members are objects; a native form has neither, since its
/// values are objects (a native parameter called `properties` would have a string under its `type`).
fn is_json_schema(object: &Map<String, Value>) -> bool {
    let says_object = object.get("type").and_then(Value::as_str) == Some("object");
    let has_properties = object.get("properties").and_then(Value::as_object).is_some_and(|properties| {
        properties.values().all(Value::is_object) && !properties.get("type").is_some_and(Value::is_string)
    });
    says_object || has_properties
}

type AtReason = (String, String);

fn from_json_schema(schema: &Map<String, Value>) -> Result<Vec<Parameter>, AtReason> {
    let required: Vec<&str> = match schema.get("required") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        None | Some(Value::Null) => Vec::new(),
        Some(other) => return Err((".required".into(), format!("expected a list of names, got {}", kind(other)))),
    };
    let properties = match schema.get("properties") {
        Some(Value::Object(properties)) => properties,
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(other) => return Err((".properties".into(), format!("expected an object, got {}", kind(other)))),
    };
    if let Some(missing) = required.iter().find(|name| !properties.contains_key(**name)) {
        return Err((".required".into(), format!("{missing:?} is not among the properties")));
    }
    let mut parameters = from_native(properties).map_err(|(path, reason)| (format!(".properties{path}"), reason))?;
    for parameter in &mut parameters {
        // A nested object's own `required` list is not this parameter's flag.
        parameter.spec.shift_remove("required");
        parameter.spec.insert("required".into(), required.contains(&parameter.name.as_str()).into());
    }
    Ok(parameters)
}

fn from_native(object: &Map<String, Value>) -> Result<Vec<Parameter>, AtReason> {
    object
        .iter()
        .map(|(name, spec)| match spec {
            Value::Object(spec) => Ok(Parameter { name: name.clone(), spec: spec.clone() }),
            other => Err((
                format!(".{name}"),
                format!("expected an object such as {{\"type\":\"string\"}}, got {}", kind(other)),
            )),
        })
        .collect()
}

/// The JSON type of a value, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
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
            json!({"name": "b", "description": "", "parameters": {"z": {"required": false, "type": "x"}, "a": {}}});
        assert_eq!(Tool::from_json(&native, "t").unwrap().to_json().to_string(), native.to_string());
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
                json!([{"name": "a", "parameters": {"type": "object", "required": ["x"], "properties": {}}}]),
                "tools[0].parameters.required",
            ),
            (json!({"name": "a"}), "tools"),
            (json!("not json"), "tools"),
        ] {
            assert_eq!(Tool::list_from_json(&value).unwrap_err().field, field, "{value}");
        }
    }

    #[test]
    fn values_are_checked_against_type_and_enum() {
        let parameter = |spec: Value| Parameter { name: "p".into(), spec: spec.as_object().unwrap().clone() };
        assert!(parameter(json!({"type": "integer"})).mismatch(&json!(3.5)).is_some());
        assert!(parameter(json!({"type": "integer"})).mismatch(&json!(3.0)).is_none());
        assert!(parameter(json!({"type": "number"})).mismatch(&json!("3")).is_some());
        assert!(parameter(json!({"type": ["string", "null"]})).mismatch(&Value::Null).is_none());
        assert!(parameter(json!({"enum": ["on", "off"]})).mismatch(&json!("dim")).is_some());
        assert!(parameter(json!({"type": "date"})).mismatch(&json!("tomorrow")).is_none());
    }
}
