//! Constrained decoding: answers contain only calls that the offered tools allow, and always end
//! within the length limit.
//!
//! The tools' JSON Schemas are compiled to rules (`schema`, `shape`), and the rules to a grammar
//! for the `llguidance` crate (`grammar`). Before each token the grammar decides which tokens may
//! follow: only offered names, only declared arguments, each at most once and in any order, all
//! required ones, values that satisfy their schemas, and at most `max_calls` calls. The same rules
//! give the shortest completion of an unfinished answer (`closing`). A token after which the
//! completion would not fit is not taken, so that every answer within the length limit is complete.

mod asked;
mod closing;
mod constrained;
mod constraint;
pub mod copying;
mod disjoint;
mod grammar;
pub mod grounding;
mod keywords;
mod number;
mod pattern;
pub mod preference;
mod probe;
mod refusal;
pub mod report;
mod schema;
pub mod search;
mod shape;
mod string;
mod weaken;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use needle_data::text::names::NameMap;
use needle_data::text::tool::Parameter;
use needle_data::tokenizer::EOS_ID;
use needle_data::{Tokenizer, Tool};
use serde_json::Value;

use crate::error::RuntimeError;
use closing::Answers;
use schema::Builder;
use shape::{ArrayShape, Member, ObjectShape, Others, Shape};
use string::Strings;

pub use asked::Asked;
pub use constrained::Constrained;
pub use constraint::Constraint;

/// Number of catalogues whose grammars are cached.
const CACHED_CATALOGUES: usize = 64;

/// Compiles constraints for one tokenizer.
pub struct Constrainer {
    factory: ParserFactory,
    env: TokEnv,
    tokenizer: Arc<Tokenizer>,
    cache: Mutex<HashMap<String, Compiled>>,
}

/// The compiled constraint of one catalogue, before the first token.
#[derive(Clone)]
struct Compiled {
    matcher: Matcher,
    answers: Arc<Answers>,
}

