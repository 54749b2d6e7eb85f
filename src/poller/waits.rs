//! Callbacks that have returned and have not ended: the next one waits for them, or runs beside them.

use super::Poller;
use super::queues::{Owed, Turn};
use super::state::{Source, State};
use crate::error::Foreign;
use crate::slots::Token;
use crate::timer::Held;

impl Poller {
    /// Notes that the callback of a connection that runs now will end later. With `holds` the next one waits until
    /// [`Self::end_wait`]; `on_close` waits in any case, and [`super::call::Call::Cancel`] comes before it.
    pub fn begin_wait(&self, token: Token, holds: bool) {
        self.state.borrow_mut().begin_wait(token, holds);
    }

    /// Notes the end of a callback that waited.
    pub fn end_wait(&self, token: Token, holds: bool) {
        self.state.borrow_mut().end_wait(token, holds);
    }

    /// Has the dispatch get [`super::call::Call::Drained`] when the output has fallen to the low-water mark. False if it is
    /// not above the high one.
    pub fn want_drain(&self, token: Token) -> bool {
        self.state.borrow_mut().with_open(token, |connection, _| connection.want_drain()).unwrap_or(false)
    }

    /// Sets whether the callbacks of a connection that wait go on when its peer has gone away.
    pub fn set_outlive_peer(&self, token: Token, outlive: bool) {
        self.state.borrow_mut().with(token, |connection, _| connection.set_outlive_peer(outlive));
    }

    /// Has the dispatch get a value, as a task, in the next batch. Only on the poller's thread.
    pub fn push_task(&self, task: Foreign) {
        self.state.borrow_mut().queues.push_task(task);
    }
}

impl State {
    fn begin_wait(&mut self, token: Token, holds: bool) {
        match self.sources.get_mut(token) {
            Some(Source::Descriptor(descriptor)) => descriptor.held = holds,
            Some(Source::Datagrams(socket)) => socket.held = holds,
            _ => drop(self.with(token, |connection, _| connection.begin_wait(holds))),
        }
    }

    fn end_wait(&mut self, token: Token, holds: bool) {
        match self.sources.get_mut(token) {
            Some(Source::Descriptor(descriptor)) => {
                descriptor.held = false;
                self.queues.turns.push_back(Turn::Descriptor(token));
            }
            Some(Source::Datagrams(socket)) => {
                (socket.held, socket.queued) = (false, true);
                self.queues.turns.push_back(Turn::Datagrams(token));
            }
            _ => self.end_wait_of_connection(token, holds),
        }
    }

    fn end_wait_of_connection(&mut self, token: Token, holds: bool) {
        let ended = self.with(token, |connection, _| {
            let timers = connection.end_wait(holds);
            // Its turn comes even if no callback is due: the end of the callback is judged then.
            let lacks_turn = holds && !std::mem::replace(&mut connection.places.queued, true);
            (timers, lacks_turn)
        });
        let Some((timers, lacks_turn)) = ended else { return };
        // The timers first, because its next callback may hold them back again.
        self.queues.turns.extend(timers.into_iter().map(|held| Turn::Timer(held, Owed { until: 0 })));
        if lacks_turn {
            self.queues.turns.push_back(Turn::Connection(token));
        }
    }

    pub(super) fn is_held(&self, token: Token) -> bool {
        self.connection(token).is_some_and(|connection| connection.is_held())
    }

    pub(super) fn hold_timer(&mut self, owner: Token, held: Held) {
        self.with(owner, |connection, _| connection.hold_timer(held));
    }
}
