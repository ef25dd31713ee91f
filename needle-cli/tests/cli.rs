//! The `needle` command as a user meets it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod workplace;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use workplace::{TOOLS, Workplace};

fn weights(checkpoint: &Path) -> Vec<u8> {
    std::fs::read(checkpoint.join("model.safetensors")).unwrap()
}

#[test]
fn a_trained_model_is_evaluated_asked_ranked_inspected_and_exported() {
    let place = Workplace::with_model();
    let tools = place.write("tools.json", TOOLS);

    for precision in ["f32", "int4"] {
        let eval =
            place.json(&["eval", "run/last", "data.jsonl", "--limit", "10", "--precision", precision, "--json", "-q"]);
        assert_eq!((eval["n"].as_u64(), eval["precision"].as_str()), (Some(10), Some(precision)));
        for key in [
            "parse_rate",
            "name_f1",
            "call_f1",
            "exact_match",
            "args_accuracy",
            "value_accuracy",
            "hallucinated_params",
            "missing_params",
            "no_tool_precision",
            "no_tool_recall",
            "recall_at_1",
            "recall_at_5",
            "mrr",
            "tokens_per_second",
        ] {
            assert!(eval[key].is_number(), "{key} in {eval}");
        }
    }

    // Twelve steps teach nothing: the answer may be no list of calls, which exits 1 and says so.
    let answer = place.needle(&["run", "run/last", "--query", "ten minutes", "--tools", &tools, "--json"]);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    for key in ["calls", "text", "token_ids", "confidence", "seconds"] {
        assert!(answer.get(key).is_some(), "{key} in {answer}");
    }

    let ranked = place.json(&["retrieve", "run/last", "--query", "ten minutes", "--tools", TOOLS, "--json"]);
    let mut names: Vec<&str> = ranked.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["setTimer", "stop"], "under the user's own names");

    let info = place.json(&["info", "run/last", "--json"]);
    assert_eq!(info["trainer"]["step"], 12);
    assert!(place.ok(&["info", "run/last"]).contains("parameters"));

    place.ok(&["export", "run/last", "--format", "needle-rs", "--out", "artifact"]);
    assert!(place.path("artifact/needle.safetensors").exists() && place.path("artifact/vocab.txt").exists());

    let encoded = place.json(&["tokenizer", "encode", "run/last", "set a timer", "--json"]);
    assert_eq!(encoded["ids"].as_array().unwrap().len(), encoded["pieces"].as_array().unwrap().len());
}

/// A safetensors file of int32 matrices with two rows.
fn ids_file(place: &Workplace, name: &str, tensors: &[(&str, Vec<i32>)]) -> String {
    use safetensors::tensor::{Dtype, TensorView};
    let bytes: Vec<(&str, usize, Vec<u8>)> = tensors
        .iter()
        .map(|(name, ids)| (*name, ids.len() / 2, ids.iter().flat_map(|id| id.to_le_bytes()).collect()))
        .collect();
    let views =
        bytes.iter().map(|(name, len, bytes)| (*name, TensorView::new(Dtype::I32, vec![2, *len], bytes).unwrap()));
    std::fs::write(place.path(name), safetensors::serialize(views, None).unwrap()).unwrap();
    place.text(name)
}

