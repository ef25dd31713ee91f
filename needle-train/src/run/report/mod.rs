//! One run, or several side by side, as one self-contained HTML page: curves, sample answers,
//! recipe and machine.
//!
//! Everything comes from the run's directory (`metrics.jsonl`, `predictions.jsonl`, `recipe.toml`),
//! so a page can show a run that has ended, or one that is still running elsewhere. Curves are SVG;
//! the page runs no script and loads nothing.

mod chart;
mod record;

use std::collections::BTreeMap;
use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use needle_data::file;
use serde_json::Value;

use crate::error::TrainError;
use crate::run::directory::RunDir;
use chart::{Chart, Curve};
use record::Record;

/// Writes the page of `runs` to `path`.
///
/// # Errors
/// If a run has no readable metrics, or the page cannot be written.
pub fn write(runs: &[RunDir], path: &Path) -> Result<(), TrainError> {
    let mut records: Vec<Record> = runs.iter().map(Record::new).collect();
    records.iter_mut().try_for_each(Record::refresh)?;
    Ok(file::write_atomically(path, page(&records).as_bytes())?)
}

/// The page of a running run: each write reads only what the run has logged since the last one.
pub struct LiveReport {
    record: Record,
    run: RunDir,
}

impl LiveReport {
    /// The page of `run`, not written yet.
    pub fn new(run: &RunDir) -> Self {
        Self { record: Record::new(run), run: run.clone() }
    }

    /// Writes the page as the run stands now.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn write(&mut self) -> Result<(), TrainError> {
        self.record.refresh()?;
        let page = page(std::slice::from_ref(&self.record));
        Ok(file::write_atomically(&self.run.report(), page.as_bytes())?)
    }
}

/// A chart and its curves for each run.
struct ChartSpec {
    title: &'static str,
    /// Whether its curves vary from step to step.
    is_noisy: bool,
    curves: &'static [CurveSpec],
}

/// A curve: its name in the legend, and the event and key of `metrics.jsonl` that it draws.
struct CurveSpec {
    name: &'static str,
    event: &'static str,
    key: &'static str,
}

const fn curve(name: &'static str, event: &'static str, key: &'static str) -> CurveSpec {
    CurveSpec { name, event, key }
}

const CHARTS: [ChartSpec; 8] = [
    ChartSpec { title: "Training loss (cross-entropy)", is_noisy: true, curves: &[curve("", "step", "cross_entropy")] },
    ChartSpec {
        title: "Validation loss",
        is_noisy: false,
        curves: &[
            curve("f32", "validation_loss", "validation_loss_f32"),
            curve("int4", "validation_loss", "validation_loss_int4"),
        ],
    },
    ChartSpec {
        title: "Validation, INT4",
        is_noisy: false,
        curves: &[
            curve("exact match", "validation.int4", "exact_match"),
            curve("call F1", "validation.int4", "call_f1"),
        ],
    },
    ChartSpec { title: "Alignment loss", is_noisy: true, curves: &[curve("", "step", "alignment")] },
    ChartSpec { title: "Contrastive loss", is_noisy: true, curves: &[curve("", "step", "contrastive")] },
    ChartSpec { title: "Gradient norm before the clip", is_noisy: true, curves: &[curve("", "step", "gradient_norm")] },
    ChartSpec {
        title: "Learning rates",
        is_noisy: false,
        curves: &[curve("Muon", "step", "muon_lr"), curve("AdamW", "step", "adamw_lr")],
    },
    ChartSpec { title: "Throughput (tokens/s)", is_noisy: true, curves: &[curve("", "step", "tokens_per_second")] },
];

fn page(runs: &[Record]) -> String {
    let title = runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let page = html! {
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
                @for run in runs { (comparison(run)) }
                (results(runs))
                .charts {
                    @for spec in &CHARTS { (chart(spec, runs).svg()) }
                }
                @for run in runs { (answers(run)) }
                @for run in runs {
                    details {
                        summary { "Recipe of " (run.name) }
                        pre { (run.recipe()) }
                    }
                }
                p.quiet { (machine()) }
            }
        }
    };
    page.into_string()
}

