//! One stream socket: its state, its buffers, and which callback is due.
//!
//! A connection reads and writes its transport when the poller asks for it. It never calls a handler and never decides
//! when to do I/O. Only results of reads and writes end a connection, never event flags.
//!
//! The rules of its life are the table in [`phase`]. Besides the phase a connection keeps:
//!
//! | state | values | meaning |
//! |---|---|---|
//! | `peer` | `Present`, `Finished`, `Gone` | the peer, by the events of the poll; only `Gone` overrides a pause |
//! | `input_end` | `None`, `Seen`, `Told` | whether the stream's end was read, and `on_eof` called |
//! | `output_end` | `Open`, `Due`, `Shut` | whether the write side is to be shut down, or was |
//! | `room` | `Unwatched`, `Full`, `Watched` | whether the socket is full, and whether the poll watches for room |
//! | `paused`, `over_high` | | the two causes of a pause: the user, and output above the high-water mark |
//! | `waits` | | the callbacks that have returned and have not ended ([`waits`]) |
//! | `relay`, `feeder` | | whether the input goes to another connection, and which one's input comes here ([`relay`], [`piping`]) |
//! | `reason` | | an error of the socket or a limit: output is pointless, and the connection ends when its input is delivered |

pub mod buffer;
pub(crate) mod due;
mod ends;
pub(crate) mod guards;
mod input;
pub mod memory;
mod moving;
mod output;
pub(crate) mod phase;
pub(crate) mod pipes;
pub(crate) mod piping;
mod rare;
mod relay;
#[cfg(feature = "tls")]
pub(crate) mod secure;
mod stopping;
mod timers;
pub(crate) mod transport;
mod waiting;
mod waits;
pub(crate) mod wire;

#[cfg(feature = "tls")]
use std::io;
use std::sync::Arc;

use mio::event::Event;

use crate::error::{Reason, Violation};
use crate::options::ConnectionOptions;
use crate::protocols::{Protocol, Succession};
use crate::shared::admission::Permit;
use crate::shared::remote::Remote;
use crate::slots::Token;
#[cfg(feature = "tls")]
use crate::tls::stream::Stream;
use buffer::{Input, Output};
use due::Due;
use guards::Guards;
use phase::Phase;
use rare::Rare;
use relay::Relay;
use transport::Transport;
#[cfg(feature = "tls")]
use transport::Upgrade;

/// The result of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// No output is left.
    All,
    /// The socket's buffer is full.
    Blocked,
    /// The budget of this turn is used up.
    Again,
}

/// Bytes of output since the opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were written, those that still wait included.
    pub written: u64,
    /// Bytes that left the kernel's queue to the peer's kernel. On a Unix socket, whose queue has an overhead, the number
    /// may be too small until the queue is empty.
    pub taken: u64,
    /// Bytes for which the peer's kernel has room behind those; 0 if that is not known.
    pub room: u64,
}

impl Progress {
    /// The end of the room of the peer's kernel, counted as the bytes of output. It moves when the peer's program reads,
    /// and not when its kernel only fills its buffer.
    pub fn edge(self) -> u64 {
        self.taken + self.room
    }
}

/// The peer, by the events of the poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Present,
    /// The peer has finished sending: a short read does not mean that the socket is drained.
    Finished,
    /// The peer hung up, or the socket failed: no pause may hide that.
    Gone,
}

/// The end of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputEnd {
    None,
    /// The socket will give no more input.
    Seen,
    /// `on_eof` was called.
    Told,
}

/// The end of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputEnd {
    Open,
    /// The write side is to be shut down when the output is sent.
    Due,
    Shut,
}

/// Whether the socket takes output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// It may; it was never full, and the poll does not watch for room.
    Unwatched,
    /// It does not; an event of the poll follows when it does.
    Full,
    /// It may; it was full once, so the poll watches for room.
    Watched,
}

/// The poller's queues in which a connection stands. It stands in each at most once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Places {
    /// The ready list.
    pub listed: bool,
    /// The turns of the batch; also set while the connection has its turn.
    pub queued: bool,
    /// The list of connections to flush.
    pub touched: bool,
    /// The busy connections.
    pub active: bool,
    /// Not a queue: the looks at which its packets arrived apart from the others of its poller, less the rest.
    pub astray: u8,
}

/// An event of the poll for a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    pub readable: bool,
    pub read_closed: bool,
    pub writable: bool,
    pub write_closed: bool,
    pub error: bool,
}

impl From<&Event> for Readiness {
    fn from(event: &Event) -> Self {
        Self {
            readable: event.is_readable(),
            read_closed: event.is_read_closed(),
            writable: event.is_writable(),
            write_closed: event.is_write_closed(),
            error: event.is_error(),
        }
    }
}

