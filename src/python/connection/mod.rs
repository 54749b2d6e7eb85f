//! `goev.Connection`: the class that users subclass. The other classes that belong to no protocol have their own
//! files.
//!
//! Longer than other files, because Python's methods of one class must be in one `#[pymethods]` block.

pub mod acceptor;
pub mod adopt;
pub mod at_exit;
pub mod claim;
pub mod connector;
pub mod datagram;
pub mod event_handler;
pub mod group;
pub mod held;
pub mod reactor;
mod stats;
pub mod stop_report;
pub mod testing;
pub mod timer;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMappingProxy, PyString, PyTuple, PyType};
use socket2::{SockRef, Socket, TcpKeepalive};

use crate::data::{Data, Payload};
use crate::error::{Error, Foreign, Reason};
use crate::options::MAX_SOCKET_BUFFER;
use crate::poller::Poller;
use crate::protocols::framing::Framing;
use crate::proxy::Place;
use crate::python::asyncio::bridge::is_coroutine;
use crate::python::callbacks::{CALLBACKS, check_callbacks, check_coroutines, goes_on, is_inherited_from};
use held::{HeldBytes, held};
use timer::Timer;

use crate::python::contexts::Later;
use crate::python::protocols::FaceRef;
use crate::python::running::logs::{self, About};
use crate::python::running::offload::{Recipient, run_in_executor};
use crate::python::tables::{CALL_SOON, PyTask, THEN, Tables, with_current, with_poller_of};
use crate::python::tls::{session, stream};
use crate::python::values::arguments::{
    self, address_object, bytes_of, inet_object, integer, nanoseconds, optional_integer, peer_text, period, size,
    size_within, unix_object, whole_seconds,
};
use crate::python::values::exceptions::{ConnectionClosed, FramingError, InputOverflow};
use crate::python::values::files;
use crate::python::values::objects::{bytes_object, copied};
use crate::python::values::options::{set_connection_option, take_keywords};
use crate::python::values::proxy::{place_object, proxy_object};
use crate::python::waiting::Event;
use crate::shared::remote::{Peer, Remote};
use crate::slots::Token;
use crate::system::address::unmapped;
use crate::system::fork;

/// From this size on there may be no memory for a copy of the data.
const LARGE: usize = 64 * 1024;

/// The local address of a connection in a test: an address for documentation (RFC 5737).
const LOCAL_IN_TESTS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 80);

/// The line for the log when `feed` raises a `FramingError`: peer, handler, error.
const UNFRAMED: &str = "%s broke the framing of %s: %r";

/// The most memory for frames that a thread keeps.
const MOST_KEPT: usize = 64 * 1024;

/// Number of gathered bytes at which the frames are written, because no output limit covers bytes that are not
/// written yet.
const MOST_TOGETHER: usize = MOST_KEPT / 2;

thread_local! {
    /// The buffer in which frames are joined.
    static FRAMES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One connection of a stream socket: subclass it and define the callbacks you need.
///
/// A handler object serves one connection, once. All its callbacks, those of its timers included, run on the thread of
/// its poller, one at a time. ``on_open`` comes first and once, ``on_close`` last and once. ``on_open``, ``on_read``
/// and ``on_eof`` may return ``False`` to close; ``None`` and ``True`` keep the connection open. An exception ends the
/// connection: it is logged (logger ``goev``) and given to ``on_close``.
///
/// ``write``, ``writelines``, ``send``, ``send_messages``, ``close``, ``abort`` and ``call_soon`` may be called from any
/// thread. Every other method raises ``WrongThread`` on a thread other than the poller's, unless its text says otherwise.
/// A greenlet other than the one that the callbacks run on counts as another thread. Import greenlet or gevent before the
/// reactor runs. While a callback waits on its greenlet, its poller serves nobody.
///
/// With a ``framing`` the stream is cut into messages, and ``on_message`` is called instead of ``on_read``. A framing is a
/// ``LengthPrefixed``, ``Delimited`` or ``FixedSize``, or your own object with two methods. ``feed(data)`` returns the list
/// of messages that ``data`` completes; ``frame(message)`` returns the bytes to send. If the peer breaks its rules,
/// ``feed`` raises ``FramingError``, or a subclass: the connection ends with that error, and one INFO line is logged.
/// A class is called for each connection, so that its state belongs to this connection alone. Set ``framing`` in the
/// class or in ``__init__``.
///
/// Before ``on_open``, and after the end, methods and properties raise ``ConnectionClosed``, unless their text says
/// otherwise.
///
/// Attributes:
///     framing: the way to cut the input into messages, or a class that is called for each connection; ``None``: bytes.
///
/// Each connection has a context of its own (``contextvars``), a copy of that of its poller's thread; each request a
/// copy of it. Timers, ``call_soon`` and ``then`` run in a copy of the context of the code that asked for them.
///
/// Go: ``EvHandler`` with ``IOHandle``.
#[pyclass(subclass, frozen, module = "goev")]
pub struct Connection {
    remote: OnceLock<Arc<Remote>>,
    /// Whether it serves a connection, or one that is being made.
    claimed: AtomicBool,
    /// The face of the protocol's class; `None` for messages and bytes.
    face: Option<FaceRef>,
    /// The framing of messages; unset for a framing in Python.
    framing: OnceLock<Arc<Framing>>,
    /// Whether `on_messages` takes the messages.
    in_batches: AtomicBool,
}

/// The connection on its own poller, on which a method works.
struct Local<'a> {
    poller: &'a Poller,
    tables: &'a Tables,
    remote: &'a Arc<Remote>,
}

