//! `goev.websocket`: connections after the handshake. `src/protocols/websocket/` holds the rules of the wire.

use std::any::Any;
use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};

use super::{Called, Face};
use crate::connection::Progress;
use crate::error::{Error, Expired, Reason};
use crate::poller::Poller;
use crate::protocols::Protocol;
use crate::protocols::websocket::{
    Deflate, Farewell, Item, MOST_REASON, Opcode, Settings, WebSocket, frame, head, is_sendable_code,
};
use crate::python::callbacks::Names;
use crate::python::connection::held::held;
use crate::python::connection::{Connection, close_with, used_twice};
use crate::python::contexts::{Contexts, Later};
use crate::python::tables::{Tables, with_poller_of};
use crate::python::values::arguments::{bytes_of, exception, integer, seconds, size_within, type_name};
use crate::python::values::exceptions::ConnectionClosed;
use crate::python::values::objects::{bytes_object, or_keep};
use crate::slots::Token;
use crate::system::random;

/// From this size on a message is sent from its own memory, behind its head.
const SENT_APART: usize = 4096;

/// "No close frame was received" (RFC 6455 section 7.4.1).
const ABNORMAL: u16 = 1006;

/// "No status code was actually present" (RFC 6455 section 7.4.1).
const NO_CODE: u16 = 1005;

/// The payload of a ping that goev sends to check the peer. The handler did not ask for it, so it does not get the
/// pong.
const SIGN_OF_LIFE: &[u8] = b"goev: there?";

/// Number of looks within `ping_timeout` at whether the peer reads the output before a ping.
const LOOKS: u32 = 4;

thread_local! {
    /// The memory in which frames are put together.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The way messages become frames: a ``goev.Group`` needs it to send to WebSockets of a server.
///
/// ``frame`` takes ``str`` for a text message and bytes-like objects for a binary one. They are not compressed.
#[pyclass(frozen, module = "goev.websocket", name = "Framing")]
pub struct WebSocketFraming;

#[pymethods]
impl WebSocketFraming {
    #[new]
    fn new() -> Self {
        Self
    }

    /// The frame of ``message``, as ``bytes``. Raises ``TypeError`` for other types.
    fn frame<'py>(&self, py: Python<'py>, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        with_payload(message, |opcode, payload| {
            Ok(PyBytes::new(py, &[head(opcode, payload.len(), None).bytes(), payload].concat()))
        })
    }

    fn __repr__(&self) -> &'static str {
        "goev.websocket.Framing()"
    }
}

/// The common part of every WebSocket, on either side; ``goev.websocket.Connection`` adds the handshake.
#[pyclass(name = "WebSocketConnection", extends = Connection, subclass, frozen, module = "goev._core")]
pub struct WebSocketConnection {
    settings: OnceLock<Arc<Settings>>,
    /// The close frame of the peer; after the end, ours if the peer sent none.
    parting: Mutex<Option<Farewell>>,
    /// The last ping of [`SIGN_OF_LIFE`].
    pinged: Mutex<Option<Ping>>,
}

impl WebSocketConnection {
    /// Refuses a takeover without a handshake, and a second one.
    fn check_takeover(slf: &Bound<'_, Self>, argument: &str) -> PyResult<()> {
        if slf.get().settings.get().is_none() {
            let text = format!("{argument}a WebSocket takes over by its handshake: goev.websocket.upgrade()");
            return Err(PyValueError::new_err(text));
        }
        match slf.as_super().get().bound() {
            Some(_) => Err(used_twice(argument)),
            None => Ok(()),
        }
    }

    /// Claims a handler that takes over the WebSocket of `before`. The handshake's results are copied; the limits are
    /// its own.
    fn claim_to_succeed(slf: &Bound<'_, Self>, before: &Bound<'_, Self>, argument: &str) -> PyResult<()> {
        Self::_check_limits(slf)?;
        let base = slf.as_super().get();
        base.claim(argument)?;
        let copy = |name| slf.setattr(name, before.getattr(name)?);
        ["request", "subprotocol"].into_iter().try_for_each(copy).inspect_err(|_| base.release())
    }

