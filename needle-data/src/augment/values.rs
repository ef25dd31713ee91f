//! Other values: what an argument says is replaced in the query and in the answer alike.
//!
//! A model that sees the same numbers, times and names in each epoch learns them by heart instead
//! of reading them. Replaced are strings, also those in lists, and numbers that the query says
//! verbatim or in words, and the minutes of times such as `half past five`.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use serde_json::Value;

use super::forms::{Form, with_other_digits};
use super::numbers::other_number;
use super::places::{Replacement, only_place};
use super::times::other_time;
use crate::text::example::Example;

/// The distinct strings in the answers of some examples; those of a list count one by one.
#[derive(Debug, Clone, Default)]
pub struct ValuePool {
    /// By tool and parameter.
    of_parameter: HashMap<(String, String), Vec<String>>,
    /// Of all parameters without an `enum`, by form; without those that have digits.
    of_form: HashMap<Form, Vec<String>>,
}

impl ValuePool {
    /// The values in `examples`.
    pub fn new<'a>(examples: impl Iterator<Item = &'a Example>) -> Self {
        let mut of_parameter: HashMap<_, BTreeSet<String>> = HashMap::new();
        let mut of_form: HashMap<_, BTreeSet<String>> = HashMap::new();
        for example in examples {
            for call in &example.answers {
                let tool = example.tools.iter().find(|tool| tool.name == call.name);
                for (parameter, value) in &call.arguments {
                    let declared = tool.and_then(|tool| tool.parameter(parameter));
                    let is_choice = declared.is_none_or(|declared| {
                        let lists = |spec: &serde_json::Map<String, Value>| spec.contains_key("enum");
                        lists(&declared.spec)
                            || declared.spec.get("items").and_then(Value::as_object).is_some_and(lists)
                    });
                    for text in items(value).iter().filter_map(Value::as_str) {
                        of_parameter.entry((call.name.clone(), parameter.clone())).or_default().insert(text.to_owned());
                        if !is_choice && !text.contains(|c: char| c.is_ascii_digit()) {
                            of_form.entry(Form::of(text)).or_default().insert(text.to_owned());
                        }
                    }
                }
            }
        }
        Self { of_parameter: sorted(of_parameter), of_form: sorted(of_form) }
    }

    /// Another value for `text`, which is a string of `parameter`; `None` if there is none.
    fn draw(&self, tool: &str, parameter: &str, text: &str, how: OtherValues, rng: &mut ChaCha8Rng) -> Option<String> {
        let of_parameter = self.of_parameter.get(&(tool.to_owned(), parameter.to_owned()));
        let known: Vec<&String> = of_parameter.into_iter().flatten().filter(|other| *other != text).collect();
        if rng.random_bool(how.made_up_fraction) {
            let is_open = known.len() >= OPEN;
            let alike = self.of_form.get(&Form::of(text)).and_then(|alike| alike.choose(rng));
            match alike.filter(|other| *other != text) {
                Some(other) if !is_open || rng.random_bool(0.5) => return Some(other.clone()),
                _ if is_open => return Some(made_up(rng)),
                _ => {}
            }
        }
        let another = known.choose(rng).map(|other| (*other).clone());
        if another.is_none() || rng.random_bool(0.5) { with_other_digits(text, rng).or(another) } else { another }
    }
}

/// The pools with their values sorted, so that draws do not depend on the order of the examples.
fn sorted<K: Eq + Hash>(pools: HashMap<K, BTreeSet<String>>) -> HashMap<K, Vec<String>> {
    pools.into_iter().map(|(key, values)| (key, values.into_iter().collect())).collect()
}

/// The values of a list, or the value itself.
fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        value => std::slice::from_ref(value),
    }
}

/// A parameter with fewer distinct values in the pool is a choice among them; one with at least
/// this many is open to any value.
const OPEN: usize = 16;

