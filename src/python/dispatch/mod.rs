//! Calls Python handler objects: the Python side of the seam.
//!
//! The thread is attached to the interpreter, but between two batches it detaches. While it is attached, only the user's
//! code makes system calls.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | the batch, and the callbacks of connections |
//! | `coroutines` | callbacks with `async def`, and the action on every answer that is not `None` |
//! | `handlers` | new handlers: made by a factory, with the protocol of their face |
//! | `moves` | the objects of a connection that moves to another poller |
//! | `others` | callbacks of timers, tasks, datagrams and descriptors |
//! | `report` | exceptions of callbacks: the log, and the end of the connection |

mod coroutines;
mod handlers;
mod moves;
mod others;
mod report;

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::{Foreign, Reason};
use crate::poller::call::Call;
use crate::poller::watchdog::Stall;
use crate::poller::{Dispatch, Failure, Parked, Poller};
use crate::protocols::Protocol;
use crate::python::asyncio::lent::Lent;
use crate::python::callbacks::{is_inherited_from, is_nothing};
use crate::python::connection::Connection;
use crate::python::connection::event_handler::Descriptors;
use crate::python::protocols::{Answered, Called, FaceRef, framing};
use crate::python::running::attach::{attach, detached, wanted_stack};
use crate::python::running::fairness::{Attached, Share, has_lock};
use crate::python::running::logs::About;
use crate::python::running::stalls;
use crate::python::running::threads::Listed;
use crate::python::tables::{Asked, Caller, Dispatching, Kind, PyTask, Tables};
use crate::python::values::arguments::type_name;
use crate::python::values::errors;
use crate::shared::handle::PollerHandle;
use crate::shared::remote::Remote;
use crate::slots::Token;
use crate::system::thread_exit;
use crate::timer::TimerId;

/// Calls the handlers of one poller.
pub struct PyDispatch {
    handle: Arc<PollerHandle>,
    tables: Tables,
    descriptors: Arc<Descriptors>,
    /// `None` in a Python without an interpreter lock, and for turns that a test makes by hand.
    share: Option<Share>,
    /// The function that runs an event loop over the poller of its thread; `None` for a poller without a loop.
    driver: Option<Arc<Py<PyAny>>>,
}

impl Dispatch for PyDispatch {
    fn drive(parked: Box<Parked<Self>>, name: Option<&str>) -> Result<(), Failure> {
        let Some(driver) = parked.dispatch.driver.clone() else { return parked.run(name) };
        thread_exit::guard();
        attach(|py| {
            let _listed = name.map(|name| Listed::new(py, name));
            let driven = Lent::new(py, parked).and_then(|lent| driver.call1(py, (lent,)));
            driven.map(drop).map_err(|error| Failure::Halted(Box::new(error)))
        })
    }

    fn on_thread(&self, name: Option<&str>, body: &mut dyn FnMut()) {
        thread_exit::guard();
        attach(|py| {
            let _listed = name.map(|name| Listed::new(py, name));
            let _values = self.tables.contexts.begin(py);
            self.tables.greenlets.look(py);
            body();
            self.tables.forget_everything();
        });
    }

    /// PyO3 counts the calls that a thread is in, and `detached` puts the count aside. No other greenlet of the thread runs
    /// meanwhile, so the count is right again afterwards, whatever calls are suspended on others.
    fn apart(&self, poller: &Poller, work: &mut dyn FnMut()) {
        // SAFETY: the thread of a poller is attached, and so is a caller of `Bench`.
        let py = unsafe { Python::assume_attached() };
        detached(py, || {
            if let Some(share) = &self.share {
                share.leave(poller.latest());
            }
            work();
            if let Some(share) = &self.share {
                share.wait(poller.latest());
            }
        });
    }

    fn stack_size(&self) -> Option<usize> {
        wanted_stack()
    }

    fn stalled(stall: &Stall<'_>) {
        stalls::report(stall);
    }

    fn dispatch(&self, poller: &Poller) {
        // SAFETY: as in `apart`.
        self.run_batch(unsafe { Python::assume_attached() }, poller);
    }
}

impl PyDispatch {
    pub fn new(
        py: Python<'_>,
        handle: &Arc<PollerHandle>,
        descriptors: &Arc<Descriptors>,
        driver: Option<&Arc<Py<PyAny>>>,
    ) -> Self {
        let share = has_lock(py).then(Share::new);
        Self { share, driver: driver.cloned(), ..Self::by_hand(py, handle, descriptors) }
    }

