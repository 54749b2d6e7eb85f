//! `goev.Connection`: what users subclass.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMappingProxy, PyString, PyTuple, PyType};
use socket2::{SockRef, Socket, TcpKeepalive};

use super::arguments::{
    self, address_object, bytes_of, inet_object, integer, nanoseconds, optional_integer, peer_text, period, size,
    size_within, whole_seconds,
};
use super::dispatch::{CALLBACKS, PyDispatch, PyTask, check_callbacks, goes_on, hand_over, is_inherited, with_poller};
use super::errors::{ConnectionClosed, InputOverflow};
use super::offload::run_in_executor;
use super::options::{set_connection_option, take_keywords};
use super::timer::Timer;
use super::websocket::WebSocketConnection;
use crate::buffer::{FileRange, Held};
use crate::error::Error;
use crate::fork;
use crate::framing::Framing;
use crate::options::MAX_SOCKET_BUFFER;
use crate::poller::{Data, Poller};
use crate::remote::{Payload, Peer, Remote};
use crate::slots::Token;

/// From this size on a `bytes` object is held by reference until it is sent; below, copying is cheaper.
const HELD_FROM: usize = 4096;

/// Up to this size a message is put together with its frame, so that it is queued at once.
const SMALL_FRAME: usize = 512;

/// Up to this size a part of a file is read at once: each one that waits to be sent costs a descriptor.
const FILE_COPIED_TO: u64 = 16 * 1024;

/// How much memory for frames a thread keeps.
const MOST_KEPT: usize = 64 * 1024;

/// From so many bytes on frames are written, and others gathered anew: what waits unwritten is bounded by no limit of output.
const MOST_TOGETHER: usize = MOST_KEPT / 2;

thread_local! {
    /// Where frames are put together.
    static FRAMES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One connection of a stream socket: subclass it and define the callbacks you need.
///
/// A handler object serves one connection, once. All its callbacks, those of its timers included, run on the thread of
/// its poller, one at a time. ``on_open`` comes first and once, ``on_close`` last and once. ``on_open``, ``on_read``
/// and ``on_eof`` may return ``False`` to close; ``None`` and ``True`` go on. An exception ends the connection: it is
/// logged (logger ``goev``) and given to ``on_close``.
///
/// ``write``, ``writelines``, ``send``, ``send_messages``, ``close``, ``abort`` and ``call_soon`` may be called from any thread;
/// everything else from elsewhere than the poller's thread raises ``WrongThread``.
///
/// With a ``framing`` the stream is cut into messages, and ``on_message`` is called instead of ``on_read``: a
/// ``LengthPrefixed``, ``Delimited`` or ``FixedSize``; or an object of your own with ``feed(data)``, which returns the list of
/// messages that ``data`` completes, and ``frame(message)``, which returns the bytes to send. A class is called for each
/// connection, so that what it keeps is this connection's alone. Set ``framing`` in the class or in ``__init__``.
///
/// Go: ``EvHandler`` with ``IOHandle``.
#[pyclass(subclass, frozen, module = "goev")]
pub struct Connection {
    remote: OnceLock<Arc<Remote>>,
    /// Serves a connection, or is to serve one that is being made.
    claimed: AtomicBool,
    /// How messages are framed, and whether `on_messages` takes them; not of a framing in Python.
    messages: OnceLock<(Arc<Framing>, bool)>,
}

/// What a method works on: the connection on its own poller.
struct Local<'a> {
    poller: &'a Poller,
    dispatch: &'a PyDispatch,
    remote: &'a Arc<Remote>,
}

impl Local<'_> {
    fn token(&self) -> Token {
        self.remote.token
    }

    fn socket<R>(&self, use_it: impl FnOnce(&Socket) -> R) -> PyResult<R> {
        Ok(self.poller.with_socket(self.token(), use_it)?)
    }

    fn set(&self, what: &str, set: impl FnOnce(SockRef<'_>) -> std::io::Result<()>) -> PyResult<()> {
        Ok(self.socket(|socket| set(SockRef::from(socket)))?.map_err(Error::io(format!("cannot set {what}")))?)
    }
}

impl Connection {
    /// Makes this object the handler of one connection and of no other.
    pub fn claim(&self, argument: &str) -> PyResult<()> {
        if self.claimed.swap(true, Ordering::AcqRel) { Err(used_twice(argument)) } else { Ok(()) }
    }

    /// The connection it was claimed for did not come about.
    pub fn release(&self) {
        self.claimed.store(false, Ordering::Release);
    }

    /// The connection it was claimed for is there.
    pub fn bind_to(&self, remote: Arc<Remote>) {
        self.remote.get_or_init(|| remote);
    }

