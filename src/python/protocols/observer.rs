//! The requests whose answers a handler wants to hear of, by `on_answered`.
//!
//! A request without an answer must not be held here: its drop is what tells that it was forgotten. So only its parts
//! are kept until an answer is given; a request that was dropped is made of them once more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::protocols::http::Facts;

/// The parts of a request.
pub struct Parts {
    pub head: Arc<[u8]>,
    pub facts: Facts,
    /// `None` if the body comes in pieces.
    pub body: Option<Py<PyBytes>>,
}

impl Parts {
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        let body = self.body.as_ref().map(|body| body.clone_ref(py));
        Self { head: self.head.clone(), facts: self.facts, body }
    }
}

/// A request that was handed out and whose answer has not been sent.
pub struct Expected {
    number: u64,
    /// The time when it was handed out, on the poller's clock.
    pub began: u64,
    /// The object, once its answer is given.
    pub request: Option<Py<PyAny>>,
    pub parts: Parts,
}

/// The requests of one connection, in the order of their numbers.
#[derive(Default)]
pub struct Observer(Mutex<VecDeque<Expected>>);

impl Observer {
    /// Adds a request that is handed out.
    pub fn expect(&self, number: u64, began: u64, parts: Parts) {
        self.lock().push_back(Expected { number, began, request: None, parts });
    }

    /// Keeps the object of a request whose answer is given.
    pub fn keep(&self, number: u64, request: &Bound<'_, PyAny>) {
        let object = request.clone().unbind();
        let before = self
            .lock()
            .iter_mut()
            .find(|expected| expected.number == number)
            .map(|expected| expected.request.replace(object));
        drop(before);
    }

    /// Forgets a request whose answer will not be whole.
    pub fn forget(&self, number: u64) {
        let mut due = self.lock();
        let at = due.iter().position(|expected| expected.number == number);
        let forgotten = at.and_then(|at| due.remove(at));
        // Dropped without the lock, because that may run other code.
        drop(due);
        drop(forgotten);
    }

    /// Takes out a request whose answer was sent, and those before it.
    pub fn take(&self, number: u64) -> Option<Expected> {
        let mut due = self.lock();
        let behind = due.iter().position(|expected| expected.number > number).unwrap_or(due.len());
        let mut taken: Vec<_> = due.drain(..behind).collect();
        drop(due);
        taken.pop().filter(|expected| expected.number == number)
    }

    /// Forgets all requests: the connection has ended.
    pub fn clear(&self) {
        let forgotten = std::mem::take(&mut *self.lock());
        drop(forgotten);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Expected>> {
        // A panic while the lock is held cannot leave the queue half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
