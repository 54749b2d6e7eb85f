//! One connection as the threads see it: wishes to its poller, room for output, its end.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::protocols::http::Wish;
use crate::shared::remote::Remote;

pub struct Line {
    pub remote: Arc<Remote>,
    /// The part of each request's environment that belongs to the connection.
    pub environ: Py<PyDict>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_gone: bool,
    /// How often the output has drained.
    drains: u64,
}

impl Line {
    pub fn new(remote: Arc<Remote>, environ: Py<PyDict>) -> Self {
        Self { remote, environ, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Posts a wish to the connection. False if it takes no output any more.
    pub fn wish(&self, wish: Wish) -> bool {
        self.remote.post(0, Box::new(wish)).is_ok()
    }

    /// Whether the connection has ended.
    pub fn is_gone(&self) -> bool {
        self.lock().is_gone
    }

    /// Waits until little output waits, or the connection has ended. The thread must be detached.
    pub fn wait_for_room(&self) {
        let mut state = self.lock();
        let before = state.drains;
        if !self.wish(Wish::Room) {
            return;
        }
        while state.drains == before && !state.is_gone && !self.remote.is_closed() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn note_drained(&self) {
        self.lock().drains += 1;
        self.changed.notify_all();
    }

    /// The connection has ended.
    pub fn lose(&self) {
        self.lock().is_gone = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held cannot leave the value half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
