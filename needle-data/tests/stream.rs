//! Rows of every kind of source, in order, divided, resumed and counted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use needle_data::batching::loader::{Loaded, Loader, LoaderConfig, RowPacker};
use needle_data::batching::pack::RowSize;
use needle_data::error::ProblemCode;
use needle_data::order::stream::{Cursor, Lane, SourceConfig, Sources, StreamConfig, Windows};
use needle_data::packed::PackedWriter;
use needle_data::source::{BadRows, OnBadRow, load_examples, rows};
use needle_data::synth::{Generator, SynthConfig};
use needle_data::tokenizer::TokenizerConfig;
use needle_data::{DataError, EncodeConfig, Encoder, Example, Tokenizer};
use parquet::data_type::{ByteArray, ByteArrayType};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

const SIZES: [RowSize; 2] = [RowSize { enc: 192, dec: 64 }, RowSize { enc: 384, dec: 128 }];

fn examples(count: usize) -> Vec<Example> {
    let config = SynthConfig { num_tools: (1, 2), max_calls: 1, brief: true, ..Default::default() };
    Generator::new(config).unwrap().take(count).collect()
}

fn tokenizer() -> Tokenizer {
    let texts: Vec<String> = examples(60).iter().flat_map(Encoder::texts).collect();
    Tokenizer::train(&TokenizerConfig { vocab_size: 700, isolate_spaces: true, join_structure: false }, texts.iter())
        .unwrap()
}

fn encoder(tokenizer: &Tokenizer) -> Encoder<'_> {
    Encoder::new(tokenizer, EncodeConfig { max_enc_tokens: 384, max_dec_tokens: 128, max_tool_tokens: 96 }).unwrap()
}

fn loader_config() -> LoaderConfig {
    LoaderConfig {
        row_sizes: SIZES.to_vec(),
        rows: 2,
        pack_window: 16,
        max_retrieval_pairs: 8,
        shuffle_tools: true,
        max_offered_tools: None,
        withheld_fraction: 0.0,
        other_values: Default::default(),
        masks: Default::default(),
        on_bad_row: OnBadRow::Fail,
        max_bad_fraction: 0.5,
        threads: Some(1),
    }
}

