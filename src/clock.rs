//! The clock of all pollers: monotonic nanoseconds since one zero for the process, so that deadlines can be posted from
//! poller to poller.

use std::sync::OnceLock;
use std::time::Instant;

/// Copied to whoever needs the time; each copy tells the same.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    zero: Instant,
}

impl Clock {
    /// The one of this process.
    pub fn of_process() -> Self {
        static ZERO: OnceLock<Instant> = OnceLock::new();
        Self { zero: *ZERO.get_or_init(Instant::now) }
    }

    /// Nanoseconds since zero.
    pub fn now(self) -> u64 {
        self.zero.elapsed().as_nanos() as u64
    }
}
