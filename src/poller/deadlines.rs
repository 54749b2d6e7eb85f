//! The poller's own deadlines, for which nobody is called: above all the limits in time of connections, one timer for
//! each, looked at when it fires.

use super::{Deadline, Source, State, list_if_ready, open, queue_if_due, touch};
use crate::connection::{Connection, Phase};
use crate::error::{Error, Expired, Reason};
use crate::options::ConnectionOptions;
use crate::slots::Token;
use crate::timer::Timers;

impl State {
    /// Obeys those that are due, up to the first that a callback waits for.
    pub(super) fn expire(&mut self) {
        let is_ours = |deadline: &Deadline| !matches!(deadline, Deadline::Callback(_));
        for _ in 0..self.most_calls {
            let Some(due) = self.timers.pop_due_if(self.batch.now, is_ours) else { return };
            self.obey_deadline(due.owner);
        }
    }

    pub(super) fn obey_deadline(&mut self, deadline: Deadline) {
        match deadline {
            // Callbacks are the dispatch's.
            Deadline::Callback(_) => {}
            Deadline::Guard(token) => self.guard_is_due(token),
            Deadline::Linger(token) => self.remove_lingering(token),
            Deadline::Dial(token) => self.dial_timed_out(token),
            Deadline::Stagger(token) => self.stagger_is_over(token),
            Deadline::Rest(token) => self.end_rest(token),
            Deadline::Stop => self.abort_everything(),
        }
    }

    /// Sees to it that the poller looks at the connection in time.
    pub(super) fn guard(&mut self, token: Token) {
        if let Some(Source::Connection(connection)) = self.sources.get_mut(token) {
            set_guard(connection, &mut self.timers, token);
        }
    }

    fn guard_is_due(&mut self, token: Token) {
        let now = self.batch.now;
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return };
        connection.guards.timer = None;
        if connection.phase >= Phase::Ended {
            return;
        }
        let facts = connection.facts();
        match connection.guards.check(now, &connection.options, facts) {
            None => set_guard(connection, &mut self.timers, token),
            Some(expired) => self.overstepped(token, expired),
        }
    }

    /// What is queued still goes out, unless that is what took too long.
    fn overstepped(&mut self, token: Token, expired: Expired) {
        let reason = Reason::Expired(expired);
        let Some(connection) = open(&mut self.sources, token).filter(|_| reason.is_in_order()) else {
            return self.end(token, reason);
        };
        if connection.phase == Phase::Open {
            connection.guards.overstepped();
            self.close_because(token, reason);
            // What goes out now has its limits too.
            self.guard(token);
        } else {
            self.end(token, reason);
        }
    }

    pub(super) fn set_options(&mut self, token: Token, options: ConnectionOptions) -> Result<(), Error> {
        let now = self.batch.latest;
        let connection = open(&mut self.sources, token).ok_or(Error::Closed)?;
        connection.remote.set_limits(&options);
        connection.options = options.into();
        connection.guards.restart_window(now);
        set_guard(connection, &mut self.timers, token);
        // The water marks may have come to lie elsewhere, and there may be room for more input.
        touch(connection, &mut self.touched, token);
        list_if_ready(connection, &mut self.ready, token);
        queue_if_due(connection, &mut self.turns, token);
        Ok(())
    }
}

/// Moves the timer of a connection if its next deadline is earlier; a later one is found out when it fires.
pub(super) fn set_guard(connection: &mut Connection, timers: &mut Timers<Deadline>, token: Token) {
    let Some(deadline) = connection.guards.next(&connection.options) else { return };
    match connection.guards.timer {
        Some((_, until)) if until <= deadline => return,
        Some((timer, _)) => drop(timers.cancel(timer)),
        None => {}
    }
    connection.guards.timer = Some((timers.set(deadline, 0, Deadline::Guard(token)), deadline));
}

/// The connection has no limits in time any more.
pub(super) fn drop_guard(connection: &mut Connection, timers: &mut Timers<Deadline>) {
    if let Some((timer, _)) = connection.guards.timer.take() {
        timers.cancel(timer);
    }
}