/// The curves of `spec` in all runs.
fn chart(spec: &ChartSpec, runs: &[Record]) -> Chart {
    let mut chart = Chart::new(spec.title);
    for run in runs {
        for curve in spec.curves {
            let Some(points) = run.curve(curve.event, curve.key) else { continue };
            let name = match (runs.len(), curve.name) {
                (1, name) => name.to_owned(),
                (_, "") => run.name.clone(),
                (_, name) => format!("{} {name}", run.name),
            };
            chart.add(Curve { name, points, is_noisy: spec.is_noisy });
        }
    }
    chart
}

/// Keys and labels of the metrics.
const METRICS: [(&str, &str); 9] = [
    ("exact_match", "exact match"),
    ("call_f1", "call F1"),
    ("name_f1", "name F1"),
    ("value_accuracy", "value accuracy"),
    ("parse_rate", "JSON parse rate"),
    ("no_tool_precision", "no-tool precision"),
    ("no_tool_recall", "no-tool recall"),
    ("recall_at_1", "retrieval recall@1"),
    ("recall_at_5", "retrieval recall@5"),
];

/// Largest number of rows in a list; for a longer one, the page says where the rest is.
const SHOWN: usize = 200;
/// Number of right answers shown as samples, after the wrong ones.
const RIGHT_SHOWN: usize = 10;

/// A finetune's comparison of base and tuned model on the test part: by metric, tool and kind of
/// mistake, with the examples that changed.
fn comparison(run: &Record) -> Markup {
    let Some(compared) = run.comparison() else { return html! {} };
    let after = &compared["after"];
    let is_constrained = after["constrained"].as_bool() == Some(true);
    let rows = |key: &str| compared[key].as_object().into_iter().flatten();
    let metrics = METRICS.iter().filter(|(key, _)| after[key].is_number());
    let metrics = metrics.map(|(key, label)| ((*label).to_owned(), &compared["before"][key], &after[key]));
    let by_tool = rows("by_tool").map(|(tool, both)| {
        let name = format!("{tool} (n = {})", both["after"]["n"]);
        (name, &both["before"]["exact_match"], &both["after"]["exact_match"])
    });
    let mistakes = rows("mistakes").map(|(kind, both)| (kind.replace('_', " "), &both["before"], &both["after"]));
    let listed = |key: &str| compared[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let failures = listed("failures");
    html! {
        h2 { (run.name) ": base against tuned, on " (after["n"]) " test examples" }
        p {
            "At " (plain(&after["precision"]).to_uppercase()) ", "
            @if is_constrained { "constrained to the offered tools, as it ships" }
            @else { "not constrained to the offered tools" }
            "."
        }
        (before_and_after("", metrics))
        (before_and_after("exact match by tool", by_tool))
        (before_and_after("mistakes", mistakes))
        @if !failures.is_empty() {
            h3 { "Wrong on the test part, worst first: " (counted(failures.len(), "report.json")) }
            (list(["query", "expected", "answered", "what is wrong"], "wrong", failures.iter().map(|failure| {
                let wrong = html! {
                    (plain(&failure["wrong"]))
                    @if let Some(sure) = failure["confidence"].as_f64() { (format!(" (confidence {sure:.2})")) }
                };
                [text(&failure["query"]), code(&failure["expected"]), code(&failure["predicted"]), wrong]
            })))
        }
        @for (key, title) in [("mended", "Wrong before, right now"), ("broken", "Right before, wrong now")] {
            @let changes = listed(key);
            @if !changes.is_empty() {
                h3 { (title) ": " (counted(changes.len(), "report.json")) }
                (list(["query", "expected", "base", "tuned"], "", changes.iter().map(|change| {
                    let [expected, before, after] = ["expected", "before", "after"].map(|key| code(&change[key]));
                    [text(&change["query"]), expected, before, after]
                })))
            }
        }
        @for warning in listed("warnings").iter().filter_map(Value::as_str) {
            p.quiet { (warning) }
        }
        h2 { "Training" }
    }
}

/// A table of figures of the base and of the tuned model.
fn before_and_after<'a>(title: &str, rows: impl Iterator<Item = (String, &'a Value, &'a Value)>) -> Markup {
    let number = |value: &Value| match (value.as_u64(), value.as_f64()) {
        (Some(count), _) => count.to_string(),
        (None, Some(value)) => format!("{value:.3}"),
        (None, None) => "-".to_owned(),
    };
    html! {
        table {
            tr { th { (title) } th { "base" } th { "tuned" } }
            @for (name, before, after) in rows {
                tr { td { (name) } td.number { (number(before)) } td.number { (number(after)) } }
            }
        }
    }
}

