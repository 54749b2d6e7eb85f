//! `goev.http`: limits, the handler class, and its face. `src/protocols/http/` holds the rules of the wire.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};

use super::request::Request;
use super::{Called, Face};
use crate::poller::Poller;
use crate::protocols::http::Limits as Core;
use crate::protocols::http::{Event, Http, Kept};
use crate::python::callbacks::{Names, is_inherited_from};
use crate::python::connection::Connection;
use crate::python::values::arguments::{integer, size, type_name};
use crate::slots::Token;

/// The most exceptions of a chain that [`clear_frames`] visits.
const MOST_CHAINED: usize = 32;

/// The limits of a request. A request above a limit gets an answer that says so, and the connection is closed.
///
/// Args:
///     max_line: bytes of the request line; 414 above.
///     max_headers: fields of a head, and of a trailer, at most 256; 431 above.
///     max_head: bytes of a head, at most 1 MiB; 431 above.
///     max_body: bytes of a body, at most 1 GiB; 413 above.
///     max_pending: requests that may wait for their answers; further ones are not read before an answer is given.
#[pyclass(frozen, module = "goev.http")]
pub struct Limits {
    core: Arc<Core>,
}

#[pymethods]
impl Limits {
    #[new]
    #[pyo3(
        signature = (*, max_line = 8192, max_headers = 100, max_head = 32_768, max_body = 1_048_576, max_pending = 32),
        text_signature = "(*, max_line=8192, max_headers=100, max_head=32768, max_body=1048576, max_pending=32)"
    )]
    fn new(
        #[pyo3(from_py_with = integer)] max_line: i64,
        #[pyo3(from_py_with = integer)] max_headers: i64,
        #[pyo3(from_py_with = integer)] max_head: i64,
        #[pyo3(from_py_with = integer)] max_body: i64,
        #[pyo3(from_py_with = integer)] max_pending: i64,
    ) -> PyResult<Self> {
        let core = Core {
            max_line: size("max_line", max_line)?,
            max_headers: size("max_headers", max_headers)?,
            max_head: size("max_head", max_head)?,
            max_body: size("max_body", max_body)?,
            max_pending: size("max_pending", max_pending)?,
        };
        core.validate()?;
        Ok(Self { core: Arc::new(core) })
    }

    #[getter]
    fn max_line(&self) -> usize {
        self.core.max_line
    }

    #[getter]
    fn max_headers(&self) -> usize {
        self.core.max_headers
    }

    #[getter]
    fn max_head(&self) -> usize {
        self.core.max_head
    }

    #[getter]
    fn max_body(&self) -> usize {
        self.core.max_body
    }

    #[getter]
    fn max_pending(&self) -> usize {
        self.core.max_pending
    }

    fn __repr__(&self) -> String {
        let Core { max_line, max_headers, max_head, max_body, max_pending } = &*self.core;
        format!(
            "goev.http.Limits(max_line={max_line}, max_headers={max_headers}, max_head={max_head}, \
             max_body={max_body}, max_pending={max_pending})"
        )
    }
}

/// One connection of an HTTP/1.1 server: subclass it and define ``on_request``.
///
/// Like ``goev.Connection``, except that the input is read as requests. A malformed request is answered here (400, 413,
/// 414, 417, 431, 501, 505) after the answers that are due. Then the connection is closed, and ``on_close`` gets
/// ``ProtocolError``.
///
/// A class that defines ``on_body`` gets ``on_request`` as soon as the head of a request has arrived, and its body in
/// pieces.
///
/// RFC 9110, RFC 9112. Go: none; gnet leaves HTTP to its users.
#[pyclass(name = "HttpConnection", extends = Connection, subclass, frozen, module = "goev._core")]
pub struct HttpConnection {
    /// The request whose body comes in pieces.
    receiving: Mutex<Option<Py<Request>>>,
}

impl HttpConnection {
    /// Stores the request whose body comes in pieces; `None` when the body is complete.
    fn receive(&self, request: Option<Py<Request>>) {
        let before = std::mem::replace(&mut *self.receiving.lock().unwrap_or_else(PoisonError::into_inner), request);
        drop(before);
    }

    /// The request whose body is being received.
    fn receiving(&self, py: Python<'_>) -> Option<Py<Request>> {
        let receiving = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        receiving.as_ref().map(|request| request.clone_ref(py))
    }
}

fn check_limits(limits: &Bound<'_, PyAny>) -> PyResult<Arc<Core>> {
    match limits.cast::<Limits>() {
        Ok(limits) => Ok(limits.get().core.clone()),
        Err(_) => Err(PyTypeError::new_err(format!("limits must be a goev.http.Limits, not {}", type_name(limits)))),
    }
}

#[pymethods]
impl HttpConnection {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    #[classmethod]
    fn new(
        class: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        check_limits(&class.getattr("limits")?)?;
        // The subclass's __init__ takes them.
        let _ = (args, kwargs);
        let connection = Connection::with_face(class, Some(&FACE))?;
        Ok(PyClassInitializer::from(connection).add_subclass(Self { receiving: Mutex::default() }))
    }

    /// The default limits: ``goev.http.Limits()``.
    #[classattr]
    fn limits(py: Python<'_>) -> PyResult<Py<Limits>> {
        Py::new(py, Limits { core: Arc::default() })
    }

    /// A request came: answer it by ``request.respond`` or ``request.start``, now or later. ``False`` closes.
    ///
    /// The base class answers 404. A request that is dropped without an answer gets 500, and so does a request if its
    /// callback raises.
    fn on_request(&self, request: &Bound<'_, Request>) -> PyResult<()> {
        request.get().respond(404, None, None)
    }