impl Local<'_> {
    fn token(&self) -> Token {
        self.remote.token()
    }

    /// Calls `use_it` with the socket; returns `None` in a test.
    fn socket<R>(&self, use_it: impl FnOnce(&Socket) -> R) -> PyResult<Option<R>> {
        Ok(self.poller.with_socket(self.token(), use_it)?)
    }

    fn set(&self, what: &str, set: impl FnOnce(SockRef<'_>) -> std::io::Result<()>) -> PyResult<()> {
        let done = self.socket(|socket| set(SockRef::from(socket)))?;
        Ok(done.unwrap_or(Ok(())).map_err(Error::io(format!("cannot set {what}")))?)
    }
}

/// The error of a connection that this process cannot use.
#[cold]
fn no_remote(remote: Option<&Arc<Remote>>) -> PyErr {
    match remote.map(|remote| fork::check(remote.poller().birth, "connection")) {
        Some(Err(error)) => error.into(),
        _ => ConnectionClosed::new_err("the connection is not open yet [GOEV102]"),
    }
}

/// The ends of a client's connection, as its proxy named them.
fn named_ends(peer: &Peer) -> Option<&(Place, Place)> {
    peer.proxied()?.header.ends.as_ref()
}

impl Connection {
    /// Makes the base object of a protocol's handler.
    pub fn with_face(class: &Bound<'_, PyType>, face: Option<FaceRef>) -> PyResult<Self> {
        check_callbacks(class, &CALLBACKS)?;
        let (claimed, in_batches) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { remote: OnceLock::new(), claimed, face, framing: OnceLock::new(), in_batches })
    }

    /// The face of its protocol's class.
    pub fn face(&self) -> Option<FaceRef> {
        self.face
    }

    /// Makes this object the handler of one connection and of no other.
    pub fn claim(&self, argument: &str) -> PyResult<()> {
        if self.claimed.swap(true, Ordering::AcqRel) { Err(used_twice(argument)) } else { Ok(()) }
    }

    /// Frees the object again: the connection it was claimed for was not made.
    pub fn release(&self) {
        self.claimed.store(false, Ordering::Release);
    }

    /// Binds the object to the connection for which it was claimed.
    pub fn bind_to(&self, remote: Arc<Remote>) {
        self.remote.get_or_init(|| remote);
    }

    /// Sets the framing that `send` uses from now on.
    pub fn set_framing(&self, framing: Arc<Framing>, in_batches: bool) {
        self.framing.get_or_init(|| {
            self.in_batches.store(in_batches, Ordering::Release);
            framing
        });
    }

    /// Whether `on_messages` is called instead of `on_message`.
    pub fn takes_batches(&self) -> bool {
        self.in_batches.load(Ordering::Acquire)
    }

    /// The peer's name in log lines.
    pub fn peer_text(&self) -> String {
        self.peer().unwrap_or_else(|| "no peer yet".into())
    }

    /// The address of the peer, for the attribute of log records.
    pub fn peer(&self) -> Option<String> {
        self.remote.get().map(|remote| peer_text(&remote.peer()))
    }

    /// The addresses of the peer and of our own; `None` if one is that of a Unix socket.
    pub fn ends(&self) -> PyResult<Option<(SocketAddr, SocketAddr)>> {
        self.local("proxy_for", |local| {
            let own = match named_ends(&local.remote.peer()) {
                Some((_, Place::Inet(destination))) => Some(*destination),
                Some((_, Place::Unix(_))) => None,
                None => match local.socket(Socket::local_addr)? {
                    Some(address) => address.map_err(Error::io("cannot read the local address"))?.as_socket(),
                    None => Some(LOCAL_IN_TESTS),
                },
            };
            Ok(local.remote.peer().inet().zip(own.map(unmapped)))
        })
    }

    /// The connection that it serves or has served.
    pub fn bound(&self) -> Option<&Arc<Remote>> {
        self.remote.get()
    }

    /// The connection that it serves. Returns an error before `on_open`, and in a forked child.
    #[inline]
    pub fn remote(&self) -> PyResult<&Arc<Remote>> {
        match self.remote.get() {
            Some(remote) if !fork::is_foreign(remote.poller().birth) => Ok(remote),
            other => Err(no_remote(other)),
        }
    }

    /// Calls `work` with the connection, on its poller's thread only.
    fn local<R>(&self, method: &'static str, work: impl FnOnce(&Local<'_>) -> PyResult<R>) -> PyResult<R> {
        let remote = self.remote()?;
        with_poller_of(remote, |poller, tables| work(&Local { poller, tables, remote }))
            .unwrap_or_else(|| Err(Error::wrong_thread(method).into()))
    }

    /// Calls `look` with the input, and consumes the number of bytes that it returns.
    fn read_by<R>(&self, method: &'static str, look: impl FnOnce(&[u8]) -> (PyResult<R>, usize)) -> PyResult<R> {
        self.local(method, |local| local.poller.read(local.token(), look)?)
    }

    /// The most bytes in which to search for a separator.
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

    /// Has a framing in Python cut all the input, and hands out the messages until a callback returns `False` or the
    /// connection is closed.
    fn feed<'py>(&self, slf: &Bound<'py, Self>, framing: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let data = self.read(py, -1)?;
        let messages = match as_callback(py, &"feed", || list_of(&framing.call_method1("feed", (data,))?)) {
            Err(error) if error.is_instance_of::<FramingError>(py) => return self.end_unframed(slf, error),
            messages => messages?,
        };
        let (one, several) = (PyString::new(py, "on_message"), PyString::new(py, "on_messages"));
        if !is_inherited_from::<Self>(slf, &several) {
            if messages.is_empty() {
                return Ok(None);
            }
            return as_callback(py, &"on_messages", || slf.call_method1(several, (messages,)).map(Some));
        }
        for (at, message) in messages.iter().enumerate() {
            let (answer, continues) = as_callback(py, &"on_message", || {
                let answer = slf.call_method1(&one, (message,))?;
                if !answer.is_none() && is_coroutine(&answer) {
                    return Ok((later(slf, &answer, messages.get_slice(at + 1, messages.len()))?, false));
                }
                let continues = goes_on(&one, &answer)?;
                Ok((answer, continues))
            })?;
            if !continues || !self.local("feed()", |local| Ok(local.poller.is_open(local.token())))? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Ends the connection, the peer of which broke the rules of a framing in Python. One line, because any peer can
    /// cause it at any time.
    fn end_unframed<'py>(&self, slf: &Bound<'py, Self>, error: PyErr) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, name) = (slf.py(), arguments::type_name(slf));
        let about = About { peer: self.peer(), callback: Some("feed"), ..About::default() };
        let logged = logs::log(py, "info", &about, (UNFRAMED, self.peer_text(), name, error.value(py)), None);
        logs::settle(py, logged, Some(slf))?;
        self.local("feed()", |local| {
            drop(local.poller.close_because(local.token(), Reason::Unframed(Box::new(error))));
            Ok(None)
        })
    }

    /// Has `write` queue output on the poller's thread. Any other thread posts the `payload`.
    #[inline]
    fn put(
        &self,
        payload: impl FnOnce() -> Payload,
        write: impl FnOnce(&Poller, Token) -> Result<(), Error>,
    ) -> PyResult<()> {
        let remote = self.remote()?;
        let written = with_poller_of(remote, |poller, _| write(poller, remote.token()));
        Ok(written.unwrap_or_else(|| remote.write(payload()))?)
    }

    fn write_held(&self, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let held = || Box::new(HeldBytes::new(data));
        self.put(|| Payload::Held(held()), |poller, token| poller.write(token, Data::Held(held())))
    }

    /// Writes a message with its frame.
    fn send_framed(&self, framing: &Framing, message: &Bound<'_, PyAny>) -> PyResult<()> {
        bytes_of(message, |data| {
            let (head, tail) = framing.wrap(data)?;
            self.write_framed(head.bytes(), data, tail, held(message))
        })
    }

    /// Writes all parts with nothing between them. `data` is sent without a copy if it is `held`.
    pub fn write_framed(
        &self,
        head: &[u8],
        data: &[u8],
        tail: &[u8],
        held: Option<&Bound<'_, PyBytes>>,
    ) -> PyResult<()> {
        let whole = || Payload::Copied([head, data, tail].concat());
        self.put(whole, |poller, token| match held {
            None => poller.write_copies(token, [head, data, tail]),
            Some(bytes) => {
                let body = Data::Held(Box::new(HeldBytes::new(bytes)));
                poller.write_parts(token, [Data::Bytes(head), body, Data::Bytes(tail)])
            }
        })
    }

    /// Writes messages as `send_framed` does, and joins small ones. Messages before a refused one are sent.
    fn send_all_framed(&self, framing: &Framing, messages: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut frames = FRAMES.take();
        frames.clear();
        let result = match messages.cast_exact::<PyList>() {
            Ok(list) => list.iter().try_for_each(|message| self.join_framed(framing, &message, &mut frames)),
            Err(_) => messages.try_iter()?.try_for_each(|message| self.join_framed(framing, &message?, &mut frames)),
        };
        self.write_copied(&frames)?;
        if frames.capacity() <= MOST_KEPT {
            FRAMES.set(frames);
        }
        result
    }

    /// Appends a message with its frame to `frames`, which are written first if they are many, or the message is large.
    #[inline(always)]
    fn join_framed(&self, framing: &Framing, message: &Bound<'_, PyAny>, frames: &mut Vec<u8>) -> PyResult<()> {
        let is_held = held(message).is_some();
        if is_held || frames.len() >= MOST_TOGETHER {
            self.write_copied(frames)?;
            frames.clear();
        }
        if is_held {
            return self.send_framed(framing, message);
        }
        bytes_of(message, |data| Ok(framing.append(data, frames)?))
    }

    pub fn write_copied(&self, data: &[u8]) -> PyResult<()> {
        if data.len() > LARGE {
            return self.write_large(data);
        }
        self.put(|| Payload::Copied(data.to_vec()), |poller, token| poller.write(token, Data::Bytes(data)))
    }

    #[inline(never)]
    fn write_large(&self, data: &[u8]) -> PyResult<()> {
        self.remote()?;
        let copy = Cell::new(copied(data)?);
        self.put(|| Payload::Copied(copy.take()), |poller, token| poller.write(token, Data::Own(copy.take())))
    }
}

