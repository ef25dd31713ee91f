//! Compares the engine with the trainer's own model and with itself: an answer has the same bits on
//! every instruction set, with any number of threads, and in any batch.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;
use needle_data::Tokenizer;
use needle_data::tokenizer::{EOS_ID, TokenizerConfig};
use needle_model::checkpoint::Checkpoint;
use needle_model::export::needle_rs::artifact;
use needle_model::generate::generate;
use needle_model::golden::{Inputs, compute};
use needle_model::params::{self, ParamInfo, ParamMapper};
use needle_model::quant::fake_quant::{Precision, at_precision};
use needle_model::{San, SanConfig};
use needle_runtime::InstructionSet;
use needle_runtime::constrain::copying::Values;
use needle_runtime::constrain::{Asked, Constrained, Constrainer};
use needle_runtime::engine::{Engine, Options};
use needle_runtime::generate::{Generated, NoHook, StepHook};
use needle_runtime::network::KeptPrompt;
use needle_tests::{Golden, golden_model, max_difference};

/// Tolerance of a logit between the exact mode and the trainer's model at INT4.
const EXACT: f64 = 1e-4;
/// Tolerance of a component of an embedding.
const EMBEDDING: f64 = 1e-5;

/// A tokenizer with 300 ids or slightly fewer.
fn tokenizer() -> Tokenizer {
    let config = TokenizerConfig { vocab_size: 300, isolate_spaces: true, join_structure: false };
    Tokenizer::train(&config, ["set a timer for ten minutes"; 3].iter()).unwrap()
}

/// Sizes that are not multiples of lanes and groups: heads of dimension 20, a width of 80.
fn uneven(vocab_size: usize) -> SanConfig {
    let tiny = SanConfig::preset("tiny").unwrap();
    SanConfig { vocab_size, d_model: 80, num_heads: 4, num_kv_heads: 2, ..tiny }
}

/// A model with varied gains and gates, unlike a newly initialized one, saved as a checkpoint and
/// as an artifact in `dir`.
fn save(dir: &Path, config: &SanConfig, tokenizer: Tokenizer, seed: u64) -> (PathBuf, PathBuf, San<Flex>) {
    struct Spread;
    impl ParamMapper<Flex> for Spread {
        fn map<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<Flex, D>) -> Tensor<Flex, D> {
            let is_vector = D == 1;
            let count = info.shape.iter().product::<usize>();
            let values: Vec<f32> =
                (0..count).map(|i| ((i * 7919 + info.name.len() * 31) % 97) as f32 / 97.0 - 0.5).collect();
            let offset = Tensor::from_data(TensorData::new(values, tensor.shape()), &tensor.device());
            // Matrices are larger than initialized ones, so that attention is not uniform.
            if is_vector { tensor + offset } else { tensor * 4.0 }
        }
    }
    let model = San::<Flex>::new(config, seed, &Default::default()).unwrap();
    let model = params::map(model, &mut Spread);
    let (checkpoint, exported) = (dir.join("checkpoint"), dir.join("artifact"));
    std::fs::create_dir_all(&exported).unwrap();
    for (name, bytes) in artifact(&model, config, &tokenizer).unwrap() {
        std::fs::write(exported.join(name), bytes).unwrap();
    }
    let saved = Checkpoint { config: config.clone(), model, tokenizer };
    saved.save(&checkpoint, &BTreeMap::new()).unwrap();
    (checkpoint, exported, at_precision(saved.model, Precision::Int4))
}

fn options(exact: bool) -> Options {
    Options { exact, ..Options::default() }
}

/// Prompts of `lens` tokens, without padding.
fn prompts(vocab_size: usize, lens: &[usize]) -> Vec<Vec<u32>> {
    let id = |row: usize, i: usize| 1 + (i * i * 31 + i * 17 + row * 101) as u32 % (vocab_size as u32 - 1);
    lens.iter().enumerate().map(|(row, &len)| (0..len).map(|i| id(row, i)).collect()).collect()
}

