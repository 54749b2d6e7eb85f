//! The clock of all pollers: monotonic nanoseconds since one zero for the process, so that deadlines can be posted from
//! poller to poller.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{Duration, Instant, UNIX_EPOCH};

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

/// Calls `use_it` with the date of now as HTTP writes it (RFC 9110 section 5.6.7); written once a second and thread.
pub(crate) fn with_http_date<R>(use_it: impl FnOnce(&[u8]) -> R) -> R {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = system_seconds();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != now || text.is_empty() {
            (*second, *text) = (now, httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now)));
        }
        use_it(text.as_bytes())
    })
}

/// Since 1970, as of the last tick of the system, which takes no look at the hardware.
fn system_seconds() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec of ours. It fails for clocks that the system does not have only.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0)
}
