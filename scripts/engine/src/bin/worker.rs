//! Answers the questions of scripts/bench/runtimes.py on standard input, one JSON object per line,
//! and reports how long each took:
//!
//! ```text
//! worker MODEL THREADS
//! ```

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for measuring, not a library")]

use std::io::BufRead;
use std::time::Instant;

use needle_runtime::engine::Options;
use needle_runtime::generate::StepHook;
use needle_runtime::{AnswerConfig, Engine, Needle, tools_from_json};
use serde::Deserialize;
use serde_json::json;

/// A question.
#[derive(Deserialize)]
struct Asked {
    query: String,
    /// JSON list of definitions.
    tools: String,
    /// Query and tools as token ids.
    ids: Vec<u32>,
    max_tokens: usize,
    is_constrained: bool,
}

/// Forbids the end of an answer, and records the time of its first token.
struct Endless {
    start: Instant,
    first_s: Option<f64>,
}

impl StepHook for Endless {
    fn mask(&mut self, _: usize, logits: &mut [f32]) {
        self.first_s.get_or_insert_with(|| self.start.elapsed().as_secs_f64());
        logits[1] = f32::NEG_INFINITY;
    }
}

fn main() {
    let [model, threads] = <[String; 2]>::try_from(std::env::args().skip(1).collect::<Vec<_>>()).unwrap();
    let start = Instant::now();
    let options = Options { threads: threads.parse().unwrap(), ..Options::default() };
    // Unconstrained answers only need the engine, constrained ones also the tools' grammar. The
    // first question determines which one's loading is timed.
    let (mut engine, mut needle) = (None, None);
    let lines = std::io::stdin().lock().lines();
    for (index, line) in lines.enumerate() {
        let asked: Asked = serde_json::from_str(&line.unwrap()).unwrap();
        let began = if index == 0 { start } else { Instant::now() };
        let mut load_s = None;
        let answer = if asked.is_constrained {
            let needle: &Needle = needle.get_or_insert_with(|| {
                let config = AnswerConfig { max_tokens: Some(asked.max_tokens), ..AnswerConfig::default() };
                let needle = Needle::load_with(&model, &options).unwrap().with_config(config).unwrap();
                load_s = Some(began.elapsed().as_secs_f64());
                needle
            });
            let tools = tools_from_json(&asked.tools).unwrap();
            let asking = Instant::now();
            let answer = needle.call(&asked.query, &tools).unwrap();
            json!({"seconds": asking.elapsed().as_secs_f64(), "tokens": answer.token_ids.len()})
        } else {
            let engine: &Engine = engine.get_or_insert_with(|| {
                let engine = Engine::open_with(&model, &options).unwrap();
                load_s = Some(began.elapsed().as_secs_f64());
                engine
            });
            let mut hook = Endless { start: Instant::now(), first_s: None };
            let answer = engine.generate(&[asked.ids], asked.max_tokens, &mut hook).unwrap().remove(0);
            json!({"seconds": hook.start.elapsed().as_secs_f64(), "first_s": hook.first_s, "tokens": answer.ids.len()})
        };
        println!("{}", json!({"load_s": load_s, "load_and_answer_s": began.elapsed().as_secs_f64(), "answer": answer}));
    }
}