/// Replaces the handler of a connection by `other`, on the thread of its poller.
pub fn hand_over(py: Python<'_>, remote: &Arc<Remote>, other: &Bound<'_, Connection>) -> PyResult<()> {
    let work = |poller: &Poller, tables: &Tables| {
        let argument = "hand_over(other): ";
        let token = remote.token();
        let Some(old) = tables.handler(py, token) else { return Err(Error::closed().into()) };
        check_coroutines(&other.get_type(), &CALLBACKS, tables.event_loop().is_some())?;
        let face = other.get().face();
        if let Some(face) = old.cast::<Connection>()?.get().face() {
            face.check_successor(other, argument)?;
        }
        let is_claimed = face.map_or(Ok(false), |face| face.claim_successor(&old, other, argument))?;
        if !is_claimed {
            other.get().claim(argument)?;
        }
        let handed = poller.hand_over(token, |marks| Box::new(PyTask::HandedOver(old.clone().unbind(), marks)));
        let (remote, timers) = handed.inspect_err(|_| other.get().release())?;
        if let Some(face) = face {
            // Done here, so that the protocol sends its closing message even if the connection is closed before it
            // opens.
            face.took_over(poller, remote.token(), &old, other);
        }
        tables.move_observer(token, remote.token());
        tables.contexts.hand_over(py, token, remote.token());
        tables.put_handler(remote.token(), other.clone().into_any().unbind(), face);
        other.get().bind_to(remote);
        tables.forget_timers(timers);
        Ok(())
    };
    with_poller_of(remote, work).unwrap_or_else(|| Err(Error::wrong_thread("hand_over()").into()))
}

