//! `goev.websocket`: connections behind the handshake. What they mean on the wire is in `src/websocket/`.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};

use super::arguments::{bytes_of, integer, seconds, size_within, type_name};
use super::connection::{Connection, held, used_twice};
use super::dispatch::{PyDispatch, with_poller};
use super::errors::ConnectionClosed;
use crate::error::{Expired, Reason};
use crate::poller::Poller;
use crate::random;
use crate::websocket::{Deflate, Farewell, MOST_REASON, Opcode, Settings, frame, head, is_sendable_code};

/// From this size on a message is sent from where it is, behind its head.
const SENT_APART: usize = 4096;

/// "No close frame was received" (RFC 6455 section 7.4.1).
const ABNORMAL: u16 = 1006;

/// What a ping carries that asks for a sign of life. No handler asked for it, so none is told of the answer.
pub const SIGN_OF_LIFE: &[u8] = b"goev: there?";

thread_local! {
    /// Where frames are put together.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How messages become frames: what ``goev.Group`` wants to send to WebSockets of a server.
///
/// ``frame`` takes ``str`` for a message of text and bytes-like objects for one of bytes. They go out as they are, not compressed.
#[pyclass(frozen, module = "goev.websocket", name = "Framing")]
pub struct WebSocketFraming;

#[pymethods]
impl WebSocketFraming {
    #[new]
    fn new() -> Self {
        Self
    }

    /// The frame of a message.
    fn frame<'py>(&self, py: Python<'py>, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        with_payload(message, |opcode, payload| {
            Ok(PyBytes::new(py, &[head(opcode, payload.len(), None).bytes(), payload].concat()))
        })
    }

    fn __repr__(&self) -> &'static str {
        "goev.websocket.Framing()"
    }
}

/// What every WebSocket is, on either side; ``goev.websocket.Connection`` adds the handshake.
#[pyclass(name = "WebSocketConnection", extends = Connection, subclass, frozen, module = "goev._core")]
pub struct WebSocketConnection {
    settings: OnceLock<Arc<Settings>>,
    /// The last word of the peer, or ours once it has ended.
    parting: Mutex<Option<Farewell>>,
    /// When the peer was last heard as a ping went out, and when that was.
    pinged: Mutex<Option<(u64, u64)>>,
}

impl WebSocketConnection {
    /// Refuses to take a connection over without a handshake, and twice.
    pub fn check_takeover(slf: &Bound<'_, Self>, argument: &str) -> PyResult<()> {
        if slf.get().settings.get().is_none() {
            let text = format!("{argument}a WebSocket takes over by its handshake: goev.websocket.upgrade()");
            return Err(PyValueError::new_err(text));
        }
        match slf.as_super().get().bound() {
            Some(_) => Err(used_twice(argument)),
            None => Ok(()),
        }
    }

    /// What holds for the handler that takes over the WebSocket of another: its handshake, with limits of its own.
    pub fn succeed(slf: &Bound<'_, Self>, before: &Bound<'_, Self>, argument: &str) -> PyResult<Arc<Settings>> {
        Self::_check_limits(slf)?;
        let settings = Settings { max_message: max_message_of(slf)?, ..**before.get().settings()? };
        let base = slf.as_super().get();
        base.claim(argument)?;
        let copy = |name| slf.setattr(name, before.getattr(name)?);
        ["request", "subprotocol"].into_iter().try_for_each(copy).inspect_err(|_| base.release())?;
        Ok(Arc::new(settings))
    }

    /// The handshake is done, and this is what was agreed.
    pub fn agree(&self, settings: Arc<Settings>) {
        self.settings.get_or_init(|| settings);
    }

    /// What was agreed in the handshake; an error before it.
    pub fn settings(&self) -> PyResult<&Arc<Settings>> {
        self.settings.get().ok_or_else(|| ConnectionClosed::new_err("the WebSocket is not open yet"))
    }

    /// The peer has said its last word.
    pub fn part(&self, farewell: Farewell) {
        *lock(&self.parting) = Some(farewell);
    }

    /// It has ended, and this is what we said last, if anything.
    pub fn end(&self, farewell: Option<Farewell>) {
        lock(&self.parting).get_or_insert_with(|| farewell.unwrap_or_else(|| Farewell::new(ABNORMAL)));
    }
}

/// The kind of message that an object is, and its bytes.
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

