//! Whatever the schema is, and whatever writes: a value is whole within its limit and satisfies the
//! schema, as far as the report says; judged by the `jsonschema` crate and the official
//! JSON-Schema-Test-Suite (`json-schema-test-suite/`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

use needle_data::synth::invent::{InventConfig, Inventor};
use needle_data::text::json_schema::check;
use needle_data::text::names::NameMap;
use needle_data::text::span_json::SpanJson;
use needle_data::tokenizer::{EOS_ID, TOOL_CALL_ID, TokenizerConfig};
use needle_data::{Tokenizer, Tool};
use needle_runtime::constrain::copying::{CopyStatistics, Values};
use needle_runtime::constrain::report::{Treatment, report};
use needle_runtime::constrain::{Asked, Constrainer, Constraint};
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

fn tokenizer() -> Tokenizer {
    let config = TokenizerConfig { vocab_size: 340, isolate_spaces: true, join_structure: true };
    let text = r#"{"city":"New York é","days":-3.5e2,"on":true,"foo":[1,2],"bar":"2024-02-29"} null false x@y.z"#;
    Tokenizer::train(&config, [text; 3].iter()).unwrap()
}

/// What a model that knows nothing writes, which leans to tokens that end things, or away from
/// them.
fn write(
    constraint: &mut Constraint,
    tokenizer: &Tokenizer,
    max_tokens: usize,
    rng: &mut ChaCha8Rng,
) -> Result<String, String> {
    let lean: f32 = rng.random_range(-4.0..6.0);
    let vocab = tokenizer.vocab_size();
    let ends: Vec<bool> = (0..vocab as u32)
        .map(|id| matches!(tokenizer.token_bytes(id).as_slice(), [b'"' | b'}' | b']', ..]) || id == EOS_ID)
        .collect();
    let mut ids = Vec::new();
    for _ in 0..max_tokens {
        let gumbel = |rng: &mut ChaCha8Rng| -(-rng.random_range(1e-9_f32..1.0).ln()).ln();
        let mut logits: Vec<f32> = ends.iter().map(|ends| gumbel(rng) + if *ends { lean } else { 0.0 }).collect();
        constraint.mask(&mut logits);
        if let Some(error) = constraint.error() {
            return Err(format!("{error}: {}", tokenizer.decode(&ids)));
        }
        let best = (0..vocab).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
        if best == EOS_ID {
            return Ok(tokenizer.decode(&ids));
        }
        if best != TOOL_CALL_ID {
            ids.push(best);
        }
        constraint.advance(best);
    }
    Err(format!("not whole after {max_tokens} tokens: {}", tokenizer.decode(&ids)))
}

/// True if `text` can be written.
fn allows(constraint: &mut Constraint, tokenizer: &Tokenizer, text: &str) -> bool {
    let ids = [&[TOOL_CALL_ID], tokenizer.encode(text).as_slice(), &[EOS_ID]].concat();
    ids.iter().all(|&id| {
        // The wished-for token is the best by far, so that the room to close is asked for it.
        let mut logits = vec![0.0; tokenizer.vocab_size()];
        logits[id as usize] = 100.0;
        constraint.mask(&mut logits);
        assert_eq!(constraint.error(), None, "{text}");
        let is_allowed = logits[id as usize].is_finite();
        if id != EOS_ID && is_allowed {
            constraint.advance(id);
        }
        is_allowed
    })
}

fn oracle(schema: &Value) -> jsonschema::Validator {
    let schema = &without_nullable(schema.clone());
    jsonschema::options().should_validate_formats(true).build(schema).unwrap_or_else(|e| panic!("{e}: {schema}"))
}

/// `{"type": "string", "nullable": true}` of OpenAPI 3.0 as JSON Schema has it.
fn without_nullable(schema: Value) -> Value {
    match schema {
        Value::Object(object) => {
            let is_nullable = object.get("nullable") == Some(&Value::Bool(true));
            let inner = object.into_iter().filter(|(key, _)| key != "nullable").map(|(key, value)| {
                let value = without_nullable(value);
                let value = if is_nullable && key == "type" { json!([value, "null"]) } else { value };
                (key, value)
            });
            Value::Object(inner.collect())
        }
        Value::Array(items) => items.into_iter().map(without_nullable).collect(),
        other => other,
    }
}

fn is_enforced(schema: &Value) -> bool {
    report(schema).iter().all(|line| line.treatment == Treatment::Enforced)
}

struct Case {
    name: String,
    schema: Value,
    data: Value,
    is_valid: bool,
}

