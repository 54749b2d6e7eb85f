//! The Python side of protocols: for each protocol a handler class, and a [`Face`] that knows how to call its
//! callbacks.
//!
//! A new protocol is one file here and a line below. Its class passes its face to `goev.Connection` when a handler is
//! made, so the dispatch and the connection name no protocol. The names of new callbacks go into `callbacks`, and
//! `python/mod` registers the class.

pub mod asgi;
pub mod fields;
pub mod files;
pub mod forgotten;
pub mod framing;
pub mod headers;
pub mod http;
pub mod observer;
pub mod request;
pub mod websocket;
pub mod websocket_peer;
pub mod wsgi;

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::Foreign;
use crate::poller::Poller;
use crate::protocols::Protocol;
use crate::python::callbacks::{Names, is_nothing};
use crate::python::contexts::Contexts;
use crate::slots::Token;

/// A callback that was called. It is handed on in two registers, because there is one for each message.
pub struct Called<'a, 'py> {
    /// Its answer, unless that is `None`, as nearly always.
    pub answered: Option<Box<Answered<'a, 'py>>>,
    /// Whether the protocol had found another part when this one was taken. Most are followed by none.
    pub more: bool,
}

/// The answer of a callback that is to be acted on.
pub struct Answered<'a, 'py> {
    pub name: &'a Py<PyString>,
    pub answer: PyResult<Bound<'py, PyAny>>,
    /// The object that the callback was about, for example a request.
    pub about: Option<Bound<'py, PyAny>>,
    /// Whether the next callback waits for the end of this one, if it is a coroutine.
    pub holds: bool,
}

impl<'a, 'py> Called<'a, 'py> {
    /// A callback of this name, and its answer. The next one waits for its end.
    #[inline]
    pub fn of(name: &'a Py<PyString>, answer: PyResult<Bound<'py, PyAny>>, more: bool) -> Self {
        Self::about(name, answer, None, true, more)
    }

    /// A callback about an object.
    #[inline]
    pub fn about(
        name: &'a Py<PyString>,
        answer: PyResult<Bound<'py, PyAny>>,
        about: Option<Bound<'py, PyAny>>,
        holds: bool,
        more: bool,
    ) -> Self {
        let is_due = !is_nothing(&answer);
        Self { answered: is_due.then(|| Box::new(Answered { name, answer, about, holds })), more }
    }
}

/// A face as each handler and its connection hold it: one word, unlike a reference to the trait.
pub type FaceRef = &'static &'static dyn Face;

/// The handler class of a protocol, as the dispatch sees it.
pub trait Face: Sync {
    /// The face that this one stands on. It does all that this one does not do itself.
    fn below(&self) -> Option<&'static dyn Face> {
        None
    }

    /// Sets the protocol of a connection, just before `on_open`, because input may have arrived already.
    fn set_up(&self, poller: &Poller, names: &Names, token: Token, handler: &Bound<'_, PyAny>) -> PyResult<()>;

    /// Takes one part out of the protocol, and calls the handler with it in its context. `None` if there was no part for
    /// the handler.
    fn call<'a, 'py>(
        &self,
        poller: &Poller,
        names: &'a Names,
        contexts: &Contexts,
        token: Token,
        handler: &Bound<'py, PyAny>,
    ) -> Option<Called<'a, 'py>> {
        self.below()?.call(poller, names, contexts, token, handler)
    }

    /// Goes on after a move to another poller: sets the timers of the protocol anew.
    fn resume(&self, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        self.below().map_or(Ok(()), |below| below.resume(handler))
    }

    /// Calls the handler because the output before `mark`, of its protocol, was sent. `None` if it wants no call.
    fn passed<'a, 'py>(
        &self,
        poller: &Poller,
        names: &'a Names,
        handler: &Bound<'py, PyAny>,
        mark: Foreign,
    ) -> Option<Called<'a, 'py>> {
        self.below()?.passed(poller, names, handler, mark)
    }

    /// Acts on a callback that returned `False`.
    fn decline(&self, poller: &Poller, token: Token) {
        match self.below() {
            Some(below) => below.decline(poller, token),
            None => poller.close(token),
        }
    }

    /// Acts on a callback that raised `error`, which is logged already.
    fn fail(&self, py: Python<'_>, poller: &Poller, token: Token, about: Option<Bound<'_, PyAny>>, error: PyErr) {
        match self.below() {
            Some(below) => below.fail(py, poller, token, about, error),
            None => poller.fail(token, Box::new(error)),
        }
    }

    /// The handler that comes before `handler` on an accepted connection and hands over to it: a handshake. The method
    /// `name` makes it.
    fn prologue<'py>(
        &self,
        name: &Bound<'py, PyString>,
        handler: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let _ = (name, handler);
        Ok(None)
    }

    /// Raises an error if a `Connector` may not connect the handler directly.
    fn check_connect(&self) -> PyResult<()> {
        Ok(())
    }

    /// Raises an error if `other` is of a kind that may not take over.
    fn check_successor(&self, other: &Bound<'_, PyAny>, argument: &str) -> PyResult<()> {
        let _ = (other, argument);
        Ok(())
    }

    /// Claims `other`, a handler of this face, to take over from `old`. False if the caller has to claim it like any
    /// other handler.
    fn claim_successor(&self, old: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>, argument: &str) -> PyResult<bool> {
        let _ = (old, other, argument);
        Ok(false)
    }

    /// Runs after `other`, a handler of this face, has taken over from `old`.
    fn took_over(&self, poller: &Poller, token: Token, old: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) {
        let _ = (poller, token, old, other);
    }

    /// Runs when the connection has ended; `on_close` follows.
    fn end(&self, handler: &Bound<'_, PyAny>, protocol: Option<Box<dyn Protocol>>) {
        if let Some(below) = self.below() {
            below.end(handler, protocol);
        }
    }
}