    /// A dispatch for turns that a test makes by hand.
    pub fn by_hand(py: Python<'_>, handle: &Arc<PollerHandle>, descriptors: &Arc<Descriptors>) -> Self {
        let (handle, descriptors) = (handle.clone(), descriptors.clone());
        Self { handle, tables: Tables::new(py), descriptors, share: None, driver: None }
    }

    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    fn run_batch(&self, py: Python<'_>, poller: &Poller) {
        let _attached = self.share.as_ref().map(|_| Attached::new());
        let greenlets = &self.tables.greenlets;
        if greenlets.are_used() {
            greenlets.begin(py);
        }
        let dispatching = Dispatching::new(poller, &self.tables);
        // A poller that a test turns by hand has a thread only during its turns.
        let contexts = &self.tables.contexts;
        let values = (!contexts.has_begun()).then(|| contexts.begin(py));
        let released = poller.take_released();
        if !released.is_empty() {
            // A finalizer may set values.
            contexts.enter_nothing(py);
            drop(released);
        }
        while let Some(call) = poller.next_call() {
            self.call(py, poller, call);
        }
        contexts.leave(py);
        drop(values);
        drop(dispatching);
        if greenlets.are_used() {
            greenlets.end();
        }
        greenlets.look(py);
    }

    fn call(&self, py: Python<'_>, poller: &Poller, call: Call) {
        let (names, contexts) = (&self.tables.names, &self.tables.contexts);
        match call {
            Call::Read(token) => self.call_deciding(py, poller, token, names.on_read.bind(py)),
            Call::News(token, _) => self.call_face(py, poller, token),
            Call::Passed(token, mark) => {
                contexts.enter(py, token);
                if let Some(handler) = self.tables.handler(py, token) {
                    self.call_passed(py, poller, Some(token), &handler, mark);
                }
            }
            Call::Accept(remote, acceptor) => self.accept(py, poller, &remote, &acceptor),
            Call::Open(remote) => self.call_open(py, poller, remote),
            Call::ConnectFailed(token, error) => {
                contexts.enter(py, token);
                if let Some((handler, _)) = self.tables.take_handler(token) {
                    self.call_connect_fail(py, poller, handler.bind(py), error.into());
                    contexts.forget(token);
                }
            }
            Call::ProxyRefused(peer, text) => {
                contexts.enter_nothing(py);
                self.tell_of_refusal(py, poller, &peer, &text);
            }
            Call::HandshakeFailed(peer, text) => {
                contexts.enter_nothing(py);
                self.tell_of_handshake(py, poller, &peer, &text);
            }
            Call::Slow(report) => {
                contexts.enter_nothing(py);
                self.tell_of_slow(py, poller, &report);
            }
            Call::Departure(ticket) => self.pack(py, poller, &ticket),
            Call::Arrived(token, luggage) => self.unpack(py, poller, token, luggage),
            Call::Eof(token) => self.call_or(py, poller, token, names.on_eof.bind(py), Poller::finish),
            Call::Stopping(token) => {
                self.call_or(py, poller, token, names.on_stopping.bind(py), Poller::finish_stopping);
            }
            Call::Drain(token) => self.call_drain(py, poller, token),
            Call::Close { token, reason, protocol, timers } => {
                self.end(py, poller, token, reason, protocol, timers);
            }
            Call::Drained(token) => {
                contexts.enter_nothing(py);
                self.tables.waiters.drained(py, token);
            }
            Call::Cancel(token) => {
                contexts.enter_nothing(py);
                self.tables.waiting.cancel(py, token);
            }
            Call::AcceptFailed(acceptor, error) => {
                contexts.enter_nothing(py);
                self.warn_of_shortage(py, poller, &acceptor, &error);
            }
            Call::TimerCancelled(id) => {
                // A finalizer may set values.
                contexts.enter_nothing(py);
                self.tables.forget_timer(id);
            }
            Call::Timer { id, owner, again } => self.call_timer(py, poller, id, owner, again),
            Call::DescriptorReadable(token) => self.call_descriptor(py, poller, token, names.on_read.bind(py)),
            Call::DescriptorWritable(token) => self.call_descriptor(py, poller, token, names.on_write.bind(py)),
            Call::Datagram(token, datagram) => self.call_datagram(py, poller, token, &datagram),
            Call::DatagramError(token, error) => self.call_datagram_error(py, poller, token, error.into()),
            Call::DescriptorRemoved(token, reason) => {
                contexts.enter(py, token);
                if let Some((handler, _)) = self.tables.take_handler(token) {
                    self.descriptors.remove(token, self.handle.index);
                    if let Some((handler, reason)) = self.tables.waiting.close_later(py, token, (handler, reason)) {
                        self.call_close(py, poller, handler.bind(py), reason);
                    }
                    contexts.forget(token);
                }
            }
            Call::Task(task) => {
                if let Ok(task) = task.downcast::<PyTask>() {
                    self.run_task(py, poller, *task);
                }
            }
            Call::Signal => {
                contexts.enter_nothing(py);
                if let Err(error) = py.check_signals() {
                    poller.halt(Box::new(error));
                }
            }
        }
    }

