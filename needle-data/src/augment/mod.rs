//! Seeded augmentation of training examples, drawn anew in each epoch: the order of unordered parts
//! (the offered tools, the parameters of a tool, the keys of a definition), the selection of
//! offered tools, and the values in the query.
//!
//! Without it, a model learns positions instead of names, and memorizes tools and values instead of
//! reading them. The seed comes from the example's place in the epoch, so that a resumed run draws
//! the same as an uninterrupted one.

mod forms;
#[cfg(feature = "training")]
pub mod mask;
mod numbers;
mod places;
#[cfg(feature = "training")]
mod refuse;
mod times;
mod values;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use serde_json::{Map, Value};

use crate::text::example::Example;
use crate::text::tool::Tool;

#[cfg(feature = "training")]
use values::made_up;
pub use values::{OtherValues, ValuePool, with_other_values};

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
}
