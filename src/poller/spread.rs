//! The choice of connections that move to another poller while they are served.
//!
//! A poller looks at its busy connections from time to time. It moves one for two reasons: this poller works much more than
//! another one, or the packets of the connection arrive on the side of another poller. Both must last. A connection that moved
//! stays for a while, so that none goes back and forth.

use std::sync::Arc;

use super::balance::Look;
use super::side::{Sighting, poller_of, side_of};
use super::state::{Source, State};
use crate::connection::Connection;
use crate::shared::handle::PollerHandle;
use crate::shared::placement::{is_fair, shift};
use crate::slots::Token;
use crate::system::steering;

/// The time for which a connection stays where it moved, in nanoseconds.
const STAY: u64 = 1_000_000_000;

/// The looks in a row at which a poller has to work much more than another one. The scheduler moves the threads of clients and
/// pollers all the time, and a single look says little.
const LASTING: u8 = 10;

/// The looks by which those that find the packets of a connection apart from the others outnumber the rest, before it moves. A
/// look that meets a client's thread on its way to another CPU finds its connections on both.
const ASTRAY: u8 = 6;

/// The most connections that one look asks for their CPU, and the most that it moves: so many, or a part of the busy ones.
const MOST_ASKED: usize = 1024;
const MOST_MOVES: usize = 16;
const MOST_OF_BUSY: usize = 8;

/// The time for which a connection is new, in nanoseconds.
const NEW: u64 = 100_000_000;

/// The most connections that a look moves, of so many busy ones.
fn most_moves(busy: usize) -> usize {
    MOST_MOVES.max(busy / MOST_OF_BUSY)
}

/// Whether a connection was opened a short time before `now`.
pub(super) fn is_new(connection: &Connection, now: u64) -> bool {
    now < connection.guards.opened() + NEW
}

impl State {
    /// Looks at the busy connections, and has some of them move.
    #[cold]
    pub(super) fn spread(&mut self) {
        if self.balance.is_early(self.batch.now) {
            self.settle_new();
        }
        if self.balance.is_due(self.batch.now) {
            self.look_at_all();
        }
    }

    /// Moves new connections to the pollers on whose side their packets arrive by now, while all stay evenly shared. Clients
    /// that connect many times at once begin on one CPU, and go on from several.
    fn settle_new(&mut self) {
        let here = self.handle.index;
        let active = self.balance.begin_early();
        if self.stopping.is_some() || !active.iter().any(|token| self.has_new(*token)) {
            return;
        }
        self.balance.hasten(self.batch.now);
        if self.balance.asked > 0 {
            return;
        }
        let pollers = self.handle.siblings();
        let sightings = self.sightings(&active);
        let sides = self.exchange_sides(&pollers, side_of(&sightings));
        let mut all: Vec<_> = pollers.iter().map(|poller| poller.load.connections()).collect();
        for (token, cpu) in sightings {
            let Some(wanted) = poller_of(cpu, &sides, here) else { continue };
            if self.has_new(token) && is_fair(&all, wanted) && self.ask(token, &pollers[wanted]) {
                shift(&mut all, here, wanted);
            }
        }
    }

    /// Whether this is a connection that was opened a short time ago.
    fn has_new(&self, token: Token) -> bool {
        self.connection(token).is_some_and(|connection| is_new(connection, self.batch.now))
    }

    fn look_at_all(&mut self) {
        let active = self.balance.take_active();
        for token in &active {
            if let Some(Source::Connection(connection)) = self.sources.get_mut(*token) {
                connection.places.active = false;
            }
        }
        let now = self.batch.now;
        let Some(look) = self.balance.look(now, &self.handle, active, self.home.as_ref()) else { return };
        if let Some(home) = &mut self.home {
            home.judge(look.is_crowded(self.handle.index), now);
        }
        if self.stopping.is_none()
            // A poller that stands still would get all of them at once.
            && self.balance.asked == 0
            && !self.share_work(&look)
        {
            self.follow_packets(&look);
        }
    }

    /// Moves busy connections to the poller that works least, if this one works much more, while the busy ones stay evenly
    /// shared. Returns whether it works much more.
    fn share_work(&mut self, look: &Look) -> bool {
        let (here, least) = (self.handle.index, look.least());
        let surplus = look.surplus(here, least);
        // One that does nothing is clearly free; one that does little may lack a CPU.
        let lasting = if look.work[least] == 0 { 2 } else { LASTING };
        if self.balance.is_lasting(surplus > 0, lasting) {
            let (mut busy, mut left) = (look.busy(), surplus.min(most_moves(look.active.len())));
            for token in &look.active {
                if left > 0 && is_fair(&busy, least) && self.send_away(*token, &look.pollers[least]) {
                    shift(&mut busy, here, least);
                    left -= 1;
                }
            }
            // The next figures are those of before the moves.
            self.balance.is_lasting(false, lasting);
        }
        surplus > 0
    }

    /// Moves connections to the pollers on whose side their packets arrive, while both all connections and the busy ones stay
    /// evenly shared.
    fn follow_packets(&mut self, look: &Look) {
        let sightings = self.sightings(&look.active);
        let side = self.balance.side.judge(side_of(&sightings), self.handle.load.cpu());
        let sides = self.exchange_sides(&look.pollers, side);
        let mut all: Vec<_> = look.pollers.iter().map(|poller| poller.load.connections()).collect();
        let mut busy = look.busy();
        let (here, mut left) = (self.handle.index, most_moves(look.active.len()));
        for (token, cpu) in sightings {
            let strays = self.strays(token, cpu != sides[here]) && left > 0;
            let Some(wanted) = poller_of(cpu, &sides, here).filter(|_| strays) else { continue };
            if is_fair(&all, wanted) && is_fair(&busy, wanted) && self.send_away(token, &look.pollers[wanted]) {
                left -= 1;
                shift(&mut all, here, wanted);
                shift(&mut busy, here, wanted);
            }
        }
    }

    /// Notes whether the packets of a connection arrive apart from the others of its poller; returns whether that lasts.
    fn strays(&mut self, token: Token, is_astray: bool) -> bool {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return false };
        let astray = &mut connection.places.astray;
        *astray = if is_astray { astray.saturating_add(1) } else { astray.saturating_sub(1) };
        *astray >= ASTRAY
    }

    /// The CPUs on which the packets of connections arrive.
    fn sightings(&self, active: &[Token]) -> Vec<Sighting> {
        let cpu = |token: Token| self.connection(token)?.transport.socket().and_then(steering::incoming_cpu);
        active.iter().take(MOST_ASKED).filter_map(|token| Some((*token, cpu(*token)?))).collect()
    }

    /// Tells the other pollers the side of this one; returns the sides of all.
    fn exchange_sides(&self, pollers: &[Arc<PollerHandle>], side: Option<usize>) -> Vec<usize> {
        let load = &self.handle.load;
        load.note_side(side.unwrap_or_else(|| load.cpu()));
        pollers.iter().map(|poller| poller.load.side()).collect()
    }

    /// Asks for the move of a connection, unless it moved a short time ago. A move of a new connection is an early guess, and does
    /// not count.
    fn send_away(&mut self, token: Token, to: &Arc<PollerHandle>) -> bool {
        let now = self.batch.now;
        let is_settled = self.connection(token).is_some_and(|connection| {
            let moved_at = connection.remote.location.moved_at();
            moved_at.is_none_or(|moved_at| now >= moved_at + STAY || is_new(connection, moved_at))
        });
        is_settled && self.ask(token, to)
    }
}
