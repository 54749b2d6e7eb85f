//! The Python objects that belong to one poller, and the way from a method call to that poller.
//!
//! This module names no class. A table holds each handler by its slot; this reference keeps the handler alive while its
//! connection is open. No borrow of a table is held while Python code runs or a reference is dropped.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ptr::NonNull;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMappingProxy, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use crate::error::{Error, Reason};
use crate::poller::Poller;
use crate::python::callbacks::Names;
use crate::python::protocols::FaceRef;
use crate::python::values::arguments::inet_object;
use crate::shared::handle::PollerHandle;
use crate::shared::remote::Remote;
use crate::slots::{Table, Token};
use crate::timer::TimerId;

type Objects<T> = RefCell<Table<T>>;

/// The handler objects of one poller and everything that belongs to them.
pub struct Tables {
    pub names: Names,
    /// Each handler with the face of its class; `None` if the class belongs to no protocol.
    handlers: Objects<(Py<PyAny>, Option<FaceRef>)>,
    /// The callbacks of timers.
    callbacks: Objects<Py<PyAny>>,
    cache: Py<PyDict>,
    cache_view: Py<PyMappingProxy>,
    /// The Python object of the reactor. Weak, because the reactor holds these tables.
    reactor: RefCell<Option<Py<PyWeakrefReference>>>,
    /// The peer of the last datagram, as an address and as a Python object. Most datagrams are sent to this peer, as
    /// replies.
    last_peer: RefCell<Option<(SocketAddr, Py<PyAny>)>>,
    /// The connections of tests, each with the list that receives the error of its end.
    observers: RefCell<Vec<(Token, Py<PyList>)>>,
}

/// A value that a poller's mailbox carries for Python.
pub enum PyTask {
    /// A function of `call_soon`; `owner` is its connection, if it has one.
    Call { owner: Option<Arc<Remote>>, function: Py<PyAny>, args: Py<PyTuple> },
    /// The old handler of a connection that was handed over: its `on_close` is due.
    HandedOver(Py<PyAny>),
    /// The task of a class.
    Other(Box<dyn Task>),
}

impl PyTask {
    /// Boxes a task of a class for a mailbox.
    pub fn other(task: impl Task + 'static) -> Box<Self> {
        Box::new(Self::Other(Box::new(task)))
    }
}

/// A task that a class posts to a poller, and that runs there.
pub trait Task: Send {
    fn run(self: Box<Self>, py: Python<'_>, poller: &Poller, caller: &dyn Caller);
}

/// The dispatch, as the tasks of classes see it.
pub trait Caller {
    /// The Python objects of the poller.
    fn tables(&self) -> &Tables;

    /// Logs an `Exception` that `subject` raised while `doing` something. Any other exception stops the reactor.
    fn report(&self, py: Python<'_>, poller: &Poller, subject: &Bound<'_, PyAny>, doing: &str, error: PyErr);

    /// Calls `on_connect_fail`.
    fn call_connect_fail(&self, py: Python<'_>, poller: &Poller, handler: &Bound<'_, PyAny>, error: PyErr);

    /// Calls `on_close`.
    fn call_close(&self, py: Python<'_>, poller: &Poller, handler: &Bound<'_, PyAny>, reason: Reason);

    /// Calls `on_open` of a handler for datagrams that is in the table.
    fn open_datagrams(&self, py: Python<'_>, poller: &Poller, token: Token, handler: &Bound<'_, PyAny>);
}

// ---- the current poller -------------------------------------------------------------------------------------------

thread_local! {
    /// The poller that is dispatching on this thread.
    static CURRENT: Cell<Option<(NonNull<Poller>, NonNull<Tables>)>> = const { Cell::new(None) };
}

/// Calls `work` if this thread is dispatching for `poller`.
pub fn with_poller<R>(poller: &Arc<PollerHandle>, work: impl FnOnce(&Poller, &Tables) -> R) -> Option<R> {
    with_current(|current, tables| Arc::ptr_eq(current.handle(), poller).then(|| work(current, tables))).flatten()
}

/// Calls `work` with the poller that is dispatching on this thread, if one is.
pub fn with_current<R>(work: impl FnOnce(&Poller, &Tables) -> R) -> Option<R> {
    let (poller, tables) = CURRENT.get()?;
    // SAFETY: `Dispatching` sets the pair from references into the box that a poller and its dispatch share on the heap
    // (`reactor::Parked`), and clears it before the thread that owns the box can drop it. A callback that switches to
    // another stack of this thread moves neither.
    Some(unsafe { work(poller.as_ref(), tables.as_ref()) })
}

/// Whether this thread is inside a callback.
pub fn is_dispatching() -> bool {
    CURRENT.get().is_some()
}

/// Marks the thread as dispatching for a poller until the value is dropped, also by a panic.
pub struct Dispatching {
    before: Option<(NonNull<Poller>, NonNull<Tables>)>,
}

impl Dispatching {
    pub fn new(poller: &Poller, tables: &Tables) -> Self {
        Self { before: CURRENT.replace(Some((NonNull::from(poller), NonNull::from(tables)))) }
    }
}

impl Drop for Dispatching {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

impl Tables {
    pub fn new(py: Python<'_>) -> Self {
        let cache = PyDict::new(py);
        Self {
            names: Names::new(py),
            handlers: RefCell::default(),
            callbacks: RefCell::default(),
            cache_view: PyMappingProxy::new(py, cache.as_mapping()).unbind(),
            cache: cache.unbind(),
            reactor: RefCell::default(),
            last_peer: RefCell::default(),
            observers: RefCell::default(),
        }
    }

