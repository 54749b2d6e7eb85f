//! `goev.http`: requests and answers as objects. What they mean on the wire is in `src/http/`.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMapping, PyString, PyTuple, PyType};

use super::arguments::{bytes_of, integer, size, type_name};
use super::connection::{Connection, HeldBytes, held};
use super::dispatch::{hand_over, with_poller};
use super::headers::Headers;
use crate::clock::with_http_date;
use crate::error::Error;
use crate::http::{Facts, Framed, Head, Limits as Core, Refusal, Then, Unfit, Version, error_answer};
use crate::poller::Data;
use crate::remote::{Payload, Remote};

/// Up to this size a body is put together with its head, so that it is queued at once.
const SMALL_BODY: usize = 2048;

/// How much a request may take. What is more gets an answer that says so, and the connection is closed.
///
/// Args:
///     max_line: bytes of the request line; 414 above.
///     max_headers: fields of a head, and of a trailer, at most 256; 431 above.
///     max_head: bytes of a head, at most 1 MiB; 431 above.
///     max_body: bytes of a body, at most 1 GiB; 413 above.
///     max_pending: requests that wait for their answer, at which no further one is looked at.
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
/// All of ``goev.Connection`` but its input, which is read as requests: malformed ones are answered here (400, 413, 414, 417, 431,
/// 501, 505) behind the answers that are due, then the connection is closed, and ``on_close`` gets ``ProtocolError``.
///
/// A class that defines ``on_body`` gets ``on_request`` as soon as the head of a request is there, and its body in pieces.
///
/// RFC 9110, RFC 9112. Go: none; gnet leaves HTTP to its users.
#[pyclass(name = "HttpConnection", extends = Connection, subclass, frozen, module = "goev._core")]
pub struct HttpConnection {
    /// The request whose body comes in pieces.
    receiving: Mutex<Option<Py<Request>>>,
}

impl HttpConnection {
    /// Whose body is to come in pieces.
    pub fn receive(&self, request: Option<Py<Request>>) {
        let before = std::mem::replace(&mut *lock(&self.receiving), request);
        drop(before);
    }

    /// Whose body is coming.
    pub fn receiving(&self, py: Python<'_>) -> Option<Py<Request>> {
        lock(&self.receiving).as_ref().map(|request| request.clone_ref(py))
    }
}

/// What a class of handlers allows.
pub fn limits_of(handler: &Bound<'_, PyAny>) -> PyResult<Arc<Core>> {
    check_limits(&handler.getattr("limits")?)
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
        let connection = Connection::new(class, args, kwargs)?;
        Ok(PyClassInitializer::from(connection).add_subclass(Self { receiving: Mutex::default() }))
    }

    /// The defaults of ``goev.http.Limits``.
    #[classattr]
    fn limits(py: Python<'_>) -> PyResult<Py<Limits>> {
        Py::new(py, Limits { core: Arc::default() })
    }

    /// A request came: answer it by ``request.respond`` or ``request.start``, now or later. ``False`` closes.
    ///
    /// The base class answers 404. A request that is let go of without an answer gets 500, as one whose callback raised.
    fn on_request(&self, request: &Bound<'_, Request>) -> PyResult<()> {
        request.get().respond(404, None, None)
    }

    /// A piece of the body of ``request`` came; ``b""`` is its end, also of one without a body. ``False`` closes.
    ///
    /// Only for a class that defines it; the others have the whole body in ``request.body``.
    fn on_body(&self, request: &Bound<'_, Request>, data: &Bound<'_, PyAny>) {
        let _ = (request, data);
    }
}

/// How far an answer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Due,
    /// Its head is out, its body comes piece by piece.
    Begun {
        framed: Framed,
        left: u64,
        closes: bool,
    },
    Given,
}

/// One request, and the way to answer it.
///
/// ``respond`` answers at once; ``start``, ``write`` and ``end`` piece by piece. Both may be called from any thread and at any
/// time; answers go out in the order of the requests.
#[pyclass(frozen, module = "goev.http")]
pub struct Request {
    remote: Arc<Remote>,
    number: u64,
    head: Arc<[u8]>,
    facts: Facts,
    /// None of one whose body comes in pieces.
    body: Option<Py<PyBytes>>,
    /// The body is there, or its sender was asked for it.
    asked: AtomicBool,
    answer: Mutex<Answer>,
    /// A part of the answer was given by another thread: what follows must not overtake it.
    is_posted: AtomicBool,
}

