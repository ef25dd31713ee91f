//! The kinds of request that a training set needs, and the calls that each requires.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One call, plainly asked for.
    One,
    /// Calls of two or three different tools.
    Several,
    /// The same tool twice, with different values.
    Twice,
    /// One call with a value of several words.
    LongValues,
    /// No offered tool has anything to do with the request.
    NoneFits,
    /// The request resembles an offered tool, which cannot fulfil it.
    NearMiss,
    /// A wish that never names the action ("it is too dark in here").
    Indirect,
    /// Spoken language: hesitations, restarts, corrections.
    Disfluent,
    /// Typing errors.
    Garbled,
    /// A language other than English.
    OtherLanguage,
    /// A paraphrase of an existing query. Never planned: `needle data paraphrase` makes these.
    Paraphrase,
}

/// How many calls a kind requires, and of which tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Exactly one call, of the tool in focus.
    One,
    /// At least two calls of at least two tools, one of them the tool in focus.
    Several,
    /// At least two calls, all of the tool in focus.
    Twice,
    /// No call.
    None,
    /// The calls of the source example.
    Source,
}

impl Kind {
    /// All kinds that a plan can hold.
    pub const PLANNED: [Self; 10] = [
        Self::One,
        Self::Several,
        Self::Twice,
        Self::LongValues,
        Self::NoneFits,
        Self::NearMiss,
        Self::Indirect,
        Self::Disfluent,
        Self::Garbled,
        Self::OtherLanguage,
    ];

    /// Its share of the rows, unless the settings override it (shares need not sum to 1).
    pub const fn default_weight(self) -> f64 {
        match self {
            Self::One => 0.28,
            Self::Several => 0.12,
            Self::Twice => 0.06,
            Self::LongValues | Self::NoneFits | Self::NearMiss => 0.09,
            Self::Indirect => 0.1,
            Self::Disfluent | Self::Garbled => 0.06,
            Self::OtherLanguage => 0.05,
            Self::Paraphrase => 0.0,
        }
    }

    /// The calls that its rows have.
    pub const fn shape(self) -> Shape {
        match self {
            Self::Several => Shape::Several,
            Self::Twice => Shape::Twice,
            Self::NoneFits | Self::NearMiss => Shape::None,
            Self::Paraphrase => Shape::Source,
            _ => Shape::One,
        }
    }

    /// The instruction in the teacher's prompt.
    pub const fn instruction(self) -> &'static str {
        match self {
            Self::One => "Each query asks plainly for one call of the focus tool.",
            Self::Several => {
                "Each query asks, in one message, for two or three calls of different tools; one of them is the focus tool."
            }
            Self::Twice => "Each query asks for the focus tool twice, with different values.",
            Self::LongValues => {
                "Each query asks for one call of the focus tool, and one of its text values is long: five to fifteen words, \
                 word for word in the query."
            }
            Self::NoneFits => "No query has anything to do with the offered tools. The answers are [].",
            Self::NearMiss => {
                "Each query is close to the focus tool in topic and wording but asks for something that none of the offered \
                 tools can do. The answers are []."
            }
            Self::Indirect => {
                "Each query is an indirect wish: it describes a situation or a need, and one call of the focus tool meets it. \
                 It neither names the tool nor says the words of its name. Values that the call needs stand in the query."
            }
            Self::Disfluent => {
                "Each query asks for one call of the focus tool, as transcribed speech: hesitations, restarts, and sometimes a \
                 correction, where only the corrected value counts."
            }
            Self::Garbled => {
                "Each query asks for one call of the focus tool, typed carelessly: swapped, missing or doubled letters in one to \
                 four words, no capitals. The answers are spelled as the query means them."
            }
            Self::OtherLanguage => {
                "Each query asks for one call of the focus tool, in the language of the assignment. Text values stay in that \
                 language exactly as in the query; numbers in the query are digits."
            }
            Self::Paraphrase => {
                "Each query is another wording of the source query that asks for exactly the same calls. Every value of the \
                 source answers stands in it word for word."
            }
        }
    }

    /// Approximate number of tokens of a row of this kind.
    pub(crate) const fn expected_row_tokens(self) -> u64 {
        match self {
            Self::NoneFits | Self::NearMiss | Self::Paraphrase => 40,
            Self::Several | Self::Twice => 130,
            Self::LongValues => 120,
            _ => 80,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "one",
            Self::Several => "several",
            Self::Twice => "twice",
            Self::LongValues => "long_values",
            Self::NoneFits => "none_fits",
            Self::NearMiss => "near_miss",
            Self::Indirect => "indirect",
            Self::Disfluent => "disfluent",
            Self::Garbled => "garbled",
            Self::OtherLanguage => "other_language",
            Self::Paraphrase => "paraphrase",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_printed_as_it_is_written_in_settings() {
        for kind in Kind::PLANNED.into_iter().chain([Kind::Paraphrase]) {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.to_string());
        }
    }
}
