//! How a poller shares the interpreter lock with the other pollers and with other Python threads.
//!
//! *With other pollers*: a batch holds the lock for a few microseconds, less than it takes to sleep for the lock and be
//! woken. So a poller that finds another one attached first offers its CPU to whoever can run, for a moment.
//!
//! *With other threads*: who waits for the lock asks its holder to give way only after a whole switch interval without
//! a hand-over, and each detach of a poller wakes the waiter too late to take the lock but starts its interval anew. A
//! poller with work all the time would so starve every other thread. It therefore rests a moment after each interval
//! of busy time.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// CPython's default switch interval (sys.getswitchinterval).
const INTERVAL: Duration = Duration::from_millis(5);
/// Long enough for a waiter to wake up and take the lock; at most one per cent of the interval with its own wake-up.
const REST: Duration = Duration::from_micros(50);
/// For how long a poller offers its CPU before it sleeps for the lock like any other thread. Time and not a number:
/// each offer may last a time slice of whoever takes it.
const PATIENCE: Duration = Duration::from_micros(20);

/// Whether there is an interpreter lock to share.
pub fn has_lock(py: Python<'_>) -> bool {
    let enabled = py.import("sys").and_then(|sys| sys.getattr("_is_gil_enabled")?.call0()?.is_truthy());
    // The function is new in Python 3.13; before, there is always a lock.
    enabled.unwrap_or(true)
}

/// How many pollers of the process are attached.
static ATTACHED: AtomicUsize = AtomicUsize::new(0);

/// The share of one poller.
#[derive(Default)]
pub struct Share {
    busy: Cell<Duration>,
    detached_at: Cell<Option<Instant>>,
}

impl Share {
    /// Called before attaching; returns when to begin.
    pub fn wait(&self) -> Instant {
        let mut now = Instant::now();
        if self.detached_at.get().is_none_or(|at| now - at >= REST) {
            self.busy.set(Duration::ZERO);
        } else if self.busy.get() >= INTERVAL {
            self.busy.set(Duration::ZERO);
            thread::sleep(REST);
            now = Instant::now();
        }
        while ATTACHED.load(Ordering::Relaxed) > 0 && now.elapsed() < PATIENCE {
            thread::yield_now();
        }
        now
    }

    /// Called after detaching, with what [`Share::wait`] returned.
    pub fn done(&self, began: Instant) {
        let now = Instant::now();
        self.busy.set(self.busy.get() + (now - began));
        self.detached_at.set(Some(now));
    }
}

/// The time in which a poller is attached, as the others see it.
pub struct Attached;

impl Attached {
    /// Called as soon as it is attached; before that it waits for the lock, perhaps behind a thread that computes.
    pub fn new() -> Self {
        ATTACHED.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        ATTACHED.fetch_sub(1, Ordering::Relaxed);
    }
}
