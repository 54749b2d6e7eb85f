//! The dispatch phase: which callback comes next. Every rule of order between callbacks is here.
//!
//! Only answers; the dispatch calls. The state is looked at anew for each answer, since any callback may have closed,
//! paused or emptied anything.

use std::sync::Arc;

use super::deadlines::drop_guard;
use super::{Deadline, Ending, Source, State, Turn, list_if_ready, open};
use crate::acceptor::Acceptor;
use crate::codec::Codec;
use crate::connection::{Due, Phase};
use crate::dispatch::Call;
use crate::error::Reason;
use crate::slots::Token;
use crate::timer::TimerId;
use crate::websocket::WebSocket;

impl State {
    pub(super) fn next_call(&mut self, over: bool) -> Option<Call> {
        if let Some(token) = self.current.take() {
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
        while !self.is_batch_full() {
            let call = match self.turns.pop_front()? {
                Turn::Connection(token) => match self.call_connection(token) {
                    Some(call) => Some(call),
                    None => {
                        self.leave(token);
                        None
                    }
                },
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
                    self.posted_turns -= 1;
                    Some(Call::Task(task))
                }
                Turn::Message(message) => {
                    self.posted_turns -= 1;
                    self.obey(message);
                    None
                }
                Turn::Signal => Some(Call::Signal),
            };
            if call.is_some() {
                return call;
            }
            // Turns that call nothing take their time too.
            self.batch.calls += 1;
        }
        None
    }

    /// The callback due on a connection. Looks again each time, since any callback may have changed anything.
    fn call_connection(&mut self, token: Token) -> Option<Call> {
        self.settle_read(token);
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return None };
        let due = connection.take_due()?;
        self.current = Some(token);
        Some(match due {
            Due::Open => return self.call_open(token),
            Due::Read => match connection.codec() {
                None => Call::Read(token),
                Some(Codec::Frames(_)) => Call::Message(token),
                Some(Codec::Http(_)) => Call::Request(token),
                Some(Codec::WebSocket(_)) => Call::Item(token),
            },
            Due::Drain => Call::Drain(token),
            Due::Stopping => Call::Stopping(token),
            Due::Eof => Call::Eof(token),
            Due::Close => return self.call_close(token),
        })
    }

    fn call_accept(&mut self, token: Token, acceptor: Arc<Acceptor>) -> Option<Call> {
        let connection = open(&mut self.sources, token)?;
        (connection.phase, connection.queued) = (Phase::Open, true);
        let remote = connection.remote.clone();
        self.current = Some(token);
        Some(Call::Accept(remote, acceptor))
    }

    /// What was asked for before `on_open` comes right after it.
    fn call_open(&mut self, token: Token) -> Option<Call> {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return None };
        let remote = connection.remote.clone();
        if let Some(reason) = connection.early_end.take() {
            match *reason {
                Reason::Orderly => self.close(token),
                reason => self.end(token, reason),
            }
        }
        Some(Call::Open(remote))
    }

    fn call_close(&mut self, token: Token) -> Option<Call> {
        self.current = None;
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return None };
        let (reason, untold) = connection.take_reason(None);
        let farewell = if connection.cut { None } else { connection.websocket().and_then(WebSocket::said) };
        let timers = std::mem::take(&mut connection.timers);
        connection.remote.mark_closed();
        connection.remote.leave_all();
        drop_guard(connection, &mut self.timers);
        let in_order = reason.is_in_order() && !connection.cut;
        if !in_order {
            self.reset(token);
        } else if connection.eof {
            self.remove(token);
        } else {
            connection.phase = Phase::Lingering;
            self.endings.push(Ending::Linger(token));
        }
        self.let_go(untold);
        let timers = self.cancel_all(timers);
        let counters = &self.handle.counters;
        counters.closed.note(&reason);
        if self.stopping.is_some() {
            (if in_order { &counters.stopped_in_order } else { &counters.stopped_aborted }).add(1);
        }
        Some(Call::Close { token, reason, farewell, timers })
    }

    pub(super) fn cancel_all(&mut self, mut timers: Vec<TimerId>) -> Vec<TimerId> {
        timers.retain(|id| self.timers.cancel(*id));
        timers
    }

    /// The connection's turn in this batch is over: what it left unread moves out of the arena, and what became
    /// readable while it could not be read, before `on_open` say, gets its turn.
    fn leave(&mut self, token: Token) {
        if let Some(Source::Connection(connection)) = self.sources.get_mut(token) {
            connection.queued = false;
            connection.settle(&self.arena);
            list_if_ready(connection, &mut self.ready, token);
        }
    }

    /// After `on_read`: was it of use?
    #[inline]
    fn settle_read(&mut self, token: Token) {
        let Some(connection) = open(&mut self.sources, token) else { return };
        if connection.codec().is_some() {
            self.settle_messages(token);
        } else if connection.settle_read() {
            self.input_overflow(token);
        }
    }

    /// Kept out of [`Self::settle_read`], which is passed at every call.
    #[inline(never)]
    fn settle_messages(&mut self, token: Token) {
        let Some(connection) = open(&mut self.sources, token) else { return };
        // What was found has been taken, or it is an error.
        connection.settle_messages();
        // Who paused is still busy with the messages before, and what is answered to them goes out.
        if !connection.is_paused()
            && let Some(reason) = connection.violation()
        {
            self.close_because(token, reason);
        }
    }

    /// Before the arena is used again: what connections that still wait for their turn have in it moves out.
    pub(super) fn settle(&mut self) {
        for turn in &self.turns {
            if let Turn::Connection(token) = turn
                && let Some(Source::Connection(connection)) = self.sources.get_mut(*token)
            {
                connection.settle(&self.arena);
            }
        }
    }

    /// The batch is over in the middle of a connection's turn; the others come first now.
    fn postpone(&mut self, token: Token) {
        self.settle_read(token);
        self.turns.push_back(Turn::Connection(token));
    }

    fn next_timer(&mut self) -> Option<Call> {
        while !self.is_batch_full() {
            let due = self.timers.pop_due(self.batch.now)?;
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
            self.turns.push_front(Turn::Descriptor(token));
            return Some(if writable { Call::DescriptorWritable(token) } else { Call::DescriptorReadable(token) });
        }
        if !descriptor.interests.edge {
            self.rearm.push(token);
        }
        None
    }
}
