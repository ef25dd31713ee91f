//! Scoring by the rules of the Berkeley Function Calling Leaderboard's AST checker
//! (`ast_checker.py` of gorilla, in the Python package `bfcl-eval`).
//!
//! Each argument has several acceptable values; `""` among them means that it may be left out.
//! Strings are compared in lower case, without spaces and `,./-_*^`; this includes the elements of
//! a list or of an object, but nothing nested deeper. Calls may come in any order. A value that
//! does not have the declared type, but the type of the acceptable ones, stands for a variable and
//! must be equal. Where nothing is to be called ("irrelevance"), any call is wrong; where anything
//! may be ("relevance"), any call is right.
//!
//! We follow the leaderboard even where its verdict is questionable, for example where it ignores
//! objects within objects; `scripts/check_bfcl.py` compares the two. One difference remains: our
//! model is asked in its own prompt format and answers in JSON. For Java and JavaScript, the
//! leaderboard reads source text instead and converts it to values.

use needle_data::convert::BfclTruth;
use needle_data::{Call, Tool};
use serde_json::{Map, Value};

/// Whether `truth` accepts `calls`. They are `None` if the answer was not a list of calls, which
/// the leaderboard counts as no call.
pub fn is_acceptable(tools: &[Tool], truth: &BfclTruth, calls: Option<&[Call]>) -> bool {
    let calls = calls.unwrap_or_default();
    let truth = match truth {
        BfclTruth::NoCall => return calls.is_empty(),
        BfclTruth::AnyCall => return !calls.is_empty(),
        BfclTruth::Calls(truth) => truth,
    };
    let mut free: Vec<&Call> = calls.iter().collect();
    let finds_its_call = |truth: &Value| {
        let found = free.iter().position(|call| accepts(tools, truth, call));
        found.map(|i| free.remove(i)).is_some()
    };
    calls.len() == truth.len() && truth.iter().all(finds_its_call)
}

/// Whether `call` is the call that `truth` (`{name: {argument: [values]}}`) describes.
fn accepts(tools: &[Tool], truth: &Value, call: &Call) -> bool {
    let Some(acceptable) = truth.get(&call.name).and_then(Value::as_object) else { return false };
    let Some(tool) = tools.iter().find(|tool| tool.name == call.name) else { return false };
    let has_required = tool.parameters.iter().all(|p| !p.is_required() || call.arguments.contains_key(&p.name));
    let is_right = |(name, value): (&String, &Value)| {
        let declared = tool.parameter(name).map(|parameter| &parameter.spec);
        let possible = acceptable.get(name).and_then(Value::as_array);
        declared.zip(possible).is_some_and(|(declared, possible)| is_possible(value, possible, declared))
    };
    let is_left_out = |(name, values): (&String, &Value)| call.arguments.contains_key(name) || is_optional(values);
    has_required && call.arguments.iter().all(is_right) && acceptable.iter().all(is_left_out)
}

/// A type in Python, in which the leaderboard compares values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Bool,
    Int,
    Float,
    Str,
    List,
    Dict,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Number(n) if n.is_f64() => Self::Float,
            Value::Number(_) => Self::Int,
            Value::String(_) => Self::Str,
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Dict,
        }
    }

    /// The declared type; unknown types count as strings.
    fn declared(spec: &Map<String, Value>) -> Self {
        match spec.get("type").and_then(Value::as_str) {
            Some("integer") => Self::Int,
            Some("number" | "float") => Self::Float,
            Some("boolean") => Self::Bool,
            Some("array") => Self::List,
            Some("object") => Self::Dict,
            _ => Self::Str,
        }
    }
}

/// Whether `value` is one of the `possible` values of a parameter that is declared as `spec`.
fn is_possible(value: &Value, possible: &[Value], spec: &Map<String, Value>) -> bool {
    let expected = Kind::declared(spec);
    let items = spec.get("items").and_then(Value::as_object);
    let element = (expected == Kind::List).then(|| items.map_or(Kind::Str, Kind::declared));
    let widened = match value.as_i64() {
        Some(whole) if expected == Kind::Float => Value::from(whole as f64),
        _ => value.clone(),
    };
    let value = &widened;
    match typed(value, possible, expected, element) {
        None => false,
        Some(Typed::AsVariable) => possible.iter().any(|p| equal(value, p)),
        Some(Typed::AsDeclared) => match (expected, element) {
            (Kind::Dict, _) => possible.iter().any(|p| same_object(value, p)),
            (Kind::List, Some(Kind::Dict)) => possible.iter().any(|p| same_objects(value, p)),
            (Kind::Str | Kind::List, _) => {
                let value = standardized(value);
                possible.iter().any(|p| match (expected, p) {
                    // An empty list counts as one that was left out.
                    (Kind::List, Value::String(text)) => text.is_empty() && value == Value::Array(Vec::new()),
                    (_, p) => equal(&value, &standardized(p)),
                })
            }
            _ => possible.iter().any(|p| equal(value, p)),
        },
    }
}

/// How a value matches its parameter's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Typed {
    AsDeclared,
    /// The acceptable values are of another type than the declared one: names of variables.
    AsVariable,
}

