//! Decoding that can only write calls which the offered tools allow.
//!
//! The tools become a grammar for the `llguidance` crate, which tells before each token which ones can go on: offered names
//! only, declared arguments only, each at most once and in any order, required ones present, values of their declared type
//! or enum, at most `max_calls` calls. What is written always parses and validates, unless the length limit ends it.
//!
//! The grammar of one call (arguments in any order are one rule with a set of bits, not a rule for each order):
//!
//! ```text
//! call   : "{\"name\":\"set_timer\",\"arguments\":{" first "}"
//! first  : "\"minutes\":" integer rest::1 | "\"label\":" string rest::2
//! rest::_: "}" %if is_ones([0:1]) | ",\"minutes\":" integer rest::set_bit(0) %if bit_clear(0) | ...
//! ```

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use needle_data::text::names::NameMap;
use needle_data::tokenizer::{EOS_ID, TOOL_CALL_ID};
use needle_data::{Tokenizer, Tool};
use serde_json::{Map, Value};

use crate::error::RuntimeError;
use crate::generate::StepHook;

/// A rule has one bit for each argument.
const MAX_PARAMETERS: usize = 64;
/// How deep values of undeclared shape may nest.
const MAX_DEPTH: usize = 3;

/// Terminals: compact JSON. Numbers stay within what an `i64` and an `f64` hold.
const TERMINALS: &str = r#"
STRING: /"([^"\\\x00-\x1F\x7F]|\\["\\\/bfnrt]|\\u00[01][0-9a-fA-F])*"/
INTEGER: /-?(0|[1-9][0-9]{0,17})/
NUMBER: /-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?/
any0: STRING | NUMBER | "true" | "false" | "null"
"#;

/// Compiles the constraints of one tokenizer.
pub struct Constrainer {
    factory: ParserFactory,
}

/// What one answer may be; where it stands in it.
pub struct Constraint {
    matcher: Matcher,
    has_begun: bool,
    error: Option<String>,
}

impl Constrainer {
    /// For texts of `tokenizer`.
    ///
    /// # Errors
    /// If the vocabulary cannot be used.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, RuntimeError> {
        let vocab_size = tokenizer.vocab_size() as u32;
        let mut words: Vec<Vec<u8>> = (0..vocab_size).map(|id| tokenizer.token_bytes(id)).collect();
        // Of two ids with the same bytes, the learned piece is the one that encoding gives.
        let mut owner: HashMap<Vec<u8>, usize> = HashMap::new();
        for id in 0..words.len() {
            if let Some(before) = owner.insert(words[id].clone(), id) {
                words[before].clear();
            }
        }
        // Ids without bytes are never allowed; the end has bytes that no text has.
        words[EOS_ID as usize] = b"\xFF</s>".to_vec();
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size, EOS_ID), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(error)?;
        factory.quiet();
        Ok(Self { factory })
    }

    /// The constraint of an answer that calls `tools` at most `max_calls` times.
    ///
    /// # Errors
    /// If a tool has more than 64 parameters, or a definition asks for more than a grammar can hold.
    pub fn compile(&self, tools: &[Tool], max_calls: usize) -> Result<Constraint, RuntimeError> {
        let grammar = grammar(tools, max_calls)?;
        let parser = self.factory.create_parser(TopLevelGrammar::from_lark(grammar)).map_err(error)?;
        let matcher = Matcher::new(Ok(parser));
        match matcher.get_error() {
            Some(reason) => Err(error(reason)),
            None => Ok(Constraint { matcher, has_begun: false, error: None }),
        }
    }
}

fn error(reason: impl std::fmt::Display) -> RuntimeError {
    // The crate's messages go on with a dump of its state.
    let reason = reason.to_string();
    RuntimeError::Tools(reason.lines().next().unwrap_or_default().to_owned())
}

impl Constraint {
    /// Sets the logits of tokens that cannot come next to negative infinity.
    pub fn mask(&mut self, logits: &mut [f32]) {
        let allows: Box<dyn Fn(u32) -> bool> = if self.error.is_some() {
            Box::new(|id| id == EOS_ID)
        } else if !self.has_begun {
            Box::new(|id| id == TOOL_CALL_ID)
        } else {
            match self.matcher.compute_mask_or_eos() {
                Ok(mask) => Box::new(move |id| mask.is_allowed(id)),
                Err(reason) => {
                    self.error = Some(error(reason).to_string());
                    Box::new(|id| id == EOS_ID)
                }
            }
        };
        for (id, logit) in logits.iter_mut().enumerate() {
            if !allows(id as u32) {
                *logit = f32::NEG_INFINITY;
            } else if logit.is_nan() {
                // A broken model, too, writes only what is allowed.
                *logit = f32::MIN;
            }
        }
    }

    /// Goes on past `token`.
    pub fn advance(&mut self, token: u32) {
        if !self.has_begun {
            self.has_begun = true;
        } else if let Err(reason) = self.matcher.consume_token(token) {
            self.error.get_or_insert(error(reason).to_string());
        }
    }