/// The trainer's logits for `tokens` as an answer to `prompt`.
fn trainer_logits(model: &San<Flex>, prompt: &[u32], tokens: &[u32]) -> Vec<f32> {
    let ids = |ids: &[u32]| {
        let values: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        Tensor::from_data(TensorData::new(values, [1, ids.len()]), &Default::default())
    };
    let inputs = Inputs { src: ids(prompt), tgt: ids(tokens), segments: None };
    compute(model, inputs).logits.into_data().to_vec().unwrap()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// The ids of answers, and their certainties as bits.
fn answer_bits(answers: &[Generated]) -> Vec<(Vec<u32>, Vec<[u32; 2]>)> {
    let bits =
        |answer: &Generated| answer.certainties.iter().map(|c| [c.log_prob.to_bits(), c.margin.to_bits()]).collect();
    answers.iter().map(|answer| (answer.ids.clone(), bits(answer))).collect()
}

#[test]
fn the_exact_mode_agrees_with_the_trainer_at_int4() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let tiny = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset("tiny").unwrap() };
    for (name, config) in [("tiny", tiny), ("uneven", uneven(tokenizer.vocab_size()))] {
        let (checkpoint, exported, model) = save(&dir.path().join(name), &config, tokenizer.clone(), 1);
        for path in [checkpoint, exported] {
            let engine = Engine::open_with(&path, &options(true)).unwrap();
            assert_eq!(engine.config(), &config);
            for prompt in prompts(config.vocab_size, &[1, 15, 16, 100]) {
                let tokens: Vec<u32> = std::iter::once(EOS_ID).chain(prompt.iter().copied().take(40)).collect();
                let ours = engine.logits(&prompt, &tokens).unwrap();
                let difference = max_difference(&ours, &trainer_logits(&model, &prompt, &tokens));
                assert!(difference < EXACT, "{name}, {} tokens: {difference:e}", prompt.len());
            }
            let prompts = prompts(config.vocab_size, &[30, 1, 64]);
            let theirs = generate(&model, &prompts, 24, &mut NoHook);
            let ours = engine.generate(&prompts, 24, &mut NoHook).unwrap();
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!((&ours.ids, ours.stop), (&theirs.ids, theirs.stop), "{name}");
                for (a, b) in ours.certainties.iter().zip(&theirs.certainties) {
                    assert!(f64::from((a.log_prob - b.log_prob).abs()) < EXACT && (a.margin - b.margin).abs() < 2e-4);
                }
            }
            let texts: Vec<Vec<u32>> = prompts.iter().cloned().chain([vec![]]).collect();
            let ids = needle_model::generate::ids_tensor::<Flex>(&texts, &Default::default());
            let theirs = model.retrieval_embedding(ids, &mut needle_model::dropout::Dropout::none()).unwrap();
            let theirs: Vec<f32> = theirs.into_data().to_vec().unwrap();
            let ours = engine.embed(&texts).unwrap().unwrap().concat();
            assert!(max_difference(&ours, &theirs) < EMBEDDING, "{name}");
        }
    }
}

#[test]
fn the_exact_mode_agrees_with_the_golden_model() {
    let dir = tempfile::tempdir().unwrap();
    let config = needle_tests::golden_config();
    // The golden model has more ids than this tokenizer, so only the weights are used.
    let files = artifact(&golden_model::<Flex>(), &config, &tokenizer()).unwrap();
    let weights = files.into_iter().find(|(name, _)| name == "needle.safetensors").unwrap().1;
    drop(dir);
    let engine = Engine::from_bytes(weights, None, &options(true)).unwrap();
    let model = at_precision(golden_model::<Flex>(), Precision::Int4);
    let golden = Golden::open("forward");
    let (src, shape) = golden.values("padded/src");
    let (tgt, tgt_shape) = golden.values("padded/tgt_in");
    let ids = |values: &[f64]| -> Vec<u32> { values.iter().map(|x| *x as u32).take_while(|id| *id != 0).collect() };
    let mut compared = 0;
    for row in 0..shape[0] {
        let prompt = ids(&src[row * shape[1]..(row + 1) * shape[1]]);
        let tokens = ids(&tgt[row * tgt_shape[1]..(row + 1) * tgt_shape[1]]);
        let (ours, theirs) = (engine.logits(&prompt, &tokens).unwrap(), trainer_logits(&model, &prompt, &tokens));
        let difference = max_difference(&ours, &theirs);
        assert!(difference < EXACT, "row {row}: {difference:e}");
        compared += tokens.len();
    }
    assert!(compared > 10, "{compared} positions");
}

