//! The answering library as its users call it: a checkpoint, its artifact and the trainer's own
//! model answer through the same interface, one question at a time, in batches, and from several
//! threads.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn_flex::Flex;
use needle_data::Tokenizer;
use needle_data::tokenizer::TokenizerConfig;
use needle_data::tokenizer::word_vectors::WordVectors;
use needle_model::checkpoint::Checkpoint;
use needle_model::export::needle_rs::artifact;
use needle_model::{San, SanConfig};
use needle_runtime::{Answer, AnswerConfig, Confidence, Needle, Options, Precision, Tool, tools_from_json};
use needle_train::answering;

/// Saves a model with random weights as a checkpoint and as an artifact.
fn save(dir: &Path) -> (PathBuf, PathBuf) {
    save_with(dir, None)
}

/// As `save`, with the word vectors in a text file.
fn save_with(dir: &Path, vectors: Option<&str>) -> (PathBuf, PathBuf) {
    let text = r#"[{"name":"set_timer","arguments":{"minutes":5}}] a timer for ten minutes"#;
    let tokenizer = TokenizerConfig { vocab_size: 320, isolate_spaces: true, join_structure: true };
    let tokenizer = Tokenizer::train(&tokenizer, [text; 3].iter()).unwrap();
    let tokenizer = match vectors {
        Some(lines) => {
            let path = dir.join("vectors.txt");
            std::fs::write(&path, lines).unwrap();
            let vectors = WordVectors::read_text(&path, &tokenizer).unwrap();
            tokenizer.with_word_vectors(vectors)
        }
        None => tokenizer,
    };
    let config = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset("tiny").unwrap() };
    let model = San::<Flex>::new(&config, 7, &Default::default()).unwrap();
    let (checkpoint, exported) = (dir.join("checkpoint"), dir.join("artifact"));
    std::fs::create_dir_all(&exported).unwrap();
    for (name, bytes) in artifact(&model, &config, &tokenizer).unwrap() {
        std::fs::write(exported.join(name), bytes).unwrap();
    }
    Checkpoint { config, model, tokenizer }.save(&checkpoint, &BTreeMap::new()).unwrap();
    (checkpoint, exported)
}

fn tools() -> Vec<Tool> {
    let tools = r#"[{"name": "setTimer", "parameters": {"minutes": {"type": "integer", "required": true}}},
        {"name": "stop", "parameters": {}}, {"name": "play", "parameters": {"what": {"type": "string"}}}]"#;
    tools_from_json(tools).unwrap()
}

/// The contents of an answer, without its time.
fn said(answer: &Answer) -> (Vec<u32>, String, Option<f64>, Option<Vec<String>>) {
    (answer.token_ids.clone(), answer.text.clone(), answer.confidence, answer.picked.clone())
}

#[test]
fn a_checkpoint_its_run_its_artifact_and_the_artifacts_bytes_give_the_same_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, exported) = save(dir.path());
    let run = dir.path().join("run");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::rename(&checkpoint, run.join("best")).unwrap();
    let [from_run, from_checkpoint, from_artifact] =
        [&run, &run.join("best"), &exported].map(|path| Needle::load(path).unwrap());
    let weights = std::fs::read(exported.join("needle.safetensors")).unwrap();
    let vocab = std::fs::read_to_string(exported.join("vocab.txt")).unwrap();
    let from_bytes = Needle::from_bytes(weights, &vocab, &Options::default()).unwrap();
    for query in ["a timer for ten minutes", "stop", "é"] {
        let expected = said(&from_checkpoint.call(query, &tools()).unwrap());
        for needle in [&from_run, &from_artifact, &from_bytes] {
            assert_eq!(said(&needle.call(query, &tools()).unwrap()), expected, "{query}");
        }
        let catalogue = from_bytes.catalogue(&tools()).unwrap();
        assert!(!catalogue.was_kept);
        let ranked = from_artifact.rank(query, &from_artifact.catalogue(&tools()).unwrap()).unwrap();
        assert_eq!(from_bytes.rank(query, &catalogue).unwrap(), ranked);
    }
    assert!(exported.join("catalogues").is_dir() && !dir.path().join("catalogues").exists());
    let error = Needle::load(dir.path().join("nowhere")).err().unwrap().to_string();
    assert!(error.contains("nowhere") && error.contains("no such directory"), "{error}");
}

