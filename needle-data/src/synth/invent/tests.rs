//! Invariants of the word lists and of every invented example, for any seed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use super::form::Form;
use super::kind::Kind;
use super::lexicon::{Action, Role};
use super::*;
use crate::text::number_words;

const COUNT: u64 = 20_000;

fn inventor(config: InventConfig) -> Inventor {
    Inventor::new(config).unwrap()
}

/// The strings among the arguments, each with its declaration.
fn texts(example: &Example) -> Vec<(String, serde_json::Map<String, Value>)> {
    let mut texts = Vec::new();
    for call in &example.answers {
        let tool = example.tools.iter().find(|tool| tool.name == call.name).unwrap();
        for (name, value) in &call.arguments {
            let spec = tool.parameter(name).unwrap().spec.clone();
            let members = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            texts.extend(members.iter().filter_map(Value::as_str).map(|text| (text.to_owned(), spec.clone())));
        }
    }
    texts
}

/// True for values that are said in another form: those of a choice, times as HH:MM and dates as
/// YYYY-MM-DD.
fn is_mapped(text: &str, spec: &serde_json::Map<String, Value>) -> bool {
    let has = |spec: &serde_json::Map<String, Value>| spec.contains_key("enum");
    let is_choice = has(spec) || spec.get("items").and_then(Value::as_object).is_some_and(has);
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    is_choice || shape == "00:00" || shape == "0000-00-00"
}

