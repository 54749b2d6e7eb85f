//! New handlers: a factory makes them, their face sets the protocol, and `on_open` is called.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::report::text_of;
use super::{PyDispatch, or_messages};
use crate::poller::Poller;
use crate::python::connection::Connection;
use crate::python::protocols::FaceRef;
use crate::python::running::logs::About;
use crate::python::values::arguments::{peer_text, type_name};
use crate::shared::acceptor::Acceptor;
use crate::shared::remote::Remote;
use crate::slots::Token;

impl PyDispatch {
    pub(super) fn accept(&self, py: Python<'_>, poller: &Poller, remote: &Arc<Remote>, acceptor: &Acceptor) {
        let Some(factory) = acceptor.factory.downcast_ref::<Py<PyAny>>() else {
            return poller.reject(remote.token());
        };
        self.tables.contexts.enter(py, remote.token());
        match self.make_handler(factory.bind(py), remote) {
            Ok((handler, face)) => {
                self.tables.put_handler(remote.token(), handler, face);
                self.begin(py, poller, remote.token());
            }
            Err(error) => {
                self.tables.contexts.forget(remote.token());
                poller.reject(remote.token());
                acceptor.note_rejected();
                let (peer, factory) = (peer_text(&remote.peer()), factory.bind(py));
                let text = format!("the factory for {peer} {}", text_of(factory));
                let about = About { peer: Some(peer), callback: Some("factory"), ..About::default() };
                self.report_about(py, poller, factory, &about, &text, error);
            }
        }
    }

    fn make_handler(&self, factory: &Bound<'_, PyAny>, remote: &Arc<Remote>) -> PyResult<(Py<PyAny>, Option<FaceRef>)> {
        let made = factory.call0()?;
        let Ok(handler) = made.cast::<Connection>() else {
            let text = format!(
                "the factory must return a goev.Connection, not {} {} [GOEV201]",
                type_name(&made),
                made.repr()?
            );
            return Err(PyTypeError::new_err(text));
        };
        let face = handler.get().face();
        if let Some(first) = or_messages(face).prologue(self.tables.names.prologue.bind(made.py()), &made)? {
            let connection = first.cast::<Connection>()?.get();
            connection.claim("_prologue(): ")?;
            connection.bind_to(remote.clone());
            let face = connection.face();
            return Ok((first.unbind(), face));
        }
        handler.get().claim("")?;
        handler.get().bind_to(remote.clone());
        Ok((made.unbind(), face))
    }

    /// Sets the protocol and calls `on_open`. The protocol comes first, because input may have arrived already.
    pub(super) fn begin(&self, py: Python<'_>, poller: &Poller, token: Token) {
        let Some((handler, face)) = self.tables.handler_and_face(py, token) else { return };
        // The protocol may be set by code of the user: the class of a framing.
        self.tables.contexts.enter(py, token);
        // A handler gets `on_open` and `on_close` even if its connection was closed before. It needs no protocol then.
        let ready = match poller.is_open(token) {
            true => or_messages(face).set_up(poller, &self.tables.names, token, &handler),
            false => Ok(()),
        };
        let names = &self.tables.names;
        match ready {
            Ok(()) => self.call_deciding(py, poller, token, names.on_open.bind(py)),
            Err(error) => self.end_by(poller, token, &handler, names.framing.bind(py), error),
        }
    }
}
