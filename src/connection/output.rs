//! The output side of a connection: the queue, the flush, the water marks.

use std::io;

use super::buffer::Pool;
use super::guards::Facts;
use super::phase::Phase;
use super::{Connection, Flushed, OutputEnd, Peer, Progress, Room};
use crate::data::Data;
use crate::error::{Foreign, Reason};

/// The bytes after which a connection sends no more in one turn, so that a fast peer does not starve the others.
const BUDGET: usize = 256 * 1024;

impl Connection {
    /// Queues output; the caller has checked that the connection takes it.
    #[inline(always)]
    pub fn push(&mut self, data: Data<'_>, pool: &mut Pool) {
        let output = self.output.get_or_insert_with(|| pool.take());
        match data {
            Data::Bytes(bytes) => output.push_copy(bytes, pool),
            Data::Own(bytes) => output.push_own(bytes, pool),
            Data::Held(held) => output.push_held(held),
            Data::File(range) => output.push_file(range),
            Data::Mark(mark) => output.push_mark(mark),
            Data::Note(note) => output.push_note(note),
        }
    }

    /// Queues a copy of each part, as [`Self::push`] does with one.
    #[inline(always)]
    pub fn push_copies<const N: usize>(&mut self, parts: [&[u8]; N], pool: &mut Pool) {
        self.output.get_or_insert_with(|| pool.take()).push_copies(parts, pool);
    }

    /// Notes that the write side is to be shut down when the output is sent.
    pub fn end_output(&mut self) {
        if self.output_end == OutputEnd::Open {
            self.output_end = OutputEnd::Due;
        }
    }

    /// As [`Self::end_output`]; other threads learn of it, too.
    pub fn shut_write(&mut self) {
        self.end_output();
        self.remote.mark_write_shut();
    }

    /// Whether there is output to send, or a write side to shut down.
    #[inline(always)]
    pub fn has_output(&self) -> bool {
        self.output.is_some() || self.output_end == OutputEnd::Due
    }

    /// Whether there is output to send, and the socket may take it.
    #[inline]
    pub fn wants_flush(&self) -> bool {
        self.has_output() && self.room != Room::Full && self.phase <= Phase::Flushing
    }

    /// Sends queued output, until the socket is full or the turn's budget is used up.
    pub fn flush(&mut self, pool: &mut Pool, now: u64) -> io::Result<Flushed> {
        let Some(output) = self.output.as_mut() else { return Ok(self.finish_output(pool)) };
        let mut budget = BUDGET;
        loop {
            let transport = &mut self.transport;
            let Some(sent) = output.with_head(pool, |head| transport.send(head, budget)) else { break };
            match sent {
                Ok(sent) => {
                    self.remote.poller().counters.bytes_out.add(sent.bytes as u64);
                    self.guards.sent(now, sent.bytes);
                    output.sent(sent.bytes, pool);
                    if !sent.all && !sent.from_file {
                        return Ok(Flushed::Blocked);
                    }
                    budget = budget.saturating_sub(sent.bytes);
                    if budget == 0 && !output.is_empty() {
                        return Ok(Flushed::Again);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(error) => return Err(error),
            }
        }
        Ok(self.finish_output(pool))
    }

    /// After all output is sent: sends what belongs behind the last of it.
    #[inline(always)]
    fn finish_output(&mut self, pool: &mut Pool) -> Flushed {
        if self.is_last_output() && !self.has_finished() {
            // With a queue, though an empty one, the next flush comes when there is room.
            self.output.get_or_insert_with(|| pool.take());
            return Flushed::Blocked;
        }
        self.guards.flushed();
        if let Some(output) = self.output.take() {
            pool.give_back(output);
        }
        Flushed::All
    }

    /// Says that no output will follow. False if the socket has no room for that.
    #[inline(never)]
    fn has_finished(&mut self) -> bool {
        // Another error ends the connection elsewhere.
        self.transport.finish().err().is_none_or(|error| error.kind() != io::ErrorKind::WouldBlock)
    }

    /// Whether no output will follow the one that waits.
    fn is_last_output(&self) -> bool {
        self.phase == Phase::Flushing || self.output_end == OutputEnd::Due
    }

    /// After all output is sent: shuts down the write side, if that is due.
    pub fn shut_if_due(&mut self) {
        if self.output_end == OutputEnd::Due {
            self.output_end = OutputEnd::Shut;
            // Fails only if the peer is gone, and reading reports that.
            let _ = self.transport.shutdown_write();
        }
    }

    /// Notes that the socket is full. True if the poll has to begin to watch for room.
    pub fn block(&mut self) -> bool {
        std::mem::replace(&mut self.room, Room::Full) == Room::Unwatched
    }

    /// Whether the poll watches for room.
    pub fn watches_writes(&self) -> bool {
        self.room != Room::Unwatched
    }

    /// Notes that the poll cannot watch for room.
    pub fn unwatch_writes(&mut self) {
        self.room = Room::Unwatched;
    }

    /// Drops the output. If there was any, the peer must not take the part that it got for the whole.
    pub fn drop_output(&mut self, pool: &mut Pool) {
        if let Some(output) = self.output.take() {
            self.cut |= !output.is_empty();
            pool.give_back(output);
        }
        if let Some(protocol) = &mut self.protocol {
            protocol.drop_output(&mut |held| pool.release(held));
        }
    }

    /// After a write failed: drops the output; the connection ends when the remaining input is delivered.
    pub fn write_failed(&mut self, error: io::Error, pool: &mut Pool) {
        self.guards.flushed();
        self.drop_output(pool);
        self.reason.get_or_insert_with(|| Box::new(Reason::Io(error)));
        if self.paused || self.is_stuffed() {
            // A user that paused does not want the rest, and a full input has no room for it.
            self.forget_input();
            self.end_input();
        }
        (self.paused, self.over_high) = (false, false);
        self.readable = !self.has_eof();
        self.peer = self.peer.max(Peer::Finished);
    }

    /// Takes the marks out of the output, because their handler is replaced.
    pub fn take_marks(&mut self) -> Vec<Foreign> {
        self.output.as_mut().map_or_else(Vec::new, |output| output.take_marks())
    }

    /// Bytes of output in memory.
    pub fn queued_memory(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.memory())
    }

    /// Bytes of output that were written, files included. Those that another connection passes on do not count toward the
    /// water marks.
    pub fn queued(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.len())
    }

    /// All bytes of output that wait.
    pub fn waiting(&self) -> usize {
        self.queued() + self.output.as_ref().map_or(0, |output| output.piped())
    }

    /// Bytes of output in memory, those in the mailbox included.
    pub fn queued_or_posted(&self) -> usize {
        self.queued_memory() + self.remote.posted()
    }

    /// The progress of the output since the opening.
    pub fn progress(&self) -> Progress {
        let sent = self.guards.total_sent();
        let taken = sent.saturating_sub(self.transport.unsent() as u64);
        Progress { written: sent + self.waiting() as u64, taken, room: self.transport.window() as u64 }
    }

    /// Compares the queue with the water marks.
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

    /// The facts on which the time limits depend.
    pub fn facts(&self) -> Facts {
        let is_waited_for = self.protocol.as_ref().is_some_and(|protocol| protocol.is_waited_for());
        Facts {
            unread: self.readable && !self.has_eof(),
            is_waited_for: is_waited_for && !self.cannot_write(),
            unsent: self.transport.unsent(),
        }
    }
}