fn jsonl(examples: &[Example]) -> Vec<u8> {
    examples.iter().flat_map(|e| format!("{}\n", e.to_json()).into_bytes()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A parquet file of string columns, the last row of each group null where `nulls`.
fn parquet(path: &Path, columns: &[(&str, Vec<String>)], rows_per_group: usize) {
    let fields: String = columns.iter().map(|(name, _)| format!("optional binary {name} (utf8);\n")).collect();
    let schema =
        parquet::schema::parser::parse_message_type(&format!("message rows {{ required int32 id; {fields} }}"));
    let file = std::fs::File::create(path).unwrap();
    let mut writer =
        parquet::file::writer::SerializedFileWriter::new(file, Arc::new(schema.unwrap()), Default::default()).unwrap();
    let count = columns[0].1.len();
    for start in (0..count).step_by(rows_per_group) {
        let end = (start + rows_per_group).min(count);
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let ids: Vec<i32> = (start as i32..end as i32).collect();
        column.typed::<parquet::data_type::Int32Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        for (_, values) in columns {
            let values: Vec<ByteArray> = values[start..end].iter().map(|v| v.as_str().into()).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&vec![1; values.len()]), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn tool_call_parquet(path: &Path, examples: &[Example]) {
    let column = |key: &str| -> Vec<String> {
        let text = |e: &Example| match &e.to_json()[key] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        examples.iter().map(text).collect()
    };
    parquet(path, &[("query", column("query")), ("tools", column("tools")), ("answers", column("answers"))], 7);
}

/// The same 100 examples as files of each kind, in `num_shards` shards, and in memory.
fn every_kind(dir: &Path, num_shards: usize, tokenizer: &Tokenizer) -> BTreeMap<&'static str, Sources> {
    let examples = examples(100);
    let mut sources = BTreeMap::new();
    for kind in ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"] {
        let dir = dir.join(kind);
        std::fs::create_dir(&dir).unwrap();
        for (i, part) in examples.chunks(examples.len().div_ceil(num_shards)).enumerate() {
            let (path, text) = (dir.join(format!("{i:02}.{kind}")), jsonl(part));
            match kind {
                "jsonl.gz" => std::fs::write(path, gzip(&text)).unwrap(),
                "jsonl.zst" => std::fs::write(path, zstd::encode_all(text.as_slice(), 1).unwrap()).unwrap(),
                "parquet" => tool_call_parquet(&path, part),
                _ => std::fs::write(path, text).unwrap(),
            }
        }
        sources.insert(kind, Sources::files(&[dir]).unwrap());
    }
    sources.insert("memory", Sources::memory(examples));
    let encoder = encoder(tokenizer);
    let windows = Windows::new(&sources["jsonl"], tokenizer, StreamConfig::new(1), None).unwrap();
    let mut writer = PackedWriter::new(&dir.join("packed"), tokenizer, &SIZES).unwrap();
    for packed in RowPacker::new(&encoder, windows, loader_config(), 1).unwrap() {
        let packed = packed.unwrap();
        packed.rows.iter().for_each(|row| writer.push(row).unwrap());
        if packed.next.is_some() {
            break;
        }
    }
    writer.finish().unwrap();
    sources.insert("packed", Sources::files(&[dir.join("packed")]).unwrap());
    sources
}

fn batches<'a>(
    sources: &Sources,
    encoder: &'a Encoder<'a>,
    stream: StreamConfig,
    config: LoaderConfig,
    cursor: Option<Cursor>,
) -> Loader<'a, Windows> {
    let seed = stream.seed;
    let windows = Windows::new(sources, encoder.tokenizer(), stream, cursor).unwrap();
    Loader::new(encoder, windows, config, seed).unwrap()
}

/// The answers of all examples of a batch, as text.
fn answers(tokenizer: &Tokenizer, loaded: &Loaded) -> Vec<String> {
    let batch = &loaded.batch;
    let mut found: HashMap<(usize, i32), Vec<u32>> = HashMap::new();
    for (i, (segment, id)) in batch.enc_segments.iter().zip(&batch.enc_ids).enumerate() {
        if *segment != 0 {
            found.entry((i / batch.enc_len, *segment)).or_default().push(*id as u32);
        }
    }
    // What stands before `<tools>` is the query, which is different in each example.
    found.into_values().map(|ids| tokenizer.decode(ids.split(|&id| id == 5).next().unwrap())).collect()
}

fn epoch(tokenizer: &Tokenizer, loader: Loader<'_, Windows>, epoch: u64) -> Vec<String> {
    let batches = loader.map(Result::unwrap).skip_while(|l| l.epoch < epoch).take_while(|l| l.epoch == epoch);
    batches.flat_map(|loaded| answers(tokenizer, &loaded)).collect()
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

#[test]
fn every_lane_has_its_own_rows_and_together_they_have_all_every_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let encoder = encoder(&tokenizer);
    let all: Vec<String> =
        sorted(examples(100).into_iter().map(|e| tokenizer.decode(&tokenizer.encode(&e.query))).collect());
    for (name, num_shards) in [("one", 1), ("several", 6)] {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        for (kind, sources) in every_kind(&dir, num_shards, &tokenizer) {
            for count in [1, 2, 3] {
                for wanted in [0, 2] {
                    let read = (0..count).flat_map(|index| {
                        let lane = Lane { index, count };
                        let stream = StreamConfig { lane, ..StreamConfig::new(7) };
                        epoch(&tokenizer, batches(&sources, &encoder, stream, loader_config(), None), wanted)
                    });
                    assert_eq!(sorted(read.collect()), all, "{kind}, {num_shards} shards, {count} lanes");
                }
            }
        }
    }
}

