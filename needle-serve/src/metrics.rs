//! Counts for Prometheus, in its text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the latency histogram's buckets, in seconds.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counts since the server started.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By route and status.
    requests: BTreeMap<(String, u16), u64>,
    /// By route.
    seconds: BTreeMap<String, Histogram>,
    /// By model and how it ended.
    answers: BTreeMap<(String, &'static str), u64>,
    /// By model and kind.
    tokens: BTreeMap<(String, &'static str), u64>,
}

#[derive(Debug, Default, Clone)]
struct Histogram {
    buckets: [u64; BOUNDS.len()],
    sum: f64,
    count: u64,
}

impl Metrics {
    /// Counts a request to `route` that was answered with `status` after `time`; for a stream, the
    /// time until it began.
    pub fn request(&self, route: &str, status: u16, time: Duration) {
        self.with(|counts| {
            *counts.requests.entry((route.to_owned(), status)).or_default() += 1;
            let histogram = counts.seconds.entry(route.to_owned()).or_default();
            let seconds = time.as_secs_f64();
            for (bucket, bound) in histogram.buckets.iter_mut().zip(BOUNDS) {
                *bucket += u64::from(seconds <= bound);
            }
            histogram.sum += seconds;
            histogram.count += 1;
        });
    }

    /// Counts an answer of `model` by its `outcome`: `calls`, `nothing`, `abstained` or
    /// `incomplete`.
    pub fn answer(&self, model: &str, outcome: &'static str, prompt_tokens: usize, completion_tokens: usize) {
        self.with(|counts| {
            *counts.answers.entry((model.to_owned(), outcome)).or_default() += 1;
            for (kind, tokens) in [("prompt", prompt_tokens), ("completion", completion_tokens)] {
                *counts.tokens.entry((model.to_owned(), kind)).or_default() += tokens as u64;
            }
        });
    }

    /// The counts in Prometheus' text format; `queued` requests are waiting or being computed.
    pub fn to_text(&self, queued: usize) -> String {
        let mut text = String::new();
        self.with(|counts| counts.write(&mut text, queued));
        text
    }

    fn with(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Counts {
    fn write(&self, text: &mut String, queued: usize) {
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        head(text, "needle_requests_total", "counter", "Requests by route and status.");
        for ((route, status), count) in &self.requests {
            let route = label(route);
            let _ = writeln!(text, "needle_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}");
        }
        head(text, "needle_request_seconds", "histogram", "Time to the head of the response.");
        for (route, histogram) in &self.seconds {
            let route = label(route);
            for (bucket, bound) in histogram.buckets.iter().zip(BOUNDS) {
                let _ = writeln!(text, "needle_request_seconds_bucket{{route=\"{route}\",le=\"{bound}\"}} {bucket}");
            }
            let (sum, count) = (histogram.sum, histogram.count);
            let _ = writeln!(text, "needle_request_seconds_bucket{{route=\"{route}\",le=\"+Inf\"}} {count}");
            let _ = writeln!(text, "needle_request_seconds_sum{{route=\"{route}\"}} {sum}");
            let _ = writeln!(text, "needle_request_seconds_count{{route=\"{route}\"}} {count}");
        }
        head(text, "needle_answers_total", "counter", "Answers by model and outcome.");
        for ((model, outcome), count) in &self.answers {
            let model = label(model);
            let _ = writeln!(text, "needle_answers_total{{model=\"{model}\",outcome=\"{outcome}\"}} {count}");
        }
        head(text, "needle_tokens_total", "counter", "Tokens read and written, by model.");
        for ((model, kind), count) in &self.tokens {
            let model = label(model);
            let _ = writeln!(text, "needle_tokens_total{{model=\"{model}\",kind=\"{kind}\"}} {count}");
        }
        head(text, "needle_queue_length", "gauge", "Requests waiting or being computed.");
        let _ = writeln!(text, "needle_queue_length {queued}");
    }
}

/// A label's value, escaped.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_out_in_the_format_of_prometheus() {
        let metrics = Metrics::default();
        metrics.request("/v1/models", 200, Duration::from_millis(20));
        metrics.request("/v1/models", 200, Duration::from_secs(20));
        metrics.answer("a\"b", "calls", 7, 3);
        let text = metrics.to_text(2);
        for line in [
            "needle_requests_total{route=\"/v1/models\",status=\"200\"} 2",
            "needle_request_seconds_bucket{route=\"/v1/models\",le=\"0.01\"} 0",
            "needle_request_seconds_bucket{route=\"/v1/models\",le=\"0.025\"} 1",
            "needle_request_seconds_bucket{route=\"/v1/models\",le=\"+Inf\"} 2",
            "needle_answers_total{model=\"a\\\"b\",outcome=\"calls\"} 1",
            "needle_tokens_total{model=\"a\\\"b\",kind=\"prompt\"} 7",
            "needle_queue_length 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
