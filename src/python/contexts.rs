//! The `contextvars` of one poller: each handler has a context of its own, each request a copy of it, and calls for
//! later run in a copy of the context of the code that asked for them.
//!
//! Most callbacks set no variable, and to enter and exit a context costs more than all else that the dispatch does for
//! a message. So the thread stays in one *scratch*. A handler that leaves a value there keeps the scratch as its own
//! context, and the thread gets a new one. The own context of a handler is entered above the scratch.
//!
//! An empty scratch is unchanged. A copy of a context with values may have changed although its size has not. So if
//! the thread of `run()` has values, each handler gets its own context with its first callback.
//!
//! One rule: no borrow is held while a context is dropped, because that may run user code.

use std::cell::{Cell, RefCell};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::slots::{Table, Token};

/// A `contextvars.Context`.
pub type Context = Py<PyAny>;

/// No token has these bits, because no generation is 0.
const NOBODY: u64 = 1;
const UNUSED: u64 = 0;

/// The most finalizers in a chain, each of which sets a value with the next one.
const MOST_FINALIZERS: usize = 8;

/// The part of a connection that owns the values of the running callback.
#[derive(Clone, Copy, Default, PartialEq)]
enum Part {
    /// The handler, also that of a datagram socket or a descriptor.
    #[default]
    Handler,
    /// A request that has arrived as a whole. Its values are lost after its callback.
    Request,
    /// A request, the body of which comes in pieces.
    Body,
}

/// Calls `work` in a context. In that of the caller, if it is entered already.
pub fn within<R>(py: Python<'_>, context: Option<&Context>, work: impl FnOnce() -> R) -> R {
    let Some(context) = context.map(|context| context.bind(py)) else { return work() };
    // SAFETY: the thread is attached, and the object is a context.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        drop(PyErr::take(py));
        return work();
    }
    let result = work();
    exit(context);
    result
}

/// Calls `work` in a context; an error if it is entered already (as `Context.run`).
pub fn run_in<R>(context: &Bound<'_, PyAny>, work: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    let (py, context) = (context.py(), context.as_ptr());
    let check = |status| if status == 0 { Ok(()) } else { Err(PyErr::fetch(py)) };
    // SAFETY: the thread is attached, and the object is a context.
    check(unsafe { ffi::PyContext_Enter(context) })?;
    let result = work();
    // SAFETY: as above; it was entered here.
    check(unsafe { ffi::PyContext_Exit(context) })?;
    result
}

/// The contexts of one poller.
#[derive(Default)]
pub struct Contexts {
    /// The owner of the values that the running callback sets: the bits of a token; `NOBODY`: they are lost after the
    /// call; `UNUSED`: nothing has run in the scratch.
    owner: Cell<u64>,
    part: Cell<Part>,
    /// The scratch; `None` unless the poller runs.
    scratch: RefCell<Option<Context>>,
    /// The context that is entered above the scratch.
    entered: RefCell<Option<Context>>,
    /// A copy of the context of the poller's thread, unless it is empty.
    inherited: RefCell<Option<Context>>,
    /// Whether a handler may have an own context; most pollers spare the search for it.
    any: Cell<bool>,
    handlers: RefCell<Table<Context>>,
    bodies: RefCell<Table<Context>>,
}

/// A function for later, and the context in which to call it.
pub struct Later {
    pub function: Py<PyAny>,
    /// `None` for a context without values.
    context: Option<Context>,
}

impl Later {
    /// The function is called in a copy of the context of the caller.
    pub fn new(function: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { context: capture(function.py())?, function: function.clone().unbind() })
    }

    /// As [`Self::new`], for a timer that fires again each `every` nanoseconds: it keeps the values that it sets.
    pub fn of_timer(function: &Bound<'_, PyAny>, every: u64) -> PyResult<Self> {
        if every == 0 {
            return Self::new(function);
        }
        let context = Some(copy_of_current(function.py())?.unbind());
        Ok(Self { context, function: function.clone().unbind() })
    }

    /// A function of goev, which uses no values.
    pub fn internal(function: Py<PyAny>) -> Self {
        Self { function, context: None }
    }

    /// Shows the garbage collector the objects that it holds.
    pub fn show(&self, see: &mut dyn FnMut(&Py<PyAny>)) {
        see(&self.function);
        if let Some(context) = &self.context {
            see(context);
        }
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        let context = self.context.as_ref().map(|context| context.clone_ref(py));
        Self { function: self.function.clone_ref(py), context }
    }

    pub fn call<'py>(
        &self,
        py: Python<'py>,
        contexts: &Contexts,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        contexts.enter_call(py, self.context.as_ref());
        self.function.bind(py).call1(args)
    }
}