    // ---- connections ----------------------------------------------------------------------------------------------

    /// Calls a callback that decides: `None` and `True` continue, `False` closes.
    fn call_deciding(&self, py: Python<'_>, poller: &Poller, token: Token, name: &Bound<'_, PyString>) {
        let Some(handler) = self.tables.handler(py, token) else { return };
        self.tables.contexts.enter(py, token);
        let answer = handler.call_method0(name);
        if !is_nothing(&answer) {
            self.settle(py, poller, Asked::of(Kind::Deciding, token, name, &handler), answer);
        }
    }

    /// Calls a callback of the connection's protocol through its face, and again while the next call is one of these.
    fn call_face(&self, py: Python<'_>, poller: &Poller, token: Token) {
        let Some((handler, face)) = self.tables.handler_and_face(py, token) else { return };
        let face = or_messages(face);
        let (names, contexts) = (&self.tables.names, &self.tables.contexts);
        while let Some(Called { answered, more }) = face.call(poller, names, contexts, token, &handler) {
            if let Some(answered) = answered {
                let Answered { name, answer, about, holds } = *answered;
                let asked = Asked::of(Kind::Protocol(face), token, name.bind(py), &handler);
                self.settle(py, poller, Asked { about: about.map(Bound::unbind), holds, ..asked }, answer);
            }
            if !more || !poller.has_more_news(token) {
                return;
            }
        }
    }

    /// Calls a handler because the output before a mark was sent; without a token it has no connection any more.
    fn call_passed(
        &self,
        py: Python<'_>,
        poller: &Poller,
        token: Option<Token>,
        handler: &Bound<'_, PyAny>,
        mark: Foreign,
    ) {
        let face = handler.cast::<Connection>().ok().and_then(|connection| connection.get().face());
        let called = or_messages(face).passed(poller, &self.tables.names, handler, mark);
        let Some(answered) = called.and_then(|called| called.answered) else { return };
        let name = answered.name.bind(py);
        let asked = match token {
            Some(token) => Asked::of(Kind::Telling, token, name, handler),
            None => Asked::beside(Kind::Last, None, name, handler),
        };
        self.settle(py, poller, asked, answered.answer);
    }

    fn call_open(&self, py: Python<'_>, poller: &Poller, remote: Arc<Remote>) {
        let token = remote.token();
        let Some(handler) = self.tables.handler(py, token) else { return };
        if let Ok(connection) = handler.cast::<Connection>() {
            connection.get().bind_to(remote);
        }
        self.begin(py, poller, token);
    }

    /// Calls a callback; does something else for a handler that does not define it.
    fn call_or(
        &self,
        py: Python<'_>,
        poller: &Poller,
        token: Token,
        name: &Bound<'_, PyString>,
        otherwise: fn(&Poller, Token),
    ) {
        let Some(handler) = self.tables.handler(py, token) else { return };
        if is_inherited_from::<Connection>(&handler, name) {
            return otherwise(poller, token);
        }
        self.call_deciding(py, poller, token, name);
    }

    fn call_drain(&self, py: Python<'_>, poller: &Poller, token: Token) {
        poller.tell_drained(token);
        let Some(handler) = self.tables.handler(py, token) else { return };
        let name = self.tables.names.on_drain.bind(py);
        self.tables.contexts.enter(py, token);
        let answer = handler.call_method0(name);
        if !is_nothing(&answer) {
            self.settle(py, poller, Asked::of(Kind::Telling, token, name, &handler), answer);
        }
    }

