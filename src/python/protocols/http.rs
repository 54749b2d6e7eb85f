//! `goev.http`: limits, the handler class, and its face. `src/protocols/http/` holds the rules of the wire.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};

use super::observer::{Expected, Observer, Parts};
use super::request::Request;
use super::{Called, Face, FaceRef};
use crate::error::Foreign;
use crate::options::Rate;
use crate::poller::Poller;
use crate::protocols::Protocol;
use crate::protocols::http::Limits as Core;
use crate::protocols::http::access::Site;
use crate::protocols::http::{Answered, Event, Http, Kept};
use crate::python::callbacks::{Names, is_inherited_from};
use crate::python::connection::Connection;
use crate::python::contexts::Contexts;
use crate::python::values::arguments::{integer, size, type_name};
use crate::python::values::objects::{bytes_object, or_keep};
use crate::python::values::options::{optional_seconds, rate_of};
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
///     head_timeout: seconds for a head, from its first byte, > 0; 408 above (RFC 9110 section 15.5.9). ``None``: no limit.
///         The time between two requests does not count; ``idle_timeout`` limits that.
///     body_min_rate: ``(bytes per second, seconds)``: a body has so many seconds, and one more for each so many bytes of
///         it that come after its head; 408 above. Time in which the handler has paused reading does not count.
///         ``None``: no limit.
#[pyclass(frozen, module = "goev.http")]
pub struct Limits {
    core: Arc<Core>,
}

