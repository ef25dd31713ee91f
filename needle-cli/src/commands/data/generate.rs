//! `needle data generate`.

use std::path::PathBuf;

use needle_teacher::session::Inventing;

use super::teacher::TeacherArgs;
use crate::commands::read_tools;

/// Let a large model write examples for your tools, and check every row
///
/// Next to OUT.jsonl it writes OUT.plan.json, OUT.journal, OUT.rejected.jsonl and OUT.report.html.
/// The same command continues a run that was stopped or killed, without paying for an answer twice;
/// a larger --count adds rows.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  needle data generate --tools tools.json --endpoint http://localhost:8000/v1 --model qwen3-32b --count 600 \
                  --out mine.jsonl --dry-run\n  needle data generate --tools tools.json --endpoint https://llm.example/v1 --model large \
                  --api-key-env LLM_KEY --count 600 --out mine.jsonl --input-price 0.5 --output-price 2 --max-cost 5\n  needle data \
                  generate --invent 20 --domain \"a hotel room\" --endpoint http://localhost:8000/v1 --model large --count 2000 --out \
                  hotel.jsonl"
)]
pub struct GenerateArgs {
    /// Tools: a file, JSON, or - for stdin
    #[arg(help_heading = "Rows", long, value_name = "FILE|JSON", required_unless_present = "invent")]
    tools: Option<String>,
    /// First ask for N new tools for --domain
    #[arg(help_heading = "Rows", long, value_name = "N", requires = "domain")]
    invent: Option<usize>,
    /// What the new tools are about, in words
    #[arg(help_heading = "Rows", long, value_name = "TEXT", requires = "invent")]
    domain: Option<String>,
    /// Number of rows
    #[arg(help_heading = "Rows", long, value_name = "N")]
    count: usize,
    /// File to write the rows to
    #[arg(help_heading = "Rows", long, value_name = "OUT.jsonl")]
    out: PathBuf,
    #[command(flatten)]
    teacher: TeacherArgs,
}

impl GenerateArgs {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let tools = self.tools.as_deref().map(read_tools).transpose()?.unwrap_or_default();
        let inventing = self.invent.zip(self.domain).map(|(count, domain)| Inventing { domain, count });
        let session = self.teacher.session(self.out)?;
        let planned = session.generate(tools, inventing.as_ref(), self.count)?;
        self.teacher.run(planned)
    }
}
