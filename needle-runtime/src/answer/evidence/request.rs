//! A request and its tools, split once, and the features of answers to it.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::ops::Range;

use needle_data::similarity::SimilarityTo;
use needle_data::text::said_numbers::{SaidNumber, numbers_in_digits, numbers_with_places};
use needle_data::text::said_times::{SaidTime, minutes_of_day, said_times};
use needle_data::{Call, Tokenizer, Tool};
use serde_json::{Map, Value};

use super::Evidence;
use super::labels::{Labels, Places, ToolLabels};
use super::other_values::name_places;
use super::spans::Spans;
use crate::constrain::grounding::Query;

/// Log-probabilities are bounded by this: how improbable an endless answer is says nothing more.
const LEAST_LOG_PROB: f64 = -30.0;

/// A longer answer is no better, so that an endless one is not chosen for its length.
const MOST_TOKENS: usize = 100;

/// At most this many names, numbers and times of a request count, so that a long one takes no
/// longer.
const MOST_SAID: usize = 64;

/// Words that say nothing about which tool is meant.
pub(super) const FUNCTION_WORDS: &str = "a an the of to in on at for with and or by from is are be it i my me please can could you would like want need this that there what which how do does did no not so as we us our your just also then them they he she his her its if up out off over under about into any all some was were will shall let make set get give put has have had";

/// A request, split once for all of its answers.
pub struct Request<'a> {
    pub(super) text: &'a str,
    pub(super) lower: String,
    /// What is offered.
    tools: Vec<Offered<'a>>,
    query: Query,
    /// Different words other than function words, in lower case.
    content_words: HashSet<String>,
    /// All runs of letters and digits, in lower case, and their places.
    pub(super) parts: Vec<(String, Range<usize>)>,
    /// The different texts of `parts`.
    different_parts: HashSet<String>,
    /// Capitalized words except the first word, in lower case.
    names: Vec<String>,
    /// Where names and quoted texts stand.
    pub(super) name_places: Vec<Range<usize>>,
    /// In digits, but not of a time.
    numbers: Vec<f64>,
    /// In digits or words, with their places.
    pub(super) said_numbers: Vec<SaidNumber>,
    pub(super) times: Vec<SaidTime>,
    has_and: bool,
    has_negation: bool,
}

/// A tool on offer.
struct Offered<'a> {
    tool: &'a Tool,
    /// By word vectors, 0 without them.
    similarity: f64,
    /// The content words of the request that its definition has; of called tools only.
    shared_words: OnceCell<HashSet<String>>,
    /// The words of its parameters; of called tools only.
    labels: OnceCell<ToolLabels>,
}

/// What the arguments of an answer say.
#[derive(Default)]
struct Said<'a> {
    numbers: Vec<f64>,
    /// Strings that no enum lists.
    strings: Vec<&'a str>,
    /// Values of enums, each with all of the enum's.
    choices: Vec<(&'a str, &'a [Value])>,
    booleans: usize,
}

impl<'a> Said<'a> {
    /// Adds a value; `choices` are those of its enum, if it has one.
    fn add(&mut self, value: &'a Value, choices: Option<&'a [Value]>) {
        match value {
            Value::Bool(_) => self.booleans += 1,
            Value::Number(number) => self.numbers.extend(number.as_f64()),
            Value::String(text) => match choices {
                Some(choices) => self.choices.push((text, choices)),
                None => self.strings.push(text),
            },
            Value::Array(items) => items.iter().for_each(|item| self.add(item, choices)),
            Value::Object(members) => members.values().for_each(|member| self.add(member, choices)),
            Value::Null => {}
        }
    }
}

