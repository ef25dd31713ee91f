//! Other values: what an argument says is replaced in the query and in the answer alike.
//!
//! A model that sees the same numbers, times and names in each epoch learns them by heart instead
//! of reading them. Replaced are strings, also those in lists, and numbers that the query says
//! verbatim or in words, and the minutes of times such as `half past five`.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use serde_json::{Number, Value};

use crate::text::example::Example;
use crate::text::number_words::{ONES, Spelling, TENS, spell};

/// The distinct string values of each parameter of each tool, collected from examples; those of a
/// list count one by one.
#[derive(Debug, Clone, Default)]
pub struct ValuePool(HashMap<(String, String), Vec<String>>);

impl ValuePool {
    /// The values in `examples`.
    pub fn new<'a>(examples: impl Iterator<Item = &'a Example>) -> Self {
        let mut pool: HashMap<(String, String), BTreeSet<String>> = HashMap::new();
        for call in examples.flat_map(|example| &example.answers) {
            for (parameter, value) in &call.arguments {
                for text in items(value).iter().filter_map(Value::as_str) {
                    pool.entry((call.name.clone(), parameter.clone())).or_default().insert(text.to_owned());
                }
            }
        }
        // `BTreeSet` sorts the values, so that draws do not depend on the order of the examples.
        Self(pool.into_iter().map(|(key, values)| (key, values.into_iter().collect())).collect())
    }

    /// A value for a string of `parameter`; `None` if the pool has none.
    fn draw(&self, tool: &str, parameter: &str, how: OtherValues, rng: &mut ChaCha8Rng) -> Option<String> {
        let known = self.0.get(&(tool.to_owned(), parameter.to_owned()))?;
        if known.len() >= OPEN && rng.random_bool(how.made_up_fraction) {
            Some(made_up(rng))
        } else {
            known.choose(rng).cloned()
        }
    }
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
    /// Of the strings among those, the share that gets a made-up word, if the parameter is open;
    /// the others get a value that the same parameter has in another example.
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
                        other_text(&changed.query, text, &others, pool.draw(&call.name, parameter, how, rng))
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

/// A part of the query, what stands there instead, and the value that it says then.
struct Replacement {
    at: Range<usize>,
    said: String,
    value: Value,
}

/// All values of the answer but one: item `i` of an argument of call `c`.
fn others(example: &Example, (c, parameter, i): (usize, &str, usize)) -> Vec<Value> {
    let mut others = Vec::new();
    for (other_call, call) in example.answers.iter().enumerate() {
        for (other_parameter, value) in &call.arguments {
            let is_own = other_call == c && other_parameter == parameter;
            let values = items(value).iter().enumerate().filter(|(other, _)| !(is_own && *other == i));
            others.extend(values.map(|(_, value)| value.clone()));
        }
    }
    others
}

/// Another text at the place of `text`.
fn other_text(query: &str, text: &str, others: &[Value], other: Option<String>) -> Option<Replacement> {
    let other = other?;
    if others.iter().any(|value| overlaps(value, text)) || others.iter().any(|value| value == &other) {
        return None;
    }
    let at = only_place(query, text)?;
    Some(Replacement { at: at..at + text.len(), said: other.clone(), value: other.into() })
}

/// Another number at the place of `number`, of about the same size and as round, in digits or in
/// words.
fn other_number(query: &str, number: &Number, others: &[Value], rng: &mut ChaCha8Rng) -> Option<Replacement> {
    let value = number.as_f64().filter(|value| (0.0..1e6).contains(value))?;
    let is_other = |other: &Value| match other {
        Value::Number(other) => other.as_f64() != Some(value),
        // Its text may contain the number, and a time may be said with it.
        Value::String(text) => {
            let is_of_time = time(text).is_some_and(|(hour, _)| f64::from(hour % 12) == value % 12.0 && value <= 24.0);
            !is_of_time && !text.contains(&digits(value))
        }
        _ => true,
    };
    let (at, is_in_words) = said_number(query, value).filter(|_| others.iter().all(is_other))?;
    let decimals = digits(value).split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let scale = 10_u64.pow(decimals as u32);
    let whole = (value * scale as f64).round() as u64;
    let other = similar(whole, rng);
    let value = other as f64 / scale as f64;
    let is_next_to_unit = query[at.end..].starts_with(['%', '°']);
    let keeps = rng.random_bool(0.6);
    let in_words = decimals == 0 && other < 1000 && !is_next_to_unit && (is_in_words == keeps);
    let said = if in_words {
        spell(
            other,
            Spelling { hyphen: rng.random_bool(0.6), and: rng.random_bool(0.7), a_hundred: rng.random_bool(0.5) },
        )
    } else {
        digits(value)
    };
    let value = if value.fract() == 0.0 { Value::from(value as u64) } else { Value::from(value) };
    Some(Replacement { at, said, value })
}

