//! `goev.http.Request`: one request, and the way to answer it from any thread.
//!
//! Longer than other files, because Python's methods of one class must be in one `#[pymethods]` block.

pub mod steps;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::fields::{each_field, with_field};
use super::files::{self, FileAnswer};
use super::forgotten;
use super::headers::Headers;
use super::observer::{Observer, Parts};
use crate::data::{Data, FileRange, Payload};
use crate::error::Error;
use crate::protocols::Wire;
use crate::protocols::http::{Answer, Facts, Head, Http, NotNow, Part, Piece, Then, Unfit, Version};
use crate::python::connection::held::{HeldBytes, held};
use crate::python::connection::{Connection, hand_over};
use crate::python::tables::with_poller_of;
use crate::python::values::arguments::{bytes_of, each_item, integer, optional_integer};
use crate::python::values::remembered::Texts;
use crate::shared::remote::Remote;
use crate::system::clock::http_date;
use crate::system::fork;

/// Up to this size a body is copied behind its head, so that one write queues both.
const SMALL_BODY: usize = 2048;

/// One request, and the way to answer it.
///
/// ``respond`` answers at once; ``start``, ``write`` and ``end`` piece by piece. Any thread may call them at any time;
/// answers go out in the order of the requests.
#[pyclass(frozen, module = "goev.http")]
pub struct Request {
    remote: Arc<Remote>,
    number: u64,
    head: Arc<[u8]>,
    facts: Facts,
    /// `None` if the body comes in pieces.
    body: Option<Py<PyBytes>>,
    /// Held while a part of the answer is given: parts that several threads give are sent in the order in which they count.
    answer: Mutex<Answer>,
    /// Whether another thread gave a part of the answer. Later parts must not overtake it.
    is_posted: AtomicBool,
    /// Whether the body is wanted only when somebody says so.
    is_deferred: AtomicBool,
    /// Hears when the answer is given; `None` if the handler does not want to know when it is sent.
    observer: Option<Arc<Observer>>,
}

