//! A connection that moves to another poller of its reactor.
//!
//! | step | poller | meaning |
//! |---|---|---|
//! | ask | the old one | chooses a connection, and asks the other poller for a slot |
//! | welcome | the new one | keeps a slot, so that the connection has its token before it comes |
//! | depart | the old one | a turn of the batch: the dispatch packs its objects, the socket leaves the poll |
//! | come | the new one | the poll watches the socket; the dispatch unpacks its objects before any later message is obeyed |
//!
//! Unread input, queued output and the protocol come along. The rule to know: a connection that belongs to its poller in
//! any other way stays, see [`State::may_move`].

use std::sync::Arc;

use super::Poller;
use super::call::Call;
use super::deadlines::drop_guard;
use super::queues::Turn;
use super::state::{Deadline, Source, State};
use super::ticket::{Expected, Ticket};
use super::token::mio_token;
use crate::connection::Connection;
use crate::error::{Foreign, Reason};
use crate::protocols::Protocol;
use crate::shared::handle::{Message, Move, PollerHandle};
use crate::shared::remote::Remote;
use crate::slots::Token;
use crate::timer::TimerId;

/// A connection on its way, with the objects that the dispatch keeps for it.
struct Traveller {
    connection: Connection,
    luggage: Foreign,
}

impl State {
    /// Asks another poller to take a connection; returns whether it did. The connection may stay all the same.
    pub(super) fn ask(&mut self, token: Token, to: &Arc<PollerHandle>) -> bool {
        let Some(remote) = self.may_move(token) else { return false };
        let ask = Move::Ask { remote, from: self.handle.clone() };
        let is_asked = to.post(Message::Move(ask)).is_ok();
        self.balance.asked += usize::from(is_asked);
        is_asked
    }

    /// The connection, if it may move now. A timer of its handler keeps it.
    fn may_move(&mut self, token: Token) -> Option<Arc<Remote>> {
        let moves = self.with(token, |connection, supplies| {
            let is_upkeep = |id| matches!(supplies.timers.owner(id), Some(Deadline::Upkeep(_)));
            connection.forget_timers(|id| supplies.timers.is_set(id));
            connection.may_move(is_upkeep).then(|| connection.remote.clone())
        });
        moves.flatten().filter(|_| self.stopping.is_none())
    }

    pub(super) fn obey_move(&mut self, step: Move) {
        match step {
            Move::Ask { remote, from } => self.welcome_from(remote, &from),
            Move::Refuse => self.balance.asked -= 1,
            Move::Welcome { remote, to, slot } => {
                self.balance.asked -= 1;
                let token = remote.token();
                let is_here = remote.location.is_on(&self.handle);
                let ticket = Box::new(Ticket { token, to, slot, has_waited: false });
                if is_here { self.queues.turns.push_back(Turn::Departure(ticket)) } else { ticket.decline() }
            }
            // Its turn is that of a task: the messages behind it wait until the dispatch has its objects.
            come @ Move::Come { .. } => self.queues.posted.push_back(Message::Move(come)),
            Move::Stay { slot } => drop(self.sources.remove(slot)),
        }
    }

    /// Keeps a slot for a connection of another poller.
    fn welcome_from(&mut self, remote: Arc<Remote>, from: &Arc<PollerHandle>) {
        if self.stopping.is_some() {
            return drop(from.post(Message::Move(Move::Refuse)));
        }
        let expected = Expected { remote: remote.clone(), from: from.clone() };
        let slot = self.sources.insert_with(|_| Source::Expected(expected));
        let welcome = Move::Welcome { remote, to: self.handle.clone(), slot };
        if from.post(Message::Move(welcome)).is_err() {
            drop(self.sources.remove(slot));
        }
    }

    /// The call for a connection that may go. Its callback for the input of this batch comes first.
    pub(super) fn call_departure(&mut self, mut ticket: Box<Ticket>) -> Option<Call> {
        let is_queued = self.connection(ticket.token).is_some_and(|connection| connection.places.queued);
        if self.may_move(ticket.token).is_none() || (is_queued && ticket.has_waited) {
            ticket.decline();
            return None;
        }
        if is_queued {
            ticket.has_waited = true;
            self.queues.turns.push_back(Turn::Departure(ticket));
            return None;
        }
        Some(Call::Departure(ticket))
    }

