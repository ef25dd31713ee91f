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

use needle_data::similarity::SimilarityTo;
use needle_data::text::said_numbers::numbers_in_digits;
use needle_data::text::said_times::{SaidTime, minutes_of_day, said_times};
use needle_data::{Call, Tokenizer, Tool};
use serde_json::{Map, Value};

use crate::constrain::grounding::Query;

/// Number of features.
pub const NUM: usize = 29;
/// The features, in order, and the weight of each. The weights were fitted on 3,000 requests of
/// `models/needle-mini/written` that training did not see (`cargo run --release -p needle-runtime
/// --example fit_evidence -- models/needle-mini held_out.jsonl`).
pub const FEATURES: [(&str, f64); NUM] = [
    // Log-probability of the whole answer, and its number of tokens divided by ten. The first
    // weight is twice the fitted one: the fit is on unseen tools, and a model that knows its tools
    // deserves more trust (docs/LOG.md, "The best of several answers").
    ("log_prob", 0.882),
    ("tokens", 0.896),
    // 1 if nothing is called.
    ("refusal", -0.106),
    // Numbers in arguments that the query does not say, and that occur in several arguments.
    ("unsaid_numbers", -3.087),
    ("repeated_numbers", -1.595),
    // Numbers in digits in the query that no argument has; the same of a refusal.
    ("unused_numbers", -2.202),
    ("unused_numbers_of_refusal", -0.651),
    // Open strings that are not in the query, that share words of the query with another one, that
    // begin or end within a word or code, and that begin with a function word.
    ("uncopied_strings", -6.014),
    ("overlapping_strings", -2.289),
    ("cut_strings", -2.509),
    ("leading_function_words", -0.855),
    // Capitalized words of the query, except its first one, that no argument has; the same of a
    // refusal.
    ("unused_names", -2.257),
    ("unused_names_of_refusal", -0.564),
    // Values of enums whose words the query has, and others.
    ("said_choices", 0.458),
    ("unsaid_choices", -1.513),
    ("booleans", 0.036),
    // Share of the query's content words that the called tools' definitions have.
    ("tool_words", 2.247),
    // Share of the query's characters that string arguments copy.
    ("copied_share", -2.997),
    // Calls that occur twice.
    ("repeated_calls", -3.980),
    // 1 if there are several calls, but neither an `and` nor a comma in the query; and if there is
    // one call in spite of one.
    ("several_without_and", -4.360),
    ("one_with_and", 0.386),
    // 1 if nothing is called for a query with a negation, and for a question.
    ("refused_negation", 1.163),
    ("refused_question", 0.600),
    // Times of day (HH:MM) in arguments that the query does not say, and certain ones of the query
    // that no argument has; the same of a refusal.
    ("unsaid_times", -3.462),
    ("unused_times", -2.089),
    ("unused_times_of_refusal", -0.438),
    // How much less similar to the query the called tools are, by word vectors, than the most
    // similar one on offer.
    ("worse_tool", -2.186),
    // Enums that were left out, although the query has the words of one of their values, and values
    // of enums, where the query has the words of another one.
    ("unused_choices", -3.234),
    ("other_choices", -1.932),
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
    /// All runs of letters and digits, in lower case.
    parts: Vec<String>,
    names: Vec<&'a str>,
    /// In digits, but not of a time.
    numbers: Vec<f64>,
    times: Vec<SaidTime>,
    /// Of each tool by word vectors, 0 without them.
    tool_similarities: Vec<f64>,
    has_and: bool,
    has_negation: bool,
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
fn choices(spec: &Map<String, Value>) -> Option<&[Value]> {
    let listed = spec.get("enum").or_else(|| spec.get("items")?.get("enum"));
    listed.and_then(Value::as_array).map(Vec::as_slice)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The runs of letters and digits of `text`, in lower case.
fn parts(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(str::to_lowercase).collect()
}

/// True if `words` has all parts of `text`, which has some.
fn has_parts(words: &[String], text: &str) -> bool {
    let parts = parts(text);
    !parts.is_empty() && parts.iter().all(|part| words.contains(part))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

impl<'a> Request<'a> {
    /// A request with its offered tools.
    pub fn new(text: &'a str, tools: &'a [Tool], tokenizer: &Tokenizer) -> Self {
        let function_words: HashSet<&str> = FUNCTION_WORDS.split(' ').collect();
        let lower = text.to_lowercase();
        let content_words = words(&lower).filter(|word| !function_words.contains(word)).map(str::to_owned).collect();
        let is_name = |word: &&str| word.starts_with(char::is_uppercase) && *word != "I";
        let times = said_times(text);
        let mut rest = text.to_owned();
        for time in times.iter().rev().filter(|time| time.is_certain) {
            rest.replace_range(time.at.clone(), &" ".repeat(time.at.len()));
        }
        let similarity = SimilarityTo::new(text, tokenizer);
        let of_tool = |tool: &Tool| similarity.as_ref().map_or(0.0, |to| f64::from(to.of_tool(&tool.to_json())));
        Self {
            tool_similarities: tools.iter().map(of_tool).collect(),
            text,
            tools,
            query: Query::new(text),
            content_words,
            parts: parts(text),
            names: words(text).skip(1).filter(is_name).collect(),
            numbers: numbers_in_digits(&rest),
            times,
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
                let parameter = tool.and_then(|tool| tool.parameter(argument));
                said.add(value, parameter.and_then(|parameter| choices(&parameter.spec)));
            }
        }
        let spans = self.spans(&said.strings);
        let said_choices = said.choices.iter().filter(|(choice, _)| self.has_words(choice)).count();
        let unused_numbers = self.unused_numbers(&said);
        let unused_names = self.unused_names(calls);
        let unused_times = self.unused_times(&said);
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
            count(said.strings.iter().filter(|text| self.is_unsaid_time(text)).count()),
            unless_refusal(unused_times),
            if_refusal(unused_times),
            self.worse_tool(&called),
            count(called.iter().zip(calls).map(|(tool, call)| self.unused_choices(tool, call)).sum()),
            count(said.choices.iter().filter(|(choice, all)| self.is_another_choice(choice, all)).count()),
        ])
    }

    /// True if the query has all words of `text`.
    fn has_words(&self, text: &str) -> bool {
        words(&text.to_lowercase()).all(|word| self.lower.contains(word))
    }

    fn is_unsaid_time(&self, text: &str) -> bool {
        let is = |minutes: u32| !self.times.iter().any(|time| time.minutes_of_day.contains(&minutes));
        minutes_of_day(text).is_some_and(is)
    }

    /// Times that the query certainly says, and that no argument has as `HH:MM` or as it stands.
    fn unused_times(&self, said: &Said<'_>) -> usize {
        let has = |time: &SaidTime, argument: &str| match minutes_of_day(argument) {
            Some(minutes) => time.minutes_of_day.contains(&minutes),
            None => {
                let phrase = &self.text[time.at.clone()];
                !argument.is_empty() && (argument.contains(phrase) || phrase.contains(argument))
            }
        };
        let certain = self.times.iter().filter(|time| time.is_certain);
        certain.filter(|time| !said.strings.iter().any(|argument| has(time, argument))).count()
    }

    /// By how much the best tool on offer is more similar to the query than the called ones are, as
    /// a mean over these; 0 without word vectors.
    fn worse_tool(&self, called: &[&Tool]) -> f64 {
        let best = self.tool_similarities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let of = |tool: &Tool| self.tools.iter().position(|other| std::ptr::eq(other, tool));
        let worse = called.iter().filter_map(|tool| Some(best - self.tool_similarities.get(of(tool)?)?));
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
        // "off" and "all day" count for the choice, but not against another one.
        !has_parts(&self.parts, choice) && others.any(|other| self.has_whole_words(other))
    }

    /// True if the query has all words of `text`, none of them as a part of another word, and none
    /// of them a function word.
    fn has_whole_words(&self, text: &str) -> bool {
        has_parts(&self.content_words, text)
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
                spans.uncopied += usize::from(minutes_of_day(string).is_none());
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
    use needle_data::tokenizer::TokenizerConfig;
    use needle_data::tokenizer::word_vectors::WordVectors;
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
        let config = TokenizerConfig { vocab_size: 300, isolate_spaces: true, join_structure: false };
        let tokenizer = Tokenizer::train(&config, ["set a timer"; 3].iter()).unwrap();
        let evidence = Request::new(query, &tools, &tokenizer).evidence(&calls, 0.0, 0).features();
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
    fn times_and_choices_that_the_query_says_speak_against_others() {
        let query = "wake room 12 at quarter past six in the evening, twin";
        let with = |arguments: Value| features(query, json!([{"name": "book_room", "arguments": arguments}]));
        let right = with(json!({"guest": "18:15", "floor": 12, "bed": "twin"}));
        for doubtful in ["unsaid_times", "unused_times", "unused_choices", "other_choices", "uncopied_strings"] {
            assert!(right.iter().all(|(name, _)| *name != doubtful), "{doubtful}: {right:?}");
        }
        let wrong = with(json!({"guest": "06:15", "floor": 12, "bed": "king"}));
        for (name, value) in [("unsaid_times", 1.0), ("unused_times", 1.0), ("other_choices", 1.0)] {
            assert!(has(&wrong, name, value), "{name}: {wrong:?}");
        }
        assert!(has(&with(json!({"floor": 12})), "unused_choices", 1.0));
        let off = json!([{"name": "beam", "arguments": {"state": "off"}}]);
        let beam = json!([{"name": "beam", "parameters": {"state": {"type": "string", "enum": ["off", "high"]}}}]);
        let (tools, calls) = (Tool::list_from_json(&beam).unwrap(), parse_answers(Some(&off)).unwrap());
        let config = TokenizerConfig { vocab_size: 300, isolate_spaces: true, join_structure: false };
        let tokenizer = Tokenizer::train(&config, ["set a timer"; 3].iter()).unwrap();
        let request = Request::new("turn off the high beam", &tools, &tokenizer);
        let at = FEATURES.iter().position(|(name, _)| *name == "other_choices").unwrap();
        assert!(request.evidence(&calls, 0.0, 0).features()[at] == 0.0, "the request says off, too");
        let copied = with(json!({"guest": "quarter past six", "bed": "twin"}));
        assert!(copied.iter().all(|(name, _)| *name != "unused_times"), "{copied:?}");
        assert!(has(&features(query, json!([])), "unused_times_of_refusal", 1.0));
    }

    #[test]
    fn a_tool_whose_words_the_query_has_less_of_is_worse_where_there_are_word_vectors() {
        let words = ["room book guest floor nights bed cancel booking code stay"; 9];
        let config = TokenizerConfig { vocab_size: 400, isolate_spaces: true, join_structure: false };
        let tokenizer = Tokenizer::train(&config, words.iter()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words.txt");
        std::fs::write(&path, "cancel 1 0\nbooking 0.7 0.7\nroom 0 1\nguest 0 0.9\nstay 0.1 1\n").unwrap();
        let vectors = WordVectors::read_text(&path, &tokenizer).unwrap();
        let (tools, tokenizer) = (tools(), tokenizer.with_word_vectors(vectors));
        let request = Request::new("cancel A7", &tools, &tokenizer);
        let worse = |name: &str| {
            let calls = parse_answers(Some(&json!([{"name": name, "arguments": {}}]))).unwrap();
            let at = FEATURES.iter().position(|(name, _)| *name == "worse_tool").unwrap();
            request.evidence(&calls, 0.0, 0).features()[at]
        };
        assert!(worse("cancel") == 0.0 && worse("book_room") > 0.1, "{}", worse("book_room"));
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
