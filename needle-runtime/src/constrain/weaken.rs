//! Weakens a shape that a grammar cannot express: drops the hardest keywords first, until a grammar
//! can express the rest.
//!
//! The finished answer is checked against the whole schema, so a keyword that is dropped here is
//! checked instead of enforced; the report says so.

use super::number::{LARGEST, LARGEST_FACTOR, NumberShape};
use super::shape::{ANYTHING, ArrayShape, Shape, StringShape};
use super::string;

/// A `minItems` above this is not enforced.
const MOST_ITEMS: usize = 4096;

/// A list with more `prefixItems` than this is not enforced item by item.
const LONGEST_TUPLE: usize = 200;

/// Whether a grammar can express a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// It can.
    Held,
    /// No value has the shape.
    Nothing,
    /// It cannot, and why.
    TooHard(String),
}

/// Keywords that were dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The keywords: those of them that the schemas of the value have.
    pub keywords: &'static [&'static str],
    /// The dropped regular expressions, if the keyword is `pattern` or `format`.
    pub patterns: Vec<String>,
    /// Why they were dropped.
    pub reason: String,
}

/// Whether a grammar can express `shape`.
pub fn holding(shape: &Shape) -> Holding {
    match shape {
        Shape::String(shape) => string::holding(shape),
        Shape::Number(shape) => number_holding(shape),
        Shape::Array(shape) if shape.prefix.len() > LONGEST_TUPLE => {
            Holding::TooHard(format!("a grammar can have separate schemas for at most {LONGEST_TUPLE} items"))
        }
        Shape::Array(shape) if shape.min > MOST_ITEMS => {
            Holding::TooHard(format!("an answer has at most {MOST_ITEMS} items"))
        }
        _ => Holding::Held,
    }
}

/// `shape` without the keywords that a grammar cannot express, and these keywords. The shape is
/// `None` if no value has it. `formats` are those of a string's patterns that come from `format`.
pub fn weakened(mut shape: Shape, formats: &[String]) -> (Option<Shape>, Vec<Dropped>) {
    let mut dropped = Vec::new();
    loop {
        let reason = match holding(&shape) {
            Holding::Held => return (Some(shape), dropped),
            Holding::Nothing => return (None, dropped),
            Holding::TooHard(reason) => reason,
        };
        let (keywords, patterns) = match &mut shape {
            Shape::String(shape) => drop_from_string(shape, formats),
            Shape::Number(shape) => (drop_from_number(shape), Vec::new()),
            Shape::Array(shape) if shape.prefix.len() > LONGEST_TUPLE => {
                (shape.prefix, shape.items) = (Vec::new(), Some(ANYTHING));
                (["prefixItems", "items", "additionalItems"].as_slice(), Vec::new())
            }
            Shape::Array(ArrayShape { min, .. }) => {
                *min = 0;
                (["minItems"].as_slice(), Vec::new())
            }
            Shape::Literals(_) | Shape::Object(_) => return (Some(shape), dropped),
        };
        dropped.push(Dropped { keywords, patterns, reason });
    }
}

type DroppedPatterns = (&'static [&'static str], Vec<String>);

fn drop_from_string(shape: &mut StringShape, formats: &[String]) -> DroppedPatterns {
    let (of_formats, others): (Vec<_>, Vec<_>) =
        std::mem::take(&mut shape.patterns).into_iter().partition(|pattern| formats.contains(pattern));
    if !of_formats.is_empty() {
        shape.patterns = others;
        return (&["format"], of_formats);
    }
    if !others.is_empty() {
        return (&["pattern"], others);
    }
    (shape.min_chars, shape.max_chars) = (0, None);
    (&["minLength", "maxLength"], Vec::new())
}

fn number_holding(shape: &NumberShape) -> Holding {
    if shape.is_empty() {
        return Holding::Nothing;
    }
    if shape.factor().is_some_and(|factor| factor > LARGEST_FACTOR) {
        return Holding::TooHard(format!(
            "a grammar can have steps of at most {LARGEST_FACTOR}, ignoring the decimal point"
        ));
    }
    let is_beyond = shape.min.is_some_and(|min| min > LARGEST) || shape.max.is_some_and(|max| max < -LARGEST);
    if is_beyond || shape.shortest().is_none() {
        return Holding::TooHard("a grammar can have numbers of at most 18 digits".to_owned());
    }
    Holding::Held
}

fn drop_from_number(shape: &mut NumberShape) -> &'static [&'static str] {
    if shape.multiple_of.take().is_some() {
        return &["multipleOf"];
    }
    (shape.min, shape.max) = (None, None);
    &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
}