    /// What went wrong, if anything did; the answer then ends early.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

/// A hook that constrains each row of a batch, and passes on to `inner` what was chosen.
pub struct Constrained<'a, H> {
    /// One constraint a row.
    pub rows: Vec<Constraint>,
    /// Told of tokens after them.
    pub inner: &'a mut H,
}

impl<H: StepHook> StepHook for Constrained<'_, H> {
    fn mask(&mut self, row: usize, logits: &mut [f32]) {
        self.inner.mask(row, logits);
        self.rows[row].mask(logits);
    }

    fn chosen(&mut self, row: usize, token: u32) {
        self.rows[row].advance(token);
        self.inner.chosen(row, token);
    }
}

/// The answers that `tools` allow, in llguidance's dialect of Lark. Their text begins with the space in front of it.
fn grammar(tools: &[Tool], max_calls: usize) -> Result<String, RuntimeError> {
    let names = NameMap::of(tools);
    let mut rules = Rules { text: TERMINALS.to_owned(), ..Rules::default() };
    for depth in 1..=MAX_DEPTH {
        let inner = format!("any{}", depth - 1);
        let object = format!(r#""{{" (STRING ":" {inner} ("," STRING ":" {inner})*)? "}}""#);
        let _ = writeln!(rules.text, r#"any{depth}: any0 | "[" ({inner} ("," {inner})*)? "]" | {object}"#);
    }
    let mut calls = Vec::new();
    for (i, tool) in tools.iter().enumerate() {
        let members: Vec<Member> = tool
            .parameters
            .iter()
            .map(|p| Member { name: &p.name, spec: Some(&p.spec), is_required: p.is_required() })
            .collect();
        // A tool with a required argument that can have no value can never be called.
        let Some(arguments) = rules.object(members).map_err(|reason| too_large(tool, &reason))? else { continue };
        let name = Value::from(names.inner(i)).to_string();
        calls.push(format!("{} {arguments} \"}}\"", literal(&format!("{{\"name\":{name},\"arguments\":"))));
    }
    let mut text = rules.text;
    if calls.is_empty() || max_calls == 0 {
        text.push_str("start: \" []\"\n");
        return Ok(text);
    }
    let more = if max_calls > 1 { format!("(\",\" call){{0,{}}}", max_calls - 1) } else { String::new() };
    let _ = writeln!(text, "start: \" [\" (call {more})? \"]\"\ncall: {}", calls.join("\n    | "));
    Ok(text)
}

fn too_large(tool: &Tool, reason: &str) -> RuntimeError {
    RuntimeError::Tools(format!("{:?}: {reason}", tool.name))
}

/// A member that an object may have.
struct Member<'a> {
    name: &'a str,
    spec: Option<&'a Map<String, Value>>,
    is_required: bool,
}

/// Rules of the grammar written so far.
#[derive(Default)]
struct Rules {
    text: String,
    objects: usize,
    /// Rule of each specification met.
    values: HashMap<String, Option<String>>,
}

impl Rules {
    /// A rule for an object of `members` in any order; none if a required one can have no value.
    fn object(&mut self, mut members: Vec<Member<'_>>) -> Result<Option<String>, String> {
        members.sort_by_key(|member| !member.is_required);
        let mut typed = Vec::new();
        for member in members {
            match (self.value(member.spec)?, member.is_required) {
                (Some(value), _) => typed.push((member.name, value, member.is_required)),
                (None, true) => return Ok(None),
                (None, false) => {}
            }
        }
        if typed.len() > MAX_PARAMETERS {
            return Err(format!("{} parameters; constraints hold {MAX_PARAMETERS}", typed.len()));
        }
        let index = self.objects;
        self.objects += 1;
        let required = typed.iter().filter(|(_, _, is_required)| *is_required).count();
        let mut first = Vec::new();
        let mut rest = Vec::new();
        // Required ones have the lowest bits.
        rest.push(if required > 0 { format!("\"}}\" %if is_ones([0:{required}])") } else { "\"}\"".into() });
        if required == 0 {
            first.push("\"{}\"".to_owned());
        }
        for (bit, (name, value, _)) in typed.iter().enumerate() {
            let key = format!("{}:", Value::from(*name));
            first.push(format!("{} {value} rest{index}::{}", literal(&format!("{{{key}")), 1_u64 << bit));
            rest.push(format!(
                "{} {value} rest{index}::set_bit({bit}) %if bit_clear({bit})",
                literal(&format!(",{key}"))
            ));
        }
        if typed.is_empty() {
            let _ = writeln!(self.text, "object{index}: \"{{}}\"");
        } else {
            let _ = writeln!(self.text, "object{index}: {}", first.join("\n    | "));
            let _ = writeln!(self.text, "rest{index}::_: {}", rest.join("\n    | "));
        }
        Ok(Some(format!("object{index}")))
    }

    /// A rule for a value as `spec` asks for it; none if nothing is such a value.
    fn value(&mut self, spec: Option<&Map<String, Value>>) -> Result<Option<String>, String> {
        let Some(spec) = spec else { return Ok(Some(format!("any{MAX_DEPTH}"))) };
        let key = Value::Object(spec.clone()).to_string();
        if let Some(known) = self.values.get(&key) {
            return Ok(known.clone());
        }
        let rule = match self.alternatives(spec)? {
            alternatives if alternatives.is_empty() => None,
            alternatives => {
                let rule = format!("value{}", self.values.len());
                let _ = writeln!(self.text, "{rule}: {}", alternatives.join(" | "));
                Some(rule)
            }
        };
        self.values.insert(key, rule.clone());
        Ok(rule)
    }

    fn alternatives(&mut self, spec: &Map<String, Value>) -> Result<Vec<String>, String> {
        if let Some(Value::Array(allowed)) = spec.get("enum") {
            let parameter = needle_data::text::tool::Parameter::new("", spec.clone());
            let allowed = allowed.iter().filter(|value| parameter.mismatch(value).is_none());
            let mut literals: Vec<String> = allowed.map(|value| literal(&value.to_string())).collect();
            literals.sort();
            literals.dedup();
            return Ok(literals);
        }
        let mut types: Vec<String> = match spec.get("type") {
            Some(Value::String(one)) => vec![one.to_ascii_lowercase()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect(),
            _ => Vec::new(),
        };
        types.sort();
        types.dedup();
        let is_number = |t: &str| matches!(t, "number" | "float" | "double");
        if types.iter().any(|t| is_number(t)) {
            // Every integer is a number.
            types.retain(|t| !matches!(t.as_str(), "integer" | "int"));
        }
        let mut alternatives = Vec::new();
        for type_name in &types {
            alternatives.push(match type_name.as_str() {
                "string" | "str" => "STRING".to_owned(),
                "integer" | "int" => "INTEGER".into(),
                t if is_number(t) => "NUMBER".into(),
                "boolean" | "bool" => "\"true\" | \"false\"".into(),
                "null" => "\"null\"".into(),
                "array" | "list" => match self.value(spec.get("items").and_then(Value::as_object))? {
                    Some(item) => format!("\"[\" ({item} (\",\" {item})*)? \"]\""),
                    None => "\"[]\"".into(),
                },
                "object" | "dict" => match spec.get("properties").and_then(Value::as_object) {
                    Some(properties) => {
                        let required = spec.get("required").and_then(Value::as_array);
                        let is_required = |name: &String| required.is_some_and(|all| all.iter().any(|r| r == name));
                        let members = properties.iter().map(|(name, spec)| Member {
                            name,
                            spec: spec.as_object(),
                            is_required: is_required(name),
                        });
                        match self.object(members.collect())? {
                            Some(object) => object,
                            None => continue,
                        }
                    }
                    None => format!(r#""{{" (STRING ":" any{MAX_DEPTH} ("," STRING ":" any{MAX_DEPTH})*)? "}}""#),
                },
                // A type of the author's own: anything fits.
                _ => return Ok(vec![format!("any{MAX_DEPTH}")]),
            });
        }
        if types.is_empty() {
            alternatives.push(format!("any{MAX_DEPTH}"));
        }
        alternatives.dedup();
        Ok(alternatives)
    }
}

/// `text` as a string of the grammar, whose escapes are JSON's.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tokenizer() -> Tokenizer {
        let config =
            needle_data::tokenizer::TokenizerConfig { vocab_size: 330, isolate_spaces: true, join_structure: true };
        let text =
            r#"[{"name":"set_timer","arguments":{"minutes":5,"label":"é"}},{"name":"x"}] true false null -1.5e3"#;
        Tokenizer::train(&config, [text; 3].iter()).unwrap()
    }

    fn allows(tools: &Value, max_calls: usize, answer: &str) -> bool {
        let tokenizer = tokenizer();
        let tools = Tool::list_from_json(tools).unwrap();
        let mut constraint = Constrainer::new(&tokenizer).unwrap().compile(&tools, max_calls).unwrap();
        let ids = [&[TOOL_CALL_ID], tokenizer.encode(answer).as_slice(), &[EOS_ID]].concat();
        ids.iter().all(|&id| {
            let mut logits = vec![0.0; tokenizer.vocab_size()];
            constraint.mask(&mut logits);
            assert!(constraint.error().is_none(), "{:?}", constraint.error());
            if id != EOS_ID && logits[id as usize].is_finite() {
                constraint.advance(id);
            }
            logits[id as usize].is_finite()
        })
    }

    #[test]
    fn what_the_tools_allow_can_be_written_and_nothing_else() {
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
    fn nested_declarations_hold_too() {
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
    fn a_tool_of_a_hundred_parameters_is_an_error() {
        let parameters: Map<String, Value> = (0..100).map(|i| (format!("p{i}"), json!({}))).collect();
        let tools = Tool::list_from_json(&json!([{"name": "big", "parameters": parameters}])).unwrap();
        let error = Constrainer::new(&tokenizer()).unwrap().compile(&tools, 1).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("big") && error.contains("100") && error.contains("64"), "{error}");
    }
}
