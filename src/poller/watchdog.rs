//! Reports callbacks that do not return, while they run.
//!
//! The watchdog sleeps until the fuse of a poller goes off ([`crate::shared::pulse`]). So it costs nothing as long as
//! callbacks return; periodic checks would wake its thread on busy CPUs. The dispatch decides how to report a stall.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::shared::handle::PollerHandle;
use crate::shared::pulse::Pulse;
use crate::shared::remote::Peer;
use crate::system::clock::Clock;

/// A callback that has run for too long and still runs.
pub struct Stall<'a> {
    /// The index of the poller in its reactor.
    pub poller: usize,
    /// The callback's name.
    pub callback: &'static str,
    /// The peer of the connection that the callback is for.
    pub peer: Option<Peer>,
    /// The time since the callback began.
    pub lasted: Duration,
    /// The time limit that it exceeded.
    pub limit: Duration,
    pulse: &'a Pulse,
    since: u64,
}

impl<'a> Stall<'a> {
    /// The stall of a poller after its fuse went off; `None` if no callback is the cause.
    fn of(poller: &'a PollerHandle, now: u64) -> Option<Self> {
        let pulse = &poller.pulse;
        let limit = pulse.limit()?;
        let since = pulse.since();
        let lasted = Duration::from_nanos(now.saturating_sub(since));
        if since == 0 || lasted < limit {
            return None;
        }
        let callback = pulse.callback()?;
        let peer = peer_of(pulse.fd());
        // After the callback, the descriptor may belong to another peer.
        pulse.is_at(since).then_some(Stall { poller: poller.index, callback, peer, lasted, limit, pulse, since })
    }

    /// Whether the callback still runs.
    pub fn lasts(&self) -> bool {
        self.pulse.is_at(self.since)
    }

    /// Calls `work` with the poller's thread, which cannot end meanwhile; `None` if it has ended.
    pub fn with_thread<R>(&self, work: impl FnOnce(libc::pthread_t) -> R) -> Option<R> {
        self.pulse.with_thread(work)
    }
}

fn peer_of(fd: RawFd) -> Option<Peer> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the poller that published the number is in a callback, and closes no descriptor meanwhile. If the
    // callback has ended, the system refuses the number or names another peer, which the caller discards.
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
            if let Some(alarm) = poller.pulse.alarm() {
                // mio is edge-triggered, so each expiry of the fuse is an event even if nothing reads the fuse.
                poll.registry().register(&mut SourceFd(&alarm), Token(index), Interest::READABLE)?;
            }
        }
        Ok(Self { pollers, poll, clock })
    }

    /// Reports each stall once, until all pollers have ended.
    pub fn watch(mut self, report: impl Fn(&Stall<'_>)) -> io::Result<()> {
        let mut events = Events::with_capacity(self.pollers.len());
        while !self.pollers.iter().all(|poller| poller.pulse.has_ended()) {
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
