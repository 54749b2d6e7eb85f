//! Calls Python handler objects: the Python side of the seam.
//!
//! The thread attaches once per batch, and no system call is made meanwhile but those of the user's code. Each handler
//! is in a table by its slot; that reference is what keeps it alive while its connection is open. No borrow of a table
//! is held while Python code runs or a reference is dropped.

mod protocols;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::ptr::NonNull;
use std::sync::Arc;

use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyException, PyRuntimeError, PyTypeError};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyMappingProxy, PyString, PyTuple, PyType, PyWeakrefReference};
use socket2::Socket;

use super::arguments::{inet_object, peer_text, type_name};
use super::connection::{Claim, Connection};
use super::datagram::Datagram;
use super::errors::{self, ConnectionClosed};
use super::event_handler::{Descriptors, EventHandler};
use super::fairness::{Attached, Share, has_lock};
use super::stalls;
use super::timer::Timer;
use super::websocket::WebSocketConnection;
use crate::acceptor::Acceptor;
use crate::codec::Protocol;
use crate::connector::Request;
use crate::datagram::Datagram as CoreDatagram;
use crate::dispatch::{Call, Dispatch};
use crate::error::{Error, Reason};
use crate::poller::Poller;
use crate::remote::{PollerHandle, Remote};
use crate::slots::{Table, Token};
use crate::timer::TimerId;
use crate::watchdog::Stall;
use crate::websocket::Settings;

/// `co_flags` of what a callback must not be (inspect.CO_GENERATOR, CO_COROUTINE, …): calling it would run nothing.
const NOT_PLAIN: u32 = 0x20 | 0x80 | 0x100 | 0x200;

/// The callbacks of a connection.
pub const CALLBACKS: [&str; 14] = [
    "on_open",
    "on_read",
    "on_message",
    "on_messages",
    "on_request",
    "on_body",
    "on_handshake",
    "on_pong",
    "on_eof",
    "on_drain",
    "on_stopping",
    "on_timeout",
    "on_connect_fail",
    "on_close",
];

/// What a poller's mailbox carries for Python.
pub enum PyTask {
    /// `call_soon`, of a connection or of nobody.
    Call { owner: Option<Arc<Remote>>, function: Py<PyAny>, args: Py<PyTuple> },
    /// `schedule` from another thread.
    Schedule { deadline: u64, every: u64, callback: Py<PyAny>, timer: Py<Timer> },
    /// `cache_set`.
    CacheSet { key: Py<PyAny>, value: Py<PyAny> },
    /// `Connector.connect` from elsewhere.
    Connect { request: Request, handler: Claim },
    /// `Datagram.bind`.
    WatchDatagrams { socket: Socket, max_size: usize, handler: Py<Datagram> },
    /// The handler whose connection was handed over.
    HandedOver(Py<PyAny>),
}

/// The names by which handlers are called, made once and with the reactor: a name that is made at its first use, in a
/// callback, could be half made when another thread forks, and a child that needs it would wait for ever.
struct Names {
    framing: Py<PyString>,
    on_close: Py<PyString>,
    on_connect_fail: Py<PyString>,
    on_datagram: Py<PyString>,
    on_drain: Py<PyString>,
    on_eof: Py<PyString>,
    on_message: Py<PyString>,
    on_messages: Py<PyString>,
    on_request: Py<PyString>,
    on_body: Py<PyString>,
    on_pong: Py<PyString>,
    on_error: Py<PyString>,
    on_open: Py<PyString>,
    on_read: Py<PyString>,
    on_stopping: Py<PyString>,
    on_write: Py<PyString>,
    prologue: Py<PyString>,
    timer_callback: Py<PyString>,
    call_soon_function: Py<PyString>,
}