impl Constrainer {
    /// A constrainer for the vocabulary of `tokenizer`.
    ///
    /// # Errors
    /// If the vocabulary cannot be used.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, RuntimeError> {
        let vocab_size = tokenizer.vocab_size() as u32;
        let mut words: Vec<Vec<u8>> = (0..vocab_size).map(|id| tokenizer.token_bytes(id)).collect();
        // If two ids have the same bytes, encoding yields the later one, the learned piece.
        let mut owner: HashMap<Vec<u8>, usize> = HashMap::new();
        for id in 0..words.len() {
            if let Some(before) = owner.insert(words[id].clone(), id) {
                words[before].clear();
            }
        }
        // Ids without bytes are never allowed. The end token gets bytes that occur in no text.
        words[EOS_ID as usize] = b"\xFF</s>".to_vec();
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size, EOS_ID), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let factory = probe::factory(&env).map_err(RuntimeError::Tools)?;
        Ok(Self { factory, env, tokenizer: Arc::new(tokenizer.clone()), cache: Mutex::default() })
    }

    /// The constraint of an answer to `asked`. Tools that can never be called are left out;
    /// [`report`] says which and why.
    ///
    /// # Errors
    /// If the tools together are too large for a grammar, or no answer fits into the limit.
    pub fn compile(&self, asked: &Asked<'_>) -> Result<Constraint, RuntimeError> {
        let compiled = self.compiled(asked)?;
        self.constraint(compiled, asked.max_tokens)
    }

    /// The constraint of an answer that is one value of `schema`, of at most `max_tokens` tokens.
    ///
    /// # Errors
    /// As for [`Self::compile`].
    pub fn compile_value(&self, schema: &Value, max_tokens: usize) -> Result<Constraint, RuntimeError> {
        let mut builder = Builder::new();
        let start = builder.schema(schema, schema);
        let rules = builder.finish().map_err(RuntimeError::Tools)?.rules;
        let compiled = self.parser(Answers::new(rules, Strings::new(""), start), "")?;
        self.constraint(compiled, max_tokens)
    }

    fn constraint(&self, compiled: Compiled, max_tokens: usize) -> Result<Constraint, RuntimeError> {
        Constraint::new(compiled, self.env.clone(), self.tokenizer.clone(), max_tokens)
    }

    fn compiled(&self, asked: &Asked<'_>) -> Result<Compiled, RuntimeError> {
        let names = NameMap::of(asked.tools);
        let schemas: Vec<Value> = asked.tools.iter().map(Tool::schema).collect();
        let mut key = format!("{} {}", asked.min_calls, asked.max_calls);
        let mut has_copies = false;
        for (i, (tool, schema)) in asked.tools.iter().zip(&schemas).enumerate() {
            let text = schema.to_string();
            let is_held = |parameter: &Parameter| asked.values.holds(&tool.name, &parameter.name);
            has_copies |= text.contains("x-from-query") || tool.parameters.iter().any(is_held);
            key.push_str(&format!("\n{}\n{text}", names.inner(i)));
        }
        // A grammar with words of the query is of no use for other queries.
        if has_copies {
            return self.catalogue(asked, &names, &schemas);
        }
        // A panic while the lock was held cannot have damaged the cache.
        if let Some(known) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let compiled = self.catalogue(&Asked { query: "", ..*asked }, &names, &schemas)?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_CATALOGUES {
            cache.clear();
        }
        cache.insert(key, compiled.clone());
        Ok(compiled)
    }

    /// The constraint of all tools, or, if that fails, of the tools that compile on their own.
    fn catalogue(&self, asked: &Asked<'_>, names: &NameMap, schemas: &[Value]) -> Result<Compiled, RuntimeError> {
        let all = vec![true; asked.tools.len()];
        let of = |offered: &[bool]| self.parser(answers(asked, offered, names, schemas)?, asked.query);
        let reason = match of(&all) {
            Err(RuntimeError::Tools(reason)) => reason,
            together => return together,
        };
        let only = |tool: usize| (0..all.len()).map(|i| i == tool).collect::<Vec<bool>>();
        let offered: Vec<bool> = (0..all.len()).map(|tool| of(&only(tool)).is_ok()).collect();
        if offered == all {
            return Err(RuntimeError::Tools(format!("all tools together are too much for one grammar: {reason}")));
        }
        let refused = asked.tools.iter().zip(&offered).filter(|(_, is_offered)| !**is_offered);
        let named = |tool: &Tool| refusal::refusal(tool).unwrap_or_else(|| format!("tool {:?}: {reason}", tool.name));
        let reasons: Vec<String> = refused.map(|(tool, _)| named(tool)).collect();
        if !offered.contains(&true) {
            return Err(RuntimeError::Tools(reasons.join("; ")));
        }
        for reason in reasons {
            tracing::warn!("left out: {reason}");
        }
        of(&offered)
    }

    fn parser(&self, answers: Answers, query: &str) -> Result<Compiled, RuntimeError> {
        if answers.rules().shapes[answers.start()].is_empty() {
            return Err(RuntimeError::Tools("no value satisfies the schema".to_owned()));
        }
        let grammar = grammar::grammar(answers.rules(), answers.start(), query);
        let matcher = probe::matcher(&self.factory, grammar).map_err(RuntimeError::Tools)?;
        Ok(Compiled { matcher, answers: Arc::new(answers) })
    }
}

