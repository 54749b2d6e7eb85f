//! The poller's own deadlines, which call no handler. Most are the time limits of connections: each connection has one
//! timer, and the limits are checked when it fires.

use super::state::{Deadline, State};
use crate::connection::Connection;
use crate::connection::phase::Phase;
use crate::error::{Error, Expired, Reason};
use crate::options::ConnectionOptions;
use crate::slots::Token;
use crate::timer::Timers;

impl State {
    /// Obeys the deadlines that are due, up to the first one with a callback.
    pub(super) fn expire(&mut self) {
        let is_ours = |deadline: &Deadline| !matches!(deadline, Deadline::Callback(_));
        for _ in 0..self.batch.most_calls {
            let Some(due) = self.supplies.timers.pop_due_if(self.batch.now, is_ours) else { return };
            self.obey_deadline(due.owner);
        }
    }

    pub(super) fn obey_deadline(&mut self, deadline: Deadline) {
        match deadline {
            // The dispatch calls callbacks.
            Deadline::Callback(_) => {}
            Deadline::Guard(token) => self.guard_is_due(token),
            Deadline::Linger(token) => self.remove_lingering(token),
            Deadline::Dial(token) => self.dial_timed_out(token),
            Deadline::Stagger(token) => self.stagger_is_over(token),
            Deadline::Rest(token) => self.end_rest(token),
            Deadline::Stop => self.abort_everything(),
        }
    }

    /// Sets the timer for the earliest time limit of a connection.
    pub(super) fn guard(&mut self, token: Token) {
        self.with(token, |connection, supplies| set_guard(connection, &mut supplies.timers, token));
    }

    fn guard_is_due(&mut self, token: Token) {
        let now = self.batch.now;
        let expired = self.with(token, |connection, supplies| {
            connection.guards.timer = None;
            if !connection.is_alive() {
                return None;
            }
            let facts = connection.facts();
            let expired = connection.guards.check(now, &connection.options, facts);
            if expired.is_none() {
                set_guard(connection, &mut supplies.timers, token);
            }
            expired
        });
        if let Some(expired) = expired.flatten() {
            self.overstepped(token, expired);
        }
    }

    /// Ends a connection that has exceeded a time limit. The queued output is still sent, unless it is the output that
    /// took too long.
    fn overstepped(&mut self, token: Token, expired: Expired) {
        let reason = Reason::Expired(expired);
        if !reason.is_in_order() || self.open(token).is_none_or(|connection| connection.phase() != Phase::Open) {
            return self.end(token, reason);
        }
        self.with_open(token, |connection, _| connection.guards.overstepped());
        self.close_because(token, reason);
        // The output that is sent now has its time limits too.
        self.guard(token);
    }

    pub(super) fn set_options(&mut self, token: Token, options: ConnectionOptions) -> Result<(), Error> {
        let now = self.batch.latest;
        let changed = self.with_open(token, |connection, supplies| {
            connection.remote.set_limits(&options);
            connection.options = options.into();
            connection.guards.restart_window(now);
            set_guard(connection, &mut supplies.timers, token);
            // The water marks may have changed.
            connection.weigh();
        });
        changed.ok_or(Error::Closed)
    }
}

/// Sets the timer of a connection earlier if its next deadline is earlier. A later deadline is found when the timer
/// fires.
pub(super) fn set_guard(connection: &mut Connection, timers: &mut Timers<Deadline>, token: Token) {
    let Some(deadline) = connection.guards.next(&connection.options) else { return };
    match connection.guards.timer {
        Some((_, until)) if until <= deadline => return,
        Some((timer, _)) => drop(timers.cancel(timer)),
        None => {}
    }
    connection.guards.timer = Some((timers.set(deadline, 0, Deadline::Guard(token)), deadline));
}

/// Cancels the timer of a connection's time limits.
pub(super) fn drop_guard(connection: &mut Connection, timers: &mut Timers<Deadline>) {
    if let Some((timer, _)) = connection.guards.timer.take() {
        timers.cancel(timer);
    }
}