pub(crate) struct Connection {
    pub transport: Transport,
    pub remote: Arc<Remote>,
    pub options: Arc<ConnectionOptions>,
    pub guards: Guards,
    /// The permit of its acceptor; its drop makes room for another connection.
    permit: Option<Permit>,
    pub input: Input,
    /// The rules that cut the input; `None` if the handler reads bytes.
    protocol: Option<Box<dyn Protocol>>,
    pub output: Option<Box<Output>>,
    /// In a box, since most connections have none of it, and an idle one is to be small.
    rare: Option<Box<Rare>>,
    /// The reason with which the connection ends after the remaining input is delivered.
    pub reason: Option<Box<Reason>>,
    /// The connection whose input comes here.
    pub feeder: Option<Token>,
    /// The bytes of input when `on_read` was last called.
    offered: u32,
    phase: Phase,
    peer: Peer,
    input_end: InputEnd,
    output_end: OutputEnd,
    room: Room,
    relay: Relay,
    pub places: Places,
    /// The socket may hold more input.
    readable: bool,
    /// The user has paused reading.
    paused: bool,
    /// Output rose above the high-water mark and has not yet fallen to the low one; pauses reading too.
    over_high: bool,
    /// There is input that the handler has not been called for.
    news: bool,
    drain_due: bool,
    /// The reactor stops, and `on_stopping` is due.
    stopping_due: bool,
    /// It stays open until the drain of a stop is over.
    draining: bool,
    /// It was opened after the stop of the reactor began, and its handler does not know of the stop.
    late: bool,
    /// Output was dropped; the peer must not take the part that it got for the whole.
    cut: bool,
    /// It stays on its poller.
    bound: bool,
}

impl Connection {
    pub fn new(transport: Transport, remote: Arc<Remote>, options: Arc<ConnectionOptions>, now: u64) -> Self {
        Self {
            transport,
            remote,
            options,
            guards: Guards::new(now),
            permit: None,
            input: Input::default(),
            protocol: None,
            output: None,
            rare: None,
            reason: None,
            feeder: None,
            offered: 0,
            phase: Phase::Accepted,
            peer: Peer::Present,
            input_end: InputEnd::None,
            output_end: OutputEnd::Open,
            room: Room::Unwatched,
            relay: Relay::Off,
            places: Places::default(),
            readable: false,
            paused: false,
            over_high: false,
            news: false,
            drain_due: false,
            stopping_due: false,
            draining: false,
            late: false,
            cut: false,
            bound: false,
        }
    }

    /// Makes the connection an outgoing one: its handler exists before it.
    pub fn outgoing(self) -> Self {
        Self { phase: Phase::New, ..self }
    }

    /// Notes that the transport may hold input of which no event tells.
    #[cfg(feature = "tls")]
    pub fn with_input(self) -> Self {
        Self { readable: true, ..self }
    }

    // ---- TLS amid a conversation ----------------------------------------------------------------------------------

    /// Begins a handshake. Output waits until it is over, as if the socket were full.
    #[cfg(feature = "tls")]
    pub fn begin_upgrade(&mut self, stream: Stream, upgrade: Upgrade) {
        // The memory of a test stands in for a moment, and keeps nothing.
        let transport = std::mem::replace(&mut self.transport, Transport::Memory(Arc::default()));
        self.transport = transport.upgraded(stream, upgrade);
        // The dispatch gets a task for the connection when the handshake is over.
        self.bound = true;
        // The first word may be ours, and that of the peer may have come.
        (self.room, self.readable) = (Room::Full, true);
    }

    /// Goes on with that handshake; returns it when it is over. `WouldBlock` if the peer has to send or read first.
    #[cfg(feature = "tls")]
    pub fn shake_hands(&mut self) -> io::Result<Upgrade> {
        let shaken = self.transport.shake_hands();
        self.readable = shaken.is_ok();
        shaken?;
        self.room = Room::Watched;
        self.transport.end_upgrade().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Adds the permit of an accepted connection.
    pub fn with_permit(self, permit: Permit) -> Self {
        Self { permit: Some(permit), ..self }
    }

    pub fn permit(&self) -> Option<&Permit> {
        self.permit.as_ref()
    }

    // ---- state ----------------------------------------------------------------------------------------------------

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Goes to the next phase by the table of [`phase`]. False if the event changes nothing in this phase.
    pub fn step(&mut self, event: phase::Event) -> bool {
        let after = self.phase.after(event);
        self.phase = after.unwrap_or(self.phase);
        after.is_some()
    }

    /// Whether the handler may still act on the connection.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.phase.is_open()
    }

    /// Whether the connection has not ended yet.
    pub fn is_alive(&self) -> bool {
        self.phase < Phase::Ended
    }

    /// Whether the socket will give no more input.
    pub fn has_eof(&self) -> bool {
        self.input_end != InputEnd::None
    }