impl Request {
    /// As it came; without a `body` that is still to come.
    pub fn new(remote: &Arc<Remote>, number: u64, head: &[u8], facts: Facts, body: Option<Bound<'_, PyBytes>>) -> Self {
        let asked = AtomicBool::new(body.is_some());
        Self {
            remote: remote.clone(),
            number,
            head: head.into(),
            facts,
            body: body.map(Bound::unbind),
            asked,
            answer: Mutex::new(Answer::Due),
            is_posted: AtomicBool::new(false),
        }
    }

    /// Whether its body comes in pieces.
    pub fn is_streamed(&self) -> bool {
        self.body.is_none()
    }

    /// Its number, if its sender has to be asked for the body, which is noted: no answer was begun.
    pub fn ask_for_body(&self) -> Option<u64> {
        let asks = self.facts.expects_continue && *lock(&self.answer) == Answer::Due;
        (asks && !self.asked.swap(true, Ordering::Relaxed)).then_some(self.number)
    }

    /// Whether a part of the answer was given by another thread.
    pub fn is_posted(&self) -> bool {
        self.is_posted.load(Ordering::Relaxed)
    }

    /// Nobody will answer it any more.
    pub fn fail(&self) {
        let before = std::mem::replace(&mut *lock(&self.answer), Answer::Given);
        match before {
            Answer::Given => {}
            _ if self.remote.is_closed() => {}
            Answer::Due => {
                let answer = with_http_date(|date| error_answer(Refusal::no_answer(), date));
                // Fails when the connection has ended, and then nobody waits.
                let _ = self.send([Part::Bytes(&answer)], Then::Close);
            }
            Answer::Begun { framed, .. } => {
                // What is cut short must not look whole, which only the end of the connection would tell there.
                let then = if framed == Framed::UntilClose { Then::Cut } else { Then::Close };
                let _ = self.send([Part::Bytes(b"")], then);
            }
        }
    }

    fn is(&self, method: &[u8]) -> bool {
        &self.head[..self.facts.method] == method
    }

    fn target_text(&self) -> &str {
        // It was found to be printable ASCII.
        std::str::from_utf8(&self.head[self.facts.method + 1..self.facts.target]).unwrap_or_default()
    }

    /// The target, without the scheme and the authority of the absolute form (RFC 9112 section 3.2.2).
    fn authority_and_rest(&self) -> (Option<&str>, &str) {
        let target = self.target_text();
        match target.split_once("://") {
            Some((_, rest)) if !target.starts_with('/') => {
                let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                (Some(authority), rest)
            }
            _ => (None, target),
        }
    }

    /// The path and the query of the target, as they were sent.
    fn path_and_query(&self) -> (&str, &str) {
        let (_, rest) = self.authority_and_rest();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        (if path.is_empty() { "/" } else { path }, query)
    }

    /// The status line and the fields.
    fn head_of(&self, status: i64, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Head> {
        let code = u16::try_from(status).ok().filter(|status| *status == 101 || (200..=599).contains(status));
        let wrong = || PyValueError::new_err(format!("status must be from 200 to 599, or 101, not {status}"));
        let status = code.ok_or_else(wrong)?;
        let mut head = Head::new(BUFFER.take(), status);
        if let Some(headers) = headers {
            each_field(headers, |name, value| head.field(name, value))?;
        }
        Ok(head)
    }

    /// Whether the connection goes on behind the answer. One who expects to be asked for the body, and was not, may send
    /// it or not (RFC 9110 section 10.1.1).
    fn keeps_alive(&self) -> bool {
        self.facts.keep_alive && (!self.facts.expects_continue || self.asked.load(Ordering::Relaxed))
    }

    /// Marks the answer, which must be due, as begun or given.
    fn advance(&self, answer: Answer) -> PyResult<()> {
        self.check_open()?;
        let mut state = lock(&self.answer);
        if *state != Answer::Due {
            return Err(PyRuntimeError::new_err("the request was answered before"));
        }
        *state = answer;
        Ok(())
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.remote.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    fn send<'a>(&self, parts: impl IntoIterator<Item = Part<'a>>, then: Then) -> Result<(), Error> {
        let (remote, number) = (&self.remote, self.number);
        let mut parts = parts.into_iter();
        let mut give = || {
            with_poller(&remote.handle, |poller, _| {
                poller.answer(remote.token, number, parts.by_ref().map(Part::into_data), then)
            })
        };
        let given = if self.is_posted() { None } else { give() };
        given.unwrap_or_else(|| {
            self.is_posted.store(true, Ordering::Relaxed);
            remote.answer(number, parts.map(Part::into_payload).collect(), then)
        })
    }
}

/// What an answer is put together from.
enum Part<'a> {
    Bytes(&'a [u8]),
    Held(Box<HeldBytes>),
}

impl<'a> Part<'a> {
    /// Large `bytes` are held; others copied.
    fn of(body: &Bound<'_, PyAny>, data: &'a [u8]) -> Self {
        held(body).map_or(Self::Bytes(data), |bytes| Self::Held(Box::new(HeldBytes::new(bytes))))
    }

