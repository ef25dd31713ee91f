//! Finetuning as someone with their own tools meets it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod workplace;

use serde_json::Value;
use workplace::Workplace;

/// A few steps, of which nothing is learned. The model of these tests is too small for the sample's
/// five tools.
const QUICK: [&str; 9] = [
    "--cut-long-prompts",
    "--set",
    "steps=6",
    "--set",
    "schedule.warmup_steps=2",
    "--set",
    "eval.every_steps=3",
    "--set",
    "eval.max_tokens=24",
];

/// A model, and the first sixty of the sample examples.
fn workplace() -> Workplace {
    let place = Workplace::with_model();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/examples/smart_home.jsonl");
    let sample = std::fs::read_to_string(sample).unwrap();
    let lines: Vec<&str> = sample.lines().take(60).collect();
    place.write("data.jsonl", &lines.join("\n"));
    place
}

fn report(place: &Workplace, run: &str) -> Value {
    serde_json::from_slice(&std::fs::read(place.path(run).join("report.json")).unwrap()).unwrap()
}

fn finetune(place: &Workplace, data: &str, more: &[&str]) -> std::process::Output {
    place.needle(&[["finetune", data, "--out", "tuned"].as_slice(), &QUICK, more].concat())
}

#[test]
fn a_finetune_splits_measures_trains_measures_again_and_reports() {
    let place = workplace();
    let output = finetune(&place, "data.jsonl", &["--base", "run/last"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("prompts are longer than the 256 tokens that the model reads"), "{said}");
    assert!(said.contains("the last checkpoint is kept") && said.contains("test examples are few"), "{said}");
    assert!(said.contains("are recommended") && said.contains("steps of") && said.contains("about"), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("base   tuned") && text.contains("exact match by tool"), "{text}");

    let report = report(&place, "tuned");
    let part = |name: &str| report["examples"][name].as_u64().unwrap();
    assert_eq!(part("train") + part("validation") + part("test"), 60);
    assert!(report["before"]["exact_match"].is_number() && report["after"]["exact_match"].is_number());
    assert_eq!(report["after"]["precision"], "int4");
    let of_tools: u64 =
        report["by_tool"].as_object().unwrap().values().map(|b| b["after"]["n"].as_u64().unwrap()).sum();
    assert_eq!(of_tools, part("test"));
    let page = std::fs::read_to_string(place.path("tuned/report.html")).unwrap();
    let weights = |name: &str| std::fs::read(place.path(&format!("tuned/{name}/model.safetensors"))).unwrap();
    assert!(weights("best") == weights("last"), "six answers choose nothing");
    let recipe = std::fs::read_to_string(place.path("tuned/recipe.toml")).unwrap();
    assert!(recipe.contains("muon_lr = 0.0015"), "fifty examples are few: {recipe}");
    assert!(page.contains("prompts are longer") && page.contains("test examples are few"));
    assert!(page.contains("base against tuned") && page.contains("exact match by tool") && page.contains("<svg"));
    // The parts are there to look at, and no query stands in two.
    let queries = |name: &str| -> std::collections::BTreeSet<String> {
        let text = std::fs::read_to_string(place.path(&format!("tuned/split/{name}.jsonl"))).unwrap();
        text.lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap()["query"].as_str().unwrap().to_lowercase())
            .collect()
    };
    assert!(queries("train").is_disjoint(&queries("test")) && queries("validation").is_disjoint(&queries("test")));
    let answer = place.json(&["run", "tuned/best", "--query", "ten minutes", "--tools", workplace::TOOLS, "--json"]);
    // Five answers say nothing of how sure one may be.
    assert!(part("validation") < 30 && answer["confidence"].is_null(), "{answer}");
    assert!(said.contains("too few to fit a confidence") && page.contains("too few to fit a confidence"), "{said}");
}

