//! Whether values stand in the request beside the words of their own parameter: `height of 5`,
//! `b=6`, `12 minutes`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use needle_data::text::said_numbers::SaidNumber;
use needle_data::{Call, Tool};
use serde_json::Value;

use super::request::{FUNCTION_WORDS, choices, parts_with_places};
use super::spans::place;

/// A label stands at most this many words before or after its value.
const REACH: usize = 3;

/// Counts over the values of an answer that the request has.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Labels {
    /// Values whose nearest label belongs to their parameter.
    pub(super) own: usize,
    /// Values whose nearest label belongs to another parameter of the tool.
    pub(super) other: usize,
    /// Pairs of values of one kind, neither of them labelled, whose order in the request is not
    /// that of their parameters in the definition.
    pub(super) inverted: usize,
}

/// The words of a request and its numbers, with their places.
pub(super) struct Places<'a> {
    pub(super) text: &'a str,
    pub(super) lower: &'a str,
    pub(super) parts: &'a [(String, Range<usize>)],
    pub(super) numbers: &'a [SaidNumber],
}

/// A value that the request has.
struct Placed {
    parameter: usize,
    is_number: bool,
    at: Range<usize>,
}

impl Labels {
    /// Of one call of `tool`, whose words are `labels`.
    pub(super) fn of_call(tool: &Tool, ToolLabels(labels): &ToolLabels, call: &Call, request: &Places<'_>) -> Self {
        let placed = request.placed(tool, call);
        let mut counts = Self::default();
        let mut unlabelled: Vec<&Placed> = Vec::new();
        for value in &placed {
            match request.nearest_label(&value.at, labels, &placed) {
                Some(owner) if owner == value.parameter => counts.own += 1,
                Some(_) => counts.other += 1,
                None => unlabelled.push(value),
            }
        }
        for (i, first) in unlabelled.iter().enumerate() {
            let others = unlabelled[i + 1..].iter().filter(|second| second.is_number == first.is_number);
            let is_inverted =
                |second: &&&Placed| (first.parameter < second.parameter) != (first.at.start < second.at.start);
            counts.inverted += others.filter(is_inverted).count();
        }
        counts
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { own: self.own + other.own, other: self.other + other.other, inverted: self.inverted + other.inverted }
    }
}

impl Places<'_> {
    /// The numbers and open strings among the arguments of `call` that the request has; each place
    /// of a number is used once.
    fn placed(&self, tool: &Tool, call: &Call) -> Vec<Placed> {
        let mut placed: Vec<Placed> = Vec::new();
        for (parameter, declared) in tool.parameters.iter().enumerate() {
            if choices(&declared.spec).is_some() {
                continue;
            }
            let at = match call.arguments.get(&declared.name) {
                Some(Value::Number(number)) => {
                    let is = |said: &&SaidNumber| {
                        number.as_f64().map(f64::abs) == Some(said.value.abs())
                            && placed.iter().all(|other| other.at != said.at)
                    };
                    self.numbers.iter().find(is).map(|said| said.at.clone())
                }
                Some(Value::String(text)) if !text.is_empty() => place(text, self.text, self.lower),
                _ => None,
            };
            let is_number = call.arguments.get(&declared.name).is_some_and(Value::is_number);
            placed.extend(at.map(|at| Placed { parameter, is_number, at }));
        }
        placed
    }

    /// The parameter that the label nearest to `at` belongs to. The search ends at other values.
    fn nearest_label(&self, at: &Range<usize>, labels: &[HashSet<String>], placed: &[Placed]) -> Option<usize> {
        let is_free = |part: &&(String, Range<usize>)| {
            placed.iter().all(|value| value.at.end <= part.1.start || part.1.end <= value.at.start)
        };
        let before = self.parts.iter().rev().filter(|(_, part)| part.end <= at.start);
        let after = self.parts.iter().filter(|(_, part)| at.end <= part.start);
        let before: Vec<&str> = before.take_while(is_free).take(REACH).map(|(word, _)| word.as_str()).collect();
        let after: Vec<&str> = after.take_while(is_free).take(REACH).map(|(word, _)| word.as_str()).collect();
        for distance in 0..REACH {
            for word in [before.get(distance), after.get(distance)].into_iter().flatten() {
                let owner = labels.iter().position(|words| words.iter().any(|label| is_same_word(label, word)));
                if owner.is_some() {
                    return owner;
                }
            }
        }
        None
    }
}

/// The words of each parameter's name and description that no other parameter of the tool has.
pub(super) struct ToolLabels(Vec<HashSet<String>>);

impl ToolLabels {
    /// Of the parameters of `tool`, in their order.
    pub(super) fn new(tool: &Tool) -> Self {
        let words = |name: &str, description: Option<&Value>| -> HashSet<String> {
            let description = description.and_then(Value::as_str).unwrap_or_default();
            let of_description = parts_with_places(description).into_iter().map(|(word, _)| word);
            let all = parts_of_name(name).into_iter().chain(of_description);
            all.filter(|word| !FUNCTION_WORDS.split(' ').any(|other| other == word)).collect()
        };
        let parameters = tool.parameters.iter();
        let all: Vec<HashSet<String>> =
            parameters.map(|parameter| words(&parameter.name, parameter.spec.get("description"))).collect();
        let mut owners: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for (i, words) in all.iter().enumerate() {
            words.iter().for_each(|word| _ = owners.entry(word).or_default().insert(i));
        }
        let is_own = |i: usize, word: &str| {
            let longer = owners.range(word..).take_while(|(other, _)| other.starts_with(word));
            let shorter = (0..word.len()).filter_map(|end| owners.get_key_value(word.get(..end)?));
            let mut same = longer.chain(shorter).filter(|(other, _)| is_same_word(other, word));
            same.all(|(_, owners)| owners.iter().all(|owner| *owner == i))
        };
        let own =
            |(i, words): (usize, &HashSet<String>)| words.iter().filter(|word| is_own(i, word)).cloned().collect();
        Self(all.iter().enumerate().map(own).collect())
    }
}

/// The words of a name such as `start_time`, `startTime` or `x1`, in lower case.
fn parts_of_name(name: &str) -> Vec<String> {
    let mut spaced = String::new();
    let mut last = ' ';
    for c in name.chars() {
        if last.is_lowercase() && c.is_uppercase() {
            spaced.push(' ');
        }
        spaced.push(c);
        last = c;
    }
    parts_with_places(&spaced).into_iter().map(|(word, _)| word).collect()
}

/// True for equal words, and for a long one and its beginning (`temp`, `temperature`; `crate`,
/// `crates`).
fn is_same_word(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    short == long || short.len() >= 4 && long.starts_with(short)
}