/// The number `all`, and where to find the rest if the list shows fewer.
fn counted(all: usize, file: &str) -> String {
    if all > SHOWN { format!("{all} ({SHOWN} shown, all are in {file})") } else { all.to_string() }
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn text(value: &Value) -> Markup {
    html! { (plain(value)) }
}

/// A value as code: JSON, or the text that a model wrote.
fn code(value: &Value) -> Markup {
    html! {
        code {
            @match value.as_str() {
                Some(text) => (text),
                None => (value),
            }
        }
    }
}

/// The first [`SHOWN`] rows as a table; `class` sets the style of the last column.
fn list<const N: usize>(heads: [&str; N], class: &str, rows: impl Iterator<Item = [Markup; N]>) -> Markup {
    html! {
        table.answers {
            tr { @for head in heads { th { (head) } } }
            @for row in rows.take(SHOWN) {
                tr class=(class) { @for cell in row { td { (cell) } } }
            }
        }
    }
}

/// The last scores as a table, with one column per run and precision.
fn results(runs: &[Record]) -> Markup {
    let columns: Vec<(&Record, &str, &Value)> = runs
        .iter()
        .flat_map(|run| run.scores.iter().map(move |(kind, score)| (run, kind, score)))
        .map(|(run, kind, score)| (run, kind.rsplit('.').next().unwrap_or_default(), score))
        .collect();
    let is_measured = |key: &str| columns.iter().any(|(_, _, score)| !score[key].is_null());
    html! {
        table {
            tr {
                th {}
                @for (run, precision, score) in &columns {
                    th {
                        @if runs.len() > 1 { (run.name) " " }
                        (precision) br; small { "n = " (score["n"]) }
                    }
                }
            }
            @if !columns.is_empty() {
                tr {
                    td { "constrained to tools" }
                    @for (_, _, score) in &columns {
                        td.number { (score["constrained"].as_bool().map_or("-", |is| if is { "yes" } else { "no" })) }
                    }
                }
            }
            @for (key, label) in METRICS.iter().filter(|(key, _)| is_measured(key)) {
                tr {
                    td { (label) }
                    @for (_, _, score) in &columns {
                        td.number { (score[key].as_f64().map_or("-".to_owned(), |value| format!("{value:.3}"))) }
                    }
                }
            }
        }
        @for run in runs.iter().filter(|run| run.skipped > 0) {
            p { (run.name) ": " (run.skipped) " steps skipped, because their loss or gradient was not finite." }
        }
    }
}

/// Answers of the last validation: the wrong ones with their mistakes, and a few right ones.
fn answers(run: &Record) -> Markup {
    let predictions = run.predictions();
    if predictions.is_empty() {
        return html! {};
    }
    let (wrong, right): (Vec<&Value>, Vec<&Value>) =
        predictions.iter().partition(|prediction| prediction["wrong"].is_string());
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for prediction in &wrong {
        *kinds.entry(prediction["mistake"]["kind"].as_str().unwrap_or("other")).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{} {n}", kind.replace('_', " "))).collect();
    let row = |p: &&Value| [text(&p["query"]), code(&p["expected"]), code(&p["predicted"]), text(&p["wrong"])];
    let heads = ["query", "expected", "answered", "what is wrong"];
    html! {
        h2 { "Validation answers of " (run.name) " (INT4, the last validation)" }
        p {
            "Of " (predictions.len()) " that predictions.jsonl keeps, wrong: "
            (counted(wrong.len(), "predictions.jsonl"))
            @if !wrong.is_empty() { "; " }
            (kinds.join(", "))
        }
        @if !wrong.is_empty() { (list(heads, "wrong", wrong.iter().map(row))) }
        @if !right.is_empty() {
            p { "Right: " (right.len()) ", such as" }
            (list(heads, "", right.iter().take(RIGHT_SHOWN).map(row)))
        }
    }
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    format!(
        "needle {}, {} {}, {}, {cores} threads",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        model.unwrap_or("unknown CPU")
    )
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1c2330;\
    background:#fff}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;margin:1rem 0}\
    td,th{padding:.25rem .8rem;border-bottom:1px solid #e3e6eb;text-align:left;vertical-align:top}.number{text-align:right;\
    font-variant-numeric:tabular-nums}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:1rem}\
    svg{width:100%;height:auto}code,pre{font:12.5px/1.45 ui-monospace,monospace;overflow-wrap:anywhere}pre{background:#f6f7f9;\
    padding:1rem;overflow:auto}.answers td{max-width:22rem}.wrong td:last-child{color:#b3261e}.quiet,small{color:#6b7280}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_curves_answers_and_recipe_and_escapes_what_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path().join("a<b"));
        std::fs::create_dir(run.path()).unwrap();
        let step = |i: usize| {
            format!(
                "{{\"event\":\"step\",\"step\":{i},\"cross_entropy\":{},\"tokens\":10,\"seconds\":{i}}}\n",
                5.0 / i as f64
            )
        };
        let validation = "{\"event\":\"validation\",\"step\":9,\"precision\":\"int4\",\"n\":3,\"exact_match\":0.5}\n";
        let metrics: String = (1..10).map(step).chain([validation.to_owned()]).collect();
        std::fs::write(run.metrics(), metrics).unwrap();
        let answer = r#"{"query":"<script>","expected":[],"predicted":"[","mistake":{"kind":"not_calls"},"wrong":"not a list of calls"}"#;
        std::fs::write(run.predictions(), answer).unwrap();
        std::fs::write(run.recipe(), "steps = 9").unwrap();
        write(&[run.clone(), run.clone()], &run.report()).unwrap();
        let page = std::fs::read_to_string(run.report()).unwrap();
        for part in [
            "<svg",
            "Training loss",
            "Validation answers of a&lt;b",
            "Of 1 that predictions.jsonl keeps, wrong: 1; not calls 1",
            "not a list of calls",
            "steps = 9",
            "0.500",
            "&lt;script&gt;",
            "a&lt;b",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("NaN"));
    }

    #[test]
    fn a_directory_without_metrics_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = write(&[RunDir::new(dir.path())], &dir.path().join("x.html")).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl"), "{error}");
    }

    #[test]
    fn errors_of_the_test_part_are_all_there_and_lists_say_where_they_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path());
        std::fs::write(run.metrics(), "").unwrap();
        let failure = |i: usize| serde_json::json!({"query": format!("question {i}."), "expected": [], "predicted": "[", "wrong": "not calls"});
        let page = |failures: usize| {
            let failures: Vec<Value> = (0..failures).map(failure).collect();
            let comparison = serde_json::json!({"after": {"n": 500, "precision": "int4", "constrained": true}, "failures": failures});
            std::fs::write(run.comparison(), comparison.to_string()).unwrap();
            write(std::slice::from_ref(&run), &run.report()).unwrap();
            std::fs::read_to_string(run.report()).unwrap()
        };
        let seven = page(7);
        assert!((0..7).all(|i| seven.contains(&format!("question {i}."))), "{seven}");
        assert!(seven.contains("Wrong on the test part, worst first: 7</h3>"), "{seven}");
        assert!(seven.contains("At INT4, constrained to the offered tools"), "{seven}");
        let many = page(SHOWN + 1);
        assert!(many.contains(&format!("{} ({SHOWN} shown, all are in report.json)", SHOWN + 1)), "{many}");
        assert_eq!(many.matches("question ").count(), SHOWN);
    }
}