/// Its bytes would stand between frames.
fn only_messages(method: &str) -> PyErr {
    PyRuntimeError::new_err(format!("{method}(): a WebSocket has messages: use send()"))
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
        let connection = Connection::new(class, args, kwargs)?;
        let this = Self { settings: OnceLock::new(), parting: Mutex::default(), pinged: Mutex::default() };
        Ok(PyClassInitializer::from(connection).add_subclass(this))
    }

    /// A message came: ``str`` if it is text, ``bytes`` if not. ``False`` closes.
    fn on_message(&self, message: &Bound<'_, PyAny>) {
        let _ = message;
    }

    /// A pong came, as the answer to a ``ping`` with the same ``data``, or unasked. ``False`` closes.
    ///
    /// Not called for the pings that are sent after ``ping_interval``.
    fn on_pong(&self, data: &Bound<'_, PyAny>) {
        let _ = data;
    }

    /// Send a message: ``str`` as text, any bytes-like object as bytes. From any thread.
    ///
    /// Compressed if that was agreed and makes it smaller. Raises ``ConnectionClosed`` before ``on_open``, and after the end or
    /// ``close()``.
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

    /// Raises ``RuntimeError``: a WebSocket has messages, for which there is ``send``.
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

    /// Raises ``RuntimeError``: ``close`` says the last word of a WebSocket.
    fn shutdown_write(&self) -> PyResult<()> {
        Err(PyRuntimeError::new_err("shutdown_write(): a WebSocket is closed as a whole: use close()"))
    }

    /// ``send`` each of ``messages`` in order.
    fn send_messages(slf: &Bound<'_, Self>, messages: &Bound<'_, PyAny>) -> PyResult<()> {
        messages.try_iter()?.try_for_each(|message| Self::send(slf, &message?))
    }

    /// Ask the peer for a pong with the same ``data``, at most 125 bytes; ``on_pong`` gets it. From any thread.
    ///
    /// Pings of the peer are answered without being told.
    #[pyo3(signature = (data = None), text_signature = "($self, data=b'')")]
    fn ping(slf: &Bound<'_, Self>, data: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let settings = slf.get().settings()?;
        let send = |data: &[u8]| {
            size_within("the length of data", data.len() as i64, 0..=125)?;
            write_frame(slf.as_super().get(), settings, Opcode::Ping, data)
        };
        data.map_or_else(|| send(b""), |data| bytes_of(data, send))
    }

    /// Send what is queued, then the reason why, then close. From any thread, any number of times: the first one counts.
    ///
    /// ``code`` is one of RFC 6455 section 7.4, or 3000 to 4999; ``reason`` at most 123 bytes of UTF-8.
    #[pyo3(signature = (code = 1000, reason = ""))]
    fn close(slf: &Bound<'_, Self>, #[pyo3(from_py_with = integer)] code: i64, reason: &str) -> PyResult<()> {
        let Some(sendable) = u16::try_from(code).ok().filter(|code| is_sendable_code(*code)) else {
            let text = format!("code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999, not {code}");
            return Err(PyValueError::new_err(text));
        };
        size_within("the length of reason in bytes", reason.len() as i64, 0..=MOST_REASON)?;
        let remote = slf.as_super().get().remote()?;
        let farewell = Farewell { code: sendable, reason: reason.into() };
        with_poller(&remote.handle, |poller, _| poller.close_with(remote.token, farewell.clone()))
            .unwrap_or_else(|| remote.close_with(farewell));
        Ok(())
    }

    /// The close code of the peer, 1005 if its last word had none; ours, if it said none; 1006 when the connection ended without
    /// either; ``None`` until it has ended, which ``on_close`` tells.
    #[getter]
    fn close_code(&self) -> Option<u16> {
        lock(&self.parting).as_ref().map(|farewell| farewell.code)
    }

    /// What was said with ``close_code``.
    #[getter]
    fn close_reason(&self) -> String {
        lock(&self.parting).as_ref().map_or_else(String::new, |farewell| farewell.reason.clone())
    }

    /// Whether messages may be compressed (permessage-deflate, RFC 7692).
    #[getter]
    fn compressed(&self) -> bool {
        self.settings.get().is_some_and(|settings| settings.deflate.is_some())
    }

    /// Refuses sizes and times that make no sense.
    fn _check_limits(slf: &Bound<'_, Self>) -> PyResult<()> {
        max_message_of(slf)?;
        time_of(slf, "ping_interval")?;
        time_of(slf, "ping_timeout")?;
        if time_of(slf, "open_timeout")?.is_none() {
            return Err(PyTypeError::new_err("open_timeout must be a number, not None"));
        }
        Ok(())
    }

    /// A handshake for it begins: nobody else may use it.
    fn _claim(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.as_super().get().claim("handler: ")
    }

    /// The handshake came to nothing.
    fn _release(slf: &Bound<'_, Self>) {
        slf.as_super().get().release();
    }

    /// The handshake is done, and this is what was agreed: called once, by whoever did it.
    #[pyo3(signature = (*, client, window_bits))]
    fn _agree(slf: &Bound<'_, Self>, client: bool, window_bits: Option<u8>) -> PyResult<()> {
        let max_message = max_message_of(slf)?;
        let unfit = |bits| PyValueError::new_err(format!("window_bits must be from 9 to 15, not {bits}"));
        let deflate = window_bits.map(|bits| Deflate::new(bits).ok_or_else(|| unfit(bits))).transpose()?;
        slf.get().agree(Arc::new(Settings { client, max_message, deflate }));
        Ok(())
    }

    /// Sends a ping when it is time for one, and gives a silent peer up; then sets the timer that calls this again.
    fn _keep_alive(slf: &Bound<'_, Self>) -> PyResult<()> {
        let Some(interval) = time_of(slf, "ping_interval")? else { return Ok(()) };
        let timeout = time_of(slf, "ping_timeout")?;
        let remote = slf.as_super().get().remote()?;
        let Some((now, heard)) = with_poller(&remote.handle, |poller, _| {
            let now = poller.now();
            // Where reading is paused nobody knows.
            (now, poller.last_heard(remote.token).unwrap_or(now))
        }) else {
            return Ok(());
        };
        let until = slf.get().ping_if_silent(slf, now, heard, interval)?;
        // Also where a limit runs it is looked at again as soon as the next ping may be due.
        let (next, given_up) = match until {
            Pinged::No { at } => (at, None),
            Pinged::Yes { since } => {
                let limit = timeout.map(|timeout| (since + nanos(timeout), timeout));
                let next = now + nanos(interval);
                let expired = limit.filter(|(limit, _)| *limit <= now).map(|(_, timeout)| timeout);
                (limit.map_or(next, |(limit, _)| limit.min(next)), expired)
            }
        };
        let callback = slf.getattr("_keep_alive")?.unbind();
        let set = |poller: &Poller, dispatch: &PyDispatch| match given_up {
            Some(timeout) => {
                poller.give_up(remote.token, Reason::Expired(Expired::Ping(timeout)));
                Ok(())
            }
            None => dispatch.set_timer(poller, next, 0, Some(remote.token), callback).map(drop),
        };
        // It is the thread of the poller, as above.
        Ok(with_poller(&remote.handle, set).unwrap_or(Ok(()))?)
    }
}

