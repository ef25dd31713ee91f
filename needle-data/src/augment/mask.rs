//! Masking of tools, so that a model cannot memorize them: other names of tools and arguments,
//! other descriptions, and other tools beside them.
//!
//! The result is correct for any example, because the calls change together with the tools. A
//! description is dropped only if the remaining name says the same, and a meaningless name is given
//! only if a description explains it.

use std::collections::{BTreeMap, HashSet};

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value};

use super::made_up;
use super::refuse::{negated, out_of_bounds, stripped};
use crate::text::example::{Call, Example};
use crate::text::names::to_snake_case;
use crate::text::tool::{Parameter, Tool};

/// The share of examples that each augmentation changes; each is drawn independently.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Masks {
    /// Other names for tools and arguments, see [`with_other_names`].
    pub renamed_fraction: f64,
    /// Of those, the share that gets meaningless names, where a description explains them.
    pub meaningless_fraction: f64,
    /// Reworded or dropped descriptions, see [`with_other_descriptions`].
    pub reworded_fraction: f64,
    /// Additional tools from other examples, see [`with_distractors`].
    pub distractors_fraction: f64,
    /// A second request appended, see [`joined`].
    pub joined_fraction: f64,
    /// A negated command, see `negated`.
    pub negated_fraction: f64,
    /// A required value removed, see `stripped`.
    pub stripped_fraction: f64,
    /// A number out of its bounds, see `out_of_bounds`.
    pub out_of_bounds_fraction: f64,
    /// Tools without parameters, see [`without_parameters`].
    pub no_parameters_fraction: f64,
}

/// Maximum number of tools that an example gets from others.
const MOST_DISTRACTORS: usize = 4;

impl Masks {
    /// True if nothing is ever changed.
    pub fn is_none(&self) -> bool {
        *self == Self { meaningless_fraction: self.meaningless_fraction, ..Self::default() }
    }

    /// True if an augmentation takes requests or tools from other examples.
    pub fn needs_others(&self) -> bool {
        self.distractors_fraction > 0.0 || self.joined_fraction > 0.0
    }

    /// Applies the augmentations that are drawn to `example`; additional requests and tools come
    /// from `others`.
    pub fn apply(&self, example: Example, others: &[Example], synonyms: &Synonyms, rng: &mut ChaCha8Rng) -> Example {
        let mut example = example;
        if rng.random_bool(self.stripped_fraction) {
            example = stripped(&example).unwrap_or(example);
        }
        if rng.random_bool(self.out_of_bounds_fraction) {
            example = out_of_bounds(&example, rng).unwrap_or(example);
        }
        if rng.random_bool(self.negated_fraction) {
            example = negated(&example, rng).unwrap_or(example);
        }
        if rng.random_bool(self.joined_fraction)
            && let Some(other) = others.choose(rng)
        {
            example = joined(&example, other, rng).unwrap_or(example);
        }
        if rng.random_bool(self.distractors_fraction) {
            example = with_distractors(&example, others, MOST_DISTRACTORS, rng);
        }
        if rng.random_bool(self.reworded_fraction) {
            example = with_other_descriptions(&example, synonyms, rng);
        }
        if rng.random_bool(self.renamed_fraction) {
            let meaningless = rng.random_bool(self.meaningless_fraction);
            example = with_other_names(&example, synonyms, meaningless, rng);
        }
        if rng.random_bool(self.no_parameters_fraction) {
            example = without_parameters(&example).unwrap_or(example);
        }
        example
    }
}

/// Words of names, each with its possible replacements.
#[derive(Debug, Clone)]
pub struct Synonyms(BTreeMap<String, Vec<String>>);

impl Synonyms {
    /// The embedded list.
    #[expect(clippy::expect_used, reason = "the embedded list is checked by this crate's tests")]
    pub fn embedded() -> Self {
        let words: BTreeMap<String, String> =
            toml::from_str(include_str!("synonyms.toml")).expect("synonyms.toml is valid");
        let split = |words: String| words.split(' ').map(str::to_owned).collect();
        Self(words.into_iter().map(|(word, others)| (word, split(others))).collect())
    }

    fn of(&self, word: &str, rng: &mut ChaCha8Rng) -> Option<&str> {
        self.0.get(word)?.choose(rng).map(String::as_str)
    }