impl Names {
    fn new(py: Python<'_>) -> Self {
        let name = |text| PyString::intern(py, text).unbind();
        Self {
            framing: name("framing"),
            on_close: name("on_close"),
            on_connect_fail: name("on_connect_fail"),
            on_datagram: name("on_datagram"),
            on_drain: name("on_drain"),
            on_eof: name("on_eof"),
            on_message: name("on_message"),
            on_messages: name("on_messages"),
            on_request: name("on_request"),
            on_body: name("on_body"),
            on_pong: name("on_pong"),
            prologue: name("_prologue"),
            on_error: name("on_error"),
            on_open: name("on_open"),
            on_read: name("on_read"),
            on_stopping: name("on_stopping"),
            on_write: name("on_write"),
            timer_callback: name("timer callback"),
            call_soon_function: name("call_soon function"),
        }
    }
}

/// The handler objects of one poller and all that belongs to them.
pub struct PyDispatch {
    handle: Arc<PollerHandle>,
    names: Names,
    handlers: Objects,
    callbacks: Objects,
    cache: Py<PyDict>,
    cache_view: Py<PyMappingProxy>,
    /// The Python object of the reactor; weak, since it holds this.
    reactor: RefCell<Option<Py<PyWeakrefReference>>>,
    descriptors: Arc<Descriptors>,
    /// None without an interpreter lock.
    share: Option<Share>,
    /// The peer of the last datagram, in both forms: most answers go to whom the last question came from.
    last_peer: RefCell<Option<(SocketAddr, Py<PyAny>)>>,
}

thread_local! {
    /// The poller that is dispatching on this thread.
    static CURRENT: Cell<Option<(NonNull<Poller>, NonNull<PyDispatch>)>> = const { Cell::new(None) };
}

/// Calls `work` if this thread is dispatching for `poller`.
pub fn with_poller<R>(poller: &Arc<PollerHandle>, work: impl FnOnce(&Poller, &PyDispatch) -> R) -> Option<R> {
    with_current(|current, dispatch| Arc::ptr_eq(current.handle(), poller).then(|| work(current, dispatch))).flatten()
}

/// Calls `work` with the poller that is dispatching on this thread, if one is.
pub fn with_current<R>(work: impl FnOnce(&Poller, &PyDispatch) -> R) -> Option<R> {
    let (poller, dispatch) = CURRENT.get()?;
    // SAFETY: `PyDispatch::dispatch` sets the pair from references that outlive its call and clears it before it
    // returns, and this runs inside that call, on the same thread.
    Some(unsafe { work(poller.as_ref(), dispatch.as_ref()) })
}

/// Puts another handler into the place of one, on the thread of its poller.
pub fn hand_over(py: Python<'_>, remote: &Arc<Remote>, other: &Bound<'_, Connection>) -> PyResult<()> {
    with_poller(&remote.handle, |poller, dispatch| dispatch.hand_over(py, poller, remote.token, other))
        .unwrap_or_else(|| Err(Error::WrongThread("hand_over()").into()))
}

/// Whether this thread is inside a callback.
pub fn is_dispatching() -> bool {
    CURRENT.get().is_some()
}

/// Clears `CURRENT` also when a panic passes.
struct Dispatching;

impl Dispatching {
    fn new(poller: &Poller, dispatch: &PyDispatch) -> Self {
        CURRENT.set(Some((NonNull::from(poller), NonNull::from(dispatch))));
        Self
    }
}

impl Drop for Dispatching {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

impl Dispatch for PyDispatch {
    fn on_thread(&self, body: &mut dyn FnMut()) {
        // Attached for the thread's whole life, so that the batches find its thread state and make none. `detach`
        // wants a closure that is `Send`, because an object might be smuggled in; the body holds none.
        struct Body<'a>(&'a mut dyn FnMut());
        // SAFETY: `detach` runs the closure on this very thread.
        unsafe impl Send for Body<'_> {}
        impl Body<'_> {
            fn run(self) {
                (self.0)();
            }
        }
        let body = Body(body);
        Python::attach(|py| {
            py.detach(move || body.run());
            self.forget_everything();
        });
    }

    fn stalled(stall: &Stall<'_>) {
        stalls::report(stall);
    }

    fn dispatch(&self, poller: &Poller) {
        let began = self.share.as_ref().map(Share::wait);
        Python::attach(|py| {
            let _attached = began.map(|_| Attached::new());
            let _dispatching = Dispatching::new(poller, self);
            drop(poller.take_released());
            while let Some(call) = poller.next_call() {
                self.call(py, poller, call);
            }
        });
        if let (Some(share), Some(began)) = (&self.share, began) {
            share.done(began);
        }
    }
}