#[test]
fn a_checkpoint_is_quantized_to_the_same_codes_as_its_artifact() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    for config in [SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset("tiny").unwrap() }, uneven(300)]
    {
        let config = SanConfig { vocab_size: tokenizer.vocab_size(), ..config };
        let (checkpoint, exported, _) =
            save(&dir.path().join(config.d_model.to_string()), &config, tokenizer.clone(), 2);
        let [one, two] = [checkpoint, exported].map(|path| Engine::open(path).unwrap());
        let prompt = &prompts(config.vocab_size, &[70])[0];
        let tokens = [EOS_ID, 4, 7, 200];
        // If a code or a scale differed, some bit of some logit would differ.
        assert_eq!(bits(&one.logits(prompt, &tokens).unwrap()), bits(&two.logits(prompt, &tokens).unwrap()));
    }
}

#[test]
fn all_instruction_sets_threads_and_pass_widths_give_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let config = uneven(tokenizer.vocab_size());
    let tiny = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset("tiny").unwrap() };
    for (name, config) in [("uneven", config), ("tiny", tiny)] {
        let (_, path, _) = save(&dir.path().join(name), &config, tokenizer.clone(), 3);
        let scalar = Options { threads: 1, exact: false, instructions: Some(InstructionSet::Scalar) };
        let reference = Engine::open_with(&path, &scalar).unwrap();
        let prompts = prompts(config.vocab_size, &[1, 16, 33, 100, 250, 47, 12, 80, 90, 5]);
        let tokens: Vec<u32> = std::iter::once(EOS_ID).chain(prompts[3].iter().copied().take(50)).collect();
        let logits = bits(&reference.logits(&prompts[4], &tokens).unwrap());
        // Each prompt alone.
        let alone: Vec<Generated> = prompts
            .iter()
            .map(|prompt| reference.generate(std::slice::from_ref(prompt), 20, &mut Endless).unwrap().remove(0))
            .collect();
        let vectors = reference.embed(&prompts).unwrap().unwrap().concat();
        for set in InstructionSet::available() {
            for threads in [1, 2, 3] {
                let engine =
                    Engine::open_with(&path, &Options { threads, exact: false, instructions: Some(set) }).unwrap();
                assert_eq!(engine.instructions(), set);
                assert_eq!(bits(&engine.logits(&prompts[4], &tokens).unwrap()), logits, "{set:?}, {threads} threads");
                let together = engine.generate(&prompts, 20, &mut Endless).unwrap();
                assert_eq!(answer_bits(&together), answer_bits(&alone), "{set:?}, {threads} threads");
                // Read once, and answered twice, each time three times over.
                let kept: Vec<KeptPrompt> = prompts.iter().map(|ids| KeptPrompt::new(ids.clone())).collect();
                let thrice: Vec<&KeptPrompt> = kept.iter().chain(&kept).chain(&kept).collect();
                for _ in 0..2 {
                    let answers = engine.generate_kept(&thrice, 20, &mut Endless).unwrap();
                    for answers in answers.chunks(kept.len()) {
                        assert_eq!(answer_bits(answers), answer_bits(&alone), "{set:?}, {threads} threads, kept");
                    }
                }
                assert_eq!(bits(&engine.embed(&prompts).unwrap().unwrap().concat()), bits(&vectors));
            }
        }
    }
}

/// Forbids the end token, because random models end their answers immediately.
struct Endless;

