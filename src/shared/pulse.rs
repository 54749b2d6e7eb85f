//! The state of one poller that its watchdog reads: the running callback, and the time when it began.
//!
//! A poller publishes both with plain stores, and postpones its [`Fuse`] again and again. The fuse goes off only if a
//! callback does not return; this wakes the watchdog's thread. No method here takes a lock that a callback could
//! hold.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The most seconds of a limit: 68 years.
const MOST_SECONDS: u64 = i32::MAX as u64;

/// A timer that goes off unless it is postponed in time (timerfd_create(2)).
struct Fuse {
    timer: OwnedFd,
    limit: Duration,
    /// The time of the next postponement, on the pollers' clock.
    next: AtomicU64,
}

impl Fuse {
    fn new(limit: Duration) -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and has no other owner.
        let timer = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { timer, limit, next: AtomicU64::new(0) })
    }

    /// Postpones the timer: it goes off after the limit has passed, and before five quarters of the limit. At most
    /// one system call in each quarter of the limit.
    fn put_off(&self, now: u64) {
        if now >= self.next.load(Ordering::Relaxed) {
            self.next.store(now.saturating_add((self.limit / 4).as_nanos() as u64), Ordering::Relaxed);
            self.set(self.limit.saturating_add(self.limit / 4));
        }
    }

    fn set(&self, delay: Duration) {
        // Less than the most of any system, and more than any program runs.
        let seconds = delay.as_secs().min(MOST_SECONDS);
        let value = libc::timespec { tv_sec: seconds as _, tv_nsec: delay.subsec_nanos().into() };
        let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: the descriptor is a timer, and the value outlives the call. It fails only for values out of range.
        unsafe { libc::timerfd_settime(self.timer.as_raw_fd(), 0, &raw const once, std::ptr::null_mut()) };
    }
}

/// The number of a thread for the functions of pthreads(7). With musl it is a pointer.
struct Thread(libc::pthread_t);

// SAFETY: any thread may pass the number to those functions, and nothing here follows the pointer.
unsafe impl Send for Thread {}

/// The running callback of one poller, as the watchdog sees it.
pub struct Pulse {
    fuse: Option<Fuse>,
    /// The time when the running callback began, on the pollers' clock; 0 while none runs. It also tells two
    /// callbacks apart.
    since: AtomicU64,
    /// The name of the callback; `fd` is its descriptor, -1 for none.
    callback: AtomicPtr<&'static str>,
    fd: AtomicI32,
    /// The poller's thread, while the poller runs.
    thread: Mutex<Option<Thread>>,
    ended: AtomicBool,
}

impl Pulse {
    /// Makes the pulse of a poller; its callbacks may take until `limit`.
    pub(crate) fn new(limit: Option<Duration>) -> io::Result<Self> {
        Ok(Self {
            fuse: limit.map(Fuse::new).transpose()?,
            since: AtomicU64::new(0),
            callback: AtomicPtr::default(),
            fd: AtomicI32::new(-1),
            thread: Mutex::new(None),
            ended: AtomicBool::new(false),
        })
    }

    /// Sets the descriptor that the next callbacks are about, if any.
    pub(crate) fn point_to(&self, fd: Option<RawFd>) {
        self.fd.store(fd.unwrap_or(-1), Ordering::Relaxed);
    }

    /// Notes that a callback begins.
    pub(crate) fn begin(&self, now: u64, name: &'static &'static str) {
        self.rename(name);
        let Some(fuse) = &self.fuse else { return };
        self.since.store(now.max(1), Ordering::Release);
        fuse.put_off(now);
    }

    /// Notes a better name of the running callback.
    pub(crate) fn rename(&self, name: &'static &'static str) {
        self.callback.store(std::ptr::from_ref(name).cast_mut(), Ordering::Relaxed);
    }

    /// Notes that the batch is over.
    pub(crate) fn rest(&self) {
        self.since.store(0, Ordering::Release);
    }

    /// Notes that the calling thread is the poller's from now on.
    pub(crate) fn start(&self) {
        // SAFETY: pthread_self has no conditions.
        self.set_thread(Some(Thread(unsafe { libc::pthread_self() })));
    }

    /// Notes that the poller has ended or will never run. Wakes the watchdog, which may have no other poller to
    /// watch.
    pub(crate) fn end(&self) {
        self.set_thread(None);
        self.rest();
        self.ended.store(true, Ordering::Release);
        if let Some(fuse) = &self.fuse {
            fuse.set(Duration::from_nanos(1));
        }
    }

    fn set_thread(&self, thread: Option<Thread>) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = thread;
    }

    /// The name of the running callback, or of the last one.
    pub(crate) fn callback(&self) -> Option<&'static str> {
        // SAFETY: the pointer is null, or `begin` made it from a `'static` reference; it is never written through.
        unsafe { self.callback.load(Ordering::Relaxed).as_ref() }.copied()
    }

    /// The time when the running callback began; 0 while none runs.
    pub(crate) fn since(&self) -> u64 {
        self.since.load(Ordering::Acquire)
    }

    /// The descriptor of the callback; -1 for none.
    pub(crate) fn fd(&self) -> RawFd {
        self.fd.load(Ordering::Relaxed)
    }

    /// The time after which a callback counts as stalled.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.fuse.as_ref().map(|fuse| fuse.limit)
    }

    /// The descriptor that becomes readable when a callback stalls, or the poller ends.
    pub(crate) fn alarm(&self) -> Option<RawFd> {
        self.fuse.as_ref().map(|fuse| fuse.timer.as_raw_fd())
    }

    /// Whether the poller has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Calls `work` with the poller's thread, which cannot end meanwhile. Returns `None` if it has ended.
    pub(crate) fn with_thread<R>(&self, work: impl FnOnce(libc::pthread_t) -> R) -> Option<R> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().map(|thread| work(thread.0))
    }

    /// Whether the callback that began at `since` still runs.
    pub(crate) fn is_at(&self, since: u64) -> bool {
        self.since.load(Ordering::Acquire) == since
    }
}