/// The possible answers to `asked` with those tools for which `offered` is true.
fn answers(asked: &Asked<'_>, offered: &[bool], names: &NameMap, schemas: &[Value]) -> Result<Answers, RuntimeError> {
    let mut builder = Builder::new();
    let mut calls = Vec::new();
    for (i, (tool, schema)) in asked.tools.iter().zip(schemas).enumerate().filter(|(i, _)| offered[*i]) {
        for parameter in tool.parameters.iter().filter(|p| asked.values.holds(&tool.name, &p.name)) {
            let spec = schema.get("properties").and_then(|properties| properties.get(&parameter.name));
            // For a list of strings, each item must be copied.
            for spec in spec.into_iter().chain(spec.and_then(|spec| spec.get("items"))) {
                builder.copy(spec, schema);
            }
        }
        let name = builder.add(vec![Shape::Literals(vec![closing::key_text(names.inner(i))])]);
        let arguments = builder.arguments(schema).and_then(|rule| builder.settle().map(|()| rule));
        let arguments = match arguments {
            Ok(arguments) => arguments,
            Err(reason) => {
                tracing::warn!("left out: tool {:?}: {reason}", tool.name);
                continue;
            }
        };
        let member = |name: &str, value| Member { name: name.to_owned(), value, is_required: true };
        calls.push(Shape::Object(ObjectShape {
            members: vec![member("name", name), member("arguments", arguments)],
            others: Others::None,
            is_ordered: true,
        }));
    }
    let call = builder.add(calls);
    let list = ArrayShape { prefix: Vec::new(), items: Some(call), min: asked.min_calls, max: Some(asked.max_calls) };
    let start = builder.add(vec![Shape::Array(list)]);
    let rules = builder.finish().map_err(RuntimeError::Tools)?.rules;
    Ok(Answers::new(rules, Strings::new(asked.query), start))
}

#[cfg(test)]
mod tests {
    use super::copying::Values;
    use super::*;
    use crate::generate::argmax;
    use needle_data::tokenizer::TOOL_CALL_ID;
    use serde_json::{Map, json};

    fn tokenizer() -> Tokenizer {
        let config =
            needle_data::tokenizer::TokenizerConfig { vocab_size: 330, isolate_spaces: true, join_structure: true };
        let text =
            r#"[{"name":"set_timer","arguments":{"minutes":5,"label":"é"}},{"name":"x"}] true false null -1.5e3"#;
        Tokenizer::train(&config, [text; 3].iter()).unwrap()
    }

    fn allows(tools: &Value, max_calls: usize, answer: &str) -> bool {
        allows_for("a query", &Values::Free, tools, max_calls, answer)
    }

    fn allows_for(query: &str, values: &Values, tools: &Value, max_calls: usize, answer: &str) -> bool {
        let tokenizer = tokenizer();
        let tools = Tool::list_from_json(tools).unwrap();
        let asked = Asked { query, tools: &tools, values, min_calls: 0, max_calls, max_tokens: 1000 };
        let mut constraint = Constrainer::new(&tokenizer).unwrap().compile(&asked).unwrap();
        let ids = [&[TOOL_CALL_ID], tokenizer.encode(answer).as_slice(), &[EOS_ID]].concat();
        ids.iter().all(|&id| {
            let mut logits = vec![0.0; tokenizer.vocab_size()];
            logits[id as usize] = 1.0;
            constraint.mask(&mut logits);
            assert!(constraint.error().is_none(), "{:?}", constraint.error());
            if id != EOS_ID && logits[id as usize].is_finite() {
                constraint.advance(id);
            }
            logits[id as usize].is_finite()
        })
    }

    #[test]
    fn an_answer_that_must_call_cannot_end_before_it_has() {
        let tokenizer = tokenizer();
        let constrainer = Constrainer::new(&tokenizer).unwrap();
        let tools = Tool::list_from_json(&json!([{"name": "x"}])).unwrap();
        let values = &Values::Free;
        let asked = |min_calls| Asked { query: "q", tools: &tools, values, min_calls, max_calls: 2, max_tokens: 100 };
        for (min_calls, may_be_empty) in [(0, true), (1, false), (0, true)] {
            let mut constraint = constrainer.compile(&asked(min_calls)).unwrap();
            // The ids of an empty list.
            let ids = [&[TOOL_CALL_ID], tokenizer.encode("[]").as_slice(), &[EOS_ID]].concat();
            let is_allowed = ids.iter().all(|&id| {
                let mut logits = vec![0.0; tokenizer.vocab_size()];
                logits[id as usize] = 1.0;
                constraint.mask(&mut logits);
                constraint.advance(id);
                logits[id as usize].is_finite()
            });
            assert_eq!(is_allowed, may_be_empty, "{min_calls}");
        }
        assert!(constrainer.compile(&asked(3)).is_err(), "min_calls exceeds max_calls");
    }

