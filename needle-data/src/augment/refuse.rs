//! Variants of a request that must not be answered with a call: the negated request (`don't ..`),
//! the request without a required value, and the one for a number that is out of bounds.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use serde_json::Value;

use super::numbers::number_out_of_bounds;
use super::places::{Replacement, only_place};
use super::values::others;
use crate::text::example::Example;

/// Verbs that a request begins with, so that `don't` can stand before it.
const VERBS: [&str; 92] = [
    "add",
    "adjust",
    "arrange",
    "assign",
    "book",
    "bring",
    "buy",
    "calculate",
    "call",
    "cancel",
    "change",
    "check",
    "clean",
    "clear",
    "close",
    "compute",
    "convert",
    "copy",
    "create",
    "cut",
    "decrease",
    "delete",
    "dim",
    "drop",
    "email",
    "erase",
    "export",
    "fetch",
    "find",
    "forward",
    "get",
    "give",
    "hire",
    "increase",
    "insert",
    "launch",
    "leave",
    "let",
    "list",
    "lock",
    "log",
    "look",
    "lower",
    "make",
    "mark",
    "move",
    "mute",
    "open",
    "order",
    "pause",
    "pay",
    "phone",
    "pick",
    "place",
    "play",
    "post",
    "print",
    "purchase",
    "put",
    "raise",
    "rate",
    "read",
    "record",
    "remind",
    "remove",
    "rename",
    "reply",
    "request",
    "reschedule",
    "reserve",
    "resume",
    "save",
    "schedule",
    "search",
    "sell",
    "send",
    "set",
    "share",
    "show",
    "shut",
    "skip",
    "start",
    "stop",
    "switch",
    "tag",
    "take",
    "text",
    "transfer",
    "translate",
    "turn",
    "update",
    "water",
];

/// `example` with a negating prefix and without calls; or, one time in three, with a prefix that
/// only looks like a negation (`don't forget to ..`) and the same calls. `None` if the request is
/// not a plain command.
pub fn negated(example: &Example, rng: &mut ChaCha8Rng) -> Option<Example> {
    const NEGATED: [&str; 14] = [
        "don't",
        "do not",
        "please don't",
        "never",
        "no, don't",
        "I don't want you to",
        "there's no need to",
        "you don't have to",
        "please do not",
        "let's not",
        "we decided not to",
        "I told you not to",
        "under no circumstances",
        "better not",
    ];
    const NOT_NEGATED: [&str; 9] = [
        "don't forget to",
        "please don't forget to",
        "never mind the rest, just",
        "why don't you",
        "don't wait,",
        "can't you",
        "no problem, just",
        "nobody else can do it, so",
        "not sure who to ask, but",
    ];
    let query = example.query.trim();
    let query = query.strip_prefix("please ").or_else(|| query.strip_prefix("Please ")).unwrap_or(query);
    let first = query.split_whitespace().next()?.to_lowercase();
    let words: Vec<String> = query.split(|c: char| !c.is_alphanumeric() && c != '\'').map(str::to_lowercase).collect();
    let has_not = words
        .iter()
        .any(|w| ["not", "no", "never", "nothing"].contains(&w.as_str()) || w.ends_with("n't") || w == "dont");
    let is_sentence = !query.contains('?') && !query.trim_end_matches(['.', '!']).contains(". ");
    if example.answers.is_empty() || has_not || !is_sentence || !VERBS.contains(&first.as_str()) {
        return None;
    }
    let mut letters = query.chars();
    let start = letters.next()?.to_lowercase().to_string();
    let command = start + letters.as_str();
    let keeps = rng.random_bool(1.0 / 3.0);
    let before = if keeps { NOT_NEGATED.choose(rng)? } else { NEGATED.choose(rng)? };
    let answers = if keeps { example.answers.clone() } else { Vec::new() };
    Some(Example { query: format!("{before} {command}"), tools: example.tools.clone(), answers })
}

/// Function words in front of a value, which are removed together with it.
const TIES: [&str; 26] = [
    "in", "at", "on", "to", "from", "for", "by", "with", "of", "near", "around", "the", "a", "an", "my", "called",
    "named", "about", "is", "as", "into", "city", "number", "until", "titled", "saying",
];

