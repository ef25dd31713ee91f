//! Answers as a user meets them: run, retrieve, eval, and what they say when they cannot.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod workplace;

use std::io::Write;
use std::process::Stdio;

use needle_runtime::{AnswerConfig, Needle, Question, tools_from_json};
use serde_json::{Value, json};
use workplace::{TOOLS, Workplace};

fn catalogue(n: usize) -> String {
    let tool = |i: usize| json!({"name": format!("tool_{i}"), "description": format!("Does thing number {i} of all the things that there are to do")});
    Value::from((0..n).map(tool).collect::<Vec<_>>()).to_string()
}

#[test]
fn a_constrained_answer_is_always_a_list_of_calls_even_of_a_model_that_has_learned_nothing() {
    let place = Workplace::with_model();
    let answer = place.json(&["run", "run/last", "--query", "ten minutes", "--tools", TOOLS, "--json"]);
    let calls = answer["calls"].as_array().unwrap();
    assert!(calls.iter().all(|call| call["name"] == "setTimer" || call["name"] == "stop"), "{answer}");
    assert_eq!(answer["tokens"].as_u64().unwrap() as usize, answer["token_ids"].as_array().unwrap().len());
    assert!(answer["seconds"].is_number() && answer["confidence"].is_null(), "{answer}");
    assert!(answer["complete"].is_boolean() && answer["confidence_fitted_on"].is_null(), "{answer}");

    // From stdin, and as plain text.
    let mut child =
        place.start_with(&["run", "run/last", "--query", "stop", "--tools", "-"], Stdio::piped(), Stdio::piped());
    child.stdin.take().unwrap().write_all(TOOLS.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap();
}

#[test]
fn many_questions_are_answered_in_their_order_with_their_own_tools_or_shared_ones() {
    let place = Workplace::with_model();
    let lines: String = (0..5).map(|i| format!("{}\n", json!({"query": format!("question {i}")}))).collect();
    place.write("questions.jsonl", &lines);
    let answers = place.ok(&["run", "run/last", "--input", "questions.jsonl", "--tools", TOOLS, "-q"]);
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 5);
    for (i, answer) in answers.iter().enumerate() {
        let query = format!("question {i}");
        let alone = place.json(&["run", "run/last", "--query", &query, "--tools", TOOLS, "--json", "-q"]);
        assert_eq!(answer["token_ids"], alone["token_ids"], "{query}");
    }
    let error = place.fails(1, &["run", "run/last", "--input", "questions.jsonl"]);
    assert!(error.contains("questions.jsonl:1") && error.contains("tools"), "{error}");
}

