//! Streams an answer from a thread of its own, so that Python can go on meanwhile.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use needle_runtime::{Answer, Needle, Tool, Utf8Pieces};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::convert::PyAnswer;
use crate::failed;

/// Capacity of the channel in pieces. When it is full, the writing thread blocks.
const WAITING: usize = 64;

/// What the writing thread sends.
enum Event {
    Piece(String),
    End(Result<Box<Answer>, String>),
}

/// An iterator over the pieces of an answer's JSON. After the last one, `answer` is set.
#[pyclass(module = "needle", frozen)]
pub struct Stream {
    events: Mutex<Receiver<Event>>,
    answer: Mutex<Option<Py<PyAnswer>>>,
}

impl Stream {
    /// Starts to answer in a new thread.
    pub fn start(needle: Arc<Needle>, query: String, tools: Vec<Tool>) -> PyResult<Self> {
        let (sender, events) = sync_channel(WAITING);
        let answer = move || {
            let mut pieces = Utf8Pieces::default();
            // Sending fails once the stream is dropped. The answer is then still computed to its
            // end.
            let on_bytes = |bytes: &[u8]| {
                let piece = pieces.push(bytes);
                if !piece.is_empty() {
                    let _ = sender.send(Event::Piece(piece));
                }
            };
            let answer = needle.call_streaming(&query, &tools, on_bytes);
            let _ = sender.send(Event::End(answer.map(Box::new).map_err(|error| error.to_string())));
        };
        std::thread::Builder::new().name("needle-stream".into()).spawn(answer)?;
        Ok(Self { events: Mutex::new(events), answer: Mutex::default() })
    }
}

#[pymethods]
impl Stream {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let event = py.detach(|| self.events.lock().unwrap_or_else(PoisonError::into_inner).recv());
        match event {
            Ok(Event::Piece(piece)) => Ok(Some(piece)),
            Ok(Event::End(Ok(answer))) => {
                let answer = Py::new(py, PyAnswer::new(py, *answer)?)?;
                *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                Ok(None)
            }
            Ok(Event::End(Err(reason))) => Err(failed(reason)),
            // The iterator was advanced again after its end.
            Err(_) if self.answer.lock().unwrap_or_else(PoisonError::into_inner).is_some() => Ok(None),
            Err(_) => Err(PyRuntimeError::new_err("the stream has ended")),
        }
    }

    /// The answer, once the stream has ended; None before.
    #[getter]
    fn answer(&self, py: Python<'_>) -> Option<Py<PyAnswer>> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        answer.as_ref().map(|answer| answer.clone_ref(py))
    }
}