    /// From here on `send` frames so.
    pub fn set_framing(&self, framing: Arc<Framing>, in_batches: bool) {
        self.messages.get_or_init(|| (framing, in_batches));
    }

    /// Whether `on_messages` is called instead of `on_message`.
    pub fn takes_batches(&self) -> bool {
        self.messages.get().is_some_and(|(_, in_batches)| *in_batches)
    }

    /// How log lines name the peer.
    pub fn peer_text(&self) -> String {
        self.remote.get().map_or("no peer yet".into(), |remote| peer_text(&remote.peer))
    }

    /// The connection it serves, or has served.
    pub fn bound(&self) -> Option<&Arc<Remote>> {
        self.remote.get()
    }

    /// The connection it serves; an error before `on_open`, and in a forked child.
    pub fn remote(&self) -> PyResult<&Arc<Remote>> {
        let remote = self.remote.get().ok_or_else(|| ConnectionClosed::new_err("the connection is not open yet"))?;
        fork::check(remote.handle.birth, "connection")?;
        Ok(remote)
    }

    /// Works on the connection on its poller's thread.
    fn local<R>(&self, method: &'static str, work: impl FnOnce(&Local<'_>) -> PyResult<R>) -> PyResult<R> {
        let remote = self.remote()?;
        with_poller(&remote.handle, |poller, dispatch| work(&Local { poller, dispatch, remote }))
            .unwrap_or_else(|| Err(Error::WrongThread(method).into()))
    }

    /// Consumes as much of the input as `look` says.
    fn read_by<R>(&self, method: &'static str, look: impl FnOnce(&[u8]) -> (PyResult<R>, usize)) -> PyResult<R> {
        self.local(method, |local| local.poller.read(local.token(), look)?)
    }

    /// The most bytes in which a separator is looked for.
    fn separator_limit(&self, separator: &[u8], limit: Option<i64>) -> PyResult<usize> {
        if separator.is_empty() {
            return Err(PyValueError::new_err("separator must not be empty"));
        }
        let remote = self.remote()?;
        let limit = limit.map_or(Ok(remote.max_input()), |limit| size("limit", limit))?;
        if limit < separator.len() {
            let text = format!("limit must leave room for the separator's {} bytes, not {limit}", separator.len());
            return Err(PyValueError::new_err(text));
        }
        within_max_input("limit", limit, remote)?;
        Ok(limit)
    }

    /// Lets a framing in Python cut all the input, and hands out what it found until the handler has enough.
    fn feed<'py>(&self, slf: &Bound<'py, Self>, framing: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let fed = framing.call_method1("feed", (self.read(slf.py(), -1)?,))?;
        let Ok(messages) = fed.cast::<PyList>() else {
            return Err(PyTypeError::new_err(format!(
                "feed(data) must return a list of messages, not {}",
                arguments::type_name(&fed)
            )));
        };
        let (one, several) = (PyString::new(slf.py(), "on_message"), PyString::new(slf.py(), "on_messages"));
        if !is_inherited(slf, &several) {
            return if messages.is_empty() { Ok(None) } else { slf.call_method1(several, (messages,)).map(Some) };
        }
        for message in messages {
            let answer = slf.call_method1(&one, (message,))?;
            if !goes_on(&one, &answer)? || !self.local("feed()", |local| Ok(local.poller.is_open(local.token())))? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    fn write_held(&self, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let held = || Box::new(HeldBytes::new(data));
        let remote = self.remote()?;
        let written = with_poller(&remote.handle, |poller, _| poller.write(remote.token, Data::Held(held())));
        Ok(written.unwrap_or_else(|| remote.write(Payload::Held(held())))?)
    }

    /// Writes a message with what its framing puts around it.
    fn send_framed(&self, framing: &Framing, message: &Bound<'_, PyAny>) -> PyResult<()> {
        bytes_of(message, |data| {
            let (head, tail) = framing.wrap(data)?;
            self.write_framed(head.bytes(), data, tail, held(message))
        })
    }

    /// Writes all parts; nothing comes between them. `data` is held where it is, if it is `held`.
    pub fn write_framed(
        &self,
        head: &[u8],
        data: &[u8],
        tail: &[u8],
        held: Option<&Bound<'_, PyBytes>>,
    ) -> PyResult<()> {
        let remote = self.remote()?;
        let mut frame = [0; SMALL_FRAME];
        if let Some(frame) = gather(&mut frame, [head, data, tail]) {
            return self.write_copied(frame);
        }
        let written = with_poller(&remote.handle, |poller, _| {
            let body = held.map_or(Data::Bytes(data), |bytes| Data::Held(Box::new(HeldBytes::new(bytes))));
            poller.write_parts(remote.token, [Data::Bytes(head), body, Data::Bytes(tail)])
        });
        let whole = || Payload::Copied([head, data, tail].concat());
        Ok(written.unwrap_or_else(|| remote.write(whole()))?)
    }

    /// Writes messages as `send_framed` does, small ones together. Those before one that is refused are sent.
    fn send_all_framed(&self, framing: &Framing, messages: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut frames = FRAMES.take();
        frames.clear();
        let mut push = |message: &Bound<'_, PyAny>| {
            if held(message).is_some() {
                self.write_copied(&frames)?;
                frames.clear();
                return self.send_framed(framing, message);
            }
            bytes_of(message, |data| Ok(framing.append(data, &mut frames)?))?;
            if frames.len() >= MOST_TOGETHER {
                self.write_copied(&frames)?;
                frames.clear();
            }
            Ok(())
        };
        let result = match messages.cast_exact::<PyList>() {
            Ok(list) => list.iter().try_for_each(|message| push(&message)),
            Err(_) => messages.try_iter()?.try_for_each(|message| push(&message?)),
        };
        self.write_copied(&frames)?;
        if frames.capacity() <= MOST_KEPT {
            FRAMES.set(frames);
        }
        result
    }

    pub fn write_copied(&self, data: &[u8]) -> PyResult<()> {
        let remote = self.remote()?;
        let written = with_poller(&remote.handle, |poller, _| poller.write(remote.token, Data::Bytes(data)));
        Ok(written.unwrap_or_else(|| remote.write(Payload::Copied(data.to_vec())))?)
    }
}

