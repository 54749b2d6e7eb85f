//! The exceptions, and the conversion of errors and reasons of the core to exceptions.

use std::io;

use pyo3::create_exception;
use pyo3::exceptions::{
    PyConnectionAbortedError, PyException, PyMemoryError, PyOSError, PyRuntimeError, PyTimeoutError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyDict, PyModule, PyString, PyType};

use crate::error::{Error as CoreError, Expired, Foreign, Reason, Violation, ViolationKind};
use crate::reactor::Outcome;

create_exception!(goev, Error, PyException, "Base of the exceptions that are goev's own.");
create_exception!(goev, ConnectionClosed, Error, "The connection has ended, is being closed, or is not open yet.");
create_exception!(
    goev,
    WrongThread,
    Error,
    "Called on another thread than the poller's; call_soon() brings a call onto it."
);
create_exception!(
    goev,
    InputOverflow,
    Error,
    "The peer sent more than the handler may leave unread, or no separator within the limit."
);
create_exception!(goev, OutputOverflow, Error, "More output was queued than max_output.");
create_exception!(goev, FramingError, Error, "What the peer sent is no message by the connection's framing.");
create_exception!(goev, ProtocolError, FramingError, "What the peer sent is not HTTP, or not a WebSocket's.");
create_exception!(goev, MessageTooLong, FramingError, "A message is larger than max_size.");
create_exception!(goev, DatagramTruncated, Error, "A datagram was larger than max_size and was dropped.");
create_exception!(goev, StopTimeout, Error, "A callback has not returned although the reactor was stopped.");

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("Error", py.get_type::<Error>())?;
    module.add("ConnectionClosed", py.get_type::<ConnectionClosed>())?;
    module.add("WrongThread", py.get_type::<WrongThread>())?;
    module.add("InputOverflow", py.get_type::<InputOverflow>())?;
    module.add("OutputOverflow", py.get_type::<OutputOverflow>())?;
    module.add("DatagramTruncated", py.get_type::<DatagramTruncated>())?;
    module.add("FramingError", py.get_type::<FramingError>())?;
    module.add("ProtocolError", py.get_type::<ProtocolError>())?;
    module.add("MessageTooLong", py.get_type::<MessageTooLong>())?;
    module.add("StopTimeout", py.get_type::<StopTimeout>())?;
    for (name, class) in timeouts(py)? {
        module.add(name.cast::<PyString>()?, class)?;
    }
    Ok(())
}

impl From<CoreError> for PyErr {
    fn from(error: CoreError) -> Self {
        let text = error.to_string();
        match error {
            CoreError::Argument(_) => PyValueError::new_err(text),
            CoreError::Io { context, source } => os_error(Some(&context), &source),
            CoreError::Lookup { code, .. } => lookup_error(code, text),
            CoreError::Truncated { .. } => DatagramTruncated::new_err(text),
            CoreError::Congested { .. } => OutputOverflow::new_err(text),
            CoreError::Closed => ConnectionClosed::new_err(text),
            CoreError::State(_) => PyRuntimeError::new_err(text),
            CoreError::WrongThread(_) => WrongThread::new_err(text),
            CoreError::StopTimeout(_) => StopTimeout::new_err(text),
        }
    }
}

fn of_violation(violation: Violation) -> PyErr {
    match violation.kind {
        ViolationKind::Framing => FramingError::new_err(violation.text),
        ViolationKind::Protocol => ProtocolError::new_err(violation.text),
        ViolationKind::TooLong => MessageTooLong::new_err(violation.text),
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
fn os_error(context: Option<&str>, error: &io::Error) -> PyErr {
    let Some(code) = error.raw_os_error() else {
        return PyOSError::new_err(context.map_or(error.to_string(), |context| format!("{context}: {error}")));
    };
    let text = text_of(error);
    PyOSError::new_err((code, context.map_or(text.clone(), |context| format!("{context}: {text}"))))
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
        Reason::Aborted => PyConnectionAbortedError::new_err((libc::ECONNABORTED, "the connection was aborted")),
        Reason::NoMemory => PyMemoryError::new_err("no memory for the input of the connection"),
        Reason::InputOverflow { limit } => {
            InputOverflow::new_err(format!("the handler consumed nothing while max_input={limit} bytes were waiting"))
        }
        Reason::OutputOverflow { limit } => {
            OutputOverflow::new_err(format!("more than max_output={limit} bytes were queued for the peer"))
        }
        Reason::Raised(error) | Reason::Given(error) | Reason::Unframed(error) => of_foreign(error),
        Reason::Expired(expired) => of_expired(py, expired),
        Reason::Protocol(violation) => of_violation(violation),
    };
    Some(error.into_value(py).into_any())
}

fn of_expired(py: Python<'_>, expired: Expired) -> PyErr {
    let class = match expired {
        Expired::Idle(_) => "IdleTimeout",
        Expired::Receive(_) => "ReceiveTimeout",
        Expired::FirstByte(_) => "FirstByteTimeout",
        Expired::Write(_) => "WriteTimeout",
        Expired::Ping(_) => "PingTimeout",
        Expired::Lifetime(_) => "LifetimeExceeded",
        Expired::TooSlow { .. } | Expired::TakesTooSlowly { .. } => "TooSlow",
    };
    let error = timeouts(py).and_then(|classes| classes.as_any().get_item(class)?.call1((expired.to_string(),)));
    error.map_or_else(|error| error, PyErr::from_value)
}

/// The classes of time limits by name. They are made at run time, because each is also a `TimeoutError` and a class
/// of two bases cannot be declared in Rust.
fn timeouts(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let make = || -> PyResult<Py<PyDict>> {
        let bases = (py.get_type::<Error>(), py.get_type::<PyTimeoutError>()).into_pyobject(py)?;
        let classes = PyDict::new(py);
        for (name, text) in TIMEOUTS {
            let space = [("__doc__", text), ("__module__", "goev")].into_py_dict(py)?;
            classes.set_item(name, py.get_type::<PyType>().call1((name, &bases, space))?)?;
        }
        Ok(classes.unbind())
    };
    Ok(CLASSES.get_or_try_init(py, make)?.bind(py))
}

const TIMEOUTS: [(&str, &str); 7] = [
    ("IdleTimeout", "No byte moved either way for idle_timeout seconds."),
    ("ReceiveTimeout", "The peer sent nothing for receive_timeout seconds, whatever was sent to it."),
    ("FirstByteTimeout", "The peer sent nothing for first_byte_timeout seconds."),
    ("WriteTimeout", "The peer took none of the waiting output for write_timeout seconds."),
    ("PingTimeout", "The peer of a WebSocket sent nothing for ping_timeout seconds after a ping."),
    ("LifetimeExceeded", "The connection was open for lifetime seconds."),
    ("TooSlow", "The peer sent less than min_rate, or took less than min_write_rate."),
];

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
