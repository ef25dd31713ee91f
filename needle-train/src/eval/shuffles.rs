//! Measures how often the order of the offered tools changes the answer.
//!
//! Every example is asked again with its tools in other orders, and the answers are compared with
//! the first one.

use needle_data::Example;
use needle_data::random::{Purpose, rng};
use needle_runtime::{Needle, Prediction, RuntimeError};
use rand::seq::SliceRandom;
use serde::Serialize;

use super::score::same_calls;
use super::{answers, is_exact};

/// How much answers depend on the order of the tools.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrderAgreement {
    /// Number of other orders in which each example was asked.
    pub shuffles: usize,
    /// Number of examples with two tools or more: only these have another order.
    pub shuffled_examples: usize,
    /// Fraction of their answers in another order that are the same calls as in the given one.
    pub shuffle_agreement: f64,
    /// Fraction of them with the same calls in all orders.
    pub same_in_all_orders: f64,
    /// Exact match in each of the other orders.
    pub exact_match_shuffled: Vec<f64>,
}

/// The other orders in which examples are asked.
#[derive(Debug, Clone, Copy)]
pub struct Shuffles {
    /// Number of orders.
    pub count: usize,
    /// Seed from which they are drawn.
    pub seed: u64,
}

/// Asks `examples` again, with their tools in other orders; `predictions` are the answers of
/// `needle` in the given order.
///
/// # Errors
/// As [`super::evaluate`].
pub fn order_agreement(
    needle: &Needle,
    examples: &[Example],
    predictions: &[Prediction],
    shuffles: Shuffles,
) -> Result<OrderAgreement, RuntimeError> {
    // Only calls are compared.
    let needle = needle.clone().with_confidence(None);
    let several: Vec<usize> = (0..examples.len()).filter(|&i| examples[i].tools.len() > 1).collect();
    let mut same = vec![0; several.len()];
    let mut exact = Vec::new();
    for shuffle in 0..shuffles.count {
        let other_order = |&i: &usize| reordered(&examples[i], shuffles.seed, [i, shuffle]);
        let shuffled: Vec<Example> = several.iter().map(other_order).collect();
        let again = answers(&needle, &shuffled, &mut |_| {})?;
        for ((same, &i), other) in same.iter_mut().zip(&several).zip(&again) {
            *same += usize::from(are_same(&predictions[i], other));
        }
        let right = shuffled.iter().zip(&again).filter(|(example, prediction)| is_exact(example, prediction)).count();
        exact.push(right as f64 / several.len().max(1) as f64);
    }
    let n = several.len().max(1) as f64;
    Ok(OrderAgreement {
        shuffles: shuffles.count,
        shuffled_examples: several.len(),
        shuffle_agreement: same.iter().sum::<usize>() as f64 / (n * shuffles.count.max(1) as f64),
        same_in_all_orders: same.iter().filter(|&&same| same == shuffles.count).count() as f64 / n,
        exact_match_shuffled: exact,
    })
}

/// `example` with its tools in another order, drawn from `seed` and `place`. Two tools have only
/// one other order.
fn reordered(example: &Example, seed: u64, place: [usize; 2]) -> Example {
    let mut rng = rng(seed, Purpose::AskedAgain, &place.map(|i| i as u64));
    let mut order: Vec<usize> = (0..example.tools.len()).collect();
    while order.is_sorted() {
        order.shuffle(&mut rng);
    }
    let tools = order.into_iter().map(|i| example.tools[i].clone()).collect();
    Example { tools, ..example.clone() }
}

fn are_same(a: &Prediction, b: &Prediction) -> bool {
    match (&a.calls, &b.calls) {
        (Some(a), Some(b)) => same_calls(a, b),
        (None, None) => a.text == b.text,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_asked_again_with_all_of_its_tools_in_another_order() {
        let tools: Vec<String> = (0..4).map(|i| format!(r#"{{"name":"t{i}","parameters":{{}}}}"#)).collect();
        let line = format!(r#"{{"query":"q","tools":[{}],"answers":[]}}"#, tools.join(","));
        let example = Example::parse(&line).unwrap();
        let names = |example: &Example| example.tools.iter().map(|tool| tool.name.clone()).collect::<Vec<_>>();
        let orders: Vec<_> = (0..5).map(|shuffle| names(&reordered(&example, 7, [3, shuffle]))).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort();
            assert!(sorted == names(&example) && *order != sorted, "{order:?}");
        }
        assert_eq!(names(&reordered(&example, 7, [3, 0])), orders[0]);
        assert!(orders.iter().any(|order| *order != orders[0]));
    }
}