    fn into_data(self) -> Data<'a> {
        match self {
            Self::Bytes(bytes) => Data::Bytes(bytes),
            Self::Held(held) => Data::Held(held),
        }
    }

    fn into_payload(self) -> Payload {
        match self {
            Self::Bytes(bytes) => Payload::Copied(bytes.to_vec()),
            Self::Held(held) => Payload::Held(held),
        }
    }
}

thread_local! {
    /// Where heads are written.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls `note` with each field of a mapping, or of an iterable of pairs.
fn each_field(headers: &Bound<'_, PyAny>, mut note: impl FnMut(&[u8], &[u8]) -> Result<(), Unfit>) -> PyResult<()> {
    let mut pair = |name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>| {
        with_latin1(name, "a field name", |name_bytes| with_latin1(value, name, |value| Ok(note(name_bytes, value)?)))
    };
    if let Ok(headers) = headers.cast_exact::<PyDict>() {
        return headers.iter().try_for_each(|(name, value)| pair(&name, &value));
    }
    let pairs = match headers.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => headers.clone(),
    };
    let wrong = |what: &Bound<'_, PyAny>| {
        PyTypeError::new_err(format!("headers must be a mapping or pairs of str, not {}", type_name(what)))
    };
    for item in pairs.try_iter().map_err(|_| wrong(headers))? {
        let item = item?;
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract().map_err(|_| wrong(&item))?;
        pair(&name, &value)?;
    }
    Ok(())
}

/// The bytes of a text in a field, in ISO-8859-1 (RFC 9110 section 5.5).
fn with_latin1<R>(
    text: &Bound<'_, PyAny>,
    whose: impl std::fmt::Display,
    use_it: impl FnOnce(&[u8]) -> PyResult<R>,
) -> PyResult<R> {
    let Ok(text) = text.cast::<PyString>() else {
        return Err(PyTypeError::new_err(format!("{whose}: must be str, not {}", type_name(text))));
    };
    match text.to_str() {
        Ok(text) if text.is_ascii() => use_it(text.as_bytes()),
        _ => {
            let encoded = text.call_method1("encode", ("latin-1",));
            let encoded = encoded.map_err(|_| PyValueError::new_err(format!("{whose}: not ISO-8859-1: {text:?}")))?;
            use_it(encoded.cast::<PyBytes>()?.as_bytes())
        }
    }
}

impl From<Unfit> for PyErr {
    fn from(unfit: Unfit) -> Self {
        PyValueError::new_err(unfit.0)
    }
}

#[pymethods]
impl Request {
    /// As it was sent; methods are case-sensitive.
    #[getter]
    fn method(&self) -> &str {
        // A token, which is ASCII.
        std::str::from_utf8(&self.head[..self.facts.method]).unwrap_or_default()
    }

    /// The target as it was sent: ``/path?query`` as a rule.
    #[getter]
    fn target(&self) -> &str {
        self.target_text()
    }

