//! Callbacks other than those of connections: timers, posted calls, datagrams, descriptors.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::PyDispatch;
use crate::error::Reason;
use crate::poller::Poller;
use crate::python::callbacks::is_nothing;
use crate::python::connection::Connection;
use crate::python::connection::datagram::peer_object;
use crate::python::contexts::Later;
use crate::python::tables::{Asked, Caller, Kind, PyTask};
use crate::python::values::objects::bytes_object;
use crate::python::waiting::Owner;
use crate::shared::remote::Remote;
use crate::slots::Token;
use crate::sources::datagram::Datagram;
use crate::timer::TimerId;

impl PyDispatch {
    pub(super) fn call_timer(&self, py: Python<'_>, poller: &Poller, id: TimerId, owner: Option<Token>, again: bool) {
        let Some(callback) = self.tables.fired(py, id, again) else { return };
        if owner.is_some_and(|owner| !poller.is_open(owner)) {
            return;
        }
        if owner.is_none() && self.tables.waiting.has_some(Owner::Timer(id)) {
            // Its last call has not ended; this one is missed.
            return;
        }
        let answer = callback.call(py, &self.tables.contexts, &PyTuple::empty(py));
        if !is_nothing(&answer) {
            let name = self.tables.names.timer_callback.bind(py);
            let asked = Asked::beside(Kind::Timer(id), owner, name, callback.function.bind(py));
            self.settle(py, poller, Asked { holds: owner.is_some(), ..asked }, answer);
        }
    }

    pub(super) fn run_task(&self, py: Python<'_>, poller: &Poller, task: PyTask) {
        match task {
            PyTask::Call { name, owner, function, args } => {
                poller.describe_task(name, owner.as_ref().map(|owner| owner.token()));
                self.run_call(py, poller, name, owner, &function, &args);
            }
            PyTask::HandedOver(handler, marks) => {
                for mark in marks {
                    self.call_passed(py, poller, None, handler.bind(py), mark);
                }
                self.call_handed_over(py, poller, handler.bind(py));
            }
            PyTask::Other(task) => {
                self.tables.contexts.enter_nothing(py);
                task.run(py, poller, self);
            }
        }
    }

    /// The values of the connection are those of its new handler, which goes on with them.
    fn call_handed_over(&self, py: Python<'_>, poller: &Poller, handler: &Bound<'_, PyAny>) {
        let Some(remote) = handler.cast::<Connection>().ok().and_then(|connection| connection.get().bound()) else {
            return self.call_close(py, poller, handler, Reason::Orderly);
        };
        self.tables.contexts.enter(py, remote.current());
        // The coroutine that has handed over goes on.
        let last = (handler.clone().unbind(), Reason::Orderly);
        if let Some((_, reason)) = self.tables.waiting.keep_last(remote.token(), last) {
            self.call_last(py, poller, remote.token(), handler, reason);
        }
    }

    fn run_call(
        &self,
        py: Python<'_>,
        poller: &Poller,
        name: &str,
        owner: Option<Arc<Remote>>,
        function: &Later,
        args: &Py<PyTuple>,
    ) {
        if owner.as_ref().is_some_and(|owner| !poller.is_open(owner.token())) {
            return;
        }
        let answer = function.call(py, &self.tables.contexts, args.bind(py));
        if !is_nothing(&answer) {
            let (owner, name) = (owner.map(|owner| owner.token()), PyString::new(py, name));
            let asked = Asked::beside(Kind::Posted, owner, &name, function.function.bind(py));
            self.settle(py, poller, asked, answer);
        }
    }

    // ---- descriptors ----------------------------------------------------------------------------------------------

    pub(super) fn call_descriptor(&self, py: Python<'_>, poller: &Poller, token: Token, name: &Bound<'_, PyString>) {
        let Some(handler) = self.tables.handler(py, token) else { return };
        self.tables.contexts.enter(py, token);
        let answer = handler.call_method0(name);
        if !is_nothing(&answer) {
            self.settle(py, poller, Asked::of(Kind::Descriptor, token, name, &handler), answer);
        }
    }

    // ---- datagrams ------------------------------------------------------------------------------------------------

    pub(super) fn call_datagram(&self, py: Python<'_>, poller: &Poller, token: Token, datagram: &Datagram) {
        let Some(handler) = self.tables.handler(py, token) else { return };
        // Making a bytes object runs no Python code, so the poller's state may stay borrowed.
        let data = poller.with_datagram(datagram, |data| bytes_object(py, data));
        let name = self.tables.names.on_datagram.bind(py);
        self.tables.contexts.enter(py, token);
        let args = data.and_then(|data| Ok((data, peer_object(py, &self.tables, &datagram.from)?)));
        let answer = args.and_then(|args| handler.call_method1(name, args));
        self.settle_datagrams(py, poller, token, &handler, name, answer);
    }

    pub(super) fn call_datagram_error(&self, py: Python<'_>, poller: &Poller, token: Token, error: PyErr) {
        let Some(handler) = self.tables.handler(py, token) else { return };
        let name = self.tables.names.on_error.bind(py);
        self.tables.contexts.enter(py, token);
        let answer = handler.call_method1(name, (error.into_value(py),));
        self.settle_datagrams(py, poller, token, &handler, name, answer);
    }

    /// Acts on the answer of a callback for datagrams: only `False` and exceptions close.
    pub(super) fn settle_datagrams(
        &self,
        py: Python<'_>,
        poller: &Poller,
        token: Token,
        handler: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
        answer: PyResult<Bound<'_, PyAny>>,
    ) {
        if !is_nothing(&answer) {
            self.settle(py, poller, Asked::of(Kind::Datagrams, token, name, handler), answer);
        }
    }
}
