//! The poller's own deadlines, which call no handler. Most are the time limits of connections: each connection has one
//! timer, and the limits are checked when it fires.

use super::queues::Owed;
use super::state::{Deadline, State};
use crate::connection::Connection;
use crate::connection::phase::Phase;
use crate::error::{Error, Expired, Reason};
use crate::options::ConnectionOptions;
use crate::slots::Token;
use crate::timer::Timers;

impl State {
    /// Obeys the deadlines that are due, up to the first one with a callback. Comes after the read phase, because input
    /// that arrived before a deadline is read before the deadline is judged.
    pub(super) fn expire(&mut self) {
        if !self.queues.overdue.is_empty() {
            for (token, owed) in std::mem::take(&mut self.queues.overdue) {
                self.judge(token, Some(owed));
            }
        }
        let is_ours = |deadline: &Deadline| deadline.of_a_callback().is_none();
        for _ in 0..self.batch.most_calls {
            let Some(due) = self.supplies.timers.pop_due_if(self.batch.now, is_ours) else { return };
            self.obey_deadline(due.owner);
        }
    }

    pub(super) fn obey_deadline(&mut self, deadline: Deadline) {
        match deadline {
            // The dispatch calls callbacks.
            Deadline::Callback(_) | Deadline::Upkeep(_) => {}
            Deadline::Guard(token) => self.judge(token, None),
            Deadline::Linger(token) => self.remove_lingering(token),
            Deadline::Dial(token) => self.dial_timed_out(token),
            Deadline::Arrival(token) => self.arrival_timed_out(token),
            #[cfg(feature = "tls")]
            Deadline::Handshake(token) => self.handshake_timed_out(token),
            Deadline::Stagger(token) => self.stagger_is_over(token),
            Deadline::Rest(token) => self.end_rest(token),
            Deadline::Drained => self.end_drain(),
            Deadline::Stop => self.abort_everything(),
        }
    }

    /// Sets the timer for the earliest time limit of a connection.
    pub(super) fn guard(&mut self, token: Token) {
        self.with(token, |connection, supplies| set_guard(connection, &mut supplies.timers, token));
    }

    /// Ends a connection that has exceeded a time limit. If its handler has yet to get input that arrived before, the
    /// judgement waits for that: at its first attempt the input is noted as `owed`.
    fn judge(&mut self, token: Token, owed: Option<Owed>) {
        let now = self.batch.now;
        if let Some(owed) = owed.or_else(|| self.owed(token)).filter(|owed| self.still_owes(token, *owed)) {
            return self.queues.overdue.push((token, owed));
        }
        let expired = self.with(token, |connection, supplies| {
            connection.guards.timer = None;
            if !connection.is_alive() {
                return (None, false);
            }
            let facts = connection.facts();
            let expired = connection.guards.check(now, &connection.options, facts);
            let is_late = expired.is_none() && connection.guards.is_part_late(now);
            if is_late {
                connection.guards.note_part(now, None);
            }
            if expired.is_none() {
                set_guard(connection, &mut supplies.timers, token);
            }
            (expired, is_late)
        });
        match expired {
            Some((Some(expired), _)) => self.overstepped(token, expired),
            Some((None, true)) => self.tell_lateness(token),
            _ => {}
        }
    }

    /// Has the protocol of a connection end it, because the peer took too long for a part.
    fn tell_lateness(&mut self, token: Token) {
        self.with_protocol(token, |protocol, wire| {
            protocol.took_too_long(wire);
            Some(())
        });
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
        changed.ok_or_else(Error::closed)
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

/// Begins the time of the part that the peer has begun to send, after its connection had its turn. A part that comes
/// whole in one read costs no timer.
#[inline]
pub(super) fn watch_part(connection: &mut Connection, timers: &mut Timers<Deadline>, token: Token, now: u64) {
    if connection.note_part(now) {
        set_guard(connection, timers, token);
    }
}

/// Cancels the timer of a connection's time limits.
pub(super) fn drop_guard(connection: &mut Connection, timers: &mut Timers<Deadline>) {
    if let Some((timer, _)) = connection.guards.timer.take() {
        timers.cancel(timer);
    }
}