impl Request {
    /// A request as it arrived. `observer` hears when its answer is given.
    pub fn object<'py>(
        py: Python<'py>,
        remote: &Arc<Remote>,
        number: u64,
        parts: Parts,
        observer: Option<Arc<Observer>>,
    ) -> PyResult<Bound<'py, Self>> {
        let Parts { head, facts, body } = parts;
        let answer = Mutex::new(Answer::new(number, facts, body.is_some()));
        let (remote, is_posted, is_deferred) = (remote.clone(), AtomicBool::new(false), AtomicBool::new(false));
        Bound::new(py, Self { remote, number, head, facts, body, answer, is_posted, is_deferred, observer })
    }

    /// Notes that the answer was sent already. The object is made of the parts of one that was dropped.
    pub fn settle(&self, py: Python<'_>) {
        self.answer(py).settle();
    }

    /// Notes that the answer is given.
    #[inline]
    fn note_given(slf: &Bound<'_, Self>) {
        if let Some(observer) = &slf.get().observer {
            observer.keep(slf.get().number, slf.as_any());
        }
    }

    /// As [`Self::fail`], for an object that is not being dropped.
    pub fn fail_with(slf: &Bound<'_, Self>) {
        let this = slf.get();
        let mut answer = this.answer(slf.py());
        if answer.is_due() {
            Self::note_given(slf);
        }
        this.give_up(&mut answer);
    }

    /// Takes out the answer, which another part of the program gives from now on; with the head of the request. `None`
    /// if it was given or begun.
    pub fn take_over(&self, py: Python<'_>) -> Option<(Arc<[u8]>, Facts, Answer)> {
        let mut answer = self.answer(py);
        let is_due = answer.is_due();
        answer.settle();
        is_due.then(|| (self.head.clone(), self.facts, Answer::new(self.number, self.facts, false)))
    }

    /// The number of the request on its connection.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether the body comes in pieces.
    pub fn is_streamed(&self) -> bool {
        self.body.is_none()
    }

    /// Whether the peer has to be asked for the body. Notes that it was asked.
    pub fn ask_for_body(&self, py: Python<'_>) -> bool {
        self.facts.expects_continue && !self.is_deferred.load(Ordering::Relaxed) && self.answer(py).ask_for_body()
    }

    /// Whether another thread gave a part of the answer.
    pub fn is_posted(&self) -> bool {
        self.is_posted.load(Ordering::Relaxed)
    }

    /// Gives up the answer: a request without one gets 500, and an answer that was begun ends incomplete.
    fn give_up(&self, answer: &mut Answer) {
        if answer.is_given() {
            return;
        }
        let was_begun = !answer.is_due();
        let given_up = answer.abandon(&http_date());
        if let Some(observer) = self.observer.as_ref().filter(|_| was_begun) {
            observer.forget(self.number);
        }
        if let Some((last, then)) = given_up
            && self.check_open().is_ok()
        {
            // Fails only if the connection has ended, and then no peer waits.
            let _ = self.send([Slice::Bytes(&last)], then);
        }
    }

    /// The answer. A thread that waits for it is detached, because the one that has it may stop for others.
    fn answer(&self, py: Python<'_>) -> MutexGuard<'_, Answer> {
        // A panic while the lock is held cannot leave a plain value half changed.
        self.answer.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    /// The head, from the method to the empty line.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The facts that the head states.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The connection.
    pub fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    fn is(&self, method: &[u8]) -> bool {
        &self.head[..self.facts.method()] == method
    }

    fn target_text(&self) -> &str {
        // The parser has checked that the target is printable ASCII.
        std::str::from_utf8(&self.head[self.facts.method() + 1..self.facts.target()]).unwrap_or_default()
    }

    /// The authority of a target in absolute form (RFC 9112 section 3.2.2), and the target behind it.
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
    pub fn path_and_query(&self) -> (&str, &str) {
        let (_, rest) = self.authority_and_rest();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        (if path.is_empty() { "/" } else { path }, query)
    }

    /// Makes the head: the status line and the fields.
    fn head_of(&self, status: i64, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Head> {
        let code = u16::try_from(status).ok().filter(|status| *status == 101 || (200..=599).contains(status));
        let wrong = || PyValueError::new_err(format!("status must be from 200 to 599, or 101, not {status}"));
        let status = code.ok_or_else(wrong)?;
        if let Some(fields) = headers.and_then(|headers| headers.cast_exact::<PyDict>().ok()) {
            return self.head_of_dict(status, fields);
        }
        let mut head = Head::new(BUFFER.take(), status);
        if let Some(headers) = headers {
            each_field(headers, |name, value| head.field(name, value))?;
        }
        Ok(head)
    }

    /// As [`Self::head_of`], for the usual form of fields: the poller remembers the last head.
    fn head_of_dict(&self, status: u16, fields: &Bound<'_, PyDict>) -> PyResult<Head> {
        let again = with_poller_of(&self.remote, |_, tables| {
            let mut heads = tables.heads.borrow_mut();
            heads.find(status, fields, || BUFFER.take()).ok_or_else(|| heads.come_again(fields))
        });
        let mut texts = match again {
            Some(Ok(head)) => return Ok(head),
            Some(Err(true)) => Some(Texts::with_capacity(fields.len())),
            Some(Err(false)) | None => None,
        };
        let mut head = Head::new(BUFFER.take(), status);
        each_item(fields, "headers", |name, value| {
            with_field(name, value, |name, value| head.field(name, value))?;
            let are_plain = [name, value].iter().all(|text| text.is_exact_instance_of::<PyString>());
            texts = texts.take().filter(|_| are_plain);
            if let Some(texts) = &mut texts {
                texts.push((name.clone().unbind(), value.clone().unbind()));
            }
            Ok(())
        })?;
        if let Some(texts) = texts {
            with_poller_of(&self.remote, |_, tables| tables.heads.borrow_mut().keep(texts, &head));
        }
        Ok(head)
    }

    fn check_open(&self) -> Result<(), Error> {
        fork::check(self.remote.poller().birth, "request")?;
        if self.remote.is_closed() { Err(Error::closed()) } else { Ok(()) }
    }

    /// As [`Self::send`], for a single part.
    fn send_bytes(&self, bytes: &[u8], then: Then) -> Result<(), Error> {
        let (remote, number) = (&self.remote, self.number);
        let answer = |http: &mut Http, wire: &mut dyn Wire| http.answer(number, [Data::Bytes(bytes)], then, wire);
        if !self.is_posted()
            && let Some(given) = with_poller_of(remote, |poller, _| poller.with(remote.token(), answer))
        {
            let Some(given) = given else { return Err(Error::closed()) };
            return given;
        }
        self.send([Slice::Bytes(bytes)], then)
    }

    fn send<'a>(&self, parts: impl IntoIterator<Item = Slice<'a>>, then: Then) -> Result<(), Error> {
        let (remote, number) = (&self.remote, self.number);
        let mut parts = parts.into_iter();
        let given = if self.is_posted() {
            None
        } else {
            with_poller_of(remote, |poller, _| {
                let parts = parts.by_ref().map(Slice::into_data);
                let given = poller.with::<Http, _>(remote.token(), |http, wire| http.answer(number, parts, then, wire));
                let Some(given) = given else { return Err(Error::closed()) };
                given
            })
        };
        given.unwrap_or_else(|| {
            self.is_posted.store(true, Ordering::Relaxed);
            let parts: Vec<_> = parts.map(Slice::into_payload).collect();
            let len = parts.iter().map(Payload::len).sum();
            remote.post(len, Box::new(Part { number, parts, then }))
        })
    }
}

/// A part of an answer.
enum Slice<'a> {
    Bytes(&'a [u8]),
    Held(Box<HeldBytes>),
    File(FileRange),
}

impl<'a> Slice<'a> {
    /// Holds a large `bytes` object; other data is copied.
    fn of(body: &Bound<'_, PyAny>, data: &'a [u8]) -> Self {
        held(body).map_or(Self::Bytes(data), |bytes| Self::Held(Box::new(HeldBytes::new(bytes))))
    }

    fn into_data(self) -> Data<'a> {
        match self {
            Self::Bytes(bytes) => Data::Bytes(bytes),
            Self::Held(held) => Data::Held(held),
            Self::File(range) => Data::File(range),
        }
    }

    fn into_payload(self) -> Payload {
        match self {
            Self::Bytes(bytes) => Payload::Copied(bytes.to_vec()),
            Self::Held(held) => Payload::Held(held),
            Self::File(range) => Payload::File(range),
        }
    }
}

