//! A run of several ranks gives the results of a run of one rank.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::AutodiffModule;
use needle_data::order::stream::Sources;
use needle_data::text::record::Record;
use needle_data::{Encoder, Example};
use needle_model::checkpoint::Checkpoint;
use needle_model::{San, params};
use needle_tests::{examples, max_or_nan, start, weights_by_name};
use needle_train::TrainError;
use needle_train::device::{Inference, Training};
use needle_train::distributed::exchange::{all_gather_weights, reduce_scatter};
use needle_train::distributed::step_barrier::{Decision, before_step};
use needle_train::distributed::{Threads, World};
use needle_train::optim::{LearningRates, Optimizer, Shards};
use needle_train::recipe::{GradientDtype, Recipe};
use needle_train::run::directory::{Existing, RunDir};
use needle_train::training::batch_loader::BatchLoader;
use needle_train::training::loss::StepLosses;
use needle_train::training::step::forward_backward_rank_batch;
use needle_train::training::trainer::{Outcome, RunOptions, encode_config, train};

/// A recipe with INT4 quantization, retrieval loss, packing, two row sizes and validations.
fn recipe(overrides: &[&str]) -> Recipe {
    let text = r#"
        model = "tiny"
        steps = 20
        dropout = 0.1
        tokenizer = { vocab_size = 500 }
        data = { rows = 6, lanes = 6, row_enc_tokens = [128, 256], row_dec_tokens = [64, 128], pack_window = 8, max_retrieval_pairs = 8 }
        optim = { muon_lr = 0.01, adamw_lr = 1e-3 }
        schedule = { warmup_steps = 2 }
        loss = { contrastive_every_steps = 2, alignment_weight = 0.3 }
        qat = { every_steps = 3, final_fraction = 0.2 }
        eval = { every_steps = 10, max_examples = 4, max_tokens = 16 }
        checkpoint = { every_steps = 5 }
    "#;
    needle_tests::recipe(text, overrides)
}

/// Runs one rank of the run in `out`.
fn run_rank(world: &World, recipe: &Recipe, out: &Path, options: RunOptions) -> Result<Outcome, TrainError> {
    let examples = examples(150);
    let held_out: Vec<Record> = examples[..4].iter().cloned().map(Record::ToolCall).collect();
    let start = start(&examples, recipe);
    let data = Sources::memory(examples);
    train(start, recipe, &data, &held_out, &RunDir::new(out), options, world)
}

fn quiet() -> RunOptions {
    RunOptions { quiet: true, ..RunOptions::default() }
}

fn run(ranks: usize, recipe: &Recipe, out: &Path, resume: bool) -> Vec<Result<Outcome, TrainError>> {
    let options = || RunOptions { existing: if resume { Existing::Resume } else { Existing::Refuse }, ..quiet() };
    if ranks == 1 {
        return vec![run_rank(&World::default(), recipe, out, options())];
    }
    Threads::run(ranks, |world| run_rank(&world, recipe, out, options()))
}

