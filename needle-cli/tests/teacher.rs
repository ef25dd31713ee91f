//! `needle data generate` and its kin as a user runs them, against a scripted endpoint on this
//! machine.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../needle-teacher/tests/fake/mod.rs"]
mod fake;
mod workplace;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use fake::{Action, Fake, INPUT_TOKENS, OUTPUT_TOKENS, good};
use serde_json::{Value, json};
use workplace::Workplace;

const TOOLS: &str = r#"[{"name":"write_note","description":"Write a note","parameters":{"text":{"type":"string","required":true}}},
{"name":"set_level","description":"Set a level","parameters":{"room":{"type":"string","required":true},"percent":{"type":"integer"}}}]"#;

/// The command that generates `count` rows with the teacher `fake`.
fn generate(place: &Workplace, fake: &Fake, count: &str, more: &[&str]) -> Command {
    let endpoint = fake.endpoint();
    let mut command = Command::new(env!("CARGO_BIN_EXE_needle"));
    command.args(["data", "generate", "--tools", TOOLS, "--endpoint", &endpoint, "--model", "large"]);
    command.args(["--count", count, "--out", "mine.jsonl", "--input-price", "2", "--output-price", "10"]).args(more);
    command.current_dir(place.0.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ok(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_run_killed_in_the_middle_goes_on_to_the_same_rows_and_asks_nothing_twice() {
    let place = Workplace::new();
    let fake = Fake::new(|n, body| if (17..20).contains(&n) { Action::Hold } else { Action::Say(good(body)) });
    let settings = ["--concurrency", "3", "--json", "-q"];
    let mut child = generate(&place, &fake, "150", &settings).spawn().unwrap();
    // A thread asks again only when its answer is in the journal: with all three held, 17 answers
    // are.
    fake.wait_until_held(3);
    child.kill().unwrap();
    child.wait().unwrap();
    fake.release();
    assert!(!place.path("mine.jsonl").exists());
    assert_eq!((fake.num_seen(), fake.num_answered()), (20, 17));

    let summary = ok(&generate(&place, &fake, "150", &settings).output().unwrap());
    assert_eq!(
        (&summary["accepted"], &summary["from_journal"], &summary["lost_requests"]),
        (&json!(150), &json!(17), &json!(3))
    );
    let mut answered: BTreeMap<String, usize> = BTreeMap::new();
    for seen in fake.seen().iter().filter(|seen| seen.is_answered) {
        *answered.entry(seen.header("idempotency-key").unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(answered.len(), 30);
    assert!(answered.values().all(|times| *times == 1), "{answered:?}");
    let cost = 30.0 * (INPUT_TOKENS as f64 * 2.0 + OUTPUT_TOKENS as f64 * 10.0) / 1e6;
    assert!((summary["usage"]["cost"].as_f64().unwrap() - cost).abs() < 1e-9, "{summary}");

    let (elsewhere, other) = (Workplace::new(), Fake::good());
    ok(&generate(&elsewhere, &other, "150", &settings).output().unwrap());
    let rows = |place: &Workplace| std::fs::read_to_string(place.path("mine.jsonl")).unwrap();
    assert_eq!(rows(&place), rows(&elsewhere), "as if nothing had happened");

    let before = fake.num_seen();
    ok(&generate(&place, &fake, "150", &settings).output().unwrap());
    assert_eq!(fake.num_seen(), before, "a run that is done asks nothing");
}

#[test]
fn an_interrupt_saves_what_was_accepted() {
    let place = Workplace::new();
    let fake = Fake::new(|n, body| if n == 5 { Action::Hold } else { Action::Say(good(body)) });
    let mut child = generate(&place, &fake, "100", &["--concurrency", "1", "--json"]).spawn().unwrap();
    fake.wait_until_held(1);
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("waiting for the requests under way")));
    fake.release();
    let told: Vec<String> = lines.collect();
    let output = child.wait_with_output().unwrap();
    let summary = ok(&output);
    assert_eq!((&summary["ended"], &summary["accepted"]), (&json!("stopped"), &json!(25)));
    assert!(told.iter().any(|line| line.contains("the same command continues")), "{told:?}");
    assert_eq!(std::fs::read_to_string(place.path("mine.jsonl")).unwrap().lines().count(), 25);
}

#[test]
fn a_key_is_sent_and_stands_nowhere_else_whatever_the_endpoint_repeats() {
    const KEY: &str = "sk-very-secret-0123456789";
    let place = Workplace::new();
    let fake = Fake::new(|n, body| match n {
        0 => Action::Status(500, vec![], json!({"error": {"message": format!("wrong Bearer {KEY}")}}).to_string()),
        1 => Action::Say(format!("{KEY} is your key")),
        2 => Action::Say(json!({"rows": [{"query": format!("tell me {KEY}"), "answers": []}]}).to_string()),
        40.. => Action::Status(401, vec![], json!({"error": {"message": format!("bad key {KEY}")}}).to_string()),
        _ => Action::Say(good(body)),
    });
    let keyed = |count: &str| {
        let mut command = generate(&place, &fake, count, &["--api-key-env", "MY_KEY", "--concurrency", "1", "-vv"]);
        command.env("MY_KEY", format!("{KEY}\n")).output().unwrap()
    };
    let good = keyed("100");
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    let refused = keyed("1000");
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("HTTP 401: bad key [key]") && told.contains("--api-key-env"), "{told}");
    assert!(fake.seen().iter().all(|seen| seen.header("authorization") == Some(&format!("Bearer {KEY}"))));

    let mut outputs: Vec<Vec<u8>> =
        [good, refused].into_iter().flat_map(|output| [output.stdout, output.stderr]).collect();
    let files: Vec<_> = std::fs::read_dir(place.0.path()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 5, "{files:?}");
    outputs.extend(files.iter().map(|file| std::fs::read(file).unwrap()));
    for output in outputs {
        let text = String::from_utf8_lossy(&output);
        assert!(!text.contains("very-secret"), "{text}");
    }
    let unset = generate(&place, &fake, "10", &["--api-key-env", "NO_SUCH_KEY"]).output().unwrap();
    assert!(String::from_utf8_lossy(&unset.stderr).contains("--api-key-env NO_SUCH_KEY"));
}

#[test]
fn a_dry_run_prints_and_saves_the_plan_and_asks_nothing() {
    let (place, fake) = (Workplace::new(), Fake::good());
    let output = generate(&place, &fake, "500", &["--dry-run", "--judge", "strict", "--votes", "3"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["500 rows in 100 requests", "near_miss", "write_note", "estimated: about", "cost ", "mine.plan.json"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(fake.num_seen(), 0);
    assert_eq!(std::fs::read_dir(place.0.path()).unwrap().count(), 1);
}

#[test]
fn generate_finetune_and_eval_are_one_walk() {
    let (place, fake) = (Workplace::new(), Fake::good());
    ok(&generate(&place, &fake, "60", &["--json", "-q"]).output().unwrap());
    place.ok(&["data", "check", "mine.jsonl"]);
    let endpoint = fake.endpoint();
    let teacher = ["--endpoint", &endpoint, "--model", "large", "-q"];
    place
        .ok(&[&["data", "paraphrase", "mine.jsonl", "--per-row", "1", "--out", "reworded.jsonl"], &teacher[..]]
            .concat());
    place.ok(&[&["data", "negatives", "mine.jsonl", "--out", "negatives.jsonl"], &teacher[..]].concat());
    place.ok(&["data", "augment", "mine.jsonl", "--with-originals", "--out", "more.jsonl"]);
    let lines = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    let all = ["more.jsonl", "reworded.jsonl", "negatives.jsonl"].map(lines).concat();
    assert!(all.lines().count() > 200, "{}", all.lines().count());
    place.write("all.jsonl", &all);
    place.ok(&["data", "check", "all.jsonl"]);
    place.ok(&[
        "finetune",
        "all.jsonl",
        "--base",
        "none",
        "--model",
        "tiny",
        "--out",
        "run",
        "--set",
        "steps=4",
        "--set",
        "schedule.warmup_steps=1",
        "--set",
        "tokenizer.vocab_size=500",
        "--set",
        "eval.max_examples=4",
        "--set",
        "eval.max_tokens=8",
        "-q",
    ]);
    let scores = place.json(&["eval", "run/best", "negatives.jsonl", "--precision", "int4", "--json", "-q"]);
    assert!(scores["n"].as_u64().unwrap() > 30, "{scores}");
}