    /// The settings of a handler that has taken over from `before`.
    fn settings_behind(slf: &Bound<'_, Self>, before: &Bound<'_, Self>) -> PyResult<Arc<Settings>> {
        Ok(Arc::new(Settings { max_message: max_message_of(slf)?, ..**before.get().settings()? }))
    }

    /// Stores the settings that the handshake agreed on.
    fn agree(&self, settings: Arc<Settings>) {
        self.settings.get_or_init(|| settings);
    }

    /// The settings that the handshake agreed on; an error before it.
    pub fn settings(&self) -> PyResult<&Arc<Settings>> {
        self.settings.get().ok_or_else(|| ConnectionClosed::new_err("the WebSocket is not open yet [GOEV102]"))
    }

    /// Stores the close frame of the peer.
    fn part(&self, farewell: Farewell) {
        *lock(&self.parting) = Some(farewell);
    }

    /// Runs at the end: stores our close frame, if one was sent, unless the peer has sent one.
    fn end(&self, farewell: Option<Farewell>) {
        lock(&self.parting).get_or_insert_with(|| farewell.unwrap_or_else(|| Farewell::new(ABNORMAL)));
    }
}

static FACE: &dyn Face = &Items;

/// The face of WebSockets.
struct Items;

impl Face for Items {
    fn set_up(&self, poller: &Poller, _names: &Names, token: Token, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        let socket = handler.cast::<WebSocketConnection>()?;
        speak(poller, token, socket.get().settings()?.clone())?;
        socket.call_method0("_keep_alive").map(drop)
    }

    fn resume(&self, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        handler.call_method0("_keep_alive").map(drop)
    }

    /// Takes the next message or pong, and calls the handler with it.
    fn call<'a, 'py>(
        &self,
        poller: &Poller,
        names: &'a Names,
        contexts: &Contexts,
        token: Token,
        handler: &Bound<'py, PyAny>,
    ) -> Option<Called<'a, 'py>> {
        let py = handler.py();
        contexts.enter(py, token);
        let socket = handler.cast::<WebSocketConnection>().ok()?;
        let mut failed = None;
        let mut made = |object: PyResult<Bound<'py, PyAny>>| or_keep(object, &mut failed);
        // Making bytes and text runs no Python code, so the input may stay borrowed.
        let (came, more) = poller.with::<WebSocket, _>(token, |machine, wire| {
            let came = machine.take(wire, |item| match item {
                Item::Text(text) => {
                    let text = PyString::from_bytes(py, text.as_bytes());
                    Some((&names.on_message, made(text.map(Bound::into_any))))
                }
                Item::Binary(bytes) => Some((&names.on_message, made(bytes_object(py, bytes).map(Bound::into_any)))),
                Item::Pong(SIGN_OF_LIFE) => None,
                Item::Pong(data) => Some((&names.on_pong, made(bytes_object(py, data).map(Bound::into_any)))),
                Item::Close { code, reason } => {
                    socket.get().part(Farewell { code: code.unwrap_or(NO_CODE), reason: reason.into() });
                    None
                }
                Item::Ping(_) => None,
            });
            (came, machine.has_news())
        })?;
        let (name, message) = came??;
        let answer = match message {
            Some(message) => handler.call_method1(name.bind(py), (message,)),
            None => Err(failed?),
        };
        Some(Called::of(name, answer, more))
    }

