//! Notices pollers that are stuck in one callback, while they are.
//!
//! Each poller publishes what it calls and since when, with three plain stores; a thread of the reactor looks now and then.
//! It takes no lock that a callback could hold, that of an interpreter least of all. What is done about a stall is the
//! dispatch's business.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use socket2::SockRef;

use crate::dispatch::Call;
use crate::remote::Peer;

/// What one poller is doing, as the watchdog sees it.
#[derive(Default)]
pub struct Pulse {
    /// When the running callback began, on the pollers' clock; 0 while there is none. Also tells callbacks apart.
    since: AtomicU64,
    /// Its name, and the descriptor it is about; -1 for none.
    callback: AtomicPtr<&'static str>,
    fd: AtomicI32,
    /// Of the poller, while it runs.
    thread: Mutex<Option<libc::pthread_t>>,
}

impl Pulse {
    /// A callback begins.
    pub(crate) fn begin(&self, now: u64, call: &Call, fd: Option<RawFd>) {
        self.callback.store(std::ptr::from_ref(call.name()).cast_mut(), Ordering::Relaxed);
        self.fd.store(fd.unwrap_or(-1), Ordering::Relaxed);
        self.since.store(now.max(1), Ordering::Release);
    }

    /// The batch is over.
    pub(crate) fn rest(&self) {
        self.since.store(0, Ordering::Release);
    }

    /// The calling thread is the poller's from now on, or no longer.
    pub(crate) fn set_thread(&self, running: bool) {
        // SAFETY: pthread_self has no conditions.
        let thread = running.then(|| unsafe { libc::pthread_self() });
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = thread;
    }

    fn callback(&self) -> Option<&'static str> {
        // SAFETY: null, or what `begin` made of a reference that holds for ever; never written through.
        unsafe { self.callback.load(Ordering::Relaxed).as_ref() }.copied()
    }

    /// Whether the callback that began then still runs.
    fn is_at(&self, since: u64) -> bool {
        self.since.load(Ordering::Acquire) == since
    }
}

/// A callback that has run for too long, and runs still.
pub struct Stall<'a> {
    /// Which poller of its reactor.
    pub poller: usize,
    /// The callback's name.
    pub callback: &'static str,
    /// Who is at the other end.
    pub peer: Option<Peer>,
    /// For how long.
    pub lasted: Duration,
    /// The limit it overstepped.
    pub limit: Duration,
    pulse: &'a Pulse,
    since: u64,
}

impl Stall<'_> {
    /// Whether it lasts.
    pub fn lasts(&self) -> bool {
        self.pulse.is_at(self.since)
    }

    /// Works on the poller's thread as others know it, which cannot end meanwhile; not if it has ended.
    pub fn with_thread<R>(&self, work: impl FnOnce(libc::pthread_t) -> R) -> Option<R> {
        let thread = self.pulse.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.map(work)
    }
}

/// Which stalls were reported.
pub(crate) struct Watchdog {
    limit: Duration,
    reported: Vec<u64>,
}

impl Watchdog {
    pub fn new(limit: Duration, pollers: usize) -> Self {
        Self { limit, reported: vec![0; pollers] }
    }

    /// How long to wait between two looks.
    pub fn interval(&self) -> Duration {
        (self.limit / 4).clamp(Duration::from_millis(1), Duration::from_secs(1))
    }

    /// The stall of a poller, unless it was reported.
    pub fn look<'a>(&mut self, index: usize, pulse: &'a Pulse, now: u64) -> Option<Stall<'a>> {
        let since = pulse.since.load(Ordering::Acquire);
        let lasted = Duration::from_nanos(now.saturating_sub(since));
        if since == 0 || lasted < self.limit || self.reported[index] == since {
            return None;
        }
        let callback = pulse.callback()?;
        let peer = peer_of(pulse.fd.load(Ordering::Relaxed));
        // Else it may be another's peer.
        if !pulse.is_at(since) {
            return None;
        }
        self.reported[index] = since;
        Some(Stall { poller: index, callback, peer, lasted, limit: self.limit, pulse, since })
    }
}

fn peer_of(fd: RawFd) -> Option<Peer> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the poller that published the number is in a callback, and closes no descriptor meanwhile. Had its callback
    // ended, the system would refuse the number or name another peer, which the caller does not take.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    SockRef::from(&borrowed).peer_addr().ok().map(|address| Peer::of(&address))
}
