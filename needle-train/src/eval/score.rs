//! The scorer of tool calls, which training, `eval` and all reports share.
//!
//! Calls are compared as a multiset: neither their order nor that of their arguments matters. Two
//! values are equal if they are the same JSON, where 3 and 3.0 are the same number and strings must
//! be identical.

use needle_data::Call;
use serde::Serialize;
use serde_json::Value;

/// Fractions in 0..=1; a fraction of nothing is 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Score {
    /// Of all answers, those that are a list of calls.
    pub parse_rate: f64,
    /// F1 of called names.
    pub name_f1: f64,
    /// F1 of whole calls, name and all arguments.
    pub call_f1: f64,
    /// Of all answers, those with exactly the right calls.
    pub exact_match: f64,
    /// Of the calls with the right name, those whose arguments are all right.
    pub args_accuracy: f64,
    /// Of the expected arguments of calls with the right name, those that have the right value.
    pub value_accuracy: f64,
    /// Of the arguments of calls with the right name, those that the reference does not have.
    pub hallucinated_params: f64,
    /// Of the expected arguments of calls with the right name, those that are missing.
    pub missing_params: f64,
    /// Of the answers without a call, those that are right.
    pub no_tool_precision: f64,
    /// Of the examples without a call, those answered without one.
    pub no_tool_recall: f64,
}

/// Accumulates counts over examples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scorer {
    examples: usize,
    parsed: usize,
    exact: usize,
    predicted_calls: usize,
    expected_calls: usize,
    right_names: usize,
    right_calls: usize,
    right_values: usize,
    expected_arguments: usize,
    predicted_arguments: usize,
    hallucinated: usize,
    missing: usize,
    empty_predicted: usize,
    empty_expected: usize,
    empty_right: usize,
}

/// True if the two values are the same JSON, numbers by value.
pub fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64().is_some_and(|a| b.as_f64() == Some(a)),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_value(a, b)))
        }
        _ => a == b,
    }
}

fn same_call(a: &Call, b: &Call) -> bool {
    a.name == b.name && same_value(&Value::Object(a.arguments.clone()), &Value::Object(b.arguments.clone()))
}

/// True if the two answers hold the same calls.
pub fn same_calls(a: &[Call], b: &[Call]) -> bool {
    a.len() == b.len() && pair(a, b, same_call).len() == a.len()
}

/// Pairs each of `a` with one of `b` that it matches, each at most once.
fn pair<'a>(a: &'a [Call], b: &'a [Call], matches: impl Fn(&Call, &Call) -> bool) -> Vec<(&'a Call, &'a Call)> {
    let mut free: Vec<&Call> = b.iter().collect();
    let mut pairs = Vec::new();
    for call in a {
        if let Some(i) = free.iter().position(|other| matches(call, other)) {
            pairs.push((call, free.remove(i)));
        }
    }
    pairs
}

impl Scorer {
    /// Counts one example; `predicted` is `None` where the answer could not be read.
    pub fn add(&mut self, expected: &[Call], predicted: Option<&[Call]>) {
        self.examples += 1;
        self.parsed += usize::from(predicted.is_some());
        self.expected_calls += expected.len();
        self.empty_expected += usize::from(expected.is_empty());
        let Some(predicted) = predicted else { return };
        self.predicted_calls += predicted.len();
        self.empty_predicted += usize::from(predicted.is_empty());
        self.empty_right += usize::from(predicted.is_empty() && expected.is_empty());
        self.exact += usize::from(same_calls(expected, predicted));

        // Calls that are exactly right are paired first, so that a second call of the same tool
        // finds its own reference.
        let whole = pair(expected, predicted, same_call);
        self.right_calls += whole.len();
        let rest = |calls: &[Call], taken: Vec<&Call>| -> Vec<Call> {
            calls.iter().filter(|c| !taken.iter().any(|t| std::ptr::eq(*t, *c))).cloned().collect()
        };
        let left_expected = rest(expected, whole.iter().map(|p| p.0).collect());
        let left_predicted = rest(predicted, whole.iter().map(|p| p.1).collect());
        let named = pair(&left_expected, &left_predicted, |a, b| a.name == b.name);
        self.right_names += whole.len() + named.len();
        for (expected, predicted) in whole.into_iter().chain(named) {
            self.expected_arguments += expected.arguments.len();
            self.predicted_arguments += predicted.arguments.len();
            self.hallucinated += predicted.arguments.keys().filter(|k| !expected.arguments.contains_key(*k)).count();
            for (name, value) in &expected.arguments {
                match predicted.arguments.get(name) {
                    Some(other) => self.right_values += usize::from(same_value(value, other)),
                    None => self.missing += 1,
                }
            }
        }
    }

