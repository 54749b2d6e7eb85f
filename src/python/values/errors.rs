//! Errors and reasons of the core as exceptions.

use std::io;

use pyo3::exceptions::{PyConnectionAbortedError, PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::exceptions::{
    ConnectionClosed, DatagramTruncated, FramingError, InputOverflow, MessageTooLong, OutputOverflow, ProtocolError,
    StopTimeout, WrongThread, timeouts, tls,
};
use crate::error::{
    Error as CoreError, ErrorKind, Expired, Foreign, Reason, TlsFailure, TlsFailureKind, Violation, ViolationKind,
};
use crate::reactor::Outcome;
use crate::tls::Failure;

impl From<CoreError> for PyErr {
    fn from(error: CoreError) -> Self {
        let text = error.to_string();
        match error.into_kind() {
            ErrorKind::Argument(_) => PyValueError::new_err(text),
            ErrorKind::Io { context, source } => os_error(Some(&context), &source),
            ErrorKind::Lookup { code, .. } => lookup_error(code, text + " [GOEV307]"),
            ErrorKind::Truncated { .. } => DatagramTruncated::new_err(text + " [GOEV408]"),
            ErrorKind::Congested { .. } => OutputOverflow::new_err(text + " [GOEV403]"),
            ErrorKind::Closed => ConnectionClosed::new_err(text + " [GOEV102]"),
            ErrorKind::State(_) => PyRuntimeError::new_err(text),
            ErrorKind::WrongThread(_) => WrongThread::new_err(text + " [GOEV101]"),
            ErrorKind::StopTimeout(_) => StopTimeout::new_err(text + " [GOEV107]"),
        }
    }
}

fn of_violation(violation: Violation) -> PyErr {
    match violation.kind {
        ViolationKind::Framing => FramingError::new_err(violation.text + " [GOEV404]"),
        ViolationKind::Protocol => ProtocolError::new_err(violation.text + " [GOEV601]"),
        ViolationKind::TooLong => MessageTooLong::new_err(violation.text + " [GOEV405]"),
        ViolationKind::NoMemory => PyMemoryError::new_err(violation.text),
    }
}

/// A `socket.gaierror`, because Python programs expect it of a lookup.
fn lookup_error(code: i32, text: String) -> PyErr {
    Python::attach(|py| {
        let class = py.import("socket").and_then(|socket| socket.getattr("gaierror"));
        let error = class.and_then(|class| class.call1((code, text)));
        error.map_or_else(|error| error, PyErr::from_value)
    })
}

/// An `OSError` of the subclass that belongs to the errno; the errno is kept.
pub fn os_error(context: Option<&str>, error: &io::Error) -> PyErr {
    if let Some(failure) = Failure::of(error) {
        let mut described = failure.describe();
        described.text = context.map_or(described.text.clone(), |context| format!("{context}: {}", described.text));
        return Python::attach(|py| of_failure(py, &described));
    }
    let Some(code) = error.raw_os_error() else {
        return PyOSError::new_err(context.map_or(error.to_string(), |context| format!("{context}: {error}")));
    };
    let text = text_of(error);
    let Some(context) = context else { return PyOSError::new_err((code, text)) };
    PyOSError::new_err((code, format!("{context}: {text}{}", section_of(context, code))))
}

/// The code, in brackets, of a system error that has a section in `docs/errors.md`.
fn section_of(context: &str, errno: i32) -> &'static str {
    let is_own = context.starts_with("cannot listen") || context.starts_with("cannot bind");
    let is_outgoing = context.starts_with("cannot connect");
    match errno {
        libc::EADDRINUSE => " [GOEV301]",
        libc::EACCES | libc::EPERM if is_own => " [GOEV302]",
        libc::EADDRNOTAVAIL if is_own => " [GOEV303]",
        libc::ECONNREFUSED if is_outgoing => " [GOEV305]",
        libc::ETIMEDOUT if is_outgoing => " [GOEV306]",
        _ => "",
    }
}