#[test]
fn golden_vectors_have_the_documented_shapes_and_bad_inputs_are_named() {
    let place = Workplace::with_model();
    let (src, tgt) = (vec![7, 8, 9, 10, 0, 0], vec![1, 4, 1, 4]);
    let plain = ids_file(&place, "ids.safetensors", &[("src", src.clone()), ("tgt", tgt.clone())]);
    let segments = [("enc_segments", vec![1, 1, 1, 1, 0, 0]), ("dec_segments", vec![1, 1, 1, 1])];
    let packed = [vec![("src", src.clone()), ("tgt", tgt.clone())], segments.to_vec()].concat();
    let packed = ids_file(&place, "packed.safetensors", &packed);
    let golden = |inputs: &str, out: &str| {
        place.ok(&["golden", "run/last", "--inputs", inputs, "--out", out]);
        let bytes = std::fs::read(place.path(out)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let shape = |name: &str| file.tensor(name).unwrap().shape().to_vec();
        assert_eq!((shape("encoder_out"), shape("embedding")), (vec![2, 3, 64], vec![2, 32]));
        assert_eq!(shape("logits")[..2], [2, 2]);
        file.tensor("logits").unwrap().data().to_vec()
    };
    // One segment a row is padding by another name.
    let (plain, packed) = (golden(&plain, "a.safetensors"), golden(&packed, "b.safetensors"));
    let floats = |bytes: &[u8]| bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>();
    assert!(floats(&plain).iter().zip(floats(&packed)).all(|(a, b)| (a - b).abs() < 2e-5));

    let far = ids_file(&place, "far.safetensors", &[("src", vec![7, 99_999]), ("tgt", vec![1, 1])]);
    assert!(place.fails(1, &["golden", "run/last", "--inputs", &far, "--out", "x"]).contains("src contains id 99999"));
    let half = ids_file(&place, "half.safetensors", &[("src", src)]);
    assert!(place.fails(1, &["golden", "run/last", "--inputs", &half, "--out", "x"]).contains("tgt"));
}

/// A run that saves often, on streamed data, with everything on that has a state.
const LONG_RUN: [&str; 14] = [
    "train",
    "--config",
    "recipe.toml",
    "--data",
    "data.jsonl.gz",
    "--val",
    "data.jsonl",
    "-q",
    "--set",
    "steps=60",
    "--set",
    "checkpoint.every_steps=3",
    "--set",
    "checkpoint.keep_last=2",
];

impl Workplace {
    fn with_long_run(&self) {
        let bytes = std::fs::read(self.path("data.jsonl")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &bytes).unwrap();
        std::fs::write(self.path("data.jsonl.gz"), packed.finish().unwrap()).unwrap();
        self.ok(&[&LONG_RUN[..], &["--out", "whole"]].concat());
    }

    fn start(&self, args: &[&str]) -> std::process::Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_needle"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn steps(&self, run: &str) -> usize {
        let metrics = std::fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        metrics.matches("\"event\":\"step\"").count()
    }
}

#[test]
fn a_run_killed_again_and_again_ends_with_the_weights_of_an_uninterrupted_one() {
    let place = Workplace::with_model();
    place.with_long_run();
    let (mut kills, mut stopped_at) = (0, Vec::new());
    for round in 0u64.. {
        let resume = if place.path("killed/last").exists() { &["--resume"][..] } else { &[] };
        let mut child = place.start(&[&LONG_RUN[..], &["--out", "killed"], resume].concat());
        // Other moments each time: while it starts, steps, validates and saves.
        std::thread::sleep(std::time::Duration::from_millis(40 + 97 * round % 400));
        if kills < 8 && child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        let status = child.wait().unwrap();
        for checkpoint in ["last", "best"] {
            if place.path(&format!("killed/{checkpoint}")).exists() {
                let step = &place.json(&["info", &format!("killed/{checkpoint}"), "--json"])["trainer"]["step"];
                stopped_at.push(step.as_u64().expect("every checkpoint is readable"));
            }
        }
        if status.success() {
            break;
        }
        assert!(round < 40, "{stopped_at:?}");
    }
    assert!(kills > 0);
    assert!(weights(&place.path("killed/last")) == weights(&place.path("whole/last")), "{kills} kills, {stopped_at:?}");
    assert_eq!(place.steps("killed"), place.steps("whole"), "one line a step");
    let left: Vec<_> = std::fs::read_dir(place.path("killed")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
    assert!(left.iter().any(|name| name.to_string_lossy().starts_with("step-")), "{left:?}");
}

#[test]
fn a_signal_finishes_the_step_saves_and_says_how_to_go_on() {
    let place = Workplace::with_model();
    place.with_long_run();
    let args = [&LONG_RUN[..], &["--out", "stopped", "--set", "checkpoint.every_steps=1000"]].concat();
    let child = place.start(&args);
    while !place.path("stopped/metrics.jsonl").exists() || place.steps("stopped") < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("stopped and saved after step") && text.contains("--resume"), "{text}");
    place.ok(&[&args[..], &["--resume"]].concat());
    assert!(weights(&place.path("stopped/last")) == weights(&place.path("whole/last")), "{text}");

    let changed = place.fails(1, &[&args[..], &["--resume", "--set", "optim.muon_lr=0.5", "--seed", "9"]].concat());
    assert!(changed.contains("optim.muon_lr is 0.5, was 0.02; seed is 9, was 0"), "{changed}");
}

