//! Checks an argument's value against its declaration, in the part of JSON Schema that tools use
//! (<https://json-schema.org/draft/2020-12/json-schema-validation>).
//!
//! It reads `type`, `enum`, `const`, `items`, `properties`, `required`, `additionalProperties`,
//! `anyOf`, `oneOf`, `allOf`, and the bounds of numbers, strings and lists. It ignores `pattern`,
//! `format` and references. A type may also have its Python name (`str`, `List[int]`), as in
//! several datasets.

use std::fmt;

use serde_json::{Map, Value};

/// A declaration, or a part of one.
type Spec = Map<String, Value>;

/// Where inside a declaration or a value something is wrong, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Path from the outermost value, such as `[1].city`; empty for that value itself.
    pub at: String,
    /// What was found and what was expected.
    pub reason: String,
}

impl Mismatch {
    fn new(reason: String) -> Self {
        Self { at: String::new(), reason }
    }

    /// The same mismatch with `outer` before its path.
    fn inside(mut self, outer: impl fmt::Display) -> Self {
        self.at.insert_str(0, &outer.to_string());
        self
    }
}

/// A type of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// A string.
    String,
    /// A number without a fraction; `3.0` is one.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A list.
    Array,
    /// An object.
    Object,
    /// `null`.
    Null,
    /// Any value: Python's `Any` and unions.
    Any,
}

impl ValueType {
    /// The type that JSON Schema, Python or Java calls `name`, in upper or lower case; xLAM's
    /// `str, optional` is `str`.
    pub fn named(name: &str) -> Option<Self> {
        if name.contains('|') {
            return Some(Self::Any);
        }
        let plain = name.split(',').next().unwrap_or(name).trim();
        let plain = plain.strip_prefix("Optional[").and_then(|inner| inner.strip_suffix(']')).unwrap_or(plain);
        let outer = plain.split(['[', '(']).next().unwrap_or(plain).trim().to_ascii_lowercase();
        Some(match outer.as_str() {
            "string" | "str" => Self::String,
            "integer" | "int" | "long" => Self::Integer,
            "number" | "float" | "double" => Self::Number,
            "boolean" | "bool" => Self::Boolean,
            "array" | "list" | "tuple" | "set" | "arraylist" => Self::Array,
            "object" | "dict" | "hashmap" => Self::Object,
            "null" | "none" => Self::Null,
            "any" | "union" | "optional" => Self::Any,
            _ => return None,
        })
    }

    /// JSON Schema's name of the type; `None` for [`ValueType::Any`].
    pub fn json_name(self) -> Option<&'static str> {
        Some(match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
            Self::Null => "null",
            Self::Any => return None,
        })
    }

    /// True if `value` is of this type.
    pub fn holds(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|x| x.fract() == 0.0),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
            Self::Null => value.is_null(),
            Self::Any => true,
        }
    }
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

/// Checks that a declaration is well formed: a malformed keyword would constrain nothing.
///
/// # Errors
/// The first keyword with a value that it cannot have.
pub fn check(spec: &Spec) -> Result<(), Mismatch> {
    spec.iter().try_for_each(|(keyword, value)| {
        let expected = |what: &str| Err(Mismatch::new(format!("expected {what}, got {value}")));
        let checked = match keyword.as_str() {
            _ if value.is_null() && keyword != "const" => Ok(()),
            "type" => check_type(value),
            "enum" if !value.is_array() => expected("a list of allowed values"),
            "required" => match value {
                Value::Bool(_) => Ok(()),
                Value::Array(names) if names.iter().all(Value::is_string) => Ok(()),
                _ => expected("true or false, or for an object a list of names"),
            },
            "items" | "additionalProperties" => match value {
                Value::Array(list) if keyword == "items" => check_each(list),
                value => check_nested(value),
            },
            "properties" => match value {
                Value::Object(members) => members.iter().try_for_each(|(name, member)| {
                    check_nested(member).map_err(|mismatch| mismatch.inside(format_args!(".{name}")))
                }),
                _ => expected("an object of declarations"),
            },
            "anyOf" | "oneOf" | "allOf" => match value {
                Value::Array(list) if !list.is_empty() => check_each(list),
                _ => expected("a list of declarations"),
            },
            "minimum" | "maximum" if !value.is_number() => expected("a number"),
            "exclusiveMinimum" | "exclusiveMaximum" if !value.is_number() && !value.is_boolean() => {
                expected("a number")
            }
            "minLength" | "maxLength" | "minItems" | "maxItems" if !is_count(value) => {
                expected("a whole number, at least 0")
            }
            _ => Ok(()),
        };
        checked.map_err(|mismatch| mismatch.inside(format_args!(".{keyword}")))
    })
}