impl PyDispatch {
    pub fn new(py: Python<'_>, handle: &Arc<PollerHandle>, descriptors: &Arc<Descriptors>) -> Self {
        let cache = PyDict::new(py);
        Self {
            handle: handle.clone(),
            names: Names::new(py),
            handlers: RefCell::default(),
            callbacks: RefCell::default(),
            cache_view: PyMappingProxy::new(py, cache.as_mapping()).unbind(),
            cache: cache.unbind(),
            reactor: RefCell::default(),
            descriptors: descriptors.clone(),
            last_peer: RefCell::default(),
            share: has_lock(py).then(Share::default),
        }
    }

    // ---- calls ----------------------------------------------------------------------------------------------------

    fn call(&self, py: Python<'_>, poller: &Poller, call: Call) {
        match call {
            Call::Read(token) => self.call_deciding(py, poller, token, self.names.on_read.bind(py)),
            Call::Message(token) => self.call_message(py, poller, token),
            Call::Request(token) => self.call_request(py, poller, token),
            Call::Item(token) => self.call_item(py, poller, token),
            Call::Accept(remote, acceptor) => self.accept(py, poller, &remote, &acceptor),
            Call::Open(remote) => self.call_open(py, poller, remote),
            Call::ConnectFailed(token, error) => {
                if let Some(handler) = take(&self.handlers, token) {
                    self.call_connect_fail(py, poller, handler.bind(py), error.into());
                }
            }
            Call::Eof(token) => self.call_or_close(py, poller, token, self.names.on_eof.bind(py)),
            Call::Stopping(token) => self.call_or_close(py, poller, token, self.names.on_stopping.bind(py)),
            Call::Drain(token) => self.call_drain(py, poller, token),
            Call::Close { token, reason, farewell, timers } => {
                let handler = take(&self.handlers, token);
                self.forget_timers(timers);
                if let Some(handler) = handler {
                    if let Ok(socket) = handler.bind(py).cast::<WebSocketConnection>() {
                        socket.get().end(farewell);
                    }
                    self.call_close(py, poller, handler.bind(py), reason);
                }
            }
            Call::AcceptFailed(acceptor, error) => self.warn_of_shortage(py, poller, &acceptor, &error),
            Call::TimerCancelled(id) => self.forget_timers(vec![id]),
            Call::Timer { id, owner, again } => self.call_timer(py, poller, id, owner, again),
            Call::DescriptorReadable(token) => self.call_descriptor(py, poller, token, self.names.on_read.bind(py)),
            Call::DescriptorWritable(token) => self.call_descriptor(py, poller, token, self.names.on_write.bind(py)),
            Call::Datagram(token, datagram) => self.call_datagram(py, poller, token, &datagram),
            Call::DatagramError(token, error) => self.call_datagram_error(py, poller, token, error.into()),
            Call::DescriptorRemoved(token, reason) => {
                if let Some(handler) = take(&self.handlers, token) {
                    self.descriptors.remove(token, self.handle.index);
                    self.call_close(py, poller, handler.bind(py), reason);
                }
            }
            Call::Task(task) => {
                if let Ok(task) = task.downcast::<PyTask>() {
                    self.run_task(py, poller, *task);
                }
            }
            Call::Signal => {
                if let Err(error) = py.check_signals() {
                    poller.halt(Box::new(error));
                }
            }
        }
    }

    /// A callback whose answer decides: `None` and `True` go on, `False` closes.
    fn call_deciding(&self, py: Python<'_>, poller: &Poller, token: Token, name: &Bound<'_, PyString>) {
        let Some(handler) = get(py, &self.handlers, token) else { return };
        let handler = handler.bind(py);
        self.decide(poller, token, handler, name, handler.call_method0(name));
    }

