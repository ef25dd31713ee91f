//! What a value may be, type by type: the intermediate form between schemas and the grammar.
//!
//! A schema allows a list of shapes, and each shape has one JSON type. Parts of a shape are given
//! by [`RuleId`], so that a recursive schema becomes a finite table. `allOf`, `$ref` and keywords
//! beside `anyOf` are intersections of such lists: every shape of one list with every shape of the
//! other that has the same type.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::number::NumberShape;

/// Index of a rule in [`Rules`].
pub type RuleId = usize;

/// One alternative for a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// One of these values, as compact JSON: `null`, booleans, `const`, `enum`.
    Literals(Vec<String>),
    /// A number.
    Number(NumberShape),
    /// A string.
    String(StringShape),
    /// A list.
    Array(ArrayShape),
    /// An object.
    Object(ObjectShape),
}

/// A string.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct StringShape {
    /// Minimum number of characters.
    pub min_chars: usize,
    /// Maximum number of characters.
    pub max_chars: Option<usize>,
    /// Regular expressions that must each match somewhere in the string; those of formats are among
    /// them.
    pub patterns: Vec<String>,
    /// True if the string must be copied from the query.
    pub is_copied: bool,
}

/// A list: first `prefix`, then `items`.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayShape {
    /// Rules of the first items, by position.
    pub prefix: Vec<RuleId>,
    /// Rule of all other items; `None` if there are no others.
    pub items: Option<RuleId>,
    /// Minimum number of items.
    pub min: usize,
    /// Maximum number of items.
    pub max: Option<usize>,
}

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectShape {
    /// Declared members, in order of declaration.
    pub members: Vec<Member>,
    /// Which undeclared members are allowed.
    pub others: Others,
    /// True if members must come in the order of declaration.
    pub is_ordered: bool,
}

/// A declared member of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: RuleId,
    /// True if the object must have it.
    pub is_required: bool,
}

/// Undeclared members of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// The schema does not say. They are allowed only if no member is declared.
    Unsaid(RuleId),
    /// The schema gives their rule.
    Of(RuleId),
    /// There are none.
    None,
}

/// Maximum number of members in a group. Members of a group may come in any order, for which the
/// grammar keeps one bit per member; the groups themselves have a fixed order.
const GROUP: usize = 60;

impl Shape {
    /// True if it has the JSON type of `value`.
    pub fn has_type_of(&self, value: &Value) -> bool {
        match self {
            Self::Literals(_) => value.is_null() || value.is_boolean(),
            Self::Number(_) => value.is_number(),
            Self::String(_) => value.is_string(),
            Self::Array(_) => value.is_array(),
            Self::Object(_) => value.is_object(),
        }
    }
}

impl ArrayShape {
    /// The rule of item `i`.
    pub fn rule_at(&self, i: usize) -> Option<RuleId> {
        self.prefix.get(i).copied().or(self.items)
    }
}

impl ObjectShape {
    /// The indices of the group of member `i`, whose members may come in any order.
    pub fn group(&self, i: usize) -> std::ops::Range<usize> {
        if self.is_ordered {
            return i..i + 1;
        }
        let start = i / GROUP * GROUP;
        start..(start + GROUP).min(self.members.len())
    }

    /// The rule of the undeclared members that an answer may have; `None` if it may have none.
    pub fn others(&self) -> Option<RuleId> {
        match self.others {
            Others::Of(rule) => Some(rule),
            Others::Unsaid(rule) if self.members.is_empty() => Some(rule),
            Others::Unsaid(_) | Others::None => None,
        }
    }
}

/// Shapes by rule. A rule that no value satisfies has no shapes.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The shapes of each rule.
    pub shapes: Vec<Vec<Shape>>,
    /// The shortest text of each rule that has one.
    pub shortest: Vec<Option<String>>,
}