#[test]
fn stopped_and_resumed_is_the_same_as_uninterrupted_for_every_source_and_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let encoder = encoder(&tokenizer);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for (kind, sources) in every_kind(dir.path(), 5, &tokenizer) {
        let stream = StreamConfig { lane: Lane { index: 1, count: 2 }, ..StreamConfig::new(3) };
        let run = |cursor, threads, count| -> Vec<Loaded> {
            let config = LoaderConfig { threads: Some(threads), ..loader_config() };
            batches(&sources, &encoder, stream.clone(), config, cursor).take(count).map(Result::unwrap).collect()
        };
        let whole = run(None, 1, 40);
        for _ in 0..8 {
            let stop = (1usize..40).new_tree(&mut runner).unwrap().current();
            let text = serde_json::to_string(&whole[stop - 1].cursor).unwrap();
            assert!(text.len() < 600, "a cursor of {} bytes: {text}", text.len());
            let cursor: Cursor = serde_json::from_str(&text).unwrap();
            assert_eq!(run(Some(cursor), 1 + stop % 4, 40 - stop), whole[stop..], "{kind}, stopped after {stop}");
        }
        assert!(whole.iter().any(|l| l.epoch >= 2), "over several epochs");
    }
}

#[test]
fn windows_smaller_than_an_epoch_resume_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.jsonl.gz");
    let line = |i: usize| format!("{{\"text\":\"row {i} {}\"}}\n", "lorem ipsum ".repeat(40));
    std::fs::write(&path, gzip((0..6000).map(line).collect::<String>().as_bytes())).unwrap();
    let tokenizer = tokenizer();
    let encoder = encoder(&tokenizer);
    let sources = Sources::files(&[&path]).unwrap();
    let stream = StreamConfig { shuffle_buffer_mb: 1, ..StreamConfig::new(3) };
    let config = LoaderConfig { rows: 64, pack_window: 512, ..loader_config() };
    let run = |cursor, count| -> Vec<Loaded> {
        batches(&sources, &encoder, stream.clone(), config.clone(), cursor).take(count).map(Result::unwrap).collect()
    };
    let whole = run(None, 90);
    assert!(whole[80].cursor.window > 2, "{:?}", whole[80].cursor);
    for stop in [1, 33, 58, 77] {
        assert_eq!(run(Some(whole[stop - 1].cursor.clone()), 90 - stop), whole[stop..], "stopped after {stop}");
    }
    let counts = &whole[89].counts;
    assert_eq!(counts.read, counts.used);
}

#[test]
fn every_epoch_and_every_seed_has_another_order() {
    let tokenizer = tokenizer();
    let encoder = encoder(&tokenizer);
    let sources = Sources::memory(examples(100));
    let order = |seed, wanted| {
        epoch(&tokenizer, batches(&sources, &encoder, StreamConfig::new(seed), loader_config(), None), wanted)
    };
    assert_ne!(order(1, 0), order(1, 1));
    assert_ne!(order(1, 0), order(2, 0));
    assert_eq!(sorted(order(1, 0)), sorted(order(2, 3)));
}

/// Rows are packed some at a time, in shuffled order: line 29 was named where line 1 was bad, too.
#[test]
fn the_first_bad_row_of_a_file_is_the_one_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let mut lines: Vec<String> = examples(60).iter().map(|e| e.to_json().to_string()).collect();
    for bad in [0, 28, 40] {
        lines[bad] = "7".into();
    }
    std::fs::write(&path, lines.join("\n")).unwrap();
    let tokenizer = tokenizer();
    let encoder = encoder(&tokenizer);
    let sources = Sources::files(&[&path]).unwrap();
    for seed in 0..8 {
        let config = LoaderConfig { pack_window: 4, ..loader_config() };
        let error = batches(&sources, &encoder, StreamConfig::new(seed), config, None).find_map(Result::err).unwrap();
        assert!(error.to_string().contains("a.jsonl:1: "), "seed {seed}: {error}");
    }
}

