//! Answers that differ in one value, and fit the words of the request better.
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
/// Number of tokens of an answer, for comparing it with its revisions before either is encoded.
const ANY_TOKENS: usize = 20;

impl Request<'_> {
    /// The best `most` revisions of `calls`, by the evidence without the model's probability; only
    /// those that it prefers to `calls`.
    pub fn revisions(&self, calls: &[Call], most: usize) -> Vec<Vec<Call>> {
        let score = |calls: &[Call]| self.evidence(calls, 0.0, ANY_TOKENS).score();
        let least = score(calls);
        let mut rated: Vec<(f64, Vec<Call>)> = Vec::new();
        for revision in self.all_revisions(calls).into_iter().take(MOST_TRIED) {
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

    fn all_revisions(&self, calls: &[Call]) -> Vec<Vec<Call>> {
        let mut revised = Vec::new();
        for (i, call) in calls.iter().enumerate() {
            let Some(tool) = self.tool(call) else { continue };
            let mut add = |arguments: Map<String, Value>| {
                let mut calls = calls.to_vec();
                calls[i].arguments = arguments;
                revised.push(calls);
            };
            for parameter in &tool.parameters {
                let Some(value) = call.arguments.get(&parameter.name) else {
                    for value in self.left_out(parameter) {
                        add(with(&call.arguments, &parameter.name, value));
                    }
                    continue;
                };
                for value in self.other_values(parameter, value) {
                    add(with(&call.arguments, &parameter.name, value));
                }
                if !parameter.is_required() {
                    let others = call.arguments.iter().filter(|(name, _)| **name != parameter.name);
                    add(others.map(|(name, value)| (name.clone(), value.clone())).collect());
                }
            }
            for swapped in swaps(&call.arguments) {
                add(swapped);
            }
            if let Some(ordered) = self.in_order(call) {
                add(ordered);
            }
            if calls.len() > 1 {
                revised.push(calls.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, call)| call.clone()).collect());
            }
        }
        revised.extend(swaps_between(calls));
        for (i, call) in calls.iter().enumerate() {
            let replaced = |by: Vec<Call>| [&calls[..i], &by, &calls[i + 1..]].concat();
            revised.extend(self.divided(call).into_iter().chain(self.repeated(call)).map(replaced));
        }
        revised
    }

    /// Several calls instead of one whose string names several things: `Oslo and Bergen`.
    fn divided(&self, call: &Call) -> Vec<Vec<Call>> {
        let mut divided = Vec::new();
        for (name, value) in &call.arguments {
            let Value::String(text) = value else { continue };
            let parts: Vec<&str> = text.split(" and ").flat_map(|part| part.split(", ")).collect();
            if parts.len() > 1 {
                let of_part = |part: &&str| call_with(call, name, Value::from(part.trim()));
                divided.push(parts.iter().map(of_part).collect());
            }
        }
        divided
    }

    /// The call and another one that differs in one argument: `for 10 years and for 20 years`.
    fn repeated(&self, call: &Call) -> Vec<Vec<Call>> {
        let Some(tool) = self.tool(call) else { return Vec::new() };
        let mut repeated = Vec::new();
        for parameter in &tool.parameters {
            let Some(value) = call.arguments.get(&parameter.name) else { continue };
            let others = match (value, choices(&parameter.spec)) {
                (Value::String(text), None) if minutes_of_day(text).is_none() => {
                    self.names().into_iter().filter_map(|at| self.text.get(at)).map(Value::from).collect()
                }
                (Value::Array(_), _) => Vec::new(),
                _ => self.other_values(parameter, value),
            };
            for other in others.into_iter().filter(|other| other != value) {
                repeated.push(vec![call.clone(), call_with(call, &parameter.name, other)]);
            }
        }
        repeated
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
        for (parameter, said) in numeric.iter().zip(&self.said_numbers) {
            let is_integer = parameter.spec.get("type").and_then(Value::as_str) == Some("integer");
            arguments.insert(parameter.name.clone(), number(said.value, is_integer)?);
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
fn swaps(arguments: &Map<String, Value>) -> Vec<Map<String, Value>> {
    let all: Vec<(&String, &Value)> = arguments.iter().collect();
    let mut swapped = Vec::new();
    for (i, (first, a)) in all.iter().enumerate() {
        for (second, b) in &all[i + 1..] {
            let is_alike = a.is_number() && b.is_number() || a.is_string() && b.is_string();
            if is_alike && a != b {
                swapped.push(with(&with(arguments, first, (*b).clone()), second, (*a).clone()));
            }
        }
    }
    swapped
}

/// `calls` with one argument's values of two calls exchanged.
fn swaps_between(calls: &[Call]) -> Vec<Vec<Call>> {
    let mut swapped = Vec::new();
    for i in 0..calls.len() {
        for j in i + 1..calls.len() {
            for (name, a) in &calls[i].arguments {
                if let Some(b) = calls[j].arguments.get(name).filter(|b| *b != a) {
                    let mut calls = calls.to_vec();
                    calls[i].arguments.insert(name.clone(), b.clone());
                    calls[j].arguments.insert(name.clone(), a.clone());
                    swapped.push(calls);
                }
            }
        }
    }
    swapped
}
