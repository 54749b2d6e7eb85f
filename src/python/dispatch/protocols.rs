//! Handlers whose input is cut into messages or requests: how theirs is set up, and how they are called.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use super::super::connection::Connection;
use super::super::framing::{Wanted, wanted_by};
use super::super::http::{HttpConnection, Request, limits_of};
use super::super::websocket::{SIGN_OF_LIFE, WebSocketConnection};
use super::{PyDispatch, get, goes_on, is_inherited, is_inherited_from};
use crate::codec::Protocol;
use crate::http::Event;
use crate::poller::Poller;
use crate::remote::Remote;
use crate::slots::Token;
use crate::websocket::{Farewell, Item};

/// "No status code was actually present" (RFC 6455 section 7.4.1).
const NO_CODE: u16 = 1005;

/// Exceptions that are looked at, of those that led to one another.
const MOST_CHAINED: usize = 32;

/// Messages at a time, for which a batch has room from the beginning.
const USUAL_BATCH: usize = 64;

/// What came of a connection that speaks HTTP.
enum Came<'py> {
    Request(Bound<'py, Request>),
    Body(Bound<'py, PyBytes>),
    End,
}

impl PyDispatch {
    /// The first of a handler's callbacks. What it speaks has to be known before, since input may be there.
    pub(super) fn begin(&self, py: Python<'_>, poller: &Poller, token: Token) {
        let Some(handler) = get(py, &self.handlers, token) else { return };
        let handler = handler.bind(py);
        // One that was closed before it opened is told of both, and needs nothing else.
        let ready = if poller.is_open(token) { self.set_protocol(poller, token, handler) } else { Ok(()) };
        match ready {
            Ok(()) => self.call_deciding(py, poller, token, self.names.on_open.bind(py)),
            Err(error) => self.end_by(poller, token, handler, self.names.framing.bind(py), error),
        }
    }

    /// The handler that goes first, and hands over to `handler` when it is done: a WebSocket's handshake.
    pub(super) fn make_prologue(
        &self,
        handler: &Bound<'_, Connection>,
        remote: &Arc<Remote>,
    ) -> PyResult<Option<Py<PyAny>>> {
        if !handler.is_instance_of::<WebSocketConnection>() {
            return Ok(None);
        }
        let first = handler.call_method0(self.names.prologue.bind(handler.py()))?;
        let connection = first.cast::<Connection>()?.get();
        connection.claim("_prologue(): ")?;
        connection.bind_to(remote.clone());
        Ok(Some(first.unbind()))
    }

    fn set_protocol(&self, poller: &Poller, token: Token, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = handler.py();
        if handler.is_instance_of::<HttpConnection>() {
            let streams = !is_inherited_from::<HttpConnection>(handler, self.names.on_body.bind(py));
            return Ok(poller.set_protocol(token, Protocol::Http { limits: limits_of(handler)?, streams })?);
        }
        if let Ok(socket) = handler.cast::<WebSocketConnection>() {
            poller.set_protocol(token, Protocol::WebSocket(socket.get().settings()?.clone()))?;
            return socket.call_method0("_keep_alive").map(drop);
        }
        if let Wanted::Native(framing) = wanted_by(handler, self.names.framing.bind(py))? {
            poller.set_protocol(token, Protocol::Framing(framing.clone()))?;
            let in_batches = !is_inherited(handler, self.names.on_messages.bind(py));
            handler.cast::<Connection>()?.get().set_framing(framing, in_batches);
        }
        Ok(())
    }

    /// The next message, or all that are there for a handler that takes them so.
    pub(super) fn call_message(&self, py: Python<'_>, poller: &Poller, token: Token) {
        let Some(handler) = get(py, &self.handlers, token) else { return };
        let handler = handler.bind(py);
        // Making bytes runs no Python code, so the borrow of the input may last; a list may, by a collection of garbage.
        if handler.cast::<Connection>().is_ok_and(|connection| connection.get().takes_batches()) {
            let mut messages = Vec::with_capacity(USUAL_BATCH);
            poller.take_messages(token, |message| messages.push(PyBytes::new(py, message)));
            if messages.is_empty() {
                return;
            }
            let name = self.names.on_messages.bind(py);
            let answer = PyList::new(py, messages).and_then(|messages| handler.call_method1(name, (messages,)));
            return self.decide(poller, token, handler, name, answer);
        }
        let Some(message) = poller.take_message(token, |message| PyBytes::new(py, message)) else { return };
        let name = self.names.on_message.bind(py);
        self.decide(poller, token, handler, name, handler.call_method1(name, (message,)));
    }

    /// The next request, or a piece of a body.
    pub(super) fn call_request(&self, py: Python<'_>, poller: &Poller, token: Token) {
        let Some(handler) = get(py, &self.handlers, token) else { return };
        let handler = handler.bind(py);
        let Ok(http) = handler.cast::<HttpConnection>() else { return };
        let Some(remote) = http.as_super().get().bound() else { return };
        // Making bytes and an object of ours runs no Python code, so the borrow of the input may last.
        let came = poller.take_request(token, |number, event| match event {
            Event::Request { head, facts, body } => {
                let body = body.map(|body| PyBytes::new(py, body));
                Ok(Came::Request(Bound::new(py, Request::new(remote, number, head, facts, body))?))
            }
            Event::Body(piece) => Ok(Came::Body(PyBytes::new(py, piece))),
            Event::End => Ok(Came::End),
        });
        match came {
            None => {}
            Some(Ok(Came::Request(request))) => self.call_on_request(poller, token, http, &request),
            Some(Ok(Came::Body(piece))) => self.call_on_body(poller, token, http, &piece),
            Some(Ok(Came::End)) => self.call_on_body(poller, token, http, &PyBytes::new(py, b"")),
            Some(Err(error)) => self.end_by(poller, token, handler, self.names.on_request.bind(py), error),
        }
    }

    /// The next message of a WebSocket.
    pub(super) fn call_item(&self, py: Python<'_>, poller: &Poller, token: Token) {
        let Some(handler) = get(py, &self.handlers, token) else { return };
        let handler = handler.bind(py);
        let Ok(socket) = handler.cast::<WebSocketConnection>() else { return };
        // As above.
        let came = poller.take_item(token, |item| match item {
            Item::Text(text) => Some((&self.names.on_message, PyString::new(py, text).into_any())),
            Item::Binary(bytes) => Some((&self.names.on_message, PyBytes::new(py, bytes).into_any())),
            Item::Pong(SIGN_OF_LIFE) => None,
            Item::Pong(data) => Some((&self.names.on_pong, PyBytes::new(py, data).into_any())),
            Item::Close { code, reason } => {
                socket.get().part(Farewell { code: code.unwrap_or(NO_CODE), reason: reason.into() });
                None
            }
            Item::Ping(_) => None,
        });
        if let Some(Some((name, message))) = came {
            let name = name.bind(py);
            self.decide(poller, token, handler, name, handler.call_method1(name, (message,)));
        }
    }

    fn call_on_request(
        &self,
        poller: &Poller,
        token: Token,
        handler: &Bound<'_, HttpConnection>,
        request: &Bound<'_, Request>,
    ) {
        let name = self.names.on_request.bind(handler.py());
        if request.get().is_streamed() {
            handler.get().receive(Some(request.clone().unbind()));
        }
        let answer = handler.call_method1(name, (request,));
        if answer.is_ok()
            && let Some(number) = request.get().ask_for_body()
        {
            poller.continue_body(token, number);
        }
        self.settle_request(poller, token, handler, name, request, answer);
    }

    fn call_on_body(
        &self,
        poller: &Poller,
        token: Token,
        handler: &Bound<'_, HttpConnection>,
        piece: &Bound<'_, PyBytes>,
    ) {
        let py = handler.py();
        let Some(request) = handler.get().receiving(py) else { return };
        if piece.as_bytes().is_empty() {
            handler.get().receive(None);
        }
        let name = self.names.on_body.bind(py);
        let answer = handler.call_method1(name, (&request, piece));
        self.settle_request(poller, token, handler, name, request.bind(py), answer);
    }

    /// As for any callback; but if it raised, the peer is told so.
    fn settle_request<'py>(
        &self,
        poller: &Poller,
        token: Token,
        handler: &Bound<'py, HttpConnection>,
        name: &Bound<'py, PyString>,
        request: &Bound<'py, Request>,
        answer: PyResult<Bound<'py, PyAny>>,
    ) {
        match answer.and_then(|answer| goes_on(name, &answer)) {
            Ok(true) => {}
            Ok(false) => poller.finish(token),
            Err(error) => {
                if let Some(error) = self.blame(poller, token, handler, name, error) {
                    clear_frames(handler.py(), &error);
                    let waits = request.get().is_posted();
                    request.get().fail();
                    poller.fail_answered(token, Box::new(error), waits);
                }
            }
        }
    }
}

/// Lets go of what the frames of tracebacks hold, requests without an answer among it: the exception is kept until all
/// requests are answered.
fn clear_frames(py: Python<'_>, error: &PyErr) {
    let Ok(clear) = py.import("traceback").and_then(|module| module.getattr("clear_frames")) else { return };
    let mut next = Some(error.value(py).clone().into_any());
    // Exceptions may be chained in a circle.
    for _ in 0..MOST_CHAINED {
        let Some(error) = next.filter(|error| !error.is_none()) else { return };
        // Fails for what is no frame of a function that has ended, and that is to stay.
        let _ = error.getattr("__traceback__").and_then(|traceback| clear.call1((traceback,)));
        let of = |name| error.getattr(name).ok().filter(|error| !error.is_none());
        next = of("__cause__").or_else(|| of("__context__"));
    }
}