    /// Whether a failed write has made all further output pointless.
    pub fn cannot_write(&self) -> bool {
        self.reason.is_some()
    }

    /// Whether the socket's buffer is full; an event of the poll follows when there is room.
    pub fn is_blocked(&self) -> bool {
        self.room == Room::Full
    }

    /// Whether output may be queued.
    pub fn takes_output(&self) -> bool {
        self.output_end == OutputEnd::Open
    }

    /// Whether output was dropped.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Notes that the peer must not take the part that it got for the whole.
    pub fn mark_cut(&mut self) {
        self.cut = true;
    }

    /// Whether output rose above the high-water mark and has not yet fallen to the low one.
    pub fn is_over_high(&self) -> bool {
        self.over_high
    }

    /// Whether a pause keeps unread input from the handler.
    pub fn is_paused(&self) -> bool {
        // Piped input makes no output here, so the two directions are independent.
        let is_high = self.over_high && self.options.auto_pause && self.relay == Relay::Off;
        (self.paused || is_high) && self.peer != Peer::Gone
    }

    // ---- the protocol ---------------------------------------------------------------------------------------------

    pub fn protocol(&self) -> Option<&dyn Protocol> {
        self.protocol.as_deref()
    }

    /// Takes the protocol out; [`Self::put_protocol`] puts it back.
    pub fn take_protocol(&mut self) -> Option<Box<dyn Protocol>> {
        self.protocol.take()
    }

    pub fn put_protocol(&mut self, protocol: Box<dyn Protocol>) {
        self.protocol = Some(protocol);
    }

    /// Sets the protocol that cuts the input from now on.
    pub fn set_protocol(&mut self, protocol: Box<dyn Protocol>, arena: &mut [u8]) {
        self.protocol = Some(protocol);
        self.look(arena);
    }

    /// Has the protocol look for the next part in the input.
    #[inline]
    pub fn look(&mut self, arena: &mut [u8]) {
        if self.protocol.is_some() {
            self.look_on(arena);
        }
    }

    /// Kept out of [`Self::look`], so that connections without a protocol pay for one test.
    #[inline(never)]
    fn look_on(&mut self, arena: &mut [u8]) {
        if let Some(protocol) = &mut self.protocol {
            let done = protocol.look(self.input.bytes_mut(arena));
            self.input.consume(done);
        }
    }

    /// Notes the part that the peer has begun to send, after the connection had its turn. True if its time begins now.
    #[inline]
    pub fn note_part(&mut self, now: u64) -> bool {
        let Some(protocol) = &self.protocol else { return false };
        let part = protocol.unfinished();
        (part.is_some() || self.guards.has_part()) && self.guards.note_part(now, part)
    }

    /// Removes bytes from the input that the handler has read without the protocol.
    #[inline]
    pub fn consume(&mut self, count: usize, arena: &mut [u8]) {
        self.input.consume(count);
        if let Some(protocol) = &mut self.protocol {
            protocol.look_again(self.input.bytes_mut(arena));
        }
    }

    /// The rule that the peer broke; `None` while reading is paused.
    fn violation(&self) -> Option<Violation> {
        // During a pause the handler still works on the earlier messages, and its answers are sent first.
        self.protocol.as_ref().filter(|_| !self.is_paused() && !self.is_held())?.violation()
    }

    /// The number of bytes that the input lacks for the next part, as far as known.
    #[inline]
    fn missing(&self, arena: &[u8]) -> usize {
        self.protocol.as_ref().map_or(0, |protocol| protocol.missing(self.input.bytes(arena)))
    }

    /// The most bytes of unread input: the option `max_input`, or more if the protocol needs more for one message.
    #[inline]
    fn max_input(&self) -> usize {
        let longest = self.protocol.as_ref().map_or(0, |protocol| protocol.longest());
        self.options.max_input.max(longest)
    }

    /// Whether there is input for the handler.
    #[inline]
    fn has_offer(&self) -> bool {
        self.protocol.as_ref().map_or(self.news && !self.input.is_empty(), |protocol| protocol.has_news())
    }

    /// Whether the unread input is at its limit, and none of it can go to the handler now.
    fn is_stuffed(&self) -> bool {
        // Full input of a piped connection goes on to the other one.
        self.input.len() >= self.max_input() && !self.has_offer() && self.relay == Relay::Off
    }

    fn holds_eof(&self) -> bool {
        self.protocol.as_ref().is_some_and(|protocol| protocol.holds_eof(self.input.len()))
    }

    // ---- callbacks ------------------------------------------------------------------------------------------------

    /// Whether a callback is due when the connection gets its turn.
    #[inline]
    pub fn has_due(&self) -> bool {
        self.due().is_some()
    }

    /// The callback that is due, which stays due.
    #[inline(never)]
    pub fn next_due(&self) -> Option<Due> {
        self.due()
    }

