//! `needle tools`.

use needle_data::Tokenizer;
use needle_data::tokenizer::TokenizerConfig;
use needle_runtime::constrain::copying::Values;
use needle_runtime::constrain::report::{ToolReport, Treatment, reports};
use needle_runtime::constrain::{Asked, Constrainer};

use super::{print, print_json, read_tools};

/// Check tool definitions
#[derive(clap::Subcommand)]
pub enum ToolsCommand {
    Check(CheckArgs),
}

impl ToolsCommand {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        match self {
            Self::Check(args) => args.run(),
        }
    }
}

/// Print for each tool which keywords of its schema are enforced while decoding, which are checked
/// afterwards, which arguments are left out, and which keywords are ignored; fails if a tool can
/// never be called
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  needle tools check tools.json\n  needle tools check mcp_tools_list.json --json")]
pub struct CheckArgs {
    /// The tools: a file, JSON, or - for stdin; native, JSON Schema, OpenAI or MCP form
    tools: String,
    /// Print one JSON object per tool
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    fn run(self) -> anyhow::Result<bool> {
        let tools = read_tools(&self.tools)?;
        let mut all_compile = true;
        // Any vocabulary will do: this only asks whether a grammar exists.
        let config = TokenizerConfig { vocab_size: 300, isolate_spaces: true, join_structure: true };
        let constrainer = Constrainer::new(&Tokenizer::train(&config, ["[]"].iter())?)?;
        for (tool, report) in tools.iter().zip(reports(&tools)) {
            let tools = std::slice::from_ref(tool);
            let asked =
                Asked { query: "", tools, values: &Values::Free, min_calls: 0, max_calls: 1, max_tokens: 1 << 20 };
            let refused = report.refused.clone().or_else(|| match constrainer.compile(&asked) {
                Ok(constraint) if constraint.can_call() => None,
                Ok(_) => Some("no arguments satisfy its schema: it can never be called".to_owned()),
                Err(error) => Some(error.to_string()),
            });
            all_compile &= refused.is_none();
            if self.json {
                print_json(&serde_json::json!({"name": report.name, "keywords": report.keywords, "refused": refused}))?;
            } else {
                print(to_text(&report, refused.as_deref()))?;
            }
        }
        Ok(all_compile)
    }
}

fn to_text(report: &ToolReport, refused: Option<&str>) -> String {
    let mut lines = vec![report.name.clone()];
    lines.extend(refused.map(|reason| format!("  refused: {reason}")));
    let enforced = report.keywords.iter().filter(|line| line.treatment == Treatment::Enforced).count();
    lines.push(format!("  {enforced} of {} keywords are enforced", report.keywords.len()));
    for (treatment, heading) in [
        (Treatment::Checked, "checked after the answer"),
        (Treatment::LeftOut, "left out"),
        (Treatment::Ignored, "ignored"),
    ] {
        for line in report.keywords.iter().filter(|line| line.treatment == treatment) {
            let place = if line.path.is_empty() { "the arguments" } else { &line.path };
            let reason = line.reason.as_deref().unwrap_or_default();
            lines.push(format!("  {heading}: {} of {place}: {reason}", line.keyword));
        }
    }
    lines.join("\n")
}
