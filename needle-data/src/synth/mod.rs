//! The built-in generator: endless tool-call examples over everyday tools, without a download.
//!
//! It is deterministic by seed. The values of open slots are split by their hash into common ones
//! and a reserved eighth; [`Part::Train`] never draws a reserved one, so that [`Part::HeldOut`]
//! also asks for values that training never shows. Sets of offered tools can be kept out of
//! training in the same way (`never_together`).

mod catalog;
pub mod invent;
mod slots;
mod values;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::error::DataError;
use crate::random::{Purpose, rng};
use crate::text::example::{Call, Example};

pub use catalog::{CatalogTool, catalog};

/// Which values may occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Only common values.
    #[default]
    Train,
    /// Common and reserved values alike.
    HeldOut,
}

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct SynthConfig {
    /// Equal seeds give equal examples.
    pub seed: u64,
    /// Training or held-out values.
    pub part: Part,
    /// Minimum and maximum number of offered tools.
    pub num_tools: (usize, usize),
    /// Maximum number of calls in one answer.
    pub max_calls: usize,
    /// Share of examples in which no offered tool fits.
    pub no_call_fraction: f64,
    /// Leaves out the descriptions of parameters, which halves the prompts.
    pub brief: bool,
    /// Draws one of several names for each tool in each example, so that the model has to read
    /// names and cannot memorize them.
    pub rename: bool,
    /// Only tools of these categories; all if empty.
    pub categories: Vec<String>,
    /// Sets of tools that are never all offered in the same example.
    pub never_together: Vec<Vec<String>>,
}

impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            part: Part::Train,
            num_tools: (1, 8),
            max_calls: 3,
            no_call_fraction: 0.08,
            brief: false,
            rename: true,
            categories: Vec::new(),
            never_together: Vec::new(),
        }
    }
}

/// Share of open values that training never shows: one in this many.
const RESERVED_ONE_IN: u64 = 8;

/// True for the values of open slots that [`Part::Train`] never draws.
pub fn is_reserved(value: &str) -> bool {
    // FNV-1a: the split must not change with the standard library's hasher.
    let hash = value.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 20).is_multiple_of(RESERVED_ONE_IN)
}

/// An endless iterator of examples, no two with the same query.
pub struct Generator {
    config: SynthConfig,
    tools: Vec<CatalogTool>,
    position: u64,
    seen: HashSet<u64>,
}