/// A run of a few steps on a file of fewer than 1,000 rows ended before its bad rows were counted
/// together.
#[test]
fn too_many_bad_rows_end_the_run_before_its_first_batch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let lines = examples(100).into_iter().enumerate();
    let lines: Vec<String> =
        lines.map(|(i, e)| if i % 3 == 1 { "7".into() } else { e.to_json().to_string() }).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let tokenizer = tokenizer();
    let encoder = encoder(&tokenizer);
    let sources = Sources::files(&[&path]).unwrap();
    let config = |max_bad_fraction| LoaderConfig {
        pack_window: 4,
        on_bad_row: OnBadRow::Skip,
        max_bad_fraction,
        ..loader_config()
    };
    let first = |most| batches(&sources, &encoder, StreamConfig::new(1), config(most), None).next().unwrap();
    let error = first(0.2).unwrap_err().to_string();
    assert!(error.contains("33 of 100 rows") && error.contains("a.jsonl:2: "), "{error}");
    assert!(first(0.34).is_ok());
}

#[test]
fn a_cursor_of_another_lane_or_listing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.jsonl"), jsonl(&examples(40))).unwrap();
    let tokenizer = tokenizer();
    let encoder = encoder(&tokenizer);
    let sources = Sources::files(&[dir.path()]).unwrap();
    let cursor =
        batches(&sources, &encoder, StreamConfig::new(1), loader_config(), None).next().unwrap().unwrap().cursor;
    let refused = |sources: &Sources, lane| {
        let stream = StreamConfig { lane, ..StreamConfig::new(1) };
        Windows::new(sources, &tokenizer, stream, Some(cursor.clone())).err().unwrap().to_string()
    };
    let error = refused(&sources, Lane { index: 0, count: 2 });
    assert!(error.contains("lane 0 of 1") && error.contains("data.lanes = 1"), "{error}");
    std::fs::write(dir.path().join("b.jsonl"), jsonl(&examples(3))).unwrap();
    let error = refused(&Sources::files(&[dir.path()]).unwrap(), Lane::default());
    assert!(error.contains("differ from those of the run"), "{error}");
}

#[test]
fn a_mixture_keeps_its_weights_and_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..300).map(|i| format!("{{\"text\":\"plain {i}\"}}\n")).collect();
    let question =
        |i| format!("{{\"query\":\"ask {i}\",\"query_seed_text\":\"seed\",\"synthetic_answer\":\"say {i}\"}}\n");
    std::fs::write(dir.path().join("text.jsonl"), text).unwrap();
    std::fs::write(dir.path().join("questions.jsonl"), (0..50).map(question).collect::<String>()).unwrap();
    std::fs::write(dir.path().join("calls.jsonl"), jsonl(&examples(40))).unwrap();
    let source = |name: &str, weight| SourceConfig { paths: vec![dir.path().join(name)], weight };
    let sources =
        Sources::mixture(&[source("text.jsonl", 2.0), source("questions.jsonl", 1.0), source("calls.jsonl", 1.0)])
            .unwrap();
    let tokenizer = tokenizer();
    let encoder = encoder(&tokenizer);
    let stream = StreamConfig { shuffle_buffer_mb: 1, ..StreamConfig::new(4) };
    let run = |cursor, count| -> Vec<Loaded> {
        batches(&sources, &encoder, stream.clone(), loader_config(), cursor).take(count).map(Result::unwrap).collect()
    };
    let whole = run(None, 120);
    let queries: Vec<String> = whole.iter().flat_map(|loaded| answers(&tokenizer, loaded)).collect();
    let share = |begin: &str| queries.iter().filter(|q| q.starts_with(begin)).count() as f64 / queries.len() as f64;
    assert!((0.45..0.55).contains(&share("plain")), "{}", share("plain"));
    assert!((0.2..0.3).contains(&share("ask")), "{}", share("ask"));
    assert_eq!(run(Some(whole[70].cursor.clone()), 10), whole[71..81]);
    assert!(Sources::mixture(&[source("text.jsonl", 0.0)]).is_err());
}