/// How values are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OtherValues {
    /// Share of the values that get another one.
    pub fraction: f64,
    /// Of the strings among those, the share that gets a value which the parameter never has: one
    /// of another parameter with as many words, or meaningless ones, if the parameter is open. The
    /// others get a value that the same parameter has in another example, or other digits.
    pub made_up_fraction: f64,
}

/// `example` with other values: what the query says exactly once, for exactly one argument, may be
/// replaced in both.
pub fn with_other_values(example: &Example, pool: &ValuePool, how: OtherValues, rng: &mut ChaCha8Rng) -> Example {
    let mut changed = example.clone();
    for (c, call) in example.answers.iter().enumerate() {
        let Some(tool) = example.tools.iter().find(|tool| tool.name == call.name) else { continue };
        for (parameter, value) in &call.arguments {
            let Some(declared) = tool.parameter(parameter) else { continue };
            for (i, value) in items(value).iter().enumerate() {
                if !rng.random_bool(how.fraction) {
                    continue;
                }
                let others = others(&changed, (c, parameter, i));
                let other = match value {
                    Value::String(text) => other_time(&changed.query, text, &others, rng).or_else(|| {
                        other_text(&changed.query, text, &others, pool.draw(&call.name, parameter, text, how, rng))
                    }),
                    Value::Number(number) => other_number(&changed.query, number, &others, rng),
                    _ => None,
                };
                let Some(Replacement { at, said, value }) = other else { continue };
                let mut replaced = changed.answers[c].arguments[parameter].clone();
                match &mut replaced {
                    Value::Array(items) => items[i] = value,
                    single => *single = value,
                }
                if declared.mismatch(&replaced).is_none() {
                    changed.query.replace_range(at, &said);
                    changed.answers[c].arguments.insert(parameter.clone(), replaced);
                }
            }
        }
    }
    changed
}

/// All values of the answer but one: item `i` of an argument of call `c`.
pub(super) fn others<'a>(example: &'a Example, (c, parameter, i): (usize, &str, usize)) -> Vec<&'a Value> {
    let mut others = Vec::new();
    for (other_call, call) in example.answers.iter().enumerate() {
        for (other_parameter, value) in &call.arguments {
            let is_own = other_call == c && other_parameter == parameter;
            let values = items(value).iter().enumerate().filter(|(other, _)| !(is_own && *other == i));
            others.extend(values.map(|(_, value)| value));
        }
    }
    others
}

/// Another text at the place of `text`.
fn other_text(query: &str, text: &str, others: &[&Value], other: Option<String>) -> Option<Replacement> {
    let other = other?;
    if others.iter().any(|value| overlaps(value, text) || *value == &other) {
        return None;
    }
    let at = only_place(query, text)?;
    Some(Replacement { at: at..at + text.len(), said: other.clone(), value: other.into() })
}

/// One to four nonsense words, capitalized half the time. They teach the model to copy any value.
pub(super) fn made_up(rng: &mut ChaCha8Rng) -> String {
    const ONSETS: &str = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kn l m n p ph pl pr qu r s sc sh sk sl sm sn sp st str t th tr v w wh x y z";
    const VOWELS: &str = "a e i o u ai au ea ee ia ie io oa oo ou y";
    const CODAS: &str = "b ck d ff g ght k l ll m mp n nd ng nk nt p r rd rk rn rt s sh ss st t th x z";
    let [onsets, vowels, codas] = [ONSETS, VOWELS, CODAS].map(|all| all.split(' ').collect::<Vec<_>>());
    let words = rng.random_range(1..=4);
    let capitals = rng.random_bool(0.5);
    let mut text = String::new();
    for i in 0..words {
        if i > 0 {
            text.push(' ');
        }
        let start = text.len();
        for _ in 0..rng.random_range(1..=3) {
            if rng.random_bool(0.8) {
                text.push_str(onsets.choose(rng).unwrap_or(&"b"));
            }
            text.push_str(vowels.choose(rng).unwrap_or(&"a"));
            if rng.random_bool(0.5) {
                text.push_str(codas.choose(rng).unwrap_or(&"n"));
            }
        }
        if capitals {
            let first = text[start..].to_uppercase().chars().next().unwrap_or('B');
            text.replace_range(start..=start, &first.to_string());
        }
    }
    text
}