    /// The handshake: an HTTP connection.
    fn prologue<'py>(
        &self,
        name: &Bound<'py, PyString>,
        handler: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        handler.call_method0(name).map(Some)
    }

    fn check_connect(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a WebSocket is connected by goev.websocket.connect(), which knows its URL"))
    }

    fn check_successor(&self, other: &Bound<'_, PyAny>, argument: &str) -> PyResult<()> {
        if other.is_instance_of::<WebSocketConnection>() {
            return Ok(());
        }
        let text = format!("{argument}a WebSocket goes on as one, not as {}", type_name(other));
        Err(PyTypeError::new_err(text))
    }

    fn claim_successor(&self, old: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>, argument: &str) -> PyResult<bool> {
        let other = other.cast::<WebSocketConnection>()?;
        match old.cast::<WebSocketConnection>() {
            Ok(old) => WebSocketConnection::claim_to_succeed(other, old, argument)?,
            // The handshake of `other` has claimed it.
            Err(_) => WebSocketConnection::check_takeover(other, argument)?,
        }
        Ok(true)
    }

    fn took_over(&self, poller: &Poller, token: Token, old: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) {
        let Ok(other) = other.cast::<WebSocketConnection>() else { return };
        if let Ok(old) = old.cast::<WebSocketConnection>()
            && let Ok(settings) = WebSocketConnection::settings_behind(other, old)
        {
            other.get().agree(settings);
        }
        if let Ok(settings) = other.get().settings() {
            // Fails if the connection has ended already.
            let _ = speak(poller, token, settings.clone());
        }
    }

    fn end(&self, handler: &Bound<'_, PyAny>, protocol: Option<Box<dyn Protocol>>) {
        let Ok(socket) = handler.cast::<WebSocketConnection>() else { return };
        let machine = protocol.and_then(|protocol| (protocol as Box<dyn Any>).downcast::<WebSocket>().ok());
        socket.get().end(machine.and_then(|machine| machine.said()));
    }
}

/// Makes the connection a WebSocket. A connection that is one already continues, possibly in the middle of a message.
fn speak(poller: &Poller, token: Token, settings: Arc<Settings>) -> Result<(), Error> {
    match poller.with::<WebSocket, _>(token, |machine, _| machine.go_on_with(settings.clone())) {
        Some(()) => Ok(()),
        None => {
            poller.handle().counters.sessions.add(1);
            poller.set_protocol(token, WebSocket::new(settings))
        }
    }
}

/// Calls `use_it` with the opcode for `message`, and with its bytes.
fn with_payload<R>(message: &Bound<'_, PyAny>, use_it: impl FnOnce(Opcode, &[u8]) -> PyResult<R>) -> PyResult<R> {
    if let Ok(text) = message.cast::<PyString>() {
        return use_it(Opcode::Text, text.to_str()?.as_bytes());
    }
    match bytes_of(message, |bytes| Ok(use_it(Opcode::Binary, bytes))) {
        Ok(used) => used,
        Err(error) if error.is_instance_of::<PyTypeError>(message.py()) => {
            let text = format!("message must be a str or a bytes-like object, not {}", type_name(message));
            Err(PyTypeError::new_err(text))
        }
        Err(error) => Err(error),
    }
}

/// The error of a method that would write bytes between frames.
fn only_messages(method: &str) -> PyErr {
    PyRuntimeError::new_err(format!("{method}(): a WebSocket has messages: use send() [GOEV603]"))
}

fn write_frame(base: &Connection, settings: &Settings, opcode: Opcode, payload: &[u8]) -> PyResult<()> {
    let key = settings.client.then(random::four).transpose()?;
    let mut buffer = BUFFER.take();
    buffer.clear();
    frame(opcode, payload, settings, key, &mut buffer);
    base.write_copied(&buffer)?;
    if buffer.capacity() <= 16 * SENT_APART {
        BUFFER.set(buffer);
    }
    Ok(())
}