#[test]
fn text_is_pretrained_on_and_the_result_is_a_base_for_calls() {
    let place = Workplace::with_model();
    let text = |i: usize| format!("{{\"text\":\"line {i} of a text that goes on for a while and then ends\"}}\n");
    place.write("text.jsonl", &(0..80).map(text).collect::<String>());
    let pretrain =
        ["pretrain", "--config", "recipe.toml", "--data", "text.jsonl", "--val", "text.jsonl", "--out", "pre"];
    let output = place.needle(&[&pretrain[..], &["--tokenizer", "run/last"]].concat());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && log.contains("validation loss") && log.contains("at int4"), "{log}");
    let train = ["train", "--config", "recipe.toml", "--data", "data.jsonl", "--base", "pre/best", "--out", "post"];
    let output = place.needle(&train);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && log.contains("retrieval head: the one of pre/best"), "{log}");

    let page = place.ok(&["report", "pre", "post", "--out", "both.html"]);
    assert_eq!(page.trim(), "both.html");
    let page = std::fs::read_to_string(place.path("both.html")).unwrap();
    assert!(page.contains("pre f32") && page.contains("post") && page.contains("<svg"));
    assert!(std::fs::read_to_string(place.path("post/report.html")).unwrap().contains("what is wrong"));
    assert!(place.path("post/tensorboard").read_dir().unwrap().count() > 0);
    let answers = std::fs::read_to_string(place.path("post/predictions.jsonl")).unwrap();
    for line in answers.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert!(
            answer["expected"].is_array() && answer["predicted"].is_string() && answer["query"].is_string(),
            "{line}"
        );
        assert_eq!(answer["wrong"].is_string(), answer["mistake"]["kind"].is_string(), "{line}");
    }
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
    let place = Workplace::with_model();
    place.write("file", "");
    let train = ["train", "--config", "recipe.toml", "--data", "data.jsonl", "--out", "file/run"];
    let error = place.fails(1, &train);
    assert!(error.contains("file/run"), "{error}");
}

#[test]
fn a_checkpoint_is_a_base_for_further_training() {
    let place = Workplace::with_model();
    let train =
        ["train", "--config", "recipe.toml", "--data", "data.jsonl", "--out", "more", "--base", "run/best", "-q"];
    place.ok(&train);
    assert!(weights(&place.path("more/last")) != weights(&place.path("run/best")));
    assert_eq!(
        std::fs::read(place.path("more/last/tokenizer.json")).unwrap(),
        std::fs::read(place.path("run/best/tokenizer.json")).unwrap()
    );
}