thread_local! {
    /// The memory in which heads are written.
    pub static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl From<Unfit> for PyErr {
    fn from(unfit: Unfit) -> Self {
        PyValueError::new_err(unfit.0)
    }
}

impl From<NotNow> for PyErr {
    fn from(error: NotNow) -> Self {
        match error {
            NotNow::Answered | NotNow::NotBegun => PyRuntimeError::new_err(format!("{error} [GOEV602]")),
            NotNow::TooMuch { .. } | NotNow::TooLittle { .. } => PyValueError::new_err(error.to_string()),
        }
    }
}

#[pymethods]
impl Request {
    /// The method as it was sent; methods are case-sensitive.
    #[getter]
    fn method(&self) -> &str {
        // The parser accepts only a token, which is ASCII.
        std::str::from_utf8(&self.head[..self.facts.method()]).unwrap_or_default()
    }

    /// The target as it was sent, usually ``/path?query``.
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

    /// The part of the target after the ``?``, as it was sent; ``urllib.parse.parse_qs`` reads it.
    #[getter]
    fn query(&self) -> &str {
        self.path_and_query().1
    }

    /// The host that the request names, usually ``host:port``: from the target if it has one, else from the ``Host``
    /// header; else ``""``.
    ///
    /// RFC 9112 section 3.2.2: if the target has a host, the ``Host`` header is ignored.
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

    /// ``"https"`` if the connection is over TLS, else ``"http"`` (RFC 9110 section 4.2). A proxy in front that ends the TLS
    /// tells of it by the PROXY protocol (``connection.proxy``); goev believes no header of a request.
    #[getter]
    fn scheme(&self) -> &'static str {
        if self.remote.is_secure { "https" } else { "http" }
    }

    /// The fields: a read-only mapping; a name matches in any case.
    #[getter]
    fn headers(&self) -> Headers {
        Headers::new(self.head.clone())
    }

    /// The whole body; ``b""`` in a class with ``on_body``.
    #[getter]
    fn body(&self, py: Python<'_>) -> Py<PyBytes> {
        self.body.as_ref().map_or_else(|| PyBytes::new(py, b"").unbind(), |body| body.clone_ref(py))
    }

    /// Whether the peer wants to keep the connection.
    #[getter]
    fn keep_alive(&self) -> bool {
        self.facts.keep_alive
    }

    /// Whether an answer was given or begun.
    #[getter]
    fn answered(&self, py: Python<'_>) -> bool {
        !self.answer(py).is_due()
    }

    /// Answer with ``status``, 200 to 599 or 101, the fields and the ``body``. From any thread.
    ///
    /// ``headers`` is a mapping or pairs. ``Content-Length``, ``Date`` and ``Connection`` are added; ``connection:
    /// close`` closes after the answer. The answer to ``HEAD``, and one with 204 or 304, goes out without the body.
    /// ``101`` ends HTTP here: ``hand_over`` follows.
    ///
    /// Raises ``ValueError`` for arguments that HTTP cannot carry, ``RuntimeError`` if the request was answered,
    /// ``ConnectionClosed``.
    #[pyo3(signature = (status = 200, headers = None, body = None), text_signature = "($self, status=200, headers=None, body=b'')")]
    pub fn respond(
        slf: &Bound<'_, Self>,
        #[pyo3(from_py_with = integer)] status: i64,
        headers: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = some)] body: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let head = slf.get().head_of(status, headers)?;
        match body {
            None => Self::respond_with(slf, head, None, &[]),
            Some(body) => bytes_of(&body, |data| Self::respond_with(slf, head, Some(&body), data)),
        }
    }

    /// Answer with a file, or with ``count`` bytes of it from ``offset`` on. From any thread.
    ///
    /// The kernel sends it without a copy in this process (sendfile(2)), in turn among the answers; up to 16 KiB are read
    /// at once. Ranges (RFC 9110 section 14) and conditions (section 13) of ``GET`` and ``HEAD`` are met: 206 with one
    /// range, the whole as 200 for several; 304, 412 and 416.
    ///
    /// Args:
    ///     file: a path, or a regular file: a descriptor or an object with ``fileno()``, which may be closed right after
    ///         the call.
    ///     offset, count: bytes; by default everything.
    ///     headers: a mapping or pairs. A ``Content-Type``, ``ETag`` or ``Last-Modified`` of your own replaces the ones
    ///         made here, which come from ``mimetypes`` and from the file's size and time of change.
    ///
    /// A file that shrinks while it is sent ends the connection with a reset and ``OSError``. Opening a file and reading
    /// it may wait for the disk, and the poller with it.
    ///
    /// Raises:
    ///     OSError: the file cannot be opened, as ``FileNotFoundError``, ``PermissionError`` or ``IsADirectoryError``;
    ///         ``errno`` and ``filename`` are kept.
    ///     ValueError: it is no regular file, or an argument does not fit.
    ///     RuntimeError, ConnectionClosed: as ``respond``.
    ///
    /// A path from a request may lead anywhere: check that it stays in your directory before the call.
    #[pyo3(signature = (file, *, offset = 0, count = None, headers = None))]
    fn respond_file(
        slf: &Bound<'_, Self>,
        file: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = integer)] offset: i64,
        #[pyo3(from_py_with = optional_integer)] count: Option<i64>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let mut fields = Vec::new();
        if let Some(headers) = headers {
            each_field(headers, |name, value| {
                fields.push((name.to_vec(), value.to_vec()));
                Ok(())
            })?;
        }
        let this = slf.get();
        let method = &this.head[..this.facts.method()];
        Self::respond_with_file(slf, files::answer(&this.head, method, file, (offset, count), fields)?)
    }

    /// Begin an answer with ``status``; ``write`` and ``end`` send its body. From any thread.
    ///
    /// The body is sent in chunks, unless ``headers`` give its ``content-length``; to an HTTP/1.0 peer until the close.
    /// Raises the same errors as ``respond``.
    #[pyo3(signature = (status = 200, headers = None), text_signature = "($self, status=200, headers=None)")]
    fn start(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = integer)] status: i64,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.begin(py, self.head_of(status, headers)?)
    }

    /// Send the bytes ``data`` as more of the body of an answer that was begun. From any thread.
    ///
    /// Raises ``ValueError`` if the body exceeds the ``content-length`` that was given, ``RuntimeError`` if no answer
    /// was begun.
    pub fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        bytes_of(data, |bytes| {
            self.check_open()?;
            let body = Slice::of(data, bytes);
            let mut answer = self.answer(data.py());
            match answer.piece(bytes.len())? {
                Piece::Counted => Ok(()),
                Piece::Plain => Ok(self.send([body], Then::More)?),
                Piece::Chunk(size) => {
                    Ok(self.send([Slice::Bytes(size.as_bytes()), body, Slice::Bytes(b"\r\n")], Then::More)?)
                }
            }
        })
    }

    /// End the body of an answer that was begun. From any thread.
    ///
    /// Raises ``ValueError`` if the body is shorter than the ``content-length``, ``RuntimeError`` if no answer was
    /// begun.
    fn end(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::end_with(slf, b"")
    }

    /// Let ``other``, another handler object, take over the connection after an answer of 101, as
    /// ``Connection.hand_over`` does, with the same errors.
    fn hand_over(&self, py: Python<'_>, other: &Bound<'_, Connection>) -> PyResult<()> {
        hand_over(py, &self.remote, other)
    }

    /// Whether only the answer to this request is due, so that another protocol may follow it.
    fn _is_alone(&self) -> PyResult<bool> {
        let alone = with_poller_of(&self.remote, |poller, _| {
            poller.with::<Http, _>(self.remote.token(), |http, _| http.is_alone(self.number)).unwrap_or(false)
        });
        Ok(alone.ok_or_else(|| Error::wrong_thread("goev.websocket.upgrade()"))?)
    }

    fn __repr__(&self) -> String {
        format!("<goev.http.Request {} {}>", self.method(), self.target_text())
    }
}