    /// `name` in snake_case, with some of its words replaced.
    fn name(&self, name: &str, rng: &mut ChaCha8Rng) -> String {
        let snake = to_snake_case(name);
        let words = snake.split('_').map(|word| match self.of(word, rng) {
            Some(other) if rng.random_bool(0.6) => other.to_owned(),
            _ => word.to_owned(),
        });
        words.collect::<Vec<_>>().join("_")
    }

    /// A variant of `description`: another verb at its beginning, other capitalization, or no full
    /// stop.
    fn description(&self, description: &str, rng: &mut ChaCha8Rng) -> String {
        let (first, rest) = description.split_once(' ').unwrap_or((description, ""));
        let mut words = match self.of(&first.to_lowercase(), rng) {
            Some(other) if !other.contains('_') && !rest.is_empty() => format!("{other} {rest}"),
            _ => description.to_owned(),
        };
        if rng.random_bool(0.5) {
            words = words.trim_end_matches('.').to_owned();
        }
        let mut letters = words.chars();
        let Some(first) = letters.next() else { return words };
        // An abbreviation such as `ID` keeps its capitals.
        let is_word = letters.clone().next().is_none_or(|c| !c.is_uppercase());
        match is_word.then(|| rng.random_bool(0.5)) {
            Some(true) => first.to_uppercase().chain(letters).collect(),
            Some(false) => first.to_lowercase().chain(letters).collect(),
            None => words,
        }
    }
}

/// How the words of names are joined.
#[derive(Debug, Clone, Copy)]
enum Joint {
    Snake,
    Kebab,
    Camel,
    Pascal,
}