#[test]
fn bad_rows_end_the_run_or_are_counted_and_the_counts_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mixed.jsonl");
    let good = String::from_utf8(jsonl(&examples(60))).unwrap();
    let long = format!(
        r#"{{"query":"q","tools":[{{"name":"a","parameters":{{"x":{{"type":"string"}}}}}}],"answers":[{{"name":"a","arguments":{{"x":"{}"}}}}]}}"#,
        "long ".repeat(200)
    );
    std::fs::write(&path, format!("{good}{{}}}}\n{{\"prompt\":1}}\n{long}\n{{\"text\":\"\"}}\n")).unwrap();
    let tokenizer = tokenizer();
    let encoder = encoder(&tokenizer);
    let sources = Sources::files(&[&path]).unwrap();
    let run = |config| batches(&sources, &encoder, StreamConfig::new(1), config, None);

    let error = run(LoaderConfig { pack_window: 1000, ..loader_config() }).next().unwrap().unwrap_err().to_string();
    assert!(error.contains("mixed.jsonl:61: line: not JSON"), "{error}");

    let skip = LoaderConfig { on_bad_row: OnBadRow::Skip, ..loader_config() };
    let last = run(skip.clone()).map(Result::unwrap).take_while(|l| l.epoch == 0).last().unwrap();
    let counts = last.counts;
    assert_eq!((counts.read, counts.used, counts.num_skipped()), (64, 60, 4));
    let reasons = [ProblemCode::NotJson, ProblemCode::BadField, ProblemCode::EmptyText, ProblemCode::AnswerTooLong];
    assert!(reasons.iter().all(|reason| counts.skipped[reason] == 1), "{counts}");

    let strict = LoaderConfig { max_bad_fraction: 0.05, pack_window: 1000, ..skip };
    let error = run(strict).find_map(Result::err).unwrap().to_string();
    assert!(error.contains("4 of 64 rows") && error.contains("max_bad_fraction"), "{error}");
}

#[test]
fn batches_have_one_row_length_and_like_numbers_of_positions() {
    let tokenizer = tokenizer();
    let encoder = encoder(&tokenizer);
    let dir = tempfile::tempdir().unwrap();
    let text = |i: usize| format!("{{\"text\":\"short {i}\"}}\n");
    std::fs::write(dir.path().join("short.jsonl"), (0..2000).map(text).collect::<String>()).unwrap();
    std::fs::write(dir.path().join("long.jsonl"), jsonl(&examples(300))).unwrap();
    let sources = Sources::files(&[dir.path()]).unwrap();
    let config = LoaderConfig { rows: 4, pack_window: 600, ..loader_config() };
    let batches = batches(&sources, &encoder, StreamConfig::new(1), config, None).map(Result::unwrap);
    let batches: Vec<_> = batches.take_while(|l| l.epoch == 0).map(|l| l.batch).collect();
    let short: Vec<_> = batches.iter().filter(|b| b.enc_len <= SIZES[0].enc && b.rows > 4).collect();
    assert!(!short.is_empty() && short.len() < batches.len());
    assert!(short.iter().all(|b| b.rows == 8), "half as long rows, twice as many");
    assert!(batches.iter().filter(|b| b.enc_len > SIZES[0].enc).filter(|b| b.rows < 4).count() <= 1, "one rest");
}

