//! The report of a run as one self-contained page, without scripts and external resources. The
//! templates escape the teacher's text.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::json;

use crate::run::Collected;
use crate::summary::{Coverage, Summary, cost_text};
use crate::task::Task;
use crate::teacher::StopReason;
use crate::trust::Stage;

/// Number of rejected rows that are shown per reason, and of accepted ones per kind.
const SHOWN_ROWS: usize = 3;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:.5em 0}td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}code{font-size:13px;overflow-wrap:anywhere}\
.short{background:#fbe3d6}.full{background:#e3f1e1}.note{color:#666}\
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}td,th{border-color:#444}.short{background:#5a2d16}.full{background:#1d3b1a}}";

/// Renders the page.
pub fn page(title: &str, tasks: &[Task], collected: &Collected, summary: &Summary) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                (totals(summary))
                h2 { "From answers to rows" }
                (funnel(summary))
                h2 { "Coverage of the plan" }
                p.note { "Accepted of planned rows, by kind of request and tool in focus." }
                (coverage(&summary.coverage))
                h2 { "Values of arguments" }
                (values(summary))
                h2 { "Accepted rows" }
                (accepted(tasks, collected))
                h2 { "Rejected rows" }
                (rejected(collected))
            }
        }
    }
    .into_string()
}

fn totals(summary: &Summary) -> Markup {
    let per_row = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    html! {
        @match &summary.ended {
            Some(StopReason::Stopped) => p.short { "The run was stopped; the same command resumes it." },
            Some(StopReason::Limit) => p.short { "The run ended at its limit of cost or tokens." },
            Some(StopReason::Error(reason)) => p.short { "The run ended: " (reason) },
            None => {},
        }
        table {
            tr { th { "Rows accepted" } td.n { (summary.accepted) " of " (summary.planned) " planned" } }
            tr { th { "Rows rejected" } td.n { (summary.rejected) } }
            tr { th { "Requests of this session" } td.n { (summary.requests) " (" (summary.retries) " repeated)" } }
            tr { th { "Answers paid for before" } td.n { (summary.from_journal) } }
            tr { th { "Tokens and cost" } td.n { (cost_text(&summary.usage, 0)) } }
            tr { th { "Tokens per accepted row" } td.n { (per_row(summary.tokens_per_row, 0)) } }
            tr { th { "Cost per accepted row" } td.n { (per_row(summary.cost_per_row, 6)) } }
            tr { th { "distinct-2 of the queries" } td.n { (format!("{:.3}", summary.distinct_2)) } }
        }
    }
}

fn funnel(summary: &Summary) -> Markup {
    let none = Default::default();
    html! {
        table {
            tr { th { "Stage" } th.n { "Reached" } th.n { "Rejected" } th { "Reasons" } }
            @for stage in Stage::ALL {
                @let reasons = summary.reasons.get(&stage).unwrap_or(&none);
                tr {
                    td { (stage) }
                    td.n { (summary.reached.get(&stage).copied().unwrap_or(0)) }
                    td.n { (reasons.values().sum::<usize>()) }
                    td { @for (code, n) in reasons { (code) " " (n) " " } }
                }
            }
            tr { th { "accepted" } th.n { (summary.accepted) } th {} th {} }
        }
    }
}

fn coverage(cells: &[Coverage]) -> Markup {
    let mut kinds: Vec<_> = cells.iter().map(|cell| cell.kind).collect();
    kinds.dedup();
    let mut tools: Vec<&str> = cells.iter().map(|cell| cell.tool.as_str()).collect();
    tools.sort_unstable();
    tools.dedup();
    html! {
        table {
            tr { th { "Tool" } @for kind in &kinds { th.n { (kind) } } }
            @for tool in &tools {
                tr {
                    td { code { (tool) } }
                    @for kind in &kinds {
                        @match cells.iter().find(|cell| cell.kind == *kind && cell.tool == *tool) {
                            Some(cell) => td.n.short[cell.accepted < cell.planned].full[cell.accepted >= cell.planned] {
                                (cell.accepted) "/" (cell.planned)
                            },
                            None => td.n { "-" },
                        }
                    }
                }
            }
        }
    }
}

fn values(summary: &Summary) -> Markup {
    html! {
        table {
            tr { th { "Argument" } th.n { "Calls" } th.n { "Distinct values" } th { "Most frequent" } }
            @for (argument, values) in &summary.values {
                tr {
                    td { code { (argument) } }
                    td.n { (values.calls) }
                    td.n { (values.distinct) }
                    td { @for (value, n) in &values.top { code { (value) } " × " (n) " " } }
                }
            }
        }
    }
}

fn accepted(tasks: &[Task], collected: &Collected) -> Markup {
    let mut kinds: Vec<_> = tasks.iter().map(|task| task.cell.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    html! {
        table {
            tr { th { "Kind" } th { "Query" } th { "Calls" } }
            @for kind in kinds {
                @for row in collected.accepted.iter().filter(|row| tasks[row.task].cell.kind == kind).take(SHOWN_ROWS) {
                    tr { td { (kind) } td { (row.example.query) } td { code { (json!(row.example.answers)) } } }
                }
            }
        }
    }
}

fn rejected(collected: &Collected) -> Markup {
    let mut codes: Vec<&str> = collected.rejected.iter().map(|row| row.rejection.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    html! {
        table {
            tr { th { "Reason" } th { "Details" } th { "Row" } }
            @for code in codes {
                @for row in collected.rejected.iter().filter(|row| row.rejection.code == code).take(SHOWN_ROWS) {
                    tr { td { (code) } td { (row.rejection.reason) } td { code { (row.row) } } }
                }
            }
        }
    }
}