impl StepHook for Endless {
    fn mask(&mut self, _: usize, logits: &mut [f32]) {
        logits[EOS_ID as usize] = f32::NEG_INFINITY;
    }
}

/// Forces two of three tokens, to those that the model has written without the hook.
struct Forced {
    answers: Vec<Generated>,
    written: Vec<usize>,
    has_been_asked: usize,
}

impl StepHook for Forced {
    fn mask(&mut self, row: usize, logits: &mut [f32]) {
        // This is called only for tokens that are not forced.
        assert!(self.written[row].is_multiple_of(3), "row {row} was masked for a forced token");
        assert!(logits.iter().all(|x| x.is_finite()));
        Endless.mask(row, logits);
    }

    fn forced(&mut self, row: usize) -> Vec<u32> {
        self.has_been_asked += 1;
        let answer = &self.answers[row];
        let at = self.written[row];
        let end = at.next_multiple_of(3).min(answer.ids.len());
        let mut forced = answer.ids[at..end].to_vec();
        if end < at.next_multiple_of(3) && answer.certainties.len() > answer.ids.len() {
            forced.push(EOS_ID);
        }
        forced
    }

    fn chosen(&mut self, row: usize, token: u32) {
        assert_eq!(self.answers[row].ids[self.written[row]], token);
        self.written[row] += 1;
    }
}

#[test]
fn forced_tokens_in_one_pass_do_not_change_the_other_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let config = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset("tiny").unwrap() };
    let prompts = prompts(config.vocab_size, &[20, 3, 100, 50, 60]);
    let (_, path, _) = save(dir.path(), &config, tokenizer, 4);
    let engine = Engine::open(path).unwrap();
    let answers = engine.generate(&prompts, 25, &mut Endless).unwrap();
    let mut hook = Forced { answers: answers.clone(), written: vec![0; prompts.len()], has_been_asked: 0 };
    let forced = engine.generate(&prompts, 25, &mut hook).unwrap();
    assert!(hook.has_been_asked > prompts.len());
    for (forced, free) in forced.iter().zip(&answers) {
        assert_eq!((&forced.ids, forced.stop), (&free.ids, free.stop));
        assert_eq!(forced.certainties.len(), free.certainties.len());
        for (i, (a, b)) in forced.certainties.iter().zip(&free.certainties).enumerate() {
            // The first of three tokens was chosen, with the same certainty as without forced
            // tokens.
            assert!(i % 3 != 0 || a == b, "token {i}: {a:?} and {b:?}");
        }
    }
}

/// Drafts the tokens that the model has written without the hook, but with every third one wrong.
struct Drafted {
    answers: Vec<Generated>,
    written: Vec<usize>,
    has_been_wrong: usize,
}

impl StepHook for Drafted {
    fn mask(&mut self, row: usize, logits: &mut [f32]) {
        Endless.mask(row, logits);
    }

    fn draft(&mut self, row: usize) -> Vec<u32> {
        let at = self.written[row];
        let ids = &self.answers[row].ids;
        let draft = |i: usize| if i.is_multiple_of(3) { ids[i] ^ 1 } else { ids[i] };
        self.has_been_wrong += usize::from((at..(at + at % 7).min(ids.len())).any(|i| i.is_multiple_of(3)));
        // Drafts are sometimes empty, and sometimes longer than the rest of the answer.
        (at..(at + at % 7).min(ids.len())).map(draft).chain((at % 2 == 1).then_some(7)).collect()
    }

    fn chosen(&mut self, row: usize, token: u32) {
        assert_eq!(self.answers[row].ids[self.written[row]], token);
        self.written[row] += 1;
    }
}

