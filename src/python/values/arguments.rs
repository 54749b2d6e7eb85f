//! Conversions of user arguments, checked at the call. Each error names the argument, the value and the limit.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBaseException, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use socket2::{SockAddr, Socket};

use crate::error::{Error, ErrorKind, Foreign};
use crate::shared::acceptor::Endpoint;
use crate::system::address::{Address, Inet, inet_text, unmapped};

/// Ten years, in seconds. A longer time is a mistake in the unit.
const LONGEST: f64 = 10.0 * 365.0 * 86_400.0;

/// A time in seconds as nanoseconds, rounded up.
pub fn nanoseconds(name: &str, value: f64) -> PyResult<u64> {
    if (0.0..=LONGEST).contains(&value) {
        return Ok((value * 1e9).ceil() as u64);
    }
    Err(PyValueError::new_err(format!("{name} must be from 0 to {LONGEST} seconds, not {value}")))
}

/// A time in seconds, zero allowed.
pub fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    nanoseconds(name, value).map(Duration::from_nanos)
}

/// The period of a repeating timer in nanoseconds, above zero; 0 for none.
pub fn period(every: Option<f64>) -> PyResult<u64> {
    match every.map_or(Ok(None), |every| nanoseconds("every", every).map(Some))? {
        Some(0) => Err(PyValueError::new_err("every must be more than 0 seconds, not 0")),
        nanoseconds => Ok(nanoseconds.unwrap_or(0)),
    }
}

/// A number of bytes or objects.
pub fn size(name: &str, value: i64) -> PyResult<usize> {
    usize::try_from(value).map_err(|_| PyValueError::new_err(format!("{name} must be 0 or more, not {value}")))
}

/// A number of bytes or objects within a range.
pub fn size_within(name: &str, value: i64, range: RangeInclusive<usize>) -> PyResult<usize> {
    let size = usize::try_from(value).ok().filter(|size| range.contains(size));
    size.ok_or_else(|| {
        PyValueError::new_err(format!("{name} must be from {} to {}, not {value}", range.start(), range.end()))
    })
}

/// A time for a socket option that counts whole seconds in 15 bits (tcp(7), MAX_TCP_KEEPIDLE).
pub fn whole_seconds(name: &str, value: f64) -> PyResult<Duration> {
    if value > 0.0 && value <= 32_767.0 {
        return Ok(Duration::from_secs_f64(value.ceil()));
    }
    Err(PyValueError::new_err(format!("{name} must be more than 0 and at most 32767 seconds, not {value}")))
}

/// An IP address and port, for an argument with a name other than `address`.
pub fn inet(name: &str, text: &str) -> PyResult<SocketAddr> {
    match inet_to_bind(name, text)? {
        Inet::One(address) => Ok(address),
        Inet::Every(_) => Err(PyValueError::new_err(format!("{name} must name one address, not all as {text:?} does"))),
    }
}

/// An IP address and port to bind, which may be every address.
pub fn inet_to_bind(name: &str, text: &str) -> PyResult<Inet> {
    match Address::parse(text) {
        Ok(Address::Inet(inet)) => Ok(inet),
        Ok(Address::Unix(_)) => {
            Err(PyValueError::new_err(format!("{name} must be an IP address and port, not {text:?}")))
        }
        Err(error) => Err(match error.into_kind() {
            ErrorKind::Argument(text) => PyValueError::new_err(text.replacen("address", name, 1)),
            ErrorKind::Io { context, source } => Error::io(context.replacen("address", name, 1))(source).into(),
            other => Error::from(other).into(),
        }),
    }
}

/// An int of any size. A value outside i64 becomes the nearest i64, which is beyond every limit.
pub fn integer(value: &Bound<'_, PyAny>) -> PyResult<i64> {
    let py = value.py();
    value.extract().or_else(|error: PyErr| match error.is_instance_of::<PyOverflowError>(py) {
        true => Ok(if value.lt(0)? { i64::MIN } else { i64::MAX }),
        false => Err(error),
    })
}

/// An int of any size, or `None`.
pub fn optional_integer(value: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    if value.is_none() { Ok(None) } else { integer(value).map(Some) }
}

