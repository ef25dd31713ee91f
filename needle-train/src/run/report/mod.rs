//! A run, or several side by side, as one self-contained page: curves, sample answers, recipe and machine.
//!
//! Everything comes from the run's directory (`metrics.jsonl`, `predictions.jsonl`, `recipe.toml`), so a page can be made of a
//! run that has ended, or that is still going on elsewhere. Curves are SVG; the page runs no script and loads nothing.

mod chart;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use needle_data::{DataError, file};
use serde_json::Value;

use crate::error::TrainError;
use crate::run::directory::RunDir;
use chart::{Chart, Curve};

/// Writes the page of `runs` to `path`.
///
/// # Errors
/// If a run has no readable metrics, or the page cannot be written.
pub fn write(runs: &[RunDir], path: &Path) -> Result<(), TrainError> {
    let runs = runs.iter().map(Run::read).collect::<Result<Vec<_>, _>>()?;
    Ok(file::write_atomically(path, page(&runs).as_bytes())?)
}

/// What a run left behind.
struct Run {
    name: String,
    /// Values by event and key, each with its step.
    series: BTreeMap<(String, String), Vec<(f64, f64)>>,
    /// The last validation at each precision.
    scores: BTreeMap<String, Value>,
    skipped: usize,
    predictions: Vec<Value>,
    /// Base against tuned, of a finetune.
    comparison: Option<Value>,
    recipe: String,
}

impl Run {
    fn read(dir: &RunDir) -> Result<Self, DataError> {
        let text = |path: &Path| file::read_text(path);
        let path = dir.metrics();
        let metrics = text(&path)?;
        let name = dir.path().file_name().unwrap_or(dir.path().as_os_str()).to_string_lossy().into_owned();
        let mut run = Self {
            name,
            series: BTreeMap::new(),
            scores: BTreeMap::new(),
            skipped: 0,
            predictions: Vec::new(),
            comparison: text(&dir.comparison()).ok().and_then(|text| serde_json::from_str(&text).ok()),
            recipe: text(&dir.recipe()).unwrap_or_default(),
        };
        // Seconds count from the start of each session: a resumed run's begin anew.
        let mut before = 0.0;
        for (line, number) in metrics.lines().zip(1..) {
            let bad = |e: serde_json::Error| DataError::io(format!("{}:{number}", path.display()), e.into());
            let event: Value = serde_json::from_str(line).map_err(bad)?;
            let kind = event["event"].as_str().unwrap_or_default();
            let step = event["step"].as_f64().unwrap_or_default();
            let precision = event["precision"].as_str();
            let kind = precision.map_or(kind.to_owned(), |precision| format!("{kind}.{precision}"));
            match kind.as_str() {
                "skipped" => run.skipped += 1,
                "step" => {
                    let seconds = event["seconds"].as_f64().unwrap_or_default();
                    let took = if seconds > before { seconds - before } else { seconds };
                    before = seconds;
                    let rate = event["tokens"].as_f64().unwrap_or_default() / took.max(1e-9);
                    run.series.entry((kind.clone(), "tokens_per_second".into())).or_default().push((step, rate));
                }
                _ => {}
            }
            for (key, value) in event.as_object().into_iter().flatten() {
                if let Some(value) = value.as_f64() {
                    run.series.entry((kind.clone(), key.clone())).or_default().push((step, value));
                }
            }
            if precision.is_some() {
                run.scores.insert(kind, event);
            }
        }
        // The result is measured last, whichever step it is of.
        run.series.values_mut().for_each(|points| points.sort_by(|a, b| a.0.total_cmp(&b.0)));
        if let Ok(lines) = text(&dir.predictions()) {
            run.predictions = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        }
        Ok(run)
    }

    fn curve(&self, event: &str, key: &str) -> Option<Vec<(f64, f64)>> {
        self.series.get(&(event.to_owned(), key.to_owned())).cloned()
    }
}