/// True for a whole number that is at least 0, also when it is written as 10.0.
fn is_count(value: &Value) -> bool {
    value.as_f64().is_some_and(|count| count >= 0.0 && count.fract() == 0.0)
}

fn check_type(value: &Value) -> Result<(), Mismatch> {
    const NAMES: &str = "string, number, integer, boolean, array, object or null";
    let check = |name: &Value| match name.as_str().map(ValueType::named) {
        Some(Some(_)) => Ok(()),
        Some(None) => Err(Mismatch::new(format!("{name} is not a JSON type; expected {NAMES}"))),
        None => Err(Mismatch::new(format!("expected the name of a type ({NAMES}), got {name}"))),
    };
    match value {
        Value::Array(names) if !names.is_empty() => names.iter().try_for_each(check),
        one => check(one),
    }
}

fn check_each(list: &[Value]) -> Result<(), Mismatch> {
    let mut numbered = list.iter().enumerate();
    numbered.try_for_each(|(i, spec)| check_nested(spec).map_err(|mismatch| mismatch.inside(format_args!("[{i}]"))))
}

/// `true` and `false` are declarations, too: `true` allows every value and `false` none.
fn check_nested(value: &Value) -> Result<(), Mismatch> {
    match value {
        Value::Object(spec) => check(spec),
        Value::Bool(_) => Ok(()),
        other => Err(Mismatch::new(format!("expected an object such as {{\"type\":\"string\"}}, got {}", kind(other)))),
    }
}

/// The first place where `value` differs from its declaration `spec`, or `None` if it fits.
/// `required` lists the members that an object must have.
pub fn mismatch(spec: &Spec, required: &[String], value: &Value) -> Option<Mismatch> {
    let own = || choice(spec, value).or_else(|| of_type(spec, value)).or_else(|| bounds(spec, value));
    own().map(Mismatch::new).or_else(|| combined(spec, value)).or_else(|| match value {
        Value::Array(items) => in_list(spec, items),
        Value::Object(members) => in_object(spec, required, members),
        _ => None,
    })
}

/// The members that `spec` requires of an object.
pub fn required_members(spec: &Spec) -> Vec<String> {
    let listed = spec.get("required").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn nested(spec: &Value, value: &Value) -> Option<Mismatch> {
    match spec {
        Value::Object(spec) => mismatch(spec, &required_members(spec), value),
        Value::Bool(false) => Some(Mismatch::new("nothing is allowed here".into())),
        _ => None,
    }
}

fn choice(spec: &Spec, value: &Value) -> Option<String> {
    if let Some(only) = spec.get("const")
        && !is_equal(only, value)
    {
        return Some(format!("{value} is not {only}"));
    }
    let allowed = spec.get("enum").and_then(Value::as_array)?;
    (!allowed.iter().any(|one| is_equal(one, value))).then(|| {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        format!("{value} is not one of {}", allowed.join(", "))
    })
}

/// Numbers compare by value, not by spelling: 1 equals 1.0.
fn is_equal(a: &Value, b: &Value) -> bool {
    a == b || (a.is_f64() || b.is_f64()) && a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a == b)
}

