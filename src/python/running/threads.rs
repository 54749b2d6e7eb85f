//! The `threading.Thread` object of a thread that goev has started.

use pyo3::prelude::*;

/// The thread is in `threading.enumerate()`, under its own name, until this is dropped.
pub struct Listed<'py>(Option<Bound<'py, PyAny>>);

impl<'py> Listed<'py> {
    pub fn new(py: Python<'py>, name: &str) -> Self {
        // Makes the object of a thread that Python has not started. Otherwise the first log line would, as "Dummy-1".
        let list = || -> PyResult<_> {
            let thread = py.import("threading")?.call_method0("current_thread")?;
            thread.setattr("name", name)?;
            Ok(thread)
        };
        // Without memory for it, only the name is missing.
        Self(list().ok())
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        if let Some(thread) = &self.0 {
            // Such an object would stay in the list for ever before Python 3.12, and no public function removes it.
            let _ = thread.call_method0("_delete");
        }
    }
}