#[test]
fn right_and_wrong_drafts_do_not_change_answers_or_certainties() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let config = uneven(tokenizer.vocab_size());
    let prompts = prompts(config.vocab_size, &[20, 3, 100, 50, 60]);
    let (_, path, _) = save(dir.path(), &config, tokenizer, 4);
    let engine = Engine::open(path).unwrap();
    let answers = engine.generate(&prompts, 25, &mut Endless).unwrap();
    let mut hook = Drafted { answers: answers.clone(), written: vec![0; prompts.len()], has_been_wrong: 0 };
    let drafted = engine.generate(&prompts, 25, &mut hook).unwrap();
    assert!(hook.has_been_wrong > prompts.len());
    assert_eq!(answer_bits(&drafted), answer_bits(&answers));
}

/// Adds varying values to the logits, with a preference for calls, which a random model would
/// seldom write.
struct Whims<'a> {
    tokenizer: &'a Tokenizer,
    written: Vec<usize>,
}

impl StepHook for Whims<'_> {
    fn mask(&mut self, row: usize, logits: &mut [f32]) {
        let place = row * 1009 + self.written[row] * 9176;
        for (id, logit) in logits.iter_mut().enumerate() {
            let leaning = if self.tokenizer.token_bytes(id as u32).contains(&b'{') { 4.0 } else { 0.0 };
            *logit += ((place + id) * 7919 % 97) as f32 / 16.0 + leaning;
        }
    }

    fn chosen(&mut self, row: usize, _: u32) {
        self.written[row] += 1;
    }
}

/// Constraints with or without their drafts.
struct Passes<'a> {
    constrained: Constrained<'a, Whims<'a>>,
    has_drafts: bool,
    drafted_tokens: usize,
}

impl StepHook for Passes<'_> {
    fn mask(&mut self, row: usize, logits: &mut [f32]) {
        self.constrained.mask(row, logits);
    }

    fn draft(&mut self, row: usize) -> Vec<u32> {
        let draft = if self.has_drafts { self.constrained.draft(row) } else { Vec::new() };
        self.drafted_tokens += draft.len();
        draft
    }

    fn chosen(&mut self, row: usize, token: u32) {
        self.constrained.chosen(row, token);
    }
}

#[test]
fn the_grammar_drafts_forced_tokens_and_answers_stay_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let config = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset("tiny").unwrap() };
    let prompts = prompts(config.vocab_size, &[20, 3, 100, 50, 60, 7, 30, 90, 11, 16]);
    let tools = r#"[{"name": "set_timer", "parameters": {"minutes": {"type": "integer", "required": true},
        "label": {"type": "string"}, "unit": {"enum": ["seconds", "minutes"], "required": true}}}]"#;
    let tools = needle_runtime::tools_from_json(tools).unwrap();
    let constrainer = Constrainer::new(&tokenizer).unwrap();
    let (_, path, _) = save(dir.path(), &config, tokenizer.clone(), 8);
    let engine = Engine::open(path).unwrap();
    let asked = Asked { query: "q", tools: &tools, values: &Values::Free, min_calls: 0, max_calls: 2, max_tokens: 120 };
    let answers = |has_drafts: bool| {
        let rows = prompts.iter().map(|_| constrainer.compile(&asked).unwrap()).collect();
        let mut whims = Whims { tokenizer: &tokenizer, written: vec![0; prompts.len()] };
        let constrained = Constrained { rows, inner: &mut whims };
        let mut passes = Passes { constrained, has_drafts, drafted_tokens: 0 };
        let answers = engine.generate(&prompts, 120, &mut passes).unwrap();
        (answers, passes.drafted_tokens)
    };
    let ((one_by_one, none), (drafted, many)) = (answers(false), answers(true));
    assert_eq!(answer_bits(&drafted), answer_bits(&one_by_one));
    assert!(none == 0 && many > 5 * prompts.len(), "{many} tokens drafted");
    let calls = drafted.iter().filter(|answer| tokenizer.decode(&answer.ids).contains("set_timer")).count();
    assert!(calls > 3, "{calls} of {} answers contain a call", prompts.len());
}