/// The largest relative difference (by L2 norm) between the parameters of two models.
fn apart(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f64 {
    let length =
        |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    let differences = a.iter().map(|(name, a)| {
        let apart = length(&mut a.iter().zip(&b[name]).map(|(a, b)| a - b));
        apart / length(&mut a.iter().copied()).max(1e-3)
    });
    max_or_nan(differences)
}

fn difference(a: &Path, b: &Path) -> f64 {
    let weights = |dir: &Path| weights_by_name(&Checkpoint::<Inference>::load(dir, &Default::default()).unwrap().model);
    apart(&weights(a), &weights(b))
}

fn steps(out: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(RunDir::new(out).metrics()).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    all.filter(|event| event["event"] == "step").collect()
}

/// Turns INT4 off: a rounding difference at a tie gives another code, and from there on two runs
/// differ.
const NOT_QUANTIZED: [&str; 2] = ["qat.every_steps=0", "qat.final_fraction=0"];

#[test]
fn two_three_and_eight_ranks_give_the_run_of_one_rank() {
    let dir = tempfile::tempdir().unwrap();
    // With eight ranks, some ranks share a lane, which changes the dropout masks, so dropout is
    // off.
    for (ranks, dropout) in [(2, "dropout=0.1"), (3, "dropout=0.1"), (8, "dropout=0.0")] {
        let recipe = recipe(&[&NOT_QUANTIZED[..], &[dropout]].concat());
        let (one, several) = (dir.path().join(format!("one{ranks}")), dir.path().join(ranks.to_string()));
        let alone = run(1, &recipe, &one, false).remove(0).unwrap();
        let outcomes = run(ranks, &recipe, &several, false);
        let apart = difference(&one.join("last"), &several.join("last"));
        assert!(apart < 1e-4, "{ranks} ranks: {apart:e}");
        for outcome in outcomes {
            assert_eq!(outcome.unwrap().counts, alone.counts, "every rank has the counts of all rows");
        }
        for (one, other) in steps(&one).iter().zip(&steps(&several)) {
            for count in ["step", "epoch", "examples", "tokens"] {
                assert_eq!(one[count], other[count], "{count} of {one}");
            }
            assert_eq!(one["contrastive"].is_null(), other["contrastive"].is_null());
        }
        assert_eq!(steps(&several).len(), 20, "only rank 0 writes");
    }
}

#[test]
fn each_of_twenty_steps_equals_that_of_one_rank_with_int4_retrieval_and_packing() {
    for ranks in [2, 3] {
        let losses = Threads::run(ranks, |world| twenty_steps(&world));
        assert!(losses.iter().all(|all| *all == losses[0]));
    }
}

/// Starts this test binary again under `mpirun`, which runs the same comparison.
#[test]
#[cfg(feature = "mpi")]
fn each_of_twenty_steps_equals_that_of_one_rank_under_mpirun() {
    let launch = needle_train::distributed::launch::Launch::from_variables(|name| std::env::var(name).ok());
    if launch.num_processes > 1 {
        let world = launch.join().unwrap();
        twenty_steps(&world);
        world.barrier().unwrap();
        return world.finish();
    }
    for ranks in ["2", "3"] {
        let mut command = std::process::Command::new("mpirun");
        command.args(["--oversubscribe", "--mca", "mpi_yield_when_idle", "1", "-n", ranks]);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "each_of_twenty_steps_equals_that_of_one_rank_under_mpirun", "--nocapture"]);
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(said.matches("1 passed").count().to_string(), ranks, "{said}");
    }
}

/// Computes each of twenty steps with all ranks and with one rank alone, from the same weights and
/// state, and compares the results.
fn twenty_steps(world: &World) -> Vec<StepLosses> {
    let (recipe, examples) = (recipe(&[]), examples(150));
    let start = start(&examples, &recipe);
    let encoder = Encoder::new(&start.tokenizer, encode_config(&recipe)).unwrap();
    let data = Sources::memory(examples);
    let losses = std::thread::scope(|scope| {
        let (alone, place) = (World::default(), (6, &[][..]));
        let mut whole_loader = BatchLoader::start(scope, &encoder, &data, &recipe, place, &alone).unwrap();
        let mut own_loader = BatchLoader::start(scope, &encoder, &data, &recipe, place, world).unwrap();
        let mut model = start.model;
        let mut optimizer = Optimizer::<Inference>::new(&recipe.optim, recipe.seed);
        let shards = Shards::new(&params::list(&model), &recipe.optim, world.size());
        let mut losses = Vec::new();
        for step in 1..=20 {
            let mut own_optimizer = Optimizer::new(&recipe.optim, recipe.seed).of_pieces(shards.of(world.rank()));
            own_optimizer.load_state(optimizer.state()).unwrap();
            let (by_all, _) =
                one_step(world, &shards, &mut own_loader, &mut own_optimizer, model.clone(), &recipe, step);
            let (by_one, of_step) = one_step(&alone, &shards, &mut whole_loader, &mut optimizer, model, &recipe, step);
            let apart = apart(&weights_by_name(&by_one.valid()), &weights_by_name(&by_all.valid()));
            assert!(apart < 1e-4, "step {step} of {} ranks: {apart:e}", world.size());
            losses.push(of_step);
            model = by_one;
        }
        losses
    });
    assert_eq!(losses.iter().filter(|losses| losses.quantized).count(), 9);
    assert!(losses.iter().filter(|losses| losses.contrastive.is_some()).count() >= 8);
    losses
}