/// How the matter of a silent peer stands.
#[derive(Clone, Copy)]
enum Pinged {
    /// A ping is due then, unless it says something.
    No { at: u64 },
    /// It has said nothing since.
    Yes { since: u64 },
}

impl WebSocketConnection {
    fn ping_if_silent(&self, slf: &Bound<'_, Self>, now: u64, heard: u64, interval: Duration) -> PyResult<Pinged> {
        let mut pinged = lock(&self.pinged);
        match *pinged {
            Some((before, since)) if before == heard => return Ok(Pinged::Yes { since }),
            _ if now < heard + nanos(interval) => return Ok(Pinged::No { at: heard + nanos(interval) }),
            _ => *pinged = Some((heard, now)),
        }
        drop(pinged);
        write_frame(slf.as_super().get(), self.settings()?, Opcode::Ping, SIGN_OF_LIFE)?;
        Ok(Pinged::Yes { since: now })
    }
}

fn max_message_of(slf: &Bound<'_, WebSocketConnection>) -> PyResult<usize> {
    let value = slf.getattr("max_message_size")?;
    let size = integer(&value)
        .map_err(|_| PyTypeError::new_err(format!("max_message_size must be an int, not {}", type_name(&value))))?;
    size_within("max_message_size", size, 1..=1 << 30)
}

/// An attribute that is a time in seconds, more than none at all, or `None`.
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