#[test]
fn twenty_thousand_examples_are_valid_and_copy_what_was_said() {
    let inventor = inventor(InventConfig::default());
    let mut skeletons = HashSet::new();
    let mut kinds: BTreeMap<ExampleKind, u64> = BTreeMap::new();
    for index in 0..COUNT {
        let Invented { example, kind, skeleton } = inventor.get(index);
        let line = example.to_json().to_string();
        let read = Example::parse(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(read.answers.is_empty(), kind.is_refusal(), "{kind:?} {line}");
        for (text, spec) in texts(&read) {
            let is_copied = read.query.contains(&text) && !text.is_empty();
            assert!(is_copied || is_mapped(&text, &spec), "{text:?} was not said: {line}");
        }
        assert!(!read.query.contains(['{', '}']) && !read.query.contains("(s)"), "{line}");
        assert!(!line.contains("{thing") && !line.contains("{person"), "{line}");
        skeletons.insert(skeleton);
        *kinds.entry(kind).or_default() += 1;
    }
    assert!(skeletons.len() as u64 > COUNT * 97 / 100, "{} sentences", skeletons.len());
    let share = |is_meant: &dyn Fn(ExampleKind) -> bool| {
        kinds.iter().filter(|(kind, _)| is_meant(**kind)).map(|(_, count)| count).sum::<u64>() as f64 / COUNT as f64
    };
    let near = |share: f64, expected: f64| (share - expected).abs() < 0.01;
    assert!(near(share(&ExampleKind::is_refusal), 0.15), "{kinds:?}");
    assert!(near(share(&|k| matches!(k, ExampleKind::SameTool | ExampleKind::SeveralTools)), 0.15), "{kinds:?}");
    assert!(
        kinds.len() == 13 && kinds.values().all(|&count| count > COUNT / 300),
        "each kind has its share: {kinds:?}"
    );
}

#[test]
fn an_example_depends_on_the_seed_and_its_index_alone() {
    let first = inventor(InventConfig::default());
    let again = inventor(InventConfig::default());
    let other = inventor(InventConfig { seed: 1, ..InventConfig::default() });
    let forwards: Vec<Invented> = (0..50).map(|i| first.get(i)).collect();
    let backwards: Vec<Invented> = (0..50).rev().map(|i| again.get(i)).collect();
    assert!(forwards.iter().eq(backwards.iter().rev()));
    assert!((0..50).all(|i| other.get(i).example != first.get(i).example));
}

#[test]
fn tools_that_are_held_out_are_never_trained_on() {
    let things = |part| -> BTreeSet<String> {
        let inventor = inventor(InventConfig { part, ..InventConfig::default() });
        let mut things = BTreeSet::new();
        for index in 0..500 {
            inventor.get(index).example.validate().unwrap();
        }
        for frame in inventor.frames.iter() {
            things.insert(frame.scene(&inventor.lexicon).thing.noun.clone());
        }
        things
    };
    let (train, held_out) = (things(Part::Train), things(Part::HeldOut));
    // Things are held out by noun in all domains, so the two parts share none.
    let shared = train.intersection(&held_out).count();
    assert!(train.len() > 400 && held_out.len() > 60, "{} {}", train.len(), held_out.len());
    assert_eq!(shared, 0, "{:?}", train.intersection(&held_out).collect::<Vec<_>>());
}

#[test]
fn settings_that_leave_nothing_to_invent_are_refused() {
    for config in [
        InventConfig { min_tools: 0, ..InventConfig::default() },
        InventConfig { min_tools: 5, max_tools: 4, ..InventConfig::default() },
        InventConfig { no_call_fraction: 1.5, ..InventConfig::default() },
        InventConfig { no_call_fraction: 0.6, many_calls_fraction: 0.6, ..InventConfig::default() },
    ] {
        assert!(Inventor::new(config.clone()).is_err(), "{config:?}");
    }
    for config in [
        InventConfig { min_tools: 1, max_tools: 1, ..InventConfig::default() },
        InventConfig { min_tools: 12, max_tools: 12, ..InventConfig::default() },
        InventConfig { no_call_fraction: 1.0, many_calls_fraction: 0.0, ..InventConfig::default() },
    ] {
        let inventor = inventor(config.clone());
        for index in 0..200 {
            let tools = inventor.get(index).example.tools.len();
            assert!((config.min_tools..=config.max_tools).contains(&tools), "{config:?}: {tools}");
        }
    }
}

/// The roles that an action's phrases can mention, by key, without the attributes of things.
fn roles_of<'a>(lexicon: &'a Lexicon, action: &'a Action) -> BTreeMap<String, &'a Role> {
    let mut roles = BTreeMap::new();
    for token in action.roles.split_whitespace() {
        let key = token.trim_end_matches(['!', '+', '*']);
        let known_as = if key == "ref" { "ref_code" } else { key };
        if key == "attr" {
            continue;
        }
        let role = action.own_roles.get(key).or_else(|| lexicon.roles.get(known_as));
        roles.insert(key.to_owned(), role.unwrap_or_else(|| panic!("{}: no role {key}", action.verbs)));
    }
    roles
}

#[test]
fn every_phrase_speaks_of_roles_that_its_action_has() {
    let lexicon = Lexicon::new();
    for action in &lexicon.actions {
        let roles = roles_of(&lexicon, action);
        for phrase in action.verb_phrases.iter().chain(&action.noun_phrases).chain(&action.say) {
            for name in phrase.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                let key = name.split([':', '.', '=']).next().unwrap();
                let is_word = ["thing", "things", "a_thing", "domain"].contains(&key);
                assert!(is_word || key == "attr" || roles.contains_key(key), "{phrase:?}: no role {key}");
            }
        }
        assert!(!action.verb_phrases.is_empty() || !action.say.is_empty(), "{}: nothing to say", action.verbs);
        let is_used = lexicon
            .domains
            .iter()
            .flat_map(|d| &d.things)
            .any(|t| action.traits().any(|a| t.traits.iter().any(|b| a == b)));
        assert!(is_used, "{}: on nothing", action.verbs);
    }
}