fn one_step(
    world: &World,
    shards: &Shards,
    loader: &mut BatchLoader,
    optimizer: &mut Optimizer<Inference>,
    model: San<Training>,
    recipe: &Recipe,
    step: usize,
) -> (San<Training>, StepLosses) {
    let loaded = loader.read().unwrap();
    let decision = before_step(world, step, Ok(loaded.lanes), false, recipe.data.max_retrieval_pairs).unwrap();
    let Decision::Go(batch) = decision else { panic!("{decision:?}") };
    let (losses, gradients) = forward_backward_rank_batch(&model, &batch, recipe, step, world).unwrap();
    let gradients = reduce_scatter(world, shards, gradients, GradientDtype::F32, &model.device()).unwrap();
    let rates = LearningRates { muon: recipe.optim.muon_lr, adamw: recipe.optim.adamw_lr };
    (all_gather_weights(world, shards, optimizer.step(model, gradients, rates)).unwrap(), losses)
}

#[test]
fn lora_adamw_and_activation_checkpointing_give_the_run_of_one_rank() {
    let dir = tempfile::tempdir().unwrap();
    for (name, settings) in [
        ("lora", &["optim.lora_rank=2"][..]),
        ("adamw", &["optim.matrices=adamw"]),
        ("recomputed", &["activation_checkpointing=true", "data.micro_batches=2"]),
    ] {
        let recipe = recipe(&[&NOT_QUANTIZED[..], &["steps=8"], settings].concat());
        let (one, two) = (dir.path().join(format!("{name}1")), dir.path().join(format!("{name}2")));
        run(1, &recipe, &one, false).remove(0).unwrap();
        run(2, &recipe, &two, false).into_iter().for_each(|outcome| drop(outcome.unwrap()));
        let apart = difference(&one.join("last"), &two.join("last"));
        assert!(apart < 1e-4, "{name}: {apart:e}");
    }
}

#[test]
fn gradients_sent_in_bf16_give_nearly_the_same_loss_and_need_half_the_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, half) = (dir.path().join("f32"), dir.path().join("bf16"));
    run(2, &recipe(&["steps=8"]), &whole, false);
    run(2, &recipe(&["steps=8", "distributed.gradient_dtype=bf16"]), &half, false);
    let loss = |out: &Path| steps(out)[7]["cross_entropy"].as_f64().unwrap();
    let apart = (loss(&half) / loss(&whole) - 1.0).abs();
    assert!(apart > 0.0 && apart < 0.01, "{apart:e}");
    let bytes = |out: &Path| steps(out)[0]["traffic"]["bytes_sent"].as_f64().unwrap();
    // Weights are still sent in f32: 4 + 4 bytes per value become 2 + 4.
    let ratio = bytes(&half) / bytes(&whole);
    assert!((0.73..0.78).contains(&ratio), "{ratio}");
}