#[test]
fn bad_rows_are_listed_refused_and_on_request_skipped() {
    let place = Workplace::new();
    let good = place.ok(&["data", "synth", "--count", "30", "--max-tools", "2", "--brief"]);
    place.write("recipe.toml", workplace::RECIPE);
    let bad = [
        "{",
        r#"{"query":"","tools":[],"answers":[]}"#,
        r#"{"query":"q","tools":[{"name":"a"}],"answers":[{"name":"b"}]}"#,
        r#"{"query":"q","tools":[{"name":"a","parameters":{"n":{"type":"integer"}}}],"answers":[{"name":"a","arguments":{"n":"x"}}]}"#,
    ];
    place.write("bad.jsonl", &format!("{good}{}\n", bad.join("\n")));

    let output = place.needle(&["data", "check", "bad.jsonl"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for line in [
        "bad.jsonl:31: line: not JSON",
        "bad.jsonl:32: query: empty",
        "bad.jsonl:33: answers[0].name: \"b\" is not offered",
        "bad.jsonl:34: answers[0].arguments.n: expected integer",
        "34 rows, 30 usable, 4 not",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let report =
        serde_json::from_slice::<Value>(&place.needle(&["data", "check", "bad.jsonl", "--json"]).stdout).unwrap();
    assert_eq!((report["rows"].as_u64(), report["used"].as_u64()), (Some(34), Some(30)));
    assert_eq!(report["problems"][1]["line"], 32);
    assert_eq!(report["skipped"]["wrong_type"], 1);

    let train = ["train", "--config", "recipe.toml", "--data", "bad.jsonl", "--out", "run", "--set", "steps=12"];
    let refused = place.fails(1, &train);
    assert!(refused.contains("bad.jsonl:31") && refused.contains("--skip-invalid"), "{refused}");
    let output = place.needle(&[&train[..], &["--skip-invalid"]].concat());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && log.contains("34 rows read, 30 used, 4 left out"), "{log}");
}

#[test]
fn what_a_schema_forbids_is_listed_and_a_file_that_is_not_in_lines_is_one_problem() {
    let place = Workplace::new();
    let row = |parameter: &str, arguments: &str| {
        let tool = format!(r#"{{"name":"a","parameters":{{"p":{parameter}}}}}"#);
        format!(r#"{{"query":"q","tools":[{tool}],"answers":[{{"name":"a","arguments":{{{arguments}}}}}]}}"#)
    };
    let rows = [
        row(r#"{"type":"array","items":{"enum":["x","y"]}}"#, r#""p":["x","z"]"#),
        row(r#"{"type":"array","items":{"type":"string"}}"#, r#""p":["x",3]"#),
        row(r#"{"type":"string","required":"true"}"#, ""),
        row(r#"{"type":"string","enum":"x"}"#, ""),
        row(r#"{"type":"nonsense"}"#, ""),
    ];
    place.write("forbidden.jsonl", &rows.join("\n"));
    let listed = String::from_utf8(place.needle(&["data", "check", "forbidden.jsonl"]).stdout).unwrap();
    for line in [
        r#"forbidden.jsonl:1: answers[0].arguments.p[1]: "z" is not one of "x", "y""#,
        "forbidden.jsonl:2: answers[0].arguments.p[1]: expected string, got 3",
        "forbidden.jsonl:3: tools[0].parameters.p.required: expected true or false",
        "forbidden.jsonl:4: tools[0].parameters.p.enum: expected a list",
        "forbidden.jsonl:5: tools[0].parameters.p.type: \"nonsense\" is not a JSON type",
        "5 rows, 0 usable, 5 not (bad_tools 3, wrong_type 2)",
    ] {
        assert!(listed.contains(line), "{line} in {listed}");
    }

    let good = row("{}", "");
    let indented = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&good).unwrap()).unwrap();
    place.write("list.json", &format!("[\n{indented},\n{indented}\n]\n"));
    place.write("object.json", &indented);
    place.write("brace.jsonl", &format!("{{\n{good}\n{good}\n7\n"));
    for (file, problems, says) in [
        ("list.json", 1, "each of its objects on a line of its own"),
        ("object.json", 1, "each object on a line of its own"),
        ("brace.jsonl", 2, "each object on a line of its own"),
    ] {
        let output = place.needle(&["data", "check", file, "--json"]);
        let report = serde_json::from_slice::<Value>(&output.stdout).unwrap();
        assert_eq!(
            (output.status.code(), report["problems"].as_array().unwrap().len()),
            (Some(1), problems),
            "{report}"
        );
        assert!(report["problems"][0]["reason"].as_str().unwrap().contains(says), "{report}");
    }
}

#[test]
fn warnings_are_one_line_a_matter_and_none_for_the_shipped_example() {
    let place = Workplace::new();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/examples/smart_home.jsonl");
    let output = place.needle(&["data", "check", sample]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let row = |i: usize| {
        let tool = r#"{"name":"timer","parameters":{"minutes":{"type":"integer"}}}"#;
        let call = format!(r#"{{"name":"timer","arguments":{{"minutes":{i}}}}}"#);
        let words = ["set a timer for", "remind me in", "wake me in", "count down from"][i % 4];
        format!(r#"{{"query":"{words} {i} minutes","tools":[{tool}],"answers":[{call}]}}"#)
    };
    place.write("templates.jsonl", &(0..120).map(row).collect::<Vec<_>>().join("\n"));
    for command in ["check", "stats"] {
        let output = place.needle(&["data", command, "templates.jsonl"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.lines().count() == 2, "{said}");
        assert!(said.contains("no example has the answer []"), "{said}");
        assert!(said.contains("120 examples have only 4 sentence patterns"), "{said}");
    }
}

#[test]
fn data_are_packed_once_trained_on_and_refused_with_another_tokenizer() {
    let place = Workplace::with_model();
    let pack = |out: &str, tokenizer: &str| {
        let pack = ["data", "pack", "data.jsonl", "--config", "recipe.toml", "--tokenizer", tokenizer, "--out", out];
        place.json(&[&pack[..], &["--json", "-q"]].concat())
    };
    let packed = pack("packed", "run/last");
    assert_eq!((packed["counts"]["read"].as_u64(), packed["totals"]["examples"].as_u64()), (Some(60), Some(60)));
    assert!(place.ok(&["data", "check", "packed"]).contains("0 not"));
    let train = ["train", "--config", "recipe.toml", "--data", "packed", "-q", "--out", "packed-run"];
    let nothing = place.fails(1, &train);
    assert!(nothing.contains("--tokenizer"), "{nothing}");
    place.ok(&[&train[..], &["--tokenizer", "run/last/tokenizer.json"]].concat());

    place.ok(&["tokenizer", "train", "data.jsonl", "--vocab-size", "400", "--out", "other.model"]);
    let other = place.fails(1, &[&train[..7], &["other-run", "--tokenizer", "other.model"]].concat());
    assert!(other.contains("another tokenizer") && other.contains("needle data pack"), "{other}");
    let twice = ["data", "pack", "data.jsonl", "--config", "recipe.toml", "--tokenizer", "run/last", "--out", "packed"];
    assert!(place.fails(1, &twice).contains("holds packed shards already"));

    // One damaged byte in the tokens.
    let shard = place.path("packed/00000.packed");
    let mut bytes = std::fs::read(&shard).unwrap();
    let middle = bytes.len() - 2000;
    bytes[middle] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    assert!(place.fails(1, &["data", "check", "packed"]).contains("have changed"));
}

#[test]
fn a_tokenizer_goes_out_as_sentencepiece_and_comes_back() {
    let place = Workplace::with_model();
    place.ok(&["tokenizer", "export", "run/last", "--out", "t.model"]);
    place.ok(&["tokenizer", "import", "t.model", "--out", "t.json"]);
    let encode = |tokenizer: &str| place.ok(&["tokenizer", "encode", tokenizer, "wake me at  7", "--json"]);
    assert_eq!(encode("run/last"), encode("t.json"));
    assert_eq!(encode("run/last"), encode("t.model"));
    place.write("not.model", "plain text");
    assert!(place.fails(1, &["tokenizer", "import", "not.model"]).contains("not a SentencePiece model"));
}

#[test]
fn a_mixture_of_text_and_calls_trains_by_recipe() {
    let place = Workplace::with_model();
    let text: String = (0..50).map(|i| format!("{{\"text\":\"the {i}th line of a text\"}}\n")).collect();
    place.write("text.jsonl", &text);
    let sources = "[[data.sources]]\npaths = [\"data.jsonl\"]\nweight = 3.0\n[[data.sources]]\npaths = [\"text.*\"]\nweight = 1.0\n";
    let lengths = "[data]\nrows = 2\nrow_enc_tokens = [64, 256]\nrow_dec_tokens = [32, 128]\npack_window = 32\n";
    place.write(
        "mixture.toml",
        &format!("model = \"tiny\"\nsteps = 4\ntokenizer = {{ vocab_size = 500 }}\nschedule = {{ warmup_steps = 2 }}\neval = {{ max_tokens = 64 }}\n{lengths}{sources}"),
    );
    let output = place.needle(&["train", "--config", "mixture.toml", "--val", "data.jsonl", "--out", "mixed"]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && log.contains("0 left out"), "{log}");
    let nothing = place.fails(1, &["train", "--config", "recipe.toml", "--out", "x"]);
    assert!(nothing.contains("--data") && nothing.contains("data.sources"), "{nothing}");
}

#[test]
fn other_datasets_are_converted_and_what_cannot_be_is_counted() {
    let place = Workplace::new();
    let tools = TOOLS.replace('"', "\\\"");
    let good = format!(
        r#"{{"query":"ten","tools":"{tools}","answers":"[{{\"name\":\"setTimer\",\"arguments\":{{\"minutes\":10}}}}]"}}"#
    );
    let bad = good.replace("setTimer\\\",\\\"arg", "nonsense\\\",\\\"arg");
    place.write("xlam.json", &format!("[{good},\n{bad}]"));
    let output = place.needle(&["data", "convert", "xlam.json", "--out", "ours.jsonl"]);
    let (out, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(out.contains("2 rows read, 1 used, 1 left out (unknown_tool 1)"), "{out}");
    assert!(log.contains("xlam.json:2: answers[0].name"), "{log}");
    assert!(place.ok(&["data", "check", "ours.jsonl"]).contains("1 rows, 1 usable"));
    place.fails(1, &["data", "convert", "xlam.json", "--strict", "--out", "strict.jsonl"]);
    assert!(!place.path("strict.jsonl").exists(), "written whole or not at all");
}

#[test]
fn mistakes_are_one_clear_sentence() {
    let place = Workplace::with_model();
    place.write("broken.json", "[\n  {\"name\": }\n]");
    let ask = |tools: &str| place.fails(1, &["run", "run/last", "--query", "q", "--tools", tools]);
    assert!(ask("broken.json").contains("line 2 column 12"), "{}", ask("broken.json"));
    assert!(ask("nowhere.json").contains("nowhere.json"));
    assert!(ask("[]").contains("no tools"));
    assert!(place.fails(1, &["run", "nowhere", "--query", "q", "--tools", TOOLS]).contains("not a checkpoint"));
    assert!(place.fails(1, &["eval", "run/last", "recipe.toml"]).contains("recipe.toml:2: line: not JSON"));
    place.write("typo.toml", "stepps = 3");
    let typo = place.fails(1, &["train", "--config", "typo.toml", "--data", "data.jsonl", "--out", "x"]);
    assert!(typo.contains("typo.toml") && typo.contains("stepps"), "{typo}");
    let resume =
        place.fails(1, &["train", "--config", "recipe.toml", "--data", "data.jsonl", "--out", "new", "--resume"]);
    assert!(resume.contains("no run to resume"), "{resume}");
    let cuda = place.fails(2, &["eval", "run/last", "data.jsonl", "--device", "cuda:0"]);
    assert!(cuda.contains("built without cuda"), "{cuda}");
    place.fails(2, &["nonsense"]);
    assert!(place.fails(1, &["data", "synth", "--categories", "nonsense"]).contains("timers"));
}

#[test]
fn every_command_explains_itself() {
    let place = Workplace::new();
    for command in [
        &["quickstart"][..],
        &["pretrain"],
        &["train"],
        &["report"],
        &["eval"],
        &["run"],
        &["retrieve"],
        &["serve"],
        &["playground"],
        &["mcp", "import"],
        &["mcp", "serve"],
        &["info"],
        &["golden"],
        &["export"],
        &["data", "check"],
        &["data", "stats"],
        &["data", "synth"],
        &["data", "pack"],
        &["data", "convert"],
        &["bench", "data"],
        &["tokenizer", "train"],
        &["tokenizer", "import"],
        &["tokenizer", "export"],
        &["tokenizer", "encode"],
    ] {
        let help = place.ok(&[command, &["--help"]].concat());
        assert!(help.contains("Example"), "{command:?}: {help}");
    }
}

#[test]
fn several_devices_divide_a_batch_and_come_to_the_weights_of_one() {
    let place = Workplace::with_model();
    const SHORT: &[&str] = &["--set", "steps=4", "--set", "schedule.warmup_steps=2"];
    let recipe = "data.lanes=2";
    let train = |out: &str, device: &str| {
        let args = ["train", "--config", "recipe.toml", "--data", "data.jsonl", "--out", out, "-q", "--set", recipe];
        place.ok(&[&args[..], SHORT, &["--set", "qat.final_fraction=0", "--device", device]].concat())
    };
    train("one", "cpu");
    train("two", "cpu,cpu");
    let read = |out: &str| weights(&place.path(out).join("last"));
    let (one, two) = (read("one"), read("two"));
    let tensors = |bytes: &[u8]| -> Vec<f32> {
        let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let mut names = file.names();
        names.sort_unstable();
        let values = names.into_iter().flat_map(|name| file.tensor(name).unwrap().data().to_vec());
        values.collect::<Vec<u8>>().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let differences = tensors(&one).into_iter().zip(tensors(&two)).map(|(a, b)| (a - b).abs());
    differences.for_each(|difference| assert!(difference < 1e-4, "{difference:e}"));
    assert!(
        place.fails(1, &["eval", "one/last", "data.jsonl", "--device", "cpu,cpu"]).contains("only train and pretrain")
    );
    assert!(place.fails(2, &["eval", "one/last", "data.jsonl", "--device", "cuda"]).contains("built without cuda"));
}
