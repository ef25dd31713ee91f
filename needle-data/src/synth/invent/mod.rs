//! Invented tools: thousands of tools made by composition, and requests for them made by a grammar.
//!
//! A model soon memorizes the catalogue of the plain generator. Here, a new tool is composed for
//! each example, as an action on a kind of thing with the roles that belong to it, with names and
//! descriptions in some style, so that the model has to read it. Every argument is stated in the
//! request, verbatim or in a form that the tool's description explains how to map; what is not
//! stated is not in the call. One example in seven asks for nothing that can be called, for a
//! reason that is recorded as its [`Kind`](ExampleKind).
//!
//! Example `i` depends only on the seed and `i`. Tools of an eighth of the things and of some whole
//! domains never occur in training ([`Part::Train`]); [`Part::HeldOut`] consists only of these.

mod coin;
mod compose;
mod form;
mod kind;
mod lexicon;
mod naming;
mod numbers;
mod offer;
mod request;
mod said;
mod speak;
mod style;
mod tool;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::random::{Purpose, rng};
use crate::synth::Part;
use crate::text::example::Example;

use lexicon::Lexicon;

/// The kind of an example: why it has its calls, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExampleKind {
    /// One call.
    Single,
    /// One call, requested with a negation that does not negate: `don't forget to ..`.
    NotNegated,
    /// Two requests, one of which is negated: one call.
    PartlyNegated,
    /// Several calls of one tool.
    SameTool,
    /// Calls of several tools.
    SeveralTools,
    /// No call: the offered tools are about something else.
    OffTopic,
    /// No call: the offered tools do something else with the thing, or the same with other things.
    NearMiss,
    /// No call: a required value is not stated.
    Missing,
    /// No call: the user asks not to do it.
    Negated,
    /// No call: an action is mentioned, but not requested.
    Reported,
    /// No call: the tool does not accept a stated value.
    Invalid,
    /// No call: a question about the tools.
    AboutTools,
    /// No call: not a request at all.
    SmallTalk,
}

impl ExampleKind {
    /// True if the right answer is `[]`.
    pub fn is_refusal(self) -> bool {
        !matches!(self, Self::Single | Self::NotNegated | Self::PartlyNegated | Self::SameTool | Self::SeveralTools)
    }
}

/// Settings of an [`Inventor`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InventConfig {
    /// Equal seeds give equal examples.
    pub seed: u64,
    /// Tools and values for training, or those that training never shows.
    pub part: Part,
    /// Minimum number of offered tools.
    pub min_tools: usize,
    /// Maximum number of offered tools.
    pub max_tools: usize,
    /// Share of examples with several calls.
    pub many_calls_fraction: f64,
    /// Share of examples without a call.
    pub no_call_fraction: f64,
}

impl Default for InventConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            part: Part::Train,
            min_tools: 1,
            max_tools: 8,
            many_calls_fraction: 0.15,
            no_call_fraction: 0.15,
        }
    }
}

/// An example and its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Invented {
    /// The example.
    pub example: Example,
    /// The kind of the example.
    pub kind: ExampleKind,
    /// The query with its values masked.
    pub skeleton: String,
}

/// Generates examples by their index.
pub struct Inventor {
    config: InventConfig,
    lexicon: Lexicon,
    frames: offer::Frames,
}

impl Inventor {
    /// # Errors
    /// If the settings leave nothing to invent.
    pub fn new(config: InventConfig) -> Result<Self, DataError> {
        let bad = |field, reason: &str| Err(DataError::Config { field, reason: reason.into() });
        if config.min_tools == 0 || config.min_tools > config.max_tools || config.max_tools > 32 {
            let given = (config.min_tools, config.max_tools);
            return bad("max_tools", &format!("expected 1 <= min_tools <= max_tools <= 32, got {given:?}"));
        }
        for (field, fraction) in
            [("many_calls_fraction", config.many_calls_fraction), ("no_call_fraction", config.no_call_fraction)]
        {
            if !(0.0..=1.0).contains(&fraction) {
                return bad(field, "must be between 0 and 1");
            }
        }
        if config.many_calls_fraction + config.no_call_fraction > 1.0 {
            return bad("many_calls_fraction", "together with no_call_fraction, must be at most 1");
        }
        let lexicon = Lexicon::new();
        let frames = offer::Frames::new(&lexicon, config.part);
        Ok(Self { config, lexicon, frames })
    }

    /// Number of frames: actions on things, before their roles and names are drawn.
    pub fn num_frames(&self) -> usize {
        self.frames.len()
    }

    /// The example with number `index`.
    pub fn get(&self, index: u64) -> Invented {
        let part = u64::from(self.config.part == Part::HeldOut);
        // The kind is drawn once, so that a kind whose attempts often fail keeps its share.
        let kind = self.kind(&mut rng(self.config.seed, Purpose::InventedKind, &[part, index]));
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut rng = rng(self.config.seed, Purpose::Invented, &[part, index, attempt]);
            if let Some(invented) = offer::draw(&self.lexicon, &self.frames, &self.config, kind, &mut rng) {
                return invented;
            }
        }
    }

    fn kind(&self, rng: &mut ChaCha8Rng) -> ExampleKind {
        use ExampleKind::*;
        let config = &self.config;
        let draw: f64 = rng.random();
        let shares: &[(ExampleKind, f64)] = if draw < config.no_call_fraction {
            &[
                (NearMiss, 3.5),
                (OffTopic, 1.5),
                (Missing, 4.0),
                (Negated, 3.0),
                (Reported, 1.0),
                (Invalid, 2.0),
                (AboutTools, 1.0),
                (SmallTalk, 0.6),
            ]
        } else if draw < config.no_call_fraction + config.many_calls_fraction {
            &[(SameTool, 1.0), (SeveralTools, 1.0)]
        } else {
            &[(Single, 6.0), (NotNegated, 0.7), (PartlyNegated, 0.3)]
        };
        // If only a single tool is offered, a request cannot refer to two.
        let is_possible = |kind| config.max_tools > 1 || !matches!(kind, SeveralTools | PartlyNegated);
        let shares: Vec<_> = shares.iter().filter(|(kind, _)| is_possible(*kind)).collect();
        let mut left = rng.random::<f64>() * shares.iter().map(|(_, share)| share).sum::<f64>();
        for (kind, share) in &shares {
            left -= share;
            if left < 0.0 {
                return *kind;
            }
        }
        shares[0].0
    }
}

#[cfg(test)]
mod tests;