    #[test]
    fn only_what_the_tools_allow_can_be_written() {
        let tools = json!([
            {"name": "setTimer", "parameters": {
                "label": {"type": "string"}, "minutes": {"type": "integer", "required": true},
                "mode": {"type": "string", "enum": ["on", "o\"n", 3]}, "loud": {"type": "bool"}}},
            {"name": "x"},
        ]);
        for (answer, expected) in [
            ("[]", true),
            (r#"[{"name":"x","arguments":{}}]"#, true),
            (r#"[{"name":"set_timer","arguments":{"minutes":5}}]"#, true),
            (r#"[{"name":"set_timer","arguments":{"label":"a \"b\" é\n","loud":true,"minutes":-50}}]"#, true),
            (r#"[{"name":"set_timer","arguments":{"minutes":5,"mode":"o\"n"}},{"name":"x","arguments":{}}]"#, true),
            (r#"[{"name":"set_timer","arguments":{}}]"#, false),
            (r#"[{"name":"set_timer","arguments":{"label":"a"}}]"#, false),
            (r#"[{"name":"set_timer","arguments":{"minutes":5,"minutes":5}}]"#, false),
            (r#"[{"name":"set_timer","arguments":{"minutes":5.5}}]"#, false),
            (r#"[{"name":"set_timer","arguments":{"minutes":"5"}}]"#, false),
            (r#"[{"name":"set_timer","arguments":{"minutes":05}}]"#, false),
            (r#"[{"name":"set_timer","arguments":{"minutes":5,"mode":3}}]"#, false),
            (r#"[{"name":"set_timer","arguments":{"minutes":5,"mode":"off"}}]"#, false),
            (r#"[{"name":"set_timer","arguments":{"minutes":5,"other":1}}]"#, false),
            (r#"[{"name":"set_timer","arguments":{"minutes":5},"x":1}]"#, false),
            (r#"[{"name":"setTimer","arguments":{"minutes":5}}]"#, false),
            (r#"[{"name":"x","arguments":{}},{"name":"x","arguments":{}},{"name":"x","arguments":{}}]"#, false),
            (r#"[{"name":"x","arguments":{}}"#, false),
        ] {
            assert_eq!(allows(&tools, 2, answer), expected, "{answer}");
        }
    }

    #[test]
    fn nested_schemas_are_enforced() {
        let tools = json!([{"name": "x", "inputSchema": {"type": "object", "properties": {
            "list": {"type": "array", "items": {"type": "integer"}},
            "points": {"type": "array", "items": {"type": "object", "required": ["a"], "properties": {
                "a": {"type": "number"}, "b": {"type": ["string", "null"]}}}},
            "free": {"type": "object"}, "own": {"type": "Any"}, "never": {"type": "string", "enum": [1]}}}}]);
        let call = |arguments: &str| format!(r#"[{{"name":"x","arguments":{arguments}}}]"#);
        for (arguments, expected) in [
            (r#"{"list":[]}"#, true),
            (r#"{"list":[1,2],"points":[{"b":null,"a":-1.5e3},{"a":0}]}"#, true),
            (r#"{"free":{"é":[true,{"b":1}]},"own":{"x":"y"}}"#, true),
            (r#"{"list":["1"]}"#, false),
            (r#"{"points":[{"b":"x"}]}"#, false),
            (r#"{"points":[{"a":1,"c":1}]}"#, false),
            (r#"{"free":3}"#, false),
            (r#"{"never":"1"}"#, false),
            (r#"{"never":1}"#, false),
        ] {
            assert_eq!(allows(&tools, 1, &call(arguments)), expected, "{arguments}");
        }
        assert!(allows(&json!([]), 3, "[]") && !allows(&json!([]), 3, &call("{}")));
        let cannot = json!([{"name": "x", "parameters": {"a": {"type": "string", "enum": [], "required": true}}}]);
        assert!(allows(&cannot, 1, "[]") && !allows(&cannot, 1, &call("{}")));
    }

    #[test]
    fn a_tool_may_have_a_hundred_and_thirty_parameters() {
        let parameters: Map<String, Value> =
            (0..130).map(|i| (format!("p{i}"), json!({"type": "boolean", "required": i == 1 || i == 70}))).collect();
        let tools = json!([{"name": "big", "parameters": parameters}]);
        let call = |names: &[usize]| {
            let arguments: Map<String, Value> = names.iter().map(|i| (format!("p{i}"), true.into())).collect();
            json!([{"name": "big", "arguments": arguments}]).to_string()
        };
        let all: Vec<usize> = (0..130).collect();
        for (names, expected) in [
            (all.as_slice(), true),
            (&[1, 70], true),
            (&[5, 1, 3, 129, 70], false),
            (&[5, 1, 3, 90, 70, 60, 129, 120], true),
            (&[1, 3], false),
            (&[70], false),
            (&[5, 70], false),
        ] {
            assert_eq!(allows(&tools, 1, &call(names)), expected, "{names:?}");
        }
    }

    #[test]
    fn a_parameter_with_x_from_query_takes_only_words_of_the_query() {
        let tools = json!([{"name": "find", "parameters": {
            "who": {"type": "string", "x-from-query": true}, "where": {"type": "string"},
            "how": {"type": "string", "enum": ["fast"]}, "tags": {"type": "array", "items": {"type": "string"}}}}]);
        let query = r#"find Ada "Countess" Lovelace's house\hut, é"#;
        let call = |arguments: &str| format!(r#"[{{"name":"find","arguments":{arguments}}}]"#);
        for (arguments, free, copied) in [
            (r#"{"who":"Ada"}"#, true, true),
            (r#"{"who":"Lovelace's"}"#, true, true),
            (r#"{"who":"Lovelace's house\\hut, é"}"#, true, true),
            (r#"{"who":"ada"}"#, false, false),
            (r#"{"who":"Lovelac"}"#, false, false),
            (r#"{"who":" Lovelace"}"#, false, false),
            (r#"{"who":""}"#, false, false),
            (r#"{"where":"ada"}"#, true, false),
            (r#"{"where":"house","how":"fast","tags":["find","hut"]}"#, true, true),
            (r#"{"tags":["huts"]}"#, true, false),
        ] {
            assert_eq!(allows_for(query, &Values::Free, &tools, 1, &call(arguments)), free, "{arguments}");
            assert_eq!(allows_for(query, &Values::Copied, &tools, 1, &call(arguments)), copied, "{arguments}");
        }
    }

    #[test]
    fn an_answer_is_complete_even_with_a_limit_of_a_few_tokens() {
        let tokenizer = tokenizer();
        let tools = Tool::list_from_json(&json!([{"name": "x", "parameters": {"text": {"type": "string"}}}])).unwrap();
        let constrainer = Constrainer::new(&tokenizer).unwrap();
        for max_tokens in 0..60 {
            let asked =
                Asked { query: "q", tools: &tools, values: &Values::Free, min_calls: 0, max_calls: 3, max_tokens };
            let Ok(mut constraint) = constrainer.compile(&asked) else {
                assert!(max_tokens < 6, "{max_tokens}");
                continue;
            };
            // A model that writes the letter `a` forever, wherever it can.
            let (mut ids, mut ended) = (Vec::new(), false);
            for _ in 0..max_tokens {
                let mut logits: Vec<f32> = (0..tokenizer.vocab_size() as u32)
                    .map(|id| {
                        f32::from(u8::from(tokenizer.token_bytes(id).contains(&b'a')))
                            - 2.0 * f32::from(u8::from(id == EOS_ID))
                    })
                    .collect();
                constraint.mask(&mut logits);
                let best = argmax(&logits);
                ended |= best == EOS_ID;
                if ended {
                    break;
                }
                ids.push(best);
                constraint.advance(best);
            }
            let text = tokenizer.decode(&ids[1..]);
            assert!(ended && serde_json::from_str::<Value>(&text).is_ok(), "{max_tokens}: {text}");
        }
    }
}
