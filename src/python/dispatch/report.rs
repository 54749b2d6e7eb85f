//! Exceptions of callbacks: logs them, and ends the connection or the reactor.

use std::io;

use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::PyDispatch;
use crate::poller::Poller;
use crate::python::connection::Connection;
use crate::python::values::arguments::type_name;
use crate::python::values::errors::ConnectionClosed;
use crate::shared::acceptor::Acceptor;
use crate::slots::Token;

impl PyDispatch {
    /// Fails a connection because its callback raised.
    pub(super) fn end_by(
        &self,
        poller: &Poller,
        token: Token,
        handler: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
        error: PyErr,
    ) {
        if let Some(error) = self.blame(poller, token, handler, name, error) {
            poller.fail(token, Box::new(error));
        }
    }

    /// Reports an exception of a callback. Returns the exception if the connection has to fail with it.
    pub(super) fn blame(
        &self,
        poller: &Poller,
        token: Token,
        handler: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
        error: PyErr,
    ) -> Option<PyErr> {
        if error.is_instance_of::<ConnectionClosed>(handler.py()) && !poller.goes_on(token) {
            // Another thread closed the connection while the callback ran, or the protocol refused a request. The
            // handler could not know.
            return None;
        }
        self.report_and_keep(handler.py(), poller, handler, &name.to_string(), error)
    }

    /// Logs an `Exception` and returns it. Any other exception (`KeyboardInterrupt`, `SystemExit`, …) stops the
    /// reactor.
    pub(super) fn report_and_keep(
        &self,
        py: Python<'_>,
        poller: &Poller,
        subject: &Bound<'_, PyAny>,
        doing: &str,
        error: PyErr,
    ) -> Option<PyErr> {
        if error.is_instance_of::<PanicException>(py) {
            poller.halt(Box::new(PyRuntimeError::new_err(format!("goev panicked: {error}"))));
            return None;
        }
        if !error.is_instance_of::<PyException>(py) {
            poller.halt(Box::new(error));
            return None;
        }
        let subject_text = match subject.cast::<Connection>() {
            Ok(connection) => format!("{} of {} with {}", doing, type_name(subject), connection.get().peer_text()),
            Err(_) => format!("{doing} {}", subject.repr().map_or_else(|_| "?".into(), |text| text.to_string())),
        };
        self.log(py, poller, subject, &subject_text, &error);
        Some(error)
    }

    pub(super) fn log(
        &self,
        py: Python<'_>,
        poller: &Poller,
        subject: &Bound<'_, PyAny>,
        subject_text: &str,
        error: &PyErr,
    ) {
        self.settle_log(py, poller, Some(subject), log(py, subject_text, error));
    }

    pub(super) fn warn_of_shortage(&self, py: Python<'_>, poller: &Poller, acceptor: &Acceptor, error: &io::Error) {
        let place = acceptor.addresses.first().map_or_else(String::new, |address| match address.as_socket() {
            Some(inet) => inet.to_string(),
            None => "a Unix socket".into(),
        });
        let text = "cannot accept on %s: %s; new connections wait in the backlog";
        let logged = logger(py).and_then(|logger| logger.call_method1("warning", (text, place, error.to_string())));
        self.settle_log(py, poller, None, logged.map(drop));
    }

    fn settle_log(&self, py: Python<'_>, poller: &Poller, subject: Option<&Bound<'_, PyAny>>, logged: PyResult<()>) {
        match logged {
            Err(failed) if failed.is_instance_of::<PyException>(py) => failed.write_unraisable(py, subject),
            // Ctrl-C may interrupt the logging.
            Err(failed) => poller.halt(Box::new(failed)),
            Ok(()) => {}
        }
    }
}

fn logger(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("logging")?.call_method1("getLogger", ("goev",))
}

fn log(py: Python<'_>, subject_text: &str, error: &PyErr) -> PyResult<()> {
    let arguments = PyDict::new(py);
    // With the value alone, the log would lack the traceback before Python 3.12.
    arguments.set_item("exc_info", error.clone_ref(py).into_value(py))?;
    logger(py)?.call_method("error", ("exception in %s", subject_text), Some(&arguments))?;
    Ok(())
}
