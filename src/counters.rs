//! What one poller has done so far. Written by the poller alone, read from anywhere without disturbing it.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread adds to and all may read.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. For the owning thread only: a plain load and store, no locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Replaces the number. For the owning thread only.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The number as of now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one poller.
#[derive(Default)]
pub struct Counters {
    /// Connections that were accepted, whether or not they got a handler.
    pub accepted: Counter,
    /// Outgoing connections that came about.
    pub connected: Counter,
    /// Connections of both kinds that have ended.
    pub closed: Counter,
    /// Bytes read from sockets.
    pub bytes_in: Counter,
    /// Bytes sent to sockets.
    pub bytes_out: Counter,
    /// Datagrams that were dropped because a send queue was full.
    pub datagrams_dropped: Counter,
    /// Batches of callbacks.
    pub batches: Counter,
    /// Callbacks.
    pub callbacks: Counter,
    /// Timers that are set, those of the poller itself included.
    pub timers: Counter,
}
