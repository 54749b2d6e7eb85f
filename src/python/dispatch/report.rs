//! Exceptions of callbacks: logs them, and ends the connection or the reactor.

use std::io;

use pyo3::exceptions::{PyException, PyGeneratorExit, PyRuntimeError};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::PyDispatch;
use crate::poller::Poller;
use crate::poller::call::SlowCallback;
use crate::python::asyncio::bridge::is_cancelled;
use crate::python::connection::Connection;
use crate::python::running::logs::{self, About};
use crate::python::values::arguments::{peer_text, type_name};
use crate::python::values::exceptions::ConnectionClosed;
use crate::shared::acceptor::Acceptor;
use crate::shared::remote::Peer;
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
        let name = match self.tables.culprit_of(handler.py(), &error) {
            Some(callback) => callback.to_owned(),
            None => name.to_string(),
        };
        self.report_and_keep(handler.py(), poller, handler, &name, error)
    }

    /// Logs an exception that concerns its connection only, and returns it. Any other exception (`KeyboardInterrupt`,
    /// `SystemExit`, …) stops the reactor.
    pub(super) fn report_and_keep(
        &self,
        py: Python<'_>,
        poller: &Poller,
        subject: &Bound<'_, PyAny>,
        doing: &str,
        error: PyErr,
    ) -> Option<PyErr> {
        let about = About { callback: Some(doing), ..About::default() };
        let (about, text) = match subject.cast::<Connection>().map(Bound::get) {
            Ok(connection) => {
                let text = format!("{doing} of {} with {}", type_name(subject), connection.peer_text());
                (About { peer: connection.peer(), ..about }, text)
            }
            Err(_) => (about, format!("{doing} {}", text_of(subject))),
        };
        self.report_about(py, poller, subject, &about, &text, error)
    }

    /// As [`Self::report_and_keep`], with these attributes and this text.
    pub(super) fn report_about(
        &self,
        py: Python<'_>,
        poller: &Poller,
        subject: &Bound<'_, PyAny>,
        about: &About<'_>,
        text: &str,
        error: PyErr,
    ) -> Option<PyErr> {
        if error.is_instance_of::<PanicException>(py) {
            poller.halt(Box::new(PyRuntimeError::new_err(format!("goev panicked: {error}"))));
            return None;
        }
        if !ends_connection(py, &error) {
            poller.halt(Box::new(error));
            return None;
        }
        self.log(py, poller, subject, about, text, &error);
        Some(error)
    }

    pub(super) fn log(
        &self,
        py: Python<'_>,
        poller: &Poller,
        subject: &Bound<'_, PyAny>,
        about: &About<'_>,
        text: &str,
        error: &PyErr,
    ) {
        let logged = logs::log(py, "error", about, ("exception in %s", text), Some(error));
        self.settle_log(py, poller, Some(subject), logged);
    }

    pub(super) fn warn_of_shortage(&self, py: Python<'_>, poller: &Poller, acceptor: &Acceptor, error: &io::Error) {
        let place = acceptor.addresses.first().map_or_else(String::new, |address| match address.as_socket() {
            Some(inet) => inet.to_string(),
            None => "a Unix socket".into(),
        });
        let text = "cannot accept on %s: %s; new connections wait in the backlog [GOEV304]";
        let logged = logs::log(py, "warning", &About::default(), (text, place, error.to_string()), None);
        self.settle_log(py, poller, None, logged);
    }

    /// Tells of a handshake that failed on an accepted socket, which never had a handler.
    pub(super) fn tell_of_handshake(&self, py: Python<'_>, poller: &Poller, peer: &Peer, text: &str) {
        let peer = peer_text(peer);
        let about = About { peer: Some(peer.clone()), ..About::default() };
        let logged = logs::log(py, "info", &about, ("a TLS handshake with %s failed: %s", peer, text), None);
        self.settle_log(py, poller, None, logged);
    }

    /// Tells of an accepted socket that was closed because no trusted proxy sent a PROXY header there.
    pub(super) fn tell_of_refusal(&self, py: Python<'_>, poller: &Poller, peer: &Peer, text: &str) {
        let peer = peer_text(peer);
        let about = About { peer: Some(peer.clone()), ..About::default() };
        let logged = logs::log(py, "info", &about, ("refused %s as a proxy: %s", peer, text), None);
        self.settle_log(py, poller, None, logged);
    }

    /// Tells of a callback that has returned and took longer than `slow_callback`.
    pub(super) fn tell_of_slow(&self, py: Python<'_>, poller: &Poller, report: &SlowCallback) {
        let peer = report.peer.as_ref().map(peer_text);
        let (callback, seconds) = (report.callback, report.took as f64 / 1e9);
        let with = peer.as_ref().map_or(String::new(), |peer| format!(" with {peer}"));
        let more = match report.unreported {
            0 => String::new(),
            more => format!("; so did {more} more callbacks since the last such line"),
        };
        let about = About { peer, callback: Some(callback), seconds: Some(seconds) };
        let text = format!("{callback}{with} took {seconds:.3} s on poller {}{more}", self.handle.index);
        let logged = logs::log_to(py, "goev.slow", "warning", &about, ("%s", text), None);
        self.settle_log(py, poller, None, logged);
    }

    fn settle_log(&self, py: Python<'_>, poller: &Poller, subject: Option<&Bound<'_, PyAny>>, logged: PyResult<()>) {
        // Ctrl-C may interrupt the logging.
        if let Err(interrupt) = logs::settle(py, logged, subject) {
            poller.halt(Box::new(interrupt));
        }
    }
}

/// The text of an object for the log.
pub(super) fn text_of(subject: &Bound<'_, PyAny>) -> String {
    subject.repr().map_or_else(|_| "?".into(), |text| text.to_string())
}

/// Whether an exception of a callback ends the connection, and not the reactor: an `Exception`, and those two others by
/// which Python code ends a coroutine or a generator.
fn ends_connection(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyException>(py) || error.is_instance_of::<PyGeneratorExit>(py) || is_cancelled(py, error)
}
