//! Compares the exported artifact in the needle-rs runtime with our own INT4 decoding.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::path::Path;

use burn_flex::Flex;
use needle_data::{EncodeConfig, Encoder, Example};
use needle_infer::engine::NeedleEngine;
use needle_infer::tokenizer::Vocabulary;
use needle_model::checkpoint::Checkpoint;
use needle_model::generate::{NoHook, generate};
use needle_model::network::embed;
use needle_model::quant::fake_quant::{Precision, at_precision};
use needle_tests::max_difference;
use needle_train::device::Inference;
use needle_train::quickstart::{self, RECIPE};
use needle_train::recipe::Recipe;
use needle_train::run::directory::RunDir;
use needle_train::training::trainer::RunOptions;

const EXAMPLES: usize = 50;
const MAX_TOKENS: usize = 48;
/// Tolerance of a component of an embedding.
const EMBEDDING: f64 = 1e-3;

/// Greedy decoding by the runtime, without a grammar.
fn decode(engine: &NeedleEngine, prompt: &[u32]) -> Vec<u32> {
    let model = engine.model();
    let mut enc = model.make_enc_kv_caches(prompt.len());
    let mut dec = model.make_dec_kv_caches();
    model.encode(prompt, &mut enc);
    let (mut ids, mut token) = (Vec::new(), 1);
    let mut logits = vec![0.0; model.cfg.vocab_size];
    for _ in 0..MAX_TOKENS {
        model.decode_step(token, &enc, &mut dec, &mut logits);
        let best = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
        token = (0..logits.len()).fold(0, best) as u32;
        if token == 1 {
            break;
        }
        ids.push(token);
    }
    ids
}

/// Asserts that the artifact in `artifact` answers `examples` like the checkpoint in `checkpoint`
/// at INT4.
fn assert_same_answers(checkpoint: &Path, artifact: &Path, examples: &[Example]) {
    let checkpoint = Checkpoint::<Flex>::load(checkpoint, &Default::default()).unwrap();
    let limits = EncodeConfig {
        max_enc_tokens: checkpoint.config.max_enc_len,
        max_dec_tokens: checkpoint.config.max_dec_len,
        max_tool_tokens: 256,
    };
    let encoder = Encoder::new(&checkpoint.tokenizer, limits).unwrap();
    let ours = at_precision(checkpoint.model, Precision::Int4);
    let (weights, vocab) = (artifact.join("needle.safetensors"), artifact.join("vocab.txt"));
    let engine = NeedleEngine::load(&weights, &vocab).unwrap();
    let vocabulary = Vocabulary::load_text(&vocab).unwrap();

    let prompts: Vec<Vec<u32>> = examples.iter().map(|e| encoder.prompt(&e.query, &e.tools).0).collect();
    let answers = generate(&ours, &prompts, MAX_TOKENS, &mut NoHook);
    let mut distinct = HashSet::new();
    for ((example, prompt), answer) in examples.iter().zip(&prompts).zip(&answers) {
        assert_eq!(decode(&engine, prompt), answer.ids, "{}", example.query);
        assert_eq!(vocabulary.encode(&example.query), checkpoint.tokenizer.encode(&example.query));
        distinct.insert(answer.ids.clone());
    }
    assert!(
        distinct.len() > 5,
        "only {} distinct answers: the model has not learned to tell prompts apart",
        distinct.len()
    );

    let queries: Vec<Vec<u32>> = examples.iter().map(|e| encoder.query_ids(&e.query)).collect();
    for (example, ours) in examples.iter().zip(embed(&ours, &queries, 16).unwrap()) {
        let theirs = engine.encode_contrastive(&example.query).unwrap();
        let difference = max_difference(&ours, &theirs);
        assert!(difference < EMBEDDING, "{difference}");
    }
}

#[test]
fn the_needle_rs_runtime_decodes_the_tokens_of_our_own_int4_model() {
    let dir = tempfile::tempdir().unwrap();
    let short = [
        "model=tiny",
        "steps=120",
        "data.rows=4",
        "data.row_enc_tokens=256",
        "data.row_dec_tokens=128",
        "eval.every_steps=1000",
    ];
    let recipe = Recipe::parse(RECIPE, &short.map(str::to_owned)).unwrap();
    let mut data = quickstart::data(recipe.seed).unwrap();
    data.train.truncate(2000);
    data.held_out.truncate(EXAMPLES);
    let held_out = data.held_out.clone();
    let options = RunOptions { quiet: true, ..RunOptions::default() };
    let run = RunDir::new(dir.path().join("quickstart"));
    let report = quickstart::run::<Inference>(&run, &recipe, data, &Default::default(), options).unwrap();
    assert_same_answers(&run.best(), &report.artifact, &held_out);
}

#[test]
#[ignore = "needs the output of `cargo run --release -- quickstart` in quickstart/"]
fn the_needle_rs_runtime_decodes_the_tokens_of_the_quickstart_model() {
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("../quickstart");
    let recipe = Recipe::parse(RECIPE, &[]).unwrap();
    let data = quickstart::data(recipe.seed).unwrap();
    assert_same_answers(&out.join("best"), &out.join("int4"), &data.held_out[..EXAMPLES]);
}
