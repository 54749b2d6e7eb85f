//! `wsgi.input`: the body of a request as a file to read. A read waits for bytes that have not arrived.

use std::sync::Arc;

use pyo3::exceptions::PyConnectionResetError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::body::Taken;
use super::exchange::Exchange;
use crate::protocols::http::Wish;
use crate::python::running::attach::detached;
use crate::python::values::objects::bytes_object;

/// The most bytes that are taken at once, so that a size that a peer has chosen reserves no memory.
const AT_ONCE: usize = 256 * 1024;

/// The body of a request: ``read``, ``readline``, ``readlines`` and iteration over lines (PEP 3333).
///
/// A client that goes away before the body is complete raises ``ConnectionResetError``.
#[pyclass(frozen, module = "goev.wsgi")]
pub struct Input {
    pub exchange: Arc<Exchange>,
}

impl Input {
    /// Reads up to `most` bytes, or with `line` up to a newline.
    fn take<'py>(&self, py: Python<'py>, most: usize, line: bool) -> PyResult<Bound<'py, PyBytes>> {
        let mut bytes = Vec::new();
        let Some(body) = &self.exchange.body else { return Ok(PyBytes::new(py, b"")) };
        while bytes.len() < most {
            let want = (most - bytes.len()).min(AT_ONCE);
            let taken = if body.would_wait() {
                self.exchange.ask_for_body();
                detached(py, || body.take(want, line, &mut bytes))
            } else {
                body.take(want, line, &mut bytes)
            };
            let Taken { is_line, is_over, is_lost, has_room } = taken;
            if has_room {
                self.exchange.line.wish(Wish::More);
            }
            if is_lost {
                let text = "the client went away before the body of its request was complete";
                return Err(PyConnectionResetError::new_err(text));
            }
            if is_line || is_over {
                break;
            }
        }
        bytes_object(py, &bytes)
    }
}

/// A size as files take it: `None` and negative numbers mean everything.
fn limit(size: Option<isize>) -> usize {
    size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX)
}

#[pymethods]
impl Input {
    /// Up to ``size`` bytes, fewer only at the end of the body; by default everything.
    #[pyo3(signature = (size = -1, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size), false)
    }

    /// A line with its newline, at most ``size`` bytes of it.
    #[pyo3(signature = (size = -1, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size), true)
    }

    /// The lines; no further ones when they have ``hint`` bytes.
    #[pyo3(signature = (hint = -1, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let (lines, most) = (PyList::empty(py), limit(hint.filter(|hint| *hint != 0)));
        let mut total = 0;
        while total < most {
            let line = self.take(py, usize::MAX, true)?;
            if line.as_bytes().is_empty() {
                break;
            }
            total += line.as_bytes().len();
            lines.append(line)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.take(py, usize::MAX, true)?;
        Ok(if line.as_bytes().is_empty() { None } else { Some(line) })
    }
}