    // ---- handlers -------------------------------------------------------------------------------------------------

    pub fn put_handler(&self, token: Token, handler: Py<PyAny>, face: Option<FaceRef>) {
        put(&self.handlers, token, (handler, face));
    }

    pub fn take_handler(&self, token: Token) -> Option<(Py<PyAny>, Option<FaceRef>)> {
        self.handlers.borrow_mut().take(token)
    }

    #[inline]
    pub fn handler(&self, py: Python<'_>, token: Token) -> Option<Py<PyAny>> {
        self.handlers.borrow().get(token).map(|(handler, _)| handler.clone_ref(py))
    }

    #[inline]
    pub fn handler_and_face(&self, py: Python<'_>, token: Token) -> Option<(Py<PyAny>, Option<FaceRef>)> {
        self.handlers.borrow().get(token).map(|(handler, face)| (handler.clone_ref(py), *face))
    }

    // ---- timers ---------------------------------------------------------------------------------------------------

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
            self.forget_timer(id);
        }
    }

    /// The callback of a timer that fired. It stays in the table if the timer fires `again`.
    pub fn fired(&self, py: Python<'_>, id: TimerId, again: bool) -> Option<Py<PyAny>> {
        if again {
            self.callbacks.borrow().get(id).map(|callback| callback.clone_ref(py))
        } else {
            self.callbacks.borrow_mut().take(id)
        }
    }

    pub fn forget_timer(&self, id: TimerId) {
        let callback = self.callbacks.borrow_mut().take(id);
        drop(callback);
    }

    pub fn forget_timers(&self, timers: Vec<TimerId>) {
        timers.into_iter().for_each(|id| self.forget_timer(id));
    }

    // ---- the cache and the reactor --------------------------------------------------------------------------------

    pub fn cache(&self, py: Python<'_>) -> Py<PyMappingProxy> {
        self.cache_view.clone_ref(py)
    }

    pub fn set_cached(&self, py: Python<'_>, key: &Py<PyAny>, value: &Py<PyAny>) -> PyResult<()> {
        self.cache.bind(py).set_item(key, value)
    }

    pub fn set_reactor(&self, reactor: Py<PyWeakrefReference>) {
        self.reactor.replace(Some(reactor));
    }

    pub fn reactor<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let reactor = self.reactor.borrow().as_ref().map(|reactor| reactor.clone_ref(py));
        reactor.and_then(|reactor| reactor.bind(py).upgrade())
    }

    // ---- peers of datagrams ---------------------------------------------------------------------------------------

    pub fn address_of<'py>(&self, py: Python<'py>, from: &SocketAddr) -> PyResult<Bound<'py, PyAny>> {
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

    /// The address that a Python object stands for. The object of the last peer is recognized without parsing.
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

    // ---- tests ----------------------------------------------------------------------------------------------------

    /// Has the error of this connection's end, or `None`, appended to `ends`.
    pub fn observe(&self, token: Token, ends: Py<PyList>) {
        self.observers.borrow_mut().push((token, ends));
    }

    /// Keeps observing a connection that was handed over, because it has a new token.
    pub fn move_observer(&self, old: Token, new: Token) {
        for (token, _) in self.observers.borrow_mut().iter_mut().filter(|(token, _)| *token == old) {
            *token = new;
        }
    }

    /// The current token of the connection that is observed by `ends`.
    pub fn observed(&self, ends: &Py<PyList>) -> Option<Token> {
        self.observers.borrow().iter().find(|(_, other)| other.is(ends)).map(|(token, _)| *token)
    }

    /// Takes out the list for the error of a connection that has ended.
    pub fn take_observer(&self, token: Token) -> Option<Py<PyList>> {
        let mut observers = self.observers.borrow_mut();
        let at = observers.iter().position(|(observed, _)| *observed == token)?;
        Some(observers.swap_remove(at).1)
    }

    /// Drops all objects, because the poller has ended.
    pub fn forget_everything(&self) {
        drop(self.last_peer.take());
        drop(self.handlers.take());
        drop(self.callbacks.take());
        drop(self.observers.take());
    }
}

fn put<T>(table: &Objects<T>, token: Token, object: T) {
    let before = table.borrow_mut().put(token, object);
    drop(before);
}