#[test]
fn of_a_large_catalogue_the_retrieval_head_picks_and_its_embeddings_are_kept() {
    let place = Workplace::with_model();
    place.write("catalogue.json", &catalogue(30));
    let run = |k: &str| {
        place.json(&["run", "run/last", "--query", "thing 7", "--tools", "catalogue.json", "--json", "--top-k", k])
    };
    let answer = run("4");
    let picked: Vec<&str> = answer["tools"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let ranked = place.json(&[
        "retrieve",
        "run/last",
        "--query",
        "thing 7",
        "--tools",
        "catalogue.json",
        "--top-k",
        "4",
        "--json",
    ]);
    let best: Vec<&str> = ranked.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(picked, best);
    assert!(run("30")["tools"].is_null(), "as many as there are need no picking");

    let kept: Vec<_> = std::fs::read_dir(place.path("run/last/catalogues")).unwrap().collect();
    assert_eq!(kept.len(), 1);
    // Another catalogue has another file, and a damaged one is computed again.
    let file = kept[0].as_ref().unwrap().path();
    std::fs::write(&file, b"damaged").unwrap();
    let again = place.json(&[
        "retrieve",
        "run/last",
        "--query",
        "thing 7",
        "--tools",
        "catalogue.json",
        "--top-k",
        "4",
        "--json",
    ]);
    assert_eq!(again, ranked);
    place.json(&["retrieve", "run/last", "--query", "x", "--tools", &catalogue(31), "--json"]);
    place.json(&["retrieve", "run/last", "--query", "x", "--tools", "catalogue.json", "--precision", "f32", "--json"]);
    let files = std::fs::read_dir(place.path("run/last/catalogues")).unwrap().count();
    assert_eq!(files, 3, "another catalogue and another precision have files of their own");
}

#[test]
fn with_a_large_retrieval_weight_the_tool_that_ranks_first_is_called() {
    let place = Workplace::with_model();
    place.write("catalogue.json", &catalogue(6));
    let (mut called, mut otherwise) = (0, 0);
    for i in 0..6 {
        let query = format!("do thing number {i}");
        let asked = ["--query", &query, "--tools", "catalogue.json", "--json", "-q"];
        let first_call = |weight: &str| {
            let greedy = ["run", "run/last", "--candidates", "0", "--retrieval-weight", weight];
            let options = [&greedy, &asked[..]].concat();
            place.json(&options)["calls"][0]["name"].clone()
        };
        let best = place.json(&[&["retrieve", "run/last"], &asked[..]].concat())[0]["name"].clone();
        let name = first_call("1000");
        if !name.is_null() {
            called += 1;
            assert_eq!(name, best, "{query}");
            otherwise += usize::from(first_call("0") != best);
        }
    }
    assert!(called > 0 && otherwise > 0, "{called} calls, of which {otherwise} differ without the weight");
}

#[test]
fn a_confidence_is_fitted_kept_reported_and_abstained_by() {
    let place = Workplace::with_model();
    let run = ["run", "run/last", "--query", "ten minutes", "--tools", TOOLS, "--json"];
    let error = place.fails(1, &[run.as_slice(), &["--abstain-below", "0.5"]].concat());
    assert!(error.contains("confidence.json") && error.contains("--calibrate"), "{error}");

    let eval = ["eval", "run/last", "data.jsonl", "--json", "-q"];
    assert!(place.json(&eval).get("expected_calibration_error").is_none());
    let error = place.fails(1, &[eval.as_slice(), &["--calibrate", "--limit", "4"]].concat());
    assert!(error.contains("4 examples are too few") && error.contains("at least 30"), "{error}");
    assert!(!place.path("run/last/confidence.json").exists());
    let measured = place.json(&[eval.as_slice(), &["--calibrate"]].concat());
    assert_eq!(
        (&measured["calibration_measured"], &measured["confidence_fitted_on"]),
        (&json!("cross_validated"), &json!(60))
    );
    assert!(measured["expected_calibration_error"].as_f64().unwrap() < 0.2);
    let again = place.ok(&["eval", "run/last", "data.jsonl", "-q"]);
    assert!(again.contains("on the 60 examples that the confidence was fitted on; it is higher on others"), "{again}");
    let others = place.json(&[eval.as_slice(), &["--limit", "50"]].concat());
    assert_eq!(others["calibration_measured"], "kept");
    let curve = measured["risk_coverage"].as_array().unwrap();
    assert_eq!((curve.len(), curve[9]["coverage"].as_f64()), (10, Some(1.0)));
    assert!((curve[9]["risk"].as_f64().unwrap() - (1.0 - measured["exact_match"].as_f64().unwrap())).abs() < 1e-9);

    let answer = place.json(&run);
    assert!(
        (0.0..=1.0).contains(&answer["confidence"].as_f64().unwrap()) && answer["confidence_fitted_on"] == 60,
        "{answer}"
    );
    let answer = place.json(&[run.as_slice(), &["--abstain-below", "1"]].concat());
    assert_eq!((&answer["calls"], &answer["abstained"]), (&json!([]), &json!(true)));

    // What is shipped says what the file is and what it was fitted on.
    place.ok(&["export", "run/last", "--format", "hf", "--out", "hf", "--no-verify"]);
    let page = std::fs::read_to_string(place.path("hf/README.md")).unwrap();
    assert!(page.contains("`confidence.json` is a logistic regression, fitted on 60 validation examples"), "{page}");

    // Nothing of a withheld answer is streamed: what a terminal shows is [].
    let options = AnswerConfig { abstain_below: Some(1.0), ..AnswerConfig::default() };
    let needle = Needle::load(place.path("run/last")).unwrap().with_config(options).unwrap();
    let mut streamed = Vec::new();
    let tools = tools_from_json(TOOLS).unwrap();
    let answer = needle.call_streaming("ten minutes", &tools, |bytes| streamed.extend_from_slice(bytes)).unwrap();
    assert!(answer.abstained && streamed == b"[]", "{answer:?} {}", String::from_utf8_lossy(&streamed));
}

#[test]
fn an_answer_that_broke_off_is_marked_and_fails_instead_of_meaning_nothing_to_call() {
    let place = Workplace::with_model();
    // A model that has learned nothing does not end a list of its own accord.
    let run = |more: &[&str]| {
        place.needle(&[["run", "run/last", "--tools", TOOLS, "--unconstrained", "-q"].as_slice(), more].concat())
    };
    place.write("questions.jsonl", "{\"query\":\"ten minutes\"}\n{\"query\":\"stop\"}\n");
    for more in [&["--query", "ten minutes", "--json"][..], &["--input", "questions.jsonl"]] {
        let output = run(more);
        assert_eq!(output.status.code(), Some(1), "{more:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("not complete"), "{said}");
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let answer: Value = serde_json::from_str(line).unwrap();
            assert_eq!((&answer["complete"], &answer["calls"]), (&json!(false), &json!([])), "{answer}");
        }
    }
    let options = AnswerConfig { constrained: false, ..AnswerConfig::default() };
    let needle = Needle::load(place.path("run/last")).unwrap().with_config(options).unwrap();
    let answer = needle.call("ten minutes", &tools_from_json(TOOLS).unwrap()).unwrap();
    assert!(!answer.is_complete && answer.calls.is_empty() && answer.incomplete_because().is_some(), "{answer:?}");
}

#[test]
fn two_checkpoints_are_compared_and_the_worst_answers_come_with_reasons() {
    let place = Workplace::with_model();
    place.ok(&["train", "--config", "recipe.toml", "--data", "data.jsonl", "--out", "other", "--seed", "9", "-q"]);
    let text = place.ok(&["eval", "run/last", "data.jsonl", "--compare", "other/last", "-q"]);
    for part in ["exact match", "right here, wrong in other/last", "by tool, worst first", "mistakes", "wrong answers"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Each column says whose it is, and all of them how the answers were made: as they ship.
    let words = |line: usize| text.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(0), "on 60 examples run/last other/last");
    assert_eq!(words(1), "precision int4 int4");
    assert_eq!(words(2), "constrained to tools yes yes");
    let free = place.ok(&["eval", "run/last", "data.jsonl", "--precision", "f32", "--unconstrained", "-q"]);
    assert!(free.starts_with("on 60 examples"), "{free}");
    assert!(free.lines().next().unwrap().ends_with("f32") && free.lines().nth(1).unwrap().ends_with("no"), "{free}");
    let json = place.json(&["eval", "run/last", "data.jsonl", "--compare", "other/last", "--json", "-q"]);
    let failures = json["breakdown"]["failures"].as_array().unwrap();
    let wrong: u64 = json["breakdown"]["mistakes"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert!(wrong > 20 && failures.len() as u64 == wrong, "JSON has all of them");
    assert!(text.contains(&format!("the 20 worst of {wrong} wrong answers")), "and text says that it has not: {text}");
    assert!(failures.iter().all(|f| f["wrong"].is_string() && f["query"].is_string()));
    assert_eq!(json["compared_with"]["n"], json["n"]);
    let groups: u64 =
        json["breakdown"]["by_tool"].as_object().unwrap().values().map(|g| g["n"].as_u64().unwrap()).sum();
    assert_eq!(groups, 60);
}

#[test]
fn a_suite_that_the_model_does_not_pass_ends_with_1_and_one_that_it_does_with_0() {
    let place = Workplace::with_model();
    let suite = |least: f64| {
        let case = json!({"category": "plain", "query": "ten minutes", "critical": false,
            "answers": [{"name": "setTimer", "arguments": {"minutes": 10}}]});
        let tools: Value = serde_json::from_str(TOOLS).unwrap();
        json!({"name": "timers", "least_exact": least, "tools": tools, "cases": [case, case]}).to_string()
    };
    place.write("easy.json", &suite(0.0));
    assert!(place.ok(&["eval", "run/last", "--suite", "easy.json", "-q"]).starts_with("timers: passed"));
    // A model that has learned nothing.
    place.write("hard.json", &suite(1.0));
    let output = place.needle(&["eval", "run/last", "--suite", "hard.json", "--json", "-q"]);
    assert_eq!(output.status.code(), Some(1));
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&verdict["passed"], &verdict["categories"]["plain"]["n"]), (&json!(false), &json!(2)));
    place.write("wrong.json", &suite(1.0).replace("setTimer\",\"arguments", "sing\",\"arguments"));
    let error = place.fails(1, &["eval", "run/last", "--suite", "wrong.json", "-q"]);
    assert!(error.contains("wrong.json: case 1") && error.contains("sing"), "{error}");
    place.fails(2, &["eval", "run/last"]);
}