#[test]
fn with_word_vectors_the_answer_does_not_depend_on_the_order_in_which_tools_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, exported) = save_with(dir.path(), Some("timer 1 0 0\nminutes 0.8 0.3 0\nten 0.2 0.9 0.1\n"));
    let weights = std::fs::read(exported.join("needle.safetensors")).unwrap();
    let vocab = std::fs::read_to_string(exported.join("vocab.txt")).unwrap();
    let from_bytes = Needle::from_bytes(weights, &vocab, &Options::default()).unwrap();
    let mut reversed = tools();
    reversed.reverse();
    for query in ["a timer for ten minutes", "é", "stop"] {
        let expected = said(&from_bytes.call(query, &tools()).unwrap());
        for needle in [&from_bytes, &Needle::load(&checkpoint).unwrap(), &Needle::load(&exported).unwrap()] {
            assert_eq!(said(&needle.call(query, &tools()).unwrap()), expected, "{query}");
            assert_eq!(said(&needle.call(query, &reversed).unwrap()), expected, "{query}, reversed");
            // Random weights may answer two prompts alike, so that the answers alone prove little.
            let prompt = |tools: &[Tool]| needle.encoder().prompt(query, tools).0;
            assert_eq!(prompt(&tools()), prompt(&reversed), "{query}");
        }
    }
    // Words rank the tools of a catalogue, too.
    let ranked = from_bytes.rank("ten minutes", &from_bytes.catalogue(&tools()).unwrap()).unwrap();
    assert_eq!(ranked[0].0, 0, "{ranked:?}");
    let ranked = from_bytes.rank("ten minutes", &from_bytes.catalogue(&reversed).unwrap()).unwrap();
    assert_eq!(ranked[0].0, 2, "{ranked:?}");
    // Another tokenizer's vectors are an error, and no vectors are none.
    let file = checkpoint.join("word_vectors.safetensors");
    let other = WordVectors::new(vec![1; 20], vec![1.0; 10]).unwrap();
    std::fs::write(&file, other.to_bytes()).unwrap();
    let error = Needle::load(&checkpoint).err().unwrap().to_string();
    assert!(error.contains("word_vectors.safetensors: word_vectors.codes is I8 [10, 2]"), "{error}");
    std::fs::remove_file(&file).unwrap();
    let (plain, query) = (Needle::load(&checkpoint).unwrap(), "a timer for ten minutes");
    let prompt = |tools: &[Tool]| plain.encoder().prompt(query, tools).0;
    assert_ne!(prompt(&tools()), prompt(&reversed));
}

#[test]
fn clones_have_their_own_configuration_and_threads_get_the_same_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, _) = save(dir.path());
    let needle = Needle::load(&checkpoint).unwrap().with_confidence(Some(Confidence::default()));
    let config = AnswerConfig { top_k: 2, max_calls: 1, ..AnswerConfig::default() };
    let picking = needle.clone().with_config(config).unwrap();
    assert!(needle.call("stop", &tools()).unwrap().picked.is_none());
    assert_eq!(picking.call("stop", &tools()).unwrap().picked.unwrap().len(), 2);

    let queries: Vec<String> = (0..40).map(|i| format!("a timer for {i} minutes{}", " please".repeat(i % 7))).collect();
    let alone: Vec<_> = queries.iter().map(|query| said(&needle.call(query, &tools()).unwrap())).collect();
    let mut done = Vec::new();
    let batch = needle.call_batch(queries.iter().map(|query| (query, tools())), |so_far| done.push(so_far)).unwrap();
    assert_eq!(batch.iter().map(said).collect::<Vec<_>>(), alone);
    assert!(done.is_sorted() && done.last() == Some(&40), "{done:?}");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for (query, expected) in queries.iter().zip(&alone).take(10) {
                    assert_eq!(said(&needle.call(query, &tools()).unwrap()), *expected);
                }
            });
        }
    });
}