impl Request {
    /// Answers with this head; `data` is the body, and `body` the object that has it.
    pub fn respond_with(
        slf: &Bound<'_, Self>,
        head: Head,
        body: Option<&Bound<'_, PyAny>>,
        data: &[u8],
    ) -> PyResult<()> {
        let this = slf.get();
        let mut answer = this.answer(slf.py());
        let mut ready = answer.whole(head, data.len(), &http_date())?;
        this.check_open()?;
        answer.give(&ready)?;
        Self::note_given(slf);
        let data = if ready.has_body { data } else { &[] };
        if data.len() <= SMALL_BODY {
            ready.head.extend_from_slice(data);
            return this.send_and_keep(ready.head, ready.then);
        }
        let slice = body.map_or(Slice::Bytes(data), |body| Slice::of(body, data));
        Ok(this.send([Slice::Bytes(&ready.head), slice], ready.then)?)
    }

    fn respond_with_file(slf: &Bound<'_, Self>, answer: FileAnswer) -> PyResult<()> {
        let FileAnswer { status, fields, file, offset, count } = answer;
        let mut head = Head::new(BUFFER.take(), status);
        fields.iter().try_for_each(|(name, value)| head.field(name, value))?;
        Self::respond_with_part(slf, head, file, (offset, count))
    }

    /// Sends a head that was written into this thread's buffer, and keeps the memory for the next head.
    fn send_and_keep(&self, bytes: Vec<u8>, then: Then) -> PyResult<()> {
        self.send_bytes(&bytes, then)?;
        BUFFER.set(bytes);
        Ok(())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // Nobody else has the object, so no lock is needed to look.
        if self.answer.get_mut().unwrap_or_else(PoisonError::into_inner).is_given() {
            return;
        }
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.remote.is_closed() {
            forgotten::warn(&self.remote, &self.head, !answer.is_due());
        }
        self.give_up(&mut answer);
    }
}

/// Takes an argument that may be missing but not `None`.
fn some<'py>(body: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if body.is_none() {
        Err(PyTypeError::new_err("body must be a bytes-like object, not None"))
    } else {
        Ok(Some(body.clone()))
    }
}