impl Joint {
    fn write(self, snake: &str) -> String {
        let capital = |word: &str| {
            let mut letters = word.chars();
            letters.next().map(|c| c.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
        };
        let words: Vec<&str> = snake.split('_').filter(|word| !word.is_empty()).collect();
        match self {
            Self::Snake => words.join("_"),
            Self::Kebab => words.join("-"),
            Self::Pascal => words.iter().map(|word| capital(word)).collect(),
            Self::Camel => words
                .iter()
                .enumerate()
                .map(|(i, word)| if i == 0 { (*word).to_owned() } else { capital(word) })
                .collect(),
        }
    }
}

/// `example` with other names for its tools and their arguments; with `meaningless`, nonsense names
/// for whatever a description explains.
pub fn with_other_names(example: &Example, synonyms: &Synonyms, meaningless: bool, rng: &mut ChaCha8Rng) -> Example {
    let joint =
        *[Joint::Snake, Joint::Snake, Joint::Camel, Joint::Kebab, Joint::Pascal].choose(rng).unwrap_or(&Joint::Snake);
    let mut taken = HashSet::new();
    let mut tools = Vec::new();
    let mut renamed: BTreeMap<&str, (String, BTreeMap<String, String>)> = BTreeMap::new();
    for tool in &example.tools {
        let mut names = BTreeMap::new();
        let mut parameters: Vec<Parameter> = Vec::new();
        for parameter in &tool.parameters {
            let is_explained = parameter.spec.get("description").and_then(Value::as_str).is_some_and(|d| d.len() > 3);
            let name = other_name(&parameter.name, synonyms, joint, meaningless && is_explained, rng);
            let name = if parameters.iter().any(|p| p.name == name) || name.is_empty() {
                parameter.name.clone()
            } else {
                name
            };
            // The name of any other argument, including later ones, is taken.
            let name = if tool.parameters.iter().any(|p| p.name == name) { parameter.name.clone() } else { name };
            names.insert(parameter.name.clone(), name.clone());
            parameters.push(Parameter::new(name, parameter.spec.clone()));
        }
        let mut name = other_name(&tool.name, synonyms, joint, meaningless && !tool.description.is_empty(), rng);
        let is_taken =
            |name: &str| taken.contains(&to_snake_case(name)) || example.tools.iter().any(|t| t.name == name);
        if name.is_empty() || is_taken(&name) {
            name.clone_from(&tool.name);
        }
        taken.insert(to_snake_case(&name));
        renamed.insert(&tool.name, (name.clone(), names));
        let mut masked = tool.clone();
        masked.name = name;
        masked.parameters = parameters;
        tools.push(masked);
    }
    let answers = example.answers.iter().map(|call| rename(call, &renamed)).collect();
    Example { query: example.query.clone(), tools, answers }
}

fn rename(call: &Call, renamed: &BTreeMap<&str, (String, BTreeMap<String, String>)>) -> Call {
    let Some((name, names)) = renamed.get(call.name.as_str()) else { return call.clone() };
    let key = |key: &String| names.get(key).unwrap_or(key).clone();
    let arguments: Map<String, Value> = call.arguments.iter().map(|(k, value)| (key(k), value.clone())).collect();
    Call { name: name.clone(), arguments }
}

fn other_name(name: &str, synonyms: &Synonyms, joint: Joint, meaningless: bool, rng: &mut ChaCha8Rng) -> String {
    if meaningless {
        return joint.write(&to_snake_case(&made_up(rng)));
    }
    joint.write(&synonyms.name(name, rng))
}

/// `example` with some descriptions dropped and others reworded. Information that only a
/// description gives is kept: the meaning of a nonsense name, of an enum's values or of a number,
/// and the format of a value.
pub fn with_other_descriptions(example: &Example, synonyms: &Synonyms, rng: &mut ChaCha8Rng) -> Example {
    let drops_tools = rng.random_bool(0.4);
    let drops_parameters = rng.random_bool(0.6);
    let tools = example.tools.iter().map(|tool| {
        let parameters = tool.parameters.iter().map(|parameter| {
            let mut spec = parameter.spec.clone();
            let description = spec.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
            if drops_parameters
                && says_its_name(&parameter.name, &description)
                && is_plain(&spec)
                && rng.random_bool(0.7)
            {
                spec.shift_remove("description");
            } else if !description.is_empty() {
                spec.insert("description".into(), synonyms.description(&description, rng).into());
            }
            Parameter::new(parameter.name.clone(), spec)
        });
        let parameters = parameters.collect();
        // A one-word name does not identify a tool: only a longer name may stand without a
        // description.
        let is_telling = to_snake_case(&tool.name).split('_').count() > 1;
        let description = if drops_tools && is_telling && says_its_name(&tool.name, &tool.description) {
            String::new()
        } else {
            synonyms.description(&tool.description, rng)
        };
        Tool::new(tool.name.clone(), description, parameters)
    });
    Example { tools: tools.collect(), ..example.clone() }
}

/// True for a free string, which the model copies as it was said.
fn is_plain(spec: &Map<String, Value>) -> bool {
    spec.get("type").and_then(Value::as_str) == Some("string")
        && !spec.contains_key("enum")
        && !spec.contains_key("format")
}

/// True if the description only repeats the name: it has at most eight words, no digits or
/// punctuation of a rule or list, and a word in common with the name.
fn says_its_name(name: &str, description: &str) -> bool {
    let names = stems(&to_snake_case(name).replace('_', " "));
    let is_short = description.split_whitespace().count() <= 8;
    let has_rule = description.contains(|c: char| c.is_ascii_digit() || matches!(c, '(' | '=' | ':' | ';'));
    is_short && !has_rule && stems(description).intersection(&names).next().is_some()
}

/// Words that say nothing about the topic of a text.
const COMMON: [&str; 44] = [
    "the", "a", "an", "of", "to", "in", "on", "for", "by", "and", "or", "with", "from", "get", "set", "add", "find",
    "search", "create", "update", "delete", "remove", "show", "list", "check", "make", "new", "start", "stop", "open",
    "send", "read", "given", "user", "name", "this", "that", "which", "when", "where", "please", "want", "need",
    "some",
];

/// The first five letters of each content word of a text.
fn stems(text: &str) -> HashSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .map(str::to_lowercase)
        .filter(|word| word.len() > 2 && !COMMON.contains(&word.as_str()))
        .map(|word| word.chars().take(5).collect())
        .collect()
}

/// True if `tool` could be mistaken for one of the `called` tools or could answer `query`, because
/// they have a content word in common.
fn is_near(tool: &Tool, called: &[&Tool], query: &HashSet<String>) -> bool {
    let name = stems(&to_snake_case(&tool.name).replace('_', " "));
    let whole: HashSet<String> = stems(&tool.description).union(&name).cloned().collect();
    let is_similar = |other: &Tool| {
        let other_name = stems(&to_snake_case(&other.name).replace('_', " "));
        let other_whole: HashSet<String> = stems(&other.description).union(&other_name).cloned().collect();
        name.intersection(&other_whole).next().is_some() || other_name.intersection(&whole).next().is_some()
    };
    name.is_empty() || name.intersection(query).next().is_some() || called.iter().any(|other| is_similar(other))
}

