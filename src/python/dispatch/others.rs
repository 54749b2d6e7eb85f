//! Callbacks other than those of connections: timers, posted calls, datagrams, descriptors.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::PyDispatch;
use crate::error::Reason;
use crate::poller::Poller;
use crate::python::callbacks::goes_on;
use crate::python::tables::{Caller, PyTask};
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
        match callback.bind(py).call0().and_then(|answer| goes_on(name, &answer)) {
            Ok(true) => {}
            Ok(false) => self.tables.cancel_timer(poller, id),
            Err(error) => {
                self.tables.cancel_timer(poller, id);
                let Some(owner) = owner else {
                    return self.report(py, poller, callback.bind(py), "timer callback", error);
                };
                if let Some(handler) = self.tables.handler(py, owner) {
                    self.end_by(poller, owner, handler.bind(py), name, error);
                }
            }
        }
    }

    pub(super) fn run_task(&self, py: Python<'_>, poller: &Poller, task: PyTask) {
        match task {
            PyTask::Call { owner, function, args } => self.run_call(py, poller, owner, &function, &args),
            PyTask::HandedOver(handler) => self.call_close(py, poller, handler.bind(py), Reason::Orderly),
            PyTask::Other(task) => task.run(py, poller, self),
        }
    }

    fn run_call(
        &self,
        py: Python<'_>,
        poller: &Poller,
        owner: Option<Arc<Remote>>,
        function: &Py<PyAny>,
        args: &Py<PyTuple>,
    ) {
        if owner.as_ref().is_some_and(|owner| !poller.is_open(owner.token)) {
            return;
        }
        let Err(error) = function.bind(py).call1(args.bind(py)) else { return };
        let name = self.tables.names.call_soon_function.bind(py);
        match owner.and_then(|owner| Some((owner.token, self.tables.handler(py, owner.token)?))) {
            Some((token, handler)) => self.end_by(poller, token, handler.bind(py), name, error),
            None => self.report(py, poller, function.bind(py), "call_soon function", error),
        }
    }

    // ---- descriptors ----------------------------------------------------------------------------------------------

    pub(super) fn call_descriptor(&self, py: Python<'_>, poller: &Poller, token: Token, name: &Bound<'_, PyString>) {
        let Some(handler) = self.tables.handler(py, token) else { return };
        let handler = handler.bind(py);
        match handler.call_method0(name).and_then(|answer| goes_on(name, &answer)) {
            Ok(true) => {}
            Ok(false) => poller.remove_descriptor(token, Reason::Orderly),
            Err(error) => {
                if let Some(error) = self.report_and_keep(py, poller, handler, &name.to_string(), error) {
                    poller.remove_descriptor(token, Reason::Raised(Box::new(error)));
                }
            }
        }
    }

    // ---- datagrams ------------------------------------------------------------------------------------------------

    pub(super) fn call_datagram(&self, py: Python<'_>, poller: &Poller, token: Token, datagram: &Datagram) {
        let Some(handler) = self.tables.handler(py, token) else { return };
        // Making a bytes object runs no Python code, so the poller's state may stay borrowed.
        let data = poller.with_datagram(datagram, |data| PyBytes::new(py, data));
        let name = self.tables.names.on_datagram.bind(py);
        let address = self.tables.address_of(py, &datagram.from);
        let answer = address.and_then(|address| handler.bind(py).call_method1(name, (data, address)));
        self.settle_datagrams(py, poller, token, handler.bind(py), name, answer);
    }

    pub(super) fn call_datagram_error(&self, py: Python<'_>, poller: &Poller, token: Token, error: PyErr) {
        let Some(handler) = self.tables.handler(py, token) else { return };
        let name = self.tables.names.on_error.bind(py);
        let answer = handler.bind(py).call_method1(name, (error.into_value(py),));
        self.settle_datagrams(py, poller, token, handler.bind(py), name, answer);
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
