//! One request of an application: `receive` and `send`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::answer::Stage;
use super::body::{Body, Next};
use super::calls;
use super::ready::Ready;
use crate::protocols::http::add_trailer;
use crate::python::protocols::fields::each_bytes_field;
use crate::python::protocols::request::Request;
use crate::python::protocols::request::steps::new_head;
use crate::python::tables::with_poller_of;
use crate::python::values::arguments::{bytes_of, integer, type_name};
use crate::python::values::exceptions::ConnectionClosed;
use crate::python::values::files;

/// One request of an application.
#[pyclass(frozen, module = "goev._core", name = "AsgiExchange")]
pub struct Exchange {
    request: Py<Request>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    body: Body,
    stage: Stage,
    /// Bytes that were sent since the application has waited.
    unbroken: usize,
}

/// The event that the application waits for behind a part of an answer.
enum Pace {
    Nothing,
    /// A turn of the loop, so that others have theirs, and so that the end of the connection is noticed.
    Turn,
    /// The peer is behind.
    Peer,
}

/// The most bytes that an application sends without a turn of the loop.
const MOST_UNBROKEN: usize = 256 * 1024;

/// The bytes that a part counts beside its own.
const OVERHEAD: usize = 1024;

impl Exchange {
    pub fn of(request: &Bound<'_, Request>) -> Self {
        let is_whole = !request.get().is_streamed();
        if !is_whole {
            request.get().defer_body();
        }
        let state = Mutex::new(State { body: Body::new(is_whole), ..State::default() });
        Self { request: request.clone().unbind(), state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is whole when the lock is released.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_of(&self, request: &Bound<'_, Request>) -> bool {
        self.request.is(request)
    }

    /// A part of the body came; an empty one is the end.
    pub fn feed(&self, data: &Bound<'_, PyBytes>) {
        let (py, len) = (data.py(), data.as_bytes().len());
        let pauses = {
            let mut state = self.lock();
            if state.stage.is_everything() {
                return;
            }
            state.body.add((len > 0).then(|| (data.clone().unbind(), len)))
        };
        if pauses {
            self.set_paused(true);
        }
        self.wake(py);
    }

    /// The peer has gone away.
    pub fn lose(&self, py: Python<'_>) {
        self.lock().body.is_lost = true;
        self.wake(py);
    }

    /// Wakes the tasks that wait for a message.
    fn wake(&self, py: Python<'_>) {
        let waiters = std::mem::take(&mut self.lock().body.waiters);
        for waiter in waiters {
            if let Err(error) = waiter.call_method0(py, intern!(py, "told")) {
                error.write_unraisable(py, None);
            }
        }
    }

    fn set_paused(&self, paused: bool) {
        let remote = self.request.get().remote();
        // Fails only if the connection has ended.
        with_poller_of(remote, |poller, _| drop(poller.set_paused(remote.token(), paused)));
    }

    fn next(&self, py: Python<'_>) -> Next {
        let (next, resumes) = {
            let State { body, stage, .. } = &mut *self.lock();
            body.next(py, stage.is_everything())
        };
        if resumes {
            self.set_paused(false);
        }
        next
    }

    /// The answer is complete, so the rest of the body is dropped.
    fn complete(&self, py: Python<'_>) {
        let (parts, resumes) = {
            let mut state = self.lock();
            state.stage = Stage::Everything;
            state.body.forget()
        };
        drop(parts);
        if resumes {
            self.set_paused(false);
        }
        self.wake(py);
    }

    /// The coroutine of the application has ended.
    pub fn finish(&self, py: Python<'_>, handler: &Bound<'_, PyAny>, result: PyResult<Py<PyAny>>) {
        let (is_complete, was_begun) = {
            let state = self.lock();
            (state.stage.is_everything(), matches!(state.stage, Stage::Body { .. } | Stage::Trailers(_)))
        };
        let is_gone = self.lock().body.is_lost || self.request.get().remote().is_closed();
        let error = match result {
            Ok(_) if is_complete => None,
            Ok(_) if is_gone => None,
            Ok(_) => Some(PyRuntimeError::new_err(match was_begun {
                true => "the application returned before its answer was complete",
                false => "the application returned without an answer",
            })),
            Err(error) if is_gone && is_of_disconnect(py, &error) => None,
            Err(error) => Some(error),
        };
        if !is_complete {
            self.complete(py);
        }
        match error {
            Some(error) => calls::report(handler, error, (!is_complete).then(|| self.request.clone_ref(py))),
            // No peer waits for the answer.
            None if !is_complete => Request::fail_with(self.request.bind(py)),
            None => {}
        }
    }

    // ---- messages of send -----------------------------------------------------------------------------------------

    fn start(&self, message: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = message.py();
        let status = match message.get_item(intern!(py, "status"))? {
            Some(status) => integer(&status)?,
            None => return Err(PyValueError::new_err("'http.response.start' has no 'status'")),
        };
        let Some(code) = u16::try_from(status).ok().filter(|status| (200..=599).contains(status)) else {
            return Err(PyValueError::new_err(format!("'status' must be from 200 to 599, not {status}")));
        };
        let mut head = new_head(code);
        if let Some(headers) = message.get_item(intern!(py, "headers"))? {
            each_bytes_field(&headers, |name, value| match name.len() {
                // The specification: the server ignores it, and chooses by itself.
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => Ok(()),
                _ => head.field(name, value),
            })?;
        }
        let has_trailers = flag(message, intern!(py, "trailers"))?;
        self.lock().stage = Stage::Start { head, has_trailers };
        Ok(())
    }

    /// Sends a part of the body.
    fn body(&self, message: &Bound<'_, PyDict>) -> PyResult<Pace> {
        let py = message.py();
        let body = match message.get_item(intern!(py, "body"))? {
            Some(body) if !body.is_none() => body,
            _ => PyBytes::new(py, b"").into_any(),
        };
        let more = flag(message, intern!(py, "more_body"))?;
        let request = self.request.bind(py);
        let stage = std::mem::take(&mut self.lock().stage);
        let has_trailers = match stage {
            Stage::Start { head, has_trailers: false } if !more => {
                bytes_of(&body, |data| Request::respond_with(request, head, Some(&body), data))?;
                self.complete(py);
                return Ok(Pace::Nothing);
            }
            Stage::Start { head, has_trailers } => {
                request.get().begin(py, head)?;
                has_trailers
            }
            Stage::Body { has_trailers } => has_trailers,
            other => return Err(self.unexpected(other, "http.response.body")),
        };
        self.lock().stage = Stage::Body { has_trailers };
        request.get().write(&body)?;
        match (more, has_trailers) {
            (true, _) => Ok(self.pace(body.len().unwrap_or(0))),
            (false, true) => {
                self.lock().stage = Stage::Trailers(Vec::new());
                Ok(Pace::Nothing)
            }
            (false, false) => {
                Request::end_with(request, b"")?;
                self.complete(py);
                Ok(Pace::Nothing)
            }
        }
    }

    fn trailers(&self, message: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = message.py();
        let stage = std::mem::take(&mut self.lock().stage);
        let Stage::Trailers(mut lines) = stage else { return Err(self.unexpected(stage, "http.response.trailers")) };
        let added = match message.get_item(intern!(py, "headers"))? {
            Some(headers) => each_bytes_field(&headers, |name, value| add_trailer(&mut lines, name, value)),
            None => Ok(()),
        };
        let more = added.and_then(|()| flag(message, intern!(py, "more_trailers")));
        if !matches!(more, Ok(false)) {
            self.lock().stage = Stage::Trailers(lines);
            return more.map(drop);
        }
        let request = self.request.bind(py);
        // The specification: only to a client that has said that it takes them.
        let (_, takes) = super::scope::headers(py, request.get().head())?;
        Request::end_with(request, if takes { &lines } else { b"" })?;
        self.complete(py);
        Ok(())
    }

    fn path(&self, message: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = message.py();
        let missing = || PyValueError::new_err("'http.response.pathsend' has no 'path'");
        let path = message.get_item(intern!(py, "path"))?.ok_or_else(missing)?;
        let Ok(text) = path.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!("'path' must be a str, not {}", type_name(&path))));
        };
        if !text.to_string().starts_with('/') {
            return Err(PyValueError::new_err(format!("'path' must be absolute, not {}", text.repr()?)));
        }
        let (file, metadata) = files::file_or_path(&path)?;
        let stage = std::mem::take(&mut self.lock().stage);
        match stage {
            Stage::Start { head, has_trailers: false } => {
                Request::respond_with_part(self.request.bind(py), head, file, (0, metadata.len()))?;
            }
            other => return Err(self.unexpected(other, "http.response.pathsend")),
        }
        self.complete(py);
        Ok(())
    }

    /// Sends links that the page will need, before the answer (RFC 8297). Once the answer has begun, sends nothing.
    fn early_hint(&self, message: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = message.py();
        let Some(links) = message.get_item(intern!(py, "links"))? else {
            return Err(PyValueError::new_err("'http.response.early_hint' has no 'links'"));
        };
        let mut head = crate::protocols::http::Head::new(Vec::new(), 103);
        for link in links.try_iter()? {
            bytes_of(&link?, |link| Ok::<_, PyErr>(head.field(b"link", link)?))?;
        }
        self.request.get().send_interim(head)
    }

    /// The error for a message that may not come now; the stage is as it was.
    #[cold]
    fn unexpected(&self, stage: Stage, kind: &str) -> PyErr {
        let text = format!("unexpected ASGI message {kind:?}: expected {}", stage.expected()).replace('"', "'");
        self.lock().stage = stage;
        PyRuntimeError::new_err(text)
    }

    /// The wait behind a part of so many bytes.
    fn pace(&self, len: usize) -> Pace {
        let remote = self.request.get().remote();
        let is_behind = with_poller_of(remote, |poller, _| poller.over_high_water(remote.token()));
        let mut state = self.lock();
        state.unbroken += len + OVERHEAD;
        if is_behind != Some(true) && state.unbroken <= MOST_UNBROKEN {
            return Pace::Nothing;
        }
        state.unbroken = 0;
        if is_behind == Some(true) { Pace::Peer } else { Pace::Turn }
    }
}