    fn decide<'py>(
        &self,
        poller: &Poller,
        token: Token,
        handler: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
        answer: PyResult<Bound<'py, PyAny>>,
    ) {
        match answer.and_then(|answer| goes_on(name, &answer)) {
            Ok(true) => {}
            Ok(false) => poller.close(token),
            Err(error) => self.end_by(poller, token, handler, name, error),
        }
    }

    fn call_open(&self, py: Python<'_>, poller: &Poller, remote: Arc<Remote>) {
        let token = remote.token;
        let Some(handler) = get(py, &self.handlers, token) else { return };
        if let Ok(connection) = handler.bind(py).cast::<Connection>() {
            connection.get().bind_to(remote);
        }
        self.begin(py, poller, token);
    }

    fn call_connect_fail(&self, py: Python<'_>, poller: &Poller, handler: &Bound<'_, PyAny>, error: PyErr) {
        if let Ok(connection) = handler.cast::<Connection>() {
            connection.get().release();
        }
        let name = self.names.on_connect_fail.bind(py);
        if is_inherited(handler, name) {
            let text = format!("{} without on_connect_fail", type_name(handler));
            return self.log(py, poller, handler, &text, &error);
        }
        let answer = handler.call_method1(name, (error.into_value(py),)).and_then(|answer| is_none(name, &answer));
        if let Err(error) = answer {
            self.report(py, poller, handler, &name.to_string(), error);
        }
    }

    /// A callback that closes unless the handler has its own.
    fn call_or_close(&self, py: Python<'_>, poller: &Poller, token: Token, name: &Bound<'_, PyString>) {
        let Some(handler) = get(py, &self.handlers, token) else { return };
        if is_inherited(handler.bind(py), name) {
            return poller.finish(token);
        }
        self.call_deciding(py, poller, token, name);
    }

    fn call_drain(&self, py: Python<'_>, poller: &Poller, token: Token) {
        let Some(handler) = get(py, &self.handlers, token) else { return };
        let name = self.names.on_drain.bind(py);
        let answer = handler.bind(py).call_method0(name).and_then(|answer| is_none(name, &answer));
        if let Err(error) = answer {
            self.end_by(poller, token, handler.bind(py), name, error);
        }
    }

    fn call_close(&self, py: Python<'_>, poller: &Poller, handler: &Bound<'_, PyAny>, reason: Reason) {
        let name = self.names.on_close.bind(py);
        if is_inherited(handler, name) {
            // Making the exception would be the dearest part of a connection that a reset ends.
            return;
        }
        let error = errors::of_reason(py, reason);
        if let Err(error) = handler.call_method1(name, (error,)).and_then(|answer| is_none(name, &answer)) {
            self.report(py, poller, handler, &name.to_string(), error);
        }
    }

    fn call_descriptor(&self, py: Python<'_>, poller: &Poller, token: Token, name: &Bound<'_, PyString>) {
        let Some(handler) = get(py, &self.handlers, token) else { return };
        let handler = handler.bind(py);
        match handler.call_method0(name).and_then(|answer| goes_on(name, &answer)) {
            Ok(true) => {}
            Ok(false) => poller.remove_descriptor(token, Reason::Orderly),
            Err(error) => {
                if let Some(error) = self.report(py, poller, handler, &name.to_string(), error) {
                    poller.remove_descriptor(token, Reason::Raised(Box::new(error)));
                }
            }
        }
    }

    // ---- datagrams ------------------------------------------------------------------------------------------------

    fn watch_datagrams(&self, poller: &Poller, socket: Socket, max_size: usize, handler: &Bound<'_, Datagram>) {
        let py = handler.py();
        let opened = poller.watch_datagrams(socket, max_size);
        let Ok(token) = opened.map_err(|error| self.call_close(py, poller, handler, error_reason(error))) else {
            return;
        };
        handler.get().bind_to(token);
        put(&self.handlers, token, handler.clone().into_any().unbind());
        let name = self.names.on_open.bind(py);
        let answer = handler.call_method0(name);
        self.settle_datagrams(py, poller, token, handler, name, answer);
    }

    fn call_datagram(&self, py: Python<'_>, poller: &Poller, token: Token, datagram: &CoreDatagram) {
        let Some(handler) = get(py, &self.handlers, token) else { return };
        // Making a bytes object runs no Python code, so the borrow of the input may last.
        let data = poller.with_datagram(datagram, |data| PyBytes::new(py, data));
        let name = self.names.on_datagram.bind(py);
        let address = self.address_of(py, &datagram.from);
        let answer = address.and_then(|address| handler.bind(py).call_method1(name, (data, address)));
        self.settle_datagrams(py, poller, token, handler.bind(py), name, answer);
    }

    fn call_datagram_error(&self, py: Python<'_>, poller: &Poller, token: Token, error: PyErr) {
        let Some(handler) = get(py, &self.handlers, token) else { return };
        let name = self.names.on_error.bind(py);
        let answer = handler.bind(py).call_method1(name, (error.into_value(py),));
        self.settle_datagrams(py, poller, token, handler.bind(py), name, answer);
    }

    /// What a callback for datagrams answered: only `False` and exceptions close.
    fn settle_datagrams(
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
                if let Some(error) = self.report(py, poller, handler, &name.to_string(), error) {
                    poller.close_datagrams(token, Reason::Raised(Box::new(error)));
                }
            }
        }
    }

    fn address_of<'py>(&self, py: Python<'py>, from: &SocketAddr) -> PyResult<Bound<'py, PyAny>> {
        if let Some((last, object)) = &*self.last_peer.borrow()
            && last == from
        {
            return Ok(object.bind(py).clone());
        }
        let object = inet_object(py, from)?;
        let before = self.last_peer.replace(Some((*from, object.clone_ref(py))));
        drop(before);
        Ok(object.into_bound(py))
    }

    /// The address that an object stands for; the last peer's is known without a look into it.
    pub fn peer_of(
        &self,
        address: &Bound<'_, PyAny>,
        parse: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<SocketAddr>,
    ) -> PyResult<SocketAddr> {
        match &*self.last_peer.borrow() {
            Some((last, object)) if object.is(address) => return Ok(*last),
            _ => {}
        }
        parse(address)
    }

    fn call_timer(&self, py: Python<'_>, poller: &Poller, id: TimerId, owner: Option<Token>, again: bool) {
        let callback = if again { get(py, &self.callbacks, id) } else { take(&self.callbacks, id) };
        let Some(callback) = callback else { return };
        if owner.is_some_and(|owner| !poller.is_open(owner)) {
            return;
        }
        let name = self.names.timer_callback.bind(py);
        match callback.bind(py).call0().and_then(|answer| goes_on(name, &answer)) {
            Ok(true) => {}
            Ok(false) => self.cancel_timer(poller, id),
            Err(error) => {
                self.cancel_timer(poller, id);
                let Some(owner) = owner else {
                    self.report(py, poller, callback.bind(py), "timer callback", error);
                    return;
                };
                if let Some(handler) = get(py, &self.handlers, owner) {
                    self.end_by(poller, owner, handler.bind(py), name, error);
                }
            }
        }
    }

    fn run_task(&self, py: Python<'_>, poller: &Poller, task: PyTask) {
        match task {
            PyTask::Call { owner, function, args } => self.run_call(py, poller, owner, &function, &args),
            PyTask::Schedule { deadline, every, callback, timer } => {
                // Without an owner setting a timer cannot fail.
                let Ok(id) = self.set_timer(poller, deadline, every, None, callback) else { return };
                if !timer.get().is_wanted_as(id) {
                    self.cancel_timer(poller, id);
                }
            }
            PyTask::CacheSet { key, value } => {
                if let Err(error) = self.cache.bind(py).set_item(&key, &value) {
                    self.report(py, poller, key.bind(py), "cache_set", error);
                }
            }
            PyTask::Connect { request, handler } => {
                if let Err((_, handler)) = self.connect(py, poller, request, handler) {
                    let error = io::Error::from_raw_os_error(libc::ECONNABORTED);
                    let error = Error::io("cannot connect: the reactor stops")(error);
                    self.call_connect_fail(py, poller, handler.bind(py), error.into());
                }
            }
            PyTask::WatchDatagrams { socket, max_size, handler } => {
                self.watch_datagrams(poller, socket, max_size, handler.bind(py));
            }
            PyTask::HandedOver(handler) => self.call_close(py, poller, handler.bind(py), Reason::Orderly),
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
        let name = self.names.call_soon_function.bind(py);
        match owner.and_then(|owner| Some((owner.token, get(py, &self.handlers, owner.token)?))) {
            Some((token, handler)) => self.end_by(poller, token, handler.bind(py), name, error),
            None => drop(self.report(py, poller, function.bind(py), "call_soon function", error)),
        }
    }

    // ---- new handlers ---------------------------------------------------------------------------------------------

    fn accept(&self, py: Python<'_>, poller: &Poller, remote: &Arc<Remote>, acceptor: &Acceptor) {
        let Some(factory) = acceptor.factory.downcast_ref::<Py<PyAny>>() else {
            return poller.reject(remote.token);
        };
        match self.make_handler(factory.bind(py), remote) {
            Ok(handler) => {
                put(&self.handlers, remote.token, handler);
                self.begin(py, poller, remote.token);
            }
            Err(error) => {
                poller.reject(remote.token);
                let doing = format!("the factory for {}", peer_text(&remote.peer));
                self.report(py, poller, factory.bind(py), &doing, error);
            }
        }
    }

    fn make_handler(&self, factory: &Bound<'_, PyAny>, remote: &Arc<Remote>) -> PyResult<Py<PyAny>> {
        let made = factory.call0()?;
        let Ok(handler) = made.cast::<Connection>() else {
            let text = format!("the factory must return a goev.Connection, not {} {}", type_name(&made), made.repr()?);
            return Err(PyTypeError::new_err(text));
        };
        if let Some(first) = self.make_prologue(handler, remote)? {
            return Ok(first);
        }
        handler.get().claim("")?;
        handler.get().bind_to(remote.clone());
        Ok(made.unbind())
    }

    /// Puts another handler into the place of one whose connection is handed over.
    pub fn hand_over(
        &self,
        py: Python<'_>,
        poller: &Poller,
        token: Token,
        other: &Bound<'_, Connection>,
    ) -> PyResult<()> {
        let Some(old) = get(py, &self.handlers, token) else { return Err(Error::Closed.into()) };
        let settings = claim_successor(old.bind(py), other)?;
        let handed = poller.hand_over(token, Box::new(PyTask::HandedOver(old)));
        let (remote, timers) = handed.inspect_err(|_| other.get().release())?;
        if let Ok(socket) = other.cast::<WebSocketConnection>() {
            settings.into_iter().for_each(|settings| socket.get().agree(settings));
            // From here on, so that it says its last word even if it is closed before it opens. Fails if it has ended already.
            let settings = socket.get().settings()?.clone();
            let _ = poller.set_protocol(remote.token, Protocol::WebSocket(settings));
        }
        put(&self.handlers, remote.token, other.clone().into_any().unbind());
        other.get().bind_to(remote);
        self.forget_timers(timers);
        Ok(())
    }

    /// Begins to connect a handler that was claimed for it; gives it back when the reactor is stopping.
    pub fn connect(
        &self,
        py: Python<'_>,
        poller: &Poller,
        request: Request,
        handler: Claim,
    ) -> Result<(), (Error, Py<PyAny>)> {
        match poller.connect(request) {
            Ok(token) => {
                put(&self.handlers, token, handler.keep(py));
                Ok(())
            }
            Err(error) => Err((error, handler.object(py))),
        }
    }

    /// Keeps an event handler for the descriptor it was added with.
    pub fn put_event_handler(&self, token: Token, handler: &Bound<'_, EventHandler>) {
        put(&self.handlers, token, handler.clone().into_any().unbind());
    }

    // ---- timers, cache, reactor -----------------------------------------------------------------------------------

    pub fn set_timer(
        &self,
        poller: &Poller,
        deadline: u64,
        every: u64,
        owner: Option<Token>,
        callback: Py<PyAny>,
    ) -> Result<TimerId, Error> {
        let id = poller.set_timer(deadline, every, owner)?;
        put(&self.callbacks, id, callback);
        Ok(id)
    }

    pub fn cancel_timer(&self, poller: &Poller, id: TimerId) {
        if poller.cancel_timer(id) {
            drop(take(&self.callbacks, id));
        }
    }

    fn forget_timers(&self, timers: Vec<TimerId>) {
        timers.into_iter().for_each(|id| drop(take(&self.callbacks, id)));
    }

    pub fn cache(&self, py: Python<'_>) -> Py<PyMappingProxy> {
        self.cache_view.clone_ref(py)
    }

    pub fn set_reactor(&self, reactor: Py<PyWeakrefReference>) {
        self.reactor.replace(Some(reactor));
    }

    pub fn reactor<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        use pyo3::types::PyWeakrefMethods;
        let reactor = self.reactor.borrow().as_ref().map(|reactor| reactor.clone_ref(py));
        reactor.and_then(|reactor| reactor.bind(py).upgrade())
    }

    fn forget_everything(&self) {
        drop(self.last_peer.take());
        drop(self.handlers.take());
        drop(self.callbacks.take());
    }

    // ---- what callbacks raise -------------------------------------------------------------------------------------

    /// Ends a connection by what its callback raised.
    fn end_by(
        &self,
        poller: &Poller,
        token: Token,
        handler: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
        error: PyErr,
    ) {
        if let Some(error) = self.blame(poller, token, handler, name, error) {
            poller.fail(token, Box::new(error));
        }
    }

    /// Reports what a callback raised, and gives back what its connection is to end by.
    fn blame(
        &self,
        poller: &Poller,
        token: Token,
        handler: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
        error: PyErr,
    ) -> Option<PyErr> {
        if error.is_instance_of::<ConnectionClosed>(handler.py()) && !poller.goes_on(token) {
            // Another thread closed it while the callback ran, or a request was refused; the handler could not know.
            return None;
        }
        self.report(handler.py(), poller, handler, &name.to_string(), error)
    }

    /// Logs an `Exception` and gives it back; anything else (`KeyboardInterrupt`, `SystemExit`, …) stops the reactor.
    fn report(
        &self,
        py: Python<'_>,
        poller: &Poller,
        subject: &Bound<'_, PyAny>,
        doing: &str,
        error: PyErr,
    ) -> Option<PyErr> {
        if error.is_instance_of::<PanicException>(py) {
            poller.halt(Box::new(PyRuntimeError::new_err(format!("goev panicked: {error}"))));
            return None;
        }
        if !error.is_instance_of::<PyException>(py) {
            poller.halt(Box::new(error));
            return None;
        }
        let who = match subject.cast::<Connection>() {
            Ok(connection) => format!("{} of {} with {}", doing, type_name(subject), connection.get().peer_text()),
            Err(_) => format!("{doing} {}", subject.repr().map_or_else(|_| "?".into(), |text| text.to_string())),
        };
        self.log(py, poller, subject, &who, &error);
        Some(error)
    }

    fn log(&self, py: Python<'_>, poller: &Poller, subject: &Bound<'_, PyAny>, who: &str, error: &PyErr) {
        self.settle_log(py, poller, Some(subject), log(py, who, error));
    }

    fn warn_of_shortage(&self, py: Python<'_>, poller: &Poller, acceptor: &Acceptor, error: &io::Error) {
        let place = acceptor.addresses.first().map_or_else(String::new, |address| match address.as_socket() {
            Some(inet) => inet.to_string(),
            None => "a Unix socket".into(),
        });
        let text = "cannot accept on %s: %s; new connections wait in the backlog";
        let logged = logger(py).and_then(|logger| logger.call_method1("warning", (text, place, error.to_string())));
        self.settle_log(py, poller, None, logged.map(drop));
    }

    fn settle_log(&self, py: Python<'_>, poller: &Poller, subject: Option<&Bound<'_, PyAny>>, logged: PyResult<()>) {
        match logged {
            Err(failed) if failed.is_instance_of::<PyException>(py) => failed.write_unraisable(py, subject),
            // Ctrl-C may come just here.
            Err(failed) => poller.halt(Box::new(failed)),
            Ok(()) => {}
        }
    }
}

