//! Seeded augmentation of training examples, drawn anew in each epoch: the order of unordered parts
//! (the offered tools, the parameters of a tool, the keys of a definition), the selection of
//! offered tools, and the values in the query.
//!
//! Without it, a model learns positions instead of names, and memorizes tools and values instead of
//! reading them. The seed comes from the example's place in the epoch, so that a resumed run draws
//! the same as an uninterrupted one.

#[cfg(feature = "training")]
pub mod mask;
#[cfg(feature = "training")]
mod refuse;

use std::collections::{BTreeSet, HashMap};

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Map, Value};

use crate::text::example::Example;
use crate::text::tool::Tool;

/// Shuffles the order of tools, and in each the order of its keys and of its parameters.
///
/// `tools` are definitions in native form; the members of a parameter (`type`, `description`,
/// `required`) keep their order.
pub fn shuffle_tools(tools: &mut [Value], rng: &mut ChaCha8Rng) {
    tools.shuffle(rng);
    for tool in tools {
        if let Value::Object(object) = tool {
            shuffle_keys(object, rng);
            if let Some(Value::Object(parameters)) = object.get_mut("parameters") {
                shuffle_keys(parameters, rng);
            }
        }
    }
}

/// `example` with a random number of tools, from 1 to `most`: always the called ones, and a random
/// choice of the others.
pub fn with_fewer_tools(example: &Example, most: usize, rng: &mut ChaCha8Rng) -> Example {
    let is_called = |tool: &Tool| example.answers.iter().any(|call| call.name == tool.name);
    let mut others: Vec<usize> = (0..example.tools.len()).filter(|&i| !is_called(&example.tools[i])).collect();
    others.shuffle(rng);
    let called = example.tools.len() - others.len();
    let most = rng.random_range(1..=most.max(1));
    others.truncate(most.saturating_sub(called));
    let keep = |(i, tool): (usize, &Tool)| (is_called(tool) || others.contains(&i)).then(|| tool.clone());
    Example { tools: example.tools.iter().enumerate().filter_map(keep).collect(), ..example.clone() }
}

/// `example` without the tools that it calls, and without calls; `None` if it calls nothing or no
/// tool would be left.
///
/// The result is correct only if the other offered tools cannot do the same.
pub fn without_called_tools(example: &Example) -> Option<Example> {
    let is_called = |tool: &&Tool| example.answers.iter().any(|call| call.name == tool.name);
    let tools: Vec<Tool> = example.tools.iter().filter(|tool| !is_called(tool)).cloned().collect();
    let has_call = !example.answers.is_empty();
    (has_call && !tools.is_empty()).then(|| Example { query: example.query.clone(), tools, answers: Vec::new() })
}

/// The distinct string values of each parameter of each tool, collected from examples.
#[derive(Debug, Clone, Default)]
pub struct ValuePool(HashMap<(String, String), Vec<String>>);

impl ValuePool {
    /// The values in `examples`.
    pub fn new<'a>(examples: impl Iterator<Item = &'a Example>) -> Self {
        let mut pool: HashMap<(String, String), BTreeSet<String>> = HashMap::new();
        for call in examples.flat_map(|example| &example.answers) {
            for (parameter, value) in &call.arguments {
                if let Value::String(value) = value {
                    pool.entry((call.name.clone(), parameter.clone())).or_default().insert(value.clone());
                }
            }
        }
        // `BTreeSet` sorts the values, so that draws do not depend on the order of the examples.
        Self(pool.into_iter().map(|(key, values)| (key, values.into_iter().collect())).collect())
    }
}

/// A parameter with fewer distinct values in the pool is a choice among them; one with at least
/// this many is open to any value.
const OPEN: usize = 16;

/// How values are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OtherValues {
    /// Share of the string arguments that get another value.
    pub fraction: f64,
    /// Of those, the share that gets a made-up word, if the parameter is open; the others get a
    /// value that the same parameter has in another example.
    pub made_up_fraction: f64,
}

