//! Values that the request says and an argument may have instead of another one: its numbers and
//! times, choices that it names, and pieces of its text.

use std::ops::Range;

use needle_data::text::said_times::minutes_of_day;
use needle_data::text::tool::Parameter;
use serde_json::{Map, Number, Value};

use super::Request;
use super::request::{choices, is_word};
use super::spans::{goes_on, place};

/// At most this many numbers, times, names or items are tried.
const MOST_VALUES: usize = 8;

impl Request<'_> {
    /// Values of an argument that was left out: the value of an enum that the request names, or a
    /// number of it.
    pub(super) fn left_out(&self, parameter: &Parameter) -> Vec<Value> {
        match choices(&parameter.spec) {
            Some(listed) if parameter.spec.get("enum").is_some() => self.said_choices(listed),
            Some(_) => Vec::new(),
            None => self.number_values(&parameter.spec),
        }
    }

    /// Values of an argument that the request says, other than `value`.
    pub(super) fn other_values(&self, parameter: &Parameter, value: &Value) -> Vec<Value> {
        let others = match (value, choices(&parameter.spec)) {
            (Value::String(_), Some(listed)) => self.said_choices(listed),
            (Value::Number(number), None) => {
                let mut others = self.number_values(&parameter.spec);
                // A minus sign that is not in the request may be meant.
                others
                    .retain(|other| other.as_f64().is_none_or(|other| Some(-other) != number.as_f64() || other < 0.0));
                others
            }
            (Value::String(text), None) if minutes_of_day(text).is_some() => self.time_values(),
            (Value::String(text), None) => self.texts(text),
            (Value::Array(items), listed) => self.other_lists(items, listed),
            _ => Vec::new(),
        };
        others.into_iter().filter(|other| other != value).collect()
    }

    /// Lists with one item replaced, one removed, or one more value of the enum that the request
    /// names.
    fn other_lists(&self, items: &[Value], listed: Option<&[Value]>) -> Vec<Value> {
        let said = listed.map(|listed| self.said_choices(listed)).unwrap_or_default();
        let mut lists = Vec::new();
        for (i, item) in items.iter().enumerate().take(MOST_VALUES) {
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

    /// The first readings of the times that the request says, as `HH:MM`.
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
            found.push(whole(self.text, at.clone()));
            found.extend(self.with_neighbours(&at));
        }
        found.extend(self.name_places.iter().cloned());
        let text = |at: Range<usize>| self.text.get(at).map(str::trim).filter(|text| !text.is_empty());
        found.into_iter().filter_map(text).map(Value::from).collect()
    }

    /// `at` with one word more or less at either end.
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
}

/// What stands in quotes, and the first runs of capitalized words after the first word of `text`.
pub(super) fn name_places(text: &str, parts: &[(String, Range<usize>)]) -> Vec<Range<usize>> {
    let mut names = quoted(text);
    let num_quoted = names.len();
    for (_, part) in parts.iter().skip(1) {
        if !text[part.clone()].starts_with(char::is_uppercase) {
            continue;
        }
        let is_full = names.len() == MOST_VALUES;
        match names[num_quoted..].last_mut() {
            Some(last) if part.start < last.end => {}
            Some(last) if &text[last.end..part.start] == " " => last.end = whole(text, part.clone()).end,
            _ if is_full => break,
            _ => names.push(whole(text, part.clone())),
        }
    }
    names
}

/// The first text in each kind of quotes.
fn quoted(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (open, close) in [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('«', '»')] {
        // An apostrophe within a word opens nothing.
        let is_opening = |at: &usize| !text[..*at].ends_with(is_word);
        let begin = text.match_indices(open).map(|(at, _)| at).find(is_opening).map(|at| at + open.len_utf8());
        if let Some(begin) = begin
            && let Some(length) = text[begin..].find(close)
        {
            found.push(begin..begin + length);
        }
    }
    found
}

/// `at` with the rest of the words or codes that it begins or ends in.
fn whole(text: &str, at: Range<usize>) -> Range<usize> {
    let (mut start, mut end) = (at.start, at.end);
    while let Some(c) = text[..start].chars().next_back()
        && goes_on(text[..start].chars().rev())
    {
        start -= c.len_utf8();
    }
    while let Some(c) = text[end..].chars().next()
        && goes_on(text[end..].chars())
    {
        end += c.len_utf8();
    }
    start..end
}

/// A number as the model writes it: without a fraction if it has none.
pub(super) fn number(value: f64, is_integer: bool) -> Option<Value> {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return Some(Value::from(value as i64));
    }
    Number::from_f64(value).filter(|_| !is_integer).map(Value::Number)
}