/// `example` with up to `most` tools of `others` in addition to its own, none of which could be
/// mistaken for those that it calls. An example without a call is unchanged, because an added tool
/// might fit it.
pub fn with_distractors(example: &Example, others: &[Example], most: usize, rng: &mut ChaCha8Rng) -> Example {
    let mut example = example.clone();
    if example.answers.is_empty() || others.is_empty() || most == 0 {
        return example;
    }
    let query = stems(&example.query);
    for _ in 0..rng.random_range(1..=most) * 3 {
        let Some(tool) = others.choose(rng).and_then(|other| other.tools.choose(rng)) else { continue };
        let called: Vec<&Tool> =
            example.tools.iter().filter(|t| example.answers.iter().any(|call| call.name == t.name)).collect();
        let is_known = example.tools.iter().any(|t| to_snake_case(&t.name) == to_snake_case(&tool.name));
        if !is_known && !is_near(tool, &called, &query) {
            example.tools.push(tool.clone());
        }
    }
    example
}

/// Removes the parameters of all tools, and the arguments of all calls, so that only the choice of
/// tools is left to learn, in a much shorter prompt. Several calls of one tool become one. `None`
/// for an example without a call: its answer may depend on the parameters.
pub fn without_parameters(example: &Example) -> Option<Example> {
    if example.answers.is_empty() {
        return None;
    }
    let tools = example.tools.iter().map(|tool| Tool::new(tool.name.clone(), tool.description.clone(), Vec::new()));
    let mut called = HashSet::new();
    let answers = example.answers.iter().filter(|call| called.insert(&call.name));
    let answers = answers.map(|call| Call { name: call.name.clone(), arguments: Map::new() }).collect();
    Some(Example { query: example.query.clone(), tools: tools.collect(), answers })
}

/// Joins two requests, and their calls, into one; `None` if one could change the meaning of the
/// other.
pub fn joined(first: &Example, second: &Example, rng: &mut ChaCha8Rng) -> Option<Example> {
    const LONGEST: usize = 300;
    let is_calling = |example: &Example| !example.answers.is_empty() && example.answers.len() <= 2;
    if !is_calling(first) || !is_calling(second) || first.query.len() + second.query.len() > LONGEST {
        return None;
    }
    let called = |example: &Example| -> Vec<Tool> {
        let is_called = |tool: &&Tool| example.answers.iter().any(|call| call.name == tool.name);
        example.tools.iter().filter(is_called).cloned().collect()
    };
    let (ours, theirs) = (called(first), called(second));
    let mut tools = first.tools.clone();
    let near = |tool: &Tool, of: &[Tool], query: &str| is_near(tool, &of.iter().collect::<Vec<_>>(), &stems(query));
    for tool in &theirs {
        let is_same = tools.iter().find(|t| to_snake_case(&t.name) == to_snake_case(&tool.name));
        match is_same {
            Some(same) if same == tool => {}
            Some(_) => return None,
            None if near(tool, &ours, &first.query) => return None,
            None => tools.push(tool.clone()),
        }
    }
    // An uncalled tool of the first request must not fit the second one.
    tools.retain(|tool| ours.contains(tool) || theirs.contains(tool) || !near(tool, &theirs, &second.query));
    let query = one_sentence(first, second, rng)?;
    let answers: Vec<Call> = first.answers.iter().chain(&second.answers).cloned().collect();
    let example = Example { query, tools, answers };
    example.validate().is_ok().then_some(example)
}

fn one_sentence(first: &Example, second: &Example, rng: &mut ChaCha8Rng) -> Option<String> {
    let before = first.query.trim();
    let mark = before.chars().next_back()?;
    // A free text at the end would seem to include what follows.
    let tail = before.trim_end_matches(['.', '!', '?']).to_lowercase();
    let ends_in_text =
        texts(first).any(|text| text.split_whitespace().count() > 3 && tail.ends_with(&text.to_lowercase()));
    if ends_in_text {
        return None;
    }
    let joint = match mark {
        '.' | '!' | '?' => *[" ", " Also, ", " And ", " Then "].choose(rng)?,
        _ => *[" and ", ", then ", " and also ", ". Also, ", "; ", ". "].choose(rng)?,
    };
    let after = second.query.trim();
    let starts_with_value = texts(second).any(|text| !text.is_empty() && after.starts_with(text));
    let is_new_sentence = joint == " " || joint == ". ";
    let after = if is_new_sentence || starts_with_value || after.starts_with("I ") || after.starts_with("I'") {
        after.to_owned()
    } else {
        let mut letters = after.chars();
        letters.next().map(|c| c.to_lowercase().chain(letters).collect()).unwrap_or_default()
    };
    Some(format!("{before}{joint}{after}"))
}

