//! Whether a value can satisfy two alternatives of a `oneOf`.

use std::collections::HashSet;

use needle_data::text::json_schema::{self, check, type_names};
use serde_json::{Map, Value};

/// With more alternatives than this, a `oneOf` is not tested for disjointness.
const MAX_COMPARED: usize = 64;

/// True if no value can satisfy two of the alternatives of a `oneOf`, judging by their types,
/// constants and required constant members. The grammar then enforces the `oneOf` completely.
pub fn are_disjoint(alternatives: &[Value], root: &Value) -> bool {
    if let Some(literals) = all_literals(alternatives) {
        let different: HashSet<&String> = literals.iter().collect();
        return different.len() == literals.len();
    }
    if alternatives.len() > MAX_COMPARED {
        return false;
    }
    let pairs = alternatives.iter().enumerate();
    pairs.clone().all(|(i, a)| alternatives[i + 1..].iter().all(|b| two_are_disjoint(a, b, root, 0)))
}

/// The values of alternatives that are all constants, as canonical texts (equal values have equal
/// texts).
fn all_literals(alternatives: &[Value]) -> Option<Vec<String>> {
    alternatives.iter().map(|one| one.get("const").map(json_schema::canonical)).collect()
}

fn two_are_disjoint(a: &Value, b: &Value, root: &Value, depth: usize) -> bool {
    let follow = |value: &'_ Value| -> Value {
        match value.get("$ref").and_then(Value::as_str).and_then(|r| json_schema::resolve(root, r)) {
            Some(target) => target.clone(),
            None => value.clone(),
        }
    };
    let (a, b) = (follow(a), follow(b));
    let (Value::Object(a), Value::Object(b)) = (&a, &b) else {
        return a == Value::Bool(false) || b == Value::Bool(false);
    };
    let literals = |schema: &Map<String, Value>| match (schema.get("const"), schema.get("enum")) {
        (Some(one), _) => Some(vec![one.clone()]),
        (_, Some(Value::Array(many))) => Some(many.clone()),
        _ => None,
    };
    match (literals(a), literals(b)) {
        (Some(a), Some(b)) => return a.iter().all(|a| b.iter().all(|b| !json_schema::is_equal(a, b))),
        (Some(texts), None) => return texts.iter().all(|text| check(&b.clone().into(), root, text).is_err()),
        (None, Some(texts)) => return texts.iter().all(|text| check(&a.clone().into(), root, text).is_err()),
        (None, None) => {}
    }
    let (types_a, types_b) = (type_names(a), type_names(b));
    let overlap = |a: &&str| {
        let is_number = |name: &str| matches!(name, "integer" | "number");
        types_b.iter().any(|b: &&str| **a == **b || is_number(a) && is_number(b))
    };
    if !types_a.is_empty() && !types_b.is_empty() && !types_a.iter().any(overlap) {
        return true;
    }
    let only_objects = |types: &[&str]| types == ["object"];
    let required = |schema: &Map<String, Value>, name: &str| {
        schema.get("required").and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one == name))
    };
    let properties = |schema: &Map<String, Value>| schema.get("properties").and_then(Value::as_object).cloned();
    let (Some(in_a), Some(in_b)) = (properties(a), properties(b)) else { return false };
    depth < 8
        && only_objects(&types_a)
        && only_objects(&types_b)
        && in_a.iter().any(|(name, a_value)| {
            in_b.get(name).is_some_and(|b_value| {
                required(a, name) && required(b, name) && two_are_disjoint(a_value, b_value, root, depth + 1)
            })
        })
}
