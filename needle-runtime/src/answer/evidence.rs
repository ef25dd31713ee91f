//! What speaks for an answer and against it: the model's own probability, and how the answer fits
//! the words of the request.
//!
//! A small model often writes an answer that is a little more probable than the right one, but that
//! any reader would doubt: it uses a number twice and another one not at all, cuts a name short, or
//! calls two tools where one thing is asked for. Each of these signs is a feature. The score is
//! their weighted sum, and the best of several answers is the one with the highest score (reranking
//! with a log-linear model: Collins and Koo, "Discriminative Reranking for Natural Language
//! Parsing", 2005).

use std::collections::HashSet;

use needle_data::text::said_numbers::numbers_in_digits;
use needle_data::{Call, Tool};
use serde_json::Value;

use crate::constrain::grounding::Query;

/// Number of features.
pub const NUM: usize = 23;
/// The features, in order, and the weight of each. The weights were fitted on 3,000 requests of
/// `models/needle-mini/written` that training did not see (`cargo run --release -p needle-runtime
/// --example fit_evidence -- models/needle-mini held_out.jsonl`).
pub const FEATURES: [(&str, f64); NUM] = [
    // Log-probability of the whole answer, and its number of tokens divided by ten. The first
    // weight is twice the fitted one: the fit is on unseen tools, and a model that knows its tools
    // deserves more trust (docs/LOG.md, "The best of several answers").
    ("log_prob", 0.760),
    ("tokens", 0.504),
    // 1 if nothing is called.
    ("refusal", -0.015),
    // Numbers in arguments that the query does not say, and that occur in several arguments.
    ("unsaid_numbers", -3.256),
    ("repeated_numbers", -1.886),
    // Numbers in digits in the query that no argument has; the same of a refusal.
    ("unused_numbers", -2.249),
    ("unused_numbers_of_refusal", -0.687),
    // Open strings that are not in the query, that share words of the query with another one, that
    // begin or end within a word or code, and that begin with a function word.
    ("uncopied_strings", -4.036),
    ("overlapping_strings", -2.752),
    ("cut_strings", -2.749),
    ("leading_function_words", -1.104),
    // Capitalized words of the query, except its first one, that no argument has; the same of a
    // refusal.
    ("unused_names", -2.589),
    ("unused_names_of_refusal", -0.755),
    // Values of enums whose words the query has, and others.
    ("said_choices", 0.924),
    ("unsaid_choices", -1.352),
    ("booleans", -0.181),
    // Share of the query's content words that the called tools' definitions have.
    ("tool_words", 3.152),
    // Share of the query's characters that string arguments copy.
    ("copied_share", -2.514),
    // Calls that occur twice.
    ("repeated_calls", -3.640),
    // 1 if there are several calls, but neither an `and` nor a comma in the query; and if there is
    // one call in spite of one.
    ("several_without_and", -4.483),
    ("one_with_and", 0.477),
    // 1 if nothing is called for a query with a negation, and for a question.
    ("refused_negation", 1.168),
    ("refused_question", 0.579),
];

/// Log-probabilities are bounded by this: how improbable an endless answer is says nothing more.
const LEAST_LOG_PROB: f64 = -30.0;

/// Words that say nothing about which tool is meant.
const FUNCTION_WORDS: &str = "a an the of to in on at for with and or by from is are be it i my me please can could you would like want need this that there what which how do does did no not so as we us our your just also then them they he she his her its if up out off over under about into any all some was were will shall let make set get give put has have had";

/// The features of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence([f64; NUM]);

/// A request, split once for all of its answers.
pub struct Request<'a> {
    text: &'a str,
    lower: String,
    tools: &'a [Tool],
    query: Query,
    /// Words other than function words, in lower case.
    content_words: Vec<String>,
    names: Vec<&'a str>,
    numbers: Vec<f64>,
    has_and: bool,
    has_negation: bool,
}

/// What the arguments of an answer say.
#[derive(Default)]
struct Said<'a> {
    numbers: Vec<f64>,
    /// Strings that no enum lists.
    strings: Vec<&'a str>,
    choices: Vec<&'a str>,
    booleans: usize,
}

