//! The turns of protocols that need no handler: they hand their parts out in the read phase.
//!
//! The dispatch does not run here, so its lock is not needed: threads that compute with the lock held delay no request.
//! A turn with any other callback waits for the dispatch, as usual.

use super::queues::Turn;
use super::state::{Source, State};
use crate::connection::due::Due;
use crate::protocols::Protocol;
use crate::slots::Token;

impl State {
    /// Gives such connections their turns.
    pub(super) fn deliver(&mut self) {
        for _ in 0..self.queues.turns.len() {
            let Some(turn) = self.queues.turns.pop_front() else { return };
            match turn {
                Turn::Connection(token) if self.delivers(token) => self.deliver_turn(token),
                turn => self.queues.turns.push_back(turn),
            }
        }
    }

    fn delivers(&self, token: Token) -> bool {
        self.open(token).and_then(|connection| connection.protocol()).is_some_and(Protocol::delivers)
    }

    fn deliver_turn(&mut self, token: Token) {
        while let Some(Source::Connection(connection)) = self.sources.get_mut(token) {
            match connection.next_due() {
                None => return self.leave(token),
                Some(Due::Read | Due::Drain) => {}
                Some(_) => return self.queues.turns.push_back(Turn::Connection(token)),
            }
            if connection.take_due() == Some(Due::Drain) {
                self.tell_drained(token);
                continue;
            }
            self.with_protocol(token, |protocol, wire| {
                protocol.deliver(wire);
                Some(())
            });
        }
    }

    /// Tells the protocol that the output has fallen to the low-water mark.
    pub(super) fn tell_drained(&mut self, token: Token) {
        self.with_protocol(token, |protocol, _| {
            protocol.drained();
            Some(())
        });
    }
}
