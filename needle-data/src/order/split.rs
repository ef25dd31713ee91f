//! Train, validation and test parts, split per tool.
//!
//! The original asks for 120 examples per tool and splits them 100/10/10; here the parts have that
//! proportion for any number, and no query is in two parts, however often it occurs.

use std::collections::{BTreeMap, HashSet};

use rand::seq::SliceRandom;

use crate::random::{Purpose, rng};
use crate::text::example::Example;

/// Number of examples that a tool needs for meaningful metrics (the original's recommendation).
pub const RECOMMENDED_PER_TOOL: usize = 120;
/// One in this many examples goes to validation, and one to test.
const PARTS: usize = 12;

/// Indices of the examples of each part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// For training.
    pub train: Vec<usize>,
    /// For selecting a checkpoint.
    pub validation: Vec<usize>,
    /// For the final metrics.
    pub test: Vec<usize>,
}

/// The key by which queries are compared: their words in lower case.
pub fn query_key(query: &str) -> String {
    query.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// Splits `examples`, grouped by the tool that each calls first (those without a call form a group
/// of their own).
///
/// From a group of at least three distinct queries, validation and test get a twelfth each, at
/// least one.
pub fn split_by_tool(examples: &[Example], seed: u64) -> Split {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, example) in examples.iter().enumerate() {
        groups.entry(example.answers.first().map_or("", |call| &call.name)).or_default().push(i);
    }
    let mut split = Split::default();
    // The part of each query so far: all copies of a query go to the part of the first one.
    let mut placed: BTreeMap<String, u8> = BTreeMap::new();
    for (group, (_, mut members)) in groups.into_iter().enumerate() {
        members.shuffle(&mut rng(seed, Purpose::Split, &[group as u64]));
        let distinct: HashSet<String> = members.iter().map(|&i| query_key(&examples[i].query)).collect();
        let held = if distinct.len() < 3 { 0 } else { ((distinct.len() + PARTS / 2) / PARTS).max(1) };
        let (mut validation, mut test) = (held, held);
        for index in members {
            let part = *placed.entry(query_key(&examples[index].query)).or_insert_with(|| {
                for (left, part) in [(&mut validation, 1), (&mut test, 2)] {
                    if *left > 0 {
                        *left -= 1;
                        return part;
                    }
                }
                0
            });
            [&mut split.train, &mut split.validation, &mut split.test][part as usize].push(index);
        }
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(counts: &[usize]) -> Vec<Example> {
        let line = |tool: usize, i: usize| {
            format!(
                r#"{{"query":"tool {tool} number {i}","tools":[{{"name":"t{tool}"}}],"answers":[{{"name":"t{tool}"}}]}}"#
            )
        };
        counts
            .iter()
            .enumerate()
            .flat_map(|(t, &n)| (0..n).map(move |i| Example::parse(&line(t, i)).unwrap()))
            .collect()
    }

    #[test]
    fn a_hundred_and_twenty_give_a_hundred_ten_and_ten() {
        let split = split_by_tool(&examples(&[120, 120]), 1);
        assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (200, 20, 20));
    }

    #[test]
    fn every_example_is_in_one_part_and_few_suffice() {
        for counts in [vec![3], vec![1, 2, 5, 40], vec![7, 130]] {
            let examples = examples(&counts);
            let split = split_by_tool(&examples, 9);
            let mut all = [split.train.clone(), split.validation.clone(), split.test.clone()].concat();
            all.sort_unstable();
            assert_eq!(all, (0..examples.len()).collect::<Vec<_>>());
            assert!(!split.train.is_empty());
        }
        let split = split_by_tool(&examples(&[3]), 0);
        assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (1, 1, 1));
    }

    #[test]
    fn no_query_stands_in_two_parts_even_under_two_tools() {
        let mut examples = examples(&[30, 30]);
        for (i, example) in examples.iter_mut().enumerate() {
            example.query = format!("Say   {}", i % 7);
        }
        let split = split_by_tool(&examples, 5);
        let keys = |part: &[usize]| part.iter().map(|&i| query_key(&examples[i].query)).collect::<HashSet<_>>();
        let (a, b, c) = (keys(&split.train), keys(&split.validation), keys(&split.test));
        assert!(a.is_disjoint(&b) && a.is_disjoint(&c) && b.is_disjoint(&c));
    }
}
