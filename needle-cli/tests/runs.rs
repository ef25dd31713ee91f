//! What happens to a run's directory: a second run, a killed one, a resumed one, a failed one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod workplace;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use workplace::{RECIPE, TOOLS, Workplace};

impl Workplace {
    /// Generated examples to train and validate on, and a recipe.
    fn with_data() -> Self {
        let place = Self::new();
        for (name, count, seed) in [("data.jsonl", "60", "3"), ("val.jsonl", "12", "4"), ("other.jsonl", "12", "5")] {
            let synth = ["data", "synth", "--count", count, "--max-tools", "2", "--brief", "--seed", seed];
            place.write(name, &place.ok(&synth));
        }
        place.write("recipe.toml", RECIPE);
        place
    }

    fn train(&self, out: &str, more: &[&str]) -> Vec<String> {
        let args = ["train", "--config", "recipe.toml", "--data", "data.jsonl", "--out", out, "-q"];
        args.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    fn trains(&self, out: &str, more: &[&str]) {
        self.ok(&refs(&self.train(out, more)));
    }

    fn train_fails(&self, out: &str, more: &[&str]) -> String {
        self.fails(1, &refs(&self.train(out, more)))
    }

    /// Starts a command and waits until its run has made some steps.
    fn started(&self, args: &[String], out: &str) -> Child {
        let mut child = self.start_with(&refs(args), Stdio::null(), Stdio::piped());
        while self.steps(out) < 2 {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was seen");
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    }

    /// Waits until something stands at `path`, which `child` writes.
    fn wait_for(&self, path: &str, child: &mut Child) {
        while !self.path(path).exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote {path}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn events(&self, out: &str) -> Vec<Value> {
        let metrics = std::fs::read_to_string(self.path(out).join("metrics.jsonl")).unwrap_or_default();
        metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn steps(&self, out: &str) -> usize {
        self.events(out).iter().filter(|event| event["event"] == "step").count()
    }

    fn weights(&self, checkpoint: &str) -> Vec<u8> {
        std::fs::read(self.path(checkpoint).join("model.safetensors")).unwrap()
    }
}

fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// Steps that take longer than any test.
const LONG: [&str; 4] = ["--set", "steps=100000", "--set", "schedule.warmup_steps=1"];

#[test]
fn a_second_run_in_the_same_directory_is_refused_or_replaces_the_first_one_whole() {
    let place = Workplace::with_data();
    place.trains("run", &["--set", "checkpoint.every_steps=2", "--set", "checkpoint.keep_last=3"]);
    let first = (place.weights("run/best"), place.weights("run/last"), place.steps("run"));
    let again = ["--seed", "7", "--set", "steps=4", "--set", "schedule.warmup_steps=1"];
    let error = place.train_fails("run", &again);
    assert!(error.contains("--resume") && error.contains("--overwrite"), "{error}");
    assert!(first == (place.weights("run/best"), place.weights("run/last"), place.steps("run")));
    // A mistake in the second one costs nothing of the first.
    place.train_fails("run", &["--overwrite", "--set", "data.row_dec_tokens=9999"]);
    let error = place.train_fails("run", &["--overwrite", "--base", "run/best"]);
    assert!(error.contains("run/best") && error.contains("--overwrite would remove"), "{error}");
    assert!(first == (place.weights("run/best"), place.weights("run/last"), place.steps("run")));

    place.write("run/notes.txt", "mine");
    place.trains("run", &[&again[..], &["--overwrite"]].concat());
    assert!(place.weights("run/best") != first.0 && place.steps("run") == 4);
    let left = std::fs::read_dir(place.path("run")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = left.collect();
    assert!(!left.iter().any(|name| name.starts_with("step-")), "{left:?}");
    assert!(left.contains(&"notes.txt".to_owned()), "{left:?}");
}

#[test]
fn two_runs_at_once_in_one_directory_are_one_too_many_and_a_killed_one_leaves_no_lock() {
    let place = Workplace::with_data();
    let mut first =
        place.started(&place.train("run", &[&LONG[..], &["--set", "checkpoint.every_steps=1"]].concat()), "run");
    for flags in [&[][..], &["--resume"], &["--overwrite"]] {
        let error =
            place.train_fails("run", &[&["--set", "steps=1", "--set", "schedule.warmup_steps=1"], flags].concat());
        assert!(error.contains("another run is writing here") && error.contains(&first.id().to_string()), "{error}");
    }
    place.wait_for("run/last", &mut first);
    first.kill().unwrap();
    first.wait().unwrap();
    place.trains("run", &["--overwrite"]);
}

#[test]
fn a_directory_with_other_peoples_files_under_the_names_of_a_run_is_left_alone() {
    let place = Workplace::with_data();
    std::fs::create_dir_all(place.path("mine/split")).unwrap();
    place.write("mine/split/train.jsonl", "years of work");
    for flags in [&[][..], &["--overwrite"]] {
        let error = place.train_fails("mine", flags);
        assert!(error.contains("split is in the way"), "{error}");
    }
    assert_eq!(std::fs::read(place.path("mine/split/train.jsonl")).unwrap(), b"years of work");
}

#[test]
fn a_run_that_fails_before_its_first_step_leaves_nothing_behind() {
    let place = Workplace::with_data();
    for more in [
        &["--base", "nowhere"][..],
        &["--set", "data.row_dec_tokens=4"],
        &["--tokenizer", "recipe.toml"],
        &["--val", "nowhere.jsonl"],
    ] {
        place.train_fails("deep/down/run", more);
        assert!(!place.path("deep").exists(), "{more:?}");
    }
    for more in [&["--base", "nowhere"][..], &["--base", "none", "--model", "tiny", "--set", "data.row_dec_tokens=4"]] {
        place.fails(1, &[&["finetune", "data.jsonl", "--out", "tuned"], more].concat());
        assert!(!place.path("tuned").exists(), "{more:?}");
    }
}

#[test]
fn a_run_goes_on_only_with_the_data_validation_base_and_tokenizer_that_it_began_with() {
    let place = Workplace::with_data();
    place.trains("base", &[]);
    place.trains("elsewhere", &["--seed", "9"]);
    let own = ["--val", "val.jsonl", "--base", "base"];
    place.trains("run", &[&own[..], &["--set", "steps=4", "--set", "schedule.warmup_steps=1"]].concat());
    fn resume<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [more, &["--set", "steps=4", "--set", "schedule.warmup_steps=1", "--resume"]].concat()
    }
    let refused = |more: &[&str], expected: &str| {
        let error = place.train_fails("run", &resume(more));
        assert!(error.contains(expected), "{more:?}: {error}");
    };
    refused(&["--val", "other.jsonl"], "--val");
    refused(&["--val", "val.jsonl", "--base", "elsewhere"], "--base");
    refused(&["--val", "val.jsonl", "--tokenizer", "elsewhere"], "--tokenizer");
    let data = std::fs::read_to_string(place.path("data.jsonl")).unwrap();
    let first_letter = data.find("\"query\":\"").unwrap() + "\"query\":\"".len();
    let mut equally_long = data.clone();
    equally_long.replace_range(first_letter..=first_letter, "X");
    assert!(equally_long != data && equally_long.len() == data.len());
    place.write("data.jsonl", &equally_long);
    refused(&own, "data.jsonl has changed");
    place.write("data.jsonl", &data);

    let weights = place.weights("run/last");
    // What is not named again is the run's own; a base may have moved.
    place.trains("run", &resume(&["--val", "val.jsonl"]));
    std::fs::rename(place.path("base"), place.path("moved")).unwrap();
    place.trains("run", &resume(&["--val", "val.jsonl", "--base", "moved/best"]));
    assert!(place.weights("run/last") == weights);
}

#[test]
fn a_finetune_goes_on_only_with_the_examples_that_it_was_begun_with() {
    let place = Workplace::with_data();
    place.trains("base", &[]);
    let finetune = |more: &[&str]| {
        let quick = ["--set", "steps=4", "--set", "schedule.warmup_steps=1", "--set", "eval.max_tokens=8"];
        [&["finetune", "data.jsonl", "--base", "base", "--out", "tuned"], &quick[..], more]
            .concat()
            .iter()
            .map(|s| (*s).to_owned())
            .collect::<Vec<_>>()
    };
    place.ok(&refs(&finetune(&[])));
    let error = place.fails(1, &refs(&finetune(&[])));
    assert!(error.contains("--overwrite"), "{error}");
    let split = || needle_model::checkpoint::directory::read(&place.path("tuned/split")).unwrap();
    let before = split();
    let data = std::fs::read_to_string(place.path("data.jsonl")).unwrap();
    place.write("data.jsonl", &data.lines().take(50).collect::<Vec<_>>().join("\n"));
    let error = place.fails(1, &refs(&finetune(&["--resume"])));
    assert!(error.contains("the examples differ from those"), "{error}");
    assert!(split() == before);
    place.write("data.jsonl", &data);
    place.ok(&refs(&finetune(&["--resume"])));
}

#[test]
fn a_run_killed_before_its_first_step_is_no_closer_to_the_end_of_its_patience() {
    let place = Workplace::with_data();
    place.trains("base", &[]);
    let settings =
        ["steps=6", "schedule.warmup_steps=1", "eval.every_steps=3", "eval.patience=1", "eval.at_start=true"];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    let train = place.train("run", &[&["--val", "val.jsonl", "--base", "base"], &settings[..]].concat());
    let mut child = place.start_with(&refs(&train), Stdio::null(), Stdio::null());
    place.wait_for("run/last", &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let output = place.needle(&[&refs(&train)[..], &["--resume"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(place.steps("run") >= 3, "{:?}", place.events("run"));
}

#[test]
fn patience_is_not_lost_over_validations_that_have_nothing_to_measure_by() {
    let place = Workplace::with_data();
    place.trains("base", &[]);
    let data = std::fs::read_to_string(place.path("data.jsonl")).unwrap();
    let mut tools = std::collections::BTreeSet::new();
    let is_new = |line: &&str| {
        let answers = serde_json::from_str::<Value>(line).unwrap()["answers"].clone();
        answers.as_array().is_some_and(|a| a.len() == 1) && tools.insert(answers[0]["name"].to_string())
    };
    let three: Vec<&str> = data.lines().filter(is_new).take(3).collect();
    place.write("three.jsonl", &three.join("\n"));
    let settings = ["steps=6", "schedule.warmup_steps=1", "eval.every_steps=1", "eval.patience=2"];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    place.ok(&[&["finetune", "three.jsonl", "--base", "base", "--out", "tuned"], &settings[..]].concat());
    assert_eq!(place.steps("tuned"), 6);
    assert!(place.weights("tuned/best") == place.weights("tuned/last"), "the result is where it always is");
}

#[test]
fn a_path_one_level_off_is_understood_or_the_command_for_it_is_named() {
    let place = Workplace::with_data();
    place.trains("run", &[]);
    for path in ["run", "run/", "run/best", "run/best/model.safetensors"] {
        assert_eq!(place.json(&["info", path, "--json"])["trainer"]["step"], 12, "{path}");
    }
    let ask =
        |checkpoint: &str| place.needle(&["run", checkpoint, "--query", "ten minutes", "--tools", TOOLS, "--json"]);
    let output = ask("run");
    assert!(String::from_utf8_lossy(&output.stderr).contains("run/best"), "it says which one it takes");
    let ids =
        |output: &std::process::Output| serde_json::from_slice::<Value>(&output.stdout).unwrap()["token_ids"].clone();
    assert_eq!(ids(&output), ids(&ask("run/best")));
    place.ok(&["eval", "run", "data.jsonl", "--limit", "2", "-q"]);
    place.ok(&["tokenizer", "encode", "run", "set a timer"]);
    place.trains("further", &["--base", "run", "--set", "steps=1", "--set", "schedule.warmup_steps=1"]);
    place.ok(&["export", "run", "--format", "needle-rs", "--no-verify", "--out", "int4"]);
    for (path, expected) in [
        ("int4", "needle import int4"),
        ("nowhere", "no such directory"),
        ("data.jsonl", "expected the directory"),
        (".", "run"),
    ] {
        let error = place.fails(1, &["run", path, "--query", "q", "--tools", TOOLS]);
        assert!(error.contains(expected), "{path}: {error}");
    }
}

#[test]
fn a_quickstart_that_is_stopped_saves_says_how_to_go_on_and_ends_in_best() {
    let place = Workplace::new();
    let settings = [
        "model=tiny",
        "steps=60",
        "schedule.warmup_steps=1",
        "data.rows=2",
        "data.row_enc_tokens=256",
        "data.row_dec_tokens=128",
        "eval.max_examples=8",
        "eval.max_tokens=8",
        "tokenizer.vocab_size=400",
    ];
    let settings = settings.iter().flat_map(|setting| ["--set", *setting]);
    let args: Vec<String> = ["quickstart", "-q"].into_iter().chain(settings).map(str::to_owned).collect();
    let child = place.started(&args, "quickstart");
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("stopped and saved after step") && text.contains("--resume"), "{text}");
    assert!(!place.path("quickstart/int4").exists());
    let error = place.fails(1, &refs(&args));
    assert!(error.contains("--resume"), "{error}");

    let text = place.ok(&[&refs(&args)[..], &["--resume"]].concat());
    assert!(text.contains("quickstart/best"), "{text}");
    assert_eq!(place.steps("quickstart"), 60);
    assert!(place.path("quickstart/best/config.json").exists() && place.path("quickstart/int4/vocab.txt").exists());
}