/// Calls `note` with each item of a dict, which other threads may change. `note` may run code of the user's. An error if
/// the size of the dict changes meanwhile.
pub fn each_item<'py>(
    dict: &Bound<'py, PyDict>,
    what: &str,
    mut note: impl FnMut(&Bound<'py, PyAny>, &Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    // One section for all items: a section each would have the pollers wait for one another once an item.
    with_critical_section(dict, || {
        let size = dict.len();
        let mut position = 0;
        // Not more items than there were: otherwise code of the user's that replaces keys could go on for ever.
        for _ in 0..size {
            let Some((key, value)) = item_at(dict, &mut position) else { break };
            note(&key, &value)?;
            if dict.len() != size {
                return Err(PyRuntimeError::new_err(format!("{what} changed size while they were read")));
            }
        }
        Ok(())
    })
}

/// The item of a dict at a position, which is moved behind it. PyO3's iterator panics when the dict has changed.
pub fn item_at<'py>(
    dict: &Bound<'py, PyDict>,
    position: &mut ffi::Py_ssize_t,
) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: it is a dict, and the caller holds its critical section, so the two objects are in it until they are owned.
    // A position that an earlier call has set may be behind the last item by now; the function checks it.
    unsafe {
        if ffi::PyDict_Next(dict.as_ptr(), position, &raw mut key, &raw mut value) == 0 {
            return None;
        }
        Some((Bound::from_borrowed_ptr(dict.py(), key), Bound::from_borrowed_ptr(dict.py(), value)))
    }
}

/// Returns an error unless `value` can be called.
pub fn callable(name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_callable() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("{name} must be callable, not {}", type_name(value))))
}

/// An exception or `None`, as the core carries it.
pub fn exception(name: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Foreign>> {
    let Some(value) = value else { return Ok(None) };
    if !value.is_instance_of::<PyBaseException>() {
        return Err(PyTypeError::new_err(format!("{name} must be an exception or None, not {}", type_name(value))));
    }
    Ok(Some(Box::new(PyErr::from_value(value.clone()))))
}

/// Calls `use_it` with the bytes of a bytes-like object.
#[inline]
pub fn bytes_of<R>(data: &Bound<'_, PyAny>, use_it: impl FnOnce(&[u8]) -> PyResult<R>) -> PyResult<R> {
    match data.cast_exact::<PyBytes>() {
        Ok(bytes) => use_it(bytes.as_bytes()),
        Err(_) => bytes_in(data, use_it),
    }
}

#[inline(never)]
fn bytes_in<R>(data: &Bound<'_, PyAny>, use_it: impl FnOnce(&[u8]) -> PyResult<R>) -> PyResult<R> {
    let buffer = PyUntypedBuffer::get(data)
        .map_err(|_| PyTypeError::new_err(format!("data must be a bytes-like object, not {}", type_name(data))))?;
    if !buffer.is_c_contiguous() {
        return Err(PyValueError::new_err("data must be contiguous"));
    }
    // SAFETY: the exporter keeps `len_bytes` bytes at `buf_ptr` while the view is held. While the interpreter is
    // attached no other code changes them before they are copied. Without the interpreter lock the exporter's user
    // must ensure that, as for every bytes-like argument.
    use_it(unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes()) })
}

/// The name of a value's type, as errors write it.
pub fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string())
}

/// A descriptor, or an object that has one.
pub fn descriptor(name: &str, value: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let number = if value.hasattr("fileno")? { value.call_method0("fileno")? } else { value.clone() };
    let fd: i64 = number.extract().map_err(|_| {
        PyTypeError::new_err(format!("{name} must be an int or have fileno(), not {}", type_name(value)))
    })?;
    RawFd::try_from(fd)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(|| PyValueError::new_err(format!("{name} must be an open descriptor, not {fd}")))
}

/// A copy of a user's descriptor; the user may close the original afterwards.
pub(super) fn own_descriptor(name: &str, value: &Bound<'_, PyAny>, purpose: &str) -> PyResult<OwnedFd> {
    let fd = descriptor(name, value)?;
    // SAFETY: the caller's object owns the descriptor and is alive for this call. If the number is not an open
    // descriptor, the cloning fails.
    let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
    Ok(copy.map_err(Error::io(format!("cannot {purpose} descriptor {fd}")))?)
}