/// The exception for a fault of TLS.
fn of_failure(py: Python<'_>, failure: &TlsFailure) -> PyErr {
    let make = || {
        let classes = tls(py)?;
        let (class, code) = match failure.kind {
            TlsFailureKind::Protocol => (&classes.error, "GOEV701"),
            TlsFailureKind::Certificate => (&classes.certificate, "GOEV702"),
            TlsFailureKind::Truncated => (&classes.truncated, "GOEV703"),
        };
        let error = class.bind(py).call1((format!("{} [{code}]", failure.text),))?;
        error.setattr("alert", failure.alert)?;
        Ok(error)
    };
    make().map_or_else(|error| error, PyErr::from_value)
}

/// The `OSError` of a file that cannot be opened, with its errno and its name; `ValueError` for a name that no file has.
pub fn file_error(error: &io::Error, file: &Bound<'_, PyAny>) -> PyErr {
    let Some(code) = error.raw_os_error() else { return PyValueError::new_err(error.to_string()) };
    PyOSError::new_err((code, text_of(error), file.clone().unbind()))
}

/// The text without the number in "Address already in use (os error 98)", because Python shows it itself.
fn text_of(error: &io::Error) -> String {
    let whole = error.to_string();
    whole.split(" (os error").next().unwrap_or(&whole).to_owned()
}

/// The argument of `on_close`: `None` after an orderly end.
pub fn of_reason(py: Python<'_>, reason: Reason) -> Option<Py<PyAny>> {
    let error = match reason {
        Reason::Orderly => return None,
        Reason::Io(error) => os_error(None, &error),
        Reason::Aborted => {
            PyConnectionAbortedError::new_err((libc::ECONNABORTED, "the connection was aborted [GOEV110]"))
        }
        Reason::NoMemory => PyMemoryError::new_err("no memory for the input of the connection"),
        Reason::InputOverflow { limit } => InputOverflow::new_err(format!(
            "the handler consumed nothing while max_input={limit} bytes were waiting [GOEV401]"
        )),
        Reason::OutputOverflow { limit } => {
            OutputOverflow::new_err(format!("more than max_output={limit} bytes were queued for the peer [GOEV402]"))
        }
        Reason::Raised(error) | Reason::Given(error) | Reason::Unframed(error) => of_foreign(error),
        Reason::Expired(expired) => of_expired(py, expired),
        Reason::Protocol(violation) => of_violation(violation),
    };
    Some(error.into_value(py).into_any())
}

fn of_expired(py: Python<'_>, expired: Expired) -> PyErr {
    let (class, code) = match expired {
        Expired::Idle(_) => ("IdleTimeout", "GOEV501"),
        Expired::Receive(_) => ("ReceiveTimeout", "GOEV501"),
        Expired::FirstByte(_) => ("FirstByteTimeout", "GOEV501"),
        Expired::Ping(_) => ("PingTimeout", "GOEV501"),
        Expired::Write(_) => ("WriteTimeout", "GOEV502"),
        Expired::TooSlow { .. } => ("TooSlow", "GOEV503"),
        Expired::TakesTooSlowly { .. } => ("TooSlow", "GOEV502"),
        Expired::Lifetime(_) => ("LifetimeExceeded", "GOEV504"),
    };
    let text = format!("{expired} [{code}]");
    let error = timeouts(py).and_then(|classes| classes.as_any().get_item(class)?.call1((text,)));
    error.map_or_else(|error| error, PyErr::from_value)
}

/// The exception that the core has carried.
pub fn of_foreign(foreign: Foreign) -> PyErr {
    match foreign.downcast::<PyErr>() {
        Ok(error) => *error,
        Err(_) => PyRuntimeError::new_err("a value that is no exception ended it"),
    }
}

/// The exception that `run()` and `join()` raise.
pub fn of_outcome(outcome: Outcome) -> PyErr {
    match outcome {
        Outcome::Error(error) => error.into(),
        Outcome::Halted(foreign) => of_foreign(foreign),
    }
}
