//! The Python objects that belong to one poller, and the way from a method call to that poller.
//!
//! This module names no class. A table holds each handler by its slot; this reference keeps the handler alive while its
//! connection is open. No borrow of a table is held while Python code runs or a reference is dropped.

use std::cell::{Cell, OnceCell, RefCell};
use std::ptr::NonNull;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMappingProxy, PyString, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use crate::error::{Error, Foreign, Reason};
use crate::poller::Poller;
use crate::python::asyncio::tasks::Loop;
use crate::python::callbacks::Names;
use crate::python::contexts::{Contexts, Later};
use crate::python::greenlets::Greenlets;
use crate::python::protocols::FaceRef;
use crate::python::values::remembered::Remembered;
use crate::python::waiting::{Waiters, WaitingTasks};
use crate::shared::handle::PollerHandle;
use crate::shared::remote::Remote;
use crate::slots::{Table, Token};
use crate::sources::datagram::Ends;
use crate::system::{fork, thread_exit};
use crate::timer::TimerId;

type Objects<T> = RefCell<Table<T>>;

/// The handler objects of one poller and everything that belongs to them.
pub struct Tables {
    pub names: Names,
    pub greenlets: Greenlets,
    /// Each handler with the face of its class; `None` if the class belongs to no protocol.
    handlers: Objects<(Py<PyAny>, Option<FaceRef>)>,
    /// The callbacks of timers.
    callbacks: Objects<Later>,
    pub contexts: Contexts,
    /// The coroutines of callbacks that wait.
    pub waiting: WaitingTasks,
    /// The futures that wait for events of connections.
    pub waiters: Waiters,
    /// The event loop that drives the poller.
    event_loop: OnceCell<Loop>,
    cache: Py<PyDict>,
    cache_view: Py<PyMappingProxy>,
    /// The Python object of the reactor. Weak, because the reactor holds these tables.
    reactor: RefCell<Option<Py<PyWeakrefReference>>>,
    /// The ends of the last datagram, and its peer as a Python object. Most datagrams are sent to this peer, as
    /// replies.
    last_peer: RefCell<Option<(Ends, Py<PyAny>)>>,
    /// The head of the last answer with fields.
    pub heads: RefCell<Remembered>,
    /// The address of an exception on its way through `on_read`, and the name of the callback that raised it.
    culprit: Cell<Option<(usize, &'static str)>>,
    /// The connections of tests, each with the list that receives the error of its end.
    observers: RefCell<Vec<(Token, Py<PyList>)>>,
}

/// The name of a function of `call_soon`, in log lines.
pub const CALL_SOON: &&str = &"call_soon function";

/// The name of a function of `run_in_executor`, in log lines.
pub const THEN: &&str = &"then";

/// A value that a poller's mailbox carries for Python.
pub enum PyTask {
    /// A function that was posted under this name: by `call_soon`, or as the `then` of `run_in_executor`. `owner` is its
    /// connection, if it has one.
    Call { name: &'static &'static str, owner: Option<Arc<Remote>>, function: Later, args: Py<PyTuple> },
    /// The old handler of a connection that was handed over: the calls for the marks of its output are due, and its
    /// `on_close`.
    HandedOver(Py<PyAny>, Vec<Foreign>),
    /// The task of a class.
    Other(Box<dyn Task>),
}

impl PyTask {
    /// Boxes a task of a class for a mailbox.
    pub fn other(task: impl Task + 'static) -> Box<Self> {
        Box::new(Self::Other(Box::new(task)))
    }

    /// Shows the garbage collector the objects that it holds.
    pub fn show(&self, see: &mut dyn FnMut(&Py<PyAny>)) {
        match self {
            Self::Call { function, args, .. } => {
                function.show(see);
                see(args.as_any());
            }
            Self::HandedOver(handler, _) => see(handler),
            Self::Other(task) => task.show(see),
        }
    }
}

/// A callback, as its answer is acted on.
pub struct Asked {
    pub kind: Kind,
    /// The connection, datagram socket or descriptor.
    pub token: Option<Token>,
    pub name: Py<PyString>,
    /// The handler; the function that was posted or set as a timer.
    pub subject: Py<PyAny>,
    /// The object that the callback was about: a request.
    pub about: Option<Py<PyAny>>,
    /// Whether the next callback of the connection waits for the end of this one.
    pub holds: bool,
}

/// The kinds of callbacks, by the meaning of their answers.
#[derive(Clone, Copy)]
pub enum Kind {
    /// `False` closes the connection.
    Deciding,
    /// `None` is the only answer.
    Telling,
    /// A callback of a protocol.
    Protocol(FaceRef),
    Descriptor,
    Datagrams,
    /// `False` cancels the timer.
    Timer(TimerId),
    /// A function that was posted; its answer means nothing.
    Posted,
    /// `on_close` or `on_connect_fail` of a handler without a connection.
    Last,
}

impl Asked {
    /// A callback of a handler; the next one of its connection waits for its end.
    pub fn of(kind: Kind, token: Token, name: &Bound<'_, PyString>, handler: &Bound<'_, PyAny>) -> Self {
        Self { holds: true, ..Self::beside(kind, Some(token), name, handler) }
    }

