//! How a poller shares the interpreter lock with the other pollers and with other Python threads.
//!
//! *Other pollers*: a batch holds the lock for a few microseconds. That is shorter than sleeping for the lock and
//! waking up. So a poller that finds another one attached first yields its CPU for a moment.
//!
//! *Other threads*: a thread that waits for the lock asks its holder to give way only after a whole switch interval
//! without a hand-over. Each detach of a poller wakes that thread too late to take the lock, but restarts its
//! interval. A poller with work all the time would so starve every other thread. Therefore it rests for a moment
//! after each interval of busy time.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use crate::system::clock::Clock;
use crate::system::fork;

/// CPython's default switch interval (sys.getswitchinterval), nanoseconds.
const INTERVAL: u64 = 5_000_000;
/// Long enough for a waiting thread to wake up and take the lock. At most one per cent of the interval, the poller's
/// own wake-up included.
const REST: u64 = 50_000;
/// Time for which a poller yields its CPU before it sleeps for the lock like any other thread. It is a time and not a
/// count, because each yield may last a time slice of another thread.
const PATIENCE: u64 = 20_000;

/// Whether there is an interpreter lock to share.
pub fn has_lock(py: Python<'_>) -> bool {
    let enabled = py.import("sys").and_then(|sys| sys.getattr("_is_gil_enabled")?.call0()?.is_truthy());
    // The function is new in Python 3.13; earlier versions always have a lock.
    enabled.unwrap_or(true)
}

/// Number of pollers in the process that are attached.
static ATTACHED: AtomicUsize = AtomicUsize::new(0);

/// The process of that number (`fork::generation`). A child begins with none.
static COUNTED_IN: AtomicU32 = AtomicU32::new(0);

/// The share of one poller.
pub struct Share {
    clock: Clock,
    busy: Cell<u64>,
    attached_at: Cell<u64>,
    detached_at: Cell<u64>,
}

impl Share {
    pub fn new() -> Self {
        if COUNTED_IN.swap(fork::generation(), Ordering::Relaxed) != fork::generation() {
            ATTACHED.store(0, Ordering::Relaxed);
        }
        let clock = Clock::of_process();
        let now = Cell::new(clock.now());
        Self { clock, busy: Cell::default(), attached_at: now.clone(), detached_at: now }
    }

    /// Called when the poller detaches.
    pub fn leave(&self, now: u64) {
        self.busy.set(self.busy.get() + now.saturating_sub(self.attached_at.get()));
        self.detached_at.set(now);
    }

    /// Waits before the poller attaches again, as long as others need.
    pub fn wait(&self, mut now: u64) {
        if now.saturating_sub(self.detached_at.get()) >= REST {
            self.busy.set(0);
        } else if self.busy.get() >= INTERVAL {
            self.busy.set(0);
            thread::sleep(Duration::from_nanos(REST));
            now = self.clock.now();
        }
        while ATTACHED.load(Ordering::Relaxed) > 0 && self.clock.now() - now < PATIENCE {
            thread::yield_now();
        }
        self.attached_at.set(now);
    }
}

/// Marks the time in which a poller is attached, for the other pollers.
pub struct Attached {
    birth: u32,
}

impl Attached {
    /// Called as soon as the poller is attached. Before that it waits for the lock, possibly behind a thread that
    /// computes.
    pub fn new() -> Self {
        ATTACHED.fetch_add(1, Ordering::Relaxed);
        Self { birth: fork::generation() }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if !fork::is_foreign(self.birth) {
            ATTACHED.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
