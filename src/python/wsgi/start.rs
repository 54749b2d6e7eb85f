//! `start_response`, and the `write` that it returns.

use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::exchange::Exchange;
use crate::protocols::http::Head;
use crate::python::protocols::fields::with_latin1;
use crate::python::protocols::request::BUFFER;
use crate::python::values::arguments::type_name;

/// The fields of one hop (RFC 9110 section 7.6.1): only the server may set them.
const OF_ONE_HOP: [&[u8]; 9] = [
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

/// `start_response` of one request.
#[pyclass(frozen, module = "goev.wsgi")]
pub struct StartResponse {
    pub exchange: Arc<Exchange>,
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info = None, /))]
    fn __call__(
        &self,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Write> {
        match exc_info.map(error_of).transpose()? {
            Some(error) if self.exchange.is_begun() => return Err(error),
            None if self.exchange.has_head() || self.exchange.is_begun() => {
                return Err(PyRuntimeError::new_err(
                    "start_response() was called before: a second call needs exc_info (PEP 3333)",
                ));
            }
            _ => {}
        }
        self.exchange.set_head(head_of(status, headers)?);
        Ok(Write { exchange: self.exchange.clone() })
    }
}

/// `write` of one request: sends a piece of the body at once.
#[pyclass(frozen, module = "goev.wsgi")]
pub struct Write {
    exchange: Arc<Exchange>,
}

#[pymethods]
impl Write {
    fn __call__(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = data
            .cast::<PyBytes>()
            .map_err(|_| PyTypeError::new_err(format!("write() takes bytes, not {}", type_name(data))))?;
        self.exchange.write(py, data.as_bytes())
    }
}

/// The exception of `exc_info`, raised anew because the head is sent.
fn error_of(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let wrong = |_| PyTypeError::new_err(format!("exc_info must be a tuple of three, not {}", type_name(exc_info)));
    let (_, value, traceback): (Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>) =
        exc_info.extract().map_err(wrong)?;
    let error = PyErr::from_value(value);
    if let Ok(traceback) = traceback.cast_into() {
        error.set_traceback(exc_info.py(), Some(traceback));
    }
    Ok(error)
}

fn head_of(status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<Head> {
    let mut head = with_latin1(status, "status", |status| {
        let wrong =
            || PyValueError::new_err(format!("status must be '200 OK' or the like, not '{}'", status.escape_ascii()));
        let (digits, rest) = status.split_at_checked(3).ok_or_else(wrong)?;
        let reason = rest.strip_prefix(b" ").or_else(|| rest.is_empty().then_some(rest)).ok_or_else(wrong)?;
        let code = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let code: u16 = code.and_then(|code| code.parse().ok()).ok_or_else(wrong)?;
        if !(200..=599).contains(&code) {
            return Err(PyValueError::new_err(format!("status must be from 200 to 599, not {code}")));
        }
        Ok(Head::with_reason(BUFFER.take(), code, reason)?)
    })?;
    let list = headers
        .cast::<PyList>()
        .map_err(|_| PyTypeError::new_err(format!("headers must be a list, not {}", type_name(headers))))?;
    for item in list {
        let pair = item.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2);
        let pair = pair.ok_or_else(|| {
            PyTypeError::new_err(format!("headers must have tuples of name and value, not {}", type_name(&item)))
        })?;
        let (name, value) = (pair.get_item(0)?, pair.get_item(1)?);
        with_latin1(&name, "a field name", |name_bytes| {
            if OF_ONE_HOP.iter().any(|of_hop| name_bytes.eq_ignore_ascii_case(of_hop)) {
                let text = format!("{}: only the server sets fields of one hop (PEP 3333)", name_bytes.escape_ascii());
                return Err(PyValueError::new_err(text));
            }
            with_latin1(&value, &name, |value| Ok(head.field(name_bytes, value)?))
        })?;
    }
    Ok(head)
}