/// A handler object that was claimed for a connection which may never be made; then it is free again.
pub struct Claim(Option<Py<Connection>>);

impl Claim {
    pub fn new(handler: &Bound<'_, Connection>) -> PyResult<Self> {
        if handler.is_instance_of::<WebSocketConnection>() {
            return Err(PyTypeError::new_err(
                "a WebSocket is connected by goev.websocket.connect(), which knows its URL",
            ));
        }
        handler.get().claim("handler: ")?;
        Ok(Self(Some(handler.clone().unbind())))
    }

    /// The connection is being made.
    pub fn keep(mut self, py: Python<'_>) -> Py<PyAny> {
        let object = self.object(py);
        self.0 = None;
        object
    }

    pub fn object(&self, py: Python<'_>) -> Py<PyAny> {
        self.0.as_ref().map_or_else(|| py.None(), |handler| handler.clone_ref(py).into_any())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(handler) = &self.0 {
            handler.get().release();
        }
    }
}

pub fn used_twice(argument: &str) -> PyErr {
    PyValueError::new_err(format!("{argument}a handler object serves one connection, once; this one has been used"))
}

/// A `bytes` object that is being sent.
pub struct HeldBytes {
    bytes: *const [u8],
    _owner: Py<PyBytes>,
}

// SAFETY: the memory of a bytes object neither moves nor changes while the owner holds a reference to it, and reading
// it needs no interpreter. The reference itself is `Send`.
unsafe impl Send for HeldBytes {}

impl HeldBytes {
    pub fn new(owner: &Bound<'_, PyBytes>) -> Self {
        Self { bytes: owner.as_bytes(), _owner: owner.clone().unbind() }
    }
}

impl Held for HeldBytes {
    fn bytes(&self) -> &[u8] {
        // SAFETY: as above; the owner lives as long as `self`.
        unsafe { &*self.bytes }
    }
}

/// The `bytes` that are better held than copied.
pub fn held<'a, 'py>(data: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyBytes>> {
    data.cast_exact::<PyBytes>().ok().filter(|bytes| bytes.as_bytes().len() >= HELD_FROM)
}

/// All parts in `space`, if it holds them.
fn gather<'a>(space: &'a mut [u8], parts: [&[u8]; 3]) -> Option<&'a [u8]> {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut rest = space.get_mut(..len)?;
    for part in parts {
        let (here, behind) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = behind;
    }
    Some(&space[..len])
}

/// How many of `have` bytes `n` asks for; -1 is all.
fn count(n: i64, have: usize) -> PyResult<usize> {
    match n {
        -1 => Ok(have),
        0.. => Ok(usize::try_from(n).unwrap_or(usize::MAX).min(have)),
        _ => Err(PyValueError::new_err(format!("n must be -1 (everything) or more, not {n}"))),
    }
}

/// Where a separator is: the first one, or the last.
fn find(input: &[u8], separator: &[u8], last: bool) -> Option<usize> {
    if last {
        // As a rule the input ends with a whole message, and then nothing has to be searched.
        let at_end = input.ends_with(separator).then(|| input.len() - separator.len());
        return at_end.or_else(|| memchr::memmem::rfind(input, separator));
    }
    memchr::memmem::find(input, separator)
}