/// Closes in order; `on_close` gets `error`, if there is one.
pub fn close_with(poller: &Poller, token: Token, error: Option<Foreign>) {
    match error {
        None => poller.close(token),
        Some(error) => drop(poller.close_because(token, Reason::Given(error))),
    }
}

/// Runs `call`, which calls back from inside `on_read`, under the name of that callback: for the watchdog, and for the
/// log if it raises.
fn as_callback<R>(py: Python<'_>, name: &'static &'static str, call: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    with_current(|poller, _| poller.handle().pulse.rename(name));
    call().inspect_err(|error| {
        with_current(|_, tables| tables.blame(py, name, error));
    })
}

/// A coroutine that ends the `on_message` for one message, and calls it with the `rest` then.
fn later<'py>(
    handler: &Bound<'py, Connection>,
    first: &Bound<'py, PyAny>,
    rest: Bound<'py, PyList>,
) -> PyResult<Bound<'py, PyAny>> {
    handler.py().import("goev.asyncio.awaiting")?.call_method1("deliver", (handler, first, rest))
}

/// The messages that `feed` returned.
fn list_of<'py>(fed: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    fed.cast::<PyList>().cloned().map_err(|_| {
        let text = format!("feed(data) must return a list of messages, not {}", arguments::type_name(fed));
        PyTypeError::new_err(text)
    })
}

pub fn used_twice(argument: &str) -> PyErr {
    PyValueError::new_err(format!(
        "{argument}a handler object serves one connection, once; this one has been used [GOEV202]"
    ))
}

/// The number of bytes that `n` asks for, of `have` bytes; -1 is all.
fn count(n: i64, have: usize) -> PyResult<usize> {
    match n {
        -1 => Ok(have),
        0.. => Ok(usize::try_from(n).unwrap_or(usize::MAX).min(have)),
        _ => Err(PyValueError::new_err(format!("n must be -1 (everything) or more, not {n}"))),
    }
}

/// An object with `count` bytes of the input. They stay there if it could not be made.
#[inline]
fn taken<T>(object: PyResult<T>, count: usize) -> (PyResult<T>, usize) {
    let count = if object.is_ok() { count } else { 0 };
    (object, count)
}

/// The position of a separator: the first one, or the last.
fn find(input: &[u8], separator: &[u8], last: bool) -> Option<usize> {
    if last {
        // Mostly the input ends with a whole message, and then no search is necessary.
        let at_end = input.ends_with(separator).then(|| input.len() - separator.len());
        return at_end.or_else(|| memchr::memmem::rfind(input, separator));
    }
    memchr::memmem::find(input, separator)
}

/// An error that says that the other connection of a call is not open.
fn about_other(py: Python<'_>, error: PyErr) -> PyErr {
    match error.is_instance_of::<ConnectionClosed>(py) {
        true => ConnectionClosed::new_err(format!("other: {}", error.value(py))),
        false => error,
    }
}