    /// A callback for the end of which no other one waits.
    pub fn beside(kind: Kind, token: Option<Token>, name: &Bound<'_, PyString>, subject: &Bound<'_, PyAny>) -> Self {
        let (name, subject) = (name.clone().unbind(), subject.clone().unbind());
        Self { kind, token, name, subject, about: None, holds: false }
    }
}

/// A task that a class posts to a poller, and that runs there.
pub trait Task: Send {
    fn run(self: Box<Self>, py: Python<'_>, poller: &Poller, caller: &dyn Caller);

    /// Shows the garbage collector the objects that it holds.
    fn show(&self, see: &mut dyn FnMut(&Py<PyAny>)) {
        let _ = see;
    }
}

/// The dispatch, as the tasks of classes see it.
pub trait Caller {
    /// The Python objects of the poller.
    fn tables(&self) -> &Tables;

    /// Logs an `Exception` that `subject` raised while `doing` something. Any other exception stops the reactor.
    fn report(&self, py: Python<'_>, poller: &Poller, subject: &Bound<'_, PyAny>, doing: &str, error: PyErr);

    /// Acts on the answer of a coroutine of that number.
    fn conclude(&self, py: Python<'_>, poller: &Poller, asked: Asked, number: u64, answer: PyResult<Bound<'_, PyAny>>);

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

/// Calls `work` if this thread is dispatching for the poller of the connection.
pub fn with_poller_of<R>(remote: &Remote, work: impl FnOnce(&Poller, &Tables) -> R) -> Option<R> {
    with_current(|current, tables| remote.location.is_on(current.handle()).then(|| work(current, tables))).flatten()
}

/// Calls `work` with the poller that is dispatching on this thread, if one is.
pub fn with_current<R>(work: impl FnOnce(&Poller, &Tables) -> R) -> Option<R> {
    let Some((poller, tables)) = CURRENT.get() else {
        // The caller may run code of the user's, in a thread that the end of the interpreter cuts off.
        thread_exit::guard();
        return None;
    };
    // SAFETY: `Dispatching` sets the pair from references into the box that a poller and its dispatch share on the heap
    // (`reactor::Parked`), and clears it before the thread that owns the box can drop it. A callback that switches to
    // another stack of this thread moves neither.
    let (poller, tables) = unsafe { (poller.as_ref(), tables.as_ref()) };
    let is_own = !fork::is_foreign(poller.handle().birth) && !tables.greenlets.is_elsewhere();
    is_own.then(|| work(poller, tables))
}

/// Whether this thread is inside a callback, on whatever greenlet. A child that was forked in a callback is in none of
/// its own.
pub fn is_dispatching() -> bool {
    // SAFETY: as in `with_current`.
    CURRENT.get().is_some_and(|(poller, _)| !fork::is_foreign(unsafe { poller.as_ref() }.handle().birth))
}

/// Marks the thread as the one of a poller between its batches too, because a loop around the poller runs there; `None`
/// ends that.
///
/// # Safety
/// Both must stay where they are until the mark is taken back.
pub unsafe fn set_current(current: Option<(&Poller, &Tables)>) {
    CURRENT.set(current.map(|(poller, tables)| (NonNull::from(poller), NonNull::from(tables))));
}

/// Marks the thread as dispatching for a poller until the value is dropped, also by a panic.
pub struct Dispatching {
    before: Option<(NonNull<Poller>, NonNull<Tables>)>,
}

impl Dispatching {
    pub fn new(poller: &Poller, tables: &Tables) -> Self {
        Self { before: CURRENT.replace(Some((NonNull::from(poller), NonNull::from(tables)))) }
    }

    /// Marks the thread as dispatching for no poller.
    pub fn pause() -> Self {
        Self { before: CURRENT.take() }
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
            greenlets: Greenlets::new(py),
            handlers: RefCell::default(),
            callbacks: RefCell::default(),
            contexts: Contexts::default(),
            waiting: WaitingTasks::default(),
            waiters: Waiters::default(),
            event_loop: OnceCell::new(),
            cache_view: PyMappingProxy::new(py, cache.as_mapping()).unbind(),
            cache: cache.unbind(),
            reactor: RefCell::default(),
            last_peer: RefCell::default(),
            heads: RefCell::default(),
            culprit: Cell::default(),
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
    pub fn handler<'py>(&self, py: Python<'py>, token: Token) -> Option<Bound<'py, PyAny>> {
        self.handlers.borrow().get(token).map(|(handler, _)| handler.bind(py).clone())
    }

