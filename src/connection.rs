//! One stream socket: its state, its buffers, and which callback is due.
//!
//! Reads and writes its socket when the poller says so; never calls a handler and never decides when to do I/O. Only
//! the results of reads and writes end a connection, never event flags.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::event::Event;
use socket2::Socket;

use crate::admission::Permit;
use crate::buffer::{Head, Input, Output, Pool};
use crate::codec::{Codec, Protocol};
use crate::error::Reason;
use crate::guards::{Facts, Guards};
use crate::http::{Event as HttpEvent, Http};
use crate::options::ConnectionOptions;
use crate::remote::Remote;
use crate::socket;
use crate::timer::TimerId;
use crate::websocket::{Item, WebSocket};

/// At most so many bytes of one file go out per turn, so that a fast peer does not starve the others.
const FILE_BUDGET: usize = 256 * 1024;
/// At most so many bytes are read from one connection per turn: 256 KiB, and what frames messages of that size together. After
/// each read the kernel tells the peer of the room there is, so few large ones are cheaper than many.
const READ_BUDGET: usize = 260 * 1024;

/// The life of a connection, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It has no handler yet.
    Accepted,
    /// It has a handler, whose `on_open` is due.
    New,
    /// Callbacks run.
    Open,
    /// Closed by the handler; what is queued still goes out.
    Flushing,
    /// `on_close` is due.
    Ended,
    /// The handler is gone; input is discarded until the peer has read everything.
    Lingering,
}

/// The callback that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Open,
    Read,
    Drain,
    Stopping,
    Eof,
    Close,
}

/// What became of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing waits.
    All,
    /// The socket's buffer is full.
    Blocked,
    /// The budget of this turn is used up.
    Again,
}

pub(crate) struct Connection {
    pub socket: Socket,
    pub remote: Arc<Remote>,
    pub options: Arc<ConnectionOptions>,
    pub guards: Guards,
    /// Its place among those that its acceptor lets in, kept for its drop.
    _permit: Option<Box<Permit>>,
    pub input: Input,
    /// What it is cut into, if not taken as bytes.
    codec: Option<Codec>,
    pub output: Option<Box<Output>>,
    pub timers: Vec<TimerId>,
    /// Why it will end, once the input that remains is delivered.
    pub reason: Option<Box<Reason>>,
    /// How much input there was when `on_read` was last called.
    offered: u32,
    pub phase: Phase,
    /// How it is to end right after `on_open`, having been closed before.
    pub early_end: Option<Box<Reason>>,
    /// The socket may hold more input.
    pub readable: bool,
    /// In the poller's ready list.
    pub listed: bool,
    /// Waits for its turn in the batch, or has it.
    pub queued: bool,
    /// In the poller's list of connections to flush.
    pub touched: bool,
    /// The socket's buffer was full; an event will say when it is not.
    pub blocked: bool,
    /// Writability is watched, since the socket's buffer was full once.
    pub watches_writes: bool,
    /// Reading is paused by the user.
    pub paused: bool,
    /// Output rose above the high-water mark and has not fallen to the low one; pauses reading too.
    pub over_high: bool,
    /// The peer hung up or the socket failed; no pause may hide that.
    unpausable: bool,
    /// The peer has finished sending; a short read does not mean drained.
    read_to_end: bool,
    /// Input the handler has not been called for.
    news: bool,
    /// No more input will come from the socket.
    pub eof: bool,
    eof_told: bool,
    drain_due: bool,
    /// The reactor stops, and the handler has not been told.
    pub stopping_due: bool,
    pub write_shut: bool,
    /// Output was dropped; the peer must not take what it got for all.
    pub cut: bool,
}

impl Connection {
    pub fn new(socket: Socket, remote: Arc<Remote>, options: Arc<ConnectionOptions>, now: u64) -> Self {
        Self {
            socket,
            remote,
            options,
            guards: Guards::new(now),
            _permit: None,
            input: Input::default(),
            codec: None,
            output: None,
            timers: Vec::new(),
            reason: None,
            offered: 0,
            phase: Phase::Accepted,
            early_end: None,
            readable: false,
            listed: false,
            queued: false,
            touched: false,
            blocked: false,
            watches_writes: false,
            paused: false,
            over_high: false,
            unpausable: false,
            read_to_end: false,
            news: false,
            eof: false,
            eof_told: false,
            drain_due: false,
            stopping_due: false,
            write_shut: false,
            cut: false,
        }
    }