fn no_separator(separator: &[u8], limit: usize) -> PyErr {
    let separator = separator.escape_ascii();
    InputOverflow::new_err(format!("no separator b'{separator}' within limit={limit} bytes [GOEV401]"))
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
    fn new(class: &Bound<'_, PyType>, args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        // These arguments are for the subclass's `__init__`.
        let _ = (args, kwargs);
        Self::with_face(class, None)
    }

    // ---- callbacks ------------------------------------------------------------------------------------------------

    /// The connection is open: called first and once. ``False`` closes it.
    ///
    /// Go: ``OnOpen``.
    fn on_open(&self) {}

    /// None: the handler reads bytes in ``on_read``.
    #[classattr]
    fn framing() -> Option<Py<PyAny>> {
        None
    }

    /// New input has arrived, or more than was left unread. ``False`` closes.
    ///
    /// Called again while it consumes something and input remains; unread input stays for the next call. A connection
    /// with a framing gets ``on_message`` instead.
    ///
    /// Go: ``OnRead``.
    fn on_read<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let framing = slf.getattr("framing")?;
        if framing.is_none() { Ok(None) } else { slf.get().feed(slf, &framing) }
    }

    /// A whole ``message`` has arrived, without its frame: ``bytes``, or an object that your own framing made. ``False``
    /// closes.
    ///
    /// Input after a ``FramingError`` is lost; output that was written before it is sent.
    fn on_message(&self, message: &Bound<'_, PyAny>) {
        let _ = message;
    }

    /// A list of one or more ``messages`` has arrived: called instead of ``on_message`` if the class defines it. ``False``
    /// closes.
    fn on_messages(&self, messages: &Bound<'_, PyAny>) {
        let _ = messages;
    }

    /// The peer has shut down its write side. ``False`` closes.
    ///
    /// A class without its own ``on_eof`` flushes and closes; with one the connection stays half open.
    fn on_eof(&self) {}

    /// Queued output was above ``high_water`` and has fallen to ``low_water``.
    fn on_drain(&self) {}

    /// The reactor was stopped: a chance to send a last message. ``False`` closes.
    ///
    /// A connection without its own ``on_stopping`` is closed as by ``close()``. With one it stays open until it closes
    /// itself; it is aborted when the grace of the stop is over.
    fn on_stopping(&self) {}

    /// A timer set without a callback fired. ``False`` ends a repeating one.
    ///
    /// Go: ``OnTimeout``.
    fn on_timeout(&self) {}

    /// The connect failed with ``error``, an exception; neither ``on_open`` nor ``on_close`` will come.
    ///
    /// Go: ``OnConnectFail``.
    fn on_connect_fail(&self, error: &Bound<'_, PyAny>) {
        let _ = error;
    }

    /// The connection has ended: called last and once.
    ///
    /// ``error`` is ``None`` after an orderly close by either side, otherwise the exception that ended it:
    /// ``ConnectionResetError``, ``OutputOverflow``, the exception of a callback, the one given to ``close()``,
    /// ``ConnectionAbortedError`` after ``abort()`` or at the deadline of a stop.
    ///
    /// Go: ``OnClose``.
    fn on_close(&self, error: &Bound<'_, PyAny>) {
        let _ = error;
    }

    // ---- input ----------------------------------------------------------------------------------------------------

    /// Take up to ``n`` bytes of the unread input, all of it by default; ``b""`` when it is empty.
    ///
    /// Go: ``Read``.
    #[pyo3(signature = (n = -1), text_signature = "($self, n=-1)")]
    fn read<'py>(&self, py: Python<'py>, #[pyo3(from_py_with = integer)] n: i64) -> PyResult<Bound<'py, PyBytes>> {
        self.read_by("read()", |input| match count(n, input.len()) {
            // Making a bytes object runs no Python code, so the borrow of the input may last.
            Ok(count) => taken(bytes_object(py, &input[..count]), count),
            Err(error) => (Err(error), 0),
        })
    }

    /// Look at up to ``n`` bytes of the unread input, all of it by default, without taking them.
    #[pyo3(signature = (n = -1), text_signature = "($self, n=-1)")]
    fn peek<'py>(&self, py: Python<'py>, #[pyo3(from_py_with = integer)] n: i64) -> PyResult<Bound<'py, PyBytes>> {
        self.read_by("peek()", |input| (count(n, input.len()).and_then(|count| bytes_object(py, &input[..count])), 0))
    }

    /// Discard up to ``n`` bytes of the unread input; returns their number.
    fn skip(&self, #[pyo3(from_py_with = integer)] n: i64) -> PyResult<usize> {
        let n = size("n", n)?;
        self.read_by("skip()", |input| (Ok(n.min(input.len())), n.min(input.len())))
    }

    /// Take ``n`` bytes, or ``None`` while fewer have arrived.
    ///
    /// Raises ``ValueError`` when ``n`` is more than ``max_input``, because the input never holds more.
    fn read_exactly<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = integer)] n: i64,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let n = size("n", n)?;
        within_max_input("n", n, self.remote()?)?;
        self.read_by("read_exactly()", |input| match input.get(..n) {
            Some(bytes) => taken(bytes_object(py, bytes).map(Some), n),
            None => (Ok(None), 0),
        })
    }

    /// Take everything up to and including ``separator``, or ``None`` while it has not arrived.
    ///
    /// With ``last=True`` up to the last separator in the input: for example all complete lines at once. ``limit`` is
    /// the most bytes to take, separator included; ``max_input`` by default. Raises ``InputOverflow`` when so many
    /// bytes have arrived without a separator.
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
                Some(at) => {
                    let count = at + separator.len();
                    taken(bytes_object(py, &within[..count]).map(Some), count)
                }
                None if within.len() == limit => (Err(no_separator(separator, limit)), 0),
                None => (Ok(None), 0),
            }
        })
    }

    /// Take as much unread input as fits into a writable ``buffer``; returns the number of bytes.
    fn read_into(&self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let buffer = PyUntypedBuffer::get(buffer)?;
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(PyTypeError::new_err("buffer must be writable and contiguous"));
        }
        self.read_by("read_into()", |input| {
            let count = input.len().min(buffer.len_bytes());
            // SAFETY: the exporter keeps `len_bytes` writable bytes at `buf_ptr` while the view is held. The input is
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

    /// Hand all further input to ``other``, another connection of this poller, inside the poller and the kernel: a relay.
    ///
    /// Unread input goes first. ``on_read`` comes no more; a slow ``other`` holds the sender up. The end of the input becomes
    /// ``other.shutdown_write()``, before ``on_eof``; without an ``on_eof`` of its own this connection then stays half open.
    /// When one of the two ends, the other is closed behind the bytes that came before: in order, with ``None`` for its
    /// ``on_close``, if the one ended so; else by a reset, and its ``on_close`` gets ``ConnectionAbortedError``. For both
    /// directions also call ``other.pipe_to(self)``.
    ///
    /// Args:
    ///     other: a connection that is open, on the same poller. Nothing else may be piped to it; it may still write.
    ///
    /// Raises:
    ///     ValueError: ``other`` is this connection, or is on another poller.
    ///     RuntimeError: this connection is piped already, something is piped to ``other``, or its write side is shut down; a
    ///         protocol or framing reads the input, or writes the output of ``other``; a handshake of ``start_tls`` is not over.
    ///     ConnectionClosed: one of the two has ended, is being closed, or is not open yet.
    ///
    /// Go: none; ``io.Copy`` of its standard library, which splices, too.
    fn pipe_to(slf: &Bound<'_, Self>, other: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        // The look-up may run the user's code, so it comes before any look at the state.
        let is_framed = !slf.getattr("framing")?.is_none();
        let to = other.get().remote().map_err(|error| about_other(slf.py(), error))?;
        this.local("pipe_to()", |local| {
            if !to.location.is_on(local.poller.handle()) {
                return Err(PyValueError::new_err("other must be a connection of the same poller"));
            }
            if is_framed {
                return Err(Error::state("the input of this connection is read by its framing [GOEV407]".into()).into());
            }
            if local.poller.is_open(local.token()) && !local.poller.is_open(to.token()) {
                return Err(ConnectionClosed::new_err("other: the connection is closed [GOEV102]"));
            }
            Ok(local.poller.pipe_to(local.token(), to.token())?)
        })
    }

    /// Stop reading from the socket and calling ``on_read``; the peer has to wait when the buffers are full.
    fn pause_reading(&self) -> PyResult<()> {
        self.local("pause_reading()", |local| Ok(local.poller.set_paused(local.token(), true)?))
    }

    /// Continue after ``pause_reading``. Unread input is offered again.
    fn resume_reading(&self) -> PyResult<()> {
        self.local("resume_reading()", |local| Ok(local.poller.set_paused(local.token(), false)?))
    }

    // ---- output ---------------------------------------------------------------------------------------------------

    /// Queue any bytes-like ``data`` for sending. From any thread; the order of each calling thread is kept.
    ///
    /// The data is copied; a large ``bytes`` is held instead. Above ``high_water`` queued bytes it is sent at once as far
    /// as the socket takes it, and reading pauses until ``on_drain``. More than ``max_output`` queued bytes end the
    /// connection with ``OutputOverflow``; a single write into an empty queue always fits.
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

    /// ``write`` a message with its frame by the connection's ``framing``. From any thread.
    ///
    /// Raises ``MessageTooLong`` above its ``max_size``, ``ValueError`` when the framing cannot frame it,
    /// ``TypeError`` without a framing or if ``framing`` was set to a class after the opening, ``ConnectionClosed``
    /// before the opening and after the end.
    fn send(slf: &Bound<'_, Self>, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        if let Some(framing) = this.framing.get() {
            return this.send_framed(framing, message);
        }
        let framing = slf.getattr("framing")?;
        if framing.is_none() {
            return Err(PyTypeError::new_err("send() needs a framing; write() sends bytes as they are [GOEV406]"));
        }
        // Before the opening, a class that `framing` names has made no framing of this connection yet.
        this.remote()?;
        if let Ok(class) = framing.cast::<PyType>() {
            let text =
                format!("framing must be an instance of {0} to send a message, as {0}(), not the class", class.name()?);
            return Err(PyTypeError::new_err(text));
        }
        this.write(&framing.call_method1("frame", (message,))?)
    }

    /// ``send`` each of ``messages`` in order, cheaper than by single calls. Messages before a refused one are sent.
    ///
    /// Raises the same errors as ``send``, ``TypeError`` without a framing among them.
    fn send_messages(slf: &Bound<'_, Self>, messages: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(framing) = slf.get().framing.get() {
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

    /// Queue a part of a regular file; the kernel sends it without a copy in this process (sendfile(2)).
    ///
    /// ``file`` is a descriptor or has ``fileno()``; it may be closed right after the call. ``count`` is by default
    /// everything from ``offset`` on. At most 256 KiB go out per turn. A file that shrinks meanwhile ends the
    /// connection with ``OSError``. The part counts toward ``high_water``, not toward ``max_output``, because it takes
    /// no memory. Up to 16 KiB are read at once and sent like a ``write``: cheaper than a descriptor and a system call
    /// for each. Raises ``ValueError`` for a file that is not regular.
    #[pyo3(signature = (file, *, offset = 0, count = None))]
    fn sendfile(
        &self,
        file: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = integer)] offset: i64,
        #[pyo3(from_py_with = optional_integer)] count: Option<i64>,
    ) -> PyResult<()> {
        let (file, metadata) = files::regular_file(file)?;
        let (offset, count) = files::part(metadata.len(), offset, count)?;
        self.local("sendfile()", |local| {
            let data = match files::Part::new(file, offset, count)? {
                files::Part::Read(bytes) if bytes.is_empty() => return Ok(()),
                files::Part::Read(bytes) => Data::Own(bytes),
                files::Part::Unread(range) => Data::File(range),
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

    /// Send the queued output, then a FIN; reading continues (half-close).
    fn shutdown_write(&self) -> PyResult<()> {
        self.local("shutdown_write()", |local| Ok(local.poller.shutdown_write(local.token())?))
    }

    // ---- the end --------------------------------------------------------------------------------------------------

    /// Send the queued output, then close; only ``on_close`` follows. From any thread, any number of times: the first call
    /// counts.
    ///
    /// ``on_close`` gets ``error``, any exception: the reason for which the handler ends the connection. Nothing is logged.
    ///
    /// Unread input does not reset the peer: further input is discarded until the peer has shut down its write side, or for
    /// ``linger_timeout`` seconds.
    #[pyo3(signature = (error = None, /))]
    fn close(&self, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let mut error = arguments::exception("error", error)?;
        let remote = self.remote()?;
        with_poller_of(remote, |poller, _| close_with(poller, remote.token(), error.take()))
            .unwrap_or_else(|| remote.close_with(None, error));
        Ok(())
    }

    /// End the connection at once: drops queued output and resets the peer. From any thread.
    ///
    /// ``on_close`` gets ``ConnectionAbortedError``.
    fn abort(&self) -> PyResult<()> {
        let remote = self.remote()?;
        with_poller_of(remote, |poller, _| poller.abort(remote.token())).unwrap_or_else(|| remote.abort());
        Ok(())
    }

    /// Let another handler object take over, as for a protocol upgrade.
    ///
    /// Socket, unread input and queued output move to ``other``. This object gets ``on_close(None)``, then ``other``
    /// gets ``on_open``, and ``on_read`` if input waits. Timers of this object are cancelled.
    ///
    /// Raises ``RuntimeError`` while answers to HTTP requests are due, ``ValueError`` for a handler that has been used, or
    /// for a WebSocket without its handshake.
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
        let callback = Later::of_timer(&callback, every)?;
        slf.get().local("schedule()", |local| {
            let deadline = local.poller.now() + delay;
            let owner = Some(local.token());
            let id = local.tables.set_timer(local.poller, deadline, every, owner, callback)?;
            Timer::new(slf.py(), local.poller.handle().clone(), id, delay)
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
            return Err(Error::closed().into());
        }
        let (function, args) = (Later::new(r#fn)?, args.clone().unbind());
        let task = PyTask::Call { name: CALL_SOON, owner: Some(remote.clone()), function, args };
        Ok(remote.post_task(Box::new(task))?)
    }

    /// Run ``fn(*args)`` in ``executor`` and call ``then(future)`` on this connection's poller when it is done.
    ///
    /// ``executor`` is a ``concurrent.futures.Executor``; ``None`` means goev's own thread pool. ``then`` gets the finished
    /// future: ``future.result()`` returns the result of ``fn`` or raises its exception. An exception in ``then`` ends the
    /// connection like that of any callback. If the connection ends first, ``then`` is not called. From any thread. Returns
    /// the future.
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
            return Err(Error::closed().into());
        }
        run_in_executor(executor, r#fn, args, then, Recipient::Connection(remote.clone()))
    }

    /// Wait until the queued output has fallen to ``low_water``; return at once unless it rose above ``high_water``.
    ///
    /// For coroutines on the event loop of the connection's poller (``goev.asyncio``), also inside its own callbacks.
    ///
    /// Raises ``ConnectionClosed``: the connection ended before, or its handler handed it over. ``WrongThread``: another event
    /// loop runs here.
    fn drained<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("goev.asyncio.awaiting")?.call_method1("drained", (slf,))
    }

    /// Wait until ``on_close`` was called; return its argument: the error that ended the connection, or ``None``.
    ///
    /// For coroutines on the event loop of the connection's poller (``goev.asyncio``). A callback of the connection would wait
    /// for itself: it is cancelled. Raises ``ConnectionClosed``: the connection has ended already. ``WrongThread``: another
    /// event loop runs here.
    fn closed<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("goev.asyncio.awaiting")?.call_method1("closed", (slf,))
    }

    /// Whether this is the thread of its poller.
    fn _is_here(&self) -> PyResult<bool> {
        let remote = self.remote()?;
        Ok(with_poller_of(remote, |_, _| ()).is_some())
    }

    /// Asks a poller of the reactor to take the connection; returns whether it may move now. For tests: an acceptor with
    /// ``placement="auto"`` moves its connections by itself.
    fn _move_to(&self, poller: usize) -> PyResult<bool> {
        self.local("_move_to()", |local| Ok(local.poller.move_to(local.token(), poller)))
    }

    /// Whether it may still be used: on its poller's thread only.
    fn _is_open(&self) -> PyResult<bool> {
        self.local("_is_open()", |local| Ok(local.poller.is_open(local.token())))
    }

    /// Has the future set when the output has drained. False if it has to wait for nothing.
    fn _when_drained(&self, future: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.local("drained()", |local| {
            if !local.poller.is_open(local.token()) {
                return Err(Error::closed().into());
            }
            let waits = local.poller.want_drain(local.token());
            if waits {
                local.tables.waiters.add(local.token(), Event::Drained, future.clone().unbind());
            }
            Ok(waits)
        })
    }

    /// Has the future set when the connection has ended.
    fn _when_closed(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        self.local("closed()", |local| {
            if local.tables.handler(future.py(), local.token()).is_none() {
                return Err(Error::closed().into());
            }
            local.tables.waiters.add(local.token(), Event::Closed, future.clone().unbind());
            Ok(())
        })
    }

    /// The values of ``Reactor.cache_set`` as this poller sees them: a read-only mapping.
    ///
    /// Go: ``PCachedGet``.
    #[getter]
    fn cache(&self, py: Python<'_>) -> PyResult<Py<PyMappingProxy>> {
        self.local("cache", |local| Ok(local.tables.cache(py)))
    }

    /// The reactor that runs this connection.
    #[getter]
    fn reactor<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let reactor = self.local("reactor", |local| Ok(local.tables.reactor(py)))?;
        reactor.ok_or_else(|| Error::state("the reactor is gone".into()).into())
    }

    // ---- the socket -----------------------------------------------------------------------------------------------

    /// Our own address in the form of the socket module: ``(host, port)``, a 4-tuple for IPv6, whose last number is
    /// the zone (the index of the interface, RFC 4007), a path or ``"@abstract"`` for Unix sockets. An IPv4 address on
    /// a listener for both versions of IP (``"*:8080"``) is shown as IPv4.
    #[getter]
    fn local_address(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some((_, destination)) = named_ends(&self.remote()?.peer()) {
            return self.local("local_address", |_| place_object(py, destination));
        }
        self.local("local_address", |local| match local.socket(Socket::local_addr)? {
            Some(address) => address_object(py, &address.map_err(Error::io("cannot read the local address"))?),
            None => inet_object(py, &LOCAL_IN_TESTS),
        })
    }

    /// The TLS of the connection: a ``goev.tls.Session``; ``None`` for plain bytes, and before the end of a handshake.
    #[getter]
    fn tls(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let facts = self.local("tls", |local| Ok(local.poller.tls_facts(local.token())))?;
        facts.map(|facts| session(py, facts)).transpose()
    }

    /// Begin TLS amid the conversation, behind the output that was written: on a server with a ``goev.tls.ServerContext``,
    /// on a client with a ``goev.tls.ClientContext``, or ``True`` for the system's CAs.
    ///
    /// Later output waits for the handshake. ``then()`` is called when the handshake is over and ``tls`` shows its results;
    /// an exception in it ends the connection. A handshake that fails, or takes longer than ``handshake_timeout``, ends
    /// the connection: ``on_close`` gets the ``goev.tls.Error``.
    ///
    /// Args:
    ///     context: the side, and its certificates and rules.
    ///     server_name: on a client, the name that the server's certificate has to be for; ``None``: that of the context.
    ///     then: callable without arguments, or ``None``.
    ///
    /// Raises:
    ///     RuntimeError: TLS has begun already; the socket does not take the output at once; input has come that was not
    ///         read, which an attacker may have put in front of the protected conversation (RFC 9325 section 3.4, CVE-2011-0411).
    ///     TypeError, ValueError: an argument is wrong, or a client has no name for the server.
    ///     ConnectionClosed: the connection has ended or is being closed.
    ///
    /// Go: none; ``tls.Server`` and ``tls.Client`` of its standard library.
    #[pyo3(signature = (context, *, server_name = None, then = None))]
    fn start_tls(
        &self,
        context: &Bound<'_, PyAny>,
        server_name: Option<&str>,
        then: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let stream = stream("context", context, server_name)?;
        if let Some(then) = then {
            arguments::callable("then", then)?;
        }
        let function = then.map(Later::new).transpose()?;
        self.local("start_tls()", |local| {
            let (owner, args) = (Some(local.remote.clone()), PyTuple::empty(context.py()).unbind());
            let task = function.map(|function| PyTask::Call { name: THEN, owner, function, args });
            let done = task.map(|task| Box::new(task) as Foreign);
            Ok(local.poller.start_tls(local.token(), stream, done)?)
        })
    }

    /// The peer's address, in the form of ``local_address``; ``""`` for a Unix socket. From any thread, also after the end.
    ///
    /// Behind a proxy (``proxy_protocol``) both are the client's.
    #[getter]
    fn remote_address(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let peer = &self.remote()?.peer();
        match (named_ends(peer), peer.inet()) {
            (Some((source, _)), _) => place_object(py, source),
            (None, Some(address)) => inet_object(py, &address),
            (None, None) => unix_object(py, b""),
        }
    }

    /// The header of the PROXY protocol with which the connection began: a ``goev.Proxy``; ``None`` without that protocol.
    /// From any thread, also after the end.
    #[getter]
    fn proxy(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.remote()?.peer().proxied().map(|proxied| proxy_object(py, proxied)).transpose()
    }

    /// The socket's descriptor, or -1 after the end. The reactor owns it: do not close it.
    fn fileno(&self) -> PyResult<i32> {
        self.local("fileno()", |local| Ok(local.socket(|socket| socket.as_raw_fd()).ok().flatten().unwrap_or(-1)))
    }

    /// Change limits of this connection, by the keyword arguments of ``Acceptor`` that concern connections: ``max_input``,
    /// ``high_water``, ``low_water``, ``auto_pause``, ``max_output``, ``linger_timeout``,
    /// ``handshake_timeout``, ``idle_timeout``, ``receive_timeout``, ``first_byte_timeout``, ``write_timeout``, ``lifetime``,
    /// ``min_rate``, ``min_write_rate``.
    /// Limits that are not named keep their values. Times are seconds, sizes bytes.
    ///
    /// An error changes none of them. ``first_byte_timeout`` and ``lifetime`` count from the opening, the others from
    /// the last activity, a window of ``min_rate`` from now.
    #[pyo3(
        signature = (**limits),
        text_signature = "($self, *, max_input=..., high_water=..., low_water=..., auto_pause=..., max_output=..., \
            linger_timeout=..., handshake_timeout=..., idle_timeout=..., receive_timeout=..., first_byte_timeout=..., \
            write_timeout=..., lifetime=..., min_rate=..., min_write_rate=...)"
    )]
    fn set_limits(&self, limits: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        self.local("set_limits()", |local| {
            // The conversion of values may run the user's code, so it is done while no borrow of the poller is held.
            let mut options = local.poller.options(local.token())?;
            take_keywords("set_limits", limits, |name, value| set_connection_option(&mut options, name, value))?;
            Ok(local.poller.set_options(local.token(), options)?)
        })
    }

    /// Send small segments at once if ``on``, which is the default of connections, too (TCP_NODELAY, tcp(7)).
    #[pyo3(signature = (on = true))]
    fn set_nodelay(&self, on: bool) -> PyResult<()> {
        self.local("set_nodelay()", |local| local.set("TCP_NODELAY", |socket| socket.set_tcp_nodelay(on)))
    }

    /// Acknowledge arriving data at once if ``on``, instead of waiting for output to carry the acknowledgement
    /// (TCP_QUICKACK, tcp(7)). The kernel may go back to waiting by itself.
    #[pyo3(signature = (on = true))]
    fn set_quick_ack(&self, on: bool) -> PyResult<()> {
        self.local("set_quick_ack()", |local| local.set("TCP_QUICKACK", |socket| socket.set_tcp_quickack(on)))
    }

    /// Probe a silent peer (SO_KEEPALIVE, tcp(7)).
    ///
    /// The first probe comes after ``idle`` seconds of silence, the next ones each ``interval`` seconds. ``count`` is the
    /// number of unanswered probes that end the connection, 1 to 127. Whole seconds; omitted arguments keep the system's
    /// defaults.
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

    /// Set the kernel's receive buffer to ``size`` bytes (SO_RCVBUF, socket(7)); the kernel doubles it for its own use.
    fn set_receive_buffer_size(&self, #[pyo3(from_py_with = integer)] size: i64) -> PyResult<()> {
        let size = size_within("size", size, 1..=MAX_SOCKET_BUFFER)?;
        self.local("set_receive_buffer_size()", |local| {
            local.set("SO_RCVBUF", |socket| socket.set_recv_buffer_size(size))
        })
    }

    /// Set the kernel's send buffer to ``size`` bytes (SO_SNDBUF, socket(7)); the kernel doubles it for its own use.
    fn set_send_buffer_size(&self, #[pyo3(from_py_with = integer)] size: i64) -> PyResult<()> {
        let size = size_within("size", size, 1..=MAX_SOCKET_BUFFER)?;
        self.local("set_send_buffer_size()", |local| local.set("SO_SNDBUF", |socket| socket.set_send_buffer_size(size)))
    }
}
