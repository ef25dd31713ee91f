//! `needle run`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::ProgressStyle;
use needle_data::Tool;
use needle_data::source::Lines;
use needle_runtime::constrain::report::{Treatment, reports};
use needle_runtime::{Answer, AnswerConfig, Needle, RuntimeError};
use serde_json::Value;

use super::{PrecisionArg, ValuesArg, checkpoint_or_shipped, needle_at, print_json, read_tools};
use crate::args::{QuietArgs, VerboseArgs};

/// Answer queries with tool calls
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  needle run quickstart/best --query \"ten minute timer\" --tools tools.json\n  \
                        cat tools.json | needle run runs/mine/best --query \"call Anna\" --tools - --json\n  \
                        needle run runs/mine/best --input questions.jsonl --tools tools.json > answers.jsonl\n  \
                        needle run runs/mine/best --query \"call Anna\" --tools catalogue.json --abstain-below 0.5")]
pub struct RunArgs {
    /// Directory of the checkpoint; by default models/needle-mini
    checkpoint: Option<PathBuf>,
    /// The user's request
    #[arg(long, help_heading = "Question", required_unless_present = "input", conflicts_with = "input")]
    query: Option<String>,
    /// Many questions, as JSONL: each line has a query, and its tools if --tools is not given
    #[arg(long, help_heading = "Question", value_name = "FILE")]
    input: Option<PathBuf>,
    /// The tools: a file, JSON, or - for stdin; native, JSON Schema, OpenAI or MCP form
    #[arg(long, help_heading = "Question", value_name = "FILE|JSON|-", required_unless_present = "input")]
    tools: Option<String>,
    /// Let the retrieval head pick K tools where --tools has more
    #[arg(long, help_heading = "Question", value_name = "K", default_value_t = AnswerConfig::default().top_k)]
    top_k: usize,
    /// Fail on a prompt longer than the model reads, instead of cutting it
    #[arg(long, help_heading = "Question")]
    strict: bool,
    /// Precision of the weights: as trained, or as exported
    #[arg(long, help_heading = "Answer", value_enum, default_value_t)]
    precision: PrecisionArg,
    /// Compute activations in f32 instead of INT8, as needle-rs does; slower
    #[arg(long, help_heading = "Answer")]
    exact: bool,
    /// Decode without constraints, so that an answer may break the schemas of the tools
    #[arg(long, help_heading = "Answer")]
    unconstrained: bool,
    /// Which strings must be words of the query, besides those of parameters with "x-from-query":
    /// none (free), all (copied), or those that were always copied in training (auto)
    #[arg(long, help_heading = "Answer", value_enum, default_value_t)]
    values: ValuesArg,
    /// Compare the greedy answer with up to N others that are nearly as probable and up to N
    /// revisions, and take the one that fits the request best; 0 takes the greedy answer, and shows
    /// it as it is written
    #[arg(long, help_heading = "Answer", value_name = "N", default_value_t = AnswerConfig::default().candidates)]
    candidates: usize,
    /// Weight of the retrieval head in choosing a tool: 0 ignores it, 1 counts it as much as the
    /// decoder
    #[arg(long, help_heading = "Answer", value_name = "WEIGHT", default_value_t = AnswerConfig::default().retrieval_weight)]
    retrieval_weight: f32,
    /// Answer [] if the confidence is below this; answers are then not streamed
    #[arg(long, help_heading = "Answer", value_name = "PROBABILITY")]
    abstain_below: Option<f64>,
    /// Print a JSON object with calls, confidence, text, tokens and seconds
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    verbose: VerboseArgs,
    #[command(flatten)]
    quiet: QuietArgs,
}

impl RunArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let tools = self.tools.as_deref().map(read_tools).transpose()?;
        let config = AnswerConfig {
            constrained: !self.unconstrained,
            values: self.values.into(),
            top_k: self.top_k,
            candidates: self.candidates,
            retrieval_weight: self.retrieval_weight,
            abstain_below: self.abstain_below,
            strict: self.strict,
            ..AnswerConfig::default()
        };
        let path = checkpoint_or_shipped(self.checkpoint.as_deref())?;
        let needle = needle_at(&path, self.precision, self.exact)?;
        let needle = needle.with_config(config)?;
        match (&self.query, &self.input) {
            (Some(query), _) => self.one(&needle, query, &tools.unwrap_or_default()),
            (None, Some(path)) => many(&needle, path, tools.as_deref(), &self.quiet),
            (None, None) => Ok(true),
        }
    }

    fn one(&self, needle: &Needle, query: &str, tools: &[Tool]) -> anyhow::Result<bool> {
        let mut stdout = std::io::stdout().lock();
        let form = match (self.json, stdout.is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Streamed,
            (false, false) => Form::Calls,
        };
        let answer = show(&mut stdout, form, tools, |on_bytes| needle.call_streaming(query, tools, on_bytes))?;
        remark(&answer);
        Ok(answer.is_complete && answer.violations.is_empty())
    }
}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// An object with everything.
    Json,
    /// The calls, once the answer is complete.
    Calls,
    /// The answer while it is decoded.
    Streamed,
}

/// Writes the answer of `ask` to `out`, and ends its line before anything else is printed, an error
/// included.
fn show(
    out: &mut impl Write,
    form: Form,
    tools: &[Tool],
    ask: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<Answer, RuntimeError>,
) -> anyhow::Result<Answer> {
    let mut is_in_line = false;
    let answer = ask(&mut |bytes| {
        if form == Form::Streamed && !bytes.is_empty() {
            // Do not stop decoding because the terminal is gone.
            let _ = out.write_all(bytes).and_then(|()| out.flush());
            is_in_line = true;
        }
    });
    if is_in_line {
        writeln!(out).context("stdout")?;
    }
    let answer = answer?;
    match form {
        Form::Json => writeln!(out, "{}", to_json(&answer, tools)).context("stdout")?,
        Form::Calls if answer.is_complete => {
            writeln!(out, "{}", serde_json::to_string(&answer.calls)?).context("stdout")?
        }
        Form::Calls => writeln!(out, "{}", answer.text).context("stdout")?,
        Form::Streamed => {}
    }
    Ok(answer)
}

