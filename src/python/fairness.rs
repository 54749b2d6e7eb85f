//! Lets other Python threads have the interpreter lock beside a busy poller.
//!
//! Who waits for the lock asks its holder to give way only after a whole switch interval without a hand-over, and each
//! detach of a poller wakes the waiter too late to take the lock but starts its interval anew. A poller with work all
//! the time would so starve every other thread. It therefore rests a moment after each interval of busy time.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// CPython's default switch interval (sys.getswitchinterval).
const INTERVAL: Duration = Duration::from_millis(5);
/// Long enough for a waiter to wake up and take the lock; at most one per cent of the interval with its own wake-up.
const REST: Duration = Duration::from_micros(50);

/// The busy time of one poller.
#[derive(Default)]
pub struct GiveWay {
    busy: Cell<Duration>,
    detached_at: Cell<Option<Instant>>,
}

impl GiveWay {
    /// Called before attaching: rests if nobody else had a chance for a whole interval.
    pub fn before(&self) -> Instant {
        let now = Instant::now();
        if self.detached_at.get().is_none_or(|at| now - at >= REST) {
            self.busy.set(Duration::ZERO);
        } else if self.busy.get() >= INTERVAL {
            self.busy.set(Duration::ZERO);
            std::thread::sleep(REST);
            return Instant::now();
        }
        now
    }

    /// Called after detaching.
    pub fn after(&self, attached_at: Instant) {
        let now = Instant::now();
        self.busy.set(self.busy.get() + (now - attached_at));
        self.detached_at.set(Some(now));
    }
}
