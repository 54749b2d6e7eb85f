//! The clock of all pollers: monotonic nanoseconds since one zero for the process, so that deadlines can be posted from
//! poller to poller.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

/// Copied to whoever needs the time; each copy tells the same.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    zero: u64,
}

impl Clock {
    /// The one of this process.
    pub fn of_process() -> Self {
        static ZERO: OnceLock<u64> = OnceLock::new();
        Self { zero: *ZERO.get_or_init(system_nanos) }
    }

    /// Nanoseconds since zero.
    pub fn now(self) -> u64 {
        system_nanos() - self.zero
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
    u64::try_from(read(libc::CLOCK_REALTIME_COARSE).tv_sec).unwrap_or(0)
}

/// What `Instant` reads as well. Each call of the dispatch reads it, and a number of nanoseconds needs no seconds to be carried.
fn system_nanos() -> u64 {
    let now = read(libc::CLOCK_MONOTONIC);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Asks the system (clock_gettime(2)).
fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec of ours. It fails for clocks that the system does not have only.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn it_goes_like_the_clock_of_the_standard_library_and_each_copy_tells_the_same() {
        let (clock, instant) = (Clock::of_process(), Instant::now());
        let first = clock.now();
        thread::sleep(Duration::from_millis(5));
        let second = Clock::of_process().now();
        let passed = instant.elapsed().as_nanos() as u64;
        assert!((5_000_000..=passed).contains(&(second - first)), "{first} {second} {passed}");
    }
}
