//! What is taken out of a shape that no grammar holds: the hardest keywords first, until a grammar
//! holds what is left.
//!
//! The answer is checked against the whole schema once it is there, so that a keyword which is
//! taken out here is checked instead of enforced; the report says so.

use super::number::{LARGEST, LARGEST_FACTOR, NumberShape};
use super::shape::{ANYTHING, ArrayShape, Shape, StringShape};
use super::string;

/// More items than this are no longer asked of an answer.
const MOST_ITEMS: usize = 4096;

/// More items than this are no longer of a schema each.
const LONGEST_TUPLE: usize = 200;

/// Whether a grammar holds a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// It does.
    Held,
    /// Nothing is of the shape.
    Nothing,
    /// It does not, and why.
    TooHard(String),
}

/// Keywords that were taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The keywords: all of them that the schemas of the value have.
    pub keywords: &'static [&'static str],
    /// Of `pattern` and `format`, the regular expressions.
    pub patterns: Vec<String>,
    /// Why.
    pub reason: String,
}

/// Whether a grammar holds `shape`.
pub fn holding(shape: &Shape) -> Holding {
    match shape {
        Shape::String(shape) => string::holding(shape),
        Shape::Number(shape) => number_holding(shape),
        Shape::Array(shape) if shape.prefix.len() > LONGEST_TUPLE => {
            Holding::TooHard(format!("a grammar holds the schemas of at most {LONGEST_TUPLE} items one by one"))
        }
        Shape::Array(shape) if shape.min > MOST_ITEMS => {
            Holding::TooHard(format!("no answer has more than {MOST_ITEMS} items"))
        }
        _ => Holding::Held,
    }
}

/// What a grammar holds of `shape`, and what was taken out for it; none if nothing is of the shape.
/// Of a string's patterns, `formats` are those of formats.
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
        return Holding::TooHard(format!("a grammar holds steps of at most {LARGEST_FACTOR}"));
    }
    let is_beyond = shape.min.is_some_and(|min| min > LARGEST) || shape.max.is_some_and(|max| max < -LARGEST);
    if is_beyond || shape.shortest().is_none() {
        return Holding::TooHard("a grammar holds numbers of at most 18 digits".to_owned());
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