/// The places where an acceptor listens: an address, a bound socket, or a list of them.
pub fn endpoints(value: &Bound<'_, PyAny>) -> PyResult<Vec<Endpoint>> {
    if let Ok(list) = value.cast::<PyList>() {
        if list.is_empty() {
            return Err(PyValueError::new_err("address must not be an empty list"));
        }
        return list.iter().map(|item| endpoint(&item)).collect();
    }
    Ok(vec![endpoint(value)?])
}

pub fn endpoint(value: &Bound<'_, PyAny>) -> PyResult<Endpoint> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Endpoint::Address(Address::parse(text.to_str()?)?));
    }
    own_bound_socket(value, "a str, a bound socket or a list of them", "listen on").map(Endpoint::Bound)
}

/// A copy of a bound socket that is given as an address. `expected` are the types that the argument may have.
pub fn own_bound_socket(value: &Bound<'_, PyAny>, expected: &str, purpose: &str) -> PyResult<Socket> {
    if !value.hasattr("fileno")? {
        return Err(PyTypeError::new_err(format!("address must be {expected}, not {}", type_name(value))));
    }
    own_socket("address", value, purpose)
}

/// A copy of a socket of the user's, who may close the original afterwards.
pub fn own_socket(name: &str, value: &Bound<'_, PyAny>, purpose: &str) -> PyResult<Socket> {
    if is_tls(value)? {
        let text =
            format!("{name} must not be an ssl.SSLSocket, because goev would send bytes past its encryption [GOEV308]");
        return Err(PyTypeError::new_err(text));
    }
    Ok(own_descriptor(name, value, purpose)?.into())
}

/// Whether `value` is a socket of the module ssl. A program that has not imported the module has none.
fn is_tls(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let modules = value.py().import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
    let Some(ssl) = modules.get_item("ssl")? else { return Ok(false) };
    ssl.getattr_opt("SSLSocket")?.map_or(Ok(false), |class| value.is_instance(&class))
}

/// An address in the form of Python's socket module, but an abstract Unix name as `@name`. An IPv4 address on a socket
/// for both versions of IP is shown as IPv4. Bytes that are no UTF-8 are shown as by os.fsdecode().
pub fn address_object(py: Python<'_>, address: &SockAddr) -> PyResult<Py<PyAny>> {
    if let Some(inet) = address.as_socket() {
        return inet_object(py, &unmapped(inet));
    }
    match (address.as_pathname(), address.as_abstract_namespace()) {
        (Some(path), _) => unix_object(py, path.as_os_str().as_bytes()),
        (None, Some(name)) => unix_object(py, &[b"\0", name].concat()),
        (None, None) => unix_object(py, b""),
    }
}

/// The name of a Unix socket, which begins with a zero byte if it is abstract.
pub fn unix_object(py: Python<'_>, name: &[u8]) -> PyResult<Py<PyAny>> {
    let shown = match name {
        [0, name @ ..] => [b"@", name].concat(),
        // Otherwise the path would look like an abstract name.
        [b'@', ..] => [b"./", name].concat(),
        path => path.to_vec(),
    };
    Ok(OsString::from_vec(shown).into_pyobject(py)?.into_any().unbind())
}

/// `(host, port)`, or `(host, port, flow info, scope)` for IPv6.
pub fn inet_object(py: Python<'_>, address: &SocketAddr) -> PyResult<Py<PyAny>> {
    let host = address.ip().to_string();
    let tuple = match address {
        SocketAddr::V4(v4) => (host, v4.port()).into_pyobject(py)?,
        SocketAddr::V6(v6) => {
            return Ok((host, v6.port(), v6.flowinfo(), v6.scope_id()).into_pyobject(py)?.into_any().unbind());
        }
    };
    Ok(tuple.cast_into::<PyTuple>()?.into_any().unbind())
}

/// A peer's name in log lines.
pub fn peer_text(peer: &crate::shared::remote::Peer) -> String {
    peer.inet().map_or_else(|| "a Unix-socket peer".into(), |address| inet_text(&address))
}