fn of_type(spec: &Spec, value: &Value) -> Option<String> {
    let types: Vec<&str> = match spec.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let fits = |name: &&str| ValueType::named(name).is_none_or(|t| t.holds(value));
    (!types.is_empty() && !types.iter().any(fits)).then(|| format!("expected {}, got {value}", types.join(" or ")))
}

fn bounds(spec: &Spec, value: &Value) -> Option<String> {
    let limit = |keyword: &str| spec.get(keyword).and_then(Value::as_f64);
    let (measure, what, [least, most]) = match value {
        Value::Number(number) => (number.as_f64()?, "", ["minimum", "maximum"]),
        Value::String(text) => (text.chars().count() as f64, " characters", ["minLength", "maxLength"]),
        Value::Array(items) => (items.len() as f64, " items", ["minItems", "maxItems"]),
        _ => return None,
    };
    let exclusive = |keyword: &str| limit(keyword).filter(|_| value.is_number());
    if let Some(least) = limit(least).filter(|least| measure < *least) {
        return Some(format!("expected at least {least}{what}, got {value}"));
    }
    if let Some(most) = limit(most).filter(|most| measure > *most) {
        return Some(format!("expected at most {most}{what}, got {value}"));
    }
    if let Some(least) = exclusive("exclusiveMinimum").filter(|least| measure <= *least) {
        return Some(format!("expected more than {least}, got {value}"));
    }
    let most = exclusive("exclusiveMaximum").filter(|most| measure >= *most)?;
    Some(format!("expected less than {most}, got {value}"))
}

fn combined(spec: &Spec, value: &Value) -> Option<Mismatch> {
    let list = |keyword: &str| spec.get(keyword).and_then(Value::as_array);
    let fitting = |specs: &[Value]| specs.iter().filter(|spec| nested(spec, value).is_none()).count();
    if let Some(first) = list("allOf").into_iter().flatten().find_map(|spec| nested(spec, value)) {
        return Some(first);
    }
    if list("anyOf").is_some_and(|specs| fitting(specs) == 0) {
        return Some(Mismatch::new(format!("{value} fits none of anyOf")));
    }
    let fits = fitting(list("oneOf")?);
    (fits != 1).then(|| Mismatch::new(format!("{value} fits {fits} of oneOf; expected one")))
}

fn in_list(spec: &Spec, items: &[Value]) -> Option<Mismatch> {
    let declared = spec.get("items")?;
    items.iter().enumerate().find_map(|(i, item)| {
        // An older form of JSON Schema declares items one by one.
        let declared = declared.as_array().map_or(Some(declared), |each| each.get(i))?;
        nested(declared, item).map(|mismatch| mismatch.inside(format_args!("[{i}]")))
    })
}

