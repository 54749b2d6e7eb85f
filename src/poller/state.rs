//! The state of one poller, in named parts, and the way to work on a connection: [`State::with`].
//!
//! The other files of this folder hold its methods, sorted by phase and by kind of source.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::Registry;

use super::balance::Balance;
use super::batch::Batch;
use super::home::Home;
use super::pace::Pace;
use super::queues::{Queues, Turn};
use super::ticket::Expected;
use crate::connection::Connection;
use crate::connection::buffer::Pool;
use crate::connection::phase::Phase;
use crate::connection::wire::{Ending, Line};
use crate::error::{Error, Foreign, Reason};
use crate::options::ReactorOptions;
use crate::protocols::{Closing, Protocol};
use crate::proxy::Refusal;
use crate::shared::acceptor::Listener;
use crate::shared::handle::PollerHandle;
use crate::slots::{Slots, Token};
use crate::sources::arrival::Arrival;
use crate::sources::connector::{Attempt, Dial};
use crate::sources::datagram::{DatagramSocket, Landing};
use crate::sources::descriptor::Descriptor;
use crate::sources::guest::Guest;
#[cfg(feature = "tls")]
use crate::sources::handshake::Handshake;
use crate::system::clock::Clock;
use crate::system::resolver::Resolver;
use crate::system::signal::SignalPipe;
use crate::system::steering;
use crate::timer::{TimerId, Timers};

/// The rest of a listener or a datagram socket after descriptors or memory ran out.
pub(super) const REST: Duration = Duration::from_millis(100);

pub(super) enum Source {
    Connection(Connection),
    Listener(Listener),
    Descriptor(Descriptor),
    Datagrams(Box<DatagramSocket>),
    /// An outgoing connection on its way. The connection takes over its slot.
    Dial(Box<Dial>),
    Attempt(Attempt),
    /// An accepted socket that waits for a PROXY header.
    Arrival(Box<Arrival>),
    /// A handshake of TLS. The connection takes over its slot.
    #[cfg(feature = "tls")]
    Handshake(Box<Handshake>),
    /// The slot of a connection that comes from that poller.
    Expected(Expected),
    /// A descriptor, a datagram socket or a dial that has ended; its last callback is due. Until then its slot is not
    /// used again.
    Leaving,
}

impl Source {
    /// The descriptor that the poll watches.
    pub fn descriptor(&self) -> Option<RawFd> {
        use std::os::fd::AsRawFd;
        match self {
            Self::Connection(connection) => connection.transport.descriptor(),
            Self::Descriptor(descriptor) => Some(descriptor.fd()),
            Self::Arrival(arrival) => Some(arrival.socket.as_raw_fd()),
            Self::Datagrams(datagrams) => Some(datagrams.socket.as_raw_fd()),
            #[cfg(feature = "tls")]
            Self::Handshake(handshake) => handshake.transport.descriptor(),
            Self::Listener(_) | Self::Dial(_) | Self::Attempt(_) | Self::Expected(_) | Self::Leaving => None,
        }
    }
}

/// The purpose of a timer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deadline {
    /// A callback; the token is that of its connection, if it has one.
    Callback(Option<Token>),
    /// A callback of the protocol of a connection, which its face sets anew after a move to another poller.
    Upkeep(Token),
    /// The earliest of the time limits of a connection.
    Guard(Token),
    /// The end of a connection's lingering.
    Linger(Token),
    /// The time limit of an outgoing connection.
    Dial(Token),
    /// The time limit of a PROXY header.
    Arrival(Token),
    /// The time limit of a handshake.
    #[cfg(feature = "tls")]
    Handshake(Token),
    /// The moment to try the next address of an outgoing connection.
    Stagger(Token),
    /// The end of the rest of a listener or a datagram socket.
    Rest(Token),
    /// The end of the drain of a stop.
    Drained,
    /// The end of the grace of a stop.
    Stop,
}

impl Deadline {
    /// The connection of a callback, if it has one; `None` for a deadline of the poller's own.
    pub fn of_a_callback(self) -> Option<Option<Token>> {
        match self {
            Self::Callback(owner) => Some(owner),
            Self::Upkeep(token) => Some(Some(token)),
            _ => None,
        }
    }
}