/// Whether `value` is of the `expected` type (its elements of type `element`), or else of the type
/// of the `possible` values.
fn typed(value: &Value, possible: &[Value], expected: Kind, element: Option<Kind>) -> Option<Typed> {
    let kind_of_possible = possible.iter().find(|p| **p != "").map(Kind::of);
    let is_variable = kind_of_possible.is_some_and(|kind| kind != expected);
    if Kind::of(value) != expected {
        return (kind_of_possible == Some(Kind::of(value))).then_some(Typed::AsVariable);
    }
    let elements = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let fits = |p: &Value| match (element, p.as_array()) {
        (Some(kind), Some(p)) => elements.iter().all(|e| typed(e, p, kind, None).is_some()),
        _ => true,
    };
    let fits = element.is_none() || possible.iter().any(fits);
    fits.then_some(if is_variable { Typed::AsVariable } else { Typed::AsDeclared })
}

/// Whether `value` has the members that `possible` (`{key: [values]}`) accepts.
fn same_object(value: &Value, possible: &Value) -> bool {
    let (Some(given), Some(possible)) = (value.as_object(), possible.as_object()) else { return false };
    let is_right = |(key, value): (&String, &Value)| {
        let values = possible.get(key).and_then(Value::as_array);
        let value = standardized_text(value);
        values.is_some_and(|values| values.iter().any(|p| equal(&value, &standardized_text(p))))
    };
    given.iter().all(is_right) && possible.iter().all(|(key, values)| given.contains_key(key) || is_optional(values))
}

fn same_objects(value: &Value, possible: &Value) -> bool {
    match (value, possible) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_object(a, b)),
        (Value::Array(a), Value::String(text)) => a.is_empty() && text.is_empty(),
        _ => false,
    }
}

fn is_optional(values: &Value) -> bool {
    values.as_array().is_some_and(|values| values.iter().any(|v| v == ""))
}

/// Equality as in Python: numbers compare by value, and booleans are 0 or 1.
fn equal(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        other => other.as_f64(),
    };
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b || number(a).is_some_and(|a| number(b) == Some(a)),
    }
}

/// A string, or the strings of a list, in the form in which they are compared.
fn standardized(value: &Value) -> Value {
    match value {
        Value::Array(elements) => elements.iter().map(standardized_text).collect(),
        other => standardized_text(other),
    }
}

fn standardized_text(value: &Value) -> Value {
    let Value::String(text) = value else { return value.clone() };
    let kept = text.chars().filter(|c| !" ,./-_*^".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == '\'' { '"' } else { c }).collect::<String>().into()
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
        ] {
            let calls = parse_answers(Some(&answer)).unwrap();
            let truth = BfclTruth::Calls(truth.as_array().unwrap().clone());
            assert_eq!(is_acceptable(&tools, &truth, Some(&calls)), expected, "{answer}");
        }
        let call = parse_answers(Some(&json!([{"name": "c"}]))).unwrap();
        for (calls, is_call) in [(Some(call.as_slice()), true), (Some(&[]), false), (None, false)] {
            assert_eq!(is_acceptable(&tools, &BfclTruth::NoCall, calls), !is_call);
            assert_eq!(is_acceptable(&tools, &BfclTruth::AnyCall, calls), is_call);
        }
        // Where calls are expected, no call is never right.
        assert!(!is_acceptable(&tools, &BfclTruth::Calls(vec![json!({"c": {}})]), None));
    }

    /// One tool with one parameter of `spec`, its acceptable `values`, and an argument.
    fn accepts_argument(spec: Value, values: Value, argument: Value) -> bool {
        let tools = Tool::list_from_json(&json!([{"name": "t", "parameters": {"p": spec}}])).unwrap();
        let calls = parse_answers(Some(&json!([{"name": "t", "arguments": {"p": argument}}]))).unwrap();
        is_acceptable(&tools, &BfclTruth::Calls(vec![json!({"t": {"p": values}})]), Some(&calls))
    }

    #[test]
    fn values_compare_as_the_leaderboard_compares_them_also_where_it_is_odd() {
        let list = |of: &str| json!({"type": "array", "items": {"type": of}});
        let (int, object) = (json!({"type": "integer"}), json!({"type": "object"}));
        for (spec, values, argument, expected) in [
            // A variable stands for a value of any type, and must match exactly.
            (&int, json!(["Set.SIZE"]), json!("Set.SIZE"), true),
            (&int, json!(["Set.SIZE"]), json!("set.size"), false),
            (&int, json!(["Set.SIZE"]), json!(5), false),
            (&int, json!([1]), json!(true), false),
            (&json!({"type": "number"}), json!([2.0]), json!(2), true),
            // An empty list counts as one that may be left out; numbers in lists are not widened.
            (&list("string"), json!([["a"], ""]), json!([]), true),
            (&list("string"), json!([["a"]]), json!([]), false),
            (&list("number"), json!([[1.5, 2.5]]), json!([1, 2]), false),
            (&list("string"), json!([["A b"]]), json!(["ab"]), true),
            (&list("array"), json!([[["A b"]]]), json!([["ab"]]), false),
            (&object, json!([{"k": ["X"]}]), json!({"k": "x"}), true),
            (&object, json!([{"k": [{"m": ["x"]}]}]), json!({"k": {"m": "x"}}), false),
            (&object, json!([{"k": ["x"]}, ""]), json!({}), false),
            (&list("object"), json!([[{"k": ["X", ""]}]]), json!([{}]), true),
            (&list("object"), json!([[{"k": ["X"]}]]), json!([{"k": "x"}, {"k": "x"}]), false),
        ] {
            assert_eq!(accepts_argument(spec.clone(), values, argument.clone()), expected, "{spec} {argument}");
        }
    }
}
