//! Tests that a broken trainer would fail.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use burn::module::AutodiffModule;
use burn_flex::Flex;
use needle_data::batching::loader::Loader;
use needle_data::order::stream::{Lane, Sources, Windows};
use needle_data::text::record::Record;
use needle_data::{Batch, EncodedExample, Encoder, Example};
use needle_model::San;
use needle_model::checkpoint::weights_to_bytes;
use needle_tests::{examples, max_difference, start};
use needle_train::device::Training;
use needle_train::distributed::World;
use needle_train::optim::{LearningRates, Optimizer, clip_global_norm};
use needle_train::recipe::Recipe;
use needle_train::run::directory::{Existing, RunDir};
use needle_train::training::step::forward_backward;
use needle_train::training::trainer::{RunOptions, Start, encode_config, train};

fn quiet() -> RunOptions {
    RunOptions { quiet: true, ..RunOptions::default() }
}

fn recipe(overrides: &[&str]) -> Recipe {
    let text = r#"
        model = "tiny"
        steps = 6
        dropout = 0.0
        tokenizer = { vocab_size = 500 }
        data = { rows = 2, row_enc_tokens = 256, row_dec_tokens = 128, pack_window = 16, max_retrieval_pairs = 8 }
        optim = { adamw_lr = 1e-3 }
        schedule = { warmup_steps = 2 }
        loss = { contrastive_every_steps = 2, alignment_weight = 0.3 }
        qat = { every_steps = 3, final_fraction = 0.2 }
        eval = { every_steps = 3, max_examples = 4, max_tokens = 16 }
    "#;
    needle_tests::recipe(text, overrides)
}

fn weights(model: &San<Training>) -> Vec<u8> {
    weights_to_bytes::<Flex>(&model.valid()).unwrap()
}

fn gradients(model: &San<Training>, batch: &Batch, recipe: &Recipe) -> Vec<(String, Vec<f32>)> {
    let (_, gradients) = forward_backward(model, batch, recipe, 1);
    gradients.into_iter().map(|(name, g)| (name, g.into_data().to_vec().unwrap())).collect()
}

fn assert_same_gradients(a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)]) {
    assert_eq!(a.len(), b.len());
    for ((name, a), (_, b)) in a.iter().zip(b) {
        let largest = a.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
        let difference = max_difference(a, b);
        assert!(difference <= 3e-5 * f64::from(largest), "{name}: {difference:e} of {largest:e}");
    }
}

fn memory(examples: &[Example]) -> Sources {
    Sources::memory(examples.to_vec())
}

fn records(examples: &[Example]) -> Vec<Record> {
    examples.iter().cloned().map(Record::ToolCall).collect()
}

fn first_batch(encoder: &Encoder<'_>, examples: &[Example], recipe: &Recipe) -> Batch {
    let windows =
        Windows::new(&memory(examples), encoder.tokenizer(), recipe.data.stream(1, Lane::default()), None).unwrap();
    Loader::new(encoder, windows, recipe.data.loader(1), 1).unwrap().next().unwrap().unwrap().batch
}

#[test]
fn the_loss_of_a_new_model_is_near_ln_of_the_vocabulary_size() {
    let (examples, recipe) =
        (examples(40), recipe(&["loss.value_weight=1", "loss.key_weight=1", "loss.name_weight=1"]));
    let start = start(&examples, &recipe);
    let encoder = Encoder::new(&start.tokenizer, encode_config(&recipe)).unwrap();
    let batch = first_batch(&encoder, &examples, &recipe);
    let (losses, _) = forward_backward(&start.model, &batch, &recipe, 1);
    let guess = (start.config.vocab_size as f64).ln();
    assert!((losses.cross_entropy - guess).abs() < 0.25, "{} and ln(vocab) = {guess}", losses.cross_entropy);
}

#[test]
fn one_batch_can_be_overfitted() {
    let (examples, recipe) = (examples(4), recipe(&["qat.every_steps=0", "qat.final_fraction=0"]));
    let Start { model, tokenizer, .. } = start(&examples, &recipe);
    let encoder = Encoder::new(&tokenizer, encode_config(&recipe)).unwrap();
    let batch = first_batch(&encoder, &examples, &recipe);
    let mut optimizer = Optimizer::<Flex>::new(&recipe.optim, recipe.seed);
    let (mut model, mut loss) = (model, f64::INFINITY);
    for _ in 0..400 {
        let (losses, gradients) = forward_backward(&model, &batch, &recipe, 1);
        loss = losses.cross_entropy;
        if loss < 0.01 {
            break;
        }
        let (gradients, _) = clip_global_norm(gradients, 1.0);
        model = optimizer.step(model, gradients, LearningRates { muon: 0.02, adamw: 1e-3 });
    }
    assert!(loss < 0.01, "{loss}");
}