/// Intersects two shapes; `None` if no value has both. `both` returns the rule of values that
/// satisfy two rules.
///
/// Literals are filtered only by type here; the caller checks them against the whole schemas.
pub fn intersect(a: &Shape, b: &Shape, both: &mut dyn FnMut(RuleId, RuleId) -> RuleId) -> Option<Shape> {
    Some(match (a, b) {
        (Shape::Literals(a), Shape::Literals(b)) => {
            let b: HashSet<&String> = b.iter().collect();
            let common: Vec<String> = a.iter().filter(|text| b.contains(text)).cloned().collect();
            if common.is_empty() {
                return None;
            }
            Shape::Literals(common)
        }
        (Shape::Literals(texts), other) | (other, Shape::Literals(texts)) => {
            let of_type = |text: &&String| match (text.as_bytes().first(), other) {
                (Some(b'"'), Shape::String(_)) | (Some(b'['), Shape::Array(_)) | (Some(b'{'), Shape::Object(_)) => true,
                (Some(b'-' | b'0'..=b'9'), Shape::Number(number)) => number.accepts(text),
                _ => false,
            };
            let texts: Vec<String> = texts.iter().filter(of_type).cloned().collect();
            if texts.is_empty() {
                return None;
            }
            Shape::Literals(texts)
        }
        (Shape::Number(a), Shape::Number(b)) => Shape::Number(a.and(b)?),
        (Shape::String(a), Shape::String(b)) => Shape::String(strings(a, b)?),
        (Shape::Array(a), Shape::Array(b)) => Shape::Array(arrays(a, b, both)?),
        (Shape::Object(a), Shape::Object(b)) => Shape::Object(objects(a, b, both)),
        _ => return None,
    })
}

fn strings(a: &StringShape, b: &StringShape) -> Option<StringShape> {
    let mut patterns: Vec<String> = a.patterns.iter().chain(&b.patterns).cloned().collect();
    patterns.sort();
    patterns.dedup();
    let both = StringShape {
        min_chars: a.min_chars.max(b.min_chars),
        max_chars: least(a.max_chars, b.max_chars),
        patterns,
        is_copied: a.is_copied || b.is_copied,
    };
    both.max_chars.is_none_or(|most| both.min_chars <= most).then_some(both)
}

fn least(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    a.into_iter().chain(b).min()
}

fn arrays(a: &ArrayShape, b: &ArrayShape, both: &mut dyn FnMut(RuleId, RuleId) -> RuleId) -> Option<ArrayShape> {
    let at = |array: &ArrayShape, i: usize| array.prefix.get(i).copied().or(array.items);
    let mut max = least(a.max, b.max);
    let mut prefix = Vec::new();
    for i in 0..a.prefix.len().max(b.prefix.len()) {
        match (at(a, i), at(b, i)) {
            (Some(a), Some(b)) => prefix.push(both(a, b)),
            _ => {
                max = least(max, Some(i));
                break;
            }
        }
    }
    let items = a.items.zip(b.items).map(|(a, b)| both(a, b));
    let min = a.min.max(b.min);
    max.is_none_or(|max| min <= max).then_some(ArrayShape { prefix, items, min, max })
}

fn objects(a: &ObjectShape, b: &ObjectShape, both: &mut dyn FnMut(RuleId, RuleId) -> RuleId) -> ObjectShape {
    // The rule of a member that this object does not declare.
    let undeclared = |object: &ObjectShape| match object.others {
        Others::Unsaid(rule) | Others::Of(rule) => Some(rule),
        Others::None => None,
    };
    let mut members: Vec<Member> = Vec::new();
    let in_b: BTreeMap<&str, &Member> = b.members.iter().map(|m| (m.name.as_str(), m)).collect();
    for member in &a.members {
        let other = in_b.get(member.name.as_str());
        let value = match other.map(|other| other.value).or(undeclared(b)) {
            Some(other) => both(member.value, other),
            None if member.is_required => NOTHING,
            None => continue,
        };
        let is_required = member.is_required || other.is_some_and(|other| other.is_required);
        members.push(Member { name: member.name.clone(), value, is_required });
    }
    for member in b.members.iter().filter(|member| a.members.iter().all(|m| m.name != member.name)) {
        let value = match undeclared(a) {
            Some(other) => both(member.value, other),
            None if member.is_required => NOTHING,
            None => continue,
        };
        members.push(Member { value, ..member.clone() });
    }
    let others = match (a.others, b.others) {
        (Others::None, _) | (_, Others::None) => Others::None,
        (Others::Unsaid(a), Others::Unsaid(b)) => Others::Unsaid(both(a, b)),
        (Others::Of(a) | Others::Unsaid(a), Others::Of(b) | Others::Unsaid(b)) => Others::Of(both(a, b)),
    };
    ObjectShape { members, others, is_ordered: a.is_ordered || b.is_ordered }
}

/// The rule that no value satisfies.
pub const NOTHING: RuleId = 0;
/// The rule that every value satisfies.
pub const ANYTHING: RuleId = 1;