impl<'a> Said<'a> {
    fn add(&mut self, value: &'a Value, is_choice: bool) {
        match value {
            Value::Bool(_) => self.booleans += 1,
            Value::Number(number) => self.numbers.extend(number.as_f64()),
            Value::String(text) if is_choice => self.choices.push(text),
            Value::String(text) => self.strings.push(text),
            Value::Array(items) => items.iter().for_each(|item| self.add(item, is_choice)),
            Value::Object(members) => members.values().for_each(|member| self.add(member, is_choice)),
            Value::Null => {}
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

impl<'a> Request<'a> {
    /// A request with its offered tools.
    pub fn new(text: &'a str, tools: &'a [Tool]) -> Self {
        let function_words: HashSet<&str> = FUNCTION_WORDS.split(' ').collect();
        let lower = text.to_lowercase();
        let content_words = words(&lower).filter(|word| !function_words.contains(word)).map(str::to_owned).collect();
        let is_name = |word: &&str| word.starts_with(char::is_uppercase) && *word != "I";
        Self {
            text,
            tools,
            query: Query::new(text),
            content_words,
            names: words(text).skip(1).filter(is_name).collect(),
            numbers: numbers_in_digits(text),
            has_and: words(&lower).any(|word| word == "and") || text.contains([',', ';']),
            has_negation: lower.contains("n't") || words(&lower).any(|word| ["not", "never"].contains(&word)),
            lower,
        }
    }

    /// The evidence for `calls`, an answer of `tokens` tokens with this log-probability.
    pub fn evidence(&self, calls: &[Call], log_prob: f32, tokens: usize) -> Evidence {
        let mut said = Said::default();
        let mut called: Vec<&Tool> = Vec::new();
        for call in calls {
            let tool = self.tools.iter().find(|tool| tool.name == call.name);
            called.extend(tool);
            for (argument, value) in &call.arguments {
                let spec = tool.and_then(|tool| tool.parameter(argument)).map(|parameter| &parameter.spec);
                let lists = |spec: &serde_json::Map<String, Value>| spec.contains_key("enum");
                let items = spec.and_then(|spec| spec.get("items")).and_then(Value::as_object);
                said.add(value, spec.is_some_and(lists) || items.is_some_and(lists));
            }
        }
        let spans = self.spans(&said.strings);
        let is_said = |choice: &&&str| words(&choice.to_lowercase()).all(|word| self.lower.contains(word));
        let said_choices = said.choices.iter().filter(is_said).count();
        let unused_numbers = self.unused_numbers(&said);
        let unused_names = self.unused_names(calls);
        let is_refusal = calls.is_empty();
        let count = |n: usize| n as f64;
        let flag = |is: bool| f64::from(u8::from(is));
        let unless_refusal = |n: usize| if is_refusal { 0.0 } else { n as f64 };
        let if_refusal = |n: usize| if is_refusal { n as f64 } else { 0.0 };
        Evidence([
            f64::from(log_prob).max(LEAST_LOG_PROB),
            count(tokens) / 10.0,
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
        ])
    }

    /// Numbers in digits that no argument has, neither as a number nor in a string.
    fn unused_numbers(&self, said: &Said<'_>) -> usize {
        let in_strings: Vec<f64> = said.strings.iter().flat_map(|text| numbers_in_digits(text)).collect();
        self.numbers.iter().filter(|number| !said.numbers.contains(number) && !in_strings.contains(number)).count()
    }

    /// Capitalized words that occur nowhere in the calls.
    fn unused_names(&self, calls: &[Call]) -> usize {
        let arguments = calls.iter().flat_map(|call| call.arguments.values());
        let written: String = arguments.map(|value| format!("{} ", value.to_string().to_lowercase())).collect();
        self.names.iter().filter(|name| !written.contains(&name.to_lowercase())).count()
    }

    fn tool_words(&self, called: &[&Tool]) -> f64 {
        let definitions: String = called.iter().map(|tool| tool.to_json().to_string().to_lowercase()).collect();
        let known: HashSet<&str> = definitions.split(|c: char| !c.is_alphanumeric()).collect();
        let shared = self.content_words.iter().filter(|word| known.contains(word.as_str())).count();
        shared as f64 / self.content_words.len().max(1) as f64
    }

    /// How the strings lie in the query.
    fn spans(&self, strings: &[&str]) -> Spans {
        let mut spans = Spans::default();
        let mut taken = vec![false; self.text.len()];
        for string in strings.iter().filter(|string| !string.is_empty()) {
            let at = self.text.find(string).or_else(|| {
                // Lower case may have another length, and then nothing is found.
                (self.lower.len() == self.text.len()).then(|| self.lower.find(&string.to_lowercase())).flatten()
            });
            let Some(at) = at else {
                let is_time = string.len() == 5 && string.as_bytes()[2] == b':';
                spans.uncopied += usize::from(!is_time);
                continue;
            };
            let end = (at + string.len()).min(taken.len());
            spans.overlapping += usize::from(taken[at..end].contains(&true));
            taken[at..end].fill(true);
            spans.cut += usize::from(is_cut(self.text, at, end));
            let first = words(string).next().map(str::to_lowercase);
            spans.leading_function_words +=
                usize::from(first.is_some_and(|first| FUNCTION_WORDS.split(' ').any(|word| word == first)));
        }
        spans.copied = taken.iter().filter(|taken| **taken).count();
        spans
    }
}

#[derive(Default)]
struct Spans {
    uncopied: usize,
    overlapping: usize,
    cut: usize,
    leading_function_words: usize,
    copied: usize,
}

/// Whether `text[at..end]` begins or ends within a word, or within a code such as `vol-0a91`.
fn is_cut(text: &str, at: usize, end: usize) -> bool {
    let (Some(before), Some(after)) = (text.get(..at), text.get(end..)) else { return true };
    let goes_on = |mut beside: Box<dyn Iterator<Item = char> + '_>| match beside.next() {
        Some(c) if is_word(c) => true,
        Some('-' | '.' | '/' | '@') => beside.next().is_some_and(is_word),
        _ => false,
    };
    goes_on(Box::new(before.chars().rev())) || goes_on(Box::new(after.chars()))
}

/// How many of `all` are equal to an earlier one.
fn repeated<T: PartialEq>(all: &[T]) -> usize {
    (1..all.len()).filter(|&i| all[..i].contains(&all[i])).count()
}

impl Evidence {
    /// The weighted sum of the features; the answer with the highest score is the best.
    pub fn score(&self) -> f64 {
        self.0.iter().zip(FEATURES).map(|(feature, (_, weight))| feature * weight).sum()
    }

    /// The features, in the order of [`FEATURES`].
    pub fn features(&self) -> [f64; NUM] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use needle_data::text::example::parse_answers;
    use serde_json::json;

    use super::*;

    fn tools() -> Vec<Tool> {
        Tool::list_from_json(&json!([
            {"name": "book_room", "description": "Book a room.", "parameters": {
                "guest": {"type": "string"}, "nights": {"type": "integer"}, "floor": {"type": "integer"},
                "bed": {"type": "string", "enum": ["twin", "king"]}}},
            {"name": "cancel", "description": "Cancel a booking.", "parameters": {"code": {"type": "string"}}}
        ]))
        .unwrap()
    }

    /// The features of an answer that are not 0, by name, without the model's own.
    fn features(query: &str, calls: Value) -> Vec<(&'static str, f64)> {
        let calls = parse_answers(Some(&calls)).unwrap();
        let tools = tools();
        let evidence = Request::new(query, &tools).evidence(&calls, 0.0, 0).features();
        FEATURES.iter().zip(evidence).filter(|(_, value)| *value != 0.0).map(|((name, _), v)| (*name, v)).collect()
    }

    fn has(features: &[(&str, f64)], name: &str, value: f64) -> bool {
        features.contains(&(name, value))
    }

    #[test]
    fn an_answer_that_a_reader_would_doubt_shows_it() {
        let query = "Room for Delia Frost, 3 nights on floor 12, king bed";
        let right = features(
            query,
            json!([{"name": "book_room", "arguments": {
            "guest": "Delia Frost", "nights": 3, "floor": 12, "bed": "king"}}]),
        );
        for doubtful in [
            "unsaid_numbers",
            "repeated_numbers",
            "unused_numbers",
            "uncopied_strings",
            "cut_strings",
            "unused_names",
            "unsaid_choices",
            "overlapping_strings",
        ] {
            assert!(right.iter().all(|(name, _)| *name != doubtful), "{doubtful}: {right:?}");
        }
        assert!(has(&right, "said_choices", 1.0) && has(&right, "one_with_and", 1.0), "{right:?}");

        let wrong = features(
            query,
            json!([{"name": "book_room", "arguments": {
            "guest": "Delia", "nights": 3, "floor": 3, "bed": "twin"}}]),
        );
        for (name, value) in
            [("repeated_numbers", 1.0), ("unused_numbers", 1.0), ("unused_names", 1.0), ("unsaid_choices", 1.0)]
        {
            assert!(has(&wrong, name, value), "{name}: {wrong:?}");
        }
        let refused = features(query, json!([]));
        assert!(has(&refused, "unused_numbers_of_refusal", 2.0) && has(&refused, "refusal", 1.0), "{refused:?}");
    }

    #[test]
    fn codes_are_taken_whole_or_counted_as_cut() {
        for (query, code, is_cut) in [
            ("cancel vol-0a91", "vol-0a91", false),
            ("cancel vol-0a91", "0a91", true),
            ("cancel vol-0a91", "vol-0a", true),
            ("cancel vol-0a91.", "vol-0a91", false),
            ("annulez «Größe 38»", "Größe 38", false),
            ("annulez Größe", "Grö", true),
        ] {
            let features = features(query, json!([{"name": "cancel", "arguments": {"code": code}}]));
            assert_eq!(has(&features, "cut_strings", 1.0), is_cut, "{query} {code}: {features:?}");
        }
    }

    #[test]
    fn several_calls_need_a_reason_and_no_call_is_made_twice() {
        let twice =
            json!([{"name": "cancel", "arguments": {"code": "A7"}}, {"name": "cancel", "arguments": {"code": "A7"}}]);
        let doubted = features("cancel A7", twice);
        assert!(has(&doubted, "repeated_calls", 1.0) && has(&doubted, "several_without_and", 1.0), "{doubted:?}");
        let two =
            json!([{"name": "cancel", "arguments": {"code": "A7"}}, {"name": "cancel", "arguments": {"code": "B2"}}]);
        let meant = features("cancel A7 and B2", two);
        assert!(meant.iter().all(|(name, _)| !["repeated_calls", "several_without_and"].contains(name)), "{meant:?}");
    }

    #[test]
    fn odd_requests_have_evidence_too() {
        for query in ["", " ", "İ", "ẞtraße 5", "½ … 数字", "I"] {
            let evidence =
                features(query, json!([{"name": "cancel", "arguments": {"code": "ß", "more": [null, {"a": ""}]}}]));
            assert!(evidence.iter().all(|(_, value)| value.is_finite()), "{query}");
        }
    }
}