    /// The path, percent-decoded as UTF-8; ``*`` for ``OPTIONS *``, ``host:port`` for ``CONNECT``.
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (path, _) = self.path_and_query();
        if !path.contains('%') {
            return Ok(PyString::new(py, path).into_any());
        }
        py.import("urllib.parse")?.call_method1("unquote", (path,))
    }

    /// What follows the ``?``, as it was sent; ``urllib.parse.parse_qs`` reads it.
    #[getter]
    fn query(&self) -> &str {
        self.path_and_query().1
    }

    /// Whom the request is for, ``host:port`` as a rule: of the target if that says so, else the ``Host``; ``""`` without either.
    ///
    /// RFC 9112 section 3.2.2: where both are there, the ``Host`` means nothing.
    #[getter]
    fn host(&self) -> String {
        if self.is(b"CONNECT") {
            return self.target_text().into();
        }
        self.authority_and_rest().0.map_or_else(|| self.headers().first("host"), str::to_owned)
    }

    /// ``"1.1"`` or ``"1.0"``.
    #[getter]
    fn version(&self) -> &'static str {
        match self.facts.version {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
        }
    }

    /// The fields: a read-only mapping of names in any case.
    #[getter]
    fn headers(&self) -> Headers {
        Headers::new(self.head.clone())
    }

    /// The whole body; ``b""`` in a class with ``on_body``.
    #[getter]
    fn body(&self, py: Python<'_>) -> Py<PyBytes> {
        self.body.as_ref().map_or_else(|| PyBytes::new(py, b"").unbind(), |body| body.clone_ref(py))
    }

    /// Whether the peer wants the connection to go on.
    #[getter]
    fn keep_alive(&self) -> bool {
        self.facts.keep_alive
    }

    /// Whether an answer was given, or begun.
    #[getter]
    fn answered(&self) -> bool {
        *lock(&self.answer) != Answer::Due
    }

    /// Answer: the status, the fields, the body. From any thread.
    ///
    /// ``headers`` is a mapping or pairs. ``Content-Length``, ``Date`` and ``Connection`` are added; ``connection: close`` closes
    /// behind the answer. The answer to ``HEAD``, and one with 204 or 304, goes out without the body. ``101`` ends HTTP here:
    /// ``hand_over`` follows.
    ///
    /// Raises ``ValueError`` for what cannot be sent so, ``RuntimeError`` if it was answered, ``ConnectionClosed``.
    #[pyo3(signature = (status = 200, headers = None, body = None), text_signature = "($self, status=200, headers=None, body=b'')")]
    fn respond(
        &self,
        #[pyo3(from_py_with = integer)] status: i64,
        headers: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = some)] body: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let head = self.head_of(status, headers)?;
        match body {
            None => self.respond_with(head, None, &[]),
            Some(body) => bytes_of(&body, |data| self.respond_with(head, Some(&body), data)),
        }
    }

    /// Begin an answer whose body follows by ``write`` and ``end``. From any thread.
    ///
    /// The body is sent in chunks, unless ``headers`` give its ``content-length``; to an HTTP/1.0 peer until the close.
    /// Raises as ``respond`` does.
    #[pyo3(signature = (status = 200, headers = None), text_signature = "($self, status=200, headers=None)")]
    fn start(&self, #[pyo3(from_py_with = integer)] status: i64, headers: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let head = self.head_of(status, headers)?;
        if self.switches(&head) {
            return Err(PyValueError::new_err("another protocol follows, and no body: respond() answers so"));
        }
        let framed = match head.length() {
            _ if !head.may_have_body() => Framed::Empty,
            Some(length) => Framed::Length(length),
            None if self.facts.version == Version::Http11 => Framed::Chunked,
            None => Framed::UntilClose,
        };
        let left = if let Framed::Length(length) = framed { length } else { 0 };
        let keep_alive = self.keeps_alive();
        let closes = !keep_alive || head.closes() || framed == Framed::UntilClose;
        // Its body is counted, not sent.
        let framed_body = if self.facts.is_head && framed != Framed::Empty { Framed::Empty } else { framed };
        self.advance(Answer::Begun { framed: framed_body, left, closes })?;
        let (bytes, _) = with_http_date(|date| head.finish(framed, date, self.facts.version, keep_alive));
        self.send_and_keep(bytes, if closes { Then::MoreOfLast } else { Then::More })
    }

    /// Send more of the body of an answer that was begun. From any thread.
    ///
    /// Raises ``ValueError`` for more than the ``content-length`` that was given, ``RuntimeError`` if no answer was begun.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        bytes_of(data, |bytes| {
            let framed = self.count(bytes.len() as u64)?;
            if bytes.is_empty() {
                return Ok(());
            }
            let body = Part::of(data, bytes);
            match framed {
                Framed::Empty => Ok(()),
                Framed::Length(_) | Framed::UntilClose => Ok(self.send([body], Then::More)?),
                Framed::Chunked => {
                    let size = format!("{:x}\r\n", bytes.len());
                    Ok(self.send([Part::Bytes(size.as_bytes()), body, Part::Bytes(b"\r\n")], Then::More)?)
                }
            }
        })
    }

    /// The body of an answer that was begun is complete. From any thread.
    ///
    /// Raises ``ValueError`` when less than the ``content-length`` was sent, ``RuntimeError`` if no answer was begun.
    fn end(&self) -> PyResult<()> {
        self.check_open()?;
        let (framed, closes) = {
            let mut answer = lock(&self.answer);
            let Answer::Begun { framed, left, closes } = *answer else { return Err(not_begun()) };
            if let Framed::Length(length) = framed
                && left > 0
            {
                return Err(PyValueError::new_err(format!("{left} bytes of content-length {length} are missing")));
            }
            *answer = Answer::Given;
            (framed, closes)
        };
        let last: &[u8] = if framed == Framed::Chunked { b"0\r\n\r\n" } else { b"" };
        Ok(self.send([Part::Bytes(last)], if closes { Then::Close } else { Then::Next })?)
    }

    /// Let another handler object take over the connection, behind an answer of 101: as ``Connection.hand_over``.
    fn hand_over(&self, py: Python<'_>, other: &Bound<'_, Connection>) -> PyResult<()> {
        hand_over(py, &self.remote, other)
    }

    /// Whether its answer is the next one and no other is due, so that another protocol may follow it.
    fn _is_alone(&self) -> PyResult<bool> {
        let alone = with_poller(&self.remote.handle, |poller, _| poller.is_alone(self.remote.token, self.number));
        Ok(alone.ok_or(Error::WrongThread("goev.websocket.upgrade()"))?)
    }

    fn __repr__(&self) -> String {
        format!("<goev.http.Request {} {}>", self.method(), self.target_text())
    }
}

