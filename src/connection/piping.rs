//! A connection that hands its further input to another one: the way that the bytes take.
//!
//! Small input is copied: a receive and a send are cheaper than two splices. When a receive fills its room, the next
//! bytes go through a pipe, until few come at a time.

use std::any::Any;
use std::io;

use super::buffer::{Input, Pool};
use super::phase::Phase;
use super::relay::{Piped, Relay};
use super::{Connection, OutputEnd};
use crate::slots::Token;
use crate::system::pipe::Pipe;

/// A splice that moves fewer bytes than this costs more than their copy.
const FEW: usize = 16 * 1024;

/// Input on its way to another connection.
pub(crate) enum Parcel {
    Memory(Input),
    Kernel(Pipe),
}

/// The place for input that is passed on.
pub(crate) struct Place {
    /// The free part of the arena.
    at: usize,
    /// The most bytes to copy.
    most: usize,
    /// Whether the other connection takes a pipe.
    may_splice: bool,
}

impl Connection {
    // ---- the connection that is read ------------------------------------------------------------------------------

    /// Hands all further input to another connection.
    pub fn begin_relay(&mut self, to: Token) {
        self.protocol = Some(Box::new(Piped { to, is_bulk: false }));
        // There may be input to pass on, or its end, of which no event tells any more.
        (self.relay, self.readable) = (Relay::Flowing, true);
    }

    /// Whether its input goes to another connection.
    #[inline]
    pub fn is_piped(&self) -> bool {
        self.relay != Relay::Off && self.phase == Phase::Open
    }

    /// The connection that its input goes to.
    pub fn destination(&self) -> Option<Token> {
        let protocol = self.protocol.as_deref()? as &dyn Any;
        protocol.downcast_ref::<Piped>().map(|piped| piped.to)
    }

    /// Waits until the output of the other connection is sent.
    pub fn hold_back(&mut self) {
        if self.relay == Relay::Flowing {
            self.relay = Relay::Waiting;
        }
    }

    /// Goes on, because the other connection takes output again.
    pub fn flow_on(&mut self) {
        if self.relay == Relay::Waiting {
            self.relay = Relay::Flowing;
        }
    }

    /// Takes input to pass on: what waits, else by one read. Returns the number of bytes that were read, too.
    pub fn take_parcel(
        &mut self,
        pool: &mut Pool,
        arena: &mut [u8],
        place: Place,
        now: u64,
    ) -> (usize, Option<Parcel>) {
        if !self.input.is_empty() {
            return (0, Some(Parcel::Memory(std::mem::take(&mut self.input))));
        }
        if self.has_eof() {
            self.readable = false;
            return (0, None);
        }
        let can_splice = place.may_splice && self.transport.is_plain();
        if can_splice
            && self.is_bulk()
            && let Some(mut pipe) = pool.pipes.take()
        {
            if let Some(count) = self.fill(&mut pipe, now) {
                return (count, self.packed(pipe, pool));
            }
            pool.pipes.give_back(pipe);
        }
        let end = arena.len().min(place.at + place.most);
        let count = self.receive(&mut arena[..end], place.at, now);
        let room = (end - place.at).min(self.max_input());
        if can_splice && count == room {
            self.set_bulk(true);
        }
        (count, (count > 0).then(|| Parcel::Memory(std::mem::take(&mut self.input))))
    }

    /// Moves bytes of the socket into a pipe. `None` if a receive has to decide: either the socket is empty, or an urgent
    /// byte is in the way.
    fn fill(&mut self, pipe: &mut Pipe, now: u64) -> Option<usize> {
        let moved = self.transport.fill(pipe);
        if moved.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return None;
        }
        let count = self.note_read(moved);
        if count > 0 {
            self.count_received(count, now);
            self.set_bulk(count >= FEW);
        }
        Some(count)
    }

    fn packed(&self, pipe: Pipe, pool: &mut Pool) -> Option<Parcel> {
        if pipe.held() > 0 {
            return Some(Parcel::Kernel(pipe));
        }
        pool.pipes.give_back(pipe);
        None
    }

    /// Whether the end of the input is to be passed on now; true once.
    pub fn take_end(&mut self) -> bool {
        let is_end = self.has_eof() && self.input.is_empty() && self.reason.is_none();
        let is_first = is_end && self.relay != Relay::Finished;
        if is_first {
            self.relay = Relay::Finished;
        }
        is_first
    }

    fn is_bulk(&self) -> bool {
        let protocol = self.protocol.as_deref().map(|protocol| protocol as &dyn Any);
        protocol.and_then(|protocol| protocol.downcast_ref::<Piped>()).is_some_and(|piped| piped.is_bulk)
    }

    fn set_bulk(&mut self, is_bulk: bool) {
        let protocol = self.protocol.as_deref_mut().map(|protocol| protocol as &mut dyn Any);
        if let Some(piped) = protocol.and_then(|protocol| protocol.downcast_mut::<Piped>()) {
            piped.is_bulk = is_bulk;
        }
    }

    // ---- the connection that is written ---------------------------------------------------------------------------

    /// Whether it takes input of another connection now. Only while nothing waits, so that memory stays bounded.
    pub fn takes_parcels(&self) -> bool {
        let is_free = self.output.as_ref().is_none_or(|output| output.is_empty());
        is_free && self.phase == Phase::Open && self.output_end == OutputEnd::Open && !self.cannot_write()
    }

    /// The place for a parcel, with the arena free from `at` on.
    pub fn place_at(&self, at: usize) -> Place {
        // Below the high-water mark its handler is not told that output waits.
        Place { at, most: self.options.high_water.max(FEW), may_splice: self.transport.is_plain() }
    }

    /// Queues the bytes of a pipe.
    pub fn push_piped(&mut self, pipe: Pipe, pool: &mut Pool) {
        self.output.get_or_insert_with(|| pool.take()).push_piped(pipe);
    }

    /// The connections that end with this one: that which its input goes to, and that which its output comes from.
    pub fn partners(&self) -> [Option<Token>; 2] {
        let to = self.destination();
        [to, self.feeder.filter(|feeder| Some(*feeder) != to)]
    }
}
