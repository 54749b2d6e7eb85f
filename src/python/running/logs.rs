//! Records of the logger `goev`. Each has the attributes `peer` and `callback`, for formatters and filters.

use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The subject of a record; both attributes are `None` in Python where they do not apply.
#[derive(Default)]
pub struct About<'a> {
    /// The address of the peer.
    pub peer: Option<String>,
    /// The name of the callback.
    pub callback: Option<&'a str>,
    /// The time that the callback took; the attribute `seconds` is there only with it.
    pub seconds: Option<f64>,
}

/// Logs with a method of the logger, `"error"` for example. `args` are the text and the values for its `%s`.
pub fn log<'py>(
    py: Python<'py>,
    method: &str,
    about: &About<'_>,
    args: impl PyCallArgs<'py>,
    error: Option<&PyErr>,
) -> PyResult<()> {
    log_to(py, "goev", method, about, args, error)
}

/// As [`log`], to another logger.
pub fn log_to<'py>(
    py: Python<'py>,
    logger: &str,
    method: &str,
    about: &About<'_>,
    args: impl PyCallArgs<'py>,
    error: Option<&PyErr>,
) -> PyResult<()> {
    let (options, extra) = (PyDict::new(py), PyDict::new(py));
    extra.set_item("peer", about.peer.as_deref())?;
    extra.set_item("callback", about.callback)?;
    if let Some(seconds) = about.seconds {
        extra.set_item("seconds", seconds)?;
    }
    options.set_item("extra", extra)?;
    if let Some(error) = error {
        // With the value alone, the log would lack the traceback before Python 3.12.
        options.set_item("exc_info", error.clone_ref(py).into_value(py))?;
    }
    let logger = py.import("logging")?.call_method1("getLogger", (logger,))?;
    logger.call_method(method, args, Some(&options))?;
    Ok(())
}

/// Reports a failure of the logging itself. An exception that is no `Exception` (Ctrl-C) comes back.
pub fn settle(py: Python<'_>, logged: PyResult<()>, subject: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    match logged {
        Err(failed) if failed.is_instance_of::<PyException>(py) => {
            failed.write_unraisable(py, subject);
            Ok(())
        }
        logged => logged,
    }
}