#[pymethods]
impl WebSocketConnection {
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
        let connection = Connection::with_face(class, Some(&FACE))?;
        let this = Self { settings: OnceLock::new(), parting: Mutex::default(), pinged: Mutex::default() };
        Ok(PyClassInitializer::from(connection).add_subclass(this))
    }

    /// A ``message`` came: ``str`` for text, ``bytes`` for binary. ``False`` closes.
    fn on_message(&self, message: &Bound<'_, PyAny>) {
        let _ = message;
    }

    /// A pong came: the reply to a ``ping`` with the same ``data``, or an unsolicited one. ``False`` closes.
    ///
    /// Not called for the pings that goev sends after ``ping_interval``.
    fn on_pong(&self, data: &Bound<'_, PyAny>) {
        let _ = data;
    }

    /// Send a message: ``str`` as text, any bytes-like object as binary. From any thread.
    ///
    /// Compressed if the handshake agreed on it and it makes the message smaller. Raises ``ConnectionClosed`` before
    /// ``on_open``, and after the end or ``close()``.
    fn send(slf: &Bound<'_, Self>, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let settings = slf.get().settings()?;
        let base = slf.as_super().get();
        with_payload(message, |opcode, payload| {
            let apart = payload.len() >= SENT_APART && !settings.client && settings.deflate.is_none();
            match held(message).filter(|_| apart) {
                Some(bytes) => base.write_framed(head(opcode, payload.len(), None).bytes(), payload, b"", Some(bytes)),
                None => write_frame(base, settings, opcode, payload),
            }
        })
    }

    /// Raises ``RuntimeError``: a WebSocket has messages, and ``send`` sends them.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = data;
        Err(only_messages("write"))
    }

    /// Raises ``RuntimeError``, as ``write`` does.
    fn writelines(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = lines;
        Err(only_messages("writelines"))
    }

    /// Raises ``RuntimeError``, as ``write`` does.
    #[pyo3(signature = (file, *, offset = 0, count = None))]
    fn sendfile(&self, file: &Bound<'_, PyAny>, offset: i64, count: Option<i64>) -> PyResult<()> {
        let _ = (file, offset, count);
        Err(only_messages("sendfile"))
    }

    /// Raises ``RuntimeError``: a WebSocket is closed as a whole, by ``close``.
    fn shutdown_write(&self) -> PyResult<()> {
        Err(PyRuntimeError::new_err("shutdown_write(): a WebSocket is closed as a whole: use close() [GOEV603]"))
    }

    /// ``send`` each of ``messages`` in order.
    fn send_messages(slf: &Bound<'_, Self>, messages: &Bound<'_, PyAny>) -> PyResult<()> {
        messages.try_iter()?.try_for_each(|message| Self::send(slf, &message?))
    }

    /// Ask the peer for a pong with the same ``data``, at most 125 bytes; ``on_pong`` gets it. From any thread.
    ///
    /// Pings of the peer are answered without a callback.
    #[pyo3(signature = (data = None), text_signature = "($self, data=b'')")]
    fn ping(slf: &Bound<'_, Self>, data: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let settings = slf.get().settings()?;
        let send = |data: &[u8]| {
            size_within("the length of data", data.len() as i64, 0..=125)?;
            write_frame(slf.as_super().get(), settings, Opcode::Ping, data)
        };
        data.map_or_else(|| send(b""), |data| bytes_of(data, send))
    }

    /// Send the queued output and a close frame, then close. From any thread, any number of times: the first call
    /// counts.
    ///
    /// ``code`` is one of RFC 6455 section 7.4, or 3000 to 4999; ``reason`` at most 123 bytes of UTF-8. ``on_close`` gets
    /// ``error``, any exception.
    #[pyo3(signature = (code = 1000, reason = "", *, error = None))]
    fn close(
        slf: &Bound<'_, Self>,
        #[pyo3(from_py_with = integer)] code: i64,
        reason: &str,
        error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let mut error = exception("error", error)?;
        let Some(sendable) = u16::try_from(code).ok().filter(|code| is_sendable_code(*code)) else {
            let text = format!("code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999, not {code}");
            return Err(PyValueError::new_err(text));
        };
        size_within("the length of reason in bytes", reason.len() as i64, 0..=MOST_REASON)?;
        let remote = slf.as_super().get().remote()?;
        let farewell = Farewell { code: sendable, reason: reason.into() };
        let closed = with_poller_of(remote, |poller, _| {
            poller.with::<WebSocket, _>(remote.token(), |socket, wire| match &error {
                None => socket.close(farewell.clone(), wire),
                // The close follows.
                Some(_) => drop(socket.receive(Box::new(farewell.clone()), wire)),
            });
            if error.is_some() {
                close_with(poller, remote.token(), error.take());
            }
        });
        closed.unwrap_or_else(|| remote.close_with(Some(Box::new(farewell)), error));
        Ok(())
    }

    /// Whether the WebSocket is over TLS: ``wss`` (RFC 6455 section 3).
    #[getter]
    fn secure(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(slf.as_super().get().remote()?.is_secure)
    }

    /// The close code of the peer; 1005 if its close frame had none. If the peer sent no close frame: our code, or 1006
    /// without either. ``None`` while the WebSocket is open; ``on_close`` can read it.
    #[getter]
    fn close_code(&self) -> Option<u16> {
        lock(&self.parting).as_ref().map(|farewell| farewell.code)
    }

    /// The reason that came with ``close_code``.
    #[getter]
    fn close_reason(&self) -> String {
        lock(&self.parting).as_ref().map_or_else(String::new, |farewell| farewell.reason.clone())
    }

    /// Whether messages may be compressed (permessage-deflate, RFC 7692).
    #[getter]
    fn compressed(&self) -> bool {
        self.settings.get().is_some_and(|settings| settings.deflate.is_some())
    }

    /// Refuses sizes and times out of range.
    fn _check_limits(slf: &Bound<'_, Self>) -> PyResult<()> {
        max_message_of(slf)?;
        time_of(slf, "ping_interval")?;
        time_of(slf, "ping_timeout")?;
        if time_of(slf, "open_timeout")?.is_none() {
            return Err(PyTypeError::new_err("open_timeout must be a number, not None"));
        }
        Ok(())
    }

    /// Claims the handler for a handshake, so that no other connection uses it.
    fn _claim(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.as_super().get().claim("handler: ")
    }

    /// Releases the handler after a handshake that failed.
    fn _release(slf: &Bound<'_, Self>) {
        slf.as_super().get().release();
    }

    /// Stores the result of the handshake. The side that has completed it calls this once.
    #[pyo3(signature = (*, client, window_bits))]
    fn _agree(slf: &Bound<'_, Self>, client: bool, window_bits: Option<u8>) -> PyResult<()> {
        let max_message = max_message_of(slf)?;
        let unfit = |bits| PyValueError::new_err(format!("window_bits must be from 9 to 15, not {bits}"));
        let deflate = window_bits.map(|bits| Deflate::new(bits).ok_or_else(|| unfit(bits))).transpose()?;
        slf.get().agree(Arc::new(Settings { client, max_message, deflate }));
        Ok(())
    }

    /// Sends a ping when one is due, and gives up a silent peer; then sets the timer that calls this again.
    fn _keep_alive(slf: &Bound<'_, Self>) -> PyResult<()> {
        let Some(interval) = time_of(slf, "ping_interval")? else { return Ok(()) };
        let timeout = time_of(slf, "ping_timeout")?;
        let remote = slf.as_super().get().remote()?;
        let Some((now, heard)) = with_poller_of(remote, |poller, _| {
            let now = poller.now();
            // While reading is paused, input may wait in the kernel. Then assume that the peer was heard just now.
            (now, poller.last_heard(remote.token()).unwrap_or(now))
        }) else {
            return Ok(());
        };
        let until = slf.get().ping_if_silent(slf, now, heard, interval)?;
        // While the limit runs, the next check is no later than the next ping may be due.
        let (next, given_up) = match until {
            Pinged::No { at } => (at, None),
            Pinged::Yes { since, is_behind } => {
                let limit = timeout.map(|timeout| (since + nanos(timeout), timeout));
                let look = timeout.filter(|_| is_behind).map(|timeout| now + nanos(timeout / LOOKS));
                let next = (now + nanos(interval)).min(look.unwrap_or(u64::MAX));
                let expired = limit.filter(|(limit, _)| *limit <= now).map(|(_, timeout)| timeout);
                (limit.map_or(next, |(limit, _)| limit.min(next)), expired)
            }
        };
        let callback = Later::internal(slf.getattr("_keep_alive")?.unbind());
        let set = |poller: &Poller, tables: &Tables| match given_up {
            Some(timeout) => {
                poller.give_up(remote.token(), Reason::Expired(Expired::Ping(timeout)));
                Ok(())
            }
            None => tables.set_upkeep(poller, next, remote.token(), callback),
        };
        // This is the poller's thread, as the call above has shown.
        Ok(with_poller_of(remote, set).unwrap_or(Ok(()))?)
    }
}