    /// One whose handler is there before it.
    pub fn outgoing(self) -> Self {
        Self { phase: Phase::New, ..self }
    }

    /// One that its acceptor has let in.
    pub fn with_permit(self, permit: Option<Permit>) -> Self {
        Self { _permit: permit.map(Box::new), ..self }
    }

    /// Takes in what the poll says; the caller then looks at [`Self::wants_read`], [`Self::blocked`] and
    /// [`Self::has_due`].
    pub fn note(&mut self, event: &Event) {
        let ends = event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || ends;
        self.read_to_end |= ends;
        self.unpausable |= event.is_error() || (event.is_read_closed() && event.is_write_closed());
        if event.is_writable() || event.is_write_closed() {
            self.blocked = false;
        }
        // After the end of the input, and where no more of it fits, no read tells of a reset any more.
        if (self.eof || self.is_stuffed())
            && event.is_error()
            && let Ok(Some(error)) = self.socket.take_error()
        {
            self.reason.get_or_insert_with(|| Box::new(Reason::Io(error)));
            self.eof = true;
        }
    }

    /// Whether a read would be of use now.
    #[inline]
    pub fn wants_read(&self) -> bool {
        match self.phase {
            Phase::Open => self.readable && !self.eof && !self.is_paused() && self.input.len() < self.max_input(),
            Phase::Lingering => self.readable,
            Phase::Accepted | Phase::New | Phase::Flushing | Phase::Ended => false,
        }
    }

    /// Reads once into `arena[at..]`, or to the end when that is known to be near, or behind what waits elsewhere; returns
    /// how much.
    pub fn receive(&mut self, arena: &mut [u8], at: usize, now: u64) -> usize {
        let room = self.max_input().saturating_sub(self.input.len());
        if self.input.is_settled() {
            let missing = self.missing(arena).min(room);
            if missing > 0 {
                let count = self.receive_missing(missing, now);
                self.look(arena);
                return count;
            }
        }
        let budget = READ_BUDGET.min(arena.len() - at).min(room);
        let mut end = at;
        while end < at + budget {
            let wanted = at + budget - end;
            let read = socket::receive(&self.socket, &mut arena[end..at + budget]);
            let count = read.as_ref().copied().unwrap_or(0);
            end += count;
            self.note_read(read, wanted);
            if !self.readable || count == 0 || !self.read_to_end {
                break;
            }
        }
        let count = end - at;
        if count == 0 {
            return 0;
        }
        self.news = true;
        self.count_received(count, now);
        self.input.receive(arena, at..end);
        self.look(arena);
        count
    }

    /// Reads the rest of what waits, or a part of it, where that is: nothing has to be moved then. Returns how much.
    fn receive_missing(&mut self, missing: usize, now: u64) -> usize {
        let (socket, mut wanted) = (&self.socket, 0);
        let read = self.input.receive_into(missing.min(READ_BUDGET), |room| {
            wanted = room.len(); // there may be less than was asked for
            socket.recv(room)
        });
        let count = read.as_ref().copied().unwrap_or(0);
        self.note_read(read, wanted);
        if count > 0 {
            self.count_received(count, now);
        }
        count
    }

    fn count_received(&mut self, count: usize, now: u64) {
        self.guards.received(now, count);
        self.remote.handle.counters.bytes_in.add(count as u64);
    }

    /// How much is known to be missing of what waits.
    #[inline]
    fn missing(&self, arena: &[u8]) -> usize {
        self.codec.as_ref().map_or(0, |codec| codec.missing(self.input.bytes(arena)))
    }

    /// Moves what waits out of the arena, which is about to be used again.
    #[inline]
    pub fn settle(&mut self, arena: &[u8]) {
        let missing = self.missing(arena);
        self.input.settle(arena, missing);
    }

    /// How much input may wait: also one whole message, however large.
    #[inline]
    fn max_input(&self) -> usize {
        let longest = self.codec.as_ref().map_or(0, |codec| codec.longest());
        self.options.max_input.max(longest)
    }

    /// From here on the input is cut so.
    pub fn set_protocol(&mut self, protocol: Protocol, arena: &mut [u8]) {
        match (&mut self.codec, protocol) {
            (Some(Codec::WebSocket(socket)), Protocol::WebSocket(settings)) => socket.messages.go_on_with(settings),
            (codec, protocol) => *codec = Some(Codec::new(protocol)),
        }
        self.look(arena);
    }