/// The clock, timers and memory that the connections of a poller share.
pub(super) struct Supplies {
    pub clock: Clock,
    pub timers: Timers<Deadline>,
    /// Empty queues and buffers for output.
    pub pool: Pool,
    /// The memory that sockets are read into.
    pub arena: Box<[u8]>,
}

/// The listeners of a poller.
#[derive(Default)]
pub(super) struct Listening {
    pub listeners: Vec<Token>,
    /// The listeners that rest until there are descriptors or memory again.
    pub short: Vec<Token>,
}

/// The CPU to which a poller's thread is pinned.
pub(super) struct Pinning {
    /// The CPU that the reactor's options name.
    cpu: Option<usize>,
    /// The CPUs that the thread was allowed before it was pinned.
    before: Option<libc::cpu_set_t>,
}

impl Pinning {
    /// Pins this thread to one CPU, unless it is pinned already; the end of the run undoes it.
    pub fn pin(&mut self, cpu: usize) {
        if self.before.is_none() {
            // Without the pinning, steering is only less exact.
            self.before = steering::affinity().ok().filter(|_| steering::pin(cpu).is_ok());
        }
    }

    /// Pins this thread to the CPU that the options name, if they name one.
    pub fn pin_if_asked(&mut self) {
        if let Some(cpu) = self.cpu {
            self.pin(cpu);
        }
    }

    pub fn undo(&mut self) {
        if let Some(set) = self.before.take() {
            // The CPUs were allowed before, so this fails only if the system has taken them away since.
            let _ = steering::set_affinity(&set);
        }
    }
}

pub(super) struct State {
    pub handle: Arc<PollerHandle>,
    pub registry: Registry,
    pub sources: Slots<Source>,
    pub queues: Queues,
    pub supplies: Supplies,
    pub batch: Batch,
    pub balance: Balance,
    /// The buffer for datagrams; made for the first datagram socket.
    pub landing: Option<Box<Landing>>,
    pub listening: Listening,
    /// The descriptors of event handlers by number. The owner of one may close it, and then its number is used again.
    pub descriptors: HashMap<RawFd, Token>,
    /// The guests that the last look at the poll found ready.
    pub guests: Vec<Guest>,
    pub resolver: Resolver,
    pub pinning: Pinning,
    /// `None` while the poller does not run, or runs anywhere.
    pub home: Option<Home>,
    pub signals: Option<Arc<SignalPipe>>,
    /// The end of a stop's grace; `None` until a stop was asked for.
    pub stopping: Option<u64>,
    /// Whether a stop is in the time in which connections that drain stay open.
    pub draining: bool,
    /// Whether the poller has ended. A callback that waited may still end; no timer calls any more.
    pub has_ended: bool,
    pub failure: Option<Foreign>,
    /// The log lines about PROXY headers, by the reason of a refusal.
    pub told_of_refusals: Pace<{ Refusal::COUNT }>,
    pub told_of_slow: Pace<1>,
    /// Slow callbacks since the last report.
    pub slow_unreported: u64,
    /// The log lines about handshakes, by the kind of failure.
    #[cfg(feature = "tls")]
    pub told_of_handshakes: Pace<{ crate::tls::FailureKind::COUNT }>,
}

impl State {
    pub fn new(
        handle: Arc<PollerHandle>,
        registry: Registry,
        clock: Clock,
        resolver: Resolver,
        options: &ReactorOptions,
    ) -> Self {
        // A test and a histogram need each time exactly.
        let batch = Batch::new(options, !clock.is_by_hand() && !options.measure);
        let cpu = options.cpus.as_ref().map(|cpus| cpus[handle.index % cpus.len()]);
        Self {
            handle,
            registry,
            sources: Slots::new(),
            queues: Queues::default(),
            supplies: Supplies {
                clock,
                timers: Timers::with_capacity(options.timer_capacity),
                pool: Pool::default(),
                arena: vec![0; options.read_buffer_size].into_boxed_slice(),
            },
            batch,
            balance: Balance::default(),
            landing: None,
            listening: Listening::default(),
            descriptors: HashMap::new(),
            guests: Vec::new(),
            resolver,
            pinning: Pinning { cpu, before: None },
            home: None,
            signals: None,
            stopping: None,
            draining: false,
            has_ended: false,
            failure: None,
            told_of_refusals: Pace::default(),
            told_of_slow: Pace::default(),
            slow_unreported: 0,
            #[cfg(feature = "tls")]
            told_of_handshakes: Pace::default(),
        }
    }

