//! For any schema and any model, a constrained value is complete within its limit and satisfies the
//! schema as far as the report promises. The judges are the `jsonschema` crate and the official
//! JSON-Schema-Test-Suite (`json-schema-test-suite/`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, Instant};

use needle_data::synth::invent::{InventConfig, Inventor};
use needle_data::text::json_schema::check;
use needle_data::text::names::NameMap;
use needle_data::text::span_json::SpanJson;
use needle_data::tokenizer::{EOS_ID, TOOL_CALL_ID, TokenizerConfig};
use needle_data::{Tokenizer, Tool};
use needle_runtime::constrain::copying::{CopyStatistics, Values};
use needle_runtime::constrain::report::{Treatment, report, reports};
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

/// Decodes with random logits, which favour or avoid tokens that close strings, objects and lists.
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
    Err(format!("incomplete after {max_tokens} tokens: {}", tokenizer.decode(&ids)))
}

/// True if `text` can be written.
fn allows(constraint: &mut Constraint, tokenizer: &Tokenizer, text: &str) -> bool {
    let ids = [&[TOOL_CALL_ID], tokenizer.encode(text).as_slice(), &[EOS_ID]].concat();
    ids.iter().all(|&id| {
        // The wanted token is by far the best, so that the constraint checks whether it leaves room
        // for the rest.
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

/// Translates `{"type": "string", "nullable": true}` of OpenAPI 3.0 to JSON Schema.
fn without_nullable(schema: Value) -> Value {
    match schema {
        Value::Object(object) => {
            let is_nullable = object.get("nullable") == Some(&Value::Bool(true));
            let inner = object.into_iter().filter(|(key, _)| key != "nullable").map(|(key, value)| {
                let value = without_nullable(value);
                match (key.as_str(), value) {
                    ("type", name) if is_nullable => (key, json!([name, "null"])),
                    // The specification demands `null` in the list, but many definitions leave it
                    // out.
                    ("enum", Value::Array(values)) if is_nullable => (key, [values, vec![Value::Null]].concat().into()),
                    (_, value) => (key, value),
                }
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

/// The cases of the official suite that do not need another document.
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
            // Skips references to other documents, to names relative to a base, and to the
            // metaschema.
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

/// Rare forms that the standard accepts and we do not: leap seconds, quoted local parts and address
/// literals in e-mail addresses, IPv4 inside IPv6, users and IPv6 in URIs.
const STRICTER: [&str; 6] = [
    "leap second",
    "e-mail addresses: a",
    "mixed format",
    "a long valid ipv6",
    "ldap",
    "URL with many special characters",
];

#[test]
fn our_validation_agrees_with_the_official_suite() {
    let wrong: Vec<String> = suite()
        .into_iter()
        .filter(|case| check(&case.schema, &case.schema, &case.data).is_ok() != case.is_valid)
        .map(|case| format!("{}: {} (valid: {})", case.name, case.data, case.is_valid))
        .filter(|wrong| !(wrong.ends_with("(valid: true)") && STRICTER.iter().any(|known| wrong.contains(known))))
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn values_that_the_official_suite_calls_invalid_cannot_be_written() {
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
    // Not all valid values can be written: objects are closed unless the schema says otherwise, and
    // each number has one spelling.
    assert!(refused > 250 && allowed > valid / 2, "{refused} refused, {allowed} of {valid} allowed");
}

#[test]
fn values_written_for_the_official_suites_schemas_satisfy_them() {
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

/// True if a number is too large for exact arithmetic in f64, where validators disagree about
/// multiples.
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
fn random_models_satisfy_five_thousand_random_schemas() {
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
                    reason.contains("no value satisfies") || reason.contains("at least"),
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
    // Otherwise the test would cover little.
    assert!(
        written > 4000 && enforced > 3000 && chars > 20 * written,
        "{written} written, {enforced} enforced, {invalid} invalid"
    );
}

#[test]
fn tools_as_servers_declare_them_are_called_with_valid_arguments() {
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

/// Each tool of `tool-definitions/`, or why it cannot be read, with its file and name and its
/// definition.
fn definitions() -> Vec<(String, Value, Result<Tool, String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tool-definitions");
    let mut files: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "json"));
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let list: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for tool in list["tools"].as_array().unwrap() {
            let read =
                Tool::from_json(tool, "tool").map_err(|problem| format!("{}: {}", problem.field, problem.reason));
            let name = format!("{}/{}", file.file_stem().unwrap().to_str().unwrap(), tool["name"].as_str().unwrap());
            all.push((name, tool.clone(), read));
        }
    }
    assert!(all.len() > 500, "{}", all.len());
    all
}

/// Enough for the shortest call of each tool except one, which has to write 1536 numbers.
const MAX_TOKENS: usize = 400;
const MAX_TOKENS_OF_MATRIX: usize = 3200;

/// Keywords that apply a subschema, whose own keyword is then the one that a violation names.
const PASSES_ON: [&str; 6] = ["then", "else", "propertyNames", "patternProperties", "dependentSchemas", "dependencies"];

#[test]
fn every_tool_is_called_with_valid_arguments_or_refused_by_name_argument_and_keyword() {
    let tokenizer = tokenizer();
    let constrainer = Constrainer::new(&tokenizer).unwrap();
    let (mut called, mut judged, mut refused, mut unread, mut chars) = (0, 0, 0, 0, 0);
    let mut wrong = Vec::new();
    for (place, definition, read) in definitions() {
        let mut expect = |is_so: bool, what: String| {
            if !is_so {
                wrong.push(format!("{place}: {what}"));
            }
        };
        let tool = match read {
            Ok(tool) => tool,
            Err(reason) => {
                // `tool.inputSchema.properties.x.type: ...`
                expect(reason.starts_with("tool.inputSchema"), reason);
                unread += 1;
                continue;
            }
        };
        let report = reports(std::slice::from_ref(&tool)).remove(0);
        let (tools, values) = (std::slice::from_ref(&tool), &Values::Free);
        let max_tokens = if tool.name == "matrix_1536" { MAX_TOKENS_OF_MATRIX } else { MAX_TOKENS };
        let asked = |min_calls| Asked { query: "", tools, values, min_calls, max_calls: 1, max_tokens };
        if let Some(reason) = report.refused {
            let place = [format!("tool {:?}, argument ", tool.name), format!("tool {:?}, the arguments", tool.name)];
            expect(place.iter().any(|place| reason.starts_with(place)), reason.clone());
            expect(constrainer.compile(&asked(0)).is_ok_and(|constraint| !constraint.can_call()), reason.clone());
            expect(constrainer.compile(&asked(1)).is_err(), reason);
            refused += 1;
            continue;
        }
        let constraint = match constrainer.compile(&asked(1)) {
            Ok(constraint) => constraint,
            Err(error) => {
                expect(false, error.to_string());
                continue;
            }
        };
        let is_checked = |keyword: &str| {
            report.keywords.iter().any(|line| line.keyword == keyword && line.treatment == Treatment::Checked)
        };
        // The `jsonschema` crate reads the original definition, if it can. It knows some keywords
        // that we ignore, so tools with ignored keywords are not judged by it.
        let schema = without_nullable(definition["inputSchema"].clone());
        let oracle = jsonschema::options().should_validate_formats(true).build(&schema).ok();
        let oracle = oracle.filter(|_| report.keywords.iter().all(|line| line.treatment != Treatment::Ignored));
        for seed in 0..3 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let text = write(&mut constraint.clone(), &tokenizer, max_tokens, &mut rng);
            let calls = text.and_then(|text| serde_json::from_str(&text).map_err(|error| format!("{error}: {text}")));
            let calls: Value = match calls {
                Ok(calls) => calls,
                Err(error) => {
                    expect(false, error);
                    continue;
                }
            };
            for call in calls.as_array().unwrap() {
                called += 1;
                chars += call.to_string().len();
                let arguments = &call["arguments"];
                match tool.violation(arguments.as_object().unwrap()) {
                    Some(violation) => {
                        let may_break =
                            is_checked(&violation.keyword) || PASSES_ON.iter().any(|keyword| is_checked(keyword));
                        expect(may_break, format!("{violation}: {call}"));
                    }
                    // Here `\s` is Unicode white space; in ECMAScript it lacks the next-line
                    // character, U+0085.
                    None if !has_large_number(arguments) && !call.to_string().contains('\u{85}') => {
                        judged += usize::from(oracle.is_some());
                        let error = oracle.as_ref().and_then(|oracle| oracle.validate(arguments).err());
                        expect(error.is_none(), format!("{error:?}: {call}"));
                    }
                    None => {}
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    // Otherwise the test would cover little.
    assert!(
        called > 1400 && judged > 1000 && refused < 20 && unread < 20 && chars > 40 * called,
        "{called} calls, {judged} judged, {refused} refused, {unread} unread, {chars} characters"
    );
}

/// The lines of a tool's report that are not enforced, as `path keyword treatment`, and why the
/// tool is refused.
fn treated(properties: Value, required: &[&str]) -> (Vec<String>, Option<String>) {
    let schema = json!({"type": "object", "properties": properties, "required": required});
    let tool = Tool::from_json(&json!({"name": "a_tool", "inputSchema": schema}), "tool").unwrap();
    let report = reports(&[tool]).remove(0);
    let lines = report.keywords.iter().filter(|line| line.treatment != Treatment::Enforced);
    let lines = lines.map(|line| format!("{}{} {:?}", line.path, line.keyword, line.treatment));
    (lines.map(|line| line.replace("/properties/", "")).collect(), report.refused)
}

#[test]
fn one_bad_argument_does_not_make_other_tools_unusable() {
    let bad = json!({"name": "bad", "inputSchema": {"type": "object", "required": ["x"], "properties": {
        "x": {"$ref": "#/nowhere"}}}});
    let optional = json!({"name": "optional", "inputSchema": {"type": "object", "properties": {
        "x": {"$ref": "#/nowhere"}, "y": {"type": "boolean"}}}});
    let costly = json!({"name": "costly", "inputSchema": {"type": "object", "required": ["x"], "properties": {
        "x": {"allOf": [alternatives("a", 500), alternatives("b", 500)]}}}});
    let tools = Tool::list_from_json(&json!([bad, optional, costly])).unwrap();
    let tokenizer = tokenizer();
    let asked = Asked { query: "", tools: &tools, values: &Values::Free, min_calls: 0, max_calls: 1, max_tokens: 200 };
    let constraint = Constrainer::new(&tokenizer).unwrap().compile(&asked).unwrap();
    let call = r#"[{"name":"optional","arguments":{"y":true}}]"#;
    assert!(allows(&mut constraint.clone(), &tokenizer, call));
    assert!(!allows(&mut constraint.clone(), &tokenizer, r#"[{"name":"bad","arguments":{}}]"#));
    let reports = reports(&tools);
    let refused = reports[0].refused.as_deref().unwrap();
    assert!(refused.starts_with("tool \"bad\", argument \"x\", $ref: no value satisfies it"), "{refused}");
    assert_eq!(reports[1].refused, None);
    assert!(!allows(&mut constraint.clone(), &tokenizer, r#"[{"name":"costly"#));
    assert!(reports[2].refused.is_some());
    let left_out = reports[1].keywords.iter().find(|line| line.treatment == Treatment::LeftOut).unwrap();
    assert_eq!(left_out.path, "/properties/x");
}

#[test]
fn keywords_that_are_too_hard_for_a_grammar_are_checked_after_decoding() {
    for (spec, expected) in [
        (json!({"type": "string", "minLength": 6000}), vec!["xminLength Checked"]),
        (json!({"type": "string", "format": "hostname", "minLength": 60}), vec!["xformat Checked"]),
        (json!({"type": "string", "format": "email", "minLength": 49}), vec!["xformat Checked"]),
        (json!({"type": "integer", "multipleOf": 0.01}), vec![]),
        (json!({"type": "integer", "multipleOf": 2.5}), vec![]),
        (json!({"type": "integer", "multipleOf": 1_000_003}), vec!["xmultipleOf Checked"]),
        (json!({"type": "integer", "minimum": 1e18}), vec!["xminimum Checked"]),
        (json!({"type": "number", "minimum": 1e308}), vec!["xminimum Checked"]),
        (json!({"type": "array", "items": {"type": "null"}, "minItems": 4608}), vec!["xminItems Checked"]),
        (json!({"type": "string", "pattern": "^.*a.{14}$"}), vec!["xpattern Checked"]),
        (
            json!({"prefixItems": (0..2000).map(|i| json!({"const": i})).collect::<Vec<_>>(), "items": false}),
            vec!["xprefixItems Checked", "xitems Checked"],
        ),
        (
            json!({"type": "string", "enum": (0..20_000).map(|i| i.to_string()).collect::<Vec<_>>()}),
            vec!["xenum Checked"],
        ),
    ] {
        let (lines, refused) = treated(json!({"x": spec}), &["x"]);
        assert_eq!((lines, refused), (expected.into_iter().map(str::to_owned).collect(), None), "{spec:.200}");
    }
}

#[test]
fn an_argument_that_no_value_satisfies_is_left_out_or_its_tool_is_refused() {
    for spec in [
        json!({"type": "string", "pattern": "^a$", "minLength": 5}),
        json!({"type": "integer", "minimum": 5, "maximum": 3}),
        json!({"type": "integer", "enum": ["1", "2"]}),
    ] {
        assert_eq!(treated(json!({"x": spec}), &[]), (vec!["xproperties LeftOut".to_owned()], None), "{spec}");
        let (_, refused) = treated(json!({"x": spec}), &["x"]);
        let refused = refused.unwrap();
        assert!(refused.starts_with("tool \"a_tool\", argument \"x\", type with "), "{refused}");
    }
}

#[test]
fn references_that_double_at_each_level_are_compiled_once() {
    let mut definitions = Map::new();
    for i in 0..60 {
        let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
        definitions.insert(format!("d{i}"), json!({"allOf": [next, next]}));
    }
    definitions.insert("d60".into(), json!({"type": "boolean"}));
    let schema = json!({"$ref": "#/$defs/d0", "$defs": definitions});
    let tokenizer = tokenizer();
    let mut constraint = Constrainer::new(&tokenizer).unwrap().compile_value(&schema, 20).unwrap();
    assert!(allows(&mut constraint, &tokenizer, "true"));
}

#[test]
fn a_choice_is_enforced_only_if_all_alternatives_are() {
    let look_ahead = json!({"type": "string", "pattern": "^(?!root$)[a-z]+$"});
    let (lines, _) = treated(json!({"x": {"anyOf": [look_ahead, {"type": "null"}]}}), &[]);
    assert_eq!(lines, ["xanyOf Checked", "x/anyOf/0pattern Checked"]);
    let (lines, _) = treated(json!({"x": {"anyOf": [{"type": "string"}, {"type": "null"}]}}), &[]);
    assert_eq!(lines, Vec::<String>::new());
}

#[test]
fn annotations_and_unused_definitions_are_not_reported() {
    let (lines, _) = treated(
        json!({"x": {"type": "string", "title": "X", "x-order": 1, "markdownDescription": "x", "examples": ["a"],
            "xml": {"name": "x"}, "externalDocs": {"url": "u"}, "discriminator": {"propertyName": "k"},
            "$defs": {"unused": {"uniqueItems": true}}}}),
        &[],
    );
    assert_eq!(lines, Vec::<String>::new());
    let (lines, _) = treated(
        json!({"n": {"type": "integer", "multipleOf": 0}, "l": {"type": "array", "uniqueItems": "true"}, "r": {"$ref": 3}}),
        &[],
    );
    assert_eq!(lines, ["nmultipleOf Ignored", "luniqueItems Ignored", "r$ref Ignored"]);
}

/// Alternatives that differ in a member called `name`.
fn alternatives(name: &str, count: usize) -> Value {
    let one = |i| json!({"type": "object", "properties": {name: {"const": i}}, "required": [name]});
    json!({"anyOf": (0..count).map(one).collect::<Vec<_>>()})
}

#[test]
fn schemas_that_multiply_are_weakened_or_refused_before_they_take_long() {
    let texts: Vec<String> = (0..1900).map(|i| format!("value {i}")).collect();
    let constants: Vec<Value> = (0..20_000).map(|i| json!({"const": i})).collect();
    let mut definitions = Map::new();
    for i in 0..60 {
        let next = json!({"$ref": format!("#/properties/x/$defs/d{}", i + 1)});
        let schema = json!({"type": "object", "properties": {"a": next, "b": next}, "anyOf": [next, next]});
        definitions.insert(format!("d{i}"), schema);
    }
    definitions.insert("d60".into(), json!({"type": "object"}));
    let started = Instant::now();
    for (spec, expected) in [
        (
            json!({"allOf": (0..12).map(|i| alternatives(&i.to_string(), 4)).collect::<Vec<_>>()}),
            vec!["xallOf Checked"],
        ),
        (json!({"allOf": [alternatives("a", 400), alternatives("b", 400)]}), vec!["xallOf Checked"]),
        (alternatives("a", 2000), vec!["xanyOf Checked"]),
        (json!({"oneOf": alternatives("a", 3000)["anyOf"]}), vec!["xoneOf Checked"]),
        (json!({"anyOf": constants}), vec!["xanyOf Checked"]),
        (json!({"allOf": [{"enum": texts}, {"enum": texts}, {"enum": texts}]}), vec![]),
        (json!({"type": "number", "multipleOf": 1e-6, "minimum": -1e12, "maximum": 1e12}), vec![]),
        (json!({"$ref": "#/properties/x/$defs/d0", "$defs": definitions}), vec![]),
    ] {
        let (lines, refused) = treated(json!({"x": spec}), &["x"]);
        assert_eq!((lines, refused), (expected.into_iter().map(str::to_owned).collect(), None), "{spec:.200}");
    }
    let (_, refused) = treated(json!({"x": {"allOf": [alternatives("a", 500), alternatives("b", 500)]}}), &["x"]);
    let refused = refused.unwrap();
    assert!(refused.starts_with("tool \"a_tool\", argument \"x\", allOf: its schema is too complex"), "{refused}");
    // Without limits some of these take minutes, others forever.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