/// The cases of the official suite that need no other document.
fn suite() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/json-schema-test-suite");
    let mut files: Vec<_> = [root.clone(), root.join("format")]
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let groups: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for group in groups {
            let schema = &group["schema"];
            let text = schema.to_string();
            // References to other documents, to names relative to a base, and to the metaschema.
            let is_elsewhere =
                ["http://", "urn:", ".json", "json-schema.org/draft/2019", "unevaluated", "/draft2020-12/", "$dynamic"];
            let text = text.replace("https://json-schema.org/draft/2020-12/schema\",", "").replace("$schema", "");
            if is_elsewhere.iter().any(|sign| text.contains(sign)) || text.contains("https://json-schema.org") {
                continue;
            }
            for test in group["tests"].as_array().unwrap() {
                let name = format!(
                    "{}: {}: {}",
                    file.file_stem().unwrap().to_str().unwrap(),
                    group["description"].as_str().unwrap(),
                    test["description"].as_str().unwrap()
                );
                let (data, is_valid) = (test["data"].clone(), test["valid"].as_bool().unwrap());
                cases.push(Case { name, schema: schema.clone(), data, is_valid });
            }
        }
    }
    assert!(cases.len() > 800, "{}", cases.len());
    cases
}

/// Rare spellings that the standard takes and we do not: leap seconds, quoted names and addresses
/// in e-mail, IPv4 inside IPv6, users and IPv6 in URIs.
const STRICTER: [&str; 6] = [
    "leap second",
    "e-mail addresses: a",
    "mixed format",
    "a long valid ipv6",
    "ldap",
    "URL with many special characters",
];

#[test]
fn the_official_suite_agrees_on_what_satisfies_a_schema() {
    let wrong: Vec<String> = suite()
        .into_iter()
        .filter(|case| check(&case.schema, &case.schema, &case.data).is_ok() != case.is_valid)
        .map(|case| format!("{}: {} (valid: {})", case.name, case.data, case.is_valid))
        .filter(|wrong| !(wrong.ends_with("(valid: true)") && STRICTER.iter().any(|known| wrong.contains(known))))
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn what_the_official_suite_calls_invalid_cannot_be_written() {
    let tokenizer = tokenizer();
    let constrainer = Constrainer::new(&tokenizer).unwrap();
    let (mut refused, mut allowed, mut valid) = (0, 0, 0);
    for case in suite() {
        let Ok(mut constraint) = constrainer.compile_value(&case.schema, 2000) else {
            assert!(!case.is_valid, "{}", case.name);
            continue;
        };
        let writable = allows(&mut constraint, &tokenizer, &case.data.to_string());
        if case.is_valid {
            valid += 1;
            allowed += usize::from(writable);
        } else if is_enforced(&case.schema) {
            refused += 1;
            assert!(!writable, "{}: {}", case.name, case.data);
        }
    }
    // Objects are closed where the schema does not say, and numbers are written one way.
    assert!(refused > 250 && allowed > valid / 2, "{refused} refused, {allowed} of {valid} allowed");
}

#[test]
fn every_schema_of_the_official_suite_is_answered_with_what_satisfies_it() {
    let tokenizer = tokenizer();
    let constrainer = Constrainer::new(&tokenizer).unwrap();
    let mut schemas: Vec<Value> = suite().into_iter().map(|case| case.schema).collect();
    schemas.dedup();
    for (i, schema) in schemas.iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(i as u64);
        for _ in 0..5 {
            let Ok(mut constraint) = constrainer.compile_value(schema, 200) else { break };
            let text = write(&mut constraint, &tokenizer, 200, &mut rng).unwrap_or_else(|e| panic!("{e}: {schema}"));
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}: {schema}"));
            let own = check(schema, schema, &value);
            assert_eq!(own.is_ok(), oracle(schema).is_valid(&value), "{own:?} {text}: {schema}");
            assert!(own.is_ok() || !is_enforced(schema), "{own:?}: {text}: {schema}");
        }
    }
}

/// Beyond what an f64 holds exactly, what is a multiple of what depends on who rounds.
fn has_large_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_none_or(|float| float.abs() > 1e15),
        Value::Array(items) => items.iter().any(has_large_number),
        Value::Object(members) => members.values().any(has_large_number),
        _ => false,
    }
}

const NAMES: [&str; 8] = ["a", "b", "city name", "grüße", "q\"uote", "new\nline", "", "🙂"];
const PATTERNS: [&str; 8] =
    ["^[A-Z]{3}-[0-9]{2,4}$", "foo", "^a.*z$", "\\d+", "^(red|green|blue)$", "[^x]$", "^\\w+@\\w+\\.com$", "^$|^ab"];
