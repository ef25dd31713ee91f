//! `needle bench decode`.

use std::path::PathBuf;
use std::time::Instant;

use needle_data::Example;
use needle_data::source::{BadRows, load_examples};
use needle_runtime::constrain::copying::Values;
use needle_runtime::constrain::{Asked, Constrained, Constrainer, Constraint};
use needle_runtime::generate::{Generated, NoHook, StepHook};
use needle_runtime::{AnswerConfig, RuntimeError};
use needle_train::answering;
use needle_train::device::Inference;
use serde::Serialize;

use crate::args::QuietArgs;
use crate::commands::{PrecisionArg, checkpoint_at, print, print_json};

/// Measure answering, one question at a time: prefill, decoding, and the cost of constraints
#[derive(clap::Args)]
#[command(after_help = "Example:\n  needle bench decode runs/mine/best test.jsonl --limit 100")]
pub struct DecodeArgs {
    /// Directory of the checkpoint
    checkpoint: PathBuf,
    /// Examples to take the questions from
    data: PathBuf,
    /// Precision of the weights: as trained, or as exported
    #[arg(long, value_enum, default_value = "int4")]
    precision: PrecisionArg,
    /// Measure only the first N examples
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Print one JSON object
    #[arg(help_heading = "Output", long)]
    json: bool,
    #[command(flatten)]
    quiet: QuietArgs,
}

/// Means over all questions.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Means {
    prompts: usize,
    prompt_tokens: f64,
    answer_tokens: f64,
    /// Prefill and one token.
    first_token_ms: f64,
    prefill_tokens_per_second: f64,
    /// Decoding, without the first token.
    decode_ms_per_token: f64,
    /// Compiling the tools to a grammar, once per answer.
    constraint_compile_ms: f64,
    /// Masking, on top of the model's own time.
    constraint_ms_per_token: f64,
}

/// A hook with the seconds that it has taken.
struct Timed<H>(H, f64);

impl<H: StepHook> StepHook for Timed<H> {
    fn mask(&mut self, row: usize, logits: &mut [f32]) {
        let start = Instant::now();
        self.0.mask(row, logits);
        self.1 += start.elapsed().as_secs_f64();
    }

    fn draft(&mut self, row: usize) -> Vec<u32> {
        let start = Instant::now();
        let draft = self.0.draft(row);
        self.1 += start.elapsed().as_secs_f64();
        draft
    }

    fn chosen(&mut self, row: usize, token: u32) {
        let start = Instant::now();
        self.0.chosen(row, token);
        self.1 += start.elapsed().as_secs_f64();
    }
}

impl DecodeArgs {
    pub(in crate::commands) fn run(self) -> anyhow::Result<bool> {
        let path = checkpoint_at(&self.checkpoint)?;
        let needle = answering::load::<Inference>(&path, self.precision.into(), &Default::default())?;
        let (examples, _) = load_examples(std::slice::from_ref(&self.data), BadRows::Fail)?;
        let examples: Vec<Example> = examples.into_iter().take(self.limit).collect();
        anyhow::ensure!(!examples.is_empty(), "{}: no examples", self.data.display());
        let (encoder, constrainer) = (needle.encoder(), Constrainer::new(needle.tokenizer())?);
        let most = needle.model_config().max_dec_len;
        // Returns the answer to one prompt, and the seconds that it took.
        let generate = |prompt: &[Vec<u32>], max_tokens: usize, hook: &mut dyn StepHook| {
            let start = Instant::now();
            let answer: Generated = needle.network().generate(prompt, max_tokens, hook)?.remove(0);
            Ok::<_, RuntimeError>((answer, start.elapsed().as_secs_f64()))
        };
        let mut sums = Means::default();
        let (mut first, mut rest, mut masks, mut compile) = (0.0, 0.0, 0.0, 0.0);
        let mut constrained_tokens = 0;
        for (i, example) in std::iter::once(&examples[0]).chain(&examples).enumerate() {
            let (prompt, _) = encoder.prompt(&example.query, &example.tools);
            let prompt_tokens = prompt.len();
            let prompts = [prompt];
            let (_, to_first) = generate(&prompts, 1, &mut NoHook)?;
            let (free, whole) = generate(&prompts, most, &mut NoHook)?;
            let tokens = free.certainties.len();
            let start = Instant::now();
            let Example { query, tools, .. } = example;
            let AnswerConfig { min_calls, max_calls, .. } = AnswerConfig::default();
            let asked = Asked { query, tools, values: &Values::Free, min_calls, max_calls, max_tokens: most };
            let rows: Vec<Constraint> = vec![constrainer.compile(&asked)?];
            let compiling = start.elapsed().as_secs_f64();
            let mut timed = Timed(Constrained { rows, inner: &mut NoHook }, 0.0);
            let (answer, _) = generate(&prompts, most, &mut timed)?;
            // The first question is asked twice, the first time only to warm up.
            if i == 0 {
                continue;
            }
            sums.prompts += 1;
            sums.prompt_tokens += prompt_tokens as f64;
            sums.answer_tokens += tokens as f64;
            first += to_first;
            rest += (whole - to_first).max(0.0);
            masks += timed.1;
            compile += compiling;
            constrained_tokens += answer.certainties.len();
        }
        let n = sums.prompts as f64;
        let means = Means {
            prompts: sums.prompts,
            prompt_tokens: sums.prompt_tokens / n,
            answer_tokens: sums.answer_tokens / n,
            first_token_ms: 1e3 * first / n,
            prefill_tokens_per_second: sums.prompt_tokens / first.max(1e-9),
            decode_ms_per_token: 1e3 * rest / (sums.answer_tokens - n).max(1.0),
            constraint_compile_ms: 1e3 * compile / n,
            constraint_ms_per_token: 1e3 * masks
                / f64::from(u32::try_from(constrained_tokens).unwrap_or(u32::MAX)).max(1.0),
        };
        if self.json {
            return print_json(&means).map(|()| true);
        }
        print(format_args!(
            "{} questions of {:.0} tokens, answers of {:.0}\nfirst token        {:>9.2} ms  ({:.0} prompt tokens/s)\nnext tokens        \
             {:>9.3} ms each\nconstraint, compile{:>9.2} ms per answer\nconstraint, masks  {:>9.3} ms per token",
            means.prompts,
            means.prompt_tokens,
            means.answer_tokens,
            means.first_token_ms,
            means.prefill_tokens_per_second,
            means.decode_ms_per_token,
            means.constraint_compile_ms,
            means.constraint_ms_per_token
        ))?;
        Ok(true)
    }
}
