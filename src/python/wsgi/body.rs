//! The body of a request, between the poller, which receives it, and the thread, which reads it.
//!
//! At most [`MOST`] bytes wait, and the bytes that one read of the poller adds. A full body stays in the input of its
//! connection, so the peer feels a slow application.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The bytes at which a body is full.
pub const MOST: usize = 256 * 1024;

/// The bytes at which a thread gets a request before its body has ended. A slow peer takes no thread before that.
pub const ENOUGH: usize = 64 * 1024;

#[derive(Default)]
pub struct Body {
    state: Mutex<State>,
    changed: Condvar,
    is_full: AtomicBool,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// The number of bytes at the front that were read.
    read: usize,
    has_ended: bool,
    /// The rest will not come.
    is_lost: bool,
    /// Nobody will read the rest.
    is_unwanted: bool,
}

/// The outcome of a read.
#[derive(Default)]
pub struct Taken {
    /// Whether a line was asked for, and these bytes end it.
    pub is_line: bool,
    /// Whether the body is over.
    pub is_over: bool,
    /// Whether the rest will not come.
    pub is_lost: bool,
    /// Whether the body was full and has room again, so that the connection reads again.
    pub has_room: bool,
}

impl Body {
    /// Adds a piece; returns whether a thread should get the request now.
    pub fn push(&self, piece: &[u8]) -> bool {
        let mut state = self.lock();
        if state.is_unwanted {
            return false;
        }
        if state.read == state.bytes.len() {
            state.bytes.clear();
            state.read = 0;
        }
        state.bytes.extend_from_slice(piece);
        let waiting = state.bytes.len() - state.read;
        if waiting >= MOST {
            self.is_full.store(true, Ordering::Relaxed);
        }
        drop(state);
        self.changed.notify_one();
        waiting >= ENOUGH
    }

    pub fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_one();
    }

    /// The connection has ended.
    pub fn lose(&self) {
        let mut state = self.lock();
        state.is_lost = !state.has_ended;
        drop(state);
        self.changed.notify_one();
    }

    /// No thread reads the body any more. Returns whether it was full, so that the connection reads again.
    pub fn discard(&self) -> bool {
        let mut state = self.lock();
        state.is_unwanted = true;
        (state.bytes, state.read) = (Vec::new(), 0);
        self.is_full.swap(false, Ordering::Relaxed)
    }

    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Whether a read of anything would wait.
    pub fn would_wait(&self) -> bool {
        let state = self.lock();
        state.read == state.bytes.len() && !state.has_ended && !state.is_lost
    }

    /// Appends at most `most` bytes to `into`; with `line` no more than up to a newline. Waits for the first byte.
    pub fn take(&self, most: usize, line: bool, into: &mut Vec<u8>) -> Taken {
        let mut state = self.lock();
        while state.read == state.bytes.len() && !state.has_ended && !state.is_lost {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let rest = &state.bytes[state.read..];
        let rest = &rest[..rest.len().min(most)];
        let newline = if line { memchr::memchr(b'\n', rest) } else { None };
        let part = newline.map_or(rest, |at| &rest[..=at]);
        into.extend_from_slice(part);
        state.read += part.len();
        let left = state.bytes.len() - state.read;
        if left == 0 && state.bytes.capacity() > MOST {
            (state.bytes, state.read) = (Vec::new(), 0);
        }
        Taken {
            is_line: newline.is_some(),
            is_over: left == 0 && state.has_ended,
            is_lost: left == 0 && state.is_lost,
            has_room: left <= MOST / 2 && self.is_full.swap(false, Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held cannot leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