#[test]
fn bfcl_questions_are_scored_by_their_own_rules() {
    let place = Workplace::with_model();
    let function = json!({"name": "math.area", "description": "d", "parameters": {"type": "dict", "properties": {"base": {"type": "integer"}}, "required": ["base"]}});
    let question =
        |id: &str| json!({"id": id, "question": [[{"role": "user", "content": "area of 5?"}]], "function": [function]});
    place.write("BFCL_v3_simple.json", &format!("{}\n{}\n", question("simple_0"), question("simple_1")));
    let truth = |id: &str| json!({"id": id, "ground_truth": [{"math.area": {"base": [5, 6]}}]});
    place.write("answers.json", &format!("{}\n{}\n", truth("simple_0"), truth("simple_1")));
    let eval =
        |data: &str, more: &[&str]| place.json(&[["eval", "run/last", data, "--json", "-q"].as_slice(), more].concat());
    let simple = eval("BFCL_v3_simple.json", &["--answers", "answers.json", "--predictions", "predictions.jsonl"]);
    assert!(simple["n"] == 2 && simple["bfcl_accuracy"].is_number(), "{simple}");
    let predictions = std::fs::read_to_string(place.path("predictions.jsonl")).unwrap();
    let last: Value = serde_json::from_str(predictions.lines().last().unwrap()).unwrap();
    assert!(last["id"] == "simple_1" && last["bfcl_accepted"].is_boolean(), "{last}");
    place.write("BFCL_v3_irrelevance.json", &format!("{}\n", question("irrelevance_0")));
    let irrelevant = eval("BFCL_v3_irrelevance.json", &[]);
    // What breaks off is no call by the leaderboard's rules, and wrong by ours.
    assert!(irrelevant["bfcl_accuracy"].as_f64() >= irrelevant["exact_match"].as_f64(), "{irrelevant}");
    // Where any call is right there is nothing else to compare with.
    place.write("BFCL_v4_live_relevance.json", &format!("{}\n", question("live_relevance_0-0-0")));
    let relevant = eval("BFCL_v4_live_relevance.json", &[]);
    assert!(relevant["n"] == 1 && relevant["bfcl_accuracy"].is_number() && relevant.get("exact_match").is_none());
    let error = place.fails(1, &["eval", "run/last", "BFCL_v3_simple.json"]);
    assert!(error.contains("no questions"), "{error}");
}