/// The state of the check for a silent peer.
#[derive(Clone, Copy)]
enum Pinged {
    /// No ping is out; one is due at `at`, unless the peer sends something before.
    No { at: u64 },
    /// The peer has sent nothing after a ping. Its time has run since `since`, and begins anew while the ping `is_behind`
    /// other output and the peer takes that.
    Yes { since: u64, is_behind: bool },
}

/// A ping without an answer.
#[derive(Clone, Copy)]
struct Ping {
    /// The time when the peer was last heard before the ping.
    heard: u64,
    since: u64,
    /// The edge of the peer's room at the last look, if the peer had not taken all output before the ping. A ping behind
    /// other output reaches the peer's program only when that has read the other output.
    edge: Option<u64>,
}

impl Ping {
    /// A ping that is written at `now`.
    fn new(heard: u64, now: u64, before: Option<Progress>) -> Self {
        let behind = before.filter(|before| before.taken < before.written);
        Self { heard, since: now, edge: behind.map(Progress::edge) }
    }

    /// Looks whether the peer has read any of the output before the ping: then it is alive. Returns whether another ping
    /// is to be sent, because its acknowledgement tells whether the peer reads on.
    fn look(&mut self, now: u64, progress: Option<Progress>) -> bool {
        let (Some(edge), Some(progress)) = (self.edge, progress) else { return false };
        if progress.edge() > edge {
            (self.since, self.edge) = (now, Some(progress.edge()));
        }
        progress.taken == progress.written
    }
}