/// Title, axis, and for each curve: its name, event and key.
type ChartSpec = (&'static str, bool, &'static [(&'static str, &'static str, &'static str)]);

const CHARTS: [ChartSpec; 7] = [
    ("Training loss (cross-entropy)", true, &[("", "step", "cross_entropy")]),
    (
        "Validation loss",
        false,
        &[("f32", "validation_loss", "validation_loss_f32"), ("int4", "validation_loss", "validation_loss_int4")],
    ),
    (
        "Validation, INT4",
        false,
        &[("exact match", "validation.int4", "exact_match"), ("call F1", "validation.int4", "call_f1")],
    ),
    ("Contrastive loss", true, &[("", "step", "contrastive")]),
    ("Gradient norm before the clip", true, &[("", "step", "gradient_norm")]),
    ("Learning rates", false, &[("Muon", "step", "muon_lr"), ("AdamW", "step", "adamw_lr")]),
    ("Throughput (tokens/s)", true, &[("", "step", "tokens_per_second")]),
];

fn page(runs: &[Run]) -> String {
    let title = runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>",
        title = escape(&title)
    );
    for run in runs {
        out.push_str(&comparison(run));
    }
    out.push_str(&results(runs));
    out.push_str("<div class=\"charts\">\n");
    for (title, is_noisy, curves) in CHARTS {
        let mut chart = Chart::new(title);
        for run in runs {
            for (name, event, key) in curves {
                let Some(points) = run.curve(event, key) else { continue };
                let name = match (runs.len(), *name) {
                    (1, name) => name.to_owned(),
                    (_, "") => run.name.clone(),
                    (_, name) => format!("{} {name}", run.name),
                };
                chart.add(Curve { name, points, is_noisy });
            }
        }
        out.push_str(&chart.to_svg());
    }
    out.push_str("</div>\n");
    for run in runs {
        out.push_str(&answers(run));
    }
    for run in runs {
        let _ = writeln!(
            out,
            "<details><summary>Recipe of {}</summary><pre>{}</pre></details>",
            escape(&run.name),
            escape(&run.recipe)
        );
    }
    let _ = writeln!(out, "<p class=\"quiet\">{}</p>\n</body></html>", escape(&machine()));
    out
}

/// Metrics by key, and how they are called.
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

/// Rows of a list; of a longer one, the page says that there are more, and where.
const SHOWN: usize = 200;
/// Right answers that stand beside the wrong ones, as samples.
const RIGHT_SHOWN: usize = 10;

/// A finetune: base against tuned on the test part, by tool and by kind of mistake, with what changed.
fn comparison(run: &Run) -> String {
    let Some(compared) = run.comparison.as_ref().filter(|c| c["after"].is_object()) else { return String::new() };
    let mut out = format!(
        "<h2>{}: base against tuned, on {} test examples</h2>\n<p>At {}, {}.</p>\n",
        escape(&run.name),
        compared["after"]["n"],
        plain(&compared["after"]["precision"]).to_uppercase(),
        match compared["after"]["constrained"].as_bool() {
            Some(true) => "constrained to the offered tools, as it ships",
            _ => "not constrained to the offered tools",
        }
    );
    let number = |value: &Value| match (value.as_u64(), value.as_f64()) {
        (Some(count), _) => count.to_string(),
        (None, Some(value)) => format!("{value:.3}"),
        (None, None) => "-".to_owned(),
    };
    let mut table = |title: &str, rows: Vec<(String, &Value, &Value)>| {
        let _ = write!(out, "<table><tr><th>{title}</th><th>base</th><th>tuned</th></tr>");
        for (name, before, after) in rows {
            let (name, before, after) = (escape(&name), number(before), number(after));
            let _ = write!(
                out,
                "<tr><td>{name}</td><td class=\"number\">{before}</td><td class=\"number\">{after}</td></tr>"
            );
        }
        out.push_str("</table>\n");
    };
    let metrics = METRICS.iter().filter(|(key, _)| compared["after"][key].is_number());
    table(
        "",
        metrics.map(|(key, label)| ((*label).to_owned(), &compared["before"][key], &compared["after"][key])).collect(),
    );
    let members = |key: &str| compared[key].as_object().into_iter().flatten();
    let by_tool = members("by_tool").map(|(tool, both)| {
        let name = format!("{tool} (n = {})", both["after"]["n"]);
        (name, &both["before"]["exact_match"], &both["after"]["exact_match"])
    });
    table("exact match by tool", by_tool.collect());
    let mistakes = members("mistakes").map(|(kind, both)| (kind.replace('_', " "), &both["before"], &both["after"]));
    table("mistakes", mistakes.collect());
    let failures = compared["failures"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !failures.is_empty() {
        let heads = ["query", "expected", "answered", "what is wrong"];
        let _ = write!(out, "<h3>Wrong on the test part, worst first: {}</h3>", counted(failures.len(), "report.json"));
        let row = |failure: &Value| {
            let sure = failure["confidence"].as_f64().map_or(String::new(), |sure| format!(" ({sure:.2} sure)"));
            let wrong = format!("{}{sure}", plain(&failure["wrong"]));
            [plain(&failure["query"]), code(&failure["expected"]), code(&failure["predicted"]), wrong]
        };
        out.push_str(&list(heads, failures.iter().map(row), "wrong"));
    }
    for (key, title) in [("mended", "Wrong before, right now"), ("broken", "Right before, wrong now")] {
        let changes = compared[key].as_array().map(Vec::as_slice).unwrap_or_default();
        if changes.is_empty() {
            continue;
        }
        let _ = write!(out, "<h3>{title}: {}</h3>", counted(changes.len(), "report.json"));
        let row = |change: &Value| {
            [plain(&change["query"]), code(&change["expected"]), code(&change["before"]), code(&change["after"])]
        };
        out.push_str(&list(["query", "expected", "base", "tuned"], changes.iter().map(row), ""));
    }
    for warning in compared["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(out, "<p class=\"quiet\">{}</p>", escape(warning));
    }
    out.push_str("<h2>Training</h2>\n");
    out
}

/// How many there are, and where the rest is if not all are shown.
fn counted(all: usize, file: &str) -> String {
    if all > SHOWN { format!("{all} ({SHOWN} shown, all are in {file})") } else { all.to_string() }
}

fn plain(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

/// JSON, or the text that a model wrote.
fn code(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    format!("<code>{}</code>", escape(&text))
}

/// The first [`SHOWN`] rows as a table; `class` tells how their last column looks.
fn list<const N: usize>(heads: [&str; N], rows: impl Iterator<Item = [String; N]>, class: &str) -> String {
    let cells = |tag: &str, cells: &[String]| cells.iter().map(|c| format!("<{tag}>{c}</{tag}>")).collect::<String>();
    let mut out = format!("<table class=\"answers\"><tr>{}</tr>\n", cells("th", &heads.map(str::to_owned)));
    for row in rows.take(SHOWN) {
        let _ = writeln!(out, "<tr class=\"{class}\">{}</tr>", cells("td", &row));
    }
    out.push_str("</table>\n");
    out
}

/// The last scores as a table, a column a run and precision.
fn results(runs: &[Run]) -> String {
    let mut out = String::from("<table><tr><th></th>");
    let columns: Vec<(&Run, &String, &Value)> =
        runs.iter().flat_map(|run| run.scores.iter().map(move |(kind, score)| (run, kind, score))).collect();
    for (run, kind, score) in &columns {
        let precision = kind.rsplit('.').next().unwrap_or_default();
        let name = if runs.len() > 1 { format!("{} {precision}", run.name) } else { precision.to_owned() };
        let _ = write!(out, "<th>{}<br><small>n = {}</small></th>", escape(&name), score["n"]);
    }
    out.push_str("</tr>\n");
    if !columns.is_empty() {
        out.push_str("<tr><td>constrained to tools</td>");
        for (_, _, score) in &columns {
            let constrained = score["constrained"].as_bool().map_or("-", |is| if is { "yes" } else { "no" });
            let _ = write!(out, "<td class=\"number\">{constrained}</td>");
        }
        out.push_str("</tr>\n");
    }
    for (key, label) in METRICS {
        if columns.iter().all(|(_, _, score)| score[key].is_null()) {
            continue;
        }
        let _ = write!(out, "<tr><td>{label}</td>");
        for (_, _, score) in &columns {
            let value = score[key].as_f64().map_or("-".to_owned(), |value| format!("{value:.3}"));
            let _ = write!(out, "<td class=\"number\">{value}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
    for run in runs.iter().filter(|run| run.skipped > 0) {
        let _ = writeln!(out, "<p>{}: {} steps left out, not finite.</p>", escape(&run.name), run.skipped);
    }
    out
}

/// Answers of the last validation, the wrong ones with what is wrong, and a few right ones.
fn answers(run: &Run) -> String {
    if run.predictions.is_empty() {
        return String::new();
    }
    let (wrong, right): (Vec<&Value>, Vec<&Value>) = run.predictions.iter().partition(|p| p["wrong"].is_string());
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for prediction in &wrong {
        *kinds.entry(prediction["mistake"]["kind"].as_str().unwrap_or("other")).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{} {n}", kind.replace('_', " "))).collect();
    let row = |p: &&Value| [plain(&p["query"]), code(&p["expected"]), code(&p["predicted"]), plain(&p["wrong"])];
    let heads = ["query", "expected", "answered", "what is wrong"];
    let mut out = format!(
        "<h2>Validation answers of {} (INT4, the last validation)</h2>\n<p>Of {} that predictions.jsonl keeps, wrong: {}{}{}</p>\n",
        escape(&run.name),
        run.predictions.len(),
        counted(wrong.len(), "predictions.jsonl"),
        if wrong.is_empty() { "" } else { "; " },
        kinds.join(", ")
    );
    if !wrong.is_empty() {
        out.push_str(&list(heads, wrong.iter().map(row), "wrong"));
    }
    if !right.is_empty() {
        let _ = writeln!(out, "<p>Right: {}, such as</p>", right.len());
        out.push_str(&list(heads, right.iter().take(RIGHT_SHOWN).map(row), ""));
    }
    out
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
        model.unwrap_or("unknown processor")
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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