    fn end(
        &self,
        py: Python<'_>,
        poller: &Poller,
        token: Token,
        reason: Reason,
        protocol: Option<Box<dyn Protocol>>,
        timers: Vec<TimerId>,
    ) {
        let handler = self.tables.take_handler(token);
        self.tables.forget_timers(timers);
        if let Some((handler, face)) = handler {
            let handler = handler.bind(py);
            self.tables.contexts.enter(py, token);
            or_messages(face).end(handler, protocol);
            match self.tables.take_observer(token) {
                None => self.call_last(py, poller, token, handler, reason),
                Some(ends) => {
                    let error = errors::of_reason(py, reason);
                    // Fails only when memory runs out.
                    let _ = ends.bind(py).append(&error);
                    self.tell_end(py, poller, token, handler, error);
                }
            }
        }
        self.tables.contexts.forget(token);
    }

    /// Calls the last callback of the handler that a connection had, then the futures that wait for it.
    fn call_last(&self, py: Python<'_>, poller: &Poller, token: Token, handler: &Bound<'_, PyAny>, reason: Reason) {
        match self.tables.waiters.has(token) {
            false => self.call_close(py, poller, handler, reason),
            true => self.tell_end(py, poller, token, handler, errors::of_reason(py, reason)),
        }
    }

    fn tell_end(
        &self,
        py: Python<'_>,
        poller: &Poller,
        token: Token,
        handler: &Bound<'_, PyAny>,
        error: Option<Py<PyAny>>,
    ) {
        let told = error.as_ref().map(|error| error.clone_ref(py));
        self.call_on_close(py, poller, handler, told);
        self.tables.waiters.closed(py, token, error.as_ref());
    }

    fn call_on_close(&self, py: Python<'_>, poller: &Poller, handler: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) {
        let name = self.tables.names.on_close.bind(py);
        let answer = handler.call_method1(name, (error,));
        if !is_nothing(&answer) {
            self.settle(py, poller, Asked::beside(Kind::Last, None, name, handler), answer);
        }
    }
}

impl Caller for PyDispatch {
    fn tables(&self) -> &Tables {
        &self.tables
    }

    fn report(&self, py: Python<'_>, poller: &Poller, subject: &Bound<'_, PyAny>, doing: &str, error: PyErr) {
        drop(self.report_and_keep(py, poller, subject, doing, error));
    }

    fn conclude(&self, py: Python<'_>, poller: &Poller, asked: Asked, number: u64, answer: PyResult<Bound<'_, PyAny>>) {
        self.conclude_wait(py, poller, asked, number, answer);
    }

    fn call_connect_fail(&self, py: Python<'_>, poller: &Poller, handler: &Bound<'_, PyAny>, error: PyErr) {
        if let Ok(connection) = handler.cast::<Connection>() {
            connection.get().release();
        }
        let name = self.tables.names.on_connect_fail.bind(py);
        if is_inherited_from::<Connection>(handler, name) {
            let text = format!("{} without on_connect_fail", type_name(handler));
            let about = About { callback: Some("on_connect_fail"), ..About::default() };
            return self.log(py, poller, handler, &about, &text, &error);
        }
        let answer = handler.call_method1(name, (error.into_value(py),));
        if !is_nothing(&answer) {
            self.settle(py, poller, Asked::beside(Kind::Last, None, name, handler), answer);
        }
    }

    fn call_close(&self, py: Python<'_>, poller: &Poller, handler: &Bound<'_, PyAny>, reason: Reason) {
        // Making the exception costs the most in a connection that a reset ends, so do it only for a handler with
        // `on_close`.
        if !is_inherited_from::<Connection>(handler, self.tables.names.on_close.bind(py)) {
            self.call_on_close(py, poller, handler, errors::of_reason(py, reason));
        }
    }

    fn open_datagrams(&self, py: Python<'_>, poller: &Poller, token: Token, handler: &Bound<'_, PyAny>) {
        let name = self.tables.names.on_open.bind(py);
        self.tables.contexts.enter(py, token);
        let answer = handler.call_method0(name);
        self.settle_datagrams(py, poller, token, handler, name, answer);
    }
}

/// The face of a handler: the one of its class, else the face for messages and bytes.
fn or_messages(face: Option<FaceRef>) -> FaceRef {
    face.unwrap_or(&framing::FACE)
}