/// An optional flag of a message.
fn flag(message: &Bound<'_, PyDict>, key: &Bound<'_, PyString>) -> PyResult<bool> {
    message.get_item(key)?.map_or(Ok(false), |flag| flag.is_truthy())
}

/// Whether an exception is `ClientDisconnected`, which `send` raises when the peer is gone, or comes from it.
fn is_of_disconnect(py: Python<'_>, error: &PyErr) -> bool {
    let waiting = py.import("goev.asgi.waiting");
    let told = waiting.and_then(|waiting| waiting.call_method1("is_of_disconnect", (error.value(py),)));
    told.and_then(|told| told.is_truthy()).unwrap_or(false)
}

/// A coroutine of `goev.asgi.waiting`, for an application that has to wait.
fn later<'py>(exchange: &Bound<'py, Exchange>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    let py = exchange.py();
    py.import(intern!(py, "goev.asgi.waiting"))?.call_method1(name, (exchange,))
}

fn disconnected(py: Python<'_>) -> PyErr {
    let made = py.import("goev.asgi.waiting").and_then(|waiting| waiting.call_method0("disconnected"));
    made.map_or_else(|error| error, PyErr::from_value)
}

#[pymethods]
impl Exchange {
    #[new]
    fn new(request: &Bound<'_, Request>) -> Self {
        Self::of(request)
    }

