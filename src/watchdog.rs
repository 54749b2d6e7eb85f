//! Notices pollers that are stuck in one callback, while they are.
//!
//! A poller publishes what it calls and since when, with plain stores, and keeps putting off a [`Fuse`]; only one that
//! has stood still blows it, which wakes a thread of the reactor. So that thread sleeps while all goes well: a look now
//! and then would wake it on CPUs that are in use, and move other threads about. It takes no lock that a callback could
//! hold, that of an interpreter least of all. What is done about a stall is the dispatch's business.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::clock::Clock;
use crate::dispatch::Call;
use crate::remote::{Peer, PollerHandle};

/// A timer that goes off unless it is put off (timerfd_create(2)).
struct Fuse {
    timer: OwnedFd,
    limit: Duration,
    /// When it has to be put off again, on the pollers' clock.
    next: AtomicU64,
}

impl Fuse {
    fn new(limit: Duration) -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else's.
        let timer = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { timer, limit, next: AtomicU64::new(0) })
    }

    /// It will not go off before the limit has passed, nor later than five quarters of it. The system hears of one call
    /// in a quarter of the limit.
    fn put_off(&self, now: u64) {
        if now >= self.next.load(Ordering::Relaxed) {
            self.next.store(now.saturating_add((self.limit / 4).as_nanos() as u64), Ordering::Relaxed);
            self.set(self.limit.saturating_add(self.limit / 4));
        }
    }

    fn set(&self, delay: Duration) {
        let value = libc::timespec {
            tv_sec: libc::time_t::try_from(delay.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: delay.subsec_nanos().into(),
        };
        let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: the descriptor is a timer, and the value outlives the call. It fails for values out of range only.
        unsafe { libc::timerfd_settime(self.timer.as_raw_fd(), 0, &raw const once, std::ptr::null_mut()) };
    }
}

/// What one poller is doing, as the watchdog sees it.
pub struct Pulse {
    fuse: Option<Fuse>,
    /// When the running callback began, on the pollers' clock; 0 while there is none. Also tells callbacks apart.
    since: AtomicU64,
    /// Its name, and the descriptor it is about; -1 for none.
    callback: AtomicPtr<&'static str>,
    fd: AtomicI32,
    /// Of the poller, while it runs.
    thread: Mutex<Option<libc::pthread_t>>,
    ended: AtomicBool,
}

impl Pulse {
    /// Of a poller whose callbacks may take until `limit`.
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

    /// A callback begins. `fd` tells which descriptor it is about, if any; nobody asks while nobody watches.
    pub(crate) fn begin(&self, now: u64, call: &Call, fd: impl FnOnce() -> Option<RawFd>) {
        let Some(fuse) = &self.fuse else { return };
        self.callback.store(std::ptr::from_ref(call.name()).cast_mut(), Ordering::Relaxed);
        self.fd.store(fd().unwrap_or(-1), Ordering::Relaxed);
        self.since.store(now.max(1), Ordering::Release);
        fuse.put_off(now);
    }

    /// The batch is over.
    pub(crate) fn rest(&self) {
        self.since.store(0, Ordering::Release);
    }

    /// The calling thread is the poller's from now on.
    pub(crate) fn start(&self) {
        // SAFETY: pthread_self has no conditions.
        self.set_thread(Some(unsafe { libc::pthread_self() }));
    }

    /// The poller runs no longer, or never will. Wakes the watchdog, who may have no other to watch.
    pub(crate) fn end(&self) {
        self.set_thread(None);
        self.rest();
        self.ended.store(true, Ordering::Release);
        if let Some(fuse) = &self.fuse {
            fuse.set(Duration::from_nanos(1));
        }
    }

    fn set_thread(&self, thread: Option<libc::pthread_t>) {
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

impl<'a> Stall<'a> {
    /// The one of a poller whose fuse has blown, if a callback is why.
    fn of(poller: &'a PollerHandle, now: u64) -> Option<Self> {
        let pulse = &poller.pulse;
        let limit = pulse.fuse.as_ref()?.limit;
        let since = pulse.since.load(Ordering::Acquire);
        let lasted = Duration::from_nanos(now.saturating_sub(since));
        if since == 0 || lasted < limit {
            return None;
        }
        let callback = pulse.callback()?;
        let peer = peer_of(pulse.fd.load(Ordering::Relaxed));
        // Else it may be another's peer.
        pulse.is_at(since).then_some(Stall { poller: poller.index, callback, peer, lasted, limit, pulse, since })
    }

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

fn peer_of(fd: RawFd) -> Option<Peer> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the poller that published the number is in a callback, and closes no descriptor meanwhile. Had its callback
    // ended, the system would refuse the number or name another peer, which the caller does not take.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    SockRef::from(&borrowed).peer_addr().ok().map(|address| Peer::of(&address))
}

/// Waits for the fuses of all pollers.
pub(crate) struct Watchdog {
    pollers: Vec<Arc<PollerHandle>>,
    poll: Poll,
    clock: Clock,
}

impl Watchdog {
    pub fn new(pollers: Vec<Arc<PollerHandle>>, clock: Clock) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (index, poller) in pollers.iter().enumerate() {
            if let Some(fuse) = &poller.pulse.fuse {
                // mio is edge-triggered, so a fuse need not be read: each time that it blows is told.
                poll.registry().register(&mut SourceFd(&fuse.timer.as_raw_fd()), Token(index), Interest::READABLE)?;
            }
        }
        Ok(Self { pollers, poll, clock })
    }

    /// Reports each stall once, until every poller has ended.
    pub fn watch(mut self, report: impl Fn(&Stall<'_>)) -> io::Result<()> {
        let mut events = Events::with_capacity(self.pollers.len());
        while !self.pollers.iter().all(|poller| poller.pulse.ended.load(Ordering::Acquire)) {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                if let Some(stall) = Stall::of(&self.pollers[event.token().0], self.clock.now()) {
                    report(&stall);
                }
            }
        }
        Ok(())
    }
}