#[pymethods]
impl Limits {
    #[new]
    #[pyo3(
        signature = (
            *, max_line = 8192, max_headers = 100, max_head = 32_768, max_body = 1_048_576, max_pending = 32,
            head_timeout = Core::default().head_timeout, body_min_rate = Core::default().body_min_rate
        ),
        text_signature = "(*, max_line=8192, max_headers=100, max_head=32768, max_body=1048576, max_pending=32, \
            head_timeout=20.0, body_min_rate=(500.0, 20.0))"
    )]
    fn new(
        #[pyo3(from_py_with = integer)] max_line: i64,
        #[pyo3(from_py_with = integer)] max_headers: i64,
        #[pyo3(from_py_with = integer)] max_head: i64,
        #[pyo3(from_py_with = integer)] max_body: i64,
        #[pyo3(from_py_with = integer)] max_pending: i64,
        #[pyo3(from_py_with = head_timeout_of)] head_timeout: Option<Duration>,
        #[pyo3(from_py_with = body_min_rate_of)] body_min_rate: Option<Rate>,
    ) -> PyResult<Self> {
        let core = Core {
            max_line: size("max_line", max_line)?,
            max_headers: size("max_headers", max_headers)?,
            max_head: size("max_head", max_head)?,
            max_body: size("max_body", max_body)?,
            max_pending: size("max_pending", max_pending)?,
            head_timeout,
            body_min_rate,
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

    #[getter]
    fn head_timeout(&self) -> Option<f64> {
        self.core.head_timeout.map(|timeout| timeout.as_secs_f64())
    }

    #[getter]
    fn body_min_rate(&self) -> Option<(f64, f64)> {
        self.core.body_min_rate.map(|rate| (rate.bytes_per_second, rate.window.as_secs_f64()))
    }

    fn __repr__(&self) -> String {
        let Core { max_line, max_headers, max_head, max_body, max_pending, .. } = &*self.core;
        let head_timeout = self.head_timeout().map_or("None".into(), |timeout| format!("{timeout:?}"));
        let body_min_rate = self.body_min_rate().map_or("None".into(), |rate| format!("{rate:?}"));
        format!(
            "goev.http.Limits(max_line={max_line}, max_headers={max_headers}, max_head={max_head}, \
             max_body={max_body}, max_pending={max_pending}, head_timeout={head_timeout}, body_min_rate={body_min_rate})"
        )
    }
}

fn head_timeout_of(value: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    optional_seconds("head_timeout", value)
}

fn body_min_rate_of(value: &Bound<'_, PyAny>) -> PyResult<Option<Rate>> {
    rate_of("body_min_rate", value)
}

/// One connection of an HTTP/1.1 server: subclass it and define ``on_request``.
///
/// Like ``goev.Connection``, except that the input is read as requests. A malformed or slow request is answered here
/// (400, 408, 413, 414, 417, 431, 501, 505) after the answers that are due. Then the connection is closed, and
/// ``on_close`` gets ``ProtocolError``.
///
/// A class that defines ``on_body`` gets ``on_request`` as soon as the head of a request has arrived, and its body in
/// pieces.
///
/// Attributes:
///     limits: the limits of each request, for all connections of the class.
///     on_disconnect: ``"cancel"``, the default: coroutines of ``on_request`` whose peer goes away before their answers
///         are cancelled; ``"finish"``: they go on, and their answers are sent.
///
/// RFC 9110, RFC 9112. Go: none; gnet leaves HTTP to its users.
#[pyclass(name = "HttpConnection", extends = Connection, subclass, frozen, module = "goev._core")]
pub struct HttpConnection {
    /// The request whose body comes in pieces.
    receiving: Mutex<Option<Py<Request>>>,
    /// The requests that `on_answered` will be called for; unset if the class does not define it.
    observer: OnceLock<Arc<Observer>>,
}

impl HttpConnection {
    /// A connection of the class, which has the face of HTTP or one that stands on it.
    pub fn with_face(class: &Bound<'_, PyType>, face: FaceRef) -> PyResult<PyClassInitializer<Self>> {
        check_limits(&class.getattr("limits")?)?;
        let connection = Connection::with_face(class, Some(face))?;
        Ok(PyClassInitializer::from(connection)
            .add_subclass(Self { receiving: Mutex::default(), observer: OnceLock::new() }))
    }

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

pub fn check_limits(limits: &Bound<'_, PyAny>) -> PyResult<Arc<Core>> {
    match limits.cast::<Limits>() {
        Ok(limits) => Ok(limits.get().core.clone()),
        Err(_) => Err(PyTypeError::new_err(format!("limits must be a goev.http.Limits, not {}", type_name(limits)))),
    }
}

/// The limits of a handler that gets one request of a connection after the other: a slow application must not fill the
/// memory with answers that wait for their turn.
pub fn limits_of_one(handler: &Bound<'_, PyAny>) -> PyResult<Arc<Core>> {
    let limits = check_limits(&handler.getattr("limits")?)?;
    Ok(if limits.max_pending > 1 { Arc::new(Core { max_pending: 1, ..(*limits).clone() }) } else { limits })
}

/// The error of a method that would write bytes between answers.
fn only_answers(method: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "{method}(): an HTTP connection has answers: use respond(), start() or respond_file() of the request; for \
         another protocol, hand_over() to its handler [GOEV603]"
    ))
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
        // The subclass's __init__ takes them.
        let _ = (args, kwargs);
        Self::with_face(class, &FACE)
    }

    /// The default limits: ``goev.http.Limits()``.
    #[classattr]
    fn limits(py: Python<'_>) -> PyResult<Py<Limits>> {
        Py::new(py, Limits { core: Arc::default() })
    }

    /// Coroutines of ``on_request`` whose peer goes away before their answers: ``"cancel"`` ends them, ``"finish"`` lets
    /// them go on. The peer has gone away when it closes or resets the connection, or shuts down its write side.
    #[classattr]
    fn on_disconnect() -> &'static str {
        "cancel"
    }

    /// A request came: answer it by ``request.respond`` or ``request.start``, now or later. ``False`` closes.
    ///
    /// The base class answers 404. A request that is dropped without an answer gets 500, with a warning in the log, and
    /// so does a request if its callback raises.
    fn on_request(&self, request: &Bound<'_, Request>) -> PyResult<()> {
        Request::respond(request, 404, None, None)
    }

    /// The answer to ``request`` was sent: called once, when the kernel has taken its last byte.
    ///
    /// Args:
    ///     request: the one that ``on_request`` got; if it was dropped without an answer, an equal one.
    ///     status: of the answer, also of one that goev gave: 500 for an exception or a forgotten request, 400 and the like
    ///         for a malformed body.
    ///     bytes_sent: bytes of the answer: status line, fields and body as sent, chunk sizes included.
    ///     seconds: seconds since the request was handed to ``on_request``.
    ///
    /// Calls come in the order of the requests, before ``on_close``. An answer that another protocol follows counts as sent
    /// when the connection is handed over. There is no call for an answer that was given up half-way, or that the end of
    /// the connection cut, nor for refused input that became no request: ``on_close`` tells of those. An exception ends
    /// the connection. Only called if a class defines it; a class that does not pays nothing.
    fn on_answered(&self, request: &Bound<'_, PyAny>, status: u16, bytes_sent: u64, seconds: f64) {
        let _ = (request, status, bytes_sent, seconds);
    }

    /// A piece of the body of ``request`` came: the bytes ``data``. ``b""`` is its end, also for a request without a body.
    /// ``False`` closes.
    ///
    /// Only called if a class defines it; otherwise ``request.body`` has the whole body.
    fn on_body(&self, request: &Bound<'_, Request>, data: &Bound<'_, PyAny>) {
        let _ = (request, data);
    }

    /// Raises ``RuntimeError``: bytes of the connection would land between answers, which are given by requests.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = data;
        Err(only_answers("write"))
    }

    /// Raises ``RuntimeError``, as ``write`` does.
    fn writelines(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = lines;
        Err(only_answers("writelines"))
    }

    /// Raises ``RuntimeError``, as ``write`` does.
    fn send(&self, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = message;
        Err(only_answers("send"))
    }

    /// Raises ``RuntimeError``, as ``write`` does.
    fn send_messages(&self, messages: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = messages;
        Err(only_answers("send_messages"))
    }

    /// Raises ``RuntimeError``, as ``write`` does; ``Request.respond_file`` answers with a file.
    #[pyo3(signature = (file, *, offset = 0, count = None))]
    fn sendfile(&self, file: &Bound<'_, PyAny>, offset: i64, count: Option<i64>) -> PyResult<()> {
        let _ = (file, offset, count);
        Err(only_answers("sendfile"))
    }
}