#[test]
fn prompts_that_cannot_be_encoded_are_refused_by_index_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let config = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset("tiny").unwrap() };
    let (_, path, _) = save(dir.path(), &config, tokenizer, 5);
    let engine = Engine::open(path).unwrap();
    let good = vec![9, 8, 7];
    for (bad, reason) in [
        (vec![], "is empty"),
        (vec![5, 0, 5], "padding id 0"),
        (vec![5, 70_000], "contains id 70000"),
        (vec![5; 257], "at most 256"),
    ] {
        let error = engine.generate(&[good.clone(), bad], 4, &mut NoHook).unwrap_err().to_string();
        assert!(error.starts_with("prompt 1: ") && error.contains(reason), "{error}");
    }
    assert!(engine.generate(&[], 4, &mut NoHook).unwrap().is_empty());
    assert!(engine.generate(std::slice::from_ref(&good), 0, &mut NoHook).unwrap()[0].ids.is_empty());
    // A limit beyond the number of positions is lowered to it.
    assert!(engine.generate(&[good], usize::MAX, &mut NoHook).unwrap()[0].ids.len() <= config.max_len());
}

#[test]
fn damaged_files_are_one_clear_error_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let config = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset("tiny").unwrap() };
    let (checkpoint, exported, _) = save(dir.path(), &config, tokenizer, 6);
    let refuse = |path: &Path, what: &str| {
        let error = Engine::open(path).err().unwrap_or_else(|| panic!("{what}: it was opened")).to_string();
        assert!(error.contains(path.file_name().unwrap().to_str().unwrap()), "{what}: {error}");
    };
    refuse(&dir.path().join("missing"), "missing");
    let files = [
        (&checkpoint, vec!["config.json", "model.safetensors", "tokenizer.json"]),
        (&exported, vec!["needle.safetensors", "vocab.txt"]),
    ];
    for (path, names) in files {
        for name in names {
            let whole = std::fs::read(path.join(name)).unwrap();
            for percent in [0, 1, 37, 99] {
                std::fs::write(path.join(name), &whole[..whole.len() * percent / 100]).unwrap();
                refuse(path, &format!("{name} cut to {percent} %"));
            }
            std::fs::remove_file(path.join(name)).unwrap();
            refuse(path, &format!("{name} missing"));
            std::fs::write(path.join(name), whole).unwrap();
        }
        Engine::open(path).unwrap();
    }
    // Invalid headers: sizes beyond the file, overlapping ranges, wrong shapes and types, values
    // that are not finite.
    let name = exported.join("needle.safetensors");
    let whole = std::fs::read(&name).unwrap();
    let header_len = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(whole[8..8 + header_len].to_vec()).unwrap();
    let with_header = |header: &str| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(&whole[8 + header_len..]);
        bytes
    };
    for (from, to) in [
        (r#""num_heads":"4""#, r#""num_heads":"3""#),
        (r#""d_model":"64""#, r#""d_model":"1048576""#),
        (r#""d_model":"64""#, r#""d_model":"18446744073709551615""#),
        (r#""vocab_size":""#, r#""vocab_size":"1"#),
        (r#""num_encoder_layers":"2""#, r#""num_encoder_layers":"1048576""#),
        (r#""num_encoder_layers":"2""#, r#""num_encoder_layers":"3""#),
        (r#""max_enc_len":"256""#, r#""max_enc_len":"1048576""#),
        (r#""max_enc_len":"256""#, r#""max_enc_len":"none""#),
        (r#""rope_theta":"10000.0""#, r#""rope_theta":"-1""#),
        (r#""dtype":"F16""#, r#""dtype":"I16""#),
        (r#""dtype":"BF16""#, r#""dtype":"U16""#),
        (r#""data_offsets":[0,"#, r#""data_offsets":[2,"#),
    ] {
        assert!(header.contains(from), "{from}");
        std::fs::write(&name, with_header(&header.replacen(from, to, 1))).unwrap();
        refuse(&exported, to);
    }
    for byte in [0x7F, 0xFF] {
        let mut bytes = whole.clone();
        bytes[8 + header_len..].fill(byte);
        std::fs::write(&name, bytes).unwrap();
        refuse(&exported, "weights that are not finite");
    }
}
