//! Answers that differ in a value or a call, and fit the words of the request better.
//!
//! Forks ([`crate::constrain::search`]) differ from an answer where the model hesitated. A reader
//! also sees what the model never hesitated about: two numbers that stand in the wrong places, a
//! name cut short, `06:15` for a quarter past six in the evening. Each revision mends one such
//! thing. Which of them is the best answer is decided as for forks: by the evidence, in which the
//! model's own probability counts.

use needle_data::Call;
use needle_data::text::said_times::minutes_of_day;
use needle_data::text::tool::Parameter;
use serde_json::{Map, Value};

use super::Request;
use super::other_values::number;
use super::request::choices;

/// At most this many revisions of one answer are compared.
const MOST_TRIED: usize = 200;
/// A string is divided into at most this many calls.
const MOST_PARTS: usize = 8;
/// Number of tokens of an answer, for comparing it with its revisions before either is encoded.
const ANY_TOKENS: usize = 20;

impl Request<'_> {
    /// The best `most` revisions of `calls`, by the evidence without the model's probability; only
    /// those that it prefers to `calls`.
    pub fn revisions(&self, calls: &[Call], most: usize) -> Vec<Vec<Call>> {
        let score = |calls: &[Call]| self.evidence(calls, 0.0, ANY_TOKENS).score();
        let least = score(calls);
        let mut rated: Vec<(f64, Vec<Call>)> = Vec::new();
        for revision in self.all_revisions(calls) {
            let score = score(&revision);
            let is_new = || rated.iter().all(|(_, other)| *other != revision);
            if score > least && is_new() && self.is_valid(&revision) {
                rated.push((score, revision));
            }
        }
        rated.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        rated.truncate(most);
        rated.into_iter().map(|(_, revision)| revision).collect()
    }

    fn is_valid(&self, calls: &[Call]) -> bool {
        calls.iter().all(|call| self.tool(call).is_some_and(|tool| tool.violation(&call.arguments).is_none()))
    }

    /// The first revisions of each call, as many of each.
    pub(super) fn all_revisions(&self, calls: &[Call]) -> Vec<Vec<Call>> {
        let of_each = MOST_TRIED / calls.len().max(1);
        let mut revised: Vec<Vec<Call>> = swaps_between(calls).take(of_each).collect();
        for (i, call) in calls.iter().enumerate() {
            let replaced = |by: Vec<Call>| [&calls[..i], &by, &calls[i + 1..]].concat();
            let with_arguments = |arguments| vec![Call { name: call.name.clone(), arguments }];
            let removed = (calls.len() > 1).then(Vec::new);
            let few = removed.into_iter().chain(self.divided(call)).chain(self.in_order(call).map(with_arguments));
            let values = self.with_other_values(call).take(of_each / 2).map(with_arguments);
            let repeated = self.repeated(call).take(of_each / 4);
            let all = few.chain(values).chain(swaps(&call.arguments).map(with_arguments)).take(of_each - of_each / 4);
            revised.extend(all.chain(repeated).map(replaced));
        }
        revised
    }

    /// The arguments with one value replaced, left out, or added.
    fn with_other_values<'b>(&'b self, call: &'b Call) -> impl Iterator<Item = Map<String, Value>> + 'b {
        let parameters = self.tool(call).into_iter().flat_map(|tool| &tool.parameters);
        parameters.flat_map(move |parameter| {
            let given = call.arguments.get(&parameter.name);
            let values = match given {
                Some(value) => self.other_values(parameter, value),
                None => self.left_out(parameter),
            };
            let less = given.filter(|_| !parameter.is_required()).map(|_| {
                let others = call.arguments.iter().filter(|(name, _)| **name != parameter.name);
                others.map(|(name, value)| (name.clone(), value.clone())).collect()
            });
            let with_value = move |value| with(&call.arguments, &parameter.name, value);
            less.into_iter().chain(values.into_iter().map(with_value))
        })
    }

    /// Several calls instead of one whose string names a few things: `Oslo, Rome, and Bergen`.
    fn divided(&self, call: &Call) -> Vec<Vec<Call>> {
        let mut divided = Vec::new();
        for (name, value) in &call.arguments {
            let Value::String(text) = value else { continue };
            let parts = text.split(" and ").flat_map(|part| part.split(", ")).map(|part| part.trim_matches([' ', ',']));
            let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).take(MOST_PARTS + 1).collect();
            if (2..=MOST_PARTS).contains(&parts.len()) {
                divided.push(parts.iter().map(|part| call_with(call, name, Value::from(*part))).collect());
            }
        }
        divided
    }

    /// The call and another one that differs in one argument: `for 10 years and for 20 years`.
    fn repeated<'b>(&'b self, call: &'b Call) -> impl Iterator<Item = Vec<Call>> + 'b {
        let parameters = self.tool(call).into_iter().flat_map(|tool| &tool.parameters);
        let given = parameters.filter_map(|parameter| Some((parameter, call.arguments.get(&parameter.name)?)));
        given.flat_map(move |(parameter, value)| {
            let others = match (value, choices(&parameter.spec)) {
                (Value::String(text), None) if minutes_of_day(text).is_none() => {
                    self.name_places.iter().filter_map(|at| self.text.get(at.clone())).map(Value::from).collect()
                }
                (Value::Array(_), _) => Vec::new(),
                _ => self.other_values(parameter, value),
            };
            let others = others.into_iter().filter(move |other| other != value);
            others.map(move |other| vec![call.clone(), call_with(call, &parameter.name, other)])
        })
    }

    /// The numbers of `call` in the order in which the request says as many, for parameters in the
    /// order of their declaration.
    fn in_order(&self, call: &Call) -> Option<Map<String, Value>> {
        let tool = self.tool(call)?;
        let is_number = |parameter: &&Parameter| call.arguments.get(&parameter.name).is_some_and(Value::is_number);
        let numeric: Vec<&Parameter> = tool.parameters.iter().filter(is_number).collect();
        if numeric.len() < 2 || numeric.len() != self.said_numbers.len() {
            return None;
        }
        let mut arguments = call.arguments.clone();
        let given: Vec<f64> = call.arguments.values().filter_map(Value::as_f64).collect();
        for (parameter, said) in numeric.iter().zip(&self.said_numbers) {
            let is_integer = parameter.spec.get("type").and_then(Value::as_str) == Some("integer");
            // The model may have read a sign where this does not.
            let value = if given.contains(&-said.value) { -said.value.abs() } else { said.value };
            arguments.insert(parameter.name.clone(), number(value, is_integer)?);
        }
        Some(arguments)
    }
}