impl WebSocketConnection {
    fn ping_if_silent(&self, slf: &Bound<'_, Self>, now: u64, heard: u64, interval: Duration) -> PyResult<Pinged> {
        let connection = slf.as_super().get();
        let remote = connection.remote()?;
        let progress = || with_poller_of(remote, |poller, _| poller.progress(remote.token())).flatten();
        let out = *lock(&self.pinged);
        if let Some(mut ping) = out.filter(|ping| ping.heard == heard) {
            if ping.look(now, ping.edge.and_then(|_| progress())) {
                write_frame(connection, self.settings()?, Opcode::Ping, SIGN_OF_LIFE)?;
            }
            *lock(&self.pinged) = Some(ping);
            return Ok(Pinged::Yes { since: ping.since, is_behind: ping.edge.is_some() });
        }
        if now < heard + nanos(interval) {
            return Ok(Pinged::No { at: heard + nanos(interval) });
        }
        let ping = Ping::new(heard, now, progress());
        *lock(&self.pinged) = Some(ping);
        write_frame(connection, self.settings()?, Opcode::Ping, SIGN_OF_LIFE)?;
        Ok(Pinged::Yes { since: now, is_behind: ping.edge.is_some() })
    }
}

fn max_message_of(slf: &Bound<'_, WebSocketConnection>) -> PyResult<usize> {
    let value = slf.getattr("max_message_size")?;
    let size = integer(&value)
        .map_err(|_| PyTypeError::new_err(format!("max_message_size must be an int, not {}", type_name(&value))))?;
    size_within("max_message_size", size, 1..=1 << 30)
}

/// An attribute that is a time in seconds, more than 0, or `None`.
fn time_of(slf: &Bound<'_, WebSocketConnection>, name: &str) -> PyResult<Option<Duration>> {
    let value = slf.getattr(name)?;
    let number: Option<f64> = value
        .extract()
        .map_err(|_| PyTypeError::new_err(format!("{name} must be a number or None, not {}", type_name(&value))))?;
    match number {
        None => Ok(None),
        Some(0.0) => Err(PyValueError::new_err(format!("{name} must be more than 0 seconds, not 0"))),
        Some(number) => seconds(name, number).map(Some),
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock is held cannot leave a plain value half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