    /// The next message for the application.
    fn receive<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        match slf.get()._next(py)? {
            Some(message) => Ready::with(message.into_any()),
            None => later(slf, intern!(py, "received")),
        }
    }

    /// Takes a message of the application.
    fn send<'py>(slf: &Bound<'py, Self>, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let message = match message.cast::<PyDict>() {
            Ok(message) => message.clone(),
            Err(_) => {
                let copy = PyDict::new(py);
                copy.call_method1(intern!(py, "update"), (message,))?;
                copy
            }
        };
        let Some(kind) = message.get_item(intern!(py, "type"))? else {
            return Err(PyValueError::new_err("an ASGI message has no 'type'"));
        };
        let kind = kind.cast::<PyString>()?.to_str()?;
        let (is_everything, is_nothing) = {
            let state = this.lock();
            (state.stage.is_everything(), matches!(state.stage, Stage::Nothing))
        };
        // The specification: messages behind a complete answer are ignored.
        if is_everything && kind.starts_with("http.response.") {
            return Ready::nothing(py);
        }
        if this.request.get().remote().is_closed() {
            return Err(disconnected(py));
        }
        let sent = match kind {
            "http.response.start" if is_nothing => this.start(&message).map(|()| Pace::Nothing),
            "http.response.body" => this.body(&message),
            "http.response.trailers" => this.trailers(&message).map(|()| Pace::Nothing),
            "http.response.pathsend" => this.path(&message).map(|()| Pace::Nothing),
            "http.response.early_hint" => this.early_hint(&message).map(|()| Pace::Nothing),
            _ => {
                let stage = std::mem::take(&mut this.lock().stage);
                Err(this.unexpected(stage, kind))
            }
        };
        match sent {
            Ok(Pace::Nothing) => Ready::nothing(py),
            Ok(Pace::Turn) => later(slf, intern!(py, "yielded")),
            Ok(Pace::Peer) => later(slf, intern!(py, "drained")),
            Err(error) if error.is_instance_of::<ConnectionClosed>(py) => Err(disconnected(py)),
            Err(error) => Err(error),
        }
    }

    /// The next message, if there is one.
    fn _next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.request.get().want_body(py);
        let next = self.next(py);
        if matches!(next, Next::Nothing) {
            return Ok(None);
        }
        let message = PyDict::new(py);
        match next {
            Next::Part(part, more) => {
                message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
                match part {
                    Some(part) => message.set_item(intern!(py, "body"), part)?,
                    None => message.set_item(intern!(py, "body"), PyBytes::new(py, b""))?,
                }
                message.set_item(intern!(py, "more_body"), more)?;
            }
            Next::Disconnect | Next::Nothing => {
                message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
            }
        }
        Ok(Some(message))
    }

    /// Have ``waiters.told()`` called, once, when there may be a message.
    fn _tell(&self, waiters: Bound<'_, PyAny>) {
        self.lock().body.waiters.push(waiters.unbind());
    }

    /// The connection; ``None`` after its end.
    fn _connection<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let remote = self.request.get().remote();
        with_poller_of(remote, |_, tables| tables.handler(py, remote.token())).flatten()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.request)?;
        match self.state.try_lock().as_deref() {
            Ok(state) => state.body.waiters.iter().try_for_each(|waiter| visit.call(waiter)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let waiters = std::mem::take(&mut self.lock().body.waiters);
        drop(waiters);
    }
}
