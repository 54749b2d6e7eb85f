//! The environment of a request (PEP 3333, RFC 3875 section 4.1).

use std::cell::RefCell;
use std::collections::HashMap;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::exchange::Job;
use super::input::Input;
use crate::protocols::http::{Lines, Version};

/// The most names of fields that a thread keeps.
const MOST_NAMES: usize = 256;

/// The longest name of a field that is kept.
const LONGEST_NAME: usize = 64;

thread_local! {
    /// The names of fields, as they were sent, with their keys. Most requests have the same few.
    static KEYS: RefCell<HashMap<Box<[u8]>, Py<PyString>>> = RefCell::default();
}

/// Makes the environment of a request to an application below the root path.
pub fn environ_of<'py>(py: Python<'py>, job: &Job, root: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let (head, facts) = (&job.head, &job.facts);
    let environ = job.exchange.line.environ.bind(py).copy()?;
    let set = |key: &Bound<'py, PyString>, value: &Bound<'py, PyAny>| environ.set_item(key, value);
    set(intern!(py, "REQUEST_METHOD"), &latin1(py, &head[..facts.method()])?)?;
    let protocol = match facts.version {
        Version::Http10 => intern!(py, "HTTP/1.0"),
        Version::Http11 => intern!(py, "HTTP/1.1"),
    };
    set(intern!(py, "SERVER_PROTOCOL"), protocol)?;
    let target = &head[facts.method() + 1..facts.target()];
    let (path, query) = path_and_query(target);
    let raw = latin1(py, target)?;
    set(intern!(py, "RAW_URI"), &raw)?;
    set(intern!(py, "REQUEST_URI"), &raw)?;
    set(intern!(py, "QUERY_STRING"), &latin1(py, query)?)?;
    let decoded = decoded(path);
    let path = decoded.as_deref().unwrap_or(path);
    set(intern!(py, "PATH_INFO"), &latin1(py, behind_root(path, root))?)?;
    for (name, value) in Lines::of(head) {
        // An underscore may stand for a hyphen of another field: `environ` has one key for both.
        if !name.contains(&b'_') {
            add_field(&environ, name, value)?;
        }
    }
    let input = Bound::new(py, Input { exchange: job.exchange.clone() })?;
    set(intern!(py, "wsgi.input"), input.as_any())?;
    Ok(environ)
}

fn add_field<'py>(environ: &Bound<'py, PyDict>, name: &[u8], value: &[u8]) -> PyResult<()> {
    let py = environ.py();
    let key = key_of(py, name)?;
    let value = latin1(py, value)?;
    let Some(before) = environ.get_item(&key)? else { return environ.set_item(key, value) };
    // A comma may be a part of a cookie's value (RFC 9113 section 8.2.3).
    let separator = if name.eq_ignore_ascii_case(b"cookie") { "; " } else { ", " };
    let joined = before.str()?.call_method1("__add__", (separator,))?.call_method1("__add__", (value,))?;
    environ.set_item(key, joined)
}

fn key_of<'py>(py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyString>> {
    if let Some(known) = KEYS.with_borrow(|keys| keys.get(name).map(|key| key.clone_ref(py))) {
        return Ok(known.into_bound(py));
    }
    let upper =
        name.to_ascii_uppercase().iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect::<Vec<_>>();
    let text = match &upper[..] {
        b"CONTENT_TYPE" | b"CONTENT_LENGTH" => upper,
        _ => [b"HTTP_", &upper[..]].concat(),
    };
    // The name is a token, so it is ASCII.
    let key = PyString::intern(py, &String::from_utf8_lossy(&text));
    let kept = key.clone().unbind();
    KEYS.with_borrow_mut(|keys| {
        if keys.len() < MOST_NAMES && name.len() <= LONGEST_NAME {
            keys.insert(name.into(), kept);
        }
    });
    Ok(key)
}

/// The path and the query of a target; of one in absolute form, those behind the host.
fn path_and_query(target: &[u8]) -> (&[u8], &[u8]) {
    let mut rest = target;
    if !target.starts_with(b"/")
        && let Some(at) = memchr::memmem::find(target, b"://")
    {
        let behind = &target[at + 3..];
        let begin = behind.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(behind.len());
        rest = &behind[begin..];
    }
    let (path, query) = match memchr::memchr(b'?', rest) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &b""[..]),
    };
    (if path.is_empty() { b"/" } else { path }, query)
}

/// The bytes of a path with escapes; `None` if it has none. The parser has checked that the escapes are whole.
fn decoded(path: &[u8]) -> Option<Vec<u8>> {
    let first = memchr::memchr(b'%', path)?;
    let mut bytes = path[..first].to_vec();
    let mut rest = path[first..].iter();
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)).unwrap_or(0) as u8;
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(rest.next()) << 4 | digit(rest.next()),
            other => *other,
        });
    }
    Some(bytes)
}

/// The path below the root path. A proxy in front may have taken the root path off already.
fn behind_root<'a>(path: &'a [u8], root: &[u8]) -> &'a [u8] {
    match path.strip_prefix(root) {
        Some(rest) if rest.is_empty() || rest[0] == b'/' => rest,
        _ => path,
    }
}

/// The text of these bytes, each of which is a character (PEP 3333: "native strings").
pub fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the function reads `len` bytes of a slice, and returns a new `str`, or null with an exception. No slice is
    // longer than `isize::MAX`.
    unsafe {
        let made = ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t, std::ptr::null());
        Bound::from_owned_ptr_or_err(py, made)
    }
}