/// Claims who is to take over from `old`; also what was agreed, if that is a WebSocket, which goes on as one.
fn claim_successor(old: &Bound<'_, PyAny>, other: &Bound<'_, Connection>) -> PyResult<Option<Arc<Settings>>> {
    let argument = "hand_over(other): ";
    match (old.cast::<WebSocketConnection>(), other.cast::<WebSocketConnection>()) {
        (Ok(old), Ok(other)) => WebSocketConnection::succeed(other, old, argument).map(Some),
        (Ok(_), Err(_)) => {
            let text = format!("{argument}a WebSocket goes on as one, not as {}", type_name(other));
            Err(PyTypeError::new_err(text))
        }
        // Its handshake has claimed it.
        (Err(_), Ok(other)) => WebSocketConnection::check_takeover(other, argument).map(|()| None),
        (Err(_), Err(_)) => other.get().claim(argument).map(|()| None),
    }
}

fn logger(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("logging")?.call_method1("getLogger", ("goev",))
}

fn log(py: Python<'_>, who: &str, error: &PyErr) -> PyResult<()> {
    let arguments = PyDict::new(py);
    // The value alone would come without its traceback before Python 3.12.
    arguments.set_item("exc_info", error.clone_ref(py).into_value(py))?;
    logger(py)?.call_method("error", ("exception in %s", who), Some(&arguments))?;
    Ok(())
}