    /// What the input is cut by.
    pub fn codec(&self) -> Option<&Codec> {
        self.codec.as_ref()
    }

    /// The HTTP that is spoken here.
    pub fn http(&mut self) -> Option<&mut Http> {
        match self.codec.as_mut() {
            Some(Codec::Http(http)) => Some(http),
            _ => None,
        }
    }

    fn as_http(&self) -> Option<&Http> {
        match self.codec.as_ref() {
            Some(Codec::Http(http)) => Some(http),
            _ => None,
        }
    }

    /// Looks for what comes next in the input.
    #[inline]
    pub fn look(&mut self, arena: &mut [u8]) {
        if self.codec.is_some() {
            self.look_on(arena);
        }
    }

    /// Kept out of [`Self::look`], so that those who have no codec pay for one look at that.
    #[inline(never)]
    fn look_on(&mut self, arena: &mut [u8]) {
        if let Some(codec) = &mut self.codec {
            let done = codec.look(self.input.bytes_mut(arena));
            self.input.consume(done);
        }
    }

    /// Takes the next message out of the input.
    pub fn take_message<R>(&mut self, arena: &mut [u8], show: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let Some(Codec::Frames(frames)) = self.codec.as_mut() else { return None };
        let frame = frames.take()?;
        let value = show(&self.input.bytes(arena)[frame.message]);
        self.input.consume(frame.end);
        self.look(arena);
        Some(value)
    }

    /// Takes the next request, or a piece of its body, out of the input; with its number.
    pub fn take_request<R>(&mut self, arena: &mut [u8], show: impl FnOnce(u64, HttpEvent<'_>) -> R) -> Option<R> {
        let Some(Codec::Http(http)) = self.codec.as_mut() else { return None };
        let (value, done) = http.take(self.input.bytes(arena), show)?;
        self.input.consume(done);
        self.look(arena);
        Some(value)
    }

    /// The WebSocket that is spoken here.
    pub fn websocket(&mut self) -> Option<&mut WebSocket> {
        match self.codec.as_mut() {
            Some(Codec::WebSocket(socket)) => Some(socket),
            _ => None,
        }
    }

    /// Takes the next item of a WebSocket out of the input.
    pub fn take_item<R>(&mut self, arena: &mut [u8], show: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let Some(Codec::WebSocket(socket)) = self.codec.as_mut() else { return None };
        let (value, done) = socket.messages.take(self.input.bytes(arena), show)?;
        self.input.consume(done);
        self.look(arena);
        Some(value)
    }

    /// Whether the input may be read as bytes. Protocols have no bytes beside theirs.
    pub fn is_raw(&self) -> bool {
        matches!(self.codec.as_ref(), None | Some(Codec::Frames(_)))
    }

    /// After input was taken that was not asked for as a message.
    pub fn look_again(&mut self, arena: &[u8]) {
        if let Some(Codec::Frames(frames)) = self.codec.as_mut() {
            frames.look_again(self.input.bytes(arena));
        }
    }

    /// Why the input holds no further message, now that all before were taken.
    pub fn violation(&self) -> Option<Reason> {
        match self.codec.as_ref()? {
            Codec::Frames(frames) => frames.error().cloned().map(Reason::Framing),
            Codec::WebSocket(socket) => socket.messages.violation().cloned().map(Reason::WebSocket),
            Codec::Http(_) => None,
        }
    }

    /// Whether there is input that a handler has use for.
    #[inline]
    fn has_offer(&self) -> bool {
        self.codec.as_ref().map_or(self.news && !self.input.is_empty(), |codec| codec.has_news())
    }

    /// Whether as much input waits as may, and none of it can be handed out now.
    fn is_stuffed(&self) -> bool {
        self.input.len() >= self.max_input() && !self.has_offer()
    }

    /// Whether something came that waits for the answers to the requests before it.
    fn holds_requests(&self) -> bool {
        self.as_http()
            .is_some_and(|http| http.waits_for_answers() && (http.requests.has_found() || !self.input.is_empty()))
    }

    fn note_read(&mut self, read: io::Result<usize>, wanted: usize) {
        match read {
            Ok(0) => {
                self.eof = true;
                self.readable = false;
            }
            // On a drained socket the next byte makes a new edge; so one that gave less than asked needs no second read.
            Ok(count) => self.readable = count == wanted || self.read_to_end,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                // After a failed write the rest of the input was wanted, and this was it.
                self.eof = self.cannot_write();
            }
            Err(error) => {
                self.eof = true;
                self.readable = false;
                self.reason.get_or_insert_with(|| Box::new(Reason::Io(error)));
            }
        }
    }

