//! Reads fields of a request, with errors that name the field.

use serde_json::{Map, Value};

use super::error::ApiError;

/// The members of a JSON object.
pub type Object = Map<String, Value>;

/// Reads a request's body as a JSON object.
///
/// # Errors
/// If it is anything else.
pub fn object(body: &[u8]) -> Result<Object, ApiError> {
    let bad = |reason: String| ApiError::new(axum::http::StatusCode::BAD_REQUEST, Some("invalid_json"), reason);
    match serde_json::from_slice(body).map_err(|e| bad(format!("the body is not JSON: {e}")))? {
        Value::Object(object) => Ok(object),
        other => Err(bad(format!("expected a JSON object, got {}", kind(&other)))),
    }
}

/// The member `name`, if it exists and is not null.
pub fn get<'a>(object: &'a Object, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// The string in `name`, if any.
///
/// # Errors
/// If it is not a string.
pub fn text<'a>(object: &'a Object, name: &str) -> Result<Option<&'a str>, ApiError> {
    read(object, name, "a string", Value::as_str)
}

/// The boolean in `name`, or `default`.
///
/// # Errors
/// If it is not a boolean.
pub fn flag(object: &Object, name: &str, default: bool) -> Result<bool, ApiError> {
    Ok(read(object, name, "true or false", Value::as_bool)?.unwrap_or(default))
}

/// The positive integer in `name`, if any.
///
/// # Errors
/// If it is not a positive integer.
pub fn count(object: &Object, name: &str) -> Result<Option<usize>, ApiError> {
    let number = |value: &Value| value.as_u64().filter(|&n| n > 0).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    read(object, name, "a whole number above 0", number)
}

/// The probability in `name`, if any.
///
/// # Errors
/// If it is not a number between 0 and 1.
pub fn fraction(object: &Object, name: &str) -> Result<Option<f64>, ApiError> {
    read(object, name, "a number between 0 and 1", |value| value.as_f64().filter(|n| (0.0..=1.0).contains(n)))
}

fn read<'a, T>(
    object: &'a Object,
    name: &str,
    expected: &str,
    as_type: impl Fn(&'a Value) -> Option<T>,
) -> Result<Option<T>, ApiError> {
    let Some(value) = get(object, name) else { return Ok(None) };
    let error = || ApiError::field(name, format!("expected {expected}, got {}", shown(value)));
    as_type(value).ok_or_else(error).map(Some)
}

/// The type of a value, for messages.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value as a message shows it: numbers and booleans as they are, everything that may be long by
/// its type.
fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        other => kind(other).to_owned(),
    }
}