/// `example` with other values: a string argument that occurs verbatim in the query, exactly once
/// and in no other argument, may be replaced in both.
pub fn with_other_values(example: &Example, pool: &ValuePool, how: OtherValues, rng: &mut ChaCha8Rng) -> Example {
    let mut changed = example.clone();
    for (c, call) in example.answers.iter().enumerate() {
        let Some(tool) = example.tools.iter().find(|tool| tool.name == call.name) else { continue };
        for (parameter, value) in &call.arguments {
            let (Value::String(value), Some(declared)) = (value, tool.parameter(parameter)) else { continue };
            let Some(known) = pool.0.get(&(call.name.clone(), parameter.clone())) else { continue };
            if !rng.random_bool(how.fraction) {
                continue;
            }
            let other = if known.len() >= OPEN && rng.random_bool(how.made_up_fraction) {
                made_up(rng)
            } else {
                known.choose(rng).cloned().unwrap_or_default()
            };
            if declared.mismatch(&Value::from(other.as_str())).is_some() {
                continue;
            }
            let is_free =
                changed.answers.iter().flat_map(|call| call.arguments.values()).filter(|v| overlaps(v, value)).count()
                    == 1;
            let Some(at) = only_place(&changed.query, value).filter(|_| is_free) else { continue };
            changed.query.replace_range(at..at + value.len(), &other);
            changed.answers[c].arguments.insert(parameter.clone(), other.into());
        }
    }
    changed
}

/// One to four nonsense words, capitalized half the time. They teach the model to copy any value.
fn made_up(rng: &mut ChaCha8Rng) -> String {
    const ONSETS: &str = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kn l m n p ph pl pr qu r s sc sh sk sl sm sn sp st str t th tr v w wh x y z";
    const VOWELS: &str = "a e i o u ai au ea ee ia ie io oa oo ou y";
    const CODAS: &str = "b ck d ff g ght k l ll m mp n nd ng nk nt p r rd rk rn rt s sh ss st t th x z";
    let [onsets, vowels, codas] = [ONSETS, VOWELS, CODAS].map(|all| all.split(' ').collect::<Vec<_>>());
    let words = rng.random_range(1..=4);
    let capitals = rng.random_bool(0.5);
    let mut text = String::new();
    for i in 0..words {
        if i > 0 {
            text.push(' ');
        }
        let start = text.len();
        for _ in 0..rng.random_range(1..=3) {
            if rng.random_bool(0.8) {
                text.push_str(onsets.choose(rng).unwrap_or(&"b"));
            }
            text.push_str(vowels.choose(rng).unwrap_or(&"a"));
            if rng.random_bool(0.5) {
                text.push_str(codas.choose(rng).unwrap_or(&"n"));
            }
        }
        if capitals {
            let first = text[start..].to_uppercase().chars().next().unwrap_or('B');
            text.replace_range(start..=start, &first.to_string());
        }
    }
    text
}

/// Whether replacing `value` in the query could change `other`, too.
fn overlaps(other: &Value, value: &str) -> bool {
    let other = match other {
        Value::String(other) => other.clone(),
        other => other.to_string(),
    };
    other.contains(value) || value.contains(&other)
}

/// Byte offset of `value` in `query`, if it occurs exactly once and as whole words.
fn only_place(query: &str, value: &str) -> Option<usize> {
    let mut places = query.match_indices(value).map(|(at, _)| at);
    let at = places.next().filter(|_| !value.is_empty() && places.next().is_none())?;
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (before, after) = (query[..at].chars().next_back(), query[at + value.len()..].chars().next());
    (!is_word(before) && !is_word(after)).then_some(at)
}