/// Logs what a reader of the answer should know.
fn remark(answer: &Answer) {
    if let Some(names) = &answer.picked {
        tracing::info!("the retrieval head picked {} tools: {}", names.len(), names.join(", "));
    }
    if let Some(cut) = &answer.cut {
        tracing::warn!("{cut}");
    }
    if let Some(reason) = answer.incomplete_because() {
        tracing::error!("the answer is not complete: {reason}");
    }
    for violation in &answer.violations {
        tracing::error!("the answer is not valid: {violation}");
    }
    if answer.abstained {
        tracing::info!("abstained: confidence {:.2} in {}", answer.confidence.unwrap_or_default(), answer.text);
    }
}

fn to_json(answer: &Answer, tools: &[Tool]) -> Value {
    let mut not_enforced = reports(tools);
    for tool in &mut not_enforced {
        tool.keywords.retain(|line| line.treatment != Treatment::Enforced);
    }
    not_enforced.retain(|tool| tool.refused.is_some() || !tool.keywords.is_empty());
    serde_json::json!({
        "calls": answer.calls,
        "complete": answer.is_complete,
        "valid": answer.is_complete && answer.violations.is_empty(),
        "violations": answer.violations,
        "grounding": answer.groundings,
        "not_enforced": not_enforced,
        "confidence": answer.confidence,
        "confidence_fitted_on": answer.confidence_fitted_on,
        "abstained": answer.abstained,
        "text": answer.text,
        "token_ids": answer.token_ids,
        "tokens": answer.token_ids.len(),
        "tools": answer.picked,
        "cut": answer.cut,
        "seconds": answer.seconds,
    })
}

/// Answers each line of `path`, in order, with one JSON object per line.
fn many(needle: &Needle, path: &Path, tools: Option<&[Tool]>, quiet: &QuietArgs) -> anyhow::Result<bool> {
    let questions = questions(path, tools)?;
    let bar = quiet.progress(Some(questions.len()));
    bar.set_style(ProgressStyle::with_template("{bar:24} {pos}/{len} questions [{elapsed} < {eta}]")?);
    let answers = needle.call_batch(&questions, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    for (answer, (_, tools)) in answers.iter().zip(&questions) {
        print_json(&to_json(answer, tools))?;
    }
    let count = |is: &dyn Fn(&Answer) -> bool| answers.iter().filter(|answer| is(answer)).count();
    let (cut, abstained) = (count(&|a| a.cut.is_some()), count(&|a| a.abstained));
    let incomplete = count(&|a| !a.is_complete);
    if cut > 0 {
        tracing::warn!("{cut} of {} prompts were longer than the model reads, and were cut", answers.len());
    }
    if abstained > 0 {
        tracing::warn!("{abstained} of {} answers were withheld", answers.len());
    }
    if incomplete > 0 {
        let at_limit = count(&|a| !a.is_complete && a.reached_limit);
        tracing::error!(
            "{incomplete} of {} answers are not complete (\"complete\": false): {at_limit} reached the length limit, {} are not a \
             list of calls",
            answers.len(),
            incomplete - at_limit
        );
    }
    let invalid = count(&|a| !a.violations.is_empty());
    if invalid > 0 {
        tracing::error!("{invalid} of {} answers break the schemas of their tools (\"valid\": false)", answers.len());
    }
    Ok(incomplete == 0 && invalid == 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(is_complete: bool) -> Answer {
        Answer {
            calls: Vec::new(),
            text: "[".into(),
            token_ids: vec![4],
            confidence: None,
            confidence_fitted_on: None,
            abstained: false,
            is_complete,
            reached_limit: !is_complete,
            cut: None,
            picked: None,
            seconds: 0.1,
            violations: Vec::new(),
            groundings: Vec::new(),
        }
    }

    fn shown(form: Form, streamed: &[&str], answer: Result<Answer, RuntimeError>) -> String {
        let mut out = Vec::new();
        let _ = show(&mut out, form, &[], |on_bytes| {
            streamed.iter().for_each(|text| on_bytes(text.as_bytes()));
            answer
        });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_said_of_a_streamed_answer_begins_on_a_line_of_its_own() {
        assert_eq!(shown(Form::Streamed, &["[", "", "]"], Ok(answer(true))), "[]\n");
        assert_eq!(shown(Form::Streamed, &["[{"], Err(RuntimeError::Tools("gone".into()))), "[{\n");
        assert_eq!(shown(Form::Streamed, &[], Err(RuntimeError::Tools("gone".into()))), "");
        assert_eq!(shown(Form::Calls, &["[", "]"], Ok(answer(true))), "[]\n");
    }

    #[test]
    fn an_incomplete_answer_is_not_shown_as_nothing_to_call() {
        assert_eq!(shown(Form::Calls, &["["], Ok(answer(false))), "[\n");
        let json: Value = serde_json::from_str(&shown(Form::Json, &["["], Ok(answer(false)))).unwrap();
        assert_eq!((&json["complete"], &json["calls"]), (&Value::from(false), &serde_json::json!([])));
        assert!(answer(false).incomplete_because().unwrap().contains("length limit of 1 tokens"));
    }
}
