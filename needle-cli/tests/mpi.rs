//! Several processes under `mpirun`, as a user starts them.
//! `cargo test -p needle-train --features mpi --test mpi`

#![cfg(feature = "mpi")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod workplace;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use workplace::Workplace;

const RECIPE: &str = r#"
model = "tiny"
steps = 20
dropout = 0.1
tokenizer = { vocab_size = 500 }
data = { rows = 6, lanes = 6, row_enc_tokens = [128, 256], row_dec_tokens = [64, 128], pack_window = 16 }
schedule = { warmup_steps = 2 }
loss = { contrastive_every_steps = 2 }
qat = { every_steps = 0, final_fraction = 0 }
eval = { every_steps = 10, max_examples = 4, max_tokens = 16 }
checkpoint = { every_steps = 4 }
"#;

/// What `mpirun` needs where a test runs: more ranks than cores, maybe as root.
fn mpirun(place: &Workplace, ranks: usize, args: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--mca", "mpi_yield_when_idle", "1", "-n", &ranks.to_string()]);
    command.arg(env!("CARGO_BIN_EXE_needle")).args(args).current_dir(place.0.path()).stdin(Stdio::null());
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn workplace() -> Workplace {
    let place = Workplace::new();
    let synth = |count: &str, seed: &str| {
        place.ok(&["data", "synth", "--count", count, "--max-tools", "2", "--brief", "--seed", seed])
    };
    place.write("data.jsonl", &synth("200", "3"));
    place.write("val.jsonl", &synth("4", "4"));
    place.write("recipe.toml", RECIPE);
    place
}

fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["train", "--config", "recipe.toml", "--data", "data.jsonl", "--val", "val.jsonl", "--out", out, "-q"];
    [&args, more].concat()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Relative difference of the weights of two checkpoints, tensor by tensor: the largest.
fn apart(a: &Path, b: &Path) -> f64 {
    let read = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
    let (a, b) = (read(a), read(b));
    let (a, b) =
        (safetensors::SafeTensors::deserialize(&a).unwrap(), safetensors::SafeTensors::deserialize(&b).unwrap());
    let values = |view: safetensors::tensor::TensorView<'_>| -> Vec<f64> {
        view.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()).into()).collect()
    };
    let length = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let of_tensor = |name: &str| {
        let (a, b) = (values(a.tensor(name).unwrap()), values(b.tensor(name).unwrap()));
        let difference: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        length(&difference) / length(&a).max(1e-3)
    };
    // NaN stays NaN, so that no comparison with a tolerance passes.
    a.names().into_iter().map(of_tensor).fold(0.0, |worst, x| if x > worst || x.is_nan() { x } else { worst })
}

/// The processes that `mpirun` started, in the order of their ranks.
fn ranks_of(mpirun: &Child) -> Vec<u32> {
    let mut found: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after_name = stat.rsplit(')').next().unwrap_or_default();
            after_name.split_whitespace().nth(1) == Some(&mpirun.id().to_string())
        })
        .collect();
    found.sort_unstable();
    found
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

fn steps(place: &Workplace, out: &str) -> usize {
    let metrics = std::fs::read_to_string(place.path(out).join("metrics.jsonl")).unwrap_or_default();
    metrics.lines().filter(|line| line.contains("\"event\":\"step\"")).count()
}

fn wait_for_step(place: &Workplace, out: &str, step: usize) {
    let began = Instant::now();
    while steps(place, out) < step {
        assert!(began.elapsed() < Duration::from_secs(60), "step {step} does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn two_and_three_processes_come_to_the_weights_of_one() {
    let place = workplace();
    place.ok(&train("one", &[]));
    for (ranks, out) in [(2, "two"), (3, "three")] {
        let output = mpirun(&place, ranks, &train(out, &[])).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let apart = apart(&place.path("one/last"), &place.path(&format!("{out}/last")));
        assert!(apart < 1e-4, "{ranks}: {apart:e}");
        assert_eq!(steps(&place, out), 20);
    }
}

#[test]
fn a_killed_rank_ends_the_others_by_name_and_the_run_goes_on_to_the_same_bits() {
    let place = workplace();
    let long = ["--set", "steps=200"];
    let output = mpirun(&place, 3, &train("whole", &long)).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));

    let child = mpirun(&place, 3, &train("killed", &long)).spawn().unwrap();
    wait_for_step(&place, "killed", 30);
    signal(ranks_of(&child)[1], "KILL");
    let began = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains("rank 1 (") && said.contains("went missing") && said.contains("--resume"), "{said}");
    assert!(steps(&place, "killed") < 200);

    let output = mpirun(&place, 3, &train("killed", &[&long[..], &["--resume"]].concat())).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    for file in ["model.safetensors", "trainer/optimizer.safetensors"] {
        let read = |out: &str| std::fs::read(place.path(out).join("last").join(file)).unwrap();
        assert!(read("killed") == read("whole"), "{file} differs");
    }
    assert_eq!(steps(&place, "killed"), 200);
}

#[test]
fn a_rank_that_is_asked_to_end_lets_all_save_after_the_same_step() {
    // SIGTERM to one of them, or SIGUSR1 to `mpirun`, which passes it on to all.
    for (name, to_rank) in [("TERM", Some(1)), ("USR1", None)] {
        asked_to_end(name, to_rank);
    }
}

fn asked_to_end(name: &str, to_rank: Option<usize>) {
    let place = workplace();
    let child = mpirun(&place, 2, &train("run", &["--set", "steps=100000"])).spawn().unwrap();
    wait_for_step(&place, "run", 10);
    signal(to_rank.map_or(child.id(), |rank| ranks_of(&child)[rank]), name);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("stopped and saved after step") && said.contains("--resume"), "{said}");
    let state = std::fs::read_to_string(place.path("run/last/trainer/state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["step"].as_u64().unwrap() as usize, steps(&place, "run"));
    assert_eq!(state["cursors"].as_array().unwrap().len(), 6, "of all lanes");
}

#[test]
fn what_one_rank_does_not_have_ends_all_with_its_reason() {
    let place = workplace();
    // Each rank runs in a directory of its own; one lacks the data, one has another recipe.
    let run = |script: &str| {
        let mut command = Command::new("mpirun");
        command.args(["--oversubscribe", "-n", "2", "bash", "-c", script, "bash", env!("CARGO_BIN_EXE_needle")]);
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        let output = command.current_dir(place.0.path()).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        text(&output)
    };
    let said = run("[ $OMPI_COMM_WORLD_RANK = 1 ] && data=nowhere.jsonl || data=data.jsonl; \
                    exec $1 train --config recipe.toml --data $data --val val.jsonl --out run -q");
    assert!(said.contains("rank 1 (") && said.contains("nowhere.jsonl"), "{said}");
    let said = run("[ $OMPI_COMM_WORLD_RANK = 1 ] && seed=1 || seed=0; \
                    exec $1 train --config recipe.toml --data data.jsonl --val val.jsonl --out run -q --seed $seed");
    assert!(said.contains("rank 1: refused") && said.contains("seed is 1, on rank 0 it is 0"), "{said}");
    assert_eq!(said.matches("error: rank 1").count(), 1, "said once: {said}");
    let said = run("exec $1 finetune data.jsonl --base none --out run");
    assert!(said.contains("2 processes were started"), "{said}");
}