/// A copy of the context of the caller, unless it is empty.
pub fn capture(py: Python<'_>) -> PyResult<Option<Context>> {
    let copy = copy_of_current(py)?;
    Ok((!is_empty(&copy)).then(|| copy.unbind()))
}

/// A copy of the context of the caller.
pub fn copy_of_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the thread is attached; the call returns a new reference, or null with an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

impl Contexts {
    /// Enters the scratch for as long as the poller runs on this thread, or for one batch.
    pub fn begin<'a, 'py>(&'a self, py: Python<'py>) -> Begun<'a, 'py> {
        self.begin_open(py);
        Begun { contexts: self, py }
    }

    /// Enters the scratch until [`Self::end`] is called.
    pub fn begin_open(&self, py: Python<'_>) {
        // Without memory for a context, callbacks run in that of the thread.
        let inherited = capture(py).unwrap_or_default();
        self.any.set(self.any.get() || inherited.is_some());
        let before = self.inherited.replace(inherited);
        drop(before);
        self.renew(py);
    }

    /// Exits the scratch.
    pub fn end(&self, py: Python<'_>) {
        self.leave(py);
        let scratch = self.scratch.take();
        if let Some(scratch) = scratch {
            exit(scratch.bind(py));
        }
    }

    /// Whether the scratch is entered.
    pub fn has_begun(&self) -> bool {
        self.scratch.borrow().is_some()
    }

    // ---- scopes ---------------------------------------------------------------------------------------------------

    /// The next callback belongs to this handler.
    #[inline]
    pub fn enter(&self, py: Python<'_>, token: Token) {
        if !self.enter_first(token, Part::Handler) && !self.is_in(token, Part::Handler) {
            self.enter_next(py, token);
        }
    }

    /// Enters the scratch for the first callback of a batch. Most batches have no other, and most handlers no values.
    #[inline]
    fn enter_first(&self, token: Token, part: Part) -> bool {
        let is_first = self.owner.get() == UNUSED && !self.any.get();
        if is_first {
            self.owner.set(token.to_bits());
            self.part.set(part);
        }
        is_first
    }

    #[inline(never)]
    fn enter_next(&self, py: Python<'_>, token: Token) {
        self.change_to(py, token.to_bits(), Part::Handler);
        if self.any.get()
            && let Some(own) = self.own(py, token)
        {
            self.step_into(py, own);
        }
    }

    /// The next callback belongs to no handler.
    pub fn enter_nothing(&self, py: Python<'_>) {
        self.change_to(py, NOBODY, Part::Handler);
    }

    /// The next callback is for a new request of this connection.
    #[inline]
    pub fn enter_request(&self, py: Python<'_>, token: Token, is_streamed: bool) {
        let part = if is_streamed { Part::Body } else { Part::Request };
        if !self.enter_first(token, part) {
            self.enter_next_request(py, token, part);
        }
    }

    #[inline(never)]
    fn enter_next_request(&self, py: Python<'_>, token: Token, part: Part) {
        self.change_to(py, token.to_bits(), part);
        if self.any.get() {
            self.enter_copy(py, token, part);
        }
    }

    /// The next callback is for a part of the body of the last request of this connection.
    pub fn enter_body(&self, py: Python<'_>, token: Token, is_last: bool) {
        if !self.is_in(token, Part::Body) {
            self.change_to(py, token.to_bits(), Part::Body);
            let values = self.bodies.borrow().get(token).map(|context| context.clone_ref(py));
            if let Some(values) = values {
                self.step_into(py, values);
            }
        }
        if is_last {
            self.part.set(Part::Request);
            take(&self.bodies, token);
        }
    }

