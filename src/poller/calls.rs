//! The dispatch phase: the order of callbacks. Every rule of that order is here.
//!
//! This module only decides; the dispatch calls. It reads the state anew for each decision, because any callback may
//! have closed, paused or emptied anything.

use std::sync::Arc;

use super::call::Call;
use super::deadlines::drop_guard;
use super::queues::{Ending, Turn};
use super::state::{Deadline, Source, State};
use crate::connection::Due;
use crate::connection::phase::Event;
use crate::error::Reason;
use crate::shared::acceptor::Acceptor;
use crate::slots::Token;
use crate::timer::TimerId;

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
        if over {
            return None;
        }
        if self.batch.timers_first {
            self.next_timer().or_else(|| self.next_turn())
        } else {
            self.next_turn().or_else(|| self.next_timer())
        }
    }

    fn next_turn(&mut self) -> Option<Call> {
        while !self.batch.is_full() {
            let call = match self.queues.turns.pop_front()? {
                Turn::Connection(token) => {
                    let call = self.call_connection(token);
                    if call.is_none() {
                        self.leave(token);
                    }
                    call
                }
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
                Turn::AcceptFailed(acceptor, error) => Some(Call::AcceptFailed(acceptor, error)),
                Turn::Cancelled(id) => Some(Call::TimerCancelled(id)),
                Turn::Task(task) => {
                    self.queues.posted_turns -= 1;
                    Some(Call::Task(task))
                }
                Turn::Message(message) => {
                    self.queues.posted_turns -= 1;
                    self.obey(message);
                    None
                }
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
            Reason::InputOverflow { .. } => self.end(token, reason),
            reason => self.close_because(token, reason),
        }
    }

    fn call_accept(&mut self, token: Token, acceptor: Arc<Acceptor>) -> Option<Call> {
        let remote = self.with_open(token, |connection, _| {
            connection.step(Event::Open);
            connection.places.queued = true;
            connection.remote.clone()
        })?;
        self.queues.current = Some(token);
        Some(Call::Accept(remote, acceptor))
    }

    /// Returns `on_open`. An end that was asked for before takes place now, so it follows right after `on_open`.
    fn call_open(&mut self, token: Token) -> Option<Call> {
        let (remote, early_end) =
            self.with(token, |connection, _| (connection.remote.clone(), connection.early_end.take()))?;
        match early_end.map(|reason| *reason) {
            None => {}
            Some(Reason::Orderly) => self.close(token),
            Some(reason) => self.end(token, reason),
        }
        Some(Call::Open(remote))
    }

    fn call_close(&mut self, token: Token) -> Option<Call> {
        self.queues.current = None;
        let (reason, untold, protocol, timers, in_order, has_eof) = self.with(token, |connection, supplies| {
            let (reason, untold) = connection.take_reason(None);
            let in_order = reason.is_in_order() && !connection.is_cut();
            connection.remote.mark_closed();
            connection.remote.leave_all();
            drop_guard(connection, &mut supplies.timers);
            connection.step(Event::Tell);
            let protocol = connection.take_protocol().filter(|_| !connection.is_cut());
            let timers = connection.take_timers();
            (reason, untold, protocol, timers, in_order, connection.has_eof())
        })?;
        match (in_order, has_eof) {
            (false, _) => self.reset(token),
            (true, true) => self.remove(token),
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
    fn leave(&mut self, token: Token) {
        if let Some(Source::Connection(connection)) = self.sources.get_mut(token) {
            connection.places.queued = false;
            connection.settle(&self.supplies.arena);
            self.queues.list(token, connection);
        }
    }

    /// Moves the input of connections that still wait for their turn out of the arena, before the arena is used again.
    pub(super) fn settle(&mut self) {
        for turn in &self.queues.turns {
            if let Turn::Connection(token) = turn
                && let Some(Source::Connection(connection)) = self.sources.get_mut(*token)
            {
                connection.settle(&self.supplies.arena);
            }
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
        while !self.batch.is_full() {
            let due = self.supplies.timers.pop_due(self.batch.now)?;
            match due.owner {
                Deadline::Callback(owner) => return Some(Call::Timer { id: due.id, owner, again: due.again }),
                ours => self.obey_deadline(ours),
            }
            self.batch.calls += 1;
        }
        None
    }

    fn call_descriptor(&mut self, token: Token) -> Option<Call> {
        let Some(Source::Descriptor(descriptor)) = self.sources.get_mut(token) else { return None };
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