#[test]
fn a_run_resumes_with_any_number_of_ranks_and_to_the_same_bits_with_the_same_number() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(&NOT_QUANTIZED);
    let out = |name: &str| dir.path().join(name);
    run(2, &recipe, &out("whole"), false).into_iter().for_each(|outcome| drop(outcome.unwrap()));

    // Runs until one rank asks to stop, after some steps.
    let stopped = |name: &str| {
        let outcomes = Threads::run(2, |world| {
            let stop = Arc::new(AtomicBool::new(false));
            let options = RunOptions { stop: stop.clone(), ..quiet() };
            std::thread::scope(|scope| {
                if world.rank() == 1 {
                    let metrics = RunDir::new(out(name)).metrics();
                    scope.spawn(move || {
                        while std::fs::read_to_string(&metrics).unwrap_or_default().lines().count() < 7 {
                            std::thread::sleep(std::time::Duration::from_millis(1));
                        }
                        stop.store(true, Ordering::Relaxed);
                    });
                }
                run_rank(&world, &recipe, &out(name), options).unwrap().stopped_at
            })
        });
        assert_eq!(outcomes[0], outcomes[1], "all ranks stop after the same step");
        let step = outcomes[0].unwrap();
        assert!((7..20).contains(&step), "{step}");
    };
    for (name, ranks) in [("resumed by two", 2), ("resumed by one", 1), ("resumed by three", 3)] {
        stopped(name);
        run(ranks, &recipe, &out(name), true).into_iter().for_each(|outcome| drop(outcome.unwrap()));
        let file = |name: &str| std::fs::read(out(name).join("last/model.safetensors")).unwrap();
        if ranks == 2 {
            assert!(file(name) == file("whole"), "not the same bits");
        }
        let apart = difference(&out("whole").join("last"), &out(name).join("last"));
        assert!(apart < 1e-4, "{name}: {apart:e}");
        // The same rows: none is lost or repeated.
        let tokens = |name: &str| steps(&out(name)).iter().map(|s| s["tokens"].clone()).collect::<Vec<_>>();
        assert_eq!(tokens(name), tokens("whole"), "{name}");
    }
}

#[test]
fn a_rank_with_another_recipe_tokenizer_or_data_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    type Change = dyn Fn(&mut Recipe, &mut Vec<Example>, &mut Vec<Example>) + Sync;
    let refused = |change: &Change| {
        let results = Threads::run(3, |world| {
            let (mut recipe, mut data, mut texts) = (recipe(&[]), examples(60), examples(60));
            if world.rank() == 2 {
                change(&mut recipe, &mut data, &mut texts);
            }
            let run = RunDir::new(dir.path().join("run"));
            let result = train(start(&texts, &recipe), &recipe, &Sources::memory(data), &[], &run, quiet(), &world);
            result.unwrap_err().to_string()
        });
        assert!(results.iter().all(|error| *error == results[0]), "{results:?}");
        assert!(!dir.path().join("run").exists(), "nothing is written");
        results[0].clone()
    };
    let error = refused(&|recipe, _, _| recipe.optim.muon_lr = 0.5);
    assert!(error.contains("rank 2") && error.contains("optim.muon_lr is 0.5, on rank 0 it is 0.01"), "{error}");
    let error = refused(&|_, data, _| _ = data.pop());
    assert!(error.contains("rank 2") && error.contains("data listing"), "{error}");
    let error = refused(&|_, _, texts| texts.truncate(20));
    assert!(error.contains("rank 2") && error.contains("tokenizer"), "{error}");
    let error = refused(&|recipe, _, _| recipe.data.rows = 7);
    assert!(error.contains("rank 2") && error.contains("data.rows is 7"), "{error}");
}

#[test]
fn data_that_one_rank_cannot_read_ends_all_ranks_with_the_same_error() {
    let dir = tempfile::tempdir().unwrap();
    let errors = |data: Vec<Example>| {
        let results = Threads::run(2, |world| {
            let recipe = recipe(&[]);
            let start = start(&examples(60), &recipe);
            let run = RunDir::new(dir.path().join("run"));
            train(start, &recipe, &Sources::memory(data.clone()), &[], &run, quiet(), &world).unwrap_err().to_string()
        });
        assert_eq!(results[0], results[1]);
        results[0].clone()
    };
    // Five rows are too few for six lanes, of which the last belongs to rank 1.
    let error = errors(examples(5));
    assert!(error.contains("lane 0 of 6 gets no row") || error.contains("lane 5 of 6 gets no row"), "{error}");
}
