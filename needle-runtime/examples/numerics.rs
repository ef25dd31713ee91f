//! Compares the fast mode with the exact one (activations, keys, values and embedding in f32) on a
//! trained model: the error of the logits, and how many tokens and answers it changes.
//!
//! ```text
//! cargo run --release -p needle-runtime --example numerics -- MODEL_DIR EXAMPLES.jsonl [LIMIT]
//! ```
//!
//! Logits are compared at each token of the expected answers, answers as `needle eval` has them.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for measuring, not a library")]

use needle_data::source::{BadRows, load_examples};
use needle_runtime::engine::{Engine, Options};
use needle_runtime::{AnswerConfig, Needle, Question};

/// Threads that compare logits.
const THREADS: usize = 2;

fn best(logits: &[f32]) -> usize {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

/// Sums over logits and tokens.
#[derive(Default)]
struct Sums {
    tokens: usize,
    same_tokens: usize,
    values: f64,
    errors: f64,
    logits: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, exact: &[f32], fast: &[f32]) {
        self.tokens += 1;
        self.same_tokens += usize::from(best(exact) == best(fast));
        for (exact, fast) in exact.iter().zip(fast) {
            let (exact, fast) = (f64::from(*exact), f64::from(*fast));
            self.errors += (exact - fast).powi(2);
            self.logits += exact;
            self.squares += exact * exact;
        }
        self.values += exact.len() as f64;
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (dir, file) = (&arguments[1], &arguments[2]);
    let limit = arguments.get(3).map_or(1000, |limit| limit.parse().unwrap());
    let (mut examples, _) = load_examples(&[file], BadRows::Fail).unwrap();
    examples.truncate(limit);

    let options = |exact| Options { exact, threads: THREADS, ..Options::default() };
    let [exact, fast] = [true, false].map(|exact| Engine::open_with(dir, &options(exact)).unwrap());
    let needles = [true, false].map(|exact| {
        let needle = Needle::load_with(dir, &options(exact)).unwrap();
        needle.with_config(AnswerConfig::default()).unwrap()
    });
    let encoder = needles[0].encoder();
    let vocab = exact.config().vocab_size;
    let mut sums = Sums::default();
    for example in &examples {
        let Ok(encoded) = encoder.encode(example, None) else { continue };
        let input: Vec<u32> = encoded.dec_input().collect();
        let logits = [&exact, &fast].map(|engine| engine.logits(&encoded.enc_ids, &input).unwrap());
        for (exact, fast) in logits[0].chunks_exact(vocab).zip(logits[1].chunks_exact(vocab)) {
            sums.add(exact, fast);
        }
    }
    let deviation = (sums.squares / sums.values - (sums.logits / sums.values).powi(2)).sqrt();
    let share = |part: usize, all: usize| part as f64 / all as f64;
    println!("rms logit error / standard deviation: {:.5}", (sums.errors / sums.values).sqrt() / deviation);
    println!("same tokens: {} of {} ({:.5})", sums.same_tokens, sums.tokens, share(sums.same_tokens, sums.tokens));

    let questions: Vec<Question> = examples.iter().map(|e| Question { query: &e.query, tools: &e.tools }).collect();
    let [exact, fast] = needles.map(|needle| needle.predict(&questions, &mut |_| ()).unwrap());
    let same = exact.iter().zip(&fast).filter(|(exact, fast)| exact.text == fast.text).count();
    println!("same answers: {same} of {} ({:.4})", examples.len(), share(same, examples.len()));
    let [exact, fast] = [exact, fast].map(|answers| {
        let right =
            answers.iter().zip(&examples).filter(|(answer, e)| answer.calls.as_ref() == Some(&e.answers)).count();
        share(right, examples.len())
    });
    println!("exact match: {exact:.4} exact, {fast:.4} fast");
}