#[test]
fn the_trainers_model_answers_through_the_same_interface_at_every_precision() {
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, _) = save(dir.path());
    for precision in [Precision::F32, Precision::Int4, Precision::Int4Embedding] {
        let needle = answering::load::<Flex>(&checkpoint, precision, &Default::default()).unwrap();
        assert_eq!((needle.precision(), needle.model_config().d_model), (precision, 64));
        let alone = needle.call("a timer for ten minutes", &tools()).unwrap();
        assert!(alone.is_complete && alone.violations.is_empty(), "{alone:?}");
        let mut streamed = Vec::new();
        let answer = needle.call_streaming("stop", &tools(), |bytes| streamed.extend_from_slice(bytes)).unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&streamed).unwrap();
        assert_eq!(shown.as_array().unwrap().len(), answer.calls.len());
        let batch = needle.call_batch([("a timer for ten minutes", tools()), ("stop", tools())], |_| ()).unwrap();
        assert_eq!((&batch[0].text, &batch[1].text), (&alone.text, &answer.text));
        for (query, tools) in [("", tools()), ("q", Vec::new())] {
            assert!(needle.call(query, &tools).is_err());
        }
    }
}

#[test]
fn with_a_large_weight_the_retrieval_head_chooses_the_tool() {
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, exported) = save(dir.path());
    for path in [checkpoint, exported] {
        let needle = Needle::load(path).unwrap();
        let weighing = |retrieval_weight| {
            // Greedily: the best of several answers is chosen by more than the head.
            let config =
                AnswerConfig { retrieval_weight, min_calls: 1, max_calls: 1, candidates: 0, ..needle.config().clone() };
            needle.clone().with_config(config).unwrap()
        };
        let (decoder, head) = (weighing(0.0), weighing(1000.0));
        let mut parted = 0;
        for query in ["a timer", "stop", "play it", "ten minutes", "five", "é", "a stop for ten", "set [5]"] {
            let ranked = needle.rank(query, &needle.catalogue(&tools()).unwrap()).unwrap();
            let best = &tools()[ranked[0].0].name;
            let answer = head.call(query, &tools()).unwrap();
            assert_eq!(&answer.calls[0].name, best, "{query}: {ranked:?}");
            assert!(answer.is_complete && answer.violations.is_empty(), "{answer:?}");
            parted += usize::from(decoder.call(query, &tools()).unwrap().calls[0].name != *best);
        }
        assert!(parted > 0, "the decoder alone never chose another tool");
    }
}

#[test]
fn a_watcher_can_stop_an_answer_and_min_calls_forces_a_call() {
    use std::ops::ControlFlow;
    let dir = tempfile::tempdir().unwrap();
    let (checkpoint, _) = save(dir.path());
    let needle = Needle::load(&checkpoint).unwrap();
    let config = AnswerConfig { min_calls: 1, max_calls: 1, ..needle.config().clone() };
    let needle = needle.with_config(config).unwrap();
    let mut pieces = 0;
    let whole = needle
        .call_watched("stop", &tools(), |piece| {
            pieces += 1;
            assert!(piece.probability.is_none_or(|p| (0.0..=1.0).contains(&p)));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((whole.is_complete, whole.calls.len()), (true, 1));
    let mut shown = 0;
    let ended = needle.call_watched("stop", &tools(), |_| {
        shown += 1;
        if shown == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let ended = ended.unwrap();
    assert!(pieces > 4 && !ended.is_complete && ended.token_ids.len() < whole.token_ids.len());
}
