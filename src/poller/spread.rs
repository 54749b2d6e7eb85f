//! The choice of connections that move to another poller while they are served.
//!
//! A poller looks at its busy connections from time to time. It moves one for two reasons: this poller works much more than
//! another one, or the packets of the connection arrive on the CPU of another poller. Both must last. A connection that moved
//! stays for a while, so that none goes to and fro.

use std::sync::Arc;

use super::balance::Look;
use super::state::{Source, State};
use crate::connection::Connection;
use crate::shared::handle::PollerHandle;
use crate::shared::placement::is_fair;
use crate::slots::Token;
use crate::system::steering;

/// The time for which a connection stays where it moved, in nanoseconds.
const STAY: u64 = 1_000_000_000;

/// The looks in a row at which a reason has to show. The scheduler moves the threads of clients and pollers all the time, and
/// a single look says little.
const LASTING: u8 = 10;

/// The most connections that one look moves, and the most that it asks for their CPU.
const MOST_MOVES: usize = 16;
const MOST_ASKED: usize = 256;

/// The time for which a connection is new, in nanoseconds.
const NEW: u64 = 100_000_000;

/// Whether a connection was opened a short time ago.
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

    /// Moves new connections to the pollers on whose CPUs their packets arrive by now, while all stay evenly shared. Clients
    /// that connect many times at once begin on one CPU, and go on from several.
    fn settle_new(&mut self) {
        let (now, here) = (self.batch.now, self.handle.index);
        let active = self.balance.begin_early();
        let is_of_new = |token: &Token| self.connection(*token).is_some_and(|connection| is_new(connection, now));
        let new: Vec<_> = active.into_iter().filter(is_of_new).take(MOST_ASKED).collect();
        if new.is_empty() || self.stopping.is_some() {
            return;
        }
        self.balance.hasten(now);
        if self.balance.asked > 0 {
            return;
        }
        let pollers = self.handle.siblings();
        let cpus: Vec<_> = pollers.iter().map(|poller| poller.load.cpu()).collect();
        let mut all: Vec<_> = pollers.iter().map(|poller| poller.load.connections()).collect();
        for token in new {
            let Some(wanted) = self.poller_of_packets(token, &cpus) else { continue };
            if is_fair(&all, wanted) && self.send_away(token, &pollers[wanted]) {
                (all[wanted], all[here]) = (all[wanted] + 1, all[here].saturating_sub(1));
            }
        }
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
            let (mut busy, mut left) = (look.busy(), surplus.min(MOST_MOVES));
            for token in &look.active {
                if left > 0 && is_fair(&busy, least) && self.send_away(*token, &look.pollers[least]) {
                    (busy[least], busy[here], left) = (busy[least] + 1, busy[here].saturating_sub(1), left - 1);
                }
            }
            // The next figures are those of before the moves.
            self.balance.is_lasting(false, lasting);
        }
        surplus > 0
    }

    /// Moves connections to the pollers on whose CPUs their packets arrive, while both all connections and the busy ones
    /// stay evenly shared.
    fn follow_packets(&mut self, look: &Look) {
        let cpus: Vec<_> = look.pollers.iter().map(|poller| poller.load.cpu()).collect();
        let mut all: Vec<_> = look.pollers.iter().map(|poller| poller.load.connections()).collect();
        let mut busy = look.busy();
        let (here, mut left) = (self.handle.index, MOST_MOVES);
        for token in look.active.iter().take(MOST_ASKED) {
            let Some(wanted) = self.strays_to(*token, &cpus).filter(|_| left > 0) else { continue };
            if is_fair(&all, wanted) && is_fair(&busy, wanted) && self.send_away(*token, &look.pollers[wanted]) {
                left -= 1;
                for counts in [&mut all, &mut busy] {
                    counts[wanted] += 1;
                    counts[here] = counts[here].saturating_sub(1);
                }
            }
        }
    }

    /// The poller on whose CPU the packets of a connection arrive, if that is another one, and lasts. At first, the one that
    /// had no room when the connection was accepted: others have come meanwhile, so there may be room now.
    fn strays_to(&mut self, token: Token, cpus: &[usize]) -> Option<usize> {
        let now = self.batch.now;
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return None };
        let is_new = now < connection.guards.opened() + STAY;
        if let Some(place) = connection.place()
            && let Some(wish) = place.wish()
        {
            if is_new {
                return Some(wish);
            }
            place.forget_wish();
        }
        let wanted = self.poller_of_packets(token, cpus);
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return None };
        let astray = &mut connection.places.astray;
        *astray = if wanted.is_some() { astray.saturating_add(1) } else { 0 };
        wanted.filter(|_| *astray >= LASTING)
    }

    /// The poller on whose CPU the packets of a connection arrive, if that is another one.
    fn poller_of_packets(&self, token: Token, cpus: &[usize]) -> Option<usize> {
        let cpu = self.connection(token)?.transport.socket().and_then(steering::incoming_cpu)?;
        if cpus[self.handle.index] == cpu { None } else { cpus.iter().position(|other| *other == cpu) }
    }

    /// Asks for the move of a connection, unless it moved a short time ago.
    fn send_away(&mut self, token: Token, to: &Arc<PollerHandle>) -> bool {
        let now = self.batch.now;
        let is_settled = self.connection(token).is_some_and(|connection| {
            connection.remote.location.moved_at().is_none_or(|moved_at| now >= moved_at + STAY)
        });
        is_settled && self.ask(token, to)
    }
}
