//! `goev.Group`: one message for many connections.

use std::sync::Arc;

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::python::connection::Connection;
use crate::python::protocols::framing::Framing;
use crate::python::protocols::http::HttpConnection;
use crate::python::protocols::websocket::{WebSocketConnection, WebSocketFraming};
use crate::python::tables::with_current;
use crate::python::values::arguments::{bytes_of, type_name};
use crate::shared::group::{Group as Core, WhenBehind};
use crate::system::fork;

/// Connections that get the same messages: a chat room, the subscribers of a feed.
///
/// A connection may be in any number of groups, and leaves them by itself when it ends or is handed over. Its members may
/// be on any pollers of any reactors; all methods may be called from any thread.
///
/// Args:
///     framing: frames each message of ``send``, once for all members; ``None`` sends bytes as they are. Any object with
///         ``frame(message)`` will do.
///     when_behind: the treatment of a member with more queued output than its ``high_water``: ``"skip"`` leaves the
///         message out for it, ``"end"`` ends it with ``OutputOverflow``.
///
/// Go: none.
#[pyclass(frozen, module = "goev")]
pub struct Group {
    core: Arc<Core>,
    framing: Option<Py<PyAny>>,
    birth: u32,
}

impl Group {
    /// Returns an error for a connection that could not read the group's messages.
    fn check_framing(&self, connection: &Bound<'_, Connection>) -> PyResult<()> {
        let framing = self.framing.as_ref().map(|framing| framing.bind(connection.py()));
        let text = match connection.cast::<WebSocketConnection>() {
            Ok(socket) if socket.get().settings()?.client => {
                "a WebSocket of a client cannot be a member: it masks each message with a key of its own".into()
            }
            // An object with the user's own framing may well make WebSocket frames.
            Ok(_) if framing.is_none_or(|framing| framing.is_instance_of::<Framing>()) => {
                "a WebSocket can be a member of a Group(goev.websocket.Framing()) only".into()
            }
            Err(_) if framing.is_some_and(|framing| framing.is_instance_of::<WebSocketFraming>()) => {
                format!("goev.websocket.Framing() is for WebSockets, not for {}", type_name(connection))
            }
            // An object with the user's own framing may well make chunks of answers that were begun.
            Err(_)
                if connection.is_instance_of::<HttpConnection>()
                    && framing.is_none_or(|framing| framing.is_instance_of::<Framing>()) =>
            {
                "an HTTP connection can be a member only of a Group whose own framing makes chunks of answers that \
                 were begun; request.write() sends to a single one"
                    .into()
            }
            _ => return Ok(()),
        };
        Err(PyTypeError::new_err(text))
    }
}

#[pymethods]
impl Group {
    #[new]
    #[pyo3(signature = (framing = None, *, when_behind = "skip"))]
    fn new(framing: Option<Bound<'_, PyAny>>, when_behind: &str) -> PyResult<Self> {
        let when_behind = match when_behind {
            "skip" => WhenBehind::Skip,
            "end" => WhenBehind::End,
            _ => {
                let text = format!("when_behind must be 'skip' or 'end', not {when_behind:?}");
                return Err(PyValueError::new_err(text));
            }
        };
        if let Some(framing) = &framing
            && !framing.getattr("frame").is_ok_and(|frame| frame.is_callable())
        {
            return Err(PyTypeError::new_err(format!(
                "framing must have frame(message); {} has not",
                type_name(framing)
            )));
        }
        Ok(Self { core: Core::new(when_behind), framing: framing.map(Bound::unbind), birth: fork::generation() })
    }

    /// Make a connection a member; it gets messages sent from now on. Harmless for a member.
    ///
    /// Raises ``ConnectionClosed`` before ``on_open`` and after the end. Raises ``TypeError`` for a WebSocket in a
    /// group with another framing, and for another connection in a group for WebSockets. A client's WebSocket cannot
    /// be a member, because it masks each message with a new key. Raises ``TypeError`` for an HTTP connection, unless
    /// the group has a framing of your own; each member must then have begun an answer in chunks, and the framing
    /// makes the chunks.
    fn add(&self, connection: &Bound<'_, Connection>) -> PyResult<()> {
        fork::check(self.birth, "group")?;
        self.check_framing(connection)?;
        self.core.add(connection.get().remote()?)?;
        Ok(())
    }

    /// Remove ``connection``; harmless for one that is no member.
    fn discard(&self, connection: &Bound<'_, Connection>) -> PyResult<()> {
        fork::check(self.birth, "group")?;
        if let Some(remote) = connection.get().bound() {
            self.core.discard(remote);
        }
        Ok(())
    }

    /// Queue ``message`` to every member: framed once, and one copy of its bytes for any number of members.
    ///
    /// When this returns, members on the poller of this thread have the message queued, in order with direct writes of the
    /// thread. Each other poller gets it by its mailbox. Raises ``OutputOverflow`` when 64 MiB of messages are already
    /// in the mailbox of a poller; the members on that poller do not get this message.
    fn send(&self, py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<()> {
        fork::check(self.birth, "group")?;
        let framed = match &self.framing {
            None => None,
            Some(framing) => Some(framing.bind(py).call_method1("frame", (message,))?),
        };
        let bytes: Arc<[u8]> = bytes_of(framed.as_ref().unwrap_or(message), |bytes| Ok(bytes.into()))?;
        if bytes.is_empty() {
            return Ok(());
        }
        let sent = with_current(|poller, _| poller.broadcast(&self.core, bytes.clone()));
        // Outside a callback, other Python threads may run meanwhile.
        Ok(sent.unwrap_or_else(|| py.detach(|| self.core.send_from_elsewhere(bytes)))?)
    }

    fn __len__(&self) -> PyResult<usize> {
        fork::check(self.birth, "group")?;
        Ok(self.core.len())
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.framing)
    }

    fn __contains__(&self, connection: &Bound<'_, PyAny>) -> PyResult<bool> {
        fork::check(self.birth, "group")?;
        let remote = connection.cast::<Connection>().ok().and_then(|connection| connection.get().bound());
        Ok(remote.is_some_and(|remote| self.core.contains(remote)))
    }
}
