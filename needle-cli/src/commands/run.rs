//! `needle run`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use needle_data::Tool;
use needle_data::source::Lines;
use serde_json::Value;

use super::{Global, PrecisionArg, print, print_json, read_tools};
use needle_train::needle::{Answer, CallOptions, Needle};

/// Answer queries with tool calls
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle run quickstart/run/last --query \"ten minute timer\" --tools tools.json\n  \
                        cat tools.json | needle run runs/mine/best --query \"call Anna\" --tools - --json\n  \
                        needle run runs/mine/best --input questions.jsonl --tools tools.json > answers.jsonl\n  \
                        needle run runs/mine/best --query \"call Anna\" --tools catalogue.json --abstain-below 0.5"
)]
pub struct RunArgs {
    /// Directory of the checkpoint
    checkpoint: PathBuf,
    /// What is asked
    #[arg(long, required_unless_present = "input", conflicts_with = "input")]
    query: Option<String>,
    /// Many questions, as JSONL with a query a line, and tools where --tools does not name them
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The tools: a file, JSON, or - for stdin; native, JSON Schema, OpenAI or MCP form
    #[arg(long, value_name = "FILE|JSON|-", required_unless_present = "input")]
    tools: Option<String>,
    /// As trained, or as exported
    #[arg(long, value_enum, default_value = "int4")]
    precision: PrecisionArg,
    /// Print a JSON object with calls, confidence, text, tokens and seconds
    #[arg(long)]
    json: bool,
    /// Of a larger catalogue, let the retrieval head pick so many tools
    #[arg(long, value_name = "K", default_value_t = CallOptions::default().top_k)]
    top_k: usize,
    /// Answer [] where the confidence is lower than this
    #[arg(long, value_name = "PROBABILITY")]
    abstain_below: Option<f64>,
    /// Let the model write whatever it wants, also what the tools do not allow
    #[arg(long)]
    unconstrained: bool,
    /// Fail on a prompt longer than the model reads, instead of cutting it
    #[arg(long)]
    strict: bool,
}

impl RunArgs {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<bool> {
        let tools = self.tools.as_deref().map(read_tools).transpose()?;
        let options = CallOptions {
            constrained: !self.unconstrained,
            top_k: self.top_k,
            abstain_below: self.abstain_below,
            strict: self.strict,
            ..CallOptions::default()
        };
        let needle = Needle::load_at(&self.checkpoint, self.precision.into())?.with_options(options)?;
        match (&self.query, &self.input) {
            (Some(query), _) => self.one(&needle, query, &tools.unwrap_or_default()),
            (None, Some(path)) => many(&needle, path, tools.as_deref(), global),
            (None, None) => Ok(true),
        }
    }

    fn one(&self, needle: &Needle, query: &str, tools: &[Tool]) -> anyhow::Result<bool> {
        let streams = !self.json && std::io::stdout().is_terminal();
        let show = |bytes: &[u8]| {
            if streams {
                let mut stdout = std::io::stdout().lock();
                // A terminal that went away is not worth ending the answer for.
                let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
            }
        };
        let answer = needle.call_streaming(query, tools, show)?;
        remark(&answer, needle);
        if self.json {
            print_json(&to_json(&answer))?;
        } else if streams {
            print("")?;
        } else if answer.is_valid {
            print_json(&answer.calls)?;
        } else {
            print(&answer.text)?;
        }
        Ok(answer.is_valid)
    }
}

/// Says what a reader of the answer should know.
fn remark(answer: &Answer, needle: &Needle) {
    if let Some(names) = &answer.picked {
        tracing::info!("the retrieval head picked {} tools: {}", names.len(), names.join(", "));
    }
    if let Some(cut) = &answer.cut {
        tracing::warn!("{cut}");
    }
    if answer.reached_limit {
        tracing::warn!(
            "the answer reached the length limit of {} tokens and is not complete",
            needle.config().max_dec_len
        );
    } else if !answer.is_valid {
        tracing::warn!("the answer is not a list of calls");
    }
    if answer.abstained {
        tracing::info!("abstained: {:.2} sure of {}", answer.confidence.unwrap_or_default(), answer.text);
    }
}

fn to_json(answer: &Answer) -> Value {
    serde_json::json!({
        "calls": answer.calls,
        "confidence": answer.confidence,
        "abstained": answer.abstained,
        "text": answer.text,
        "token_ids": answer.token_ids,
        "tokens": answer.token_ids.len(),
        "tools": answer.picked,
        "cut": answer.cut,
        "seconds": answer.seconds,
    })
}

/// Answers each line of `path`, in order, one JSON object a line.
fn many(needle: &Needle, path: &Path, tools: Option<&[Tool]>, global: &Global) -> anyhow::Result<bool> {
    let questions = questions(path, tools)?;
    let bar = if global.quiet { ProgressBar::hidden() } else { ProgressBar::new(questions.len() as u64) };
    bar.set_style(ProgressStyle::with_template("{bar:24} {pos}/{len} questions [{elapsed} < {eta}]")?);
    let answers = needle.call_batch(&questions, &mut |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    for answer in &answers {
        print_json(&to_json(answer))?;
    }
    for (what, count) in [
        ("prompts were longer than the model reads, and were cut", answers.iter().filter(|a| a.cut.is_some()).count()),
        ("answers reached the length limit and are not complete", answers.iter().filter(|a| a.reached_limit).count()),
        ("answers were withheld", answers.iter().filter(|a| a.abstained).count()),
    ] {
        if count > 0 {
            tracing::warn!("{count} of {} {what}", answers.len());
        }
    }
    Ok(true)
}

fn questions(path: &Path, tools: Option<&[Tool]>) -> anyhow::Result<Vec<(String, Vec<Tool>)>> {
    let mut questions = Vec::new();
    let mut lines = Lines::open(path, Default::default())?;
    while let Some(row) = lines.next_row()? {
        let place = row.place.to_string();
        let text = row.text().map_err(|problem| anyhow::anyhow!("{place}: {problem}"))?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("{place}: not JSON"))?;
        let query = value["query"].as_str().with_context(|| format!("{place}: query: missing, or not a string"))?;
        let own = value.get("tools").map(Tool::list_from_json).transpose();
        let own = own.map_err(|problem| anyhow::anyhow!("{place}: {problem}"))?;
        let offered = tools.map(<[Tool]>::to_vec).or(own);
        let offered = offered.with_context(|| format!("{place}: tools: missing, and there is no --tools"))?;
        questions.push((query.to_owned(), offered));
    }
    anyhow::ensure!(!questions.is_empty(), "{}: no questions", path.display());
    Ok(questions)
}