/// `example` without a required value of its only call, and without the call. `None` if the
/// remaining words could still express the value or are no longer a request.
pub fn stripped(example: &Example) -> Option<Example> {
    let [call] = &example.answers[..] else { return None };
    let tool = example.tools.iter().find(|tool| tool.name == call.name)?;
    // Another string in the query could be mistaken for the removed one.
    let is_only_text = call.arguments.values().filter(|value| value.is_string() || value.is_array()).count() == 1;
    let (name, value) = call.arguments.iter().find_map(|(name, value)| Some((name, value.as_str()?)))?;
    let parameter = tool.parameter(name)?;
    let is_open = !parameter.spec.contains_key("enum") && !parameter.spec.contains_key("default");
    if !is_only_text || !parameter.is_required() || !is_open {
        return None;
    }
    let at = only_place(&example.query, value)?;
    let after = example.query[at + value.len()..].to_owned();
    let mut words: Vec<&str> = example.query[..at].split_whitespace().collect();
    while words.last().is_some_and(|word| TIES.contains(&word.to_lowercase().as_str())) {
        words.pop();
    }
    // The value must end the request, or precede a word or punctuation mark that begins a new
    // phrase.
    let next = after.split_whitespace().next().unwrap_or_default();
    let is_end = after.trim().trim_matches(['.', '?', '!']).is_empty();
    let is_clean = is_end || after.starts_with([',', '.', '?']) || TIES.contains(&next) || next == "and";
    let query = format!("{}{}", words.join(" "), after.trim_end());
    (is_clean && words.len() >= 2).then(|| Example {
        query: query.trim().to_owned(),
        tools: example.tools.clone(),
        answers: Vec::new(),
    })
}