const FORMATS: [&str; 8] = ["date", "time", "date-time", "email", "uuid", "ipv4", "duration", "hostname"];

fn scalar(rng: &mut ChaCha8Rng) -> Value {
    let small = |rng: &mut ChaCha8Rng| rng.random_range(-30..30);
    match rng.random_range(0..9) {
        0 => {
            let types = ["string", "integer", "number", "boolean", "null"];
            json!({"type": types.choose(rng).unwrap()})
        }
        1 => {
            let low = small(rng);
            json!({"type": "integer", "minimum": low, "maximum": low + rng.random_range(0..200)})
        }
        2 => json!({"type": "number", "exclusiveMinimum": f64::from(small(rng)) / 4.0, "maximum": 40.5}),
        3 => json!({"type": "number", "minimum": small(rng), "exclusiveMaximum": 31}),
        4 => json!({"type": "integer", "multipleOf": rng.random_range(1..9), "minimum": small(rng)}),
        5 => {
            let low = rng.random_range(0..6);
            json!({"type": "string", "minLength": low, "maxLength": low + rng.random_range(0..6)})
        }
        6 => json!({"type": "string", "pattern": PATTERNS.choose(rng).unwrap()}),
        7 => json!({"type": "string", "format": FORMATS.choose(rng).unwrap()}),
        _ => {
            let all = [json!("on"), json!("o\"ff"), json!(3), json!(-1.5), json!(true), json!(null), json!({"a": [1]})];
            let some: Vec<&Value> = all.sample(rng, 3).collect();
            if rng.random_bool(0.3) { json!({"const": some[0]}) } else { json!({"enum": some}) }
        }
    }
}

fn random_schema(rng: &mut ChaCha8Rng, depth: usize) -> Value {
    if depth == 0 {
        return scalar(rng);
    }
    match rng.random_range(0..11) {
        0..=2 => scalar(rng),
        3 => {
            let low = rng.random_range(0..3);
            json!({"type": "array", "items": random_schema(rng, depth - 1), "minItems": low, "maxItems": low + rng.random_range(0..3)})
        }
        4 => {
            let rest = if rng.random_bool(0.5) { json!(false) } else { json!({"type": "boolean"}) };
            let prefix = [random_schema(rng, depth - 1), random_schema(rng, depth - 1)];
            json!({"type": "array", "prefixItems": prefix, "items": rest, "minItems": rng.random_range(0..3)})
        }
        5 | 6 => {
            let count = rng.random_range(0..4);
            let names: Vec<&str> = NAMES.sample(rng, count).copied().collect();
            let properties: Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), random_schema(rng, depth - 1))).collect();
            let required: Vec<&str> = names.iter().copied().filter(|_| rng.random_bool(0.5)).collect();
            let mut schema = json!({"type": "object", "properties": properties, "required": required});
            match rng.random_range(0..4) {
                0 => schema["additionalProperties"] = false.into(),
                1 => schema["additionalProperties"] = scalar(rng),
                _ => {}
            }
            schema
        }
        7 => json!({"anyOf": [random_schema(rng, depth - 1), random_schema(rng, depth - 1)]}),
        8 => json!({"allOf": [random_schema(rng, depth - 1), random_schema(rng, 0)]}),
        9 => json!({"oneOf": [random_schema(rng, depth - 1), random_schema(rng, 0)]}),
        _ => {
            let references = ["#/$defs/leaf", "#/$defs/tree", "#/$defs/either"];
            json!({"$ref": references.choose(rng).unwrap()})
        }
    }
}

