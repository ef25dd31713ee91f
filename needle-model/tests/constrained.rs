//! Whatever a model is and whatever the tools are: a constrained answer is whole within its limit,
//! and one that the tools allow.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use burn_flex::Flex;
use needle_data::text::example::{check_arguments, parse_answers};
use needle_data::text::names::NameMap;
use needle_data::tokenizer::TokenizerConfig;
use needle_data::{Call, Tokenizer, Tool};
use needle_model::generate::{StepHook, Stop, generate};
use needle_model::{San, SanConfig};
use needle_runtime::constrain::copying::Values;
use needle_runtime::constrain::{Asked, Constrained, Constrainer};
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

const CASES: u64 = 2000;
/// The least has room for `[]` alone.
const MAX_TOKENS: std::ops::RangeInclusive<usize> = 10..=120;
const MAX_CALLS: usize = 3;

const NAMES: [&str; 14] = [
    "a",
    "name",
    "city name",
    "grüße",
    "日本",
    "q\"uote",
    "back\\slash",
    "new\nline",
    "type",
    "arguments",
    "x1",
    "",
    "🙂",
    "Ünï-Code.x",
];

fn schema(rng: &mut ChaCha8Rng, depth: usize) -> Value {
    let scalar = ["string", "integer", "number", "boolean", "null", "str", "int", "float", "bool", "any"];
    match rng.random_range(0..if depth == 0 { 3 } else { 6 }) {
        0 => json!({"type": scalar.choose(rng).unwrap()}),
        1 => {
            let all =
                [json!("on"), json!("o\"ff"), json!(3), json!(-1.5), json!(true), json!(null), json!("é"), json!([1])];
            let allowed: Vec<&Value> = all.sample(rng, 3).collect();
            json!({"enum": allowed})
        }
        2 => json!({"type": [scalar.choose(rng).unwrap(), scalar.choose(rng).unwrap()]}),
        3 => json!({"type": "array", "items": schema(rng, depth - 1)}),
        4 => {
            let names: Vec<&str> = NAMES.sample(rng, 3).copied().collect();
            let properties: Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), schema(rng, depth - 1))).collect();
            json!({"type": "object", "properties": properties, "required": [names[0]]})
        }
        _ => json!({"description": "anything"}),
    }
}

fn tools(rng: &mut ChaCha8Rng) -> Vec<Tool> {
    let names: Vec<&str> = NAMES.iter().copied().filter(|name| !name.is_empty()).collect();
    let count = rng.random_range(0..5);
    let tools = names.sample(rng, count).copied().collect::<Vec<_>>().into_iter().map(|name| {
        let count = rng.random_range(0..6);
        let parameters: Vec<&str> = NAMES.sample(rng, count).copied().collect();
        let parameters: Map<String, Value> = parameters
            .into_iter()
            .map(|name| {
                let mut spec = schema(rng, 2);
                spec["required"] = rng.random_bool(0.4).into();
                (name.to_owned(), spec)
            })
            .collect();
        json!({"name": name, "parameters": parameters})
    });
    let tools: Vec<Value> = tools.collect();
    Tool::list_from_json(&tools.into()).unwrap()
}

/// Sampling at temperature 1 (the Gumbel-max trick), with a leaning to what ends things: a random
/// model seldom would.
struct Sample {
    rng: ChaCha8Rng,
    ends: Vec<bool>,
    lean: f32,
}

impl StepHook for Sample {
    fn mask(&mut self, _: usize, logits: &mut [f32]) {
        for (logit, ends) in logits.iter_mut().zip(&self.ends) {
            let uniform: f32 = self.rng.random_range(1e-9..1.0);
            *logit += -(-uniform.ln()).ln() + if *ends { self.lean } else { 0.0 };
        }
    }
}

#[test]
fn two_thousand_random_models_write_only_what_two_thousand_random_catalogues_allow() {
    let text =
        r#"[{"name":"get_weather","arguments":{"city":"New York é","days":-3.5e2,"on":true}},{"name":"x"}] null false"#;
    let config = TokenizerConfig { vocab_size: 340, isolate_spaces: true, join_structure: true };
    let tokenizer = Tokenizer::train(&config, [text; 3].iter()).unwrap();
    let constrainer = Constrainer::new(&tokenizer).unwrap();
    let ends: Vec<bool> = (0..tokenizer.vocab_size() as u32)
        .map(|id| matches!(tokenizer.token_bytes(id).as_slice(), [b'"' | b'}' | b']', ..]) || id == 1)
        .collect();
    let sizes = SanConfig {
        vocab_size: tokenizer.vocab_size(),
        d_model: 16,
        num_heads: 2,
        num_kv_heads: 1,
        num_encoder_layers: 1,
        num_decoder_layers: 1,
        contrastive_dim: None,
        ..SanConfig::preset("tiny").unwrap()
    };
    let mut with_calls = 0_u64;
    for seed in 0..CASES {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let tools = tools(&mut rng);
        let model = San::<Flex>::new(&sizes, seed, &Default::default()).unwrap();
        let max_tokens = rng.random_range(MAX_TOKENS);
        let values = &Values::Free;
        let asked = Asked { query: "a query", tools: &tools, values, min_calls: 0, max_calls: MAX_CALLS, max_tokens };
        let rows = vec![constrainer.compile(&asked).unwrap_or_else(|e| panic!("case {seed}: {e}"))];
        // Some never end anything of their own accord.
        let mut sample = Sample { lean: rng.random_range(-5.0..5.0), rng, ends: ends.clone() };
        let mut hook = Constrained { rows, inner: &mut sample };
        let answer = generate(&model, &[tokenizer.encode("a query")], max_tokens, &mut hook).remove(0);
        assert_eq!(hook.rows[0].error(), None, "case {seed}");
        let text = tokenizer.decode(&answer.ids);
        assert_eq!(answer.stop, Stop::Eos, "case {seed}: {max_tokens} tokens: {text}");
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("case {seed}: {e}: {text}"));
        let calls = parse_answers(Some(&value)).unwrap_or_else(|e| panic!("case {seed}: {e}: {text}"));
        assert!(calls.len() <= MAX_CALLS, "case {seed}: {text}");
        with_calls += u64::from(!calls.is_empty());
        let names = NameMap::of(&tools);
        for call in calls {
            let name = names.to_outer(&call.name).to_owned();
            let tool = tools.iter().find(|tool| tool.name == name).unwrap_or_else(|| panic!("case {seed}: {text}"));
            assert_eq!(tool.violation(&call.arguments), None, "case {seed}: {text}");
            check_arguments(tool, &Call { name, ..call }, "").unwrap_or_else(|e| panic!("case {seed}: {e}: {text}"));
        }
    }
    // Else there would be little to it.
    assert!(with_calls > CASES / 4, "{with_calls} with calls");
}
