//! Converts tools and answers between Python and Rust, as JSON text for Python's own `json` module.

use needle_runtime::{Answer, Call, Tool, tools_from_json};
use pyo3::prelude::*;
use pyo3::types::PyString;
use serde_json::{Value, json};

use crate::failed;

/// Reads tools from JSON text, or from any object that `json.dumps` accepts, such as a list of
/// dictionaries.
pub fn tools(given: &Bound<'_, PyAny>) -> PyResult<Vec<Tool>> {
    let text: String = match given.cast::<PyString>() {
        Ok(text) => text.extract()?,
        Err(_) => given.py().import("json")?.call_method1("dumps", (given,))?.extract()?,
    };
    tools_from_json(&text).map_err(failed)
}

/// What the model answered.
#[pyclass(name = "Answer", module = "needle", frozen, get_all)]
pub struct PyAnswer {
    /// `[{"name": .., "arguments": {..}}]`; empty if no tool fits or the model abstained.
    calls: Py<PyAny>,
    /// The text that the model wrote.
    text: String,
    /// Probability that the whole answer is exact; None if the model has no calibrated confidence.
    confidence: Option<f64>,
    /// Whether the answer is a complete list of calls.
    is_complete: bool,
    /// Whether the answer was withheld because its confidence is below `abstain_below`.
    abstained: bool,
    /// Violations of the tools' schemas, one sentence each.
    violations: Vec<String>,
    /// Seconds from question to answer; in a batch, the mean per answer.
    seconds: f64,
}

impl PyAnswer {
    pub fn new(py: Python<'_>, answer: Answer) -> PyResult<Self> {
        let call = |call: &Call| json!({"name": call.name, "arguments": call.arguments});
        let calls: Value = answer.calls.iter().map(call).collect();
        Ok(Self {
            calls: py.import("json")?.call_method1("loads", (calls.to_string(),))?.unbind(),
            text: answer.text,
            confidence: answer.confidence,
            is_complete: answer.is_complete,
            abstained: answer.abstained,
            violations: answer.violations,
            seconds: answer.seconds,
        })
    }
}

#[pymethods]
impl PyAnswer {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let calls = self.calls.bind(py).repr()?;
        let confidence = self.confidence.map_or("None".to_owned(), |sure| format!("{sure:.3}"));
        Ok(format!("Answer(calls={calls}, confidence={confidence}, is_complete={})", python_bool(self.is_complete)))
    }
}

fn python_bool(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}