fn error_reason(error: Error) -> Reason {
    Reason::Raised(Box::new(PyErr::from(error)))
}

/// Refuses a class of which a callback could not be called plainly. Each class is looked at once.
pub fn check_callbacks(class: &Bound<'_, PyType>, callbacks: &[&str]) -> PyResult<()> {
    let mark = "_goev_checked";
    // A subclass inherits the mark; that it is not its own tells the address in it.
    let address = class.as_ptr() as usize;
    if class.getattr(mark).and_then(|mark| mark.extract::<usize>()).is_ok_and(|marked| marked == address) {
        return Ok(());
    }
    for name in callbacks {
        let code = class.getattr(*name).and_then(|callback| callback.getattr("__code__"));
        // No code object: a builtin, a callable object.
        let Ok(flags) = code.and_then(|code| code.getattr("co_flags")?.extract::<u32>()) else { continue };
        if flags & NOT_PLAIN != 0 {
            let class = class.name()?;
            let text = format!("{class}.{name} must be a plain function: async def and generators are never run");
            return Err(PyTypeError::new_err(text));
        }
    }
    class.setattr(mark, address)
}

/// Whether a handler has the callback from `goev.Connection` itself.
pub fn is_inherited(handler: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> bool {
    is_inherited_from::<Connection>(handler, name)
}

/// Whether a handler has the callback from the class that first has it.
fn is_inherited_from<Base: PyTypeInfo>(handler: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> bool {
    let own = handler.get_type().getattr(name);
    let base = Base::type_object(handler.py()).getattr(name);
    matches!((own, base), (Ok(own), Ok(base)) if own.is(&base))
}

/// What a deciding callback answered.
pub fn goes_on(name: &Bound<'_, PyString>, answer: &Bound<'_, PyAny>) -> PyResult<bool> {
    if answer.is_none() {
        return Ok(true);
    }
    match answer.cast::<PyBool>() {
        Ok(answer) => Ok(answer.is_true()),
        Err(_) => {
            let text = format!("{name} must return None, True or False, not {} {}", type_name(answer), answer.repr()?);
            Err(PyTypeError::new_err(text))
        }
    }
}

fn is_none(name: &Bound<'_, PyString>, answer: &Bound<'_, PyAny>) -> PyResult<()> {
    if answer.is_none() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("{name} must return None, not {}", answer.repr()?)))
}

// ---- side tables: never borrowed while a reference is made, dropped or called -------------------------------------

type Objects = RefCell<Table<Py<PyAny>>>;

fn put(table: &Objects, token: Token, object: Py<PyAny>) {
    let before = table.borrow_mut().put(token, object);
    drop(before);
}

fn take(table: &Objects, token: Token) -> Option<Py<PyAny>> {
    table.borrow_mut().take(token)
}

fn get(py: Python<'_>, table: &Objects, token: Token) -> Option<Py<PyAny>> {
    table.borrow().get(token).map(|object| object.clone_ref(py))
}
