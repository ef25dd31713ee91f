//! Answers that differ in one value, and fit the words of the request better.
//!
//! Forks ([`crate::constrain::search`]) differ from an answer where the model hesitated. A reader
//! also sees what the model never hesitated about: two numbers that stand in the wrong places, a
//! name cut short, `06:15` for a quarter past six in the evening. Each revision mends one such
//! thing. Which of them is the best answer is decided as for forks: by the evidence, in which the
//! model's own probability counts.

use std::ops::Range;

use needle_data::Call;
use needle_data::text::said_times::minutes_of_day;
use needle_data::text::tool::Parameter;
use serde_json::{Map, Number, Value};

use super::Request;
use super::request::{choices, is_word};
use super::spans::{goes_on, place};

/// At most this many different numbers or names of a request are tried.
const MOST_VALUES: usize = 8;
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
                    let names = self.names().into_iter().take(MOST_VALUES);
                    names.filter_map(|at| self.text.get(at)).map(Value::from).collect()
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

    /// Values of an argument that was left out: the value of an enum that the request names, or a
    /// number of it.
    fn left_out(&self, parameter: &Parameter) -> Vec<Value> {
        match choices(&parameter.spec) {
            Some(listed) if parameter.spec.get("enum").is_some() => self.said_choices(listed),
            Some(_) => Vec::new(),
            None => self.number_values(&parameter.spec),
        }
    }

    fn other_values(&self, parameter: &Parameter, value: &Value) -> Vec<Value> {
        let others = match (value, choices(&parameter.spec)) {
            (Value::String(_), Some(listed)) => self.said_choices(listed),
            (Value::Number(_), None) => self.number_values(&parameter.spec),
            (Value::String(text), None) if minutes_of_day(text).is_some() => self.time_values(),
            (Value::String(text), None) => self.texts(text),
            (Value::Array(items), listed) => self.other_lists(items, listed),
            _ => Vec::new(),
        };
        others.into_iter().filter(|other| other != value).collect()
    }

    /// Lists with another value of an item, an item less, or a value of the enum more that the
    /// request names.
    fn other_lists(&self, items: &[Value], listed: Option<&[Value]>) -> Vec<Value> {
        let said = listed.map(|listed| self.said_choices(listed)).unwrap_or_default();
        let mut lists = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let others = match (item, listed) {
                (_, Some(_)) => said.clone(),
                (Value::String(text), None) => self.texts(text),
                _ => Vec::new(),
            };
            for other in others.into_iter().filter(|other| !items.contains(other)) {
                let mut items = items.to_vec();
                items[i] = other;
                lists.push(items.into());
            }
            if items.len() > 1 {
                let mut items = items.to_vec();
                items.remove(i);
                lists.push(items.into());
            }
        }
        let more = said.into_iter().filter(|choice| !items.contains(choice));
        lists.extend(more.map(|choice| Value::from([items, &[choice]].concat())));
        lists
    }

    fn said_choices(&self, listed: &[Value]) -> Vec<Value> {
        let is_said = |choice: &&Value| choice.as_str().is_some_and(|choice| self.has_whole_words(choice));
        listed.iter().filter(is_said).cloned().collect()
    }

    /// The request's numbers, if the parameter takes numbers.
    fn number_values(&self, spec: &Map<String, Value>) -> Vec<Value> {
        let is_integer = match spec.get("type").and_then(Value::as_str) {
            Some("integer") => true,
            Some("number") => false,
            _ => return Vec::new(),
        };
        let all = self.said_numbers.iter().take(MOST_VALUES).map(|said| said.value);
        all.filter_map(|value| number(value, is_integer)).collect()
    }

    /// All readings of the times that the request says, as `HH:MM`.
    fn time_values(&self) -> Vec<Value> {
        let all = self.times.iter().flat_map(|time| time.minutes_of_day.iter());
        all.take(MOST_VALUES).map(|minutes| format!("{:02}:{:02}", minutes / 60, minutes % 60).into()).collect()
    }

    /// Pieces of the request that may be meant instead of `text`.
    fn texts(&self, text: &str) -> Vec<Value> {
        let mut found: Vec<Range<usize>> = Vec::new();
        let trimmed = text.trim_matches(|c: char| !is_word(c));
        if let Some(at) = place(text, self.text, &self.lower).or_else(|| place(trimmed, self.text, &self.lower)) {
            found.push(at.clone());
            found.extend(place(trimmed, self.text, &self.lower).filter(|_| !trimmed.is_empty()));
            found.push(self.whole(at.clone()));
            found.extend(self.with_neighbours(&at));
        }
        found.extend(self.names().into_iter().take(MOST_VALUES));
        let text = |at: Range<usize>| self.text.get(at).map(str::trim).filter(|text| !text.is_empty());
        found.into_iter().filter_map(text).map(Value::from).collect()
    }

    /// `at` with the rest of the words or codes that it begins or ends in.
    fn whole(&self, at: Range<usize>) -> Range<usize> {
        let (mut start, mut end) = (at.start, at.end);
        while let Some(c) = self.text[..start].chars().next_back()
            && goes_on(self.text[..start].chars().rev())
        {
            start -= c.len_utf8();
        }
        while let Some(c) = self.text[end..].chars().next()
            && goes_on(self.text[end..].chars())
        {
            end += c.len_utf8();
        }
        start..end
    }

    /// `at` with a word more or less at either end.
    fn with_neighbours(&self, at: &Range<usize>) -> Vec<Range<usize>> {
        let is_inside = |part: &Range<usize>| at.start <= part.start && part.end <= at.end;
        let places = || self.parts.iter().map(|(_, part)| part);
        let mut found = Vec::new();
        found.extend(places().rfind(|part| part.end <= at.start).map(|part| part.start..at.end));
        found.extend(places().find(|part| at.end <= part.start).map(|part| at.start..part.end));
        let inside: Vec<&Range<usize>> = places().filter(|part| is_inside(part)).collect();
        if let [first, .., last] = inside.as_slice() {
            found.push(inside[1].start..at.end.max(last.end));
            found.push(at.start.min(first.start)..inside[inside.len() - 2].end);
        }
        found
    }

    /// Runs of capitalized words and codes with digits, except the first word of the request, and
    /// what stands in quotes.
    fn names(&self) -> Vec<Range<usize>> {
        let mut names: Vec<Range<usize>> = Vec::new();
        for (_, part) in self.parts.iter().skip(1) {
            let is_name = self.text[part.clone()].starts_with(char::is_uppercase);
            let follows =
                names.last().filter(|name| name.end < part.start).map(|name| &self.text[name.end..part.start]);
            if is_name && follows.is_some_and(|between| between == " ") {
                names.extend(names.last().cloned().map(|name| name.start..part.end));
                let joined = names.len() - 2;
                names.remove(joined);
            } else if is_name {
                names.push(self.whole(part.clone()));
            }
        }
        for quote in ['"', '\'', '`', '“', '«'] {
            let close = match quote {
                '“' => '”',
                '«' => '»',
                other => other,
            };
            if let Some((begin, _)) = self.text.match_indices(quote).next()
                && let Some(length) = self.text[begin + quote.len_utf8()..].find(close)
            {
                names.push(begin + quote.len_utf8()..begin + quote.len_utf8() + length);
            }
        }
        names
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

/// A number as the model writes it: without a fraction if it has none.
fn number(value: f64, is_integer: bool) -> Option<Value> {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return Some(Value::from(value as i64));
    }
    Number::from_f64(value).filter(|_| !is_integer).map(Value::Number)
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