    #[inline]
    pub fn handler_and_face<'py>(&self, py: Python<'py>, token: Token) -> Option<(Bound<'py, PyAny>, Option<FaceRef>)> {
        self.handlers.borrow().get(token).map(|(handler, face)| (handler.bind(py).clone(), *face))
    }

    // ---- coroutines -----------------------------------------------------------------------------------------------

    /// Sets the event loop that drives the poller, once.
    pub fn set_event_loop(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.event_loop.get().is_none() {
            let event_loop = Loop::new(event_loop)?;
            self.event_loop.get_or_init(|| event_loop);
        }
        Ok(())
    }

    /// The event loop that drives the poller, if one does.
    pub fn event_loop(&self) -> Option<&Loop> {
        self.event_loop.get()
    }

    // ---- timers ---------------------------------------------------------------------------------------------------

    pub fn set_timer(
        &self,
        poller: &Poller,
        deadline: u64,
        every: u64,
        owner: Option<Token>,
        callback: Later,
    ) -> Result<TimerId, Error> {
        let id = poller.set_timer(deadline, every, owner)?;
        put(&self.callbacks, id, callback);
        Ok(id)
    }

    /// Sets a timer of the face of a connection.
    pub fn set_upkeep(&self, poller: &Poller, deadline: u64, token: Token, callback: Later) -> Result<(), Error> {
        put(&self.callbacks, poller.set_upkeep(deadline, token)?, callback);
        Ok(())
    }

    pub fn cancel_timer(&self, poller: &Poller, id: TimerId) {
        if poller.cancel_timer(id) {
            self.forget_timer(id);
        }
    }

    /// The callback of a timer that fired. It stays in the table if the timer fires `again`.
    pub fn fired(&self, py: Python<'_>, id: TimerId, again: bool) -> Option<Later> {
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

    // ---- exceptions of framings in Python -------------------------------------------------------------------------

    /// Notes that `callback` raised `error`, which passes through the `on_read` of the base class.
    pub fn blame(&self, py: Python<'_>, callback: &'static str, error: &PyErr) {
        self.culprit.set(Some((error.value(py).as_ptr() as usize, callback)));
    }

    /// The callback that raised `error`, if another one only passed it on.
    pub fn culprit_of(&self, py: Python<'_>, error: &PyErr) -> Option<&'static str> {
        let (address, callback) = self.culprit.take()?;
        (address == error.value(py).as_ptr() as usize).then_some(callback)
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

    /// The Python object of the peer; `make` makes it, unless the last datagram had the same ends.
    pub fn peer_object<'py>(
        &self,
        py: Python<'py>,
        ends: &Ends,
        make: impl FnOnce() -> PyResult<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some((last, object)) = &*self.last_peer.borrow()
            && last == ends
        {
            return Ok(object.bind(py).clone());
        }
        let object = make()?;
        let before = self.last_peer.replace(Some((*ends, object.clone_ref(py))));
        drop(before);
        Ok(object.into_bound(py))
    }

    /// The ends of an answer to the peer that a Python object stands for. The object of the last peer is recognized
    /// without parsing.
    pub fn ends_of(
        &self,
        address: &Bound<'_, PyAny>,
        parse: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Ends>,
    ) -> PyResult<Ends> {
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

    /// Whether a test observes the connection.
    pub fn is_observed(&self, token: Token) -> bool {
        self.observers.borrow().iter().any(|(observed, _)| *observed == token)
    }

    /// Takes out the list for the error of a connection that has ended.
    pub fn take_observer(&self, token: Token) -> Option<Py<PyList>> {
        let mut observers = self.observers.borrow_mut();
        let at = observers.iter().position(|(observed, _)| *observed == token)?;
        Some(observers.swap_remove(at).1)
    }

    /// Shows the garbage collector the objects of a poller that has not run.
    pub fn show(&self, see: &mut dyn FnMut(&Py<PyAny>)) {
        self.handlers.borrow().each(|(handler, _)| see(handler));
        self.callbacks.borrow().each(|callback| callback.show(see));
        if let Some(event_loop) = self.event_loop.get() {
            event_loop.show(see);
        }
        see(self.cache.as_any());
        see(self.cache_view.as_any());
    }

    /// Drops all objects, because the poller has ended.
    pub fn forget_everything(&self) {
        drop(self.last_peer.take());
        drop(self.heads.take());
        drop(self.handlers.take());
        drop(self.callbacks.take());
        self.contexts.forget_everything();
        drop(self.observers.take());
    }
}

fn put<T>(table: &Objects<T>, token: Token, object: T) {
    let before = table.borrow_mut().put(token, object);
    drop(before);
}