impl Generator {
    /// # Errors
    /// If the settings leave nothing to generate.
    pub fn new(config: SynthConfig) -> Result<Self, DataError> {
        let bad = |field, reason: &str| Err(DataError::Config { field, reason: reason.into() });
        let all = catalog();
        if let Some(unknown) = config.categories.iter().find(|c| !all.iter().any(|t| t.category == **c)) {
            let known: HashSet<&str> = all.iter().map(|t| t.category.as_str()).collect();
            let mut known: Vec<&str> = known.into_iter().collect();
            known.sort_unstable();
            return bad("categories", &format!("{unknown:?} is unknown; there are {}", known.join(", ")));
        }
        let wanted = |t: &CatalogTool| config.categories.is_empty() || config.categories.contains(&t.category);
        let tools: Vec<CatalogTool> = all.into_iter().filter(wanted).collect();
        if config.num_tools.0 == 0 || config.num_tools.0 > config.num_tools.1 || config.num_tools.1 > tools.len() {
            return bad(
                "num_tools",
                &format!("expected 1 <= fewest <= most <= {}, got {:?}", tools.len(), config.num_tools),
            );
        }
        if config.max_calls == 0 {
            return bad("max_calls", "must be at least 1");
        }
        if !(0.0..=1.0).contains(&config.no_call_fraction) {
            return bad("no_call_fraction", "must be between 0 and 1");
        }
        Ok(Self { config, tools, position: 0, seen: HashSet::new() })
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Option<Example> {
        let config = &self.config;
        let no_call = rng.random_bool(config.no_call_fraction);
        let num_tools = rng.random_range(config.num_tools.0..=config.num_tools.1);
        // Two calls in one request are rarer than one, three rarer than two.
        let mut num_calls = 1;
        while !no_call && num_calls < config.max_calls.min(num_tools) && rng.random_bool(0.15) {
            num_calls += 1;
        }
        let chosen: Vec<&CatalogTool> = self.tools.sample(rng, num_calls).collect();
        let mut answers = Vec::new();
        let mut phrases = Vec::new();
        for tool in &chosen {
            let (phrase, arguments) = self.phrase(tool, rng)?;
            answers.push(Call { name: tool.name.clone(), arguments });
            phrases.push(phrase);
        }
        let query = self.query(&phrases, rng);

        let mut offered: Vec<&CatalogTool> = if no_call { Vec::new() } else { chosen.clone() };
        let is_related = |tool: &CatalogTool| chosen.iter().any(|c| c.category == tool.category);
        while offered.len() < num_tools {
            let tool = self.tools.choose(rng)?;
            // If no offered tool may fit, the whole category of the right one is left out, because
            // its tools might fit. Otherwise, a distractor of the same category is harder, so it is
            // drawn more often.
            let fits = if no_call {
                !is_related(tool) || self.config.categories.len() == 1
            } else {
                is_related(tool) || rng.random_bool(0.6)
            };
            if fits && !offered.iter().chain(&chosen).any(|o| o.name == tool.name) {
                offered.push(tool);
            }
        }
        offered.shuffle(rng);
        let together = |names: &[String]| names.iter().all(|n| offered.iter().any(|t| t.name == *n));
        if config.never_together.iter().any(|names| together(names)) {
            return None;
        }
        let names = self.names(&offered, rng)?;
        for call in &mut answers {
            if let Some(position) = offered.iter().position(|tool| tool.name == call.name) {
                call.name.clone_from(&names[position]);
            }
        }
        let tools = offered.iter().zip(&names).map(|(tool, name)| tool.tool_named(name, config.brief)).collect();
        Some(Example { query, tools, answers: if no_call { Vec::new() } else { answers } })
    }

    /// A name for each of the offered tools, all of them different.
    fn names(&self, offered: &[&CatalogTool], rng: &mut ChaCha8Rng) -> Option<Vec<String>> {
        let mut chosen: Vec<String> = Vec::with_capacity(offered.len());
        for tool in offered {
            let mut names = if self.config.rename { tool.names() } else { vec![tool.name.clone()] };
            names.retain(|name| !chosen.contains(name));
            chosen.push(names.choose(rng)?.clone());
        }
        Some(chosen)
    }

    /// One request for `tool`, and the arguments that it states.
    fn phrase(&self, tool: &CatalogTool, rng: &mut ChaCha8Rng) -> Option<(String, Map<String, serde_json::Value>)> {
        let template = tool.phrases.choose(rng)?;
        let mut said = String::new();
        let mut stated = Map::new();
        for part in template {
            if part.optional && rng.random_bool(0.5) {
                continue;
            }
            for piece in &part.pieces {
                match piece {
                    catalog::Piece::Text(text) => said.push_str(text),
                    catalog::Piece::Argument(index) => {
                        let argument = &tool.arguments[*index];
                        let accept = |value: &str| self.config.part == Part::HeldOut || !is_reserved(value);
                        let filled = argument.slot.fill(rng, accept);
                        said.push_str(&filled.said);
                        stated.insert(argument.name.clone(), filled.value);
                    }
                }
            }
        }
        // The call states its arguments in the order of the declaration, whatever the order in the
        // sentence.
        let arguments =
            tool.arguments.iter().filter_map(|a| stated.remove(&a.name).map(|value| (a.name.clone(), value)));
        Some((said, arguments.collect()))
    }

    fn query(&self, phrases: &[String], rng: &mut ChaCha8Rng) -> String {
        let joiner = [" and ", " and then ", ", then ", ". Also ", "; "].choose(rng).copied().unwrap_or(" and ");
        let mut query = phrases.iter().map(|p| p.trim_end_matches('?')).collect::<Vec<_>>().join(joiner);
        let is_question = phrases.iter().any(|p| p.ends_with('?'));
        if is_question {
            query.push_str(["?", "", "?"].choose(rng).copied().unwrap_or("?"));
        } else {
            let before = ["", "", "", "", "please ", "can you ", "could you please ", "hey, ", "I need you to "];
            let after = ["", "", "", "", " please", " now", ", thanks"];
            let before = before.choose(rng).copied().unwrap_or("");
            let after = if before.contains("please") { "" } else { after.choose(rng).copied().unwrap_or("") };
            query = format!("{before}{query}{after}");
        }
        if rng.random_bool(0.3)
            && let Some(first) = query.chars().next()
        {
            query = first.to_uppercase().chain(query.chars().skip(1)).collect();
        }
        query
    }
}

impl Iterator for Generator {
    type Item = Example;

