//! Compares the fast mode with the exact one on a trained model: the error of the logits, and how
//! many tokens and answers it changes.
//!
//! ```text
//! cargo run --release -p needle-runtime --example numerics -- MODEL_DIR IDS.jsonl
//! ```
//!
//! Each line is `{"prompt": [ids], "answer": [ids]}`. An answer begins with `<tool_call>` and
//! leaves out the end token.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for measuring, not a library")]

use needle_runtime::engine::{Engine, Options};
use needle_runtime::generate::NoHook;

/// Token that begins a decoder's input and ends an answer.
const END: u32 = 1;
/// Maximum number of tokens of an answer.
const MAX_TOKENS: usize = 128;

fn ids(line: &serde_json::Value, key: &str) -> Vec<u32> {
    line[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn best(logits: &[f32]) -> usize {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let open = |exact| Engine::open_with(&arguments[1], &Options { exact, ..Options::default() }).unwrap();
    let (exact, fast) = (open(true), open(false));
    let vocab = exact.config().vocab_size;
    let (mut squares, mut values, mut sum, mut sum_squares) = (0.0_f64, 0_usize, 0.0_f64, 0.0_f64);
    let (mut tokens, mut same_tokens) = (0, 0);
    let (mut prompts, mut answers) = (Vec::new(), Vec::new());
    for line in std::fs::read_to_string(&arguments[2]).unwrap().lines() {
        let line = serde_json::from_str(line).unwrap();
        let (prompt, answer) = (ids(&line, "prompt"), ids(&line, "answer"));
        let input: Vec<u32> = std::iter::once(END).chain(answer.iter().copied()).collect();
        let (a, b) = (exact.logits(&prompt, &input).unwrap(), fast.logits(&prompt, &input).unwrap());
        for (a, b) in a.chunks_exact(vocab).zip(b.chunks_exact(vocab)) {
            tokens += 1;
            same_tokens += usize::from(best(a) == best(b));
        }
        for (a, b) in a.iter().zip(&b) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            squares += (a - b) * (a - b);
            (sum, sum_squares, values) = (sum + a, sum_squares + a * a, values + 1);
        }
        prompts.push(prompt);
        answers.push(answer);
    }
    let n = values as f64;
    let deviation = (sum_squares / n - (sum / n).powi(2)).sqrt();
    println!("rms logit error / standard deviation: {:.5}", (squares / n).sqrt() / deviation);
    println!("same tokens: {same_tokens} of {tokens} ({:.5})", f64::from(same_tokens as u32) / f64::from(tokens));
    let [a, b] = [&exact, &fast].map(|engine| engine.generate(&prompts, MAX_TOKENS, &mut NoHook).unwrap());
    let count = |is: &dyn Fn(usize) -> bool| (0..prompts.len()).filter(|&i| is(i)).count();
    println!("same answers: {} of {}", count(&|i| a[i].ids == b[i].ids), prompts.len());
    println!("exact match: {} exact, {} fast", count(&|i| a[i].ids == answers[i]), count(&|i| b[i].ids == answers[i]));
}
