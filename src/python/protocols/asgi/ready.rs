//! An awaitable that has its result already.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

/// An awaitable that does not wait: a coroutine, so that an application can make a task of it.
#[pyclass(frozen, module = "goev._core", name = "Ready")]
pub struct Ready {
    result: Option<Py<PyAny>>,
}

impl Ready {
    /// The awaitable with the result `None`.
    pub fn nothing(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        static NOTHING: PyOnceLock<Py<Ready>> = PyOnceLock::new();
        let ready = NOTHING.get_or_try_init(py, || Py::new(py, Self { result: None }))?;
        Ok(ready.bind(py).clone().into_any())
    }

    pub fn with<'py>(result: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = result.py();
        Ok(Bound::new(py, Self { result: Some(result.unbind()) })?.into_any())
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match &self.result {
            None => Ok(None),
            Some(result) => Err(PyStopIteration::new_err((result.clone_ref(py),))),
        }
    }

    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = value;
        let result = self.result.as_ref().map(|result| result.clone_ref(py));
        Err(PyStopIteration::new_err((result,)))
    }

    #[pyo3(signature = (*error))]
    fn throw(&self, error: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(PyErr::from_value(error.get_item(0)?))
    }

    fn close(&self) {}
}
