//! Normalizes the tool definitions of other datasets: JSON's type names, and a `required` flag for
//! each parameter.

use serde_json::{Map, Value};

use crate::text::schema::ValueType;

/// Replaces Python's and other type names by JSON's. A parameter with `default`, or with xLAM's
/// `"str, optional"`, is not required.
pub(super) fn tidy(tool: &mut Value) {
    let Some(tool) = tool.as_object_mut() else { return };
    if let Some(function) = tool.get_mut("function").filter(|f| f.is_object()) {
        return tidy(function);
    }
    let Some(Value::Object(parameters)) = tool.get_mut("parameters") else { return };
    let is_schema = parameters.get("properties").is_some_and(Value::is_object);
    if is_schema {
        tidy_spec(parameters);
        return;
    }
    for spec in parameters.values_mut().filter_map(Value::as_object_mut) {
        let says_optional = spec.get("type").and_then(Value::as_str).is_some_and(|t| t.contains("optional"));
        let is_required = !says_optional && !spec.contains_key("default");
        tidy_spec(spec);
        if !spec.contains_key("required") {
            spec.insert("required".into(), is_required.into());
        }
    }
}

fn tidy_spec(spec: &mut Map<String, Value>) {
    if let Some(Value::String(name)) = spec.get_mut("type") {
        match ValueType::named(name) {
            Some(known) => *name = known.json_name().map_or_else(|| name.clone(), str::to_owned),
            // A type such as `Callable` has no equivalent, so any value is allowed.
            None => _ = spec.shift_remove("type"),
        }
    }
    if let Some(Value::Object(items)) = spec.get_mut("items") {
        tidy_spec(items);
    }
    if let Some(Value::Object(properties)) = spec.get_mut("properties") {
        properties.values_mut().filter_map(Value::as_object_mut).for_each(tidy_spec);
    }
}