fn shuffle_keys(object: &mut Map<String, Value>, rng: &mut ChaCha8Rng) {
    let mut members: Vec<(String, Value)> = std::mem::take(object).into_iter().collect();
    members.shuffle(rng);
    *object = members.into_iter().collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, rng};
    use serde_json::json;

    #[test]
    fn shuffling_keeps_the_contents_and_follows_the_seed() {
        let parameters: Map<String, Value> = (0..6).map(|i| (format!("p{i}"), json!({"type": "string"}))).collect();
        let tools: Vec<Value> =
            (0..5).map(|i| json!({"name": format!("t{i}"), "description": "d", "parameters": parameters})).collect();
        let shuffled = |seed| {
            let mut copy = tools.clone();
            shuffle_tools(&mut copy, &mut rng(seed, Purpose::ToolOrder, &[]));
            copy
        };
        let text = |tools: &[Value]| Value::from(tools.to_vec()).to_string();
        assert_eq!(text(&shuffled(1)), text(&shuffled(1)));
        assert_ne!(text(&shuffled(1)), text(&shuffled(2)));
        let mut back = shuffled(1);
        back.sort_by_key(|t| t["name"].as_str().map(str::to_owned));
        assert_eq!(back, tools, "equal but for order");
    }

    #[test]
    fn dropping_tools_keeps_those_that_are_called() {
        let tools: Vec<Value> = (0..6).map(|i| json!({"name": format!("t{i}")})).collect();
        let line = json!({"query": "q", "tools": tools, "answers": [{"name": "t4"}, {"name": "t1"}]});
        let example = Example::parse(&line.to_string()).unwrap();
        let mut counts = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let fewer = with_fewer_tools(&example, 4, &mut rng(seed, Purpose::Augmentation, &[]));
            fewer.validate().unwrap();
            counts.insert(fewer.tools.len());
        }
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn withholding_the_called_tool_leaves_nothing_to_call() {
        let line = |tools: Value| json!({"query": "q", "tools": tools, "answers": [{"name": "a"}]}).to_string();
        let two = Example::parse(&line(json!([{"name": "a"}, {"name": "b"}]))).unwrap();
        let without = without_called_tools(&two).unwrap();
        assert_eq!((without.tools.len(), without.tools[0].name.as_str(), without.answers.len()), (1, "b", 0));
        assert!(without_called_tools(&without).is_none(), "nothing is called");
        assert!(without_called_tools(&Example::parse(&line(json!([{"name": "a"}]))).unwrap()).is_none());
    }

    #[test]
    fn other_values_go_into_the_query_and_the_answer_alike_or_nowhere() {
        let example = |query: &str, arguments: Value| {
            let parameters =
                json!({"city": {"type": "string"}, "day": {"type": "string", "enum": ["today", "Monday"]}, "n": {}});
            let tools = json!([{"name": "t", "parameters": parameters}]);
            let line = json!({"query": query, "tools": tools, "answers": [{"name": "t", "arguments": arguments}]});
            Example::parse(&line.to_string()).unwrap()
        };
        let seen = [
            example("rain in Rome on Monday", json!({"city": "Rome", "day": "Monday"})),
            example("rain in New York today", json!({"city": "New York", "day": "today"})),
            example("Åre", json!({"city": "Åre"})),
        ];
        let pool = ValuePool::new(seen.iter());
        let always = OtherValues { fraction: 1.0, made_up_fraction: 0.0 };
        let mut queries = BTreeSet::new();
        for seed in 0..100 {
            let other = with_other_values(&seen[1], &pool, always, &mut rng(seed, Purpose::Augmentation, &[]));
            other.validate().unwrap();
            let text = |key: &str| other.answers[0].arguments[key].as_str().unwrap().to_owned();
            assert_eq!(other.query, format!("rain in {} {}", text("city"), text("day")));
            queries.insert(other.query);
        }
        assert_eq!(queries.len(), 6, "three cities on two days: {queries:?}");
        for (query, arguments) in [
            ("Rome to Rome", json!({"city": "Rome"})),
            ("Romeo", json!({"city": "Rome"})),
            ("Paris", json!({"city": "Rome"})),
            ("in 5 New York", json!({"city": "New York", "n": "York"})),
        ] {
            let example = example(query, arguments);
            let same = with_other_values(&example, &pool, always, &mut rng(1, Purpose::Augmentation, &[]));
            assert_eq!(same, example, "a value that does not occur exactly once is kept");
        }
        assert_eq!(
            with_other_values(&seen[0], &pool, OtherValues::default(), &mut rng(1, Purpose::Augmentation, &[])),
            seen[0]
        );

        // A parameter with many values is open to made-up ones; one with an enum, or with few, is
        // not.
        let many: Vec<Example> = (0..20)
            .map(|i| example(&format!("rain in Town{i} today"), json!({"city": format!("Town{i}"), "day": "today"})))
            .collect();
        let pool = ValuePool::new(many.iter());
        let made_up = OtherValues { fraction: 1.0, made_up_fraction: 1.0 };
        let cities: BTreeSet<String> = (0..100)
            .map(|seed| {
                let other = with_other_values(&many[0], &pool, made_up, &mut rng(seed, Purpose::Augmentation, &[]));
                other.validate().unwrap();
                let city = other.answers[0].arguments["city"].as_str().unwrap().to_owned();
                assert_eq!(other.query, format!("rain in {city} today"));
                city
            })
            .collect();
        assert!(cities.len() > 90 && cities.iter().all(|city| !city.starts_with("Town")), "{cities:?}");
    }
}