/// All strings among the arguments of an example's calls.
fn texts(example: &Example) -> impl Iterator<Item = &str> {
    example.answers.iter().flat_map(|call| call.arguments.values()).flat_map(|value| match value {
        Value::Array(members) => members.iter().filter_map(Value::as_str).collect::<Vec<_>>(),
        other => other.as_str().into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, rng};
    use crate::synth::{Generator, SynthConfig};
    use serde_json::json;

    fn draw(seed: u64) -> ChaCha8Rng {
        rng(seed, Purpose::Augmentation, &[])
    }

    fn examples(count: usize) -> Vec<Example> {
        Generator::new(SynthConfig::default()).unwrap().take(count).collect()
    }

    fn values(example: &Example) -> Vec<Vec<Value>> {
        example.answers.iter().map(|call| call.arguments.values().cloned().collect()).collect()
    }

    #[test]
    fn other_names_change_tools_and_calls_alike_and_nothing_else() {
        let synonyms = Synonyms::embedded();
        let (mut renamed, mut total) = (0, 0);
        for (seed, example) in (0..).zip(examples(400)) {
            for meaningless in [false, true] {
                let masked = with_other_names(&example, &synonyms, meaningless, &mut draw(seed));
                masked.validate().unwrap();
                assert_eq!((&masked.query, values(&masked)), (&example.query, values(&example)));
                for (tool, before) in masked.tools.iter().zip(&example.tools) {
                    assert_eq!(
                        (&tool.description, tool.parameters.len()),
                        (&before.description, before.parameters.len())
                    );
                    renamed += usize::from(tool.name != before.name);
                    total += 1;
                }
            }
        }
        assert!(renamed * 2 > total, "{renamed} of {total}");
    }

    #[test]
    fn what_nothing_explains_keeps_a_name_with_a_meaning() {
        let tools = json!([{"name": "play_music", "parameters": {"artist": {"type": "string"}}}]);
        let line = json!({"query": "play Zanga", "tools": tools, "answers": [{"name": "play_music", "arguments": {"artist": "Zanga"}}]});
        let example = Example::parse(&line.to_string()).unwrap();
        for seed in 0..200 {
            let masked = with_other_names(&example, &Synonyms::embedded(), true, &mut draw(seed));
            let words = to_snake_case(&masked.tools[0].name);
            let first = words.split('_').next().unwrap();
            assert!(["play", "start", "stream"].contains(&first), "{words}");
        }
    }

    #[test]
    fn descriptions_that_say_more_than_the_name_are_kept() {
        let parameters = json!({
            "day": {"type": "string", "description": "The day"},
            "time": {"type": "string", "description": "Time as HH:MM"},
            "unit": {"type": "string", "description": "Unit", "enum": ["c", "f"]},
            "n": {"type": "integer", "description": "Number of n"}});
        let tools = json!([{"name": "set_alarm", "description": "Set an alarm", "parameters": parameters}]);
        let line = json!({"query": "q", "tools": tools, "answers": []});
        let example = Example::parse(&line.to_string()).unwrap();
        let mut without = HashSet::new();
        for seed in 0..300 {
            let masked = with_other_descriptions(&example, &Synonyms::embedded(), &mut draw(seed));
            for parameter in &masked.tools[0].parameters {
                if !parameter.spec.contains_key("description") {
                    without.insert(parameter.name.clone());
                }
            }
        }
        assert_eq!(without, HashSet::from(["day".to_owned()]));
    }

    #[test]
    fn without_parameters_the_same_tools_are_called_once_each() {
        for example in examples(200) {
            let Some(bare) = without_parameters(&example) else {
                assert!(example.answers.is_empty());
                continue;
            };
            bare.validate().unwrap();
            let names = |example: &Example| example.tools.iter().map(|tool| tool.name.clone()).collect::<Vec<_>>();
            assert_eq!((names(&bare), &bare.query), (names(&example), &example.query));
            assert!(bare.tools.iter().all(|tool| tool.parameters.is_empty()));
            let called: Vec<&str> = bare.answers.iter().map(|call| call.name.as_str()).collect();
            let mut expected: Vec<&str> = Vec::new();
            for call in &example.answers {
                if !expected.contains(&call.name.as_str()) {
                    expected.push(&call.name);
                }
            }
            assert_eq!(called, expected);
            assert!(bare.answers.iter().all(|call| call.arguments.is_empty()));
        }
    }

    #[test]
    fn distractors_are_never_near_what_is_asked_for() {
        let tool = |name: &str, about: &str| json!({"name": name, "description": about, "parameters": {"x": {"type": "string"}}});
        let example = |query: &str, tools: Value, answers: Value| {
            Example::parse(&json!({"query": query, "tools": tools, "answers": answers}).to_string()).unwrap()
        };
        let one = example(
            "rain in Oslo",
            json!([tool("get_weather", "Weather of a city")]),
            json!([{"name": "get_weather", "arguments": {"x": "Oslo"}}]),
        );
        let others = [example(
            "q",
            json!([
                tool("weather_forecast", "What will it be like"),
                tool("get_sun", "The weather today"),
                tool("log_rain", "Log"),
                tool("rate_book", "Rate a book"),
                tool("book_table", "Reserve seats")
            ]),
            json!([]),
        )];
        let mut added = HashSet::new();
        for seed in 0..200 {
            let more = with_distractors(&one, &others, 4, &mut draw(seed));
            more.validate().unwrap();
            added.extend(more.tools[1..].iter().map(|t| t.name.clone()));
        }
        assert_eq!(added, HashSet::from(["rate_book".to_owned(), "book_table".to_owned()]));
        let nothing = Example { answers: Vec::new(), ..one };
        assert_eq!(with_distractors(&nothing, &others, 4, &mut draw(1)), nothing);
    }

    #[test]
    fn two_requests_become_one_with_the_calls_of_both() {
        let example = |query: &str, tool: &str, value: &str| {
            let tools = json!([{"name": tool, "parameters": {"x": {"type": "string"}}}]);
            let answers = json!([{"name": tool, "arguments": {"x": value}}]);
            Example::parse(&json!({"query": query, "tools": tools, "answers": answers}).to_string()).unwrap()
        };
        let (song, table) =
            (example("Play Zanga.", "play_song", "Zanga"), example("Book Table Nine", "book_seat", "Table Nine"));
        for seed in 0..50 {
            let both = joined(&song, &table, &mut draw(seed)).unwrap();
            both.validate().unwrap();
            assert_eq!((both.tools.len(), both.answers.len()), (2, 2));
            assert!(both.query.starts_with("Play Zanga.") && both.query.ends_with("ook Table Nine"), "{}", both.query);
            // A value at the start keeps its capital.
            let start = example("Anna gets a call", "phone_up", "Anna");
            assert!(joined(&song, &start, &mut draw(seed)).unwrap().query.contains("Anna"));
        }
        let note = example("tell Bob that the house is on fire", "notify", "the house is on fire");
        assert!(joined(&note, &song, &mut draw(0)).is_none(), "what follows would belong to the text");
        let like = example("play Yes", "play_song_now", "Yes");
        assert!(joined(&song, &like, &mut draw(0)).is_none(), "either tool could be meant");
    }

    #[test]
    fn all_masks_at_once_leave_valid_examples_and_none_leave_them_alone() {
        let synonyms = Synonyms::embedded();
        let examples = examples(300);
        let all = Masks {
            renamed_fraction: 0.7,
            meaningless_fraction: 0.5,
            reworded_fraction: 0.7,
            distractors_fraction: 0.7,
            joined_fraction: 0.5,
            negated_fraction: 0.3,
            stripped_fraction: 0.3,
            out_of_bounds_fraction: 0.3,
            no_parameters_fraction: 0.3,
        };
        for (seed, example) in (0..).zip(&examples) {
            let masked = all.apply(example.clone(), &examples, &synonyms, &mut draw(seed));
            masked.validate().unwrap_or_else(|e| panic!("{e}: {}", masked.to_json()));
            assert_eq!(masked, all.apply(example.clone(), &examples, &synonyms, &mut draw(seed)), "by the seed");
            let same = Masks::default().apply(example.clone(), &examples, &synonyms, &mut draw(seed));
            assert_eq!(same, *example);
        }
        assert!(Masks::default().is_none() && !all.is_none());
    }
}