    /// Throws away what has arrived, once; returns how many bytes. `eof` then tells whether the peer is done.
    pub fn skip_input(&mut self, arena: &mut [u8]) -> usize {
        let wanted = arena.len().min(READ_BUDGET);
        let read = socket::receive(&self.socket, &mut arena[..wanted]);
        let count = read.as_ref().copied().unwrap_or(0);
        self.note_read(read, wanted);
        count
    }

    /// Sends what waits, until the socket is full or the turn's budget is used up.
    pub fn flush(&mut self, pool: &mut Pool, now: u64) -> io::Result<Flushed> {
        let Some(output) = self.output.as_mut() else { return Ok(Flushed::All) };
        let mut file_budget = FILE_BUDGET;
        loop {
            let socket = &self.socket;
            let Some(sent) = output.with_head(|head| send(socket, head, file_budget)) else { break };
            match sent {
                Ok(Sent { bytes, all, from_file }) => {
                    self.remote.handle.counters.bytes_out.add(bytes as u64);
                    self.guards.sent(now);
                    output.sent(bytes, pool);
                    if from_file {
                        file_budget -= bytes;
                        if file_budget == 0 && !output.is_empty() {
                            return Ok(Flushed::Again);
                        }
                    } else if !all {
                        return Ok(Flushed::Blocked);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(error) => return Err(error),
            }
        }
        self.guards.flushed();
        if let Some(output) = self.output.take() {
            pool.give_back(output);
        }
        Ok(Flushed::All)
    }

    /// What the guards judge by.
    pub fn facts(&self) -> Facts {
        let is_waited_for = self.as_http().is_some_and(Http::is_waited_for) && !self.cannot_write();
        Facts { unread: self.readable && !self.eof, is_waited_for, unsent: unsent(&self.socket) }
    }

    /// Bytes of output in memory.
    pub fn queued_memory(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.memory())
    }

    /// All bytes of output, files included.
    pub fn queued(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.len())
    }

    /// Compares the queue with the water marks; the caller then looks at [`Self::wants_read`] and [`Self::has_due`].
    pub fn weigh(&mut self) {
        self.remote.tell_queued(self.queued_memory());
        let options = &self.options;
        if self.queued() > options.high_water {
            self.over_high = true;
        } else if self.over_high && self.queued() <= options.low_water {
            self.over_high = false;
            self.drain_due = true;
        }
    }

    /// The peer cannot be written to any more: forget the output, deliver the input that remains, then end.
    pub fn write_failed(&mut self, error: io::Error, pool: &mut Pool) {
        self.guards.flushed();
        if let Some(output) = self.output.take() {
            self.cut |= !output.is_empty();
            pool.give_back(output);
        }
        self.reason.get_or_insert_with(|| Box::new(Reason::Io(error)));
        if self.paused || self.is_stuffed() {
            // A user who paused does not want the rest, and what is stuffed takes none.
            self.forget_input();
            self.eof = true;
        }
        (self.paused, self.over_high) = (false, false);
        self.readable = !self.eof;
        self.read_to_end = true;
    }

    /// Why it ends, in the end: what a callback raised or a limit that was overstepped, else what was `given`, else what befell
    /// the socket. Also what goes untold, which may be a value of the language above.
    pub fn take_reason(&mut self, given: Option<Reason>) -> (Reason, Option<Reason>) {
        let known = self.reason.take().map(|reason| *reason);
        let answered = self.http().and_then(|http| http.reason.take());
        match (known, answered) {
            (Some(known), answered) if known.goes_first() => (known, answered),
            (_, Some(answered)) if answered.goes_first() => (answered, None),
            (known, _) => (given.or(known).unwrap_or(Reason::Orderly), None),
        }
    }

    /// Throws away the input, and with it what was found there.
    fn forget_input(&mut self) {
        self.input = Input::default();
        if let Some(codec) = &mut self.codec {
            codec.forget();
        }
    }

    /// Whether a failed write has made all further output pointless.
    pub fn cannot_write(&self) -> bool {
        self.reason.is_some()
    }

    /// Whether a callback is due, were it this connection's turn.
    pub fn has_due(&self) -> bool {
        self.due().is_some()
    }