#[test]
fn three_examples_are_enough_and_two_are_refused() {
    let place = workplace();
    let text = std::fs::read_to_string(place.path("data.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let calling =
        |tool: &str| *lines.iter().find(|line| line.contains(&format!("\"answers\":[{{\"name\":\"{tool}"))).unwrap();
    place.write("three.jsonl", &["set_light", "lock_door", "start_vacuum"].map(calling).join("\n"));
    place.write("two.jsonl", &lines[..2].join("\n"));
    let output = finetune(&place, "three.jsonl", &["--base", "run/last"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("too few examples"), "{said}");
    let error = place.fails(1, &["finetune", "two.jsonl", "--base", "run/last", "--out", "x"]);
    assert!(error.contains("2 examples") && error.contains("at least 3"), "{error}");
}

#[test]
fn whatever_the_learning_rate_the_result_is_no_worse_than_the_base_and_finite() {
    let place = workplace();
    for rate in ["1e4", "1e30"] {
        let (muon, adamw) = (format!("optim.muon_lr={rate}"), format!("optim.adamw_lr={rate}"));
        let output = finetune(
            &place,
            "data.jsonl",
            &["--base", "run/last", "--set", &muon, "--set", &adamw, "--set", "steps=30"],
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("going back to the best checkpoint"), "{rate}: {said}");
        let loss = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|v| v["event"] == "validation_loss");
        let metrics = std::fs::read_to_string(place.path("tuned/metrics.jsonl")).unwrap();
        let first = metrics.lines().find_map(loss).unwrap();
        assert!(first["validation_loss_int4"].is_number());
        place.ok(&["eval", "tuned/best", "data.jsonl", "--limit", "3", "-q"]);
        std::fs::remove_dir_all(place.path("tuned")).unwrap();
    }
}

#[test]
fn a_new_model_and_adapters_finetune_too_and_adapters_leave_the_rest_alone() {
    let place = workplace();
    let scratch = finetune(&place, "data.jsonl", &["--base", "none", "--model", "tiny"]);
    assert!(scratch.status.success(), "{}", String::from_utf8_lossy(&scratch.stderr));
    let report = report(&place, "tuned");
    assert!(report["before"].is_null() && report["after"]["n"].is_number());
    std::fs::remove_dir_all(place.path("tuned")).unwrap();

    let adapters =
        finetune(&place, "data.jsonl", &["--base", "run/last", "--lora-rank", "2", "--set", "eval.at_start=false"]);
    assert!(adapters.status.success(), "{}", String::from_utf8_lossy(&adapters.stderr));
    let tensors = |run: &str| std::fs::read(place.path(run).join("model.safetensors")).unwrap();
    let (before, after) = (tensors("run/last"), tensors("tuned/last"));
    let open = |bytes: &'static [u8]| safetensors::SafeTensors::deserialize(bytes).unwrap();
    let (before, after) = (open(before.leak()), open(after.leak()));
    for name in before.names() {
        let is_same = before.tensor(name).unwrap().data() == after.tensor(name).unwrap().data();
        let is_matrix = name.ends_with("q_proj.weight") || name.ends_with("out_proj.weight");
        if is_matrix {
            assert!(!is_same, "{name} has learned");
        } else if !name.contains("_proj.weight") {
            assert!(is_same, "{name} is the base's");
        }
    }
    let error = place.fails(1, &["finetune", "data.jsonl", "--base", "run/last", "--model", "tiny", "--out", "x"]);
    assert!(error.contains("--model"), "{error}");
}

#[test]
fn a_finetune_that_was_ended_goes_on_to_the_same_result() {
    let place = workplace();
    let args = ["--base", "run/last", "--set", "checkpoint.every_steps=2"];
    assert!(finetune(&place, "data.jsonl", &args).status.success());
    let whole = std::fs::read(place.path("tuned/last/model.safetensors")).unwrap();
    std::fs::rename(place.path("tuned"), place.path("whole")).unwrap();
    let mut child = place.start_with(
        &[["finetune", "data.jsonl", "--out", "tuned"].as_slice(), &QUICK, &args].concat(),
        std::process::Stdio::null(),
        std::process::Stdio::null(),
    );
    while !place.path("tuned/last").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
        if child.try_wait().unwrap().is_some() {
            break;
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
    assert!(finetune(&place, "data.jsonl", &[args.as_slice(), &["--resume"]].concat()).status.success());
    assert_eq!(std::fs::read(place.path("tuned/last/model.safetensors")).unwrap(), whole);
}

#[test]
fn other_examples_can_be_mixed_in_and_a_bad_row_among_them_is_named() {
    let place = workplace();
    let others = place.ok(&["data", "synth", "--count", "40", "--max-tools", "2", "--brief", "--seed", "9"]);
    place.write("others.jsonl", &others);
    let losses = || {
        let metrics = std::fs::read_to_string(place.path("tuned/metrics.jsonl")).unwrap();
        let steps = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        steps.filter(|line| line["event"] == "step").map(|step| step["cross_entropy"].to_string()).collect::<Vec<_>>()
    };
    assert!(finetune(&place, "data.jsonl", &["--base", "run/last"]).status.success());
    let alone = losses();
    std::fs::remove_dir_all(place.path("tuned")).unwrap();
    assert!(finetune(&place, "data.jsonl", &["--base", "run/last", "--mix", "others.jsonl"]).status.success());
    let mixed = losses();
    assert!(mixed.len() == alone.len() && mixed != alone, "{alone:?}");
    // Those beside the base are mixed in by default.
    let beside = std::fs::File::create(place.path("run/last/mixture.jsonl.zst")).unwrap();
    zstd::stream::copy_encode(others.as_bytes(), beside, 1).unwrap();
    for (more, expected) in [([].as_slice(), &mixed), (&["--mix", "none"], &alone)] {
        std::fs::remove_dir_all(place.path("tuned")).unwrap();
        let output = finetune(&place, "data.jsonl", &[&["--base", "run/last"], more].concat());
        assert!(output.status.success() && losses() == *expected, "{more:?}");
    }
    // The parts of the user's own examples have none of the others.
    assert_eq!(report(&place, "tuned")["examples"]["train"].as_u64().unwrap() as usize, {
        let train = std::fs::read_to_string(place.path("tuned/split/train.jsonl")).unwrap();
        train.lines().count()
    });

    std::fs::remove_dir_all(place.path("tuned")).unwrap();
    let broken = format!("{}\n{{\"query\": \"no tools\"}}\n", others.lines().next().unwrap());
    place.write("others.jsonl", &broken);
    let output = finetune(&place, "data.jsonl", &["--base", "run/last", "--mix", "others.jsonl"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("others.jsonl:2"), "{said}");
}

#[test]
fn a_base_that_does_not_read_the_whole_prompt_is_refused_with_the_longest_row_named() {
    let place = Workplace::with_model();
    let row = |description: &str| {
        serde_json::json!({
            "query": "ten minutes",
            "tools": [{"name": "set_timer", "description": description, "parameters": {"minutes": {"type": "integer"}}}],
            "answers": [{"name": "set_timer", "arguments": {"minutes": 10}}],
        })
        .to_string()
    };
    let (short, long, longer) = (row("Start a countdown"), row(&"to wait ".repeat(300)), row(&"to wait ".repeat(400)));
    let (short, long, longer) = (short.as_str(), long.as_str(), longer.as_str());
    place.write("data.jsonl", &[short, short, long, short, "", longer, short].join("\n"));
    let args = ["finetune", "data.jsonl", "--base", "run/last", "--out", "tuned"];
    let error = place.fails(1, &args);
    assert!(error.contains("data.jsonl:6: query and tools have") && error.contains("the model reads 256"), "{error}");
    assert!(
        error.contains("(2 of 6 rows do not fit, this is the longest)") && error.contains("--cut-long-prompts"),
        "{error}"
    );
    assert!(error.contains("another base") && !place.path("tuned").exists(), "{error}");

    place.write("data.jsonl", &[short, short, short].join("\n"));
    let error = place.fails(1, &[&args[..], &["--set", "data.row_enc_tokens=16"]].concat());
    assert!(error.contains("the model reads 16") && error.contains("raise data.row_enc_tokens"), "{error}");
}

#[test]
fn a_time_budget_is_more_than_nothing_and_not_beside_a_number_of_steps() {
    let place = workplace();
    let args = ["finetune", "data.jsonl", "--base", "run/last", "--out", "tuned", "--cut-long-prompts"];
    for minutes in ["0", "-1", "nan", "inf", "ten"] {
        let error = place.fails(2, &[&args[..], &["--max-minutes", minutes]].concat());
        assert!(error.contains("number of minutes above 0") || error.contains("unexpected argument"), "{error}");
    }
    let error = place.fails(1, &[&args[..], &["--max-minutes", "0.00001"]].concat());
    assert!(error.contains("--max-minutes 0.00001 is time for 0 steps"), "{error}");
    let error = place.fails(1, &[&args[..], &["--max-minutes", "3", "--set", "steps=60"]].concat());
    assert!(error.contains("steps and --max-minutes"), "{error}");
    assert!(!place.path("tuned").exists());
}

#[test]
fn a_resumed_finetune_keeps_the_number_of_steps_that_it_was_begun_with() {
    let place = workplace();
    let args = ["finetune", "data.jsonl", "--base", "run/last", "--out", "tuned", "--cut-long-prompts"];
    let rest = ["--set", "schedule.warmup_steps=2", "--set", "eval.max_tokens=24", "--set", "eval.every_steps=3"];
    place.ok(&[&args[..], &rest, &["--set", "steps=6"]].concat());
    let weights = || std::fs::read(place.path("tuned/last/model.safetensors")).unwrap();
    let (before, steps) = (weights(), || place.json(&["info", "tuned/last", "--json"])["trainer"]["step"].clone());
    place.ok(&[&args[..], &rest, &["--resume"]].concat());
    assert_eq!(steps(), 6, "not as many as this machine would have time for today");
    assert!(weights() == before);
}
