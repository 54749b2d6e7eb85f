//! The clock of all pollers: monotonic nanoseconds since a zero that the whole process shares.
//!
//! Because the zero is shared, one poller can post a deadline to another.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

/// A clock. All its clones show the same time.
#[derive(Clone)]
pub(crate) struct Clock {
    zero: u64,
    /// The time that a test sets; `None` for the system's clock.
    by_hand: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// The clock of this process.
    pub fn of_process() -> Self {
        static ZERO: OnceLock<u64> = OnceLock::new();
        Self { zero: *ZERO.get_or_init(system_nanos), by_hand: None }
    }

    /// A clock for tests, which shows `time` and advances only when `time` does.
    pub fn by_hand(time: Arc<AtomicU64>) -> Self {
        Self { zero: 0, by_hand: Some(time) }
    }

    /// Whether a test sets the time.
    pub fn is_by_hand(&self) -> bool {
        self.by_hand.is_some()
    }

    /// Nanoseconds since the zero.
    #[inline]
    pub fn now(&self) -> u64 {
        match &self.by_hand {
            None => system_nanos() - self.zero,
            Some(time) => time.load(Ordering::Relaxed),
        }
    }
}

/// The processor's count of its ticks, at some GHz, for a third of the price of a look at a clock. `None` where the ticks last
/// longer.
#[inline(always)]
pub(crate) fn ticks() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the instruction reads a counter that each x86-64 has.
        Some(unsafe { std::arch::x86_64::_rdtsc() })
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// The current date in the form of HTTP (IMF-fixdate, RFC 9110 section 5.6.7). Each thread formats it once a second.
pub(crate) fn http_date() -> [u8; 29] {
    thread_local! {
        static SECOND: Cell<u64> = const { Cell::new(u64::MAX) };
        static TEXT: Cell<[u8; 29]> = const { Cell::new([b' '; 29]) };
    }
    let now = system_seconds();
    if SECOND.replace(now) != now {
        let mut text = [b' '; 29];
        let written = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
        // The format has 29 bytes until the year 9999.
        text.iter_mut().zip(written.bytes()).for_each(|(place, byte)| *place = byte);
        TEXT.set(text);
    }
    TEXT.get()
}

/// Seconds since 1970, as of the system's last tick. This coarse clock is cheaper because it reads no hardware.
pub(crate) fn system_seconds() -> u64 {
    u64::try_from(read(libc::CLOCK_REALTIME_COARSE).tv_sec).unwrap_or(0)
}

/// Nanoseconds of CPU time that the calling thread has used.
pub(crate) fn thread_nanos() -> u64 {
    nanos_of(read(libc::CLOCK_THREAD_CPUTIME_ID))
}

/// Nanoseconds since 1970.
pub(crate) fn wall_nanos() -> u64 {
    nanos_of(read(libc::CLOCK_REALTIME))
}

/// Seconds by which local time is ahead of UTC now (localtime_r(3)).
pub(crate) fn east_of_utc() -> i32 {
    let now = read(libc::CLOCK_REALTIME_COARSE).tv_sec;
    // SAFETY: the structure is plain numbers, and a pointer to text that the C library owns and nobody follows.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both values are ours. It returns null if the year does not fit, and then leaves zeros.
    unsafe { libc::localtime_r(&raw const now, &raw mut local) };
    local.tm_gmtoff as i32
}

/// Nanoseconds of the clock that `Instant` reads. Each call of the dispatch reads it; a plain number of nanoseconds
/// is cheaper than an `Instant` because it carries no separate seconds.
fn system_nanos() -> u64 {
    nanos_of(read(libc::CLOCK_MONOTONIC))
}

fn nanos_of(time: libc::timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Reads a clock of the system (clock_gettime(2)).
fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes only our own timespec. It fails only for clocks that the system does not have.
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