    // ---- connections ----------------------------------------------------------------------------------------------

    /// Calls `work` with a connection, then puts the connection into the queues that its new state asks for. `None` if
    /// there is no such connection.
    #[inline]
    pub fn with<R>(&mut self, token: Token, work: impl FnOnce(&mut Connection, &mut Supplies) -> R) -> Option<R> {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return None };
        let result = work(connection, &mut self.supplies);
        self.queues.place(token, connection);
        Some(result)
    }

    /// As [`Self::with`], but only if the handler may still act on the connection.
    #[inline]
    pub fn with_open<R>(&mut self, token: Token, work: impl FnOnce(&mut Connection, &mut Supplies) -> R) -> Option<R> {
        match self.sources.get_mut(token) {
            Some(Source::Connection(connection)) if connection.is_open() => {
                let result = work(connection, &mut self.supplies);
                self.queues.place(token, connection);
                Some(result)
            }
            _ => None,
        }
    }

    /// The connection of `token`, to read.
    #[inline]
    pub fn connection(&self, token: Token) -> Option<&Connection> {
        match self.sources.get(token) {
            Some(Source::Connection(connection)) => Some(connection),
            _ => None,
        }
    }

    /// The connection of `token`, if its handler may still act on it.
    #[inline]
    pub fn open(&self, token: Token) -> Option<&Connection> {
        self.connection(token).filter(|connection| connection.is_open())
    }

    /// Calls `work` with the protocol of an open connection and its wire, then ends the connection if the protocol
    /// asked for it. `None` if `work` returns that, or if the connection is not open or has no protocol.
    #[inline]
    pub fn with_protocol<R>(
        &mut self,
        token: Token,
        work: impl FnOnce(&mut (dyn Protocol + 'static), &mut Line<'_>) -> Option<R>,
    ) -> Option<R> {
        let (result, is_high, ending) = self.run_protocol(token, work)?;
        if is_high || ending.is_some() {
            self.settle_protocol(token, is_high, ending);
        }
        result
    }

    #[inline]
    fn run_protocol<R>(
        &mut self,
        token: Token,
        work: impl FnOnce(&mut (dyn Protocol + 'static), &mut Line<'_>) -> R,
    ) -> Option<(R, bool, Option<Box<Ending>>)> {
        self.with_open(token, |connection, supplies| {
            // The protocol is out of the connection meanwhile, so that the wire can borrow the whole connection.
            let mut protocol = connection.take_protocol()?;
            let mut line = Line::new(connection, &mut supplies.pool, &mut supplies.arena);
            let result = work(&mut *protocol, &mut line);
            let (is_high, ending) = line.outcome(|| protocol.kept());
            connection.put_protocol(protocol);
            Some((result, is_high, ending))
        })?
    }

    /// Kept out of [`Self::with_protocol`], which runs for each message.
    #[cold]
    fn settle_protocol(&mut self, token: Token, is_high: bool, ending: Option<Box<Ending>>) {
        if is_high {
            self.flush_above_high_water(token);
        }
        match ending.map(|ending| *ending) {
            None => {}
            Some(Ending::Close) => self.close(token),
            Some(Ending::Fail(reason)) => self.close_because(token, reason),
            Some(Ending::Cut) => self.close_cut(token),
            Some(Ending::Abort) => self.end(token, Reason::Aborted),
            Some(Ending::Overflow) => self.overflow(token),
        }
    }

    /// Has the protocol write its last output, before the connection is closed.
    pub fn say_last_word(&mut self, token: Token, why: Closing<'_>) {
        let said = self.run_protocol(token, |protocol, wire| protocol.closing(why, wire));
        if let Some(((), is_high, ending)) = said {
            // The connection is being closed already, so only an end at once matters, and a reset behind the output.
            if matches!(ending.as_deref(), Some(Ending::Cut)) {
                self.with_open(token, |connection, _| connection.mark_cut());
            }
            let ending = ending.filter(|ending| matches!(**ending, Ending::Abort | Ending::Overflow));
            self.settle_protocol(token, is_high, ending);
        }
    }

    /// Sets a timer of an open connection, which ends with it.
    pub fn set_timer_of(&mut self, token: Token, deadline: u64, every: u64, kind: Deadline) -> Result<TimerId, Error> {
        let set = self.with_open(token, |connection, supplies| {
            let timers = &mut supplies.timers;
            let id = (connection.phase() == Phase::Open).then(|| timers.set(deadline, every, kind))?;
            connection.add_timer(id, |id| timers.is_set(id));
            Some(id)
        });
        set.flatten().ok_or_else(Error::closed)
    }

    // ---- the CPU --------------------------------------------------------------------------------------------------

    /// Finds the CPU of this thread, which begins to run the poller.
    pub fn settle_on_cpu(&mut self) {
        self.pinning.pin_if_asked();
        self.home = match self.pinning.cpu {
            Some(_) => None,
            None => Home::of(self.handle.index, self.handle.siblings().len()),
        };
    }

    /// Pins the thread, which has no other home from now on.
    pub fn pin(&mut self, cpu: usize) {
        self.leave_home();
        self.home = None;
        self.pinning.pin(cpu);
    }

    /// Leaves the thread as it was before the run.
    pub fn leave_cpu(&mut self) {
        self.leave_home();
        self.home = None;
        self.pinning.undo();
    }

    /// Notes the CPU on which the thread woke.
    #[inline]
    pub fn note_cpu(&mut self) {
        if let (Some(cpu), Some(home)) = (self.handle.load.note_cpu(), &mut self.home) {
            home.woke_on(cpu);
        }
    }

    /// Called before the thread sleeps.
    #[inline]
    pub fn enter_home(&mut self) {
        if let Some(home) = &mut self.home {
            home.enter(self.batch.now);
        }
    }

    /// Called before anything that may start a thread or a process.
    #[inline]
    pub fn leave_home(&mut self) {
        if let Some(home) = &mut self.home {
            home.leave();
        }
    }

    // ---- the loop -------------------------------------------------------------------------------------------------

    /// Makes the system calls at the end of a batch: outputs, ends, registrations.
    pub fn flush(&mut self) {
        if let Some(Turn::Datagrams(_) | Turn::Descriptor(_)) = self.queues.turns.front() {
            // This source had its time in this batch, so the others come first in the next.
            self.queues.turns.rotate_left(1);
        }
        self.flush_touched();
        self.rearm_descriptors();
        self.finish_endings();
        self.settle();
        if self.queues.has_spent() {
            self.queues.shrink_spent();
        }
        if self.stopping.is_some() {
            self.stop_latecomers();
        }
        self.handle.counters.timers.set(self.supplies.timers.len() as u64);
    }

    /// Keeps the first failure; returns a later one.
    pub fn keep_failure(&mut self, failure: Foreign) -> Option<Foreign> {
        if self.failure.is_some() {
            return Some(failure);
        }
        self.failure = Some(failure);
        None
    }

    /// Whether there is something to dispatch.
    #[inline]
    pub fn has_turns(&mut self) -> bool {
        self.queues.have_turns() || self.is_due()
    }

    /// Whether a deadline has come.
    pub fn is_due(&mut self) -> bool {
        let now = self.batch.now;
        self.supplies.timers.next_deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Whether nothing is left to do before an event arrives or time passes.
    pub fn is_idle(&mut self) -> bool {
        self.queues.are_empty() && !self.supplies.pool.has_released() && {
            let now = self.supplies.clock.now();
            self.supplies.timers.next_deadline().is_none_or(|deadline| deadline > now)
        }
    }

    pub fn is_done(&self) -> bool {
        self.stopping.is_some() && self.sources.is_empty() && self.queues.posted.is_empty() && !self.queues.have_turns()
    }

    /// The time to wait for events: none if the last turn left work over.
    pub fn timeout(&mut self) -> Option<Duration> {
        // No event tells of a message that this thread itself has posted.
        self.queues.has_mail |= self.handle.mailbox.depth() > 0;
        if !self.queues.are_empty() || self.is_done() {
            return Some(Duration::ZERO);
        }
        let deadline = self.supplies.timers.next_deadline()?;
        Some(Duration::from_nanos(deadline.saturating_sub(self.supplies.clock.now())))
    }
}