    /// The next callback was asked for by code with these values.
    fn enter_call(&self, py: Python<'_>, values: Option<&Context>) {
        self.enter_nothing(py);
        let values = match values {
            Some(values) => Some(values.clone_ref(py)),
            None => self.inherited.borrow().is_some().then(|| new(py)).flatten(),
        };
        if let Some(values) = values {
            self.step_into(py, values);
        }
    }

    /// Ends the time of the owner. A handler that has left a value in the scratch keeps the scratch.
    #[inline]
    pub fn leave(&self, py: Python<'_>) {
        let owner = self.owner.replace(UNUSED);
        if owner != UNUSED && (self.entered.borrow().is_some() || self.is_scratch_changed(py)) {
            self.settle(py, owner);
        }
    }

    /// Takes out the context of the running callback, which is a coroutine and goes on in it later. `None` if memory ran
    /// out.
    pub fn take_away(&self, py: Python<'_>) -> Option<Context> {
        let (owner, part) = (self.owner.replace(UNUSED), self.part.get());
        if let Some(entered) = self.entered.take() {
            exit(entered.bind(py));
            return Some(entered);
        }
        let used = self.renew(py)?;
        match (owner, part) {
            (NOBODY | UNUSED, _) | (_, Part::Request) => {}
            (token, Part::Handler) => self.keep(Token::from_bits(token), used.clone_ref(py)),
            (token, Part::Body) => put(&self.bodies, Token::from_bits(token), used.clone_ref(py)),
        }
        Some(used)
    }

    #[inline]
    fn is_in(&self, token: Token, part: Part) -> bool {
        self.owner.get() == token.to_bits() && self.part.get() == part
    }

    #[inline]
    fn change_to(&self, py: Python<'_>, owner: u64, part: Part) {
        self.leave(py);
        self.owner.set(owner);
        self.part.set(part);
    }

    #[inline]
    fn is_scratch_changed(&self, py: Python<'_>) -> bool {
        self.scratch.borrow().as_ref().is_some_and(|scratch| !is_empty(scratch.bind(py)))
    }

    #[cold]
    fn settle(&self, py: Python<'_>, owner: u64) {
        let entered = self.entered.take();
        if let Some(entered) = entered {
            exit(entered.bind(py));
            return self.discard(py, entered);
        }
        let Some(used) = self.renew(py) else { return };
        match (owner, self.part.get()) {
            (NOBODY, _) | (_, Part::Request) => self.discard(py, used),
            (token, Part::Handler) => self.keep(Token::from_bits(token), used),
            (token, Part::Body) => put(&self.bodies, Token::from_bits(token), used),
        }
    }

    /// Drops the values of a context. A finalizer of one of them may set others, which belong to nobody.
    fn discard(&self, py: Python<'_>, used: Context) {
        drop(used);
        // With inherited values the scratch is no handler's, and never empty.
        for _ in 0..MOST_FINALIZERS {
            if self.inherited.borrow().is_some() || !self.is_scratch_changed(py) {
                return;
            }
            let set = self.renew(py);
            drop(set);
        }
    }

    #[cold]
    fn enter_copy(&self, py: Python<'_>, token: Token, part: Part) {
        if let Some(copy) = self.own(py, token).and_then(|own| copy_of(own.bind(py))) {
            if part == Part::Body {
                put(&self.bodies, token, copy.clone_ref(py));
            }
            self.step_into(py, copy);
        }
    }

    fn step_into(&self, py: Python<'_>, context: Context) {
        enter(context.bind(py));
        self.entered.replace(Some(context));
    }

    /// Replaces the scratch by a new one; returns the old one.
    fn renew(&self, py: Python<'_>) -> Option<Context> {
        let inherited = self.inherited.borrow().as_ref().map(|context| context.clone_ref(py));
        // Without memory the scratch stays.
        let new = inherited.map_or_else(|| new(py), |inherited| copy_of(inherited.bind(py)))?;
        let used = self.scratch.take();
        if let Some(used) = &used {
            exit(used.bind(py));
        }
        enter(new.bind(py));
        self.scratch.replace(Some(new));
        used
    }

