//! The Python module `needle._needle`, which `python/needle/__init__.py` re-exports as `needle`.
//! Its types are declared in `__init__.pyi`.
//!
//! | file | concept |
//! | --- | --- |
//! | `convert` | tools and answers between Python and Rust |
//! | `stream` | an answer as it is written |
//! | `lib` | the class `Needle` |

#![allow(unsafe_op_in_unsafe_fn, reason = "code that pyo3 generates")]

mod convert;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;

use needle_runtime::{AnswerConfig, Needle, Options, Tool};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;

use convert::{PyAnswer, tools};
use stream::Stream;

create_exception!(needle, NeedleError, PyException, "A model cannot be loaded, or a question cannot be answered.");

/// A loaded model. Several threads may share it; it releases the GIL while it computes.
#[pyclass(name = "Needle", module = "needle", frozen)]
struct PyNeedle {
    needle: Arc<Needle>,
}

fn failed(error: impl std::fmt::Display) -> PyErr {
    NeedleError::new_err(error.to_string())
}

fn options(threads: Option<usize>) -> PyResult<Options> {
    match threads {
        None => Ok(Options::default()),
        Some(threads @ 1..=Options::MAX_THREADS) => Ok(Options { threads, ..Options::default() }),
        Some(threads) => {
            Err(PyValueError::new_err(format!("threads is {threads}, expected 1 to {}", Options::MAX_THREADS)))
        }
    }
}

#[pymethods]
impl PyNeedle {
    /// Loads an artifact or a training checkpoint.
    #[staticmethod]
    #[pyo3(signature = (path, *, threads=None, constrained=true, max_calls=None, abstain_below=None))]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        threads: Option<usize>,
        constrained: bool,
        max_calls: Option<usize>,
        abstain_below: Option<f64>,
    ) -> PyResult<Self> {
        let options = options(threads)?;
        let default = AnswerConfig::default();
        let max_calls = max_calls.unwrap_or(default.max_calls);
        let config = AnswerConfig { constrained, max_calls, abstain_below, ..default };
        let open = || Needle::load_with(&path, &options).and_then(|needle| needle.with_config(config));
        Ok(Self { needle: Arc::new(py.detach(open).map_err(failed)?) })
    }

    /// Answers a query with calls of the tools.
    #[pyo3(name = "call", signature = (query, tools_, /))]
    fn call(&self, py: Python<'_>, query: &str, tools_: &Bound<'_, PyAny>) -> PyResult<PyAnswer> {
        let tools = tools(tools_)?;
        let answer = py.detach(|| self.needle.call(query, &tools)).map_err(failed)?;
        PyAnswer::new(py, answer)
    }

    /// Returns an iterator over the pieces of the answer's JSON as they are written.
    #[pyo3(signature = (query, tools_, /))]
    fn stream(&self, query: String, tools_: &Bound<'_, PyAny>) -> PyResult<Stream> {
        Stream::start(self.needle.clone(), query, tools(tools_)?)
    }

    /// Answers many questions together. Each question is a pair of query and tools.
    #[pyo3(signature = (questions, /))]
    fn batch(&self, py: Python<'_>, questions: Vec<(String, Bound<'_, PyAny>)>) -> PyResult<Vec<PyAnswer>> {
        let read = |(query, given): (String, Bound<'_, PyAny>)| Ok((query, tools(&given)?));
        let questions: Vec<(String, Vec<Tool>)> = questions.into_iter().map(read).collect::<PyResult<_>>()?;
        let answers = py.detach(|| self.needle.call_batch(&questions, |_| ())).map_err(failed)?;
        answers.into_iter().map(|answer| PyAnswer::new(py, answer)).collect()
    }

    /// Ranks the tools by similarity to the query: pairs of index and cosine, best first.
    #[pyo3(signature = (query, tools_, /, top_k=None))]
    fn rank(
        &self,
        py: Python<'_>,
        query: &str,
        tools_: &Bound<'_, PyAny>,
        top_k: Option<usize>,
    ) -> PyResult<Vec<(usize, f32)>> {
        let tools = tools(tools_)?;
        let rank = || self.needle.rank(query, &self.needle.catalogue(&tools)?);
        let mut ranked = py.detach(rank).map_err(failed)?;
        ranked.truncate(top_k.unwrap_or(ranked.len()));
        Ok(ranked)
    }
}

/// The native module behind `needle`.
#[pymodule]
fn _needle(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyNeedle>()?;
    module.add_class::<PyAnswer>()?;
    module.add_class::<Stream>()?;
    module.add("NeedleError", module.py().get_type::<NeedleError>())
}
