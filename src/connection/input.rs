//! The input side of a connection: readiness, reads, pauses.
//!
//! A turn reads once, into the poller's arena; it reads to the end of the stream if the peer has finished. mio is
//! edge-triggered. A read that fills less than its room means that the socket is drained, unless the peer has finished.

use std::io;

use super::buffer::{Input, Received};
use super::phase::Phase;
use super::relay::Relay;
use super::{Connection, InputEnd, Peer, Readiness, Room};
use crate::error::Reason;

/// The most bytes that one turn reads from one connection: 256 KiB, and the frames of messages of that size. After each
/// read the kernel tells the peer of the new room, so few large reads cost less than many small ones.
const READ_BUDGET: usize = 260 * 1024;

impl Connection {
    /// Notes an event of the poll.
    #[inline]
    pub fn note(&mut self, ready: Readiness) {
        let ends = ready.read_closed || ready.error;
        self.readable |= ready.readable || ends;
        let peer = match ready {
            _ if ready.error || (ready.read_closed && ready.write_closed) => Peer::Gone,
            _ if ends => Peer::Finished,
            _ => Peer::Present,
        };
        self.peer = self.peer.max(peer);
        if (ready.writable || ready.write_closed) && self.room == Room::Full {
            match self.transport.is_upgrading() {
                true => self.readable = true,
                false => self.room = Room::Watched,
            }
        }
        // After the end of the input, or while no more input fits, no read would report a reset.
        if ready.error
            && (self.has_eof() || self.is_stuffed())
            && let Some(error) = self.transport.take_error()
        {
            self.reason.get_or_insert_with(|| Box::new(Reason::Io(error)));
            self.end_input();
        }
    }

    pub(super) fn end_input(&mut self) {
        if self.input_end == InputEnd::None {
            self.input_end = InputEnd::Seen;
        }
    }

    /// Whether the socket may hold more input.
    #[inline(always)]
    pub fn may_hold_input(&self) -> bool {
        self.readable
    }

    /// Whether a read is useful now.
    #[inline]
    pub fn wants_read(&self) -> bool {
        match self.phase {
            _ if !self.readable => false,
            // Output may wait for a handshake, and a handshake for no output.
            Phase::Open if self.is_paused() && !self.transport.is_upgrading() => false,
            Phase::Open if self.relay != Relay::Off => self.relay == Relay::Flowing,
            Phase::Open => !self.has_eof() && self.input.len() < self.max_input(),
            Phase::Flushing => self.transport.is_upgrading(),
            Phase::Lingering => true,
            _ => false,
        }
    }

    /// Whether input has come that the handler has not taken.
    #[cfg(feature = "tls")]
    pub fn holds_input(&self) -> bool {
        !self.input.is_empty() || self.has_offer()
    }

    /// Whether the handler is to get input, or the end of it, that has arrived: it was read, or the socket may hold it.
    /// Not while a pause keeps the input from the handler.
    pub fn owes_input(&self) -> bool {
        match self.phase {
            Phase::Accepted | Phase::New => self.readable,
            Phase::Open => self.wants_read() || self.has_due(),
            _ => false,
        }
    }

    /// Reads into `arena[at..]`, or behind unread input that has its own memory: once, or to the end of the stream if
    /// the peer has finished. Returns the number of bytes.
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
            let read = self.transport.receive(&mut arena[end..at + budget]);
            let count = self.note_read(read);
            end += count;
            if count == 0 || self.peer == Peer::Present {
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
        if self.input.is_lost() {
            self.run_out_of_memory();
        }
        self.look(arena);
        count
    }

    /// Reads missing bytes of the next part directly behind the unread input, so nothing has to be moved.
    fn receive_missing(&mut self, missing: usize, now: u64) -> usize {
        let (transport, mut drained) = (&mut self.transport, false);
        let read = self.input.receive_into(missing.min(READ_BUDGET), |room| {
            let received = transport.receive_uninit(room)?;
            drained = received.drained;
            Ok(received.bytes)
        });
        if self.input.is_lost() {
            self.run_out_of_memory();
            return 0;
        }
        let count = self.note_read(read.map(|bytes| Received { bytes, drained }));
        if count > 0 {
            self.count_received(count, now);
        }
        count
    }

    pub(super) fn count_received(&mut self, count: usize, now: u64) {
        self.guards.received(now, count);
        self.remote.poller().counters.bytes_in.add(count as u64);
    }

    pub(super) fn note_read(&mut self, read: io::Result<Received>) -> usize {
        match read {
            Ok(Received { bytes: 0, .. }) => {
                self.end_input();
                self.readable = false;
            }
            Ok(Received { bytes, drained }) => {
                self.readable = !drained || self.peer != Peer::Present;
                return bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                // After a failed write only the rest of the input is wanted, and it has now been read.
                if self.cannot_write() {
                    self.end_input();
                }
            }
            Err(error) => {
                self.end_input();
                self.readable = false;
                self.reason.get_or_insert_with(|| Box::new(Reason::Io(error)));
            }
        }
        0
    }

    /// Moves unread input out of the arena, before the arena is used again. False if there is no memory for it: then the
    /// connection has ended.
    #[inline]
    pub fn settle(&mut self, arena: &[u8]) -> bool {
        if self.input.is_in_arena() {
            let missing = self.missing(arena);
            self.input.settle(arena, missing);
        }
        if self.input.is_lost() {
            self.run_out_of_memory();
            return false;
        }
        true
    }

    /// Ends the connection because there was no memory for its input. Its other memory is freed as far as possible.
    #[cold]
    fn run_out_of_memory(&mut self) {
        self.forget_input();
        self.end_input();
        self.reason.get_or_insert_with(|| Box::new(Reason::NoMemory));
        (self.paused, self.over_high, self.readable) = (false, false, false);
    }

    /// Discards input by one read; returns the number of bytes. [`Self::has_eof`] then says whether the peer has
    /// finished.
    pub fn skip_input(&mut self, arena: &mut [u8]) -> usize {
        let wanted = arena.len().min(READ_BUDGET);
        let read = self.transport.receive(&mut arena[..wanted]);
        self.note_read(read)
    }

    /// Begins to discard input, until the peer has finished.
    pub fn linger(&mut self) {
        self.input = Input::default();
        self.readable = true;
    }

    /// Discards the input, and the parts that the protocol found in it.
    pub(super) fn forget_input(&mut self) {
        self.input = Input::default();
        if let Some(protocol) = &mut self.protocol {
            protocol.forget();
        }
    }

    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Ends the user's pause; input that arrived before is offered to the handler again.
    pub fn resume(&mut self) {
        // A pause that began in the running `on_read` has kept no input from it.
        let in_on_read = self.offered > 0;
        if std::mem::take(&mut self.paused) && !in_on_read {
            self.news |= !self.input.is_empty();
        }
    }
}
