//! Scoring by the rules of the Berkeley Function Calling Leaderboard's AST checker (`ast_checker.py` of gorilla).
//!
//! Each argument has several acceptable values; `""` among them means that it may be left out. Text is compared in lower case
//! without spaces and `,./-_*^`. Calls may come in any order. Where nothing is to be called ("irrelevance"), any call is wrong.
//!
//! Differs in that a model here is asked in its own prompt form, and answers JSON instead of Python calls.

use needle_data::{Call, Tool};
use serde_json::Value;

use super::score::same_value;

/// Whether `calls` is one of the answers that `ground_truth` (`[{name: {argument: [values]}}]`) accepts.
pub fn is_acceptable(tools: &[Tool], ground_truth: &[Value], calls: &[Call]) -> bool {
    if calls.len() != ground_truth.len() {
        return false;
    }
    let mut free: Vec<&Value> = ground_truth.iter().collect();
    calls.iter().all(|call| {
        let found = free.iter().position(|truth| accepts(tools, truth, call));
        found.map(|i| free.remove(i)).is_some()
    })
}

fn accepts(tools: &[Tool], truth: &Value, call: &Call) -> bool {
    let Some(acceptable) = truth.get(&call.name).and_then(Value::as_object) else { return false };
    let Some(tool) = tools.iter().find(|tool| tool.name == call.name) else { return false };
    let has_required = tool.parameters.iter().all(|p| !p.is_required() || call.arguments.contains_key(&p.name));
    let given = call.arguments.iter().all(|(name, value)| {
        let declared = tool.parameter(name).is_some_and(|parameter| is_of_type(parameter.spec.get("type"), value));
        declared && acceptable.get(name).and_then(Value::as_array).is_some_and(|values| any_matches(value, values))
    });
    let left_out = acceptable.iter().all(|(name, values)| call.arguments.contains_key(name) || is_optional(values));
    has_required && given && left_out
}

/// An integer may stand for a number, but not a fraction for an integer.
fn is_of_type(declared: Option<&Value>, value: &Value) -> bool {
    match declared.and_then(Value::as_str) {
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number" | "float") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    }
}

fn is_optional(values: &Value) -> bool {
    values.as_array().is_some_and(|values| values.iter().any(|v| v == ""))
}

fn any_matches(value: &Value, acceptable: &[Value]) -> bool {
    acceptable.iter().any(|other| matches(value, other))
}

fn matches(value: &Value, acceptable: &Value) -> bool {
    match (value, acceptable) {
        (Value::String(a), Value::String(b)) => standardized(a) == standardized(b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| matches(a, b)),
        (Value::Object(given), Value::Object(acceptable)) => {
            let is_right = |(key, value): (&String, &Value)| match acceptable.get(key) {
                Some(Value::Array(values)) => any_matches(value, values),
                Some(other) => matches(value, other),
                None => false,
            };
            given.iter().all(is_right)
                && acceptable.iter().all(|(key, values)| given.contains_key(key) || is_optional(values))
        }
        _ => same_value(value, acceptable),
    }
}

fn standardized(text: &str) -> String {
    let kept = text.chars().filter(|c| !" ,./-_*^".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == '\'' { '"' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use needle_data::text::example::parse_answers;
    use serde_json::json;

    #[test]
    fn several_values_optional_arguments_order_and_irrelevance_count_as_the_leaderboard_counts_them() {
        let tools = Tool::list_from_json(&json!([
            {"name": "a.b", "parameters": {"x": {"type": "integer", "required": true}, "s": {"type": "string"}, "f": {"type": "number"}}},
            {"name": "c", "parameters": {"o": {"type": "object"}, "l": {"type": "array"}}}]))
        .unwrap();
        let one = json!([{"a.b": {"x": [5, 6], "s": ["New York, NY", "NYC", ""], "f": ["", 2.0]}}]);
        let two =
            json!([{"c": {"l": [["A", "b"]], "o": [{"k": [1, 2], "m": ["x", ""]}]}}, {"a.b": {"x": [1], "s": [""]}}]);
        for (truth, answer, expected) in [
            (&one, json!([{"name": "a.b", "arguments": {"x": 6}}]), true),
            (&one, json!([{"name": "a.b", "arguments": {"x": 5, "s": "new york ny", "f": 2}}]), true),
            (&one, json!([{"name": "a.b", "arguments": {"x": 7}}]), false),
            (&one, json!([{"name": "a.b", "arguments": {"x": 5.0}}]), false),
            (&one, json!([{"name": "a.b", "arguments": {"x": 5, "s": "Boston"}}]), false),
            (&one, json!([{"name": "a.b", "arguments": {"s": "NYC"}}]), false),
            (&one, json!([{"name": "a.b", "arguments": {"x": 5, "z": 1}}]), false),
            (&one, json!([]), false),
            (
                &two,
                json!([{"name": "a.b", "arguments": {"x": 1}}, {"name": "c", "arguments": {"l": ["a", "B"], "o": {"k": 2}}}]),
                true,
            ),
            (
                &two,
                json!([{"name": "a.b", "arguments": {"x": 1}}, {"name": "c", "arguments": {"l": ["b", "a"], "o": {"k": 2}}}]),
                false,
            ),
            (
                &two,
                json!([{"name": "c", "arguments": {"l": ["a", "b"], "o": {"m": "x"}}}, {"name": "a.b", "arguments": {"x": 1}}]),
                false,
            ),
            (&json!([]), json!([]), true),
            (&json!([]), json!([{"name": "c"}]), false),
        ] {
            let calls = parse_answers(Some(&answer)).unwrap();
            assert_eq!(is_acceptable(&tools, truth.as_array().unwrap(), &calls), expected, "{answer}");
        }
    }
}