#[test]
fn every_role_has_words_for_its_values() {
    let lexicon = Lexicon::new();
    let own = lexicon.actions.iter().flat_map(|action| &action.own_roles);
    for (key, role) in lexicon.roles.iter().chain(own) {
        let kind = if let Kind::List(inner) = &role.kind { inner } else { &role.kind };
        match kind {
            Kind::Choice(name) => assert!(lexicon.choices.contains_key(name), "{key}: no choice {name}"),
            Kind::Text(name) | Kind::Pool(name) => {
                assert!(lexicon.pools.get(name).is_some_and(|pool| pool.len() > 3), "{key}: no pool {name}");
            }
            Kind::Flag => assert!(!role.yes.is_empty(), "{key}: no way to say yes"),
            _ => {}
        }
        assert!(!role.names.is_empty() && !role.label.is_empty(), "{key}");
    }
    for domain in &lexicon.domains {
        for thing in &domain.things {
            for attribute in &thing.attributes {
                assert!(lexicon.roles.contains_key(attribute), "{}: no role {attribute}", thing.noun);
            }
            let known_by = &thing.known_by;
            let is_form = ["code", "number", "id", "label", "title", "person", "organization", "made-up"]
                .contains(&known_by.as_str());
            assert!(is_form || !lexicon.pool(domain, known_by).is_empty(), "{}: no pool {known_by}", thing.noun);
            assert!(
                thing.traits.iter().all(|t| lexicon.actions.iter().any(|a| a.traits().any(|b| b == t))),
                "{thing:?}"
            );
        }
    }
}

#[test]
fn no_words_of_a_choice_stand_for_two_values() {
    for (name, options) in &Lexicon::new().choices {
        let mut seen = HashSet::new();
        for option in options {
            assert!(!option.said.is_empty(), "{name}.{}", option.value);
            for said in &option.said {
                assert!(seen.insert(said.to_lowercase()), "{name}: {said:?} stands for two values");
            }
        }
    }
}

#[test]
fn a_stated_window_settles_the_half_of_the_day() {
    for seed in 0..3000 {
        let mut rng = rng(seed, Purpose::Invented, &[]);
        let (said, value) = numbers::time(&mut rng, Some((9, 18)));
        let hour: u32 = value[..2].parse().unwrap();
        assert!((9..18).contains(&hour), "{said} -> {value}");
        let (said, value) = numbers::time(&mut rng, None);
        let hour: u32 = value[..2].parse().unwrap();
        if said.ends_with("am") || said.ends_with("morning") {
            assert!(hour < 12, "{said} -> {value}");
        }
        if said.ends_with("pm") || said.ends_with("afternoon") || said.ends_with("evening") {
            assert!(hour >= 12, "{said} -> {value}");
        }
        // Without a window, only a 24-hour time may omit am or pm.
        let is_plain = said.contains([':', '.', 'h']) || ["noon", "midnight"].contains(&said.as_str());
        let is_settled = ["am", "pm", "morning", "afternoon", "evening"].iter().any(|end| said.ends_with(end));
        assert!(is_plain || is_settled, "{said} -> {value}");
    }
}

#[test]
fn numbers_are_spelled_as_people_say_them() {
    let how = number_words::Spelling { hyphen: true, and: true, a_hundred: true };
    for (n, words) in [
        (0, "zero"),
        (25, "twenty-five"),
        (100, "a hundred"),
        (110, "a hundred and ten"),
        (704, "seven hundred and four"),
        (1000, "a thousand"),
        (2005, "two thousand and five"),
        (45_300, "forty-five thousand three hundred"),
    ] {
        assert_eq!(number_words::spell(n, how), words);
    }
}

#[test]
fn what_is_said_of_a_value_outside_the_bounds_is_outside() {
    let lexicon = Lexicon::new();
    let inventor =
        inventor(InventConfig { no_call_fraction: 1.0, many_calls_fraction: 0.0, ..InventConfig::default() });
    let mut count = 0;
    for index in 0..4000 {
        let Invented { example, kind, .. } = inventor.get(index);
        if kind == ExampleKind::Invalid {
            count += 1;
            let limits = |tool: &crate::text::tool::Tool| {
                tool.parameters.iter().any(|p| p.spec.contains_key("maximum") || p.spec.contains_key("enum"))
            };
            assert!(example.tools.iter().any(limits), "{}", example.to_json());
        }
    }
    assert!(count > 200 && !lexicon.choices.is_empty(), "{count}");
    let percent = Form::Percent;
    assert_eq!(tool::bounds(&percent), Some((0.0, 100.0)));
}
