//! Styles in which developers write names and descriptions. A set of tools has one style, as if
//! written by one author.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::coin;
use super::said::capitalized;
use crate::synth::values::pick;

/// Spelling of names of several words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Snake,
    Camel,
    Kebab,
    Pascal,
    /// `orders.cancel`: a dot follows the first word.
    Dotted,
    Flat,
}

impl Case {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        pick(
            rng,
            &[
                Self::Snake,
                Self::Snake,
                Self::Snake,
                Self::Snake,
                Self::Camel,
                Self::Camel,
                Self::Kebab,
                Self::Pascal,
                Self::Dotted,
                Self::Flat,
            ],
        )
    }

    /// Joins `words`, which are separated by spaces, hyphens, underscores or dots, into one name.
    pub fn join(self, words: &str) -> String {
        let words: Vec<String> = words
            .split([' ', '_', '-', '.'])
            .map(|word| word.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_lowercase())
            .filter(|word| !word.is_empty())
            .collect();
        let capitals = |words: &[String]| words.iter().map(|word| capitalized(word)).collect::<String>();
        match self {
            Self::Snake => words.join("_"),
            Self::Kebab => words.join("-"),
            Self::Pascal => capitals(&words),
            Self::Flat => words.concat(),
            Self::Camel => words.first().map(|first| first.clone() + &capitals(&words[1..])).unwrap_or_default(),
            Self::Dotted => words
                .first()
                .map(|first| if words.len() > 1 { format!("{first}.{}", words[1..].join("_")) } else { first.clone() })
                .unwrap_or_default(),
        }
    }
}

/// The writing style of the author of a set of tools.
#[derive(Debug, Clone, Copy)]
pub(super) struct NamingStyle {
    pub tool_case: Case,
    pub parameter_case: Case,
    /// Share of tools with a description.
    pub tool_described: f64,
    /// Share of parameters with a description.
    pub parameter_described: f64,
    /// Names are meaningless, and only descriptions explain them.
    pub is_nonsense: bool,
    /// Descriptions begin with a capital.
    pub capitals: bool,
    /// Descriptions end with a full stop.
    pub stops: bool,
    /// `required: false` is written out.
    pub says_optional: bool,
    /// Types are named as in Python: `str`, `int`.
    pub python_types: bool,
}

impl NamingStyle {
    pub fn draw(rng: &mut ChaCha8Rng) -> Self {
        let tool_case = Case::draw(rng);
        let parameter_case = match tool_case {
            Case::Pascal | Case::Dotted | Case::Flat if rng.random_bool(0.7) => pick(rng, &[Case::Snake, Case::Camel]),
            Case::Dotted => Case::Snake,
            same if rng.random_bool(0.85) => same,
            _ => Case::Snake,
        };
        let is_nonsense = rng.random_bool(0.06);
        Self {
            tool_case,
            parameter_case,
            tool_described: if is_nonsense { 1.0 } else { pick(rng, &[1.0, 1.0, 1.0, 1.0, 0.9, 0.5, 0.0]) },
            parameter_described: if is_nonsense { 1.0 } else { pick(rng, &[1.0, 1.0, 1.0, 0.8, 0.5, 0.2, 0.0]) },
            is_nonsense,
            capitals: rng.random_bool(0.6),
            stops: rng.random_bool(0.4),
            says_optional: rng.random_bool(0.7),
            python_types: rng.random_bool(0.04),
        }
    }

    /// A meaningless name.
    pub fn nonsense(self, case: Case, rng: &mut ChaCha8Rng) -> String {
        let words = match rng.random_range(0..4) {
            0 => format!("{} {}", coin::word(rng), coin::word(rng)),
            1 => format!("{} {}", coin::word(rng), rng.random_range(1..99)),
            _ => coin::word(rng),
        };
        case.join(&words)
    }

    /// `text` as a description in this style.
    pub fn description(self, text: &str) -> String {
        let text = text.trim().trim_end_matches('.');
        let text = if self.capitals { capitalized(text) } else { text.to_owned() };
        if self.stops { text + "." } else { text }
    }

    /// The name of a JSON type.
    pub fn type_name(self, json_type: &'static str) -> &'static str {
        if !self.python_types {
            return json_type;
        }
        match json_type {
            "string" => "str",
            "integer" => "int",
            "number" => "float",
            "boolean" => "bool",
            "array" => "list",
            other => other,
        }
    }
}
