//! The exception classes.

use pyo3::create_exception;
use pyo3::exceptions::{PyBaseException, PyException, PyOSError, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyDict, PyModule, PyString, PyTuple, PyType};

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
    let code_of = wrap_pyfunction!(code_of, module)?;
    let property = py.import("builtins")?.getattr("property")?;
    py.get_type::<Error>().setattr("code", property.call1((&code_of, py.None(), py.None(), CODE))?)?;
    module.add_function(code_of)?;
    module.add("ConnectionClosed", py.get_type::<ConnectionClosed>())?;
    module.add("WrongThread", py.get_type::<WrongThread>())?;
    module.add("InputOverflow", py.get_type::<InputOverflow>())?;
    module.add("OutputOverflow", py.get_type::<OutputOverflow>())?;
    module.add("DatagramTruncated", py.get_type::<DatagramTruncated>())?;
    module.add("FramingError", py.get_type::<FramingError>())?;
    module.add("ProtocolError", py.get_type::<ProtocolError>())?;
    module.add("MessageTooLong", py.get_type::<MessageTooLong>())?;
    module.add("StopTimeout", py.get_type::<StopTimeout>())?;
    let tls = tls(py)?;
    module.add("TlsError", &tls.error)?;
    module.add("TlsCertificateError", &tls.certificate)?;
    module.add("TlsTruncatedError", &tls.truncated)?;
    for (name, class) in timeouts(py)? {
        module.add(name.cast::<PyString>()?, class)?;
    }
    Ok(())
}

const CODE: &str = "The code at the end of the message, such as ``\"GOEV101\"``; ``None`` without one.";

/// The code of goev in the message of an exception of any class, such as ``"GOEV101"``; ``None`` without one.
///
/// A code stands in brackets at the end of the message. ``goev.errors.explain(code)`` returns its explanation.
#[pyfunction]
#[pyo3(name = "_code_of", signature = (error, /))]
fn code_of(error: &Bound<'_, PyBaseException>) -> PyResult<Option<String>> {
    let text = error.str()?.to_string();
    let digits = text.rsplit_once("[GOEV").and_then(|(_, rest)| Some(rest.split_once(']')?.0));
    let digits = digits.filter(|digits| digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()));
    Ok(digits.map(|digits| format!("GOEV{digits}")))
}

/// The classes of time limits by name. They are made at run time, because each is also a `TimeoutError` and a class
/// of two bases cannot be declared in Rust.
pub fn timeouts(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let make = || -> PyResult<Py<PyDict>> {
        let bases = (py.get_type::<Error>(), py.get_type::<PyTimeoutError>()).into_pyobject(py)?;
        let classes = PyDict::new(py);
        for (name, text) in TIMEOUTS {
            classes.set_item(name, class(py, "goev", name, &bases, text)?)?;
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

/// The classes of `goev.tls`, likewise.
pub struct Tls {
    pub error: Py<PyAny>,
    pub certificate: Py<PyAny>,
    pub truncated: Py<PyAny>,
}

pub fn tls(py: Python<'_>) -> PyResult<&Tls> {
    static CLASSES: PyOnceLock<Tls> = PyOnceLock::new();
    CLASSES.get_or_try_init(py, || {
        let bases = (py.get_type::<Error>(), py.get_type::<PyOSError>()).into_pyobject(py)?;
        let error = class(py, "goev.tls", "Error", &bases, TLS_ERROR)?;
        error.setattr("alert", py.None())?;
        let bases = (&error,).into_pyobject(py)?;
        Ok(Tls {
            certificate: class(py, "goev.tls", "CertificateError", &bases, CERTIFICATE_ERROR)?.unbind(),
            truncated: class(py, "goev.tls", "TruncatedError", &bases, TRUNCATED_ERROR)?.unbind(),
            error: error.unbind(),
        })
    })
}

const TLS_ERROR: &str = "A TLS handshake or a TLS stream failed.

Attributes:
    alert: the name of the alert that was sent or received, as RFC 8446 section 6 has it: ``\"unknown_ca\"``. ``None``
        where there was none.";
const CERTIFICATE_ERROR: &str = "A certificate was refused, by us or by the peer; the text says what is wrong with it.";
const TRUNCATED_ERROR: &str = "The stream ended without close_notify, so it may have been cut (RFC 8446 section 6.1).";

fn class<'py>(
    py: Python<'py>,
    module: &str,
    name: &str,
    bases: &Bound<'py, PyTuple>,
    text: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let space = [("__doc__", text), ("__module__", module)].into_py_dict(py)?;
    py.get_type::<PyType>().call1((name, bases, space))
}