/// The values of a parameter's enum, or of its items'.
pub(super) fn choices(spec: &Map<String, Value>) -> Option<&[Value]> {
    let listed = spec.get("enum").or_else(|| spec.get("items")?.get("enum"));
    listed.and_then(Value::as_array).map(Vec::as_slice)
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The runs of letters and digits of `text`, in lower case.
fn parts(text: &str) -> Vec<String> {
    parts_with_places(text).into_iter().map(|(part, _)| part).collect()
}

/// The runs of letters and digits of `text`, in lower case, and their places.
pub(super) fn parts_with_places(text: &str) -> Vec<(String, Range<usize>)> {
    let mut parts = Vec::new();
    let mut at = 0;
    for part in text.split(|c: char| !c.is_alphanumeric()) {
        if !part.is_empty() {
            parts.push((part.to_lowercase(), at..at + part.len()));
        }
        at += part.len();
        at += text[at..].chars().next().map_or(0, char::len_utf8);
    }
    parts
}

/// True if `text` has parts, and all of them are `known`.
fn has_parts(text: &str, known: impl Fn(&String) -> bool) -> bool {
    let parts = parts(text);
    !parts.is_empty() && parts.iter().all(known)
}

pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

impl<'a> Request<'a> {
    /// A request with its offered tools.
    pub fn new(text: &'a str, tools: &'a [Tool], tokenizer: &Tokenizer) -> Self {
        let function_words: HashSet<&str> = FUNCTION_WORDS.split(' ').collect();
        let lower = text.to_lowercase();
        let content_words = words(&lower).filter(|word| !function_words.contains(word)).map(str::to_owned).collect();
        let is_name = |word: &&str| word.starts_with(char::is_uppercase) && *word != "I";
        let times = first(said_times(text));
        let mut rest = text.to_owned();
        for time in times.iter().rev().filter(|time| time.is_certain) {
            rest.replace_range(time.at.clone(), &" ".repeat(time.at.len()));
        }
        let similarity = SimilarityTo::new(text, tokenizer);
        let offered = |tool: &'a Tool| Offered {
            tool,
            similarity: similarity.as_ref().map_or(0.0, |to| f64::from(to.of_tool(&tool.to_json()))),
            shared_words: OnceCell::new(),
            labels: OnceCell::new(),
        };
        let parts = parts_with_places(text);
        Self {
            tools: tools.iter().map(offered).collect(),
            text,
            query: Query::new(text),
            content_words,
            different_parts: parts.iter().map(|(part, _)| part.clone()).collect(),
            names: words(text).skip(1).filter(is_name).take(MOST_SAID).map(str::to_lowercase).collect(),
            name_places: name_places(text, &parts),
            parts,
            numbers: first(numbers_in_digits(&rest)),
            said_numbers: first(numbers_with_places(text)),
            times,
            has_and: words(&lower).any(|word| word == "and") || text.contains([',', ';']),
            has_negation: lower.contains("n't") || words(&lower).any(|word| ["not", "never"].contains(&word)),
            lower,
        }
    }

    /// The evidence for `calls`, an answer of `tokens` tokens with this log-probability.
    pub fn evidence(&self, calls: &[Call], log_prob: f32, tokens: usize) -> Evidence {
        let mut said = Said::default();
        let mut called: Vec<&Offered<'_>> = Vec::new();
        let mut unused_choices = 0;
        for call in calls {
            let offered = self.offered(call);
            called.extend(offered);
            let tool = offered.map(|offered| offered.tool);
            unused_choices += tool.map_or(0, |tool| self.unused_choices(tool, call));
            for (argument, value) in &call.arguments {
                let parameter = tool.and_then(|tool| tool.parameter(argument));
                said.add(value, parameter.and_then(|parameter| choices(&parameter.spec)));
            }
        }
        let spans = Spans::new(&said.strings, self.text, &self.lower);
        let said_choices = said.choices.iter().filter(|(choice, _)| self.has_words(choice)).count();
        let unused_numbers = self.unused_numbers(&said);
        let unused_names = self.unused_names(calls);
        let unused_times = self.unused_times(&said);
        let labels = self.labels(calls);
        let is_refusal = calls.is_empty();
        let count = |n: usize| n as f64;
        let flag = |is: bool| f64::from(u8::from(is));
        let unless_refusal = |n: usize| if is_refusal { 0.0 } else { n as f64 };
        let if_refusal = |n: usize| if is_refusal { n as f64 } else { 0.0 };
        Evidence([
            f64::from(log_prob).max(LEAST_LOG_PROB),
            count(tokens.min(MOST_TOKENS)) / 10.0,
            flag(is_refusal),
            count(said.numbers.iter().filter(|number| !self.query.says(**number)).count()),
            count(repeated(&said.numbers)),
            unless_refusal(unused_numbers),
            if_refusal(unused_numbers),
            count(spans.uncopied),
            count(spans.overlapping),
            count(spans.cut),
            count(spans.leading_function_words),
            unless_refusal(unused_names),
            if_refusal(unused_names),
            count(said_choices),
            count(said.choices.len() - said_choices),
            count(said.booleans),
            self.tool_words(&called),
            spans.copied as f64 / self.text.len().max(1) as f64,
            count(repeated(calls)),
            flag(calls.len() > 1 && !self.has_and && !self.text.contains(". ")),
            flag(calls.len() == 1 && self.has_and),
            flag(is_refusal && self.has_negation),
            flag(is_refusal && self.text.contains('?')),
            count(said.strings.iter().filter(|text| self.is_unsaid_time(text)).count()),
            unless_refusal(unused_times),
            if_refusal(unused_times),
            self.worse_tool(&called),
            count(unused_choices),
            count(said.choices.iter().filter(|(choice, all)| self.is_another_choice(choice, all)).count()),
            count(labels.own),
            count(labels.other),
            count(labels.inverted),
        ])
    }

    fn offered(&self, call: &Call) -> Option<&Offered<'a>> {
        self.tools.iter().find(|offered| offered.tool.name == call.name)
    }

    /// The tool that `call` names.
    pub(super) fn tool(&self, call: &Call) -> Option<&'a Tool> {
        self.offered(call).map(|offered| offered.tool)
    }

    fn labels(&self, calls: &[Call]) -> Labels {
        let places = Places { text: self.text, lower: &self.lower, parts: &self.parts, numbers: &self.said_numbers };
        let of_call = |call: &Call| {
            let offered = self.offered(call)?;
            let labels = offered.labels.get_or_init(|| ToolLabels::new(offered.tool));
            Some(Labels::of_call(offered.tool, labels, call, &places))
        };
        calls.iter().filter_map(of_call).fold(Labels::default(), Labels::plus)
    }

    /// True if the query has all words of `text`.
    pub(super) fn has_words(&self, text: &str) -> bool {
        words(&text.to_lowercase()).all(|word| self.lower.contains(word))
    }

    fn is_unsaid_time(&self, text: &str) -> bool {
        let is = |minutes: u32| !self.times.iter().any(|time| time.minutes_of_day.contains(&minutes));
        minutes_of_day(text).is_some_and(is)
    }

    /// Times that the query certainly says, and that no argument has: as `HH:MM`, as it stands, in
    /// another form, or as a number of hours.
    fn unused_times(&self, said: &Said<'_>) -> usize {
        let certain: Vec<&SaidTime> = self.times.iter().filter(|time| time.is_certain).collect();
        if certain.is_empty() {
            return 0;
        }
        let minutes = |argument: &str| match minutes_of_day(argument) {
            Some(minutes) => vec![minutes],
            None => said_times(argument).into_iter().take(MOST_SAID).flat_map(|time| time.minutes_of_day).collect(),
        };
        let minutes: HashSet<u32> = said.strings.iter().flat_map(|argument| minutes(argument)).collect();
        let is_copied = |time: &SaidTime, argument: &str| {
            let phrase = &self.text[time.at.clone()];
            !argument.is_empty() && (argument.contains(phrase) || phrase.contains(argument))
        };
        // A number that the query says beside the time is none of its hours.
        let hours: Vec<f64> = said.numbers.iter().copied().filter(|number| !self.numbers.contains(number)).collect();
        let is_used = |time: &SaidTime| {
            time.minutes_of_day.iter().any(|m| minutes.contains(m) || hours.contains(&f64::from(m / 60)))
                || said.strings.iter().any(|argument| is_copied(time, argument))
        };
        certain.into_iter().filter(|time| !is_used(time)).count()
    }

    /// By how much the best tool on offer is more similar to the query than the called ones are, as
    /// a mean over these; 0 without word vectors.
    fn worse_tool(&self, called: &[&Offered<'_>]) -> f64 {
        let best = self.tools.iter().map(|offered| offered.similarity).fold(f64::NEG_INFINITY, f64::max);
        let worse = called.iter().map(|offered| best - offered.similarity);
        worse.sum::<f64>() / called.len().max(1) as f64
    }

    /// Enums of `tool` that `call` leaves out, although the query has the words of a value.
    fn unused_choices(&self, tool: &Tool, call: &Call) -> usize {
        let is_unused = |name: &str, spec: &Map<String, Value>| {
            let listed = choices(spec).unwrap_or_default().iter().filter_map(Value::as_str);
            !call.arguments.contains_key(name) && listed.into_iter().any(|choice| self.has_whole_words(choice))
        };
        tool.parameters.iter().filter(|parameter| is_unused(&parameter.name, &parameter.spec)).count()
    }

    /// True if the query has the words of another value of the enum, but not those of `choice`.
    fn is_another_choice(&self, choice: &str, all: &[Value]) -> bool {
        let mut others = all.iter().filter_map(Value::as_str).filter(|other| *other != choice);
        let is_said = has_parts(choice, |part| self.different_parts.contains(part));
        // "off" and "all day" count for the choice, but not against another one.
        !is_said && others.any(|other| self.has_whole_words(other))
    }

    /// True if the query has all words of `text`, none of them as a part of another word, and none
    /// of them a function word.
    pub(super) fn has_whole_words(&self, text: &str) -> bool {
        has_parts(text, |part| self.content_words.contains(part))
    }

    /// Numbers in digits that no argument has: neither as a number, with any sign, nor in a string,
    /// nor in another unit, as an argument that the query does not say itself.
    fn unused_numbers(&self, said: &Said<'_>) -> usize {
        let in_strings: Vec<f64> = said.strings.iter().flat_map(|text| numbers_in_digits(text)).collect();
        let is_same = |a: f64, b: f64| (a.abs() - b.abs()).abs() <= 1e-9 * a.abs();
        let is_converted = |argument: &&f64| !self.numbers.iter().any(|number| is_same(*number, **argument));
        let converted: Vec<f64> = said.numbers.iter().filter(is_converted).copied().collect();
        let has_converted = |number: f64| {
            let factors = [60.0, 3600.0, 24.0, 7.0, 12.0, 100.0, 1000.0, 0.01, 0.001];
            factors.iter().any(|factor| converted.iter().any(|argument| is_same(number * factor, *argument)))
        };
        let is_used = |number: f64| {
            said.numbers.iter().any(|argument| is_same(number, *argument))
                || in_strings.contains(&number)
                || has_converted(number)
        };
        self.numbers.iter().filter(|number| !is_used(**number)).count()
    }

    /// Capitalized words that occur nowhere in the calls.
    fn unused_names(&self, calls: &[Call]) -> usize {
        let arguments = calls.iter().flat_map(|call| call.arguments.values());
        let written: String = arguments.map(|value| format!("{} ", value.to_string().to_lowercase())).collect();
        self.names.iter().filter(|name| !written.contains(name.as_str())).count()
    }

    fn tool_words(&self, called: &[&Offered<'_>]) -> f64 {
        let shared: HashSet<&String> = called.iter().flat_map(|offered| self.shared_words(offered)).collect();
        shared.len() as f64 / self.content_words.len().max(1) as f64
    }

    fn shared_words<'b>(&self, offered: &'b Offered<'_>) -> &'b HashSet<String> {
        offered.shared_words.get_or_init(|| {
            let definition = offered.tool.to_json().to_string().to_lowercase();
            let known = definition.split(|c: char| !c.is_alphanumeric());
            known.filter(|word| self.content_words.contains(*word)).map(str::to_owned).collect()
        })
    }
}

/// The first of many things that a request says.
fn first<T>(mut said: Vec<T>) -> Vec<T> {
    said.truncate(MOST_SAID);
    said
}

/// How many of `all` are equal to an earlier one.
fn repeated<T: PartialEq>(all: &[T]) -> usize {
    (1..all.len()).filter(|&i| all[..i].contains(&all[i])).count()
}
