//! Seeded shuffling of what has no order: the offered tools, the parameters of a tool, the keys of a definition.
//!
//! Without it a model learns positions instead of names. The seed comes from the example's place in the epoch, so that a
//! resumed run shuffles as the uninterrupted one would have.

use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value};

use crate::example::Example;
use crate::tool::Tool;

/// The random stream for one purpose at one position: equal inputs give equal streams, others unrelated ones.
///
/// The mixing is SplitMix64's finalizer (Steele, Lea and Flood 2014), applied to each input in turn.
pub fn stream(seed: u64, inputs: &[u64]) -> ChaCha8Rng {
    let mixed = inputs.iter().fold(seed, |state, &input| {
        let mut z = state ^ input.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    });
    ChaCha8Rng::seed_from_u64(mixed)
}

/// Shuffles the order of tools, and in each the order of its keys and of its parameters.
///
/// `tools` are definitions in native form; the members of a parameter (`type`, `description`, `required`) keep their order.
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

/// `example` offering one to `most` tools, at random: those that it calls, and a random choice of the others.
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

fn shuffle_keys(object: &mut Map<String, Value>, rng: &mut ChaCha8Rng) {
    let mut members: Vec<(String, Value)> = std::mem::take(object).into_iter().collect();
    members.shuffle(rng);
    *object = members.into_iter().collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shuffling_keeps_the_contents_and_follows_the_seed() {
        let parameters: Map<String, Value> = (0..6).map(|i| (format!("p{i}"), json!({"type": "string"}))).collect();
        let tools: Vec<Value> =
            (0..5).map(|i| json!({"name": format!("t{i}"), "description": "d", "parameters": parameters})).collect();
        let shuffled = |seed| {
            let mut copy = tools.clone();
            shuffle_tools(&mut copy, &mut stream(seed, &[7]));
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
            let fewer = with_fewer_tools(&example, 4, &mut stream(seed, &[]));
            fewer.validate().unwrap();
            counts.insert(fewer.tools.len());
        }
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn streams_of_different_inputs_differ() {
        let first = |inputs: &[u64]| stream(3, inputs).random::<u64>();
        assert_eq!(first(&[1, 2]), first(&[1, 2]));
        assert_ne!(first(&[1, 2]), first(&[2, 1]));
        assert_ne!(first(&[0]), first(&[0, 0]));
    }
}