#[test]
fn packed_rows_have_the_same_gradient_as_single_rows() {
    let (examples, recipe) = (examples(6), recipe(&[]));
    let start = start(&examples, &recipe);
    let encoder = Encoder::new(&start.tokenizer, encode_config(&recipe)).unwrap();
    let encoded: Vec<EncodedExample> = examples.iter().map(|e| encoder.encode(e, None).unwrap()).collect();
    let single: Vec<Vec<&EncodedExample>> = encoded.iter().map(|e| vec![e]).collect();
    let packed: Vec<Vec<&EncodedExample>> = encoded.chunks(2).map(|c| c.iter().collect()).collect();
    let (single, packed) = (Batch::from_rows(&single, 8), Batch::from_rows(&packed, 8));
    assert!(packed.rows < single.rows);
    // Rotary positions continue through a packed row, but attention depends only on their
    // differences.
    assert_same_gradients(&gradients(&start.model, &single, &recipe), &gradients(&start.model, &packed, &recipe));
}

#[test]
fn micro_batches_have_the_same_gradient_as_the_whole_batch() {
    let (examples, whole) = (examples(40), recipe(&["data.rows=5"]));
    let start = start(&examples, &whole);
    let encoder = Encoder::new(&start.tokenizer, encode_config(&whole)).unwrap();
    let batch = first_batch(&encoder, &examples, &whole);
    let parts = recipe(&["data.rows=5", "data.micro_batches=3"]);
    assert_same_gradients(&gradients(&start.model, &batch, &whole), &gradients(&start.model, &batch, &parts));
}

#[test]
fn activation_checkpointing_does_not_change_the_gradient() {
    let examples = examples(40);
    let more = ["dropout=0.2", "qat.every_steps=1", "loss.contrastive_every_steps=1", "loss.alignment_weight=0.5"];
    for settings in [&["dropout=0.0"][..], &more] {
        let whole = recipe(settings);
        let parts = recipe(&[settings, &["activation_checkpointing=true"]].concat());
        let start = start(&examples, &whole);
        let encoder = Encoder::new(&start.tokenizer, encode_config(&whole)).unwrap();
        let batch = first_batch(&encoder, &examples, &whole);
        assert_same_gradients(&gradients(&start.model, &batch, &whole), &gradients(&start.model, &batch, &parts));
        let losses = |recipe| forward_backward(&start.model, &batch, recipe, 1).0;
        assert!((losses(&whole).total - losses(&parts).total).abs() < 1e-5);
    }
}

#[test]
fn mixed_precision_agrees_with_f32_within_the_error_of_bf16() {
    let examples = examples(40);
    for more in ["activation_checkpointing=false", "activation_checkpointing=true"] {
        let settings = ["qat.every_steps=1", "loss.contrastive_every_steps=1", "loss.alignment_weight=0.5", more];
        let wide = recipe(&settings);
        let narrow = recipe(&[&settings[..], &["compute_dtype=bf16"]].concat());
        let start = start(&examples, &wide);
        let encoder = Encoder::new(&start.tokenizer, encode_config(&wide)).unwrap();
        let batch = first_batch(&encoder, &examples, &wide);
        let losses = |recipe| forward_backward(&start.model, &batch, recipe, 1).0.total;
        // bf16 has eight significant bits: one rounding changes a value by at most 0.4 %, as often
        // up as down.
        let (a, b) = (losses(&wide), losses(&narrow));
        assert!(a != b && (a / b - 1.0).abs() < 4e-3, "{a} {b}");
        let (wide, narrow) = (gradients(&start.model, &batch, &wide), gradients(&start.model, &batch, &narrow));
        let length = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>().sqrt();
        let whole = wide.iter().map(|(_, g)| length(g).powi(2)).sum::<f32>().sqrt();
        for ((name, a), (_, b)) in wide.iter().zip(&narrow) {
            let apart: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
            // Small gradients are differences of large ones, so their relative error is larger.
            assert!(
                length(&apart) < 0.05 * length(a) + 0.002 * whole,
                "{name}: {:e} of {:e}",
                length(&apart),
                length(a)
            );
        }
    }
}

