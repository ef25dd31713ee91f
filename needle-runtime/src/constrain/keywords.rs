//! The shapes of numbers and strings that a schema's keywords describe, and the shape of any value.

use needle_data::text::json_schema::{self, size};
use serde_json::{Map, Value};

use super::number::{LARGEST_STEP, NumberShape};
use super::shape::{ANYTHING, ArrayShape, ObjectShape, Others, Shape, StringShape};
use super::string::is_grammatical;

/// Steps outside this range are not in the grammar; they are checked after decoding.
const MULTIPLES: std::ops::RangeInclusive<f64> = 1e-6..=LARGEST_STEP;
/// A limit on the length of a string or a list has no effect from here on: the answer's own limit
/// is lower.
pub const LONGEST: usize = 1 << 15;

/// Prepares numbers with a step for the grammar: lists them if they are few, and otherwise rounds
/// their bounds to integers.
pub fn with_few_steps(shape: Shape) -> Option<Shape> {
    let Shape::Number(mut number) = shape else { return Some(shape) };
    if let Some(texts) = number.listed() {
        return (!texts.is_empty()).then_some(Shape::Literals(texts));
    }
    if number.multiple_of.is_some() {
        (number.min, number.max) = (number.min.map(f64::ceil), number.max.map(f64::floor));
    }
    Some(Shape::Number(number))
}

/// The shapes of any JSON value.
pub fn anything() -> Vec<Shape> {
    vec![
        Shape::Literals(vec!["null".into()]),
        Shape::Literals(vec!["true".into(), "false".into()]),
        Shape::Number(NumberShape::default()),
        Shape::String(StringShape::default()),
        Shape::Array(ArrayShape { prefix: Vec::new(), items: Some(ANYTHING), min: 0, max: None }),
        Shape::Object(ObjectShape { members: Vec::new(), others: Others::Unsaid(ANYTHING), is_ordered: false }),
    ]
}

/// The step of `multipleOf`, if the grammar can enforce it.
pub fn step(schema: &Map<String, Value>) -> Option<f64> {
    let step = schema.get("multipleOf").and_then(Value::as_f64)?;
    let millionths = step * 1e6;
    (MULTIPLES.contains(&step) && (millionths - millionths.round()).abs() < 1e-9 * millionths).then_some(step)
}

/// The numbers that the keywords of `schema` allow; `None` if there are none.
pub fn number(schema: &Map<String, Value>, is_integer: bool) -> Option<NumberShape> {
    let mut shape = NumberShape { is_integer, multiple_of: step(schema), ..NumberShape::default() };
    for bound in json_schema::bounds(schema) {
        // An exclusive limit becomes the next integer, or the next number that rounding cannot turn
        // into the limit.
        let gap = if is_integer { 0.0 } else { bound.limit.abs().max(1.0) * 1e-9 };
        let limit = match (bound.is_upper, bound.is_exclusive, is_integer) {
            (true, false, true) => bound.limit.floor(),
            (true, true, true) => bound.limit.ceil() - 1.0,
            (false, false, true) => bound.limit.ceil(),
            (false, true, true) => bound.limit.floor() + 1.0,
            (true, true, false) => bound.limit - gap,
            (false, true, false) => bound.limit + gap,
            (_, false, false) => bound.limit,
        };
        if bound.is_upper {
            shape.max = Some(shape.max.map_or(limit, |max| max.min(limit)));
        } else {
            shape.min = Some(shape.min.map_or(limit, |min| min.max(limit)));
        }
    }
    let shape = shape.with_whole_steps();
    (!shape.is_empty()).then_some(shape)
}

/// The regular expression of strings of this format, if the format is known.
pub fn format_regex(format: &str) -> Option<String> {
    json_schema::format_pattern(format).map(|pattern| format!("^(?:{pattern})$"))
}

/// The strings that the keywords of `schema` allow; `None` if there are none.
pub fn string(schema: &Map<String, Value>, is_copied: bool) -> Option<StringShape> {
    let mut patterns = Vec::new();
    if let Some(Value::String(pattern)) = schema.get("pattern")
        && is_grammatical(pattern)
    {
        patterns.push(pattern.clone());
    }
    if let Some(Value::String(format)) = schema.get("format")
        && let Some(pattern) = format_regex(format)
    {
        patterns.push(pattern);
    }
    let is_copied = is_copied || schema.get("x-from-query") == Some(&Value::Bool(true));
    let min_chars = size(schema, "minLength").unwrap_or(0);
    // An answer is never longer than `LONGEST`, so a higher limit has no effect.
    let max_chars = size(schema, "maxLength").filter(|&max| max < LONGEST);
    max_chars.is_none_or(|max| min_chars <= max).then_some(StringShape { min_chars, max_chars, patterns, is_copied })
}