#[test]
fn bfcl_questions_whose_reference_answer_lacks_a_required_argument_are_counted_too() {
    let place = Workplace::with_model();
    let function = json!({"name": "area", "description": "d", "parameters": {"type": "dict", "properties": {
        "base": {"type": "integer"}, "unit": {"type": "string", "enum": ["m"]}}, "required": ["base", "unit"]}});
    let truths = [
        json!({"base": [5]}),
        // A variable, and a value that is none of the enum's.
        json!({"base": ["Size.BASE"], "unit": ["m"]}),
        json!({"base": [5], "unit": ["km"]}),
    ];
    let lines = |of: &dyn Fn(usize) -> Value| (0..truths.len()).map(|i| format!("{}\n", of(i))).collect::<String>();
    let question = |i: usize| json!({"id": format!("simple_{i}"), "question": [[{"role": "user", "content": "area?"}]], "function": [function]});
    let answer = |i: usize| json!({"id": format!("simple_{i}"), "ground_truth": [{"area": truths[i]}]});
    place.write("BFCL_v4_simple.json", &lines(&question));
    place.write("answers.json", &lines(&answer));
    let measured =
        place.json(&["eval", "run/last", "BFCL_v4_simple.json", "--answers", "answers.json", "--json", "-q"]);
    assert_eq!(measured["n"], 3, "{measured}");
}