    /// A piece of the body of ``request`` came; ``b""`` is its end, also for a request without a body. ``False``
    /// closes.
    ///
    /// Only called if a class defines it; otherwise ``request.body`` has the whole body.
    fn on_body(&self, request: &Bound<'_, Request>, data: &Bound<'_, PyAny>) {
        let _ = (request, data);
    }
}

static FACE: &dyn Face = &Requests;

/// The face of HTTP.
struct Requests;

/// A part that the protocol has taken from the input.
enum Came<'py> {
    Request(Bound<'py, Request>),
    Body(Bound<'py, PyBytes>),
    End,
}

impl Face for Requests {
    fn set_up(&self, poller: &Poller, names: &Names, token: Token, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        let streams = !is_inherited_from::<HttpConnection>(handler, names.on_body.bind(handler.py()));
        let limits = check_limits(&handler.getattr("limits")?)?;
        Ok(poller.set_protocol(token, Http::new(limits, streams))?)
    }

    /// Calls the handler with the next request, or with a piece of a body.
    fn call<'a, 'py>(
        &self,
        poller: &Poller,
        names: &'a Names,
        token: Token,
        handler: &Bound<'py, PyAny>,
    ) -> Option<Called<'a, 'py>> {
        let py = handler.py();
        let http = handler.cast::<HttpConnection>().ok()?;
        let remote = http.as_super().get().bound()?;
        let mut came = None;
        // Making bytes and an object of a class of goev runs no Python code, so the input may stay borrowed.
        let mut show = |number, event: Event<'_>| {
            came = Some(match event {
                Event::Request { head, facts, body } => {
                    let body = body.map(|body| PyBytes::new(py, body));
                    Bound::new(py, Request::new(remote, number, head, facts, body)).map(Came::Request)
                }
                Event::Body(piece) => Ok(Came::Body(PyBytes::new(py, piece))),
                Event::End => Ok(Came::End),
            });
        };
        poller.with::<Http, _>(token, |http, wire| http.take(wire, &mut show))?;
        match came? {
            Ok(Came::Request(request)) => Some(call_on_request(poller, names, token, http, request)),
            Ok(Came::Body(piece)) => call_on_body(names, http, &piece),
            Ok(Came::End) => call_on_body(names, http, &PyBytes::new(py, b"")),
            Err(error) => Some(Called { name: &names.on_request, answer: Err(error), about: None }),
        }
    }

    fn decline(&self, poller: &Poller, token: Token) {
        poller.finish(token);
    }

    /// Fails the connection, and the answer to the request reports the error to the peer.
    fn fail(&self, py: Python<'_>, poller: &Poller, token: Token, about: Option<Bound<'_, PyAny>>, error: PyErr) {
        let request = about.and_then(|about| about.cast_into::<Request>().ok());
        let Some(request) = request else { return poller.fail(token, Box::new(error)) };
        clear_frames(py, &error);
        let waits = request.get().is_posted();
        request.get().fail();
        let mut error = Some(error);
        let kept = poller
            .with::<Http, _>(token, |http, _| error.take().map(|error| http.keep_failure(Box::new(error), waits)));
        match kept.flatten() {
            Some(Kept::Kept) => {}
            Some(Kept::Other(unused)) => drop(unused),
            Some(Kept::NothingDue(raised)) => poller.fail(token, raised),
            None => {
                if let Some(error) = error {
                    poller.fail(token, Box::new(error));
                }
            }
        }
    }
}

#[inline(always)]
fn call_on_request<'a, 'py>(
    poller: &Poller,
    names: &'a Names,
    token: Token,
    handler: &Bound<'py, HttpConnection>,
    request: Bound<'py, Request>,
) -> Called<'a, 'py> {
    let (py, name) = (handler.py(), &names.on_request);
    if request.get().is_streamed() {
        handler.get().receive(Some(request.clone().unbind()));
    }
    let answer = handler.call_method1(name.bind(py), (&request,));
    if answer.is_ok() && request.get().ask_for_body() {
        let number = request.get().number();
        poller.with::<Http, _>(token, |http, wire| http.continue_body(number, wire));
    }
    Called { name, answer, about: Some(request.into_any()) }
}

fn call_on_body<'a, 'py>(
    names: &'a Names,
    handler: &Bound<'py, HttpConnection>,
    piece: &Bound<'py, PyBytes>,
) -> Option<Called<'a, 'py>> {
    let (py, name) = (handler.py(), &names.on_body);
    let request = handler.get().receiving(py)?.into_bound(py);
    if piece.as_bytes().is_empty() {
        handler.get().receive(None);
    }
    let answer = handler.call_method1(name.bind(py), (&request, piece));
    Some(Called { name, answer, about: Some(request.into_any()) })
}

/// Drops the values that the frames of tracebacks hold, because requests without an answer may be among them. The
/// exception is kept until all requests are answered.
fn clear_frames(py: Python<'_>, error: &PyErr) {
    let Ok(clear) = py.import("traceback").and_then(|module| module.getattr("clear_frames")) else { return };
    let mut next = Some(error.value(py).clone().into_any());
    // Exceptions may be chained in a circle.
    for _ in 0..MOST_CHAINED {
        let Some(error) = next.filter(|error| !error.is_none()) else { return };
        // Fails for a frame that is still running, which has to keep its values.
        let _ = error.getattr("__traceback__").and_then(|traceback| clear.call1((traceback,)));
        let of = |name| error.getattr(name).ok().filter(|error| !error.is_none());
        next = of("__cause__").or_else(|| of("__context__"));
    }
}
