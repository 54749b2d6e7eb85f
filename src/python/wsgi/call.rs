//! One call of the application, and the answer that its result makes (PEP 3333, "Specification Details").

use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::environ::environ_of;
use super::exchange::{Exchange, Job};
use super::site::Site;
use super::start::StartResponse;
use crate::python::running::logs::{About, log, settle};
use crate::python::values::arguments::{peer_text, type_name};
use crate::python::values::exceptions::ConnectionClosed;
use crate::python::values::files::{self, Part};

/// The most characters of a request line in the log.
const MOST_LINE: usize = 200;

/// Calls the application with a request, and gives its answer.
pub fn serve(py: Python<'_>, site: &Site, job: &Job) {
    let exchange = &job.exchange;
    if exchange.line.is_gone() {
        return;
    }
    if let Err(error) = run(py, site, job) {
        // Logged first: the peer of an answer may look into the log.
        report(py, job, &error);
        exchange.fail();
    }
    exchange.discard_body();
}

fn run(py: Python<'_>, site: &Site, job: &Job) -> PyResult<()> {
    let exchange = &job.exchange;
    let start = Bound::new(py, StartResponse { exchange: exchange.clone() })?;
    let result = site.app.bind(py).call1((environ_of(py, job, &site.root)?, start))?;
    let answered = answer(py, site, exchange, &result);
    // Also after an exception, and when the peer has gone away.
    let closed = match result.getattr_opt(intern!(py, "close")) {
        Ok(Some(close)) => close.call0().map(drop),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let (Err(_), Err(error)) = (&answered, &closed) {
        report(py, job, error);
    }
    answered.and(closed)
}

fn answer(py: Python<'_>, site: &Site, exchange: &Exchange, result: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Some(item) = only_item(result) {
        let data = bytes(&item)?;
        // `write` may have begun the answer.
        return if exchange.is_begun() { finish(py, exchange, data) } else { exchange.respond(py, data) };
    }
    if !exchange.is_begun() && result.is_instance(site.file_wrapper.bind(py))? && send_file(exchange, result)? {
        return Ok(());
    }
    let items = result.try_iter().map_err(|error| match error.is_instance_of::<PyTypeError>(py) {
        true => PyTypeError::new_err(format!("the application must return an iterable, not {}", type_name(result))),
        false => error,
    })?;
    for item in items {
        let item = item?;
        let data = bytes(&item)?;
        if data.is_empty() {
            continue;
        }
        if !exchange.is_begun() && exchange.length() == Some(data.len() as u64) {
            // The first item is the whole body; later items are empty, or too much.
            exchange.respond(py, data)?;
        } else {
            exchange.write(py, data)?;
        }
    }
    match (exchange.is_given(), exchange.is_begun()) {
        (true, _) => Ok(()),
        (false, true) => exchange.end(),
        (false, false) => exchange.respond(py, b""),
    }
}

fn finish(py: Python<'_>, exchange: &Exchange, data: &[u8]) -> PyResult<()> {
    if !data.is_empty() {
        exchange.write(py, data)?;
    }
    exchange.end()
}

/// The item of a list or a tuple of one.
fn only_item<'py>(result: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    if let Ok(list) = result.cast_exact::<PyList>() {
        return if list.len() == 1 { list.get_item(0).ok() } else { None };
    }
    result.cast_exact::<PyTuple>().ok().filter(|tuple| tuple.len() == 1).and_then(|tuple| tuple.get_item(0).ok())
}

fn bytes<'a>(item: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    let bytes = item.cast::<PyBytes>().map(|bytes| bytes.as_bytes());
    bytes.map_err(|_| PyTypeError::new_err(format!("the application must yield bytes, not {}", type_name(item))))
}

/// Answers with the rest of a regular file, which the kernel sends. False for anything else, which is read in blocks.
fn send_file(exchange: &Exchange, wrapper: &Bound<'_, PyAny>) -> PyResult<bool> {
    let file = wrapper.getattr("filelike")?;
    let (Ok(opened), Ok(position)) = (files::regular_file(&file), file.call_method0("tell")) else { return Ok(false) };
    let ((file, metadata), Ok(position)) = (opened, position.extract::<u64>()) else { return Ok(false) };
    let rest = metadata.len().saturating_sub(position);
    let count = exchange.length().map_or(rest, |length| length.min(rest));
    let range = match Part::new(file, position, count)? {
        // A small file is read at once; the head says its length.
        Part::Read(bytes) => {
            exchange.respond(wrapper.py(), &bytes)?;
            return Ok(true);
        }
        Part::Unread(range) => range,
    };
    exchange.respond_file(range)?;
    Ok(true)
}

/// Logs an exception. One that the end of the connection caused is none of the application's.
fn report(py: Python<'_>, job: &Job, error: &PyErr) {
    let is_gone = job.exchange.line.is_gone();
    if error.is_instance_of::<ConnectionClosed>(py) || (is_gone && error.is_instance_of::<PyException>(py)) {
        return;
    }
    let line = job.head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line: String = line.iter().take(MOST_LINE).map(|byte| char::from(*byte)).collect();
    let peer = peer_text(&job.exchange.line.remote.peer());
    let about = About { peer: Some(peer.clone()), callback: Some("app"), ..About::default() };
    let text = "the WSGI application failed in the request '%s' of %s";
    let logged = log(py, "error", &about, (text, line, peer), Some(error));
    // Nobody is left to raise it to: this is the last function of the thread.
    if let Err(error) = settle(py, logged, None) {
        error.write_unraisable(py, None);
    }
}