    /// The callback that is due, which the caller has to run; `None` when it is another's turn.
    pub fn take_due(&mut self) -> Option<Due> {
        let due = self.due()?;
        match due {
            Due::Open => self.phase = Phase::Open,
            Due::Drain => self.drain_due = false,
            Due::Stopping => self.stopping_due = false,
            Due::Eof => self.eof_told = true,
            Due::Read => {
                self.news = false;
                self.offered = self.input.len() as u32;
            }
            Due::Close => {}
        }
        Some(due)
    }

    #[inline]
    fn due(&self) -> Option<Due> {
        match self.phase {
            Phase::New => Some(Due::Open),
            Phase::Ended => Some(Due::Close),
            Phase::Accepted | Phase::Flushing | Phase::Lingering => None,
            Phase::Open if self.stopping_due => Some(Due::Stopping),
            Phase::Open if self.drain_due => Some(Due::Drain),
            Phase::Open if self.is_paused() => None,
            Phase::Open if self.has_offer() => Some(Due::Read),
            Phase::Open if self.eof && self.reason.is_some() => Some(Due::Close),
            Phase::Open if self.eof && !self.eof_told && !self.holds_requests() => Some(Due::Eof),
            // The end of the input was seen and taken in, and now the peer hung up or both sides have finished.
            Phase::Open if self.eof && self.unpausable => Some(Due::Close),
            Phase::Open => None,
        }
    }

    /// After `on_read`: whether it consumed nothing although no more may come in.
    ///
    /// When it consumed something and input remains, `on_read` is due again.
    pub fn settle_read(&mut self) -> bool {
        let before = std::mem::take(&mut self.offered) as usize;
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

    /// As [`Self::settle_read`], after what the codec had found was taken.
    pub fn settle_messages(&mut self) {
        self.offered = 0;
    }

    /// Ends the user's pause; input that waited meanwhile is offered again.
    pub fn resume(&mut self) {
        // A pause that began in the running `on_read` has kept nothing from it.
        let in_on_read = self.offered > 0;
        if std::mem::take(&mut self.paused) && !in_on_read {
            self.news |= !self.input.is_empty();
        }
    }

    /// Begins a new life with another handler: same socket, same unread input, same output.
    pub fn hand_over(&mut self, remote: Arc<Remote>) {
        self.remote = remote;
        // A WebSocket goes on, perhaps in the middle of a message.
        self.codec.take_if(|codec| !matches!(codec, Codec::WebSocket(_)));
        self.phase = Phase::New;
        (self.listed, self.queued, self.touched) = (false, false, false);
        (self.news, self.offered) = (!self.input.is_empty(), 0);
        (self.paused, self.eof_told, self.drain_due) = (false, false, false);
        self.remote.tell_queued(self.queued_memory());
    }

    /// Whether what waits may not be handed out now.
    pub fn is_paused(&self) -> bool {
        (self.paused || (self.over_high && self.options.auto_pause)) && !self.unpausable
    }
}

/// Bytes that the kernel holds for the peer (SIOCOUTQ, tcp(7) and unix(7)).
fn unsent(socket: &Socket) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for the length of the call, which writes one int of ours.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    // Not known is as if the peer had taken nothing.
    if result == 0 { usize::try_from(bytes).unwrap_or(usize::MAX) } else { usize::MAX }
}

struct Sent {
    bytes: usize,
    all: bool,
    from_file: bool,
}

/// One system call for the head of a queue.
fn send(socket: &Socket, head: Head<'_>, file_budget: usize) -> io::Result<Sent> {
    match head {
        Head::Bytes([one]) => {
            socket::send(socket, one).map(|bytes| Sent { bytes, all: bytes == one.len(), from_file: false })
        }
        Head::Bytes(slices) => {
            let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
            socket.send_vectored_with_flags(slices, libc::MSG_NOSIGNAL).map(|bytes| Sent {
                bytes,
                all: bytes == wanted,
                from_file: false,
            })
        }
        Head::File(range) => {
            let count = usize::try_from(range.remaining).unwrap_or(usize::MAX).min(file_budget);
            let mut offset = range.offset as libc::off_t;
            // SAFETY: both descriptors are open for the length of the call and `offset` is ours to be written.
            let sent = unsafe { libc::sendfile(socket.as_raw_fd(), range.file.as_raw_fd(), &raw mut offset, count) };
            match sent {
                0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file shrank while it was being sent")),
                1.. => Ok(Sent { bytes: sent as usize, all: false, from_file: true }),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }
}
