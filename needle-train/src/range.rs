//! Valid ranges of the numbers in a recipe: declared next to each field, checked where a recipe is
//! loaded.
//!
//! The TOML document is checked, not the typed recipe. A number that no field can hold (-1, NaN,
//! 2^63) therefore gets the same message as one that makes no sense, with the key, the value and
//! the range.

use std::fmt;

use toml::{Table, Value};

/// The values that a key may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowed {
    /// An integer between the two, both included.
    Whole(u64, u64),
    /// A number between the two, both included.
    Number(f64, f64),
    /// A number from the first to just below the second.
    Below(f64, f64),
    /// A section, or a list of sections, with its own keys.
    Section(Section),
}

/// The keys of a section that are numbers or sections, with their ranges.
pub type Section = &'static [(&'static str, Allowed)];

/// The largest integer in TOML.
pub const MAX_WHOLE: u64 = i64::MAX as u64;
/// Largest number of steps, more than any run takes.
pub const MAX_STEPS: u64 = 1_000_000_000;

/// Declares the struct of a section of the recipe. What follows `=>` is the range of the field;
/// together, the ranges are the struct's `KEYS`.
macro_rules! section {
    (
        $(#[$about:meta])*
        pub struct $name:ident {
            $( $(#[$doc:meta])* pub $field:ident: $type:ty $(=> $allowed:expr)?, )*
        }
    ) => {
        $(#[$about])*
        pub struct $name {
            $( $(#[$doc])* pub $field: $type, )*
        }

        impl $name {
            /// The ranges of its numbers, by key.
            pub const KEYS: $crate::range::Section = &[ $( $( (stringify!($field), $allowed), )? )* ];
        }
    };
}
pub(crate) use section;

/// Checks all numbers of `table`. Missing keys have their defaults, and serde reports unknown ones.
///
/// # Errors
/// If a number is out of its range; the message has the key, the value and the range.
pub fn check(table: &Table, section: Section) -> Result<(), String> {
    check_section(table, section, "")
}

/// As [`check`], for JSON, in which a setting that is not given is null.
///
/// # Errors
/// As [`check`].
pub fn check_json(value: &serde_json::Value, section: Section) -> Result<(), String> {
    match to_toml(value) {
        Some(Value::Table(table)) => check(&table, section),
        _ => Ok(()),
    }
}

fn check_section(table: &Table, section: Section, prefix: &str) -> Result<(), String> {
    let there = section.iter().filter_map(|(name, allowed)| Some((name, allowed, table.get(*name)?)));
    for (name, allowed, value) in there {
        allowed.check(value, &format!("{prefix}{name}"))?;
    }
    Ok(())
}

impl Allowed {
    fn check(self, value: &Value, key: &str) -> Result<(), String> {
        match (self, value) {
            (_, Value::Array(values)) => values.iter().try_for_each(|value| self.check(value, key)),
            (Self::Section(section), Value::Table(table)) => check_section(table, section, &format!("{key}.")),
            // Serde reports what was expected.
            (Self::Section(_), _) => Ok(()),
            _ if self.contains(value) => Ok(()),
            // Rust writes 1e300 as 1e300, TOML with 300 zeros.
            (_, Value::Float(value)) => Err(format!("{key} is {value:?}, expected {self}")),
            _ => Err(format!("{key} is {value}, expected {self}")),
        }
    }

    fn contains(self, value: &Value) -> bool {
        let number = match value {
            Value::Integer(whole) => *whole as f64,
            Value::Float(number) => *number,
            _ => return false,
        };
        match self {
            Self::Whole(least, most) => {
                let whole = value.as_integer().and_then(|whole| u64::try_from(whole).ok());
                whole.is_some_and(|whole| (least..=most).contains(&whole))
            }
            Self::Number(least, most) => (least..=most).contains(&number),
            Self::Below(least, end) => (least..end).contains(&number),
            Self::Section(_) => false,
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(least, most) => write!(f, "a whole number from {least} to {most}"),
            Self::Number(least, most) => write!(f, "a number from {least:?} to {most:?}"),
            Self::Below(least, end) => write!(f, "a number from {least:?} to below {end:?}"),
            Self::Section(_) => f.write_str("a section"),
        }
    }
}

/// JSON as TOML, which has no null.
fn to_toml(value: &serde_json::Value) -> Option<Value> {
    use serde_json::Value as Json;
    Some(match value {
        Json::Null => return None,
        Json::Bool(value) => Value::Boolean(*value),
        Json::String(text) => Value::String(text.clone()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Integer(whole),
            (None, number) => Value::Float(number?),
        },
        Json::Array(values) => Value::Array(values.iter().filter_map(to_toml).collect()),
        Json::Object(members) => {
            Value::Table(members.iter().filter_map(|(key, value)| Some((key.clone(), to_toml(value)?))).collect())
        }
    })
}
