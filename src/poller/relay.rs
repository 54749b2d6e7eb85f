//! Connections that hand their input to others, `a.pipe_to(b)`, in the read phase and without the dispatch.
//!
//! A connection is read only while no output of the other one waits, so at most one parcel is under way. The flush that
//! sends the last of it lets the next one in.

use super::state::{Source, State};
use crate::connection::Connection;
use crate::connection::phase::Phase;
use crate::connection::piping::Parcel;
use crate::data::Data;
use crate::error::Error;
use crate::slots::Token;

impl State {
    /// Has all further input of a connection go to another one.
    pub(super) fn pipe_to(&mut self, token: Token, to: Token) -> Result<(), Error> {
        self.check_pipe(token, to)?;
        // Each knows the token of the other, so both stay on this poller.
        self.with(to, |other, _| {
            other.feeder = Some(token);
            other.bind();
        });
        self.with(token, |connection, _| {
            connection.begin_relay(to);
            connection.bind();
        });
        Ok(())
    }

    fn check_pipe(&self, token: Token, to: Token) -> Result<(), Error> {
        let refuse = |why: &str| Err(Error::state(why.into()));
        if token == to {
            return Err(Error::argument("other: a connection cannot be piped to itself".into()));
        }
        let is_open = |connection: &&Connection| connection.phase() == Phase::Open;
        let connection = self.open(token).filter(is_open).ok_or_else(Error::closed)?;
        let other = self.open(to).filter(is_open).ok_or_else(Error::closed)?;
        if connection.is_piped() {
            return refuse("the input of this connection goes to another one already");
        }
        if connection.protocol().is_some() {
            return refuse("the input of this connection is read by its protocol");
        }
        if connection.transport.is_upgrading() {
            return refuse("a handshake of TLS is not over; call pipe_to() in `then` of start_tls()");
        }
        if other.feeder.is_some() {
            return refuse("other: another connection is piped to it already");
        }
        let is_written = other.protocol().is_some_and(|protocol| !protocol.allows_bytes());
        if is_written && !other.is_piped() {
            return refuse("other: its output is written by its protocol");
        }
        if other.takes_output() { Ok(()) } else { refuse("other: its write side is shut down") }
    }

    /// Gives a piped connection its turn: passes input on, and sends it at once. The arena is free from `at` on. Returns
    /// the number of bytes that were read.
    pub(super) fn pass_on(&mut self, token: Token, at: usize) -> usize {
        let to = self.connection(token).and_then(Connection::destination);
        let place = to.and_then(|to| self.connection(to)).filter(|other| other.takes_parcels());
        let place = place.map(|other| other.place_at(at));
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return 0 };
        connection.places.listed = false;
        let (Some(to), Some(place)) = (to, place) else {
            connection.hold_back();
            return 0;
        };
        if !connection.wants_read() {
            return 0;
        }
        let supplies = &mut self.supplies;
        let (count, parcel) = connection.take_parcel(&mut supplies.pool, &mut supplies.arena, place, self.batch.now);
        let is_end = connection.take_end();
        self.deliver_parcel(to, parcel, is_end);
        let is_free = self.connection(to).is_some_and(Connection::takes_parcels);
        self.with(token, |connection, _| {
            if !is_free {
                connection.hold_back();
            }
        });
        count
    }

    fn deliver_parcel(&mut self, to: Token, parcel: Option<Parcel>, is_end: bool) {
        if parcel.is_none() && !is_end {
            return;
        }
        if let Some(Source::Connection(other)) = self.sources.get_mut(to) {
            let pool = &mut self.supplies.pool;
            match parcel {
                Some(Parcel::Kernel(pipe)) => other.push_piped(pipe, pool),
                Some(Parcel::Memory(input)) => other.push(Data::Bytes(input.bytes(&self.supplies.arena)), pool),
                None => {}
            }
            if is_end {
                other.shut_write();
            }
        }
        self.flush_one(to);
    }

    /// Lets input flow on, because the output of the connection that it goes to was sent.
    #[cold]
    pub(super) fn feed(&mut self, feeder: Token) {
        self.with(feeder, |connection, _| connection.flow_on());
    }

    /// Passes on input that a connection still holds when it ends.
    pub(super) fn pass_last(&mut self, token: Token) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return };
        let Some(to) = connection.destination() else { return };
        let input = std::mem::take(&mut connection.input);
        self.with_open(to, |other, supplies| {
            if other.takes_output() && !other.cannot_write() && !input.is_empty() {
                other.push(Data::Bytes(input.bytes(&supplies.arena)), &mut supplies.pool);
            }
        });
    }
}