    /// Takes the callback that is due, which the caller has to run. `None` ends the connection's turn.
    #[inline(always)]
    pub fn take_due(&mut self) -> Option<Due> {
        let due = self.due()?;
        match due {
            Due::Open => _ = self.step(phase::Event::Open),
            Due::Drain => self.drain_due = false,
            Due::Stopping => self.stopping_due = false,
            Due::Eof => self.input_end = InputEnd::Told,
            Due::Read => {
                self.news = false;
                self.offered = self.input.len() as u32;
            }
            Due::Drained => self.note_drained(),
            Due::Cancel => self.note_cancelled(),
            Due::Desertion | Due::Close => {}
        }
        Some(due)
    }

    /// As [`Self::settle_callback`] and [`Self::take_due`], if the protocol has another part after the one that the handler has
    /// just got, and nothing else is due. Otherwise nothing changes.
    #[inline]
    pub fn take_news(&mut self) -> bool {
        let len = self.input.len();
        // A part that took nothing from the input may be a broken rule.
        let has_news = self.protocol.is_some() && len < self.offered as usize && self.due() == Some(Due::Read);
        if has_news {
            self.offered = len as u32;
        }
        has_news
    }

    #[inline(always)]
    fn due(&self) -> Option<Due> {
        match self.waits() {
            None => self.due_alone(),
            Some(waits) => self.due_beside(waits, || self.due_alone()),
        }
    }

    /// The callback that is due if none waits.
    #[inline(always)]
    fn due_alone(&self) -> Option<Due> {
        match self.phase {
            Phase::New | Phase::Doomed => Some(Due::Open),
            Phase::Ended => Some(Due::Close),
            Phase::Accepted | Phase::Flushing | Phase::Lingering | Phase::Gone => None,
            Phase::Open if self.stopping_due => Some(Due::Stopping),
            Phase::Open if self.drain_due => Some(Due::Drain),
            Phase::Open if self.is_paused() => None,
            Phase::Open if self.has_offer() => Some(Due::Read),
            Phase::Open if !self.has_eof() => None,
            Phase::Open if self.reason.is_some() => Some(Due::Close),
            Phase::Open if self.input_end == InputEnd::Seen && !self.holds_eof() => Some(Due::Eof),
            // The end of the input was delivered, and now the peer hung up or both sides have finished. Over TLS the peer
            // may keep its socket open after both.
            Phase::Open if self.peer == Peer::Gone || self.output_end == OutputEnd::Shut => Some(Due::Close),
            Phase::Open => None,
        }
    }

    /// Before the next callback: the reason for which the connection has to end, if any. Either the handler consumed
    /// nothing of a full input, or the input breaks a rule of the protocol.
    #[inline]
    pub fn settle_callback(&mut self) -> Option<Box<Reason>> {
        let offered = std::mem::take(&mut self.offered) as usize;
        let is_deaf = self.protocol.is_none() && self.settle_read(offered);
        // A protocol that has just taken a part is asked when it takes none: a broken rule is news, too.
        let may_break = self.protocol.is_some() && (offered == 0 || self.input.len() == offered);
        if (is_deaf || may_break) && self.is_open() { self.broken_rule(is_deaf) } else { None }
    }

    /// Kept out of [`Self::settle_callback`], which runs for each callback.
    #[inline(never)]
    fn broken_rule(&self, is_deaf: bool) -> Option<Box<Reason>> {
        if is_deaf {
            return Some(Box::new(Reason::InputOverflow { limit: self.options.max_input }));
        }
        self.violation().map(|violation| Box::new(Reason::Protocol(violation)))
    }

    /// After `on_read`, to which `before` bytes were offered: whether the handler consumed nothing of a full input.
    ///
    /// If it consumed something and input remains, `on_read` is due again.
    #[inline]
    fn settle_read(&mut self, before: usize) -> bool {
        if before == 0 {
            return false;
        }
        let now = self.input.len();
        if now < before {
            self.news |= now > 0;
            return false;
        }
        now == before && now >= self.max_input() && self.phase == Phase::Open && !self.paused
    }

    // ---- the handler ----------------------------------------------------------------------------------------------

    /// Starts again with another handler: same socket, same unread input, same output.
    pub fn hand_over(&mut self, remote: Arc<Remote>, succession: Succession) {
        self.remote = remote;
        self.protocol.take_if(|_| succession == Succession::Bytes);
        self.guards.note_part(0, None);
        self.step(phase::Event::HandOver);
        self.places = Places::default();
        (self.news, self.offered) = (!self.input.is_empty(), 0);
        (self.paused, self.drain_due) = (false, false);
        self.drop_waits();
        if self.has_eof() {
            self.input_end = InputEnd::Seen;
        }
        self.weigh();
    }
}

#[cfg(test)]
mod tests;