fn part_of(file: OwnedFd, offset: u64, count: u64) -> PyResult<Vec<u8>> {
    let mut bytes = vec![0; count as usize];
    let read = File::from(file).read_exact_at(&mut bytes, offset);
    read.map_err(Error::io("cannot read the file to send"))?;
    Ok(bytes)
}

fn no_separator(separator: &[u8], limit: usize) -> PyErr {
    let separator = separator.escape_ascii();
    InputOverflow::new_err(format!("no separator b'{separator}' within limit={limit} bytes"))
}

fn within_max_input(name: &str, value: usize, remote: &Remote) -> PyResult<()> {
    let limit = remote.max_input();
    if value <= limit {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{name} must be at most max_input={limit}, not {value}")))
}

#[pymethods]
impl Connection {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    #[classmethod]
    pub fn new(
        class: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        // Whatever the subclass's __init__ takes.
        let _ = (args, kwargs);
        check_callbacks(class, &CALLBACKS)?;
        Ok(Self { remote: OnceLock::new(), claimed: AtomicBool::new(false), messages: OnceLock::new() })
    }

    // ---- callbacks ------------------------------------------------------------------------------------------------

    /// The connection is open: called first and once. ``False`` closes it.
    ///
    /// Go: ``OnOpen``.
    fn on_open(&self) {}

    /// None: bytes, which ``on_read`` takes.
    #[classattr]
    fn framing() -> Option<Py<PyAny>> {
        None
    }

    /// Input is there that was not offered before, or more than was left. ``False`` closes.
    ///
    /// Called again while it consumes something and input remains; what it leaves stays for the next time. Not called of a
    /// connection with a framing: there ``on_message`` is.
    ///
    /// Go: ``OnRead``.
    fn on_read<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let framing = slf.getattr("framing")?;
        if framing.is_none() { Ok(None) } else { slf.get().feed(slf, &framing) }
    }

    /// A whole message came, without what frames it. ``False`` closes.
    ///
    /// What the stream holds behind a ``FramingError`` is lost; what was written before it goes out.
    fn on_message(&self, message: &Bound<'_, PyAny>) {
        let _ = message;
    }

    /// Messages came, one or more: for a class that defines it, instead of ``on_message``. ``False`` closes.
    fn on_messages(&self, messages: &Bound<'_, PyAny>) {
        let _ = messages;
    }

    /// The peer has finished sending. ``False`` closes.
    ///
    /// A class without an ``on_eof`` of its own flushes and closes; with one the connection stays half open.
    fn on_eof(&self) {}

    /// Queued output was above ``high_water`` and has fallen to ``low_water``.
    fn on_drain(&self) {}

    /// The reactor was stopped: a chance to say goodbye. ``False`` closes.
    ///
    /// A class without an ``on_stopping`` of its own is closed as by ``close()``; with one the connection stays open until
    /// it closes itself, and is aborted when the grace of the stop is over.
    fn on_stopping(&self) {}

    /// A timer set without a callback fired. ``False`` ends a repeating one.
    ///
    /// Go: ``OnTimeout``.
    fn on_timeout(&self) {}

    /// The connection could not be made; neither ``on_open`` nor ``on_close`` will come.
    ///
    /// Go: ``OnConnectFail``.
    fn on_connect_fail(&self, error: &Bound<'_, PyAny>) {
        let _ = error;
    }

    /// The connection has ended: called last and once.
    ///
    /// ``error`` is ``None`` after an orderly close by either side, else the exception that ended it:
    /// ``ConnectionResetError``, ``OutputOverflow``, what a callback raised, ``ConnectionAbortedError`` after
    /// ``abort()`` or at the deadline of a stop.
    ///
    /// Go: ``OnClose``.
    fn on_close(&self, error: &Bound<'_, PyAny>) {
        let _ = error;
    }

    // ---- input ----------------------------------------------------------------------------------------------------

    /// Take up to ``n`` bytes of the unread input, all of it by default; ``b""`` when there is none.
    ///
    /// Go: ``Read``.
    #[pyo3(signature = (n = -1), text_signature = "($self, n=-1)")]
    fn read<'py>(&self, py: Python<'py>, #[pyo3(from_py_with = integer)] n: i64) -> PyResult<Bound<'py, PyBytes>> {
        self.read_by("read()", |input| match count(n, input.len()) {
            // Making a bytes object runs no Python code, so the borrow of the input may last.
            Ok(count) => (Ok(PyBytes::new(py, &input[..count])), count),
            Err(error) => (Err(error), 0),
        })
    }

    /// Look at up to ``n`` bytes of the unread input, all of it by default, without taking them.
    #[pyo3(signature = (n = -1), text_signature = "($self, n=-1)")]
    fn peek<'py>(&self, py: Python<'py>, #[pyo3(from_py_with = integer)] n: i64) -> PyResult<Bound<'py, PyBytes>> {
        self.read_by("peek()", |input| (count(n, input.len()).map(|count| PyBytes::new(py, &input[..count])), 0))
    }

    /// Throw away up to ``n`` bytes of the unread input; returns how many.
    fn skip(&self, #[pyo3(from_py_with = integer)] n: i64) -> PyResult<usize> {
        let n = size("n", n)?;
        self.read_by("skip()", |input| (Ok(n.min(input.len())), n.min(input.len())))
    }

    /// Take ``n`` bytes, or ``None`` while fewer are there.
    ///
    /// Raises ``ValueError`` when ``n`` is more than ``max_input``: they could never be there.
    fn read_exactly<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = integer)] n: i64,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let n = size("n", n)?;
        within_max_input("n", n, self.remote()?)?;
        self.read_by("read_exactly()", |input| match input.get(..n) {
            Some(bytes) => (Ok(Some(PyBytes::new(py, bytes))), n),
            None => (Ok(None), 0),
        })
    }

    /// Take everything up to and including ``separator``, or ``None`` while it has not come.
    ///
    /// With ``last=True`` up to the last one that is there: all complete lines at once, say. ``limit`` is the most bytes
    /// to take, separator included; ``max_input`` by default. ``InputOverflow`` is raised when so many are there without
    /// a separator.
    #[pyo3(signature = (separator, limit = None, *, last = false))]
    fn read_until<'py>(
        &self,
        py: Python<'py>,
        separator: &Bound<'_, PyBytes>,
        #[pyo3(from_py_with = optional_integer)] limit: Option<i64>,
        last: bool,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let separator = separator.as_bytes();
        let limit = self.separator_limit(separator, limit)?;
        self.read_by("read_until()", |input| {
            let within = &input[..input.len().min(limit)];
            match find(within, separator, last) {
                Some(at) => (Ok(Some(PyBytes::new(py, &within[..at + separator.len()]))), at + separator.len()),
                None if within.len() == limit => (Err(no_separator(separator, limit)), 0),
                None => (Ok(None), 0),
            }
        })
    }

    /// Take as much unread input as fits into a writable ``buffer``; returns how many bytes.
    fn read_into(&self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let buffer = PyUntypedBuffer::get(buffer)?;
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(PyTypeError::new_err("buffer must be writable and contiguous"));
        }
        self.read_by("read_into()", |input| {
            let count = input.len().min(buffer.len_bytes());
            // SAFETY: the exporter keeps `len_bytes` writable bytes at `buf_ptr` while the view is held; the input is
            // memory of the poller, so the two cannot overlap.
            unsafe { std::ptr::copy_nonoverlapping(input.as_ptr(), buffer.buf_ptr().cast::<u8>(), count) };
            (Ok(count), count)
        })
    }

    /// Bytes of input that wait to be read.
    #[getter]
    fn pending_input(&self) -> PyResult<usize> {
        self.local("pending_input", |local| Ok(local.poller.pending_input(local.token())))
    }

    /// Stop reading from the socket and calling ``on_read``; the peer feels it when the buffers are full.
    fn pause_reading(&self) -> PyResult<()> {
        self.local("pause_reading()", |local| Ok(local.poller.set_paused(local.token(), true)?))
    }

    /// Go on after ``pause_reading``. Input that waits is offered again.
    fn resume_reading(&self) -> PyResult<()> {
        self.local("resume_reading()", |local| Ok(local.poller.set_paused(local.token(), false)?))
    }

    // ---- output ---------------------------------------------------------------------------------------------------

    /// Queue any bytes-like ``data`` for sending. From any thread; the order of each calling thread is kept.
    ///
    /// The data is copied, or held when it is a large ``bytes``. Above ``high_water`` queued bytes it is sent at once
    /// as far as the socket takes it, and reading pauses until ``on_drain``. More than ``max_output`` queued bytes end
    /// the connection with ``OutputOverflow``; a single write into an empty queue always fits.
    ///
    /// Raises ``ConnectionClosed`` after the end, or after ``close()``.
    ///
    /// Go: ``Write``, ``AsyncWrite``.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        match held(data) {
            Some(bytes) => self.write_held(bytes),
            None => bytes_of(data, |data| self.write_copied(data)),
        }
    }

    /// ``write`` a message with what the connection's ``framing`` puts around it. From any thread.
    ///
    /// Raises ``MessageTooLong`` above its ``max_size``, ``ValueError`` when it cannot be framed so, ``TypeError`` without a
    /// framing.
    fn send(slf: &Bound<'_, Self>, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        if let Some((framing, _)) = this.messages.get() {
            return this.send_framed(framing, message);
        }
        let framing = slf.getattr("framing")?;
        if framing.is_none() {
            return Err(PyTypeError::new_err("send() needs a framing; write() sends bytes as they are"));
        }
        this.write(&framing.call_method1("frame", (message,))?)
    }

    /// ``send`` each of ``messages`` in order, for less than as many calls cost. Those before one that is refused are sent.
    fn send_messages(slf: &Bound<'_, Self>, messages: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some((framing, _)) = slf.get().messages.get() {
            return slf.get().send_all_framed(framing, messages);
        }
        messages.try_iter()?.try_for_each(|message| Self::send(slf, &message?))
    }

    /// ``write`` each of ``lines`` in order.
    fn writelines(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(&line?)?;
        }
        Ok(())
    }

    /// Queue a part of a regular file, sent by the kernel without passing through memory here (sendfile(2)).
    ///
    /// ``file`` is a descriptor or has ``fileno()``; it may be closed right after the call. ``count`` is everything
    /// from ``offset`` on by default. At most 256 KiB go out per turn. A file that shrinks meanwhile ends the
    /// connection with ``OSError``. Counts toward ``high_water``, not toward ``max_output``: it takes no memory. Up to
    /// 16 KiB are read at once and sent like a ``write``: cheaper than a descriptor and a system call for each.
    #[pyo3(signature = (file, *, offset = 0, count = None))]
    fn sendfile(
        &self,
        file: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = integer)] offset: i64,
        #[pyo3(from_py_with = optional_integer)] count: Option<i64>,
    ) -> PyResult<()> {
        let (file, length) = arguments::regular_file(file)?;
        let offset = size("offset", offset)? as u64;
        let rest = length.checked_sub(offset).ok_or_else(|| {
            PyValueError::new_err(format!("offset must be at most the file's {length} bytes, not {offset}"))
        })?;
        let remaining = count.map_or(Ok(rest), |count| size("count", count).map(|count| count as u64))?;
        if remaining > rest {
            let text = format!("count must be at most the {rest} bytes from offset on, not {remaining}");
            return Err(PyValueError::new_err(text));
        }
        self.local("sendfile()", |local| {
            let data = match remaining {
                0 => return Ok(()),
                1..=FILE_COPIED_TO => Data::Bytes(&part_of(file, offset, remaining)?),
                _ => Data::File(FileRange { file, offset, remaining }),
            };
            Ok(local.poller.write(local.token(), data)?)
        })
    }

    /// Bytes of output that wait to be sent, those of files included.
    #[getter]
    fn pending_output(&self) -> PyResult<usize> {
        self.local("pending_output", |local| Ok(local.poller.pending_output(local.token())))
    }

    /// Whether output rose above ``high_water`` and has not fallen to ``low_water`` since.
    #[getter]
    fn over_high_water(&self) -> PyResult<bool> {
        self.local("over_high_water", |local| Ok(local.poller.over_high_water(local.token())))
    }

    /// Send what is queued, then the end of the stream; reading goes on (half-close).
    fn shutdown_write(&self) -> PyResult<()> {
        self.local("shutdown_write()", |local| Ok(local.poller.shutdown_write(local.token())?))
    }

    // ---- the end --------------------------------------------------------------------------------------------------

    /// Send what is queued, then close; only ``on_close`` follows. From any thread, any number of times.
    ///
    /// The peer is not reset because of input left unread: what it still sends is discarded until it has finished, or
    /// for ``linger_timeout`` seconds.
    fn close(&self) -> PyResult<()> {
        let remote = self.remote()?;
        with_poller(&remote.handle, |poller, _| poller.close(remote.token)).unwrap_or_else(|| remote.close());
        Ok(())
    }

    /// End the connection at once: queued output is dropped and the peer gets a reset. From any thread.
    ///
    /// ``on_close`` gets ``ConnectionAbortedError``.
    fn abort(&self) -> PyResult<()> {
        let remote = self.remote()?;
        with_poller(&remote.handle, |poller, _| poller.abort(remote.token)).unwrap_or_else(|| remote.abort());
        Ok(())
    }

    /// Let another handler object take over, as for a protocol upgrade.
    ///
    /// Socket, unread input and queued output move to ``other``. This object gets ``on_close(None)``, then ``other``
    /// gets ``on_open``, and ``on_read`` if input waits. Timers of this object are cancelled.
    ///
    /// Raises ``RuntimeError`` while answers to HTTP requests are due, ``ValueError`` for a handler that has been used, or for a
    /// WebSocket without its handshake.
    fn hand_over(&self, py: Python<'_>, other: &Bound<'_, Connection>) -> PyResult<()> {
        hand_over(py, self.remote()?, other)
    }

    // ---- timers and calls -----------------------------------------------------------------------------------------

    /// Call ``callback()`` after ``delay`` seconds on this connection's poller.
    ///
    /// Args:
    ///     delay: seconds, finite, >= 0; never early, on an idle reactor at most 2 ms late.
    ///     callback: no-argument callable; ``None`` means ``self.on_timeout``. Returning ``False`` ends a repeating
    ///         timer.
    ///     every: seconds between later calls, > 0, counted from deadline to deadline; missed ones are one call.
    ///         ``None`` means once.
    ///
    /// Returns: Timer. ``cancel()`` may be called any number of times, also inside the callback.
    ///
    /// Raises:
    ///     ValueError: a duration is negative, zero for ``every``, or not finite.
    ///     ConnectionClosed: the connection has ended.
    ///
    /// Go: ``ScheduleTimer``; unlike it, a connection may have any number of timers. They end with it.
    #[pyo3(signature = (delay, callback = None, *, every = None))]
    fn schedule(
        slf: &Bound<'_, Self>,
        delay: f64,
        callback: Option<&Bound<'_, PyAny>>,
        every: Option<f64>,
    ) -> PyResult<Py<Timer>> {
        let (delay, every) = (nanoseconds("delay", delay)?, period(every)?);
        let callback = match callback {
            Some(callback) => callback.clone(),
            None => slf.getattr("on_timeout")?,
        };
        arguments::callable("callback", &callback)?;
        slf.get().local("schedule()", |local| {
            let deadline = local.poller.now() + delay;
            let owner = Some(local.token());
            let id = local.dispatch.set_timer(local.poller, deadline, every, owner, callback.unbind())?;
            Timer::new(slf.py(), local.remote.handle.clone(), id)
        })
    }

    /// Call ``fn(*args)`` on this connection's poller, in the order of the calls of each thread. From any thread.
    ///
    /// An exception ends the connection. If the connection ends first, the call is dropped.
    #[pyo3(signature = (r#fn, *args))]
    fn call_soon(&self, r#fn: &Bound<'_, PyAny>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        arguments::callable("fn", r#fn)?;
        let remote = self.remote()?;
        if remote.is_closed() {
            return Err(Error::Closed.into());
        }
        let (function, args) = (r#fn.clone().unbind(), args.clone().unbind());
        let task = PyTask::Call { owner: Some(remote.clone()), function, args };
        remote.handle.post_task(Box::new(task)).map_err(|_| Error::Closed.into())
    }

    /// Run ``fn(*args)`` in ``executor`` and call ``then(future)`` on this connection's poller when it is done.
    ///
    /// ``executor`` is a ``concurrent.futures.Executor``; ``None`` means a thread pool of goev's own. ``then`` gets the
    /// finished future; ``future.result()`` in it returns what ``fn`` returned, or raises what it raised, which ends the
    /// connection like any exception of a callback. If the connection ends first, ``then`` is not called. From any
    /// thread. Returns the future.
    #[pyo3(signature = (executor, r#fn, *args, then))]
    fn run_in_executor<'py>(
        &self,
        executor: Option<&Bound<'py, PyAny>>,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        then: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let remote = self.remote()?;
        if remote.is_closed() {
            return Err(Error::Closed.into());
        }
        run_in_executor(executor, r#fn, args, then, remote.handle.clone(), Some(remote.clone()))
    }

    /// The values of ``Reactor.cache_set`` as this poller sees them: a read-only mapping.
    ///
    /// Go: ``PCachedGet``.
    #[getter]
    fn cache(&self, py: Python<'_>) -> PyResult<Py<PyMappingProxy>> {
        self.local("cache", |local| Ok(local.dispatch.cache(py)))
    }

    /// The reactor that runs this connection.
    #[getter]
    fn reactor<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let reactor = self.local("reactor", |local| Ok(local.dispatch.reactor(py)))?;
        reactor.ok_or_else(|| Error::State("the reactor is gone".into()).into())
    }

    // ---- the socket -----------------------------------------------------------------------------------------------

    /// Our end, as the socket module writes addresses: ``(host, port)``, a 4-tuple for IPv6, a path for Unix sockets.
    #[getter]
    fn local_address(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.local("local_address", |local| {
            let address = local.socket(Socket::local_addr)?.map_err(Error::io("cannot read the local address"))?;
            address_object(py, &address)
        })
    }

    /// The peer's end; ``""`` for a Unix socket. From any thread, also after the end.
    #[getter]
    fn remote_address(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.remote()?.peer {
            Peer::Inet(address) => inet_object(py, &address),
            Peer::Unix => Ok(PyString::new(py, "").into_any().unbind()),
        }
    }

    /// The socket's descriptor, or -1 after the end. It stays the reactor's: do not close it.
    fn fileno(&self) -> PyResult<i32> {
        self.local("fileno()", |local| Ok(local.socket(|socket| socket.as_raw_fd()).unwrap_or(-1)))
    }

    /// Change limits of this connection, for a while or for good: those named, by the keyword arguments of ``Acceptor``
    /// that concern connections (``max_input``, ``high_water``, ``low_water``, ``auto_pause``, ``max_output``,
    /// ``linger_timeout``, ``idle_timeout``, ``first_byte_timeout``, ``write_timeout``, ``lifetime``, ``min_rate``).
    ///
    /// Either all are changed or, with an error, none. ``first_byte_timeout`` and ``lifetime`` count from the opening,
    /// the others from the last activity, a window of ``min_rate`` from now.
    #[pyo3(
        signature = (**limits),
        text_signature = "($self, *, max_input=..., high_water=..., low_water=..., auto_pause=..., max_output=..., \
            linger_timeout=..., idle_timeout=..., first_byte_timeout=..., write_timeout=..., lifetime=..., \
            min_rate=...)"
    )]
    fn set_limits(&self, limits: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        self.local("set_limits()", |local| {
            // Converting values may run code of the user's, so not while the poller changes anything.
            let mut options = local.poller.options(local.token())?;
            take_keywords("set_limits", limits, |name, value| set_connection_option(&mut options, name, value))?;
            Ok(local.poller.set_options(local.token(), options)?)
        })
    }

    /// Send small segments at once (TCP_NODELAY, tcp(7)); on by default.
    #[pyo3(signature = (on = true))]
    fn set_nodelay(&self, on: bool) -> PyResult<()> {
        self.local("set_nodelay()", |local| local.set("TCP_NODELAY", |socket| socket.set_tcp_nodelay(on)))
    }

    /// Acknowledge what arrives at once instead of waiting for something to send along (TCP_QUICKACK, tcp(7)). The
    /// kernel may go back to waiting by itself.
    #[pyo3(signature = (on = true))]
    fn set_quick_ack(&self, on: bool) -> PyResult<()> {
        self.local("set_quick_ack()", |local| local.set("TCP_QUICKACK", |socket| socket.set_tcp_quickack(on)))
    }

    /// Probe a silent peer (SO_KEEPALIVE, tcp(7)).
    ///
    /// ``idle`` seconds of silence before the first probe, ``interval`` seconds between probes, ``count`` unanswered
    /// ones end the connection; whole seconds, and the system's defaults where not given.
    #[pyo3(signature = (idle = None, *, interval = None, count = None))]
    fn set_keepalive(
        &self,
        idle: Option<f64>,
        interval: Option<f64>,
        #[pyo3(from_py_with = optional_integer)] count: Option<i64>,
    ) -> PyResult<()> {
        let mut keepalive = TcpKeepalive::new();
        if let Some(idle) = idle {
            keepalive = keepalive.with_time(whole_seconds("idle", idle)?);
        }
        if let Some(interval) = interval {
            keepalive = keepalive.with_interval(whole_seconds("interval", interval)?);
        }
        if let Some(count) = count {
            keepalive = keepalive.with_retries(size_within("count", count, 1..=127)? as u32);
        }
        self.local("set_keepalive()", |local| local.set("SO_KEEPALIVE", |socket| socket.set_tcp_keepalive(&keepalive)))
    }

    /// The kernel's receive buffer in bytes (SO_RCVBUF, socket(7)); the kernel doubles it for its own use.
    fn set_receive_buffer_size(&self, #[pyo3(from_py_with = integer)] size: i64) -> PyResult<()> {
        let size = size_within("size", size, 1..=MAX_SOCKET_BUFFER)?;
        self.local("set_receive_buffer_size()", |local| {
            local.set("SO_RCVBUF", |socket| socket.set_recv_buffer_size(size))
        })
    }

    /// The kernel's send buffer in bytes (SO_SNDBUF, socket(7)); the kernel doubles it for its own use.
    fn set_send_buffer_size(&self, #[pyo3(from_py_with = integer)] size: i64) -> PyResult<()> {
        let size = size_within("size", size, 1..=MAX_SOCKET_BUFFER)?;
        self.local("set_send_buffer_size()", |local| local.set("SO_SNDBUF", |socket| socket.set_send_buffer_size(size)))
    }
}
