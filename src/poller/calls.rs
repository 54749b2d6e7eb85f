//! The dispatch phase: the order of callbacks. Every rule of that order is here.
//!
//! This module only decides; the dispatch calls. It reads the state anew for each decision, because any callback may
//! have closed, paused or emptied anything.

use std::io;
use std::sync::Arc;

use super::batch::First;
use super::call::Call;
use super::deadlines::{drop_guard, watch_part};
use super::queues::{Ending, Owed, Turn};
use super::state::{Source, State};
use crate::connection::due::Due;
use crate::connection::phase::Event;
use crate::error::Reason;
use crate::shared::acceptor::Acceptor;
use crate::shared::handle::{Message, Move};
use crate::slots::Token;
use crate::timer::{Held, TimerId};

impl State {
    pub(super) fn next_call(&mut self, over: bool) -> Option<Call> {
        if let Some(token) = self.queues.current.take() {
            if over {
                self.postpone(token);
                return None;
            }
            if let Some(call) = self.call_connection(token) {
                return Some(call);
            }
            self.leave(token);
        }
        // Most batches end here.
        if over || !self.has_turns() {
            return None;
        }
        match self.batch.first {
            First::Turns => self.next_turn().or_else(|| self.next_timer()).or_else(|| self.next_posted()),
            First::Timers => self.next_timer().or_else(|| self.next_turn()).or_else(|| self.next_posted()),
            First::Posted => self.next_posted().or_else(|| self.next_turn()).or_else(|| self.next_timer()),
        }
    }

