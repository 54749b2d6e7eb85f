//! The callbacks of a connection that have returned and have not ended: they wait for something.
//!
//! Most of them keep the next callback back. The callbacks for requests, which are answered in order whenever they end,
//! run side by side. A connection ends when none is left: their *cancellation* is due first.

use super::due::Due;
use crate::timer::Held;

/// The callbacks of one connection that wait.
#[derive(Default)]
pub(crate) struct Waits {
    pub count: u32,
    /// Those of them that keep the next callback back; `on_answered` may begin beside another one.
    pub holding: u32,
    /// Whether their cancellation was told.
    pub told: bool,
    /// Whether they go on when the peer has gone away.
    pub outlive_peer: bool,
    /// Whether a callback waits until the output has fallen to the low-water mark.
    pub wants_drain: bool,
    /// The bytes of input that were offered to the one that holds.
    pub offered: u32,
    /// Timers that came due meanwhile.
    pub timers: Vec<Held>,
}

/// The facts about a connection on which its due callback depends while others wait.
pub(crate) struct Facts {
    /// Its handler gets callbacks.
    pub is_open: bool,
    /// Output rose above the high-water mark and has not yet fallen to the low one.
    pub over_high: bool,
    /// The peer, or the socket, is gone.
    pub is_lost: bool,
    /// The peer has shut down its write side.
    pub has_eof: bool,
}

impl Waits {
    /// The callback that is due; `alone` is due if none waits. `on_close` comes behind the end of all that wait.
    pub fn due(&self, facts: &Facts, alone: impl FnOnce() -> Option<Due>) -> Option<Due> {
        if self.wants_drain && facts.is_open && !facts.over_high {
            return Some(Due::Drained);
        }
        if self.count == 0 {
            return alone();
        }
        let due = match self.holding > 0 && facts.is_open {
            true => facts.is_lost.then_some(Due::Close),
            false => alone(),
        };
        match due {
            Some(Due::Close) if self.told || self.outlive_peer => None,
            Some(Due::Close) => Some(Due::Cancel),
            // The end of the input, behind a request without an answer: the peer waits for none.
            None if facts.is_open && facts.has_eof && self.holding == 0 && !self.outlive_peer => Some(Due::Desertion),
            due => due,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Facts = Facts { is_open: true, over_high: false, is_lost: false, has_eof: false };

    fn waiting(holds: bool) -> Waits {
        Waits { count: 1, holding: u32::from(holds), ..Waits::default() }
    }

    #[test]
    fn one_that_holds_keeps_every_other_callback_back() {
        for due in [Due::Stopping, Due::Drain, Due::Read, Due::Eof, Due::Close] {
            assert_eq!(waiting(true).due(&QUIET, || Some(due)), None);
            assert_eq!(Waits::default().due(&QUIET, || Some(due)), Some(due));
        }
    }

    #[test]
    fn on_close_waits_until_those_that_wait_were_cancelled_and_have_ended() {
        let (lost, over) = (Facts { is_lost: true, ..QUIET }, Facts { is_open: false, ..QUIET });
        for (mut waits, facts) in [(waiting(true), &lost), (waiting(false), &lost), (waiting(true), &over)] {
            let close = || Some(Due::Close);
            assert_eq!(waits.due(facts, close), Some(Due::Cancel));
            waits.told = true;
            assert_eq!(waits.due(facts, close), None);
            waits.count = 0;
            assert_eq!(waits.due(facts, close), Some(Due::Close));
        }
    }

    #[test]
    fn a_peer_that_goes_away_ends_requests_side_by_side_unless_they_outlive_it() {
        let gone = Facts { has_eof: true, ..QUIET };
        assert_eq!(waiting(false).due(&gone, || None), Some(Due::Desertion));
        assert_eq!(waiting(false).due(&gone, || Some(Due::Eof)), Some(Due::Eof));
        assert_eq!(waiting(true).due(&gone, || None), None);
        let patient = Waits { outlive_peer: true, ..waiting(false) };
        assert_eq!(patient.due(&gone, || None), None);
        assert_eq!(patient.due(&gone, || Some(Due::Close)), None);
    }

    #[test]
    fn a_callback_that_waits_for_room_is_told_although_it_holds() {
        let waits = Waits { wants_drain: true, ..waiting(true) };
        assert_eq!(waits.due(&QUIET, || Some(Due::Read)), Some(Due::Drained));
        assert_eq!(waits.due(&Facts { over_high: true, ..QUIET }, || Some(Due::Read)), None);
    }
}