/// `example` with a number below its minimum or above its maximum, and without the call. `None` if
/// there is not exactly one call, or no bounded number that the query says.
pub fn out_of_bounds(example: &Example, rng: &mut ChaCha8Rng) -> Option<Example> {
    let [call] = &example.answers[..] else { return None };
    let tool = example.tools.iter().find(|tool| tool.name == call.name)?;
    let replacements = call.arguments.iter().filter_map(|(name, value)| {
        let spec = &tool.parameter(name)?.spec;
        let bound = |key: &str| spec.get(key).and_then(Value::as_f64);
        let bounds = (bound("minimum"), bound("maximum"));
        let Value::Number(number) = value else { return None };
        number_out_of_bounds(&example.query, number, &others(example, (0, name, 0)), bounds, rng)
    });
    let Replacement { at, said, .. } = replacements.collect::<Vec<_>>().choose(rng)?.clone();
    let mut query = example.query.clone();
    query.replace_range(at, &said);
    Some(Example { query, tools: example.tools.clone(), answers: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, rng};
    use serde_json::json;

    fn example(query: &str, required: bool, arguments: Value) -> Example {
        let parameters = json!({"city": {"type": "string", "required": required}, "day": {"type": "string"}, "n": {"type": "integer"}});
        let tools = json!([{"name": "t", "description": "d", "parameters": parameters}]);
        let line = json!({"query": query, "tools": tools, "answers": [{"name": "t", "arguments": arguments}]});
        Example::parse(&line.to_string()).unwrap()
    }

    #[test]
    fn a_plain_command_is_turned_into_its_contrary_or_seems_so() {
        let order = example("Please book a hotel in Rome", true, json!({"city": "Rome"}));
        let mut refused = 0;
        for seed in 0..300 {
            let turned = negated(&order, &mut rng(seed, Purpose::Augmentation, &[])).unwrap();
            assert!(turned.query.ends_with(" book a hotel in Rome"), "{}", turned.query);
            let seems = ["forget", "mind", "why", "wait", "can't", "problem", "nobody", "sure"];
            assert_eq!(
                turned.answers.is_empty(),
                !seems.iter().any(|word| turned.query.contains(word)),
                "{}",
                turned.query
            );
            refused += usize::from(turned.answers.is_empty());
        }
        assert!((150..250).contains(&refused), "{refused}");
    }

    #[test]
    fn what_is_no_plain_command_is_not_turned() {
        for query in [
            "what is the weather in Rome",
            "book Rome, not Paris",
            "don't book Rome",
            "Book Rome. Then rest",
            "could you book Rome?",
            "never book Rome",
            "Rome",
        ] {
            assert!(
                negated(&example(query, true, json!({"city": "Rome"})), &mut rng(1, Purpose::Augmentation, &[]))
                    .is_none(),
                "{query}"
            );
        }
    }

    #[test]
    fn a_value_goes_with_the_words_that_tie_it() {
        for (query, left) in [
            ("Book a hotel in Rome", "Book a hotel"),
            ("book a hotel in the city of Rome for 3 nights", "book a hotel for 3 nights"),
            ("Will it rain in Rome?", "Will it rain?"),
            ("find flights to Rome, please", "find flights, please"),
        ] {
            let twin = stripped(&example(query, true, json!({"city": "Rome"}))).unwrap();
            assert_eq!((twin.query.as_str(), twin.answers.len()), (left, 0));
        }
    }

    #[test]
    fn a_value_that_need_not_be_said_or_may_still_be_said_stays() {
        for (query, required, arguments) in [
            ("book a hotel in Rome", false, json!({"city": "Rome"})),
            ("book a hotel in Rome on Monday", true, json!({"city": "Rome", "day": "Monday"})),
            ("from Rome to Rome", true, json!({"city": "Rome"})),
            ("Rome hotels wanted", true, json!({"city": "Rome"})),
            ("book the Rome hotel", true, json!({"city": "Rome"})),
            ("book a room in Romeo", true, json!({"city": "Rome"})),
        ] {
            assert!(stripped(&example(query, required, arguments)).is_none(), "{query}");
        }
    }
    #[test]
    fn a_number_moves_out_of_its_bounds_and_nothing_is_called() {
        let request = |parameter: Value, query: &str, value: Value| {
            let tools = json!([{"name": "t", "parameters": {"n": parameter, "place": {"type": "string"}}}]);
            let line = json!({"query": query, "tools": tools, "answers": [{"name": "t", "arguments": {"n": value}}]});
            Example::parse(&line.to_string()).unwrap()
        };
        let seeds = || (0..100).map(|seed| rng(seed, Purpose::Augmentation, &[]));
        let percent = json!({"type": "integer", "minimum": 5, "maximum": 100});
        let dim = request(percent, "dim to 40 percent", json!(40));
        let (mut above, mut below) = (0, 0);
        for mut rng in seeds() {
            let Some(refused) = out_of_bounds(&dim, &mut rng) else { continue };
            assert!(refused.answers.is_empty() && refused.tools == dim.tools);
            let said = refused.query.strip_prefix("dim to ").unwrap().strip_suffix(" percent").unwrap();
            match said.parse::<u64>() {
                Ok(n) => {
                    assert!(!(5..=100).contains(&n), "{n}");
                    above += usize::from(n > 100);
                    below += usize::from(n < 5);
                }
                Err(_) => assert!(said.chars().all(|c| c.is_ascii_lowercase() || " -".contains(c)), "{said}"),
            }
        }
        assert!(above > 10 && below > 3, "{above} above, {below} below");

        let kilos = request(json!({"type": "number", "maximum": 2.5}), "1.5 kg please", json!(1.5));
        for mut rng in seeds() {
            let refused = out_of_bounds(&kilos, &mut rng).unwrap();
            let said: f64 = refused.query.split(' ').next().unwrap().parse().unwrap();
            assert!(said > 2.5, "{}", refused.query);
        }
        let number = json!({"type": "integer"});
        for same in [
            request(number.clone(), "dim to 40 percent", json!(40)),
            request(json!({"type": "integer", "maximum": 100}), "dim to two fifths", json!(40)),
            request(json!({"type": "integer", "minimum": 0}), "dim to 40", json!(40)),
        ] {
            assert!(seeds().all(|mut rng| out_of_bounds(&same, &mut rng).is_none()), "{}", same.query);
        }
    }
}
