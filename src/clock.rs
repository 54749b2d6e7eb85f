//! The clock of all pollers: monotonic nanoseconds since one zero for the process, so that deadlines can be posted from
//! poller to poller.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
    // A clock before 1970 is as good as none.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != now || text.is_empty() {
            (*second, *text) = (now, httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now)));
        }
        use_it(text.as_bytes())
    })
}