/// `arguments` with another value of `name`, at its place or at the end.
fn with(arguments: &Map<String, Value>, name: &str, value: Value) -> Map<String, Value> {
    let mut arguments = arguments.clone();
    arguments.insert(name.to_owned(), value);
    arguments
}

fn call_with(call: &Call, name: &str, value: Value) -> Call {
    Call { name: call.name.clone(), arguments: with(&call.arguments, name, value) }
}

/// `arguments` with the values of two numbers, or of two strings, exchanged.
fn swaps(arguments: &Map<String, Value>) -> impl Iterator<Item = Map<String, Value>> + '_ {
    let is_alike = |a: &Value, b: &Value| a.is_number() && b.is_number() || a.is_string() && b.is_string();
    arguments.iter().enumerate().flat_map(move |(i, (first, a))| {
        let others = arguments.iter().skip(i + 1).filter(move |(_, b)| is_alike(a, b) && a != *b);
        others.map(move |(second, b)| with(&with(arguments, first, b.clone()), second, a.clone()))
    })
}

/// `calls` with one argument's values of two calls exchanged.
fn swaps_between(calls: &[Call]) -> impl Iterator<Item = Vec<Call>> + '_ {
    let pairs = (0..calls.len()).flat_map(|i| (i + 1..calls.len()).map(move |j| (i, j)));
    pairs.flat_map(move |(i, j)| {
        let shared =
            calls[i].arguments.iter().filter_map(move |(name, a)| Some((name, a, calls[j].arguments.get(name)?)));
        shared.filter(|(_, a, b)| a != b).map(move |(name, a, b)| {
            let mut calls = calls.to_vec();
            calls[i].arguments.insert(name.clone(), b.clone());
            calls[j].arguments.insert(name.clone(), a.clone());
            calls
        })
    })
}