/// Whether replacing `value` in the query could change `other`, too.
fn overlaps(other: &Value, value: &str) -> bool {
    let other = match other {
        Value::String(other) => other.clone(),
        other => other.to_string(),
    };
    other.contains(value) || value.contains(&other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::times::MINUTES;
    use crate::random::{Purpose, rng};
    use crate::text::number_words::{Spelling, spell};
    use crate::text::said_times::minutes_of_day;
    use serde_json::json;

    #[test]
    fn other_values_go_into_the_query_and_the_answer_alike_or_nowhere() {
        let example = |query: &str, arguments: Value| {
            let parameters =
                json!({"city": {"type": "string"}, "day": {"type": "string", "enum": ["today", "Monday"]}, "n": {}});
            let tools = json!([{"name": "t", "parameters": parameters}]);
            let line = json!({"query": query, "tools": tools, "answers": [{"name": "t", "arguments": arguments}]});
            Example::parse(&line.to_string()).unwrap()
        };
        let seen = [
            example("rain in Rome on Monday", json!({"city": "Rome", "day": "Monday"})),
            example("rain in New York today", json!({"city": "New York", "day": "today"})),
            example("Åre", json!({"city": "Åre"})),
        ];
        let pool = ValuePool::new(seen.iter());
        let always = OtherValues { fraction: 1.0, made_up_fraction: 0.0 };
        let mut queries = BTreeSet::new();
        for seed in 0..100 {
            let other = with_other_values(&seen[1], &pool, always, &mut rng(seed, Purpose::Augmentation, &[]));
            other.validate().unwrap();
            let text = |key: &str| other.answers[0].arguments[key].as_str().unwrap().to_owned();
            assert_eq!(other.query, format!("rain in {} {}", text("city"), text("day")));
            queries.insert(other.query);
        }
        assert_eq!(queries.len(), 2, "two other cities on the other day: {queries:?}");
        for (query, arguments) in [
            ("Rome to Rome", json!({"city": "Rome"})),
            ("Romeo", json!({"city": "Rome"})),
            ("Paris", json!({"city": "Rome"})),
            ("in 5 New York", json!({"city": "New York", "n": "York"})),
        ] {
            let example = example(query, arguments);
            let same = with_other_values(&example, &pool, always, &mut rng(1, Purpose::Augmentation, &[]));
            assert_eq!(same, example, "a value that does not occur exactly once is kept");
        }
        assert_eq!(
            with_other_values(&seen[0], &pool, OtherValues::default(), &mut rng(1, Purpose::Augmentation, &[])),
            seen[0]
        );

        // A parameter with many values is open to made-up ones; one with an enum, or with few, is
        // not.
        let many: Vec<Example> = (0..20)
            .map(|i| example(&format!("rain in Town{i} today"), json!({"city": format!("Town{i}"), "day": "today"})))
            .collect();
        let pool = ValuePool::new(many.iter());
        let made_up = OtherValues { fraction: 1.0, made_up_fraction: 1.0 };
        let cities: BTreeSet<String> = (0..100)
            .map(|seed| {
                let other = with_other_values(&many[0], &pool, made_up, &mut rng(seed, Purpose::Augmentation, &[]));
                other.validate().unwrap();
                let city = other.answers[0].arguments["city"].as_str().unwrap().to_owned();
                assert_eq!(other.query, format!("rain in {city} today"));
                city
            })
            .collect();
        assert!(cities.len() > 90 && cities.iter().all(|city| !city.starts_with("Town")), "{cities:?}");
    }

    fn request(query: &str, parameters: Value, arguments: Value) -> Example {
        let tools = json!([{"name": "t", "parameters": parameters}]);
        let line = json!({"query": query, "tools": tools, "answers": [{"name": "t", "arguments": arguments}]});
        Example::parse(&line.to_string()).unwrap()
    }

    /// What `example` becomes with a hundred seeds.
    fn others_of(example: &Example) -> Vec<Example> {
        let pool = ValuePool::new(std::iter::once(example));
        let always = OtherValues { fraction: 1.0, made_up_fraction: 0.0 };
        let draw = |seed| with_other_values(example, &pool, always, &mut rng(seed, Purpose::Augmentation, &[]));
        (0..100).map(draw).inspect(|other| other.validate().unwrap()).collect()
    }

    #[test]
    fn other_numbers_are_said_in_digits_or_in_words_and_keep_to_the_bounds() {
        let parameters = json!({"percent": {"type": "integer", "maximum": 100}, "place": {"type": "string"}});
        let said = request("dim attic to twenty-five percent", parameters, json!({"percent": 25, "place": "attic"}));
        let mut values = BTreeSet::new();
        let mut in_words = 0;
        for other in others_of(&said) {
            let percent = other.answers[0].arguments["percent"].as_u64().unwrap();
            let said = other.query.strip_prefix("dim attic to ").unwrap().strip_suffix(" percent").unwrap();
            let spelled = [true, false].map(|hyphen| spell(percent, Spelling { hyphen, and: true, a_hundred: true }));
            assert!(said == percent.to_string() || spelled.contains(&said.to_owned()), "{said} {percent}");
            in_words += usize::from(said != percent.to_string());
            values.insert(percent);
        }
        assert!(values.len() > 30 && values.iter().all(|value| (10..100).contains(value)), "{values:?}");
        assert!((30..90).contains(&in_words), "{in_words}");

        let decimal = request("2.5 kg, please", json!({"kg": {"type": "number"}}), json!({"kg": 2.5}));
        for other in others_of(&decimal) {
            let kg = &other.answers[0].arguments["kg"];
            assert_eq!(other.query, format!("{kg} kg, please"), "a whole number has no fraction");
        }
    }

    #[test]
    fn a_large_number_keeps_its_value_with_and_without_separators() {
        for (query, cost) in [("14,200 euros", 14_200), ("96385074 euros", 96_385_074)] {
            let others = others_of(&request(query, json!({"cost": {"type": "integer"}}), json!({"cost": cost})));
            let (mut separated, mut plain) = (0, 0);
            for other in others {
                let said = other.query.strip_suffix(" euros").unwrap();
                assert_eq!(said.replace(',', ""), other.answers[0].arguments["cost"].to_string());
                assert_ne!(other.query, query);
                separated += usize::from(said.contains(','));
                plain += usize::from(!said.contains(','));
            }
            assert!(separated > 20 && plain > 20, "{separated} {plain}");
        }
    }

    #[test]
    fn a_name_becomes_a_name_of_another_parameter_with_as_many_words() {
        let song =
            request("play Paper Lanterns", json!({"song": {"type": "string"}}), json!({"song": "Paper Lanterns"}));
        let parameters = json!({"who": {"type": "string"}, "mood": {"type": "string", "enum": ["Very Good"]}});
        let others = [
            request("call Delia Frost", parameters.clone(), json!({"who": "Delia Frost"})),
            request("call the plumber", parameters.clone(), json!({"who": "plumber"})),
            request("Very Good", parameters.clone(), json!({"mood": "Very Good"})),
            request("call Unit 5", parameters, json!({"who": "Unit 5"})),
        ];
        let pool = ValuePool::new(others.iter().chain([&song]));
        let always = OtherValues { fraction: 1.0, made_up_fraction: 1.0 };
        let draw = |seed| with_other_values(&song, &pool, always, &mut rng(seed, Purpose::Augmentation, &[]));
        let queries: BTreeSet<String> = (0..100).map(|seed| draw(seed).query).collect();
        let expected = ["play Delia Frost", "play Paper Lanterns"].map(str::to_owned);
        assert_eq!(queries, expected.into(), "neither one of an enum, nor of another form");
    }

    #[test]
    fn a_number_that_may_belong_to_something_else_is_kept() {
        let parameters = json!({"n": {"type": "integer"}, "m": {"type": "integer"}, "at": {"type": "string"}});
        for (query, arguments) in [
            ("job A-7, please", json!({"n": 7})),
            ("version 7.5", json!({"n": 7})),
            ("at 7:30", json!({"n": 7})),
            ("twenty seven of them", json!({"n": 7})),
            ("seven hundred grams", json!({"n": 7})),
            ("seven and a half", json!({"n": 7})),
            ("seven past", json!({"n": 7})),
            ("7 or seven", json!({"n": 7})),
            ("seven each", json!({"n": 7, "m": 7})),
            ("tomorrow at seven", json!({"n": 7, "at": "19:00"})),
            ("bed 7", json!({"n": 7, "at": "bed 7"})),
            ("the one on the left", json!({"n": 1})),
            ("a dozen", json!({"n": 12})),
            ("minus 7 degrees", json!({"n": -7})),
        ] {
            let example = request(query, parameters.clone(), arguments);
            assert!(others_of(&example).iter().all(|other| *other == example), "{query}");
        }
    }

    #[test]
    fn items_of_a_list_are_replaced_one_by_one() {
        let parameters = json!({"zones": {"type": "array", "items": {"type": "string"}}});
        let both = request("water bed 4 and the lawn", parameters.clone(), json!({"zones": ["bed 4", "lawn"]}));
        let third = request("water tunnel 2", parameters, json!({"zones": ["tunnel 2"]}));
        let pool = ValuePool::new([&both, &third].into_iter());
        let always = OtherValues { fraction: 1.0, made_up_fraction: 0.0 };
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let other = with_other_values(&both, &pool, always, &mut rng(seed, Purpose::Augmentation, &[]));
            other.validate().unwrap();
            let zones: Vec<&str> = other.answers[0].arguments["zones"]
                .as_array()
                .unwrap()
                .iter()
                .map(|zone| zone.as_str().unwrap())
                .collect();
            assert_eq!(other.query, format!("water {} and the {}", zones[0], zones[1]));
            assert_ne!(zones[0], zones[1]);
            seen.insert(other.query);
        }
        assert!(seen.len() >= 4, "{seen:?}");
    }

    #[test]
    fn a_time_in_words_keeps_its_hour() {
        let parameters = json!({"at": {"type": "string", "description": "HH:MM"}});
        for (query, at, hours) in [
            ("wake me at half past five", "05:30", ["04", "05"]),
            ("a quarter to one in the afternoon", "12:45", ["12", "13"]),
            ("twenty-five past 12 at night", "00:25", ["23", "00"]),
        ] {
            let example = request(query, parameters.clone(), json!({"at": at}));
            let others = others_of(&example);
            let times: BTreeSet<&str> =
                others.iter().map(|other| other.answers[0].arguments["at"].as_str().unwrap()).collect();
            assert!(times.len() >= 9 && times.iter().all(|time| hours.contains(&&time[..2])), "{times:?}");
            let is_consistent = |other: &Example| {
                let minute = minutes_of_day(other.answers[0].arguments["at"].as_str().unwrap()).unwrap() % 60;
                let minutes = MINUTES.iter().find(|(minutes, _)| minutes.rem_euclid(60) == minute as i32).unwrap();
                MINUTES.iter().any(|(other_minutes, words)| {
                    other_minutes.rem_euclid(60) == minutes.0.rem_euclid(60) && other.query.contains(words)
                })
            };
            assert!(others.iter().all(is_consistent), "{others:?}");
        }
        for (query, at) in
            [("half past five", "17:00"), ("five to ten people", "09:00"), ("half past five or ten to six", "05:30")]
        {
            let example = request(query, parameters.clone(), json!({"at": at}));
            assert!(others_of(&example).iter().all(|other| *other == example), "{query}");
        }
    }
}