    /// The callback for the next part of the protocol, if that is due on the connection whose turn it is.
    pub(super) fn next_news(&mut self, token: Token) -> Option<&'static &'static str> {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return None };
        if self.queues.current == Some(token) && connection.take_news() {
            return connection.protocol().map(|protocol| protocol.callback());
        }
        None
    }

    fn next_turn(&mut self) -> Option<Call> {
        while !self.batch.is_full() {
            if let Some((token, mark)) = self.queues.passed.pop_front() {
                return Some(Call::Passed(token, mark));
            }
            let call = match self.queues.turns.pop_front()? {
                Turn::Connection(token) => {
                    let call = self.call_connection(token);
                    if call.is_none() {
                        self.leave(token);
                    }
                    call
                }
                Turn::Departure(ticket) => self.call_departure(ticket),
                Turn::Accepted(token, acceptor) => self.call_accept(token, acceptor),
                Turn::Descriptor(token) => self.call_descriptor(token),
                Turn::Datagrams(token) => self.call_datagrams(token),
                Turn::Removed(token, reason) => {
                    self.sources.remove(token);
                    Some(Call::DescriptorRemoved(token, reason))
                }
                Turn::ConnectFailed(token, error) => {
                    self.sources.remove(token);
                    Some(Call::ConnectFailed(token, error))
                }
                Turn::ProxyRefused(peer, text) => Some(Call::ProxyRefused(peer, text)),
                #[cfg(feature = "tls")]
                Turn::HandshakeFailed(peer, text) => Some(Call::HandshakeFailed(peer, text)),
                Turn::AcceptFailed(acceptor, error) => Some(Call::AcceptFailed(acceptor, error)),
                Turn::Task(task) => Some(Call::Task(task)),
                Turn::Slow(report) => Some(Call::Slow(report)),
                Turn::Timer(held, owed) => self.call_held(held, owed),
                Turn::Signal => Some(Call::Signal),
            };
            if call.is_some() {
                return call;
            }
            // Turns that call nothing take time too.
            self.batch.calls += 1;
        }
        None
    }

    /// The next posted task. Obeys the messages before it.
    fn next_posted(&mut self) -> Option<Call> {
        while !self.batch.is_full() {
            let message = self.queues.posted.pop_front()?;
            if self.queues.posted.is_empty() {
                self.queues.shrink_posted();
            }
            match message {
                Message::Task(task) => return Some(Call::Task(task)),
                Message::TaskFor(remote, task) => {
                    remote.location.taken();
                    return Some(Call::Task(task));
                }
                Message::Move(Move::Come { slot, traveller }) => {
                    if let Some(call) = self.call_arrived(slot, traveller) {
                        return Some(call);
                    }
                }
                // It is cancelled already: only its callback is left.
                Message::CancelTimer(id) => return Some(Call::TimerCancelled(id)),
                message => self.obey(message),
            }
            self.batch.calls += 1;
        }
        None
    }

    /// The callback that is due on a connection. Reads the state anew, because the last callback may have changed
    /// anything.
    fn call_connection(&mut self, token: Token) -> Option<Call> {
        // The connection has its turn, so it enters no queue here; `leave` lists it.
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return None };
        if let Some(reason) = connection.settle_callback() {
            return self.call_ended(token, *reason);
        }
        let due = connection.take_due()?;
        self.queues.current = Some(token);
        Some(match due {
            Due::Open => return self.call_open(token),
            Due::Read => match connection.protocol() {
                None => Call::Read(token),
                Some(protocol) => Call::News(token, protocol.callback()),
            },
            Due::Drain => Call::Drain(token),
            Due::Stopping => Call::Stopping(token),
            Due::Eof => Call::Eof(token),
            Due::Drained => Call::Drained(token),
            Due::Cancel => Call::Cancel(token),
            Due::Desertion => {
                return self.call_ended(token, Reason::Io(io::Error::from_raw_os_error(libc::ECONNABORTED)));
            }
            Due::Close => return self.call_close(token),
        })
    }

    #[cold]
    fn call_ended(&mut self, token: Token, reason: Reason) -> Option<Call> {
        self.end_by_input(token, reason);
        self.call_connection(token)
    }

    /// Ends a connection because its handler left full input unread, or because the input breaks a rule of the
    /// protocol.
    fn end_by_input(&mut self, token: Token, reason: Reason) {
        match reason {
            Reason::InputOverflow { .. } | Reason::Io(_) => self.end(token, reason),
            reason => self.close_because(token, reason),
        }
    }

    fn call_accept(&mut self, token: Token, acceptor: Arc<Acceptor>) -> Option<Call> {
        let remote = self.with_open(token, |connection, _| {
            connection.step(Event::Open);
            connection.places.queued = true;
            connection.remote.clone()
        });
        let Some(remote) = remote else {
            self.queues.release(acceptor);
            return None;
        };
        self.queues.current = Some(token);
        Some(Call::Accept(remote, acceptor))
    }

    /// Returns `on_open`. An end that was asked for before takes place now, so it follows right after `on_open`.
    fn call_open(&mut self, token: Token) -> Option<Call> {
        let (remote, early_end) =
            self.with(token, |connection, _| (connection.remote.clone(), connection.take_early_end()))?;
        match early_end {
            None => {}
            Some(Reason::Orderly) => self.close(token),
            Some(reason) => self.end(token, reason),
        }
        Some(Call::Open(remote))
    }

    fn call_close(&mut self, token: Token) -> Option<Call> {
        if let Some(mark) = self.queues.take_passed(token) {
            // `on_close` is still due.
            return Some(Call::Passed(token, mark));
        }
        self.queues.current = None;
        if self.batch.reports_slow()
            && let Some(peer) = self.connection(token).map(|connection| connection.remote.peer())
        {
            self.batch.keep_closed(token, peer);
        }
        self.pass_last(token);
        let (reason, untold, protocol, timers, in_order, is_over, partners) =
            self.with(token, |connection, supplies| {
                let (reason, untold) = connection.take_reason(None);
                let in_order = reason.is_in_order() && !connection.is_cut();
                connection.remote.mark_closed();
                connection.remote.leave_all();
                drop_guard(connection, &mut supplies.timers);
                connection.step(Event::Tell);
                let partners = connection.partners();
                let protocol = connection.take_protocol().filter(|_| !connection.is_cut());
                let timers = connection.take_timers();
                // A reset might overtake an alert.
                let is_over = if in_order { connection.has_eof() } else { connection.transport.has_said_why() };
                // A cut stream must not look complete on the other side.
                let is_complete = matches!(reason, Reason::Orderly) && !connection.is_cut();
                let partners = partners.map(|partner| partner.map(|partner| Ending::Partner(partner, is_complete)));
                (reason, untold, protocol, timers, in_order, is_over, partners)
            })?;
        self.queues.endings.extend(partners.into_iter().flatten());
        match (in_order, is_over) {
            (false, false) => self.reset(token),
            (_, true) => self.remove(token),
            (true, false) => self.queues.endings.push(Ending::Linger(token)),
        }
        self.drop_reason(untold);
        let timers = self.cancel_all(timers);
        let counters = &self.handle.counters;
        counters.closed.note(&reason);
        if self.stopping.is_some() {
            (if in_order { &counters.stopped_in_order } else { &counters.stopped_aborted }).add(1);
        }
        Some(Call::Close { token, reason, protocol, timers })
    }

    pub(super) fn cancel_all(&mut self, mut timers: Vec<TimerId>) -> Vec<TimerId> {
        timers.retain(|id| self.supplies.timers.cancel(*id));
        timers
    }

    /// Ends the connection's turn in this batch: moves unread input out of the arena. No callback is due, otherwise the
    /// turn would continue. But the socket may have become readable while the connection could not read it.
    #[inline]
    pub(super) fn leave(&mut self, token: Token) {
        if let Some(Source::Connection(connection)) = self.sources.get_mut(token) {
            connection.places.queued = false;
            let is_settled = connection.settle(&self.supplies.arena);
            watch_part(connection, &mut self.supplies.timers, token, self.batch.now);
            match is_settled {
                true => self.queues.list(token, connection),
                false => self.queues.place(token, connection),
            }
        }
    }

    /// Moves the input of sources that still wait for their turn out of the poller's buffers, before those are used again.
    pub(super) fn settle(&mut self) {
        if self.queues.turns.is_empty() {
            // Each source that was read has had its turn.
            self.queues.filled.clear();
        }
        let mut filled = std::mem::take(&mut self.queues.filled);
        for token in filled.drain(..) {
            match (self.sources.get_mut(token), &self.landing) {
                (Some(Source::Connection(connection)), _) => match connection.settle(&self.supplies.arena) {
                    true => {}
                    false => self.queues.place(token, connection),
                },
                (Some(Source::Datagrams(socket)), Some(landing)) => socket.settle(landing),
                _ => {}
            }
        }
        self.queues.filled = filled;
        if let Some(landing) = &mut self.landing {
            landing.clear();
        }
    }

    /// Puts a connection behind the others, because the batch has ended in the middle of its turn.
    fn postpone(&mut self, token: Token) {
        if let Some(Source::Connection(connection)) = self.sources.get_mut(token)
            && let Some(reason) = connection.settle_callback()
        {
            self.end_by_input(token, *reason);
        }
        self.queues.turns.push_back(Turn::Connection(token));
    }

    fn next_timer(&mut self) -> Option<Call> {
        if self.has_ended {
            return None;
        }
        let now = self.batch.now;
        while !self.batch.is_full() {
            let owner = self.supplies.timers.first_due(now)?.of_a_callback().flatten();
            if let Some(owner) = owner.filter(|owner| self.is_held(*owner)) {
                let held = self.supplies.timers.hold_due_if(now, |_| true)?;
                self.hold_timer(owner, held);
            } else if let Some(owed) = owner.and_then(|owner| self.owed(owner)) {
                let held = self.supplies.timers.hold_due_if(now, |_| true)?;
                self.queues.turns.push_back(Turn::Timer(held, owed));
            } else {
                let due = self.supplies.timers.pop_due(now)?;
                match due.owner.of_a_callback() {
                    Some(owner) => return Some(Call::Timer { id: due.id, owner, again: due.again }),
                    None => self.obey_deadline(due.owner),
                }
            }
            self.batch.calls += 1;
        }
        None
    }

    /// Fires a timer that was held until its connection's handler has the input that arrived before.
    fn call_held(&mut self, held: Held, owed: Owed) -> Option<Call> {
        let owner = self.supplies.timers.owner(held.id)?.of_a_callback().flatten();
        if let Some(owner) = owner.filter(|owner| self.is_held(*owner)) {
            self.hold_timer(owner, held);
            return None;
        }
        if owner.is_some_and(|owner| self.still_owes(owner, owed)) {
            self.queues.turns.push_back(Turn::Timer(held, owed));
            return None;
        }
        let due = self.supplies.timers.fire(held, self.batch.now)?;
        Some(Call::Timer { id: due.id, owner, again: due.again })
    }

    // ---- input before deadlines -----------------------------------------------------------------------------------

    /// The input of a connection that its handler has to get before a deadline is judged or a timer fires; `None` if
    /// there is none.
    pub(super) fn owed(&self, token: Token) -> Option<Owed> {
        let connection = self.connection(token).filter(|connection| connection.owes_input())?;
        // Input in the socket, or the end of the input, counts as a byte: the next read takes what arrived before now.
        let more = connection.may_hold_input() || connection.has_eof();
        Some(Owed { until: connection.guards.total_received() + u64::from(more) })
    }

    /// Whether the handler still lacks some of that input.
    pub(super) fn still_owes(&self, token: Token, owed: Owed) -> bool {
        self.connection(token).is_some_and(|connection| {
            let taken = connection.guards.total_received() - connection.input.len() as u64;
            taken < owed.until && connection.owes_input()
        })
    }

    fn call_descriptor(&mut self, token: Token) -> Option<Call> {
        let Some(Source::Descriptor(descriptor)) = self.sources.get_mut(token) else { return None };
        if descriptor.held {
            return None;
        }
        if let Some(writable) = descriptor.take_due() {
            self.queues.turns.push_front(Turn::Descriptor(token));
            return Some(if writable { Call::DescriptorWritable(token) } else { Call::DescriptorReadable(token) });
        }
        if !descriptor.interests.edge {
            self.queues.rearm.push(token);
        }
        None
    }
}