    fn depart(&mut self, ticket: &Ticket, luggage: Foreign) -> Result<Vec<TimerId>, Foreign> {
        let (mut luggage, mut timers) = (Some(luggage), Vec::new());
        if let Some(remote) = self.may_move(ticket.token) {
            let now = self.batch.now;
            remote.depart(&ticket.to, ticket.slot, now, || timers = self.send_off(ticket, &mut luggage));
        }
        match luggage {
            Some(luggage) => {
                ticket.decline();
                Err(luggage)
            }
            None => Ok(self.cancel_all(timers)),
        }
    }

    /// Takes the connection out, and sends it to its new poller. Returns its timers.
    fn send_off(&mut self, ticket: &Ticket, luggage: &mut Option<Foreign>) -> Vec<TimerId> {
        self.with(ticket.token, |connection, supplies| {
            connection.settle(&supplies.arena);
            drop_guard(connection, &mut supplies.timers);
        });
        let Some(Source::Connection(mut connection)) = self.sources.remove(ticket.token) else { return Vec::new() };
        let timers = connection.take_timers();
        connection.leave_poller(&ticket.to);
        connection.transport.deregister(&self.registry);
        self.handle.counters.moved_away.add(1);
        if let Some(luggage) = luggage.take() {
            let come = Move::Come { slot: ticket.slot, traveller: Box::new(Traveller { connection, luggage }) };
            if let Err(Message::Move(Move::Come { traveller, .. })) = ticket.to.post(Message::Move(come)) {
                // A poller with a slot that is kept ends only by a failure, as all its connections do.
                self.queues.push_task(traveller);
            }
        }
        timers
    }

    /// The call for a connection that comes. It has its turn, so that no callback comes before the dispatch has its objects.
    /// The messages behind it up to the next task are obeyed at once, before a callback can write.
    pub(super) fn call_arrived(&mut self, slot: Token, traveller: Foreign) -> Option<Call> {
        let Traveller { mut connection, luggage } = *traveller.downcast::<Traveller>().ok()?;
        let writes = connection.watches_writes();
        let watched = connection.transport.register(&self.registry, mio_token(slot), writes);
        connection.places.queued = true;
        connection.remote.location.arrive();
        self.queues.may_deliver |= connection.protocol().is_some_and(Protocol::delivers);
        *self.sources.get_mut(slot)? = Source::Connection(connection);
        self.handle.counters.moved_here.add(1);
        self.guard(slot);
        if let Err(error) = watched {
            self.end(slot, Reason::Io(error));
        }
        self.obey_first();
        self.stop_traveller(slot);
        self.queues.current = Some(slot);
        Some(Call::Arrived(slot, luggage))
    }

    /// Ends a connection that came while the others of its kind are being ended.
    fn stop_traveller(&mut self, slot: Token) {
        let is_stopping = self.connection(slot).and_then(Connection::permit).is_some_and(|permit| permit.is_stopping());
        match self.stopping {
            Some(deadline) if deadline <= self.batch.now => self.abort_source(slot),
            None if !is_stopping => {}
            _ => self.stop_source(slot, false),
        }
    }
}

impl Poller {
    /// Asks poller `index` of the reactor to take a connection; returns whether it did. The connection goes soon, behind the
    /// callback of its input, or stays if it must.
    pub fn move_to(&self, token: Token, index: usize) -> bool {
        let other = self.handle.siblings().into_iter().nth(index).filter(|other| !Arc::ptr_eq(other, &self.handle));
        other.is_some_and(|other| self.state.borrow_mut().ask(token, &other))
    }

    /// Has a connection stay on this poller for good.
    pub fn bind(&self, token: Token) {
        self.state.borrow_mut().with(token, |connection, _| connection.bind());
    }

    /// Sends a connection to its new poller, with the objects of the dispatch. Returns its timers, which were cancelled; as
    /// an error the objects, if the connection stays.
    pub fn depart(&self, ticket: &Ticket, luggage: Foreign) -> Result<Vec<TimerId>, Foreign> {
        self.state.borrow_mut().depart(ticket, luggage)
    }

    /// Has the connection with the current callback stay on this poller for good, because it knows the poller.
    pub fn bind_current(&self) {
        let source = self.state.borrow().batch.source();
        if let Some(token) = source {
            self.bind(token);
        }
    }
}
