//! Token counts, estimates of them, and prices.

use serde::{Deserialize, Serialize};

/// Bytes per token, to estimate tokens that no endpoint has counted. JSON and English take three to
/// four bytes per token in today's vocabularies; the smaller number errs on the safe side.
const BYTES_PER_TOKEN: u64 = 3;

/// Estimated number of tokens of `text`.
pub fn estimate(text: &str) -> u64 {
    (text.len() as u64).div_ceil(BYTES_PER_TOKEN)
}

/// Prices per million tokens, in US dollars (or whichever unit the limits are given in).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// Price of prompt tokens.
    pub input: f64,
    /// Price of answer tokens.
    pub output: f64,
}

impl Price {
    /// The cost of a number of tokens.
    pub fn cost(&self, input_tokens: u64, output_tokens: u64) -> f64 {
        (input_tokens as f64 * self.input + output_tokens as f64 * self.output) / 1e6
    }
}

/// Tokens used, and their cost if the price is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of prompts.
    pub input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// Their cost; `None` if no price was given.
    pub cost: Option<f64>,
    /// True if any of the counts is our estimate instead of the endpoint's count.
    pub is_estimated: bool,
}

impl Usage {
    /// Tokens of prompts and answers together.
    pub fn tokens(&self) -> u64 {
        self.input_tokens + self.output_tokens
    }

    /// Adds the usage of another request.
    pub fn add(&mut self, other: &Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.is_estimated |= other.is_estimated;
        if let Some(cost) = other.cost {
            *self.cost.get_or_insert(0.0) += cost;
        }
    }
}
