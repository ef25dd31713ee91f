//! `needle run`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use needle_data::names::NameMap;
use needle_data::{Encoder, Tokenizer};
use needle_model::fake_quant::at_precision;
use needle_model::generate::{NoHook, StepHook, Stop, generate};

use super::{Global, PrecisionArg, limits, load, print, print_json, read_tools};
use crate::eval::predict::Prediction;

/// Answer one query with tool calls
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle run quickstart/run/last --query \"ten minute timer\" --tools tools.json\n  \
                        cat tools.json | needle run runs/mine/best --query \"call Anna\" --tools - --json"
)]
pub struct RunArgs {
    /// Directory of the checkpoint
    checkpoint: PathBuf,
    /// What is asked
    #[arg(long)]
    query: String,
    /// The tools: a file, JSON, or - for stdin; native, JSON Schema, OpenAI or MCP form
    #[arg(long, value_name = "FILE|JSON|-")]
    tools: String,
    /// As trained, or as exported
    #[arg(long, value_enum, default_value = "int4")]
    precision: PrecisionArg,
    /// Print one JSON object with calls, text, tokens and seconds
    #[arg(long)]
    json: bool,
}

/// Shows tokens as they come.
struct Stream<'a>(&'a Tokenizer);

impl StepHook for Stream<'_> {
    fn chosen(&mut self, _: usize, token: u32) {
        let mut stdout = std::io::stdout().lock();
        // A terminal that went away is not worth ending the answer for.
        let _ = stdout.write_all(&self.0.token_bytes(token)).and_then(|()| stdout.flush());
    }
}

impl RunArgs {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        let tools = read_tools(&self.tools)?;
        anyhow::ensure!(!self.query.trim().is_empty(), "--query is empty");
        let checkpoint = load(&self.checkpoint, global)?;
        let encoder = Encoder::new(&checkpoint.tokenizer, limits(&checkpoint.config))?;
        let (prompt, cut) = encoder.prompt(&self.query, &tools);
        if cut > 0 {
            tracing::warn!(
                "query and tools have {} tokens, the model reads {}: the last {cut} were cut",
                prompt.len() + cut,
                checkpoint.config.max_enc_len
            );
        }
        let model = at_precision(checkpoint.model, self.precision.into());
        let streams = !self.json && std::io::stdout().is_terminal();
        let start = Instant::now();
        let most = checkpoint.config.max_dec_len;
        let answer = if streams {
            generate(&model, &[prompt], most, &mut Stream(&checkpoint.tokenizer)).remove(0)
        } else {
            generate(&model, &[prompt], most, &mut NoHook).remove(0)
        };
        let seconds = start.elapsed().as_secs_f64();
        let answer = Prediction::new(answer, &encoder, &NameMap::of(&tools), cut);
        if answer.stop == Stop::Length {
            tracing::warn!("the answer reached the limit of {most} tokens and is not complete");
        }
        if self.json {
            print_json(&serde_json::json!({
                "calls": answer.calls.as_ref().map_or_else(Vec::new, Clone::clone),
                "text": answer.text,
                "token_ids": answer.token_ids,
                "confidence": null,
                "seconds": seconds,
            }))?;
        } else if streams {
            print("")?;
        } else {
            match &answer.calls {
                Some(calls) => print_json(calls)?,
                None => print(&answer.text)?,
            }
        }
        if answer.calls.is_none() {
            tracing::warn!("the answer is not a list of calls");
        }
        Ok(answer.calls.is_some())
    }
}