/// Another number with as many digits, as often a multiple of ten; never 1, which English has other
/// words for.
fn similar(n: u64, rng: &mut ChaCha8Rng) -> u64 {
    let step = if n >= 20 && n.is_multiple_of(10) && rng.random_bool(0.7) { 10 } else { 1 };
    let least = 10_u64.pow(n.max(1).ilog10());
    let most = least * 10 - 1;
    rng.random_range(least.div_ceil(step).max(2 / step)..=most / step) * step
}

/// A number in digits, without a fraction of 0.
fn digits(value: f64) -> String {
    value.to_string()
}

/// Where the query says `value`, if it does so once, and whether in words.
fn said_number(query: &str, value: f64) -> Option<(Range<usize>, bool)> {
    let lower = query.to_ascii_lowercase();
    let mut found: Vec<(Range<usize>, bool)> = places(&lower, &digits(value)).map(|at| (at, false)).collect();
    // "One" is often no number.
    if value.fract() == 0.0 && value != 1.0 {
        let spellings = (0..8).map(|bits| {
            let how = Spelling { hyphen: bits & 1 != 0, and: bits & 2 != 0, a_hundred: bits & 4 != 0 };
            spell(value as u64, how)
        });
        for spelling in spellings.collect::<BTreeSet<_>>() {
            found.extend(places_of_words(&lower, &spelling).map(|at| (at, true)));
        }
    }
    // Another occurrence, also as a part of something else, makes each of them doubtful.
    let (at, is_in_words) = found.pop().filter(|_| found.is_empty())?;
    let is_whole = if is_in_words { is_whole_phrase(&lower, &at) } else { is_whole_number(&lower, &at) };
    is_whole.then_some((at, is_in_words))
}

fn places<'a>(query: &'a str, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    query.match_indices(text).map(|(at, _)| at..at + text.len())
}

fn places_of_words<'a>(query: &'a str, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    places(query, text)
        .filter(move |at| !is_word(query[..at.start].chars().next_back()) && !is_word(query[at.end..].chars().next()))
}

/// Whether the digits at `at` are a number of their own: not a part of a code, a time or a
/// fraction.
fn is_whole_number(query: &str, at: &Range<usize>) -> bool {
    let before = query[..at.start].chars().next_back();
    let mut after = query[at.end..].chars();
    let ends = match after.next() {
        Some('.' | ',') => !after.next().is_some_and(char::is_alphanumeric),
        Some(c) => c.is_whitespace() || "!?;)%°\"".contains(c),
        None => true,
    };
    before.is_none_or(|c| c.is_whitespace() || "(€$£\"".contains(c)) && ends && !is_said_with_more(query, at)
}

/// Whether the words at `at` are a number of their own, and not a part of a longer one.
fn is_whole_phrase(query: &str, at: &Range<usize>) -> bool {
    !is_hyphenated(query, at) && !is_said_with_more(query, at)
}

fn is_hyphenated(query: &str, at: &Range<usize>) -> bool {
    query[..at.start].ends_with('-') || query[at.end..].starts_with('-')
}