    /// The own context of a handler, if it has one.
    fn own(&self, py: Python<'_>, token: Token) -> Option<Context> {
        let own = self.handlers.borrow().get(token).map(|context| context.clone_ref(py));
        if own.is_some() {
            return own;
        }
        let inherited = self.inherited.borrow().as_ref().map(|context| context.clone_ref(py))?;
        let own = copy_of(inherited.bind(py))?;
        self.keep(token, own.clone_ref(py));
        Some(own)
    }

    fn keep(&self, token: Token, own: Context) {
        self.any.set(true);
        put(&self.handlers, token, own);
    }

    // ---- the life of a handler ------------------------------------------------------------------------------------

    /// Gives a new connection the values of the code that asked for it.
    pub fn give(&self, token: Token, values: Option<Context>) {
        if let Some(values) = values {
            self.keep(token, values);
        }
    }

    /// Takes the values of a connection out that moves to another poller.
    pub fn take(&self, token: Token) -> Option<Context> {
        self.handlers.borrow_mut().take(token)
    }

    /// Another handler takes over: it goes on with the values of the connection. Inside a request these are the values
    /// of the request.
    pub fn hand_over(&self, py: Python<'_>, old: Token, new: Token) {
        let own = self.handlers.borrow_mut().take(old);
        if self.owner.get() != old.to_bits() {
            return self.give(new, own);
        }
        self.owner.set(new.to_bits());
        if self.part.get() == Part::Handler {
            return self.give(new, own);
        }
        drop(own);
        self.part.set(Part::Request);
        take(&self.bodies, old);
        self.give(new, capture(py).unwrap_or_default());
    }

    /// Drops the values of a handler that has ended.
    pub fn forget(&self, token: Token) {
        if self.owner.get() == token.to_bits() {
            self.owner.set(NOBODY);
        }
        if self.any.get() {
            take(&self.handlers, token);
        }
        take(&self.bodies, token);
    }

    /// Drops all values, because the poller has ended.
    pub fn forget_everything(&self) {
        drop(self.handlers.take());
        drop(self.bodies.take());
        drop(self.inherited.take());
    }
}

/// The scratch is entered until this is dropped, also by a panic.
pub struct Begun<'a, 'py> {
    contexts: &'a Contexts,
    py: Python<'py>,
}

impl Drop for Begun<'_, '_> {
    fn drop(&mut self) {
        self.contexts.end(self.py);
    }
}

fn put(table: &RefCell<Table<Context>>, token: Token, context: Context) {
    let before = table.borrow_mut().put(token, context);
    drop(before);
}

fn take(table: &RefCell<Table<Context>>, token: Token) {
    let taken = table.borrow_mut().take(token);
    drop(taken);
}

// ---- the C API (https://docs.python.org/3/c-api/contextvars.html) ---------------------------------------------------

fn is_empty(context: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the thread is attached, and the object is a context, whose length cannot fail.
    unsafe { ffi::PyMapping_Size(context.as_ptr()) == 0 }
}

fn new(py: Python<'_>) -> Option<Context> {
    // SAFETY: the thread is attached; the call returns a new reference, or null with an exception.
    let new = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) };
    new.ok().map(Bound::unbind)
}

fn copy_of(context: &Bound<'_, PyAny>) -> Option<Context> {
    // SAFETY: the thread is attached, and the object is a context; the call returns a new reference, or null with an
    // exception.
    let copy = unsafe { Bound::from_owned_ptr_or_err(context.py(), ffi::PyContext_Copy(context.as_ptr())) };
    copy.ok().map(Bound::unbind)
}

fn enter(context: &Bound<'_, PyAny>) {
    // SAFETY: the thread is attached, and the object is a context. No other code can reach it, so it is not entered.
    let entered = unsafe { ffi::PyContext_Enter(context.as_ptr()) };
    discard_error(context.py(), entered);
}

fn exit(context: &Bound<'_, PyAny>) {
    // SAFETY: the thread is attached, and the object is a context.
    let left = unsafe { ffi::PyContext_Exit(context.as_ptr()) };
    discard_error(context.py(), left);
}

/// Both calls fail only if an extension module has entered or left contexts behind our back.
fn discard_error(py: Python<'_>, status: std::ffi::c_int) {
    if status < 0 {
        drop(PyErr::take(py));
    }
}
