//! Callbacks other than those of connections: timers, posted calls, datagrams, descriptors.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::PyDispatch;
use crate::error::Reason;
use crate::poller::Poller;
use crate::python::callbacks::{goes_on, is_false};
use crate::python::connection::Connection;
use crate::python::connection::datagram::peer_object;
use crate::python::contexts::Later;
use crate::python::tables::{Caller, PyTask};
use crate::python::values::objects::bytes_object;
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
        let name = self.tables.names.timer_callback.bind(py);
        match callback.call(py, &self.tables.contexts, &PyTuple::empty(py)) {
            Ok(answer) if is_false(&answer) => self.tables.cancel_timer(poller, id),
            Ok(_) => {}
            Err(error) => {
                self.tables.cancel_timer(poller, id);
                let Some(owner) = owner else {
                    return self.report(py, poller, callback.function.bind(py), "timer callback", error);
                };
                if let Some(handler) = self.tables.handler(py, owner) {
                    self.end_by(poller, owner, &handler, name, error);
                }
            }
        }
    }

    pub(super) fn run_task(&self, py: Python<'_>, poller: &Poller, task: PyTask) {
        match task {
            PyTask::Call { name, owner, function, args } => {
                poller.describe_task(name, owner.as_ref().map(|owner| owner.token));
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
        if let Some(remote) = handler.cast::<Connection>().ok().and_then(|connection| connection.get().bound()) {
            self.tables.contexts.enter(py, remote.current());
        }
        self.call_close(py, poller, handler, Reason::Orderly);
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
        if owner.as_ref().is_some_and(|owner| !poller.is_open(owner.token)) {
            return;
        }
        let Err(error) = function.call(py, &self.tables.contexts, args.bind(py)) else { return };
        match owner.and_then(|owner| Some((owner.token, self.tables.handler(py, owner.token)?))) {
            Some((token, handler)) => self.end_by(poller, token, &handler, &PyString::new(py, name), error),
            None => self.report(py, poller, function.function.bind(py), name, error),
        }
    }

    // ---- descriptors ----------------------------------------------------------------------------------------------

    pub(super) fn call_descriptor(&self, py: Python<'_>, poller: &Poller, token: Token, name: &Bound<'_, PyString>) {
        let Some(handler) = self.tables.handler(py, token) else { return };
        self.tables.contexts.enter(py, token);
        match handler.call_method0(name).and_then(|answer| goes_on(name, &answer)) {
            Ok(true) => {}
            Ok(false) => poller.remove_descriptor(token, Reason::Orderly),
            Err(error) => {
                if let Some(error) = self.report_and_keep(py, poller, &handler, &name.to_string(), error) {
                    poller.remove_descriptor(token, Reason::Raised(Box::new(error)));
                }
            }
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
        match answer.and_then(|answer| goes_on(name, &answer)) {
            Ok(true) => {}
            Ok(false) => poller.close_datagrams(token, Reason::Orderly),
            Err(error) => {
                if let Some(error) = self.report_and_keep(py, poller, handler, &name.to_string(), error) {
                    poller.close_datagrams(token, Reason::Raised(Box::new(error)));
                }
            }
        }
    }
}
