//! What each token of an answer is part of.
//!
//! The loss weighs the classes; the data keeps them apart, so that stored data stays usable under
//! other weights.

use serde::{Deserialize, Serialize};

/// What a target token is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum TokenClass {
    /// Braces, quotes, the words `name` and `arguments`, and special tokens.
    Structure = 0,
    /// A tool's name, or the empty list if none is called.
    Name = 1,
    /// An argument's name.
    Key = 2,
    /// An argument's value.
    Value = 3,
}

impl TokenClass {
    /// The class that is stored as `number`; `None` for an unknown number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Structure, Self::Name, Self::Key, Self::Value].get(usize::from(number)).copied()
    }
}

/// Number of token classes.
pub const NUM_TOKEN_CLASSES: usize = 4;