#[test]
fn a_source_without_a_usable_row_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.jsonl");
    std::fs::write(&path, "{}\n[]\n").unwrap();
    let tokenizer = tokenizer();
    let encoder = encoder(&tokenizer);
    let config = LoaderConfig { on_bad_row: OnBadRow::Skip, max_bad_fraction: 1.0, ..loader_config() };
    let sources = Sources::files(&[&path]).unwrap();
    let error = batches(&sources, &encoder, StreamConfig::new(1), config, None).next().unwrap().unwrap_err();
    assert!(matches!(error, DataError::NoExamples(_)), "{error}");
    let lane = Lane { index: 3, count: 4 };
    let windows = Windows::new(&sources, &tokenizer, StreamConfig { lane, ..StreamConfig::new(1) }, None).unwrap();
    let error = windows.filter_map(Result::err).next().unwrap().to_string();
    assert!(error.contains("lane 3 of 4 gets no row"), "{error}");
}

#[test]
fn parquet_columns_are_read_and_damage_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    tool_call_parquet(&path, &examples(30));
    assert_eq!(load_examples(&[&path], BadRows::Fail).unwrap().0, examples(30));

    let column = |name: &str| (0..20).map(|i| format!("{name} {i}")).collect::<Vec<_>>();
    parquet(&path, &[("synthetic_answer", column("a")), ("query", column("q")), ("query_seed_text", column("s"))], 6);
    assert_eq!(rows(&[&path]).unwrap().filter(|row| row.as_ref().unwrap().record().is_ok()).count(), 20);

    parquet(&path, &[("prompt", column("p"))], 6);
    let error = rows(&[&path]).unwrap().next().unwrap().unwrap_err().to_string();
    assert!(error.contains("has the columns id, prompt; expected query, tools, answers"), "{error}");

    tool_call_parquet(&path, &examples(30));
    let whole = std::fs::read(&path).unwrap();
    for percent in (0..100).step_by(3) {
        std::fs::write(&path, &whole[..whole.len() * percent / 100]).unwrap();
        assert!(rows(&[&path]).map_or(true, |mut rows| rows.any(|row| row.is_err())), "cut at {percent} %");
    }
}

fn arbitrary_line() -> impl Strategy<Value = Vec<u8>> {
    let json = prop_oneof![
        "\\PC{0,60}",
        r#"\{"query":("[a-z ]{0,9}"|7|null),"tools":(\[\]|"\[\]"|\[\{"name":"[ab]"\}\]),"answers":(\[\]|"x"|\[\{"name":"a"\}\])\}"#,
        r#"\{"text":"(\\\\u[d0][89][0-9]{2}|[a-z]|\\\\n){0,9}"\}"#,
        r#"(\[|\{"a":){0,300}"#,
    ];
    prop_oneof![json.prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..80)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever lines a file holds, each is used or counted under a reason, and nothing panics.
    #[test]
    fn whatever_the_lines_read_is_used_plus_skipped(lines in prop::collection::vec(arbitrary_line(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("any.jsonl");
        std::fs::write(&path, lines.join(&b'\n')).unwrap();
        let tokenizer = tokenizer_once();
        let encoder = encoder(&tokenizer);
        let config = LoaderConfig { on_bad_row: OnBadRow::Skip, max_bad_fraction: 1.0, ..loader_config() };
        // A file of nothing is refused when it is named.
        let Ok(sources) = Sources::files(&[&path]) else { return Ok(()) };
        let windows = Windows::new(&sources, &tokenizer, StreamConfig::new(1), None).unwrap();
        let expected = lines.concat().len();
        for packed in RowPacker::new(&encoder, windows, config, 1).unwrap() {
            match packed {
                Ok(packed) => {
                    let counts = packed.counts;
                    prop_assert_eq!(counts.read, counts.used + counts.num_skipped());
                    if packed.next.is_some() {
                        break;
                    }
                }
                Err(DataError::NoExamples(_) | DataError::Empty(_)) => break,
                Err(other) => prop_assert!(false, "{other} of {expected} bytes"),
            }
        }
    }
}

fn tokenizer_once() -> Tokenizer {
    static ONCE: std::sync::OnceLock<Tokenizer> = std::sync::OnceLock::new();
    ONCE.get_or_init(tokenizer).clone()
}
