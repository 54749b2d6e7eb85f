//! The coroutines of callbacks that wait, by their handlers; and the futures that wait for events of connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use pyo3::prelude::*;

use crate::error::Reason;
use crate::python::values::exceptions::ConnectionClosed;
use crate::slots::Token;
use crate::timer::TimerId;

/// A handler whose `on_close` is due when its coroutines have ended, and the reason.
pub type Last = (Py<PyAny>, Reason);

/// The coroutines of one poller that wait.
#[derive(Default)]
pub struct WaitingTasks {
    numbers: Cell<u64>,
    tasks: RefCell<HashMap<Owner, OfOwner>>,
}

/// The tasks of one owner, by their numbers.
#[derive(Default)]
struct OfOwner {
    tasks: Vec<(u64, Py<PyAny>)>,
    is_cancelled: bool,
    last: Option<Box<Last>>,
}

/// The owner of a coroutine.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The handler of a connection, a datagram socket or a descriptor.
    Handler(Token),
    /// A handler that has ended: the coroutine is its last callback.
    Ended,
    /// A timer that belongs to no handler.
    Timer(TimerId),
    /// No one: the function was posted to a reactor.
    Nobody,
}

impl WaitingTasks {
    /// A new number for a coroutine.
    pub fn number(&self) -> u64 {
        self.numbers.replace(self.numbers.get() + 1)
    }

    /// Keeps the task of a coroutine.
    pub fn add(&self, owner: Owner, number: u64, task: Py<PyAny>) {
        self.tasks.borrow_mut().entry(owner).or_default().tasks.push((number, task));
    }

    /// Whether the tasks of an owner were cancelled.
    pub fn are_cancelled(&self, owner: Owner) -> bool {
        self.tasks.borrow().get(&owner).is_some_and(|owned| owned.is_cancelled)
    }

    /// Forgets a task, which has ended. Returns the `on_close` that is due now.
    pub fn remove(&self, owner: Owner, number: u64) -> Option<Last> {
        let task = self.tasks.borrow_mut().get_mut(&owner).and_then(|owned| {
            let at = owned.tasks.iter().position(|(other, _)| *other == number)?;
            Some(owned.tasks.swap_remove(at))
        });
        // Dropping the task may run user code, which may need the table. And it may drop a request, which is not forgotten
        // if its owner was cancelled.
        drop(task);
        let mut all = self.tasks.borrow_mut();
        match all.get(&owner)?.tasks.is_empty() {
            true => all.remove(&owner)?.last.map(|last| *last),
            false => None,
        }
    }

    /// Cancels the tasks of a handler.
    pub fn cancel(&self, py: Python<'_>, token: Token) {
        let tasks: Vec<_> = {
            let mut all = self.tasks.borrow_mut();
            let Some(owned) = all.get_mut(&Owner::Handler(token)) else { return };
            owned.is_cancelled = true;
            owned.tasks.iter().map(|(_, task)| task.clone_ref(py)).collect()
        };
        for task in tasks {
            if let Err(error) = task.call_method0(py, "cancel") {
                error.write_unraisable(py, None);
            }
        }
    }

    /// As [`Self::keep_last`], and cancels the coroutines.
    pub fn close_later(&self, py: Python<'_>, token: Token, last: Last) -> Option<Last> {
        let due = self.keep_last(token, last);
        if due.is_none() {
            self.cancel(py, token);
        }
        due
    }

    /// Keeps an `on_close` until the coroutines of its handler have ended. Returns it if there are none.
    pub fn keep_last(&self, token: Token, last: Last) -> Option<Last> {
        match self.tasks.borrow_mut().get_mut(&Owner::Handler(token)) {
            Some(owned) => owned.last = Some(Box::new(last)),
            None => return Some(last),
        }
        None
    }

    /// Whether no coroutine waits.
    pub fn is_empty(&self) -> bool {
        self.tasks.borrow().is_empty()
    }

    /// Whether an owner has coroutines that wait.
    pub fn has_some(&self, owner: Owner) -> bool {
        self.tasks.borrow().contains_key(&owner)
    }
}

/// The event of a connection that a future waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Drained,
    Closed,
}

/// A future, and the event that it waits for.
type Waiter = (Event, Py<PyAny>);

/// The futures of one poller, by their connections.
#[derive(Default)]
pub struct Waiters(RefCell<HashMap<u64, Vec<Waiter>>>);

impl Waiters {
    pub fn add(&self, token: Token, event: Event, future: Py<PyAny>) {
        self.0.borrow_mut().entry(token.to_bits()).or_default().push((event, future));
    }

    /// Whether a future waits for the end of the connection, or for its output.
    pub fn has(&self, token: Token) -> bool {
        !self.0.borrow().is_empty() && self.0.borrow().contains_key(&token.to_bits())
    }

    /// Tells the futures of a connection that its output has drained.
    pub fn drained(&self, py: Python<'_>, token: Token) {
        let futures = match self.0.borrow_mut().get_mut(&token.to_bits()) {
            Some(futures) => futures.extract_if(.., |(event, _)| *event == Event::Drained).collect(),
            None => Vec::new(),
        };
        for (_, future) in futures {
            tell(py, &future, "set_result", py.None());
        }
    }

    /// Tells the futures of a connection that it has ended, for this reason.
    pub fn closed(&self, py: Python<'_>, token: Token, error: Option<&Py<PyAny>>) {
        let futures = self.0.borrow_mut().remove(&token.to_bits()).unwrap_or_default();
        for (event, future) in futures {
            match event {
                Event::Drained => {
                    let gone = ConnectionClosed::new_err("the connection ended before its output drained [GOEV102]");
                    tell(py, &future, "set_exception", gone.into_value(py).into_any());
                }
                Event::Closed => {
                    tell(py, &future, "set_result", error.map_or_else(|| py.None(), |error| error.clone_ref(py)));
                }
            }
        }
    }
}

/// Sets a future, unless its coroutine waits no more.
fn tell(py: Python<'_>, future: &Py<PyAny>, method: &str, value: Py<PyAny>) {
    let told = future.call_method0(py, "done").and_then(|done| match done.is_truthy(py)? {
        true => Ok(()),
        false => future.call_method1(py, method, (value,)).map(drop),
    });
    if let Err(error) = told {
        error.write_unraisable(py, None);
    }
}