fn in_object(spec: &Spec, required: &[String], members: &Map<String, Value>) -> Option<Mismatch> {
    let properties = spec.get("properties").and_then(Value::as_object);
    let has = |name: &String| members.contains_key(name);
    // The native form flags each required member; JSON Schema lists their names beside
    // `properties`.
    let flagged = properties.into_iter().flatten().filter(|(_, spec)| spec["required"] == true).map(|(name, _)| name);
    if let Some(missing) = required.iter().chain(flagged).find(|name| !has(name)) {
        return Some(Mismatch::new("required but missing".into()).inside(format_args!(".{missing}")));
    }
    members.iter().find_map(|(name, value)| {
        let mismatch = match (properties.and_then(|all| all.get(name)), spec.get("additionalProperties")) {
            (Some(declared), _) => nested(declared, value),
            (None, Some(Value::Bool(false))) => Some(Mismatch::new("not among the properties".into())),
            (None, Some(others)) => nested(others, value),
            (None, None) => None,
        };
        mismatch.map(|mismatch| mismatch.inside(format_args!(".{name}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(spec: &Value, value: &Value) -> Option<(String, String)> {
        let spec = spec.as_object().unwrap();
        check(spec).unwrap();
        mismatch(spec, &required_members(spec), value).map(|mismatch| (mismatch.at, mismatch.reason))
    }

    #[test]
    fn values_are_checked_as_deep_as_they_are_declared() {
        let rooms = json!({"type": "array", "maxItems": 3, "items": {"type": "string", "enum": ["hall", "attic"]}});
        let person = json!({"type": "object", "required": ["name"], "additionalProperties": false, "properties": {
            "name": {"type": "string", "minLength": 1},
            "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 150},
            "pets": {"type": "List[dict]", "items": {"properties": {"kind": {"type": "str", "required": true}}}}}});
        let either = json!({"anyOf": [{"type": "integer"}, {"const": "all"}]});
        for (spec, value, at) in [
            (&rooms, json!(["hall", "attic"]), None),
            (&rooms, json!([]), None),
            (&rooms, json!(["hall", "cellar"]), Some("[1]")),
            (&rooms, json!(["hall", 3]), Some("[1]")),
            (&rooms, json!(["hall", "hall", "hall", "hall"]), Some("")),
            (&rooms, json!("hall"), Some("")),
            (&person, json!({"name": "Zoë", "age": 3.0}), None),
            (&person, json!({"age": 3}), Some(".name")),
            (&person, json!({"name": ""}), Some(".name")),
            (&person, json!({"name": "a", "age": -1}), Some(".age")),
            (&person, json!({"name": "a", "age": 150}), Some(".age")),
            (&person, json!({"name": "a", "agee": 3}), Some(".agee")),
            (&person, json!({"name": "a", "pets": [{"kind": "cat"}, {}]}), Some(".pets[1].kind")),
            (&either, json!(3), None),
            (&either, json!("all"), None),
            (&either, json!("some"), Some("")),
            (&json!({"oneOf": [{"type": "number"}, {"type": "integer"}]}), json!(3), Some("")),
            (&json!({"allOf": [{"type": "number"}, {"maximum": 5}]}), json!(6), Some("")),
            (&json!({"enum": [1, "on"]}), json!(1.0), None),
            (&json!({"type": ["string", "null"]}), json!(null), None),
            (&json!({"type": "Optional[Dict[str, int]]"}), json!(1), None),
            (
                &json!({"type": "array", "items": [{"type": "string"}, {"type": "integer"}]}),
                json!(["a", "b"]),
                Some("[1]"),
            ),
            (&json!({"items": false}), json!([1]), Some("[0]")),
        ] {
            assert_eq!(found(spec, &value).map(|(at, _)| at).as_deref(), at, "{value} for {spec}");
        }
        assert_eq!(found(&rooms, &json!(["cellar"])).unwrap().1, r#""cellar" is not one of "hall", "attic""#);
    }

    #[test]
    fn a_declaration_that_nobody_could_check_is_refused_where_it_goes_wrong() {
        for (spec, at) in [
            (json!({"type": "nonsense"}), ".type"),
            (json!({"type": ["string", "date"]}), ".type"),
            (json!({"type": 3}), ".type"),
            (json!({"type": []}), ".type"),
            (json!({"enum": "x"}), ".enum"),
            (json!({"required": "true"}), ".required"),
            (json!({"required": [1]}), ".required"),
            (json!({"items": "string"}), ".items"),
            (json!({"items": {"type": "array", "items": {"enum": {}}}}), ".items.items.enum"),
            (json!({"properties": {"a b": {"required": 1}}}), ".properties.a b.required"),
            (json!({"properties": ["a"]}), ".properties"),
            (json!({"anyOf": [{}, {"type": "x"}]}), ".anyOf[1].type"),
            (json!({"minimum": "3"}), ".minimum"),
            (json!({"maxItems": -1}), ".maxItems"),
        ] {
            assert_eq!(check(spec.as_object().unwrap()).unwrap_err().at, at, "{spec}");
        }
        for spec in [json!({"type": "str, optional", "enum": null}), json!({"items": true}), json!({"deprecated": "x"})]
        {
            check(spec.as_object().unwrap()).unwrap();
        }
    }
}