    /// Number of examples counted.
    pub fn examples(&self) -> usize {
        self.examples
    }

    /// The metrics of all examples counted so far.
    pub fn score(&self) -> Score {
        let of = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let f1 = |right: usize| of(2 * right, self.predicted_calls + self.expected_calls);
        Score {
            parse_rate: of(self.parsed, self.examples),
            name_f1: f1(self.right_names),
            call_f1: f1(self.right_calls),
            exact_match: of(self.exact, self.examples),
            args_accuracy: of(self.right_calls, self.right_names),
            value_accuracy: of(self.right_values, self.expected_arguments),
            hallucinated_params: of(self.hallucinated, self.predicted_arguments),
            missing_params: of(self.missing, self.expected_arguments),
            no_tool_precision: of(self.empty_right, self.empty_predicted),
            no_tool_recall: of(self.empty_right, self.empty_expected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use needle_data::text::example::parse_answers;
    use serde_json::json;

    fn calls(value: Value) -> Vec<Call> {
        parse_answers(Some(&value)).unwrap()
    }

    fn score(pairs: &[(Value, Option<Value>)]) -> Score {
        let mut scorer = Scorer::default();
        for (expected, predicted) in pairs {
            let predicted = predicted.clone().map(calls);
            scorer.add(&calls(expected.clone()), predicted.as_deref());
        }
        scorer.score()
    }

    #[test]
    fn order_does_not_matter_and_numbers_compare_by_value() {
        let expected = json!([{"name": "a", "arguments": {"x": 3, "y": "z"}}, {"name": "b"}]);
        let predicted = json!([{"name": "b"}, {"name": "a", "arguments": {"y": "z", "x": 3.0}}]);
        let score = score(&[(expected, Some(predicted))]);
        assert_eq!((score.exact_match, score.call_f1, score.value_accuracy), (1.0, 1.0, 1.0));
    }

    #[test]
    fn repeated_calls_are_counted_one_by_one() {
        let one = |x: i32| json!({"name": "a", "arguments": {"x": x}});
        let score = score(&[(json!([one(1), one(2)]), Some(json!([one(2), one(3)])))]);
        assert_eq!((score.name_f1, score.call_f1, score.exact_match), (1.0, 0.5, 0.0));
        assert_eq!((score.args_accuracy, score.value_accuracy), (0.5, 0.5));
    }

    #[test]
    fn invented_and_forgotten_arguments_are_told_apart() {
        let expected = json!([{"name": "a", "arguments": {"x": 1, "y": 2}}]);
        let predicted = json!([{"name": "a", "arguments": {"x": 1, "z": 2}}]);
        let score = score(&[(expected, Some(predicted))]);
        assert_eq!((score.hallucinated_params, score.missing_params, score.value_accuracy), (0.5, 0.5, 0.5));
    }

    #[test]
    fn false_calls_and_unreadable_answers_count_against_the_model() {
        let call = json!([{"name": "a"}]);
        let score = score(&[
            (json!([]), Some(json!([]))),
            (json!([]), Some(call.clone())),
            (call.clone(), Some(json!([]))),
            (call, None),
        ]);
        assert_eq!((score.no_tool_precision, score.no_tool_recall), (0.5, 0.5));
        assert_eq!((score.parse_rate, score.exact_match, score.name_f1), (0.75, 0.25, 0.0));
    }

    #[test]
    fn nothing_to_count_is_zero_and_not_nan() {
        assert_eq!(Scorer::default().score(), Score::default());
    }
}