fn random_document(rng: &mut ChaCha8Rng) -> Value {
    let mut schema = random_schema(rng, 3);
    schema["$defs"] = json!({
        "leaf": scalar(rng),
        "tree": {"type": "object", "required": ["value"], "properties": {
            "value": scalar(rng), "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}},
        "either": {"anyOf": [
            {"type": "object", "required": ["and"], "additionalProperties": false, "properties": {
                "and": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/either"}}}},
            {"type": "object", "required": ["not"], "properties": {"not": {"$ref": "#/$defs/either"}}},
            scalar(rng)]},
    });
    schema
}

#[test]
fn five_thousand_random_models_satisfy_five_thousand_random_schemas() {
    let tokenizer = tokenizer();
    let constrainer = Constrainer::new(&tokenizer).unwrap();
    let (mut written, mut enforced, mut invalid, mut chars) = (0, 0, 0, 0);
    for seed in 0..5000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let schema = random_document(&mut rng);
        let max_tokens = rng.random_range(60..200);
        let mut constraint = match constrainer.compile_value(&schema, max_tokens) {
            Ok(constraint) => constraint,
            Err(error) => {
                let reason = error.to_string();
                assert!(
                    reason.contains("nothing satisfies") || reason.contains("at least"),
                    "case {seed}: {reason}: {schema}"
                );
                continue;
            }
        };
        let text = write(&mut constraint, &tokenizer, max_tokens, &mut rng)
            .unwrap_or_else(|e| panic!("case {seed}: {max_tokens} tokens: {e}: {schema}"));
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("case {seed}: {e}: {text}: {schema}"));
        written += 1;
        chars += text.len();
        let own = check(&schema, &schema, &value);
        if !has_large_number(&value) {
            assert_eq!(own.is_ok(), oracle(&schema).is_valid(&value), "case {seed}: {own:?}: {text}: {schema}");
        }
        if is_enforced(&schema) {
            enforced += 1;
            assert_eq!(own, Ok(()), "case {seed}: {text}: {schema}");
        } else {
            invalid += usize::from(own.is_err());
        }
    }
    // Else there would be little to it.
    assert!(
        written > 4000 && enforced > 3000 && chars > 20 * written,
        "{written} written, {enforced} enforced, {invalid} invalid"
    );
}

#[test]
fn tools_as_servers_declare_them_are_called_with_what_they_take() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools.json");
    let tools = Tool::list_from_json(&serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()).unwrap();
    let tokenizer = tokenizer();
    let constrainer = Constrainer::new(&tokenizer).unwrap();
    let mut checked: Vec<String> = Vec::new();
    for tool in &tools {
        let (tools, values) = (std::slice::from_ref(tool), &Values::Free);
        let asked = Asked { query: "a query", tools, values, min_calls: 0, max_calls: 1, max_tokens: 250 };
        let constraint = constrainer.compile(&asked).unwrap_or_else(|e| panic!("{e}"));
        assert!(constraint.can_call(), "{}", tool.name);
        let lines = report(&tool.schema());
        checked.extend(
            lines.iter().filter(|l| l.treatment != Treatment::Enforced).map(|l| format!("{} {}", tool.name, l.keyword)),
        );
        for seed in 0..30 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let text = write(&mut constraint.clone(), &tokenizer, 250, &mut rng)
                .unwrap_or_else(|e| panic!("{}: {e}", tool.name));
            let calls: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            for call in calls.as_array().unwrap() {
                let violation = tool.violation(call["arguments"].as_object().unwrap());
                let is_valid = oracle(&tool.schema()).is_valid(&call["arguments"]);
                assert_eq!(violation.is_none(), is_valid, "{violation:?}: {text}");
                let may_break = checked.iter().any(|line| line.starts_with(&tool.name));
                assert!(violation.is_none() || may_break, "{violation:?}: {text}");
            }
        }
    }
    let expected = [
        "create_issue uniqueItems",
        "set_thermostat uniqueItems",
        "create_event dependentRequired",
        "put_object maxProperties",
        "run_code if",
        "run_code then",
        "run_code patternProperties",
        "run_code contains",
        "strong_password pattern",
    ];
    checked.sort();
    let mut expected: Vec<String> = expected.iter().map(|&line| line.to_owned()).collect();
    expected.sort();
    assert_eq!(checked, expected);
}

#[test]
fn the_reference_answers_of_invented_tools_can_be_written() {
    let inventor = Inventor::new(InventConfig::default()).unwrap();
    let tokenizer = tokenizer();
    let constrainer = Constrainer::new(&tokenizer).unwrap();
    for index in 0..400 {
        let example = inventor.get(index).example;
        let names = NameMap::of(&example.tools);
        let text = SpanJson::of_calls(&example.answers, |name| names.to_inner(name).unwrap()).text;
        for values in [Values::Free, Values::Auto(CopyStatistics::default())] {
            let asked = Asked {
                query: &example.query,
                tools: &example.tools,
                values: &values,
                min_calls: 0,
                max_calls: 8,
                max_tokens: 2000,
            };
            let mut constraint = constrainer.compile(&asked).unwrap_or_else(|e| panic!("case {index}: {e}"));
            assert!(allows(&mut constraint, &tokenizer, &text), "case {index}: {text}");
        }
        for call in &example.answers {
            let tool = example.tools.iter().find(|tool| tool.name == call.name).unwrap();
            assert_eq!(tool.violation(&call.arguments), None, "case {index}: {text}");
        }
    }
}
