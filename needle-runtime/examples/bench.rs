//! Measures how fast the engine loads, prefills and decodes a model of the published sizes with
//! random weights.
//!
//! ```text
//! cargo run --release -p needle-runtime --example bench -- [--threads N] [--set scalar|avx2|avx-vnni|avx512-vnni] [--repeat N] [--exact true|false]
//! ```

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for measuring, not a library")]

use std::borrow::Cow;
use std::time::Instant;

use needle_runtime::InstructionSet;
use needle_runtime::config::SanConfig;
use needle_runtime::engine::{Engine, Options};
use needle_runtime::error::RuntimeError;
use needle_runtime::file::quantize::GROUP_SIZE;
use needle_runtime::file::source::{Int4Ref, Source};
use needle_runtime::generate::StepHook;

/// Tokens per answer.
const ANSWER: usize = 64;

/// Random weights, about as large as trained ones.
struct Random {
    config: SanConfig,
}

/// A pseudo-random 32-bit number for each index.
fn hash(seed: u32, index: usize) -> u32 {
    let mut x = (index as u32).wrapping_mul(0x9E37_79B9) ^ seed.wrapping_mul(0x85EB_CA6B);
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

impl Source for Random {
    fn config(&self) -> &SanConfig {
        &self.config
    }

    fn bad(&self, reason: String) -> RuntimeError {
        RuntimeError::bad_file("random weights", reason)
    }

    fn projection(&self, name: &str, inputs: usize, outputs: usize) -> Result<Int4Ref<'_>, RuntimeError> {
        let seed = name.bytes().fold(7, |hash: u32, b| hash.wrapping_mul(31).wrapping_add(b.into()));
        let codes = (0..inputs * outputs / 2).map(|i| hash(seed, i) as u8).collect();
        // 0.02 / 7 as f16.
        let scales = std::iter::repeat_n([0xDA, 0x19], inputs / GROUP_SIZE * outputs).flatten().collect();
        Ok(Int4Ref { inputs, outputs, codes: Cow::Owned(codes), scales: Cow::Owned(scales) })
    }

    fn vector(&self, _: &str, len: usize) -> Result<Vec<f32>, RuntimeError> {
        Ok(vec![0.0; len])
    }

    fn dense(&self, _: &str, inputs: usize, outputs: usize) -> Result<Vec<f32>, RuntimeError> {
        Ok((0..inputs * outputs).map(|i| hash(3, i) as f32 / 2f32.powi(36)).collect())
    }

    fn embedding(&self) -> Result<Vec<u16>, RuntimeError> {
        let value = |i: usize| (hash(5, i) as f32 / 2f32.powi(31) - 1.0) * 0.03;
        Ok((0..self.config.vocab_size * self.config.d_model).map(|i| (value(i).to_bits() >> 16) as u16).collect())
    }
}

/// CPU seconds of this thread: what the work takes even while other processes share the core.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes only to `time`.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Measures CPU seconds with one thread, wall-clock seconds with several.
struct Clock {
    start: Instant,
    is_cpu: bool,
}

impl Clock {
    fn now(&self) -> f64 {
        if self.is_cpu { cpu_seconds() } else { self.start.elapsed().as_secs_f64() }
    }
}

/// Forbids the end token, and records when the first token is chosen.
struct Endless<'a> {
    clock: &'a Clock,
    first: Option<f64>,
    /// Number of forced tokens after each chosen one.
    forced: usize,
    /// Whether the last token was chosen rather than forced.
    may_force: bool,
}

impl StepHook for Endless<'_> {
    fn mask(&mut self, _: usize, logits: &mut [f32]) {
        self.first.get_or_insert_with(|| self.clock.now());
        logits[1] = f32::NEG_INFINITY;
        self.may_force = true;
    }

    fn forced(&mut self, _: usize) -> Vec<u32> {
        let count = if std::mem::take(&mut self.may_force) { self.forced } else { 0 };
        vec![77; count]
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut options = Options { threads: 1, ..Options::default() };
    let mut repeat = 9;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap();
        match name.as_str() {
            "--threads" => options.threads = value.parse().unwrap(),
            "--repeat" => repeat = value.parse().unwrap(),
            "--set" => {
                let named = |set: &InstructionSet| format!("{set:?}").to_lowercase() == value.replace('-', "");
                options.instructions = InstructionSet::available().into_iter().find(named);
                assert!(
                    options.instructions.is_some(),
                    "--set {value}: this CPU has {:?}",
                    InstructionSet::available()
                );
            }
            "--exact" => options.exact = value.parse().unwrap(),
            other => panic!("unknown option {other}"),
        }
    }
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown").to_owned();
    let source = Random { config: SanConfig::preset("needle-26m").unwrap() };
    let start = Instant::now();
    let engine = Engine::from_source(&source, None, &options).unwrap();
    let load = start.elapsed().as_secs_f64();
    println!("{cpu}; {:?}; {} threads; created and packed in {load:.2} s", engine.instructions(), options.threads);
    let clock = Clock { start, is_cpu: options.threads == 1 };
    for len in [200, 800] {
        let prompt: Vec<u32> = (0..len).map(|i| 6 + hash(9, i) % 8000).collect();
        for forced in [0, 1] {
            let (mut prefill, mut decode) = (Vec::new(), Vec::new());
            for _ in 0..repeat {
                let mut hook = Endless { clock: &clock, first: None, forced, may_force: false };
                let start = clock.now();
                let answer = engine.generate(std::slice::from_ref(&prompt), ANSWER, &mut hook).unwrap().remove(0);
                let (end, first) = (clock.now(), hook.first.unwrap());
                prefill.push(first - start);
                decode.push((end - first) / (answer.ids.len() - 1) as f64);
            }
            let (prefill, decode) = (median(prefill), median(decode));
            println!(
                "{len} prompt tokens, {forced} forced: first token {:.2} ms ({:.0} prompt tokens/s), next {:.0} us ({:.0} tokens/s)",
                1e3 * prefill,
                len as f64 / prefill,
                1e6 * decode,
                1.0 / decode
            );
        }
    }
    let prompts: Vec<Vec<u32>> = (0..32).map(|row| (0..200).map(|i| 6 + hash(row, i) % 8000).collect()).collect();
    let start = clock.now();
    let mut hook = Endless { clock: &clock, first: None, forced: 0, may_force: false };
    let answers = engine.generate(&prompts, 32, &mut hook).unwrap();
    let seconds = clock.now() - start;
    let tokens: usize = answers.iter().map(|answer| answer.ids.len()).sum();
    println!("32 prompts of 200 tokens, {tokens} tokens of answers: {seconds:.3} s, {:.1} prompts/s", 32.0 / seconds);
}
