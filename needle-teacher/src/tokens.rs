//! Tokens and money: what was used, what it cost, what a request will use at most.

use serde::{Deserialize, Serialize};

/// Bytes of text that count as one token where no endpoint has counted them. JSON and English take
/// three to four bytes a token in today's vocabularies; the smaller number estimates on the safe
/// side.
const BYTES_PER_TOKEN: u64 = 3;

/// Tokens of `text`, estimated.
pub fn estimate(text: &str) -> u64 {
    (text.len() as u64).div_ceil(BYTES_PER_TOKEN)
}

/// US dollars (or whichever unit the limits are given in) for a million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// Of the prompt.
    pub input: f64,
    /// Of the answer.
    pub output: f64,
}

impl Price {
    /// The cost of a number of tokens.
    pub fn cost(&self, input_tokens: u64, output_tokens: u64) -> f64 {
        (input_tokens as f64 * self.input + output_tokens as f64 * self.output) / 1e6
    }
}

/// Tokens used, and their cost where the price is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of prompts.
    pub input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// Their cost; `None` where no price was given.
    pub cost: Option<f64>,
    /// True where any of the tokens are our estimate and not the endpoint's count.
    pub is_estimated: bool,
}

impl Usage {
    /// Both kinds of tokens.
    pub fn tokens(&self) -> u64 {
        self.input_tokens + self.output_tokens
    }

    /// Adds what another request used.
    pub fn add(&mut self, other: &Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.is_estimated |= other.is_estimated;
        if let Some(cost) = other.cost {
            *self.cost.get_or_insert(0.0) += cost;
        }
    }
}