#[test]
fn what_cannot_be_answered_is_one_sentence() {
    let place = Workplace::with_model();
    place.write("broken.json", "[{\"name\": \"a\",\n \"description\" }]");
    std::fs::create_dir(place.path("foreign")).unwrap();
    place.write("foreign/config.json", r#"{"model_type": "llama"}"#);
    let long = "word ".repeat(3000);
    let run = |checkpoint: &str, query: &str, tools: &str, more: &[&str]| {
        place.fails(1, &[["run", checkpoint, "--query", query, "--tools", tools].as_slice(), more].concat())
    };
    for (error, parts) in [
        (run("nowhere", "q", TOOLS, &[]), ["nowhere", "not a checkpoint"]),
        (run("foreign", "q", TOOLS, &[]), ["foreign/config.json", "model_type"]),
        (run("run/last", "q", "broken.json", &[]), ["broken.json", "line 2 column"]),
        (run("run/last", "q", "missing.json", &[]), ["missing.json", "No such file"]),
        (run("run/last", "q", "[]", &[]), ["--tools", "no tools"]),
        (run("run/last", "  ", TOOLS, &[]), ["query", "empty"]),
        (run("run/last", &long, TOOLS, &["--strict"]), ["the query alone has", "do not fit"]),
        (run("run/last", "q", &catalogue(10), &["--strict"]), ["of the tools", "do not fit"]),
    ] {
        let last = error.lines().last().unwrap();
        assert!(last.starts_with("error: ") && parts.iter().all(|part| last.contains(part)), "{parts:?}: {error}");
    }
    // Without --strict, what was cut is said.
    let output = place.needle(&["run", "run/last", "--query", &long, "--tools", TOOLS]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("all tools were cut"), "{said}");
}

#[test]
fn the_library_answers_as_the_command_does_one_by_one_streamed_and_in_batches() {
    let place = Workplace::with_model();
    let tools = tools_from_json(TOOLS).unwrap();
    let needle = Needle::load(place.path("run/last")).unwrap();
    let answer = needle.call("ten minutes", &tools).unwrap();
    let command = place.json(&["run", "run/last", "--query", "ten minutes", "--tools", TOOLS, "--json"]);
    assert_eq!(json!(answer.token_ids), command["token_ids"]);

    let mut streamed = Vec::new();
    needle.call_streaming("ten minutes", &tools, |bytes| streamed.extend_from_slice(bytes)).unwrap();
    let streamed = String::from_utf8(streamed).unwrap();
    assert_eq!(
        streamed.replace("setTimer", "set_timer"),
        answer.text,
        "under the user's names, without a space in front"
    );
    // Questions are taken as one has them.
    let owned =
        vec![("ten minutes".to_owned(), tools.clone()), ("a much longer question than that".to_owned(), tools.clone())];
    let queries = ["ten minutes", "a much longer question than that"];
    for batch in [
        needle.call_batch(&owned, |_| ()),
        needle.call_batch(queries.map(|query| (query, &tools)), |_| ()),
        needle.call_batch(owned.iter().map(|(query, tools)| (query, tools.as_slice())), |_| ()),
        needle.call_batch(owned.iter().map(|(query, tools)| Question { query, tools }), |_| ()),
    ] {
        let batch = batch.unwrap();
        assert_eq!((batch.len(), &batch[0].token_ids), (2, &answer.token_ids));
    }
    assert!(needle.call("", &tools).is_err() && needle.call("q", &[]).is_err());
    assert!(needle.with_config(AnswerConfig { abstain_below: Some(0.5), ..AnswerConfig::default() }).is_err());
}