#[test]
fn equal_seeds_give_equal_bits_and_different_seeds_do_not() {
    let examples = examples(60);
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, recipe: &Recipe, options| {
        let run = RunDir::new(dir.path().join(name));
        train(
            start(&examples, recipe),
            recipe,
            &memory(&examples),
            &records(&examples[..4]),
            &run,
            options,
            &World::default(),
        )
        .unwrap();
        (std::fs::read(run.last().join("model.safetensors")).unwrap(), std::fs::read_to_string(run.metrics()).unwrap())
    };
    let whole_recipe = recipe(&["dropout=0.1"]);
    let (whole, metrics) = run("whole", &whole_recipe, quiet());
    assert_eq!(whole, run("again", &whole_recipe, quiet()).0);
    assert_ne!(whole, run("other", &recipe(&["dropout=0.1", "seed=9"]), quiet()).0);

    assert_eq!(metrics.lines().filter(|l| l.contains("\"event\":\"step\"")).count(), 6);
}

#[test]
fn a_changed_recipe_is_not_resumed() {
    let examples = examples(30);
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::new(dir.path().join("run"));
    let options = || RunOptions { existing: Existing::Resume, ..quiet() };
    let first = recipe(&[]);
    let error = train(start(&examples, &first), &first, &memory(&examples), &[], &run, options(), &World::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("no run to resume"), "{error}");
    train(start(&examples, &first), &first, &memory(&examples), &[], &run, quiet(), &World::default()).unwrap();
    let changed = recipe(&["optim.muon_lr=0.01"]);
    let error =
        train(start(&examples, &changed), &changed, &memory(&examples), &[], &run, options(), &World::default())
            .unwrap_err()
            .to_string();
    assert!(error.contains("optim.muon_lr is 0.01, was 0.02"), "{error}");
}

#[test]
fn a_diverging_run_ends_with_an_error_that_names_the_step_and_the_learning_rate() {
    let examples = examples(30);
    let dir = tempfile::tempdir().unwrap();
    let wild = recipe(&["optim.muon_lr=1e30", "optim.adamw_lr=1e30", "steps=20"]);
    let run = RunDir::new(dir.path().join("run"));
    let error = train(start(&examples, &wild), &wild, &memory(&examples), &[], &run, quiet(), &World::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("step ") && error.contains("muon 1.00e30") && error.contains("4 steps in a row"),
        "{error}"
    );
    let batch: serde_json::Value =
        serde_json::from_slice(&std::fs::read(run.path().join("not_finite.json")).unwrap()).unwrap();
    assert!(
        batch["batches"][0]["enc_ids"].is_array() && batch["texts"][0].is_string() && batch["cursors"][0].is_object()
    );
}

#[test]
fn answers_too_long_for_the_decoder_are_counted_and_an_empty_set_is_an_error() {
    let examples = examples(30);
    let dir = tempfile::tempdir().unwrap();
    let short = recipe(&["data.row_dec_tokens=4"]);
    let run = RunDir::new(dir.path().join("run"));
    let error = train(start(&examples, &short), &short, &memory(&examples), &[], &run, quiet(), &World::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("the decoder reads at most 4"), "{error}");
    let whole = recipe(&[]);
    let error = train(start(&examples, &whole), &whole, &memory(&[]), &[], &run, quiet(), &World::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("no rows"), "{error}");
}

#[test]
fn a_step_with_learning_rate_zero_does_not_change_the_weights() {
    let (examples, recipe) = (examples(20), recipe(&[]));
    let start = start(&examples, &recipe);
    let encoder = Encoder::new(&start.tokenizer, encode_config(&recipe)).unwrap();
    let batch = first_batch(&encoder, &examples, &recipe);
    let before = weights(&start.model);
    let (_, gradients) = forward_backward(&start.model, &batch, &recipe, 2);
    let after = Optimizer::<Flex>::new(&recipe.optim, recipe.seed).step(
        start.model,
        gradients,
        LearningRates { muon: 0.0, adamw: 0.0 },
    );
    assert!(before == weights(&after));
}