/// Whether the words beside `at` belong to the number: `two hundred`, `half past five`, `two and a
/// half`, `5 am`.
fn is_said_with_more(query: &str, at: &Range<usize>) -> bool {
    const AFTER: &str = "and past to o'clock oclock am pm a.m. p.m. hundred thousand million dozen point half quarter quarters th st nd rd";
    const BEFORE: &str = "past and point half quarter hundred thousand minus";
    let word = |word: Option<&str>| word.unwrap_or_default().trim_matches([',', '.', '!', '?', ';']).to_lowercase();
    let (before, after) =
        (word(query[..at.start].split_whitespace().next_back()), word(query[at.end..].split_whitespace().next()));
    let is_number = |word: &str| ONES.contains(&word) || TENS.contains(&word);
    is_number(&before)
        || is_number(&after)
        || BEFORE.split(' ').any(|other| other == before)
        || AFTER.split(' ').any(|other| other == after)
}

/// Hour and minute of `HH:MM`.
fn time(text: &str) -> Option<(u32, u32)> {
    let (hour, minute) = text.split_once(':').filter(|_| text.len() == 5)?;
    Some((hour.parse().ok().filter(|hour| *hour < 24)?, minute.parse().ok().filter(|minute| *minute < 60)?))
}

/// Minutes after the hour that is named, and how they are said.
const MINUTES: [(i32, &str); 11] = [
    (5, "five past"),
    (10, "ten past"),
    (15, "quarter past"),
    (20, "twenty past"),
    (25, "twenty-five past"),
    (30, "half past"),
    (-25, "twenty-five to"),
    (-20, "twenty to"),
    (-15, "quarter to"),
    (-10, "ten to"),
    (-5, "five to"),
];

/// Another time with the same hour in words: `quarter to five` for `half past five`.
fn other_time(query: &str, text: &str, others: &[Value], rng: &mut ChaCha8Rng) -> Option<Replacement> {
    let (hour, minute) = time(text)?;
    if others.iter().any(|other| other.as_str().is_some_and(|other| time(other).is_some())) {
        return None;
    }
    let lower = query.to_ascii_lowercase();
    let mut said = MINUTES.iter().flat_map(|(minutes, words)| {
        places_of_words(&lower, words).filter(|at| !is_hyphenated(&lower, at)).map(|at| (*minutes, at))
    });
    let (minutes, at) = said.next().filter(|_| said.next().is_none())?;
    let of_day = (hour * 60 + minute) as i32;
    let named = (of_day - minutes).rem_euclid(24 * 60);
    let word = lower[at.end..].split_whitespace().next()?.trim_matches(|c: char| !c.is_alphanumeric());
    let names_hour =
        ONES.iter().position(|one| *one == word).or_else(|| word.parse().ok()).map(|said| said as i32 % 12);
    if named % 60 != 0 || names_hour != Some(named / 60 % 12) {
        return None;
    }
    let (minutes, words) = *MINUTES.choose(rng)?;
    let of_day = (named + minutes).rem_euclid(24 * 60);
    let value = format!("{:02}:{:02}", of_day / 60, of_day % 60);
    Some(Replacement { at, said: words.into(), value: value.into() })
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

/// Byte offset of `value` in `query`, if it occurs exactly once and as whole words.
pub(super) fn only_place(query: &str, value: &str) -> Option<usize> {
    let mut places = query.match_indices(value).map(|(at, _)| at);
    let at = places.next().filter(|_| !value.is_empty() && places.next().is_none())?;
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (before, after) = (query[..at].chars().next_back(), query[at + value.len()..].chars().next());
    (!is_word(before) && !is_word(after)).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, rng};
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
        assert_eq!(queries.len(), 6, "three cities on two days: {queries:?}");
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
        let said = request("dim bed 4 to twenty-five percent", parameters, json!({"percent": 25, "place": "bed 4"}));
        let mut values = BTreeSet::new();
        let mut in_words = 0;
        for other in others_of(&said) {
            let percent = other.answers[0].arguments["percent"].as_u64().unwrap();
            let said = other.query.strip_prefix("dim bed 4 to ").unwrap().strip_suffix(" percent").unwrap();
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
                let (_, minute) = time(other.answers[0].arguments["at"].as_str().unwrap()).unwrap();
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