pub static FACE: &dyn Face = &Requests;

/// The face of HTTP.
struct Requests;

/// A part that the protocol has taken from the input.
enum Came<'py> {
    Request(u64, Parts),
    Body(Bound<'py, PyBytes>),
    End,
}

impl Face for Requests {
    fn set_up(&self, poller: &Poller, names: &Names, token: Token, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        let streams = !is_inherited_from::<HttpConnection>(handler, names.on_body.bind(handler.py()));
        let limits = check_limits(&handler.getattr("limits")?)?;
        speak(poller, names, token, handler, Http::new(limits, streams))
    }

    /// Calls the handler with the next request, or with a piece of a body.
    fn call<'a, 'py>(
        &self,
        poller: &Poller,
        names: &'a Names,
        contexts: &Contexts,
        token: Token,
        handler: &Bound<'py, PyAny>,
    ) -> Option<Called<'a, 'py>> {
        let py = handler.py();
        let http = handler.cast::<HttpConnection>().ok()?;
        let remote = http.as_super().get().bound()?;
        let (mut came, mut failed) = (None, None);
        // Making bytes runs no Python code, so the input may stay borrowed. Making any other object may run some, by a
        // garbage collection.
        let mut bytes = |data: &[u8]| or_keep(bytes_object(py, data), &mut failed);
        let mut show = |number, event: Event<'_>| {
            came = match event {
                Event::Request { head, facts, body: None } => {
                    Some(Came::Request(number, Parts { head: head.into(), facts, body: None }))
                }
                Event::Request { head, facts, body: Some(body) } => bytes(body)
                    .map(|body| Came::Request(number, Parts { head: head.into(), facts, body: Some(body.unbind()) })),
                Event::Body(piece) => bytes(piece).map(Came::Body),
                Event::End => Some(Came::End),
            };
        };
        let more = poller.with::<Http, _>(token, |http, wire| {
            http.take(wire, &mut show);
            http.has_news()
        })?;
        let name = &names.on_request;
        match came {
            Some(Came::Request(number, parts)) => {
                let observer = http.get().observer.get();
                if let Some(observer) = observer {
                    observer.expect(number, poller.now(), parts.clone_ref(py));
                }
                Some(match Request::object(py, remote, number, parts, observer.cloned()) {
                    Ok(request) => Called { more, ..call_on_request(poller, names, contexts, token, http, request) },
                    Err(error) => Called::of(name, Err(error), false),
                })
            }
            Some(Came::Body(piece)) => call_on_body(names, contexts, token, http, &piece),
            Some(Came::End) => call_on_body(names, contexts, token, http, &PyBytes::new(py, b"")),
            None => Some(Called::of(name, Err(failed?), false)),
        }
    }

    fn passed<'a, 'py>(
        &self,
        poller: &Poller,
        names: &'a Names,
        handler: &Bound<'py, PyAny>,
        mark: Foreign,
    ) -> Option<Called<'a, 'py>> {
        let Answered { number, status, bytes } = *mark.downcast::<Answered>().ok()?;
        let http = handler.cast::<HttpConnection>().ok()?;
        let expected = http.get().observer.get()?.take(number)?;
        let seconds = poller.now().saturating_sub(expected.began) as f64 / 1e9;
        let name = &names.on_answered;
        let answer = object_of(http, number, expected)
            .and_then(|request| handler.call_method1(name.bind(handler.py()), (request, status, bytes, seconds)));
        Some(Called::of(name, answer, false))
    }

    fn end(&self, handler: &Bound<'_, PyAny>, _protocol: Option<Box<dyn Protocol>>) {
        if let Some(observer) = handler.cast::<HttpConnection>().ok().and_then(|http| http.get().observer.get()) {
            observer.clear();
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
        Request::fail_with(&request);
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

/// The place for records of the requests of a connection, if there is an access log.
fn site_of(poller: &Poller, token: Token) -> Option<Site> {
    let (lane, remote) = (poller.lane(token)?, poller.remote(token)?);
    let peer = remote.peer().inet().map(|address| (address.ip().to_string(), address.port()));
    let peer = peer.as_ref().map(|(address, port)| (address.as_str(), *port));
    let tls = poller.tls_facts(token).map(|facts| facts.version);
    Some(Site::new(lane, peer, tls, remote.poller().index))
}

/// Has a connection speak HTTP, as its handler wants it.
pub fn speak(poller: &Poller, names: &Names, token: Token, handler: &Bound<'_, PyAny>, mut http: Http) -> PyResult<()> {
    if !is_inherited_from::<HttpConnection>(handler, names.on_answered.bind(handler.py())) {
        http.observe();
        handler.cast::<HttpConnection>()?.get().observer.get_or_init(Arc::default);
    }
    if poller.handle().measures.is_some() {
        http.measure();
    }
    if let Some(site) = site_of(poller, token) {
        http.record(site);
    }
    poller.set_protocol(token, http)?;
    if outlives_peer(handler)? {
        poller.set_outlive_peer(token, true);
    }
    Ok(())
}

#[inline(always)]
fn call_on_request<'a, 'py>(
    poller: &Poller,
    names: &'a Names,
    contexts: &Contexts,
    token: Token,
    handler: &Bound<'py, HttpConnection>,
    request: Bound<'py, Request>,
) -> Called<'a, 'py> {
    let (py, name) = (handler.py(), &names.on_request);
    contexts.enter_request(py, token, request.get().is_streamed());
    if request.get().is_streamed() {
        handler.get().receive(Some(request.clone().unbind()));
    }
    let answer = handler.call_method1(name.bind(py), (&request,));
    if answer.is_ok() && request.get().ask_for_body(py) {
        let number = request.get().number();
        poller.with::<Http, _>(token, |http, wire| http.continue_body(number, wire));
    }
    // Requests that are whole run side by side; their answers leave in order.
    let holds = request.get().is_streamed();
    Called::about(name, answer, Some(request.into_any()), holds, false)
}

/// The object of a request whose answer was sent. If it was dropped without an answer, it is made once more.
fn object_of<'py>(
    handler: &Bound<'py, HttpConnection>,
    number: u64,
    expected: Expected,
) -> PyResult<Bound<'py, PyAny>> {
    let py = handler.py();
    if let Some(request) = expected.request {
        return Ok(request.into_bound(py));
    }
    let receiving = handler.get().receiving(py).filter(|request| request.get().number() == number);
    match (receiving, handler.as_super().get().bound()) {
        (Some(request), _) => Ok(request.into_bound(py).into_any()),
        (None, Some(remote)) => {
            let request = Request::object(py, remote, number, expected.parts, None)?;
            request.get().settle(py);
            Ok(request.into_any())
        }
        (None, None) => Ok(py.None().into_bound(py)),
    }
}

fn call_on_body<'a, 'py>(
    names: &'a Names,
    contexts: &Contexts,
    token: Token,
    handler: &Bound<'py, HttpConnection>,
    piece: &Bound<'py, PyBytes>,
) -> Option<Called<'a, 'py>> {
    let (py, name) = (handler.py(), &names.on_body);
    contexts.enter_body(py, token, piece.as_bytes().is_empty());
    let request = handler.get().receiving(py)?.into_bound(py);
    if piece.as_bytes().is_empty() {
        handler.get().receive(None);
    }
    let answer = handler.call_method1(name.bind(py), (&request, piece));
    Some(Called::about(name, answer, Some(request.into_any()), true, false))
}

/// Whether the coroutines of a handler go on when its peer has gone away: by its `on_disconnect`.
fn outlives_peer(handler: &Bound<'_, PyAny>) -> PyResult<bool> {
    let wanted = handler.getattr(intern!(handler.py(), "on_disconnect"))?;
    match wanted.extract().unwrap_or("") {
        "cancel" => Ok(false),
        "finish" => Ok(true),
        _ => Err(PyValueError::new_err(format!("on_disconnect must be 'cancel' or 'finish', not {}", wanted.repr()?))),
    }
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