impl Request {
    fn respond_with(&self, head: Head, body: Option<&Bound<'_, PyAny>>, data: &[u8]) -> PyResult<()> {
        let switches = self.switches(&head);
        if head.is_switch() {
            self.check_switch(&head)?;
        }
        let framed = match head.length() {
            _ if switches || !head.may_have_body() => Framed::Empty,
            // What a GET would have got.
            Some(length) if self.facts.is_head && data.is_empty() => Framed::Length(length),
            Some(length) if length != data.len() as u64 => {
                let text = format!("content-length is {length}, but the body has {} bytes", data.len());
                return Err(PyValueError::new_err(text));
            }
            _ => Framed::Length(data.len() as u64),
        };
        self.advance(Answer::Given)?;
        let keep_alive = switches || self.keeps_alive();
        let (mut bytes, closes) = with_http_date(|date| head.finish(framed, date, self.facts.version, keep_alive));
        let then = match (switches, closes) {
            (true, _) => Then::Switch,
            (false, true) => Then::Close,
            (false, false) => Then::Next,
        };
        let data = if self.facts.is_head || framed == Framed::Empty { &[] } else { data };
        if data.len() <= SMALL_BODY {
            bytes.extend_from_slice(data);
            return self.send_and_keep(bytes, then);
        }
        let part = body.map_or(Part::Bytes(data), |body| Part::of(body, data));
        Ok(self.send([Part::Bytes(&bytes), part], then)?)
    }

    /// Whether another protocol follows the answer.
    fn switches(&self, head: &Head) -> bool {
        head.is_switch() || (self.is(b"CONNECT") && head.is_success())
    }

    /// RFC 9110 sections 7.8 and 15.2.2
    fn check_switch(&self, head: &Head) -> PyResult<()> {
        let wrong = if !self.facts.may_switch {
            "the request has no Upgrade, or is of HTTP/1.0"
        } else if !head.has_upgrade() {
            "the fields must have an Upgrade, which names the other protocol"
        } else {
            return Ok(());
        };
        Err(PyValueError::new_err(format!("101 cannot be answered: {wrong}")))
    }

    /// Sends what was written into the buffer of this thread, which is kept for the next time.
    fn send_and_keep(&self, bytes: Vec<u8>, then: Then) -> PyResult<()> {
        self.send([Part::Bytes(&bytes)], then)?;
        BUFFER.set(bytes);
        Ok(())
    }

    /// Counts a piece of the body that is about to be sent; returns how it is framed.
    fn count(&self, bytes: u64) -> PyResult<Framed> {
        self.check_open()?;
        match &mut *lock(&self.answer) {
            Answer::Begun { framed: Framed::Length(length), left, .. } if *left < bytes => Err(PyValueError::new_err(
                format!("{bytes} bytes are more than the {left} left of content-length {length}"),
            )),
            Answer::Begun { framed, left, .. } => {
                *left = left.saturating_sub(bytes);
                Ok(*framed)
            }
            Answer::Due | Answer::Given => Err(not_begun()),
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.fail();
    }
}

/// A value that is there but may not be `None`.
fn some<'py>(body: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if body.is_none() {
        Err(PyTypeError::new_err("body must be a bytes-like object, not None"))
    } else {
        Ok(Some(body.clone()))
    }
}

fn not_begun() -> PyErr {
    PyRuntimeError::new_err("no answer was begun, or it has ended: start() begins one")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock is held cannot leave a plain value half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