    fn next(&mut self) -> Option<Example> {
        loop {
            let purpose = match self.config.part {
                Part::HeldOut => Purpose::SyntheticHeldOut,
                _ => Purpose::Synthetic,
            };
            let mut rng = rng(self.config.seed, purpose, &[self.position]);
            self.position += 1;
            let Some(example) = self.draw(&mut rng) else { continue };
            let mut hasher = DefaultHasher::new();
            example.query.to_lowercase().hash(&mut hasher);
            if self.seen.insert(hasher.finish()) {
                return Some(example);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(config: SynthConfig, count: usize) -> Vec<Example> {
        Generator::new(config).unwrap().take(count).collect()
    }

    #[test]
    fn there_are_fifteen_categories_and_a_hundred_and_twenty_tools() {
        let tools = catalog();
        let categories: HashSet<&str> = tools.iter().map(|t| t.category.as_str()).collect();
        let names: HashSet<&str> = tools.iter().map(|t| t.name.as_str()).collect();
        assert!(categories.len() >= 15 && tools.len() >= 120, "{} {}", categories.len(), tools.len());
        assert_eq!(names.len(), tools.len(), "each tool has its own name");
    }

    #[test]
    fn every_example_is_valid_and_every_tool_is_called() {
        let plain = SynthConfig { rename: false, ..SynthConfig::default() };
        let names: HashSet<String> =
            self::examples(plain, 4000).into_iter().flat_map(|e| e.answers).map(|c| c.name).collect();
        assert_eq!(names.len(), catalog().len());
        let examples = examples(SynthConfig::default(), 4000);
        let mut called = HashSet::new();
        for example in &examples {
            example.validate().unwrap_or_else(|e| panic!("{e}\n{}", example.to_json()));
            assert!((1..=8).contains(&example.tools.len()));
            called.extend(example.answers.iter().map(|c| c.name.clone()));
        }
        assert!(called.len() > 2 * catalog().len(), "under several names each");
        let no_call = examples.iter().filter(|e| e.answers.is_empty()).count();
        assert!((240..400).contains(&no_call), "about 8 % have no call: {no_call} of 4000");
        assert!(examples.iter().any(|e| e.answers.len() == 3));
    }

    #[test]
    fn fifty_thousand_examples_have_as_many_queries() {
        let queries: HashSet<String> = Generator::new(SynthConfig { num_tools: (1, 1), ..Default::default() })
            .unwrap()
            .take(50_000)
            .map(|e| e.query.to_lowercase())
            .collect();
        assert_eq!(queries.len(), 50_000);
    }

    #[test]
    fn equal_seeds_give_equal_examples() {
        let config = |seed| SynthConfig { seed, ..Default::default() };
        assert_eq!(examples(config(3), 50), examples(config(3), 50));
        assert_ne!(examples(config(3), 50), examples(config(4), 50));
    }

    #[test]
    fn training_never_shows_reserved_values_and_held_out_examples_do() {
        let strings = |part| {
            let examples = examples(SynthConfig { part, ..Default::default() }, 3000);
            examples
                .into_iter()
                .flat_map(|e| e.answers)
                .filter(|c| c.name.contains("air_quality"))
                .map(|c| c.arguments["city"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert!(strings(Part::Train).iter().all(|v| !is_reserved(v)));
        assert!(strings(Part::HeldOut).iter().any(|v| is_reserved(v)));
    }

    #[test]
    fn sets_of_tools_can_be_kept_apart() {
        let never = vec!["set_alarm".to_owned(), "get_weather".to_owned()];
        let config = SynthConfig {
            categories: vec!["timers".into(), "weather".into()],
            never_together: vec![never.clone()],
            rename: false,
            ..Default::default()
        };
        for example in examples(config, 500) {
            assert!(!never.iter().all(|n| example.tools.iter().any(|t| t.name == *n)));
        }
    }

    #[test]
    fn impossible_settings_are_refused() {
        for config in [
            SynthConfig { num_tools: (0, 2), ..Default::default() },
            SynthConfig { num_tools: (1, 500), ..Default::default() },
            SynthConfig { categories: vec!["nonsense".into()], ..Default::default() },
            SynthConfig { no_call_fraction: 1.5, ..Default::default() },
        ] {
            assert!(Generator::new(config).is_err());
        }
    }
}
